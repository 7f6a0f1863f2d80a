"""What comes from outside: reading files and JSON strictly, and the one exception for when something is wrong there."""

import argparse
import errno
import json
import os
import re
import reprlib
import stat
import sys
from pathlib import Path


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
    """A value from outside as a message quotes it: its repr, cut short, however long or deeply nested it is."""
    return _SHORT.repr(value)


def one_line(text: str) -> str:
    """Text from outside made fit for a line: control characters (a newline in a file name) escaped, the middle of
    something very long left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


def reason(error: Exception) -> str:
    """What an exception says, an OSError in the form "file: what is wrong"."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def tolerate_any_text() -> None:
    """Let stdout and stderr escape what the terminal's encoding cannot show instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with a mistake on the command line told in one line like any other, without the whole usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {one_line(message)}; {self.prog} --help lists what there is\n")


def refuse(program: str, error: InputError | OSError) -> int:
    """Say on stderr, in one line, what is wrong. Returns the exit code: 2, or 1 for a disk that is full."""
    print(f"{program}: {one_line(reason(error))}", file=sys.stderr)
    return 1 if isinstance(error, OSError) and error.errno in FULL else 2


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, what a file may hold


# ---- files -----------------------------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """A whole file. Raises InputError naming it where it is missing, a folder, a device or not ours to read."""
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
    """The text of a UTF-8 file; a byte order mark is dropped. path: for the message."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def require_utf8(text: str, where: str) -> str:
    """A text from the command line, as it is. Raises InputError where its bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: is not UTF-8") from None
    return text


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {shown(twice)} is there twice")
    return result


def _constant(literal: str):
    raise ValueError(f"{literal} is not a number that JSON knows")


HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON may smuggle in what no UTF-8 file can hold


def parse_json(text: str):
    """JSON without duplicate keys, NaN, Infinity or half characters. Raises ValueError with the place."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if HALF_OF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a \\ud800 to \\udfff escape stands alone; it is half of a character") from None


def parse_object(data: bytes, path: Path) -> dict:
    """The JSON object that a file's bytes are. Raises InputError with the file and the place."""
    try:
        value = parse_json(decode_text(data, path))
    except ValueError as error:  # not JSON, or a number too long to convert
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {shown(value)}")
    return value


def read_json(path: Path) -> dict:
    """The JSON object in a UTF-8 file (a byte order mark is allowed). Raises InputError with the file and the place."""
    return parse_object(read_bytes(path), path)
