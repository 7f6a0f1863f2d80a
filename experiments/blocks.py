"""What a report is made of: numbers as text, and blocks of a table and lines, rendered by experiments/render.py and
page.py."""

from dataclasses import dataclass, field

from experiments.spec import NOT_PERCENT
from inputs import one_line

# ---- numbers as text -------------------------------------------------------------------------------------------------


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
    if "eval" not in clock:  # no evaluation yet
        return f"training {duration(clock['train'])}"
    return (
        f"training {duration(clock['train'])} (data {duration(clock['data'])}), "
        f"evaluation {duration(clock['eval'])}, checkpoints {duration(clock['checkpoint'])}"
    )


def number(value: float | None, name: str, sign: str = "") -> str:
    """Percentages with one decimal, all else with three, "-" where there is no value. sign: "+" shows it always."""
    if value is None:
        return "-"
    three = name.rpartition(".")[2] in NOT_PERCENT
    return f"{value:{sign}.3f}" if three else f"{value:{sign}.1f}"


def mean_sd(values: dict | None, name: str) -> str:
    """ "92.3 ± 0.4", "92.3" for one run"""
    if values is None:
        return "-"
    if values["sd"] is None:
        return number(values["mean"], name)
    return f"{number(values['mean'], name)} ± {number(values['sd'], name)}"


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
