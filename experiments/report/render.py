"""A report as blocks of tables and lines, made from its figures; these as terminal text and as Markdown."""

import re
import textwrap
from dataclasses import dataclass, field

from data.files import one_line
from experiments.records import look_up
from experiments.report.figures import DIFFERENCES, ROWS, SECTIONS, WORDS, Figure
from experiments.report.texts import column_of
from experiments.terminal import WIDTH, fitting, table

BOLD, GREEN, PLAIN = "\033[1m", "\033[32m", "\033[0m"
INDENT = 13  # of what stands beside a label
LONGEST_CELL = 40


@dataclass
class Block:
    """A part of a report. What comes from a run is made fit for a line here, whoever renders it."""

    title: str
    rows: list[dict[str, str]] = field(default_factory=list)  # cells by column
    lines: list[tuple[str, str]] = field(default_factory=list)  # (label, text)
    best: int | None = None  # the number of the row that is the best
    leads: set[tuple[int, str]] = field(default_factory=set)  # (row, column): the best cell of its column

    def __post_init__(self):
        self.title = one_line(self.title)
        self.rows = [{short(key): short(text) for key, text in row.items()} for row in self.rows]
        self.leads = {(i, short(column)) for i, column in self.leads}
        self.lines = [(one_line(label), one_line(text)) for label, text in self.lines]

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows for column in row))


def short(text: str) -> str:
    """A text as a cell: in one line, its middle left out where it is too long."""
    text, half = one_line(text), LONGEST_CELL // 2 - 2
    return text if len(text) <= LONGEST_CELL else f"{text[:half]}...{text[-half:]}"


# ---- from figures ----------------------------------------------------------------------------------------------------


def told(figures: list[Figure], found: dict, report: dict) -> list[tuple[str, str]]:
    """(label, text) of the figures that are known. Single texts with the same label share a line."""
    made: list[tuple[str, str]] = []
    for figure in figures:
        value = look_up(found, figure.path)
        if figure.text is None or value is None:
            continue
        text = figure.text.format(value) if isinstance(figure.text, str) else figure.text(value, report | found)
        if isinstance(text, dict):
            made += text.items()
        elif isinstance(text, list):
            made += [(figure.heading, each) for each in text]
        elif text is not None and made and made[-1][0] == figure.heading:
            made[-1] = (figure.heading, f"{made[-1][1]}, {text}")
        elif text is not None:
            made.append((figure.heading, text))
    return made


def block_of(title: str, figures: tuple[Figure, ...], report: dict) -> Block:
    columns = [figure for figure in figures if "[]." in figure.name]
    rows = report[columns[0].name.partition("[]")[0]] if columns else []
    cells = [dict(told(columns, row, report)) for row in rows]
    lines = told([figure for figure in figures if figure not in columns], report, report)
    best = next((i for i, row in enumerate(rows) if row.get("best") is True), None)
    return Block(title, cells, lines, best)


def run_report(s: dict) -> list[Block]:
    """The summary of one run (figures.summary_of) as blocks."""
    head, *others = [block_of(title, figures, s) for title, figures in SECTIONS.items()]
    written = f", last written {s['last_written'][:16].replace('T', ' ')} UTC" if s["status"] == "unfinished" else ""
    steps = f"{s['steps']} of {s['steps_planned']} steps"
    head.title = one_line(f"{s['name']}: {s['status']}, {steps}, seed {s['seed']}{written}")
    if not s["evaluations"]:
        others[0].lines.append(("evaluations", "no evaluation yet"))
    return explained([head, *others])


def comparison_report(found: dict) -> list[Block]:
    """Several runs beside each other (comparison.compare) as blocks."""
    rows, differences = block_of("Runs", ROWS, found), block_of("Against the first", DIFFERENCES, found)
    metric = found["metric"]
    rows.title += f", ranked by {metric}" if metric else ", not ranked: the runs have different eval.metric"
    rows.leads = {(i, short(column_of(name))) for name, i in found["leaders"].items()}
    head = Block("In short", lines=[("", found["headline"])])
    notes = Block("Notes", lines=[("note", text) for text in found["remarks"]])
    return explained([head, rows, differences, notes])


def explained(blocks: list[Block]) -> list[Block]:
    """The blocks that have something to say, and one that explains their words."""
    words = Block("Words", lines=[(word, meaning) for word, meaning in WORDS.items() if word in repr(blocks)])
    return [block for block in (*blocks, words) if block.rows or block.lines]


# ---- as text ---------------------------------------------------------------------------------------------------------


def terminal(blocks: list[Block], colour: bool = False, width: int = WIDTH) -> str:
    """All blocks as text of lines that fit the width (but for single words that do not)."""
    bold, green, plain = (BOLD, GREEN, PLAIN) if colour else ("", "", "")
    out = []
    for block in blocks:
        out += [f"{bold}{line}{plain}" for line in textwrap.wrap(block.title, width)]
        for group in fitting(block.rows, block.columns, width, block.leads) if block.rows else []:
            head, *rows = table(block.rows, group, block.leads)
            out += [head, *(f"{green}{row}{plain}" if i == block.best else row for i, row in enumerate(rows))]
        for label, text in block.lines:
            line, indent = f"{label:{INDENT}} {text}", " " * (INDENT + 1)
            out += textwrap.wrap(line, width, subsequent_indent=indent, break_on_hyphens=False)
        out.append("")
    return "\n".join(out[:-1])


SIGNS = re.compile(r"[\\`*\[\]~|$#]|(?<![^\W_])_|_(?![^\W_])")  # that Markdown acts on; not the _ inside a word
# Beginnings of what GitHub makes live although no sign is left: @mention and a@b.c, #12 and GH-12, www. and http://
LIVE = re.compile(r"@|(?<=#)(?=\w)|\bgh-(?=\d)|\bwww(?=\.)|:(?=//)", re.IGNORECASE)


def safe(text: str) -> str:
    """Text as Markdown that shows it letter by letter, without links, images, mentions and references."""
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return LIVE.sub(r"\g<0>&ZeroWidthSpace;", SIGNS.sub(r"\\\g<0>", text))


def markdown(blocks: list[Block]) -> str:
    """All blocks as Markdown, for a pull request."""
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
        out += [f"- **{safe(label)}**: {safe(text)}" if label else safe(text) for label, text in block.lines]
        out += [""] if block.lines else []
    return "\n".join(out)
