"""Reading metrics.jsonl for analysis: a run's few records as they are, its many `train` records as columns.

A hundred runs of a hundred thousand records each are read in half a minute. So lines are decoded many at a time and
checked a column at a time; only where that fails, line by line (`runlog.parse_line`).
"""

import itertools
import json
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from data.files import InputError, reason
from experiments.records import FILE, fault, no_number, parse_line, upgrade

LINES_AT_ONCE = 500  # more keep more objects alive, and the garbage collector busy
# Numbers of a train record that become columns. Where a record lacks one, or has null, its place holds NaN.
COLUMNS = (
    *("step", "examples", "tokens", "padding", "tokens_per_second", "epoch", "seconds", "peak_memory_mb", "loss"),
    *("grad_norm", "grad_norm_max", "clipped"),
)


@dataclass
class Diary:
    """What a run has written."""

    folder: Path
    records: list[dict] = field(default_factory=list)  # all but the train records, in their order
    train: dict[str, np.ndarray] = field(default_factory=dict)  # a float64 column for each of COLUMNS [N]
    rates: dict[str, np.ndarray] = field(default_factory=dict)  # learning rates by part, likewise
    remarks: list[str] = field(default_factory=list)  # lines that could not be used
    written: str = ""  # when its file was last written, UTC

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
                chunks.append(_read(lines, first, diary))
        diary.written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
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


def _read(lines: list[bytes], first: int, diary: Diary) -> dict[str, np.ndarray]:
    """Columns of the train records among these lines; the other records, and what is wrong, go to the diary."""
    columns = _read_at_once(lines, diary)
    if columns is not None:
        return columns
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
    return _columns(train)


def _read_at_once(lines: list[bytes], diary: Diary) -> dict[str, np.ndarray] | None:
    """The same, decoded and checked all together; None where anything is unusual, and then the diary is untouched."""
    try:
        records = json.loads(b"[" + b",".join(lines) + b"]", parse_constant=no_number)
        if len(records) != len(lines) or not lines[-1].endswith(b"\n"):
            return None
        train = [record for record in records if record["kind"] == "train"]
        rows = list(map(operator.itemgetter(*COLUMNS), train))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return None
    others = [record for record in records if record["kind"] != "train"] if len(train) < len(records) else []
    for record in others:
        upgrade(record)
    if any(map(fault, others)) or not set(map(type, itertools.chain.from_iterable(rows))) <= {int, float}:
        return None
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(COLUMNS))
    column = dict(zip(COLUMNS, table.T.copy(), strict=True))
    whole = all((column[name] % 1 == 0).all() and (column[name] >= 0).all() for name in ("step", "examples", "tokens"))
    sound = ((column["padding"] >= 0) & (column["padding"] < 1) & (column["tokens_per_second"] > 0)).all()
    if not (whole and sound and np.isfinite(table).all()):
        return None
    diary.records += others
    return column | _rates(train)


def _columns(train: list[dict]) -> dict[str, np.ndarray]:
    """Columns of some train records, one by one sound: COLUMNS, and a learning rate for each part of the model."""
    return _table(train, COLUMNS) | _rates(train)


def _rates(train: list[dict]) -> dict[str, np.ndarray]:
    """{"lr PART": column}"""
    rates = [record["lr"] if isinstance(record.get("lr"), dict) else {} for record in train]
    parts = tuple(dict.fromkeys(itertools.chain.from_iterable(rates)))
    return {f"lr {part}": values for part, values in _table(rates, parts).items()}


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
