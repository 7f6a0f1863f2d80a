"""Blocks (blocks.py) as terminal text and as Markdown."""

import os
import textwrap
from typing import TextIO

from experiments.report.blocks import Block
from experiments.terminal import WIDTH, fitting, table

BOLD, GREEN, DIM, PLAIN = "\033[1m", "\033[32m", "\033[2m", "\033[0m"
INDENT = 13  # of what stands beside a label


def use_colour(stream: TextIO) -> bool:
    """Only on a terminal, and not where NO_COLOR is set (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def beside(label: str, text: str, width: int) -> list[str]:
    """A label and its text, wrapped beside it."""
    indent = " " * (INDENT + 1)
    return textwrap.wrap(f"{label:{INDENT}} {text}", width, subsequent_indent=indent, break_on_hyphens=False)


def terminal(blocks: list[Block], colour: bool = False, width: int = WIDTH) -> str:
    """All blocks as text of lines that fit the width (but for single words that do not)."""

    def paint(code: str, lines: list[str]) -> list[str]:
        return [f"{code}{line}{PLAIN}" if colour else line for line in lines]

    out = []
    for block in blocks:
        out += paint(BOLD, textwrap.wrap(block.title, width))
        for group in fitting(block.rows, block.columns, width, block.leads) if block.rows else []:
            first, *others = table(block.rows, group, block.leads)
            out += paint(DIM, [first])
            out += [line for i, row in enumerate(others) for line in paint(GREEN if i == block.best else "", [row])]
        out += [line for label, text in block.lines for line in beside(label, text, width)]
        told = "; ".join(f"{label}: {meaning}" for label, meaning in block.notes)
        out += paint(DIM, textwrap.wrap(f"({told})", width, break_on_hyphens=False)) if told else []
        out.append("")
    return "\n".join(out[:-1])


def markdown(blocks: list[Block]) -> str:
    """All blocks as Markdown, for a pull request."""

    def safe(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")

    out = []
    for level, block in enumerate(blocks):
        out += [f"{'#' * (2 if level == 0 else 3)} {safe(block.title)}", ""]
        if block.rows:
            out += [f"| {' | '.join(map(safe, block.columns))} |", f"|{'---|' * len(block.columns)}"]
            for i, row in enumerate(block.rows):
                cells = {column: safe(row.get(column, "-")) for column in block.columns}
                marked = [f"**{cell}**" if (i, column) in block.leads else cell for column, cell in cells.items()]
                out.append(f"| {' | '.join(marked)} |")
            out.append("")
        out += [f"- **{safe(label)}**: {safe(text)}" for label, text in block.lines]
        out += [""] if block.lines else []
        out += [f"*{safe(label)}*: {safe(meaning)}  " for label, meaning in block.notes]
        out += [""] if block.notes else []
    return "\n".join(out)
