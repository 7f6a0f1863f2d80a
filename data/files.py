"""Files: strict reading of text and JSON, writing that is whole or not at all, and the exception for what is wrong."""

import contextlib
import hashlib
import json
import os
import re
import reprlib
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Something handed to the program is wrong: a spec, a file, a checkpoint, an option.

    The message says in a line what is wrong, where (file, line or id) and what to do. `train.py` and `eval.py` print it
    with `refuse` and exit with code 2; any other exception but OSError is a fault of the code and keeps its traceback.
    """


# ---- messages --------------------------------------------------------------------------------------------------------

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 3, 3

LONGEST_MESSAGE = 1000  # characters


def shown(value) -> str:
    """Quote a value from outside in a message: its repr, cut short."""
    return _SHORT.repr(value)


def one_line(text: str) -> str:
    """Make text from outside fit for a line: escape control characters, leave out the middle of a very long text."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


def reason(error: BaseException) -> str:
    """Message of an exception; of an OSError in the form "file: what is wrong"."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


# ---- files -----------------------------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """Read a whole file. Raises InputError naming it where it is missing, a folder, a device or not ours to read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # /dev/zero never ends
                raise InputError(f"{path}: is a device; a file is needed")
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; a file is needed") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def decode_text(data: bytes, path: Path) -> str:
    """Decode a UTF-8 file and drop its byte order mark. path: for the message."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def require_utf8(text: str, where: str) -> str:
    """Return a text from the command line as it is. Raises InputError where its bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: is not UTF-8") from None
    return text


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(names) if key in names[:place])
        raise ValueError(f"the key {shown(twice)} is there twice")
    return result


def _constant(literal: str):
    raise ValueError(f"{literal} is not a number that JSON knows")


HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON may smuggle in what no UTF-8 file can hold


def parse_json(text: str):
    """Parse JSON without duplicate keys, NaN, Infinity or half characters. Raises ValueError with the place."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if HALF_OF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a \\ud800 to \\udfff escape stands alone; it is half of a character") from None


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a file's bytes as a JSON object. Raises InputError with the file and the place."""
    try:
        value = parse_json(decode_text(data, path))
    except ValueError as error:  # not JSON, or a number too long to convert
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {shown(value)}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a UTF-8 file. Raises InputError with the file and the place."""
    return parse_object(read_bytes(path), path)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


# ---- writing whole or not at all -------------------------------------------------------------------------------------
#
# Writing `last/`: everything goes to `.last.new/` and is forced to disk. Then `last/` steps aside as `.last.old/`,
# `.last.new/` takes its name, and `.last.old/` goes. Whenever the process dies, either `last/` is complete or, for an
# instant between the two renames, `.last.old/` is. `surviving` finds it, and `recover` gives it back its name.


def _sync(path: Path) -> None:
    """Force a file's or folder's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, which: str) -> Path:
    """Hidden neighbour of the target; where the target is a link to another disk, a neighbour over there."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{real.name}.{which}")


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Replace the folder `target` by what `fill(folder)` writes, atomically. If `fill` raises, `target` stays."""
    new, old = _beside(target, "new"), _beside(target, "old")
    recover(target)
    new.mkdir()
    try:
        fill(new)
        for file in new.iterdir():
            _sync(file)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    real = Path(os.path.realpath(target))
    if real.exists():
        real.rename(old)
    new.rename(real)
    _sync(real.parent)
    shutil.rmtree(old, ignore_errors=True)


def surviving(target: Path) -> Path | None:
    """Find the last complete version of the folder `target`. None where there has never been one. Changes nothing."""
    return next((folder for folder in (target, _beside(target, "old")) if folder.is_dir()), None)


def recover(target: Path) -> None:
    """Put `surviving(target)` in its place, and remove what a process that died has left beside it."""
    survivor = surviving(target)
    if survivor and survivor != target:
        survivor.rename(os.path.realpath(target))
    for which in ("new", "old"):
        shutil.rmtree(_beside(target, which), ignore_errors=True)


def sha256_of(path: Path) -> str:
    """Hash a file's contents. Raises InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def replace_file(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there. Raises OSError, naming the file, where it cannot be written."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None
