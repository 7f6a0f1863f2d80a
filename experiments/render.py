"""Blocks (experiments/report.py) as terminal text and as Markdown."""

import os
import textwrap
from typing import TextIO

from experiments.report import Block

WIDTH = 100
BOLD, GREEN, DIM, PLAIN = "\033[1m", "\033[32m", "\033[2m", "\033[0m"


def table(rows: list[dict], columns: list[str]) -> list[str]:
    """Lines of a text table, columns aligned to the right."""
    cells = [columns] + [[row.get(column, "-") for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def fitting(rows: list[dict], columns: list[str], width: int) -> list[list[str]]:
    """The columns in groups that fit the width, each with the first column (or the first two, if that one has no name),
    so that a table that is too wide becomes several."""
    keys = columns[: 2 if columns[0] == "" else 1]
    groups, current = [], list(keys)
    for column in columns[len(keys) :]:
        if len(current) > len(keys) and max(map(len, table(rows, [*current, column]))) > width:
            groups.append(current)
            current = list(keys)
        current.append(column)
    return [*groups, current]


def use_colour(stream: TextIO) -> bool:
    """Only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def as_text(blocks: list[Block], colour: bool = False, width: int = WIDTH) -> str:
    """All blocks as text of lines that fit the width (but for single words that do not)."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if colour else text

    out = []
    for block in blocks:
        out.append(paint(BOLD, block.title))
        columns = list(dict.fromkeys(key for row in block.rows for key in row))
        for group in fitting(block.rows, columns, width) if columns else []:
            first, *others = table(block.rows, group)
            leading = ["best" in row.values() for row in block.rows]
            out.append(paint(DIM, first))
            out += [paint(GREEN, line) if best else line for line, best in zip(others, leading, strict=True)]
        for label, text in block.lines:
            begin = f"{label:13} " if label else ""
            out += textwrap.wrap(begin + text, width, subsequent_indent=" " * len(begin), break_on_hyphens=False)
        if block.note:
            out += [paint(DIM, line) for line in textwrap.wrap(f"({block.note})", width, break_on_hyphens=False)]
        out.append("")
    return "\n".join(out[:-1])


def as_markdown(blocks: list[Block]) -> str:
    """All blocks as Markdown, for a pull request."""

    def safe(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")

    def bold(text: str) -> str:
        return f"**{safe(text[1:])}**" if text.startswith("*") else safe(text)

    out = []
    for level, block in enumerate(blocks):
        out += [f"{'#' * (2 if level == 0 else 3)} {safe(block.title)}", ""]
        columns = list(dict.fromkeys(key for row in block.rows for key in row))
        if columns:
            out += [f"| {' | '.join(map(safe, columns))} |", f"|{'---|' * len(columns)}"]
            out += [f"| {' | '.join(bold(row.get(column, '-')) for column in columns)} |" for row in block.rows]
            out.append("")
        out += [f"- {f'**{safe(label)}**: ' if label else ''}{safe(text)}" for label, text in block.lines]
        out += [""] if block.lines else []
        out += [f"*{safe(block.note)}*", ""] if block.note else []
    return "\n".join(out)
