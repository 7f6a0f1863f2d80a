"""All cases, and one attempt at each."""

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tests.malformed import checkpoints, data, evaluation, runs, settings, tables
from tests.malformed.place import Case, run, working_place

CASES = [*settings.cases(), *data.cases(), *tables.cases(), *checkpoints.cases(), *runs.cases(), *evaluation.cases()]
NOBODY = 65534


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything; as somebody else, a file without permission is one."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def template(folder: Path) -> Path:
    """A place where everything works, to make copies of."""
    folder.chmod(0o755)
    working_place(folder / "template")
    return folder / "template"


def place_for(case: Case, original: Path, place: Path) -> Path:
    """A copy of the template, broken. Files are links to the template's, which `put` replaces and never writes into."""
    shutil.copytree(original, place, copy_function=os.link)
    case.damage(place)
    return place


def contents(place: Path) -> dict[str, tuple]:
    """What is in a place, so exactly that anything written, deleted or touched would show."""
    found = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            state = os.lstat(os.path.join(folder, name))
            changed = None if stat.S_ISDIR(state.st_mode) else (state.st_size, state.st_mtime_ns)
            found[os.path.join(folder, name)] = (state.st_ino, state.st_mode, changed)
    return found


def needs_nobody(case: Case) -> bool:
    return "ermission" in case.name or "not ours" in case.name


def root_for_good() -> bool:
    """Whether this process is root and cannot be anybody else, as in some containers."""
    try:
        with unprivileged():
            return False
    except PermissionError:
        return True


def attempt(case: Case, place: Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    with unprivileged() if needs_nobody(case) else contextlib.nullcontext():
        return run(place, case.arguments)
