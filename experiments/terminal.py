"""Printing, for both programs: lines, numbers, tables, and mistakes told in one line."""

import argparse
import difflib
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Collection
from typing import Any, TextIO

from tqdm import tqdm

from data.files import InputError, one_line, printable, reason


def begin() -> None:
    """Prepare streams and Ctrl-C, first of all, before imports that take seconds.

    A stream that was closed (`train.py >&-`) becomes the null device, at its descriptor too: the next file to be opened
    would get that number, and be written into. stdout and stderr escape what the terminal's encoding cannot show. Until
    the program's `main` is defined, Ctrl-C ends it without a traceback, whatever is being imported.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # 0, 1, 2: each takes the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the program
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a test may have put something else there
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as with `nohup`
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    if hasattr(sys.modules["__main__"], "main"):
        raise KeyboardInterrupt
    print(f"{os.path.basename(sys.argv[0])}: interrupted", file=sys.stderr, flush=True)
    os._exit(130)  # an exception might be caught by the module that is being imported


class ArgumentParser(argparse.ArgumentParser):
    """argparse, with a mistake on the command line told in one line like any other, without the whole usage."""

    advice: Callable[[list[str]], str] = staticmethod(lambda words: "")  # how to write words that are no options

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, but what is left over is a mistake: here, where the options are known that it may mean."""
        found, words = super().parse_known_args(args, namespace)
        if words:
            written = self.advice(words)
            near = difflib.get_close_matches(words[0], self._option_string_actions, n=1, cutoff=0.7)
            hint = f"; write {written}" if written else f"; did you mean {near[0]}?" if near else ""
            self.error(f"unrecognized arguments: {' '.join(words)}{hint}")
        return found, words

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {one_line(message)}; {self.prog} --help lists what there is\n")


def refuse(program: str, error: InputError | OSError) -> int:
    """Say on stderr, in one line, what is wrong. Returns the exit code: 2, or 1 for a disk that is full."""
    print(f"{program}: {one_line(reason(error))}", file=sys.stderr)
    return 1 if isinstance(error, OSError) and error.errno in FULL else 2


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, what a file may hold


def amount(count: float) -> str:
    """1234567 -> "1.23 M" """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min", 95 -> "1 min 35 s", 9.4 -> "9.4 s" """
    if seconds < 59.95:  # which would be shown as 60.0
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock_line(clock: dict[str, float]) -> str:
    """ "training 2 min 09 s (data 0.2 s), evaluation 13.4 s, checkpoints 0.3 s" """
    return (
        f"training {duration(clock['train'])} (data {duration(clock['data'])}), "
        f"evaluation {duration(clock['eval'])}, checkpoints {duration(clock['checkpoint'])}"
    )


# ---- printing --------------------------------------------------------------------------------------------------------


def say(text: str | list[str] = "", stream: TextIO | None = None) -> bool:
    """Print a line, or several, past a progress bar if there is one. All that comes from outside and is printed goes
    through here or through `say_json`. A reader that has gone (`train.py | head`) does not stop training. Returns
    whether there is a reader still."""
    stream = stream or sys.stdout
    try:
        tqdm.write("\n".join(map(printable, [text] if isinstance(text, str) else text)), file=stream)
        stream.flush()
        return True
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False


def say_json(value: Any) -> bool:
    """Print a value as JSON. What is not printable is escaped as \\uXXXX, like all but ASCII where the terminal's
    encoding has no more."""
    return say(json_lines(value, indent=2))


def json_lines(value: Any, indent: int | None = None) -> list[str]:
    """The lines of a value as JSON that `say` prints as they are: one, where there is no indent."""
    has_all = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    lines = json.dumps(value, indent=indent, ensure_ascii=not has_all, allow_nan=False).split("\n")
    return [line if line.isprintable() else "".join(map(_in_json, line)) for line in lines]


def _in_json(c: str) -> str:
    units = "" if c.isprintable() else c.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) or c


WIDTH = 100


def table(rows: list[dict], columns: list[str], leads: Collection[tuple[int, str]] = ()) -> list[str]:
    """Lines of a text table, columns aligned to the right; a star marks the cells that lead."""
    cells = [columns]
    cells += [[("*" if (i, c) in leads else "") + row.get(c, "-") for c in columns] for i, row in enumerate(rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def fitting(
    rows: list[dict], columns: list[str], width: int = WIDTH, leads: Collection[tuple[int, str]] = ()
) -> list[list[str]]:
    """The columns in groups that fit the width, each with the first column (or the first two, if that one has no name),
    so that a table that is too wide becomes several."""
    keys = columns[: 2 if columns[0] == "" else 1]
    groups, current = [], list(keys)
    for column in columns[len(keys) :]:
        if len(current) > len(keys) and max(map(len, table(rows, [*current, column], leads))) > width:
            groups.append(current)
            current = list(keys)
        current.append(column)
    return [*groups, current]
