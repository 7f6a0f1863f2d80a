"""Blocks (experiments/report/blocks.py) as terminal text and as Markdown."""

import os
import textwrap
from typing import TextIO

from experiments.report.blocks import Block
from experiments.terminal import WIDTH, fitting, table

BOLD, GREEN, DIM, PLAIN = "\033[1m", "\033[32m", "\033[2m", "\033[0m"


def use_colour(stream: TextIO) -> bool:
    """Only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def as_text(blocks: list[Block], colour: bool = False, width: int = WIDTH) -> str:
    """All blocks as text of lines that fit the width (but for single words that do not)."""

    def paint(code: str, text: str) -> str:
        return f"{code}{text}{PLAIN}" if colour else text

    out = []
    for block in blocks:
        out += [paint(BOLD, line) for line in textwrap.wrap(block.title, width)]
        columns = list(dict.fromkeys(key for row in block.rows for key in row))
        for group in fitting(block.rows, columns, width, block.leads) if columns else []:
            first, *others = table(block.rows, group, block.leads)
            out.append(paint(DIM, first))
            out += [paint(GREEN, line) if i == block.best else line for i, line in enumerate(others)]
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

    out = []
    for level, block in enumerate(blocks):
        out += [f"{'#' * (2 if level == 0 else 3)} {safe(block.title)}", ""]
        columns = list(dict.fromkeys(key for row in block.rows for key in row))
        if columns:
            out += [f"| {' | '.join(map(safe, columns))} |", f"|{'---|' * len(columns)}"]
            for i, row in enumerate(block.rows):
                cells = [safe(row.get(column, "-")) for column in columns]
                marked = [f"**{c}**" if (i, n) in block.leads else c for c, n in zip(cells, columns, strict=True)]
                out.append(f"| {' | '.join(marked)} |")
            out.append("")
        out += [f"- {f'**{safe(label)}**: ' if label else ''}{safe(text)}" for label, text in block.lines]
        out += [""] if block.lines else []
        out += [f"*{safe(block.note)}*", ""] if block.note else []
    return "\n".join(out)
