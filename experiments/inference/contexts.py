"""The texts that `eval.py ask` is asked about: an argument, a file, a folder of files, or standard input."""

import argparse
import os
import sys
from pathlib import Path

from data.files import InputError, decode_text, one_line, read_bytes, require_utf8
from experiments.terminal import say

ENDINGS = (".txt", ".md")
TOLD = 3  # files that are left out, by name


def read_standard_input() -> str:
    if sys.stdin.isatty():
        say("the text comes from standard input: type it, then Ctrl-D", sys.stderr)
    return decode_text(sys.stdin.buffer.read(), Path("standard input"))


def read_text(file: Path, name: str) -> str:
    """Raises InputError where there is no text in it, or not in UTF-8."""
    text = decode_text(read_bytes(file), file)
    if not text.strip():
        raise InputError(f"{name}: there is no text in it")
    return text


def files_in(folder: Path) -> list[Path]:
    """The .txt and .md files of a folder and of those in it, in order of their names. What is hidden is left out, and a
    link to a folder is not followed."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [Path(place, name) for name in names if name[0] != "." and name.lower().endswith(ENDINGS)]
    return sorted(file for file in found if file.is_file())


def read_folder(folder: Path) -> dict[str, str]:
    """{name below the folder: text}. A file that cannot be read, is empty or is not UTF-8 is left out and named: it
    should not keep a thousand others from answering. Raises InputError where no text is left."""
    files, found, faults = files_in(folder), dict[str, str](), list[str]()
    if not files:
        raise InputError(f"{folder}: has no .txt or .md files")
    for file in files:
        name = str(file.relative_to(folder))
        try:
            found[name] = read_text(file, name)
        except InputError as error:
            faults.append(str(error))
    if not found:
        raise InputError(f"{folder}: none of its {len(files)} texts can be read; the first: {faults[0]}")
    more = [f"and {len(faults) - TOLD} more of {len(files):,} files"] if len(faults) > TOLD else []
    if faults:
        say([f"eval.py: left out: {one_line(fault)}" for fault in (*faults[:TOLD], *more)], sys.stderr)
    return found


def read_contexts(arguments: argparse.Namespace) -> dict[str, str]:
    """{name: text} from --context, --context-file (a folder: its .txt and .md files), or standard input."""
    path = arguments.context_file
    if arguments.context and os.path.isfile(arguments.context):
        raise InputError(f"--context {arguments.context}: is a file, and here stands the text; give --context-file")
    if arguments.context is not None:
        found = {"--context": require_utf8(arguments.context, "--context")}
    elif path is None:
        found = {"standard input": read_standard_input()}
    elif path.is_dir():
        return read_folder(path)
    else:
        return {path.name: read_text(path, path.name)}
    for name, text in found.items():
        if not text.strip():
            raise InputError(f"{name}: there is no text in it")
    return found
