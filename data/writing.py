"""Writing that is whole or not at all, and that touches nothing but plain files and folders.

Writing `last/`: everything goes to `.last.<16 digits>.new/`, a folder that did not exist before, and is forced to disk.
Then `last/` steps aside as `.last.<16 digits>.old/`, the new folder takes its name, and the old one goes. Whenever the
process dies, either `last/` is complete or, for an instant between the two renames, the old folder is. `surviving`
finds it, and `recover` gives it back its name. The digits are random, so that nobody's own file is ever in the way.

A link is never written through: what is behind it belongs to somebody else.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from data.files import InputError, kind_of

# ---- names -----------------------------------------------------------------------------------------------------------

ASIDE = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}\.(?P<which>new|old)", re.DOTALL)


def _aside(target: Path, which: str) -> Path:
    """A new name beside the target: ".last.3f9c12ab6e0d7715.new"."""
    return target.with_name(f".{target.name}.{secrets.token_hex(8)}.{which}")


def is_aside(name: str) -> bool:
    """Whether a name is one of those that `write_whole` and `replace_file` use while they write."""
    return ASIDE.fullmatch(name) is not None


def _left(target: Path, which: str) -> list[Path]:
    """The folders of such names that a process which died has left beside the target."""
    if not target.parent.is_dir():
        return []
    found = [(path, ASIDE.fullmatch(path.name)) for path in sorted(target.parent.iterdir())]
    return [path for path, match in found if match and match.groups() == (target.name, which) and is_folder(path)]


# ---- plain files and folders -----------------------------------------------------------------------------------------


def is_folder(path: Path) -> bool:
    """Whether there is a folder there itself, not a link to one."""
    return path.is_dir() and not path.is_symlink()


def require_plain(path: Path, what: str = "file") -> None:
    """Raise InputError where there is anything but a plain file (or a folder, if what says so) of that name."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not (stat.S_ISREG if what == "file" else stat.S_ISDIR)(mode):
        found = "file" if stat.S_ISREG(mode) else kind_of(mode)
        raise InputError(f"{path}: is a {found}, and a plain {what} is to be written there; move it away")


def plain_folder(base: Path, *parts: str) -> Path:
    """The folder base/part/part, made where it is missing. Raises InputError where anything below base is no folder."""
    if not base.is_dir():
        require_plain(base, "folder")
        base.mkdir(parents=True)
    for part in parts:
        base = base / part
        require_plain(base, "folder")
        base.mkdir(exist_ok=True)
    return base


# ---- folders ---------------------------------------------------------------------------------------------------------


def _sync(path: Path) -> None:
    """Force a file's or folder's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Replace the folder `target` by what `fill(folder)` writes, atomically. If `fill` raises, `target` stays."""
    recover(target)
    new, old = _aside(target, "new"), _aside(target, "old")
    new.mkdir()
    try:
        fill(new)
        for file in new.iterdir():
            _sync(file)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        target.rename(old)
    new.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def surviving(target: Path) -> Path | None:
    """Find the last complete version of the folder `target`. None where there has never been one. Changes nothing."""
    return target if target.is_dir() else next(iter(_left(target, "old")), None)


def recover(target: Path) -> None:
    """Put `surviving(target)` in its place, and remove what a process that died has left beside it."""
    survivor = surviving(target)
    if survivor and survivor != target:
        survivor.rename(target)
    for folder in (*_left(target, "new"), *_left(target, "old")):
        shutil.rmtree(folder, ignore_errors=True)


# ---- files -----------------------------------------------------------------------------------------------------------


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole, or leave what was there. write: makes the file of the name it is given. Raises InputError
    where something that is no plain file has the name, OSError, naming the file, where it cannot be written."""
    require_plain(path)
    new = _aside(path, "new")
    try:
        write(new)
        _sync(new)
        os.chmod(new, 0o666 & ~_umask())  # whoever wrote it may have been more secretive than the person is
        new.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; see `replace_file`."""
    replace_file(path, lambda new: _write_new(new, text))


def _write_new(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, value: dict) -> None:
    """Write an object as JSON; see `replace_file`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
