"""Blocks of a table and lines, of which a report is made; render.py and page.py render them."""

from dataclasses import dataclass, field

from data.files import one_line

# ---- numbers as text -------------------------------------------------------------------------------------------------


# ---- blocks ----------------------------------------------------------------------------------------------------------


@dataclass
class Block:
    """A part of a report: a title, then a table, then lines (label, text), then what its figures mean."""

    title: str
    rows: list[dict[str, str]] = field(default_factory=list)  # cells by column
    lines: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    best: int | None = None  # the number of the row that is the best
    leads: set[tuple[int, str]] = field(default_factory=set)  # (row, column): the best cell of its column

    def __post_init__(self):
        self.title = one_line(self.title)
        self.rows = [{short(key): short(text) for key, text in row.items()} for row in self.rows]
        self.lines = [(one_line(label), one_line(text)) for label, text in self.lines]


LONGEST_CELL = 40


def short(text: str) -> str:
    """A text as a cell: in one line, its middle left out where it is too long."""
    text, half = one_line(text), LONGEST_CELL // 2 - 2
    return text if len(text) <= LONGEST_CELL else f"{text[:half]}...{text[-half:]}"


COLUMN = {"train_loss": "train loss", "loss": "dev loss", "train_seconds": "training"}
# The metrics that a table of evaluations has room for; --json has all. Of a run with several tasks: NAME.metric.
SHOWN = (
    *("loss", "mean", "accuracy", "precision", "recall", "exact", "f1", "HasAns_f1", "NoAns_f1", "best_f1"),
    *("macro_f1", "micro_f1", "best_micro_f1"),
    *("rmse", "mae", "r2", "pearson", "spearman"),
)


def shown_metrics(metrics: dict, deciding: str) -> list[str]:
    """The metrics of one evaluation that are shown, in the order of SHOWN, and the one that decides."""
    names = [key for key in metrics if key.rpartition(".")[2] in SHOWN and not key.endswith(".loss")]
    names = sorted(names, key=lambda key: (key.rpartition(".")[0], SHOWN.index(key.rpartition(".")[2])))
    return names if deciding in names or deciding not in metrics else [*names, deciding]
