"""Reading metrics.jsonl for analysis: a run's few records as they are, its many `train` records as columns.

A hundred runs of a hundred thousand records each are read in half a minute. So lines are decoded many at a time and
checked a column at a time; only where that fails, line by line (`runlog.parse_line`).
"""

import itertools
import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from experiments.runlog import FILE, fault, parse_line, upgrade
from inputs import InputError, reason

LINES_AT_ONCE = 1000
# Numbers of a train record that become columns. Where a record lacks one, or has null, its place holds NaN.
COLUMNS = (
    *("step", "examples", "tokens", "padding", "tokens_per_second", "epoch", "seconds", "peak_memory_mb", "loss"),
    *("grad_norm", "grad_norm_max", "clipped"),
)
NEEDED = COLUMNS[:9]  # a record without a usable one is none; only a loss may be null


@dataclass
class Diary:
    """What a run has written."""

    folder: Path
    records: list[dict] = field(default_factory=list)  # all but the train records, in their order
    train: dict[str, np.ndarray] = field(default_factory=dict)  # a float64 column for each of COLUMNS [N]
    rates: dict[str, np.ndarray] = field(default_factory=dict)  # learning rates by part, likewise
    remarks: list[str] = field(default_factory=list)  # lines that could not be used

    def of_kind(self, kind: str) -> list[dict]:
        return [record for record in self.records if record["kind"] == kind]

    @property
    def step(self) -> int:
        """The last step that any record speaks of."""
        steps = [record["step"] for record in self.records[-1:]] + self.train["step"][-1:].tolist()
        return int(max(steps, default=0))

    @property
    def seconds(self) -> float:
        return max([r["seconds"] for r in self.records[-1:]] + self.train["seconds"][-1:].tolist(), default=0.0)


def read_diary(folder: Path) -> Diary:
    """The diary of a run folder. A line that cannot be used, or a torn last one (the run was killed while writing), is
    a remark. Raises InputError where there is no readable metrics.jsonl."""
    path, diary = folder / FILE, Diary(folder)
    if not path.is_file():
        raise InputError(f"{path}: no such file; is {folder} a run folder?")
    chunks = []
    try:
        with path.open("rb") as file:
            for first, lines in _batches(file):
                chunks.append(_columns(_decode(lines, first, diary)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from None
    chunks = chunks or [_columns([])]
    parts = dict.fromkeys(name for chunk in chunks for name in chunk)
    for name in parts:
        columns = [chunk.get(name, np.full(len(chunk["step"]), np.nan)) for chunk in chunks]
        part = name.removeprefix("lr ")
        (diary.train if part == name else diary.rates)[part] = np.concatenate(columns)
    return diary


def _batches(file) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines), many at a time"""
    first = 1
    while lines := list(itertools.islice(file, LINES_AT_ONCE)):
        yield first, lines
        first += len(lines)


def _decode(lines: list[bytes], first: int, diary: Diary) -> list[dict]:
    """The train records among these lines; the others, and what is wrong, go to the diary."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]", parse_constant=_refuse)
    except (ValueError, RecursionError):
        records = []
    if len(records) == len(lines) and lines[-1].endswith(b"\n") and _usable(records):
        train = [record for record in records if record["kind"] == "train"]
        others = [record for record in records if record["kind"] != "train"]
        for record in others:
            upgrade(record)
        if not any(map(fault, others)):
            diary.records += others
            return train
    train = []
    for number, line in enumerate(lines, first):
        if not line.endswith(b"\n"):  # a whole line ends in a newline, so what follows the last one is torn
            remark = f"line {number} is torn (the run was stopped while writing it); ignored"
            diary.remarks.append(f"{diary.folder / FILE}: {remark}")
            continue
        record, wrong = parse_line(line)
        if wrong:
            diary.remarks.append(f"{diary.folder / FILE}: line {number} {wrong}; ignored")
        elif record:
            (train if record["kind"] == "train" else diary.records).append(record)
    return train


def _refuse(literal: str):
    raise ValueError(f"{literal} is not a number")


def _usable(records: list) -> bool:
    """Whether all are records with a kind, and every train record has what NEEDED names as numbers."""
    if set(map(type, records)) != {dict} or not all(isinstance(record.get("kind"), str) for record in records):
        return False
    train = [record for record in records if record["kind"] == "train"]
    try:
        rows = list(map(operator.itemgetter(*NEEDED), train))
    except KeyError:
        return False
    columns = list(zip(*rows, strict=True))
    numbers = {int, float}
    return not train or (
        all(set(map(type, column)) <= numbers | {type(None)} for column in columns[-1:])
        and all(set(map(type, column)) <= numbers for column in columns[:-1])
        and all(set(map(type, column)) <= {int} for column in columns[:3])
        and 0 <= min(columns[3]) <= max(columns[3]) < 1
        and min(columns[4]) > 0
    )


def _columns(train: list[dict]) -> dict[str, np.ndarray]:
    """Columns of some train records: COLUMNS, and a learning rate for each part of the model."""
    columns = _table(train, COLUMNS)
    rates = [record["lr"] if isinstance(record.get("lr"), dict) else {} for record in train]
    parts = dict.fromkeys(itertools.chain.from_iterable(rates))
    return columns | {f"lr {part}": values for part, values in _table(rates, tuple(parts)).items()}


def _table(rows: list[dict], names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """{name: float64 column}, NaN for whatever is missing or no number"""
    if not names:
        return {}
    try:
        values = [*map(operator.itemgetter(*names), rows)] if len(names) > 1 else [(row[names[0]],) for row in rows]
    except KeyError:
        values = [tuple(row.get(name) for name in names) for row in rows]
    if not set(map(type, itertools.chain.from_iterable(values))) <= {int, float}:
        values = [tuple(v if type(v) in (int, float) else np.nan for v in row) for row in values]
    table = np.array(values, dtype=np.float64).reshape(len(rows), len(names))
    return {name: table[:, i].copy() for i, name in enumerate(names)}
