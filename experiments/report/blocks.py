"""Blocks of a table, lines and notes, made from figures and their values; as terminal text and as Markdown."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from data.files import one_line
from experiments.report.declaration import Figure, Section, look_up
from experiments.report.figures import SECTIONS
from experiments.report.rows import DIFFERENCES, MOST_SETTINGS, TABLES

LONGEST_CELL = 40
HEADINGS = {"loss": "dev loss"}  # of metrics; the others go by their names


@dataclass
class Block:
    """A part of a report. What comes from a run is made fit for a line here, whoever renders it."""

    title: str
    rows: list[dict[str, str]] = field(default_factory=list)  # cells by column
    lines: list[tuple[str, str]] = field(default_factory=list)  # (label, text)
    notes: list[tuple[str, str]] = field(default_factory=list)  # (label, what it means)
    best: int | None = None  # the number of the row that is the best
    leads: set[tuple[int, str]] = field(default_factory=set)  # (row, column): the best cell of its column

    def __post_init__(self):
        self.title = one_line(self.title)
        self.rows = [{short(key): short(text) for key, text in row.items()} for row in self.rows]
        self.leads = {(i, short(column)) for i, column in self.leads}
        self.lines = [(one_line(label), one_line(text)) for label, text in self.lines]

    @property
    def columns(self) -> list[str]:
        """The columns of all rows. One that a row lacks has its place behind the column before it."""
        found: list[str] = []
        for row in self.rows:
            place = 0
            for key in row:
                if key not in found:
                    found.insert(place, key)
                place = found.index(key) + 1
        return found


def short(text: str) -> str:
    """A text as a cell: in one line, its middle left out where it is too long."""
    text, half = one_line(text), LONGEST_CELL // 2 - 2
    return text if len(text) <= LONGEST_CELL else f"{text[:half]}...{text[-half:]}"


# ---- from figures ----------------------------------------------------------------------------------------------------


def cells(figures: tuple[Figure, ...], row: dict, report: dict) -> dict[str, str]:
    """The texts of one row of a table, by column."""
    found: dict[str, str] = {}
    for figure in figures:
        value = look_up(row, figure.path)
        if figure.text is not None and value is not None:
            made = figure.write(value, report | row)
            found |= made if isinstance(made, dict) else {figure.heading: str(made)}
    return found


def headed(row: dict[str, str]) -> dict[str, str]:
    return {HEADINGS.get(column, column): text for column, text in row.items()}


def lines(figures: tuple[Figure, ...], found: dict, report: dict) -> list[tuple[str, str]]:
    """(label, text) of the figures that are known and no tables. Single texts with the same label share a line."""
    told: list[tuple[str, str]] = []
    for figure in figures:
        value = look_up(found, figure.path)
        if value is None or (figure.parts and figure.name.endswith(("[]", ">"))):
            continue
        if figure.parts:
            told += lines(figure.parts, value, report)
            continue
        made = figure.write(value, report) if figure.text is not None else ""
        if isinstance(made, dict):
            told += made.items()
        elif isinstance(made, list):
            told += [(figure.heading, text) for text in made]
        elif made and told and told[-1][0] == figure.heading:
            told[-1] = (figure.heading, f"{told[-1][1]}, {made}")
        elif made:
            told.append((figure.heading, made))
    return told


def notes(figures: tuple[Figure, ...]) -> list[tuple[str, str]]:
    """(label, meaning) of the figures that need one."""
    found = []
    for figure in figures:
        found += [(figure.heading, figure.meaning)] if figure.note else []
        found += notes(figure.parts)
    return found


def section_block(section: Section, report: dict) -> Block:
    rows, best = [], None
    for figure in section.figures:
        if figure.parts and figure.name.endswith("[]"):
            rows = report[figure.name[:-2]]
            best = next((i for i, row in enumerate(rows) if row.get("best") is True), None)
            rows = [headed(cells(figure.parts, row, report)) for row in rows]
    told = lines(section.figures, report, report)
    return Block(section.title, rows, told, notes(section.figures) if rows or told else [], best)


def run_report(s: dict) -> list[Block]:
    """The summary of one run (figures.summary_of) as blocks."""
    head, *others = [section_block(section, s) for section in SECTIONS]
    written = f", last written {s['last_written'][:16].replace('T', ' ')} UTC" if s["status"] == "unfinished" else ""
    steps = f"{s['steps']} of {s['steps_planned']} steps"
    head.title = one_line(f"{s['name']}: {s['status']}, {steps}, seed {s['seed']}{written}")
    if not s["evaluations"]:
        others[0].lines.append(("evaluations", "no evaluation yet"))
    return [head, *(block for block in others if block.rows or block.lines)]


# ---- several runs ----------------------------------------------------------------------------------------------------


def row_name(found: dict, place: int) -> str:
    """ "1" and the name of a row's run, or of its first and how many more"""
    row = found["rows"][place]
    more = f" +{len(row['runs']) - 1}" if len(row["runs"]) > 1 else ""
    name = one_line(row["runs"][0])
    return f"{place + 1} {name if len(name) <= 28 else name[:12] + '...' + name[-13:]}{more}"


def rows_block(section: Section, found: dict, order: list[int], title: str) -> Block:
    """A table of rows of runs in an order."""
    rows: list[dict[str, str]] = []
    leads: set[tuple[int, str]] = set()
    keys = {figure.heading: figure.path[-1] for figure in section.figures}
    for place in order:
        made = cells(section.figures, found["rows"][place], found)
        if made:
            leading = {column for column in made if found["leaders"].get(keys.get(column, column)) == place}
            leads |= {(len(rows), HEADINGS.get(column, column)) for column in leading}
            rows.append({"run": row_name(found, place), **headed(made)})
    return Block(title, rows, notes=notes(section.figures), leads=leads)


def comparison_report(found: dict) -> list[Block]:
    """Several runs beside each other (figures.compare) as blocks."""
    order, steady, metric = list(range(len(found["rows"]))), found["steady_order"], found["metric"]
    every = sorted({f"{row['records_every']['mean']:g}" for row in found["rows"] if row["records_every"]})
    titles = {
        "By outcome": f", ranked by {metric}" if metric else ", not ranked: the runs have different eval.metric",
        "By stability": f", not ranked: a loss is the mean of {', '.join(every)} steps" if steady is None else
        ", ranked by scatter",
    }  # fmt: skip
    made = []
    for section in TABLES:
        places = steady if section.title == "By stability" and steady is not None else order
        made.append(rows_block(section, found, places, section.title + titles.get(section.title, "")))
    named = [(row_name(found, each["row"]), each) for each in found["differences"]]
    rows = [{"run": name, **cells(DIFFERENCES.figures, each, found)} for name, each in named]
    untested = [(name, f"no test over examples: {each['untested']}") for name, each in named if each["untested"]]
    made.append(Block(DIFFERENCES.title, rows, untested, notes(DIFFERENCES.figures)))
    made.append(Block("Notes", lines=[("note", text) for text in remarks(found)]))
    return [block for block in made if block.rows or block.lines]


def remarks(found: dict) -> Iterator[str]:
    for place, row in enumerate(found["rows"]):
        if not row["ended"]:
            yield f"row {place + 1} is of runs that have not ended: it leads in nothing and is not tested"
        for each in row["left_out"]:
            yield f"{each['name']} is {each['status']} and does not count"
    yield from (f"{name} has no evaluation yet" for name in found["without"])
    yield from found["remarks"]
    hidden = len(found["differing"]) - MOST_SETTINGS
    if hidden > 0:
        yield f"{hidden} more settings differ, see --json"
