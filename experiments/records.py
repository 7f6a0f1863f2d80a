"""A run's diary: metrics.jsonl, append-only, one self-describing JSON record a line.

Every record has `kind` (run, phase, train, eval, event, end), `step` (optimizer steps taken), `epoch` (fractional),
`seconds` since the run began (monotonic across resumes) and `time` (UTC). No NaN or Infinity: a number that is not
finite becomes null. Versions of the records, as the `run` record has it: 1 (none given) counted questions only, 2 has
`data.splits`.
"""

import dataclasses
import hashlib
import json
import math
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from data.files import InputError, read_bytes

FILE = "metrics.jsonl"
VERSION = 2


def json_safe(value, digits: int = 17):
    """The value as JSON can write it: a number that is not finite becomes null, a dataclass an object. digits: how many
    significant ones are kept; with 17 a number reads back as itself."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): json_safe(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item, digits) for item in value]
    return value


# ---- writing ---------------------------------------------------------------------------------------------------------


def beyond(path: Path, size: int, sha256: str) -> tuple[int, bool]:
    """How many whole records metrics.jsonl has after its first `size` bytes, and whether its last line is torn.
    Raises InputError where those bytes are not there or not what was written."""
    data = read_bytes(path)
    if not 0 < size <= len(data):
        raise InputError(f"{path}: is shorter than the {size} bytes that the checkpoint goes with; restore it")
    if hashlib.sha256(data[:size]).hexdigest() != sha256:
        raise InputError(f"{path}: has been edited before its byte {size}, up to which the run wrote it; restore it")
    return data.count(b"\n", size), not data.endswith(b"\n")


class RunLog:
    """Appends records to a run folder's metrics.jsonl. One line is one write, so a reader sees whole lines only."""

    def __init__(self, folder: Path, offset: int = 0, seconds: float = 0.0):
        """offset: bytes to keep of an existing file (0 starts anew); seconds: how long the run had taken by then."""
        self._path = folder / FILE
        self._file = self._path.open("r+b" if offset else "w+b", buffering=0)
        self._digest = hashlib.sha256(self._file.read(offset))
        self._file.truncate(offset)
        self._file.seek(offset)
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def offset(self) -> int:
        """Bytes written so far, all of them on disk when this returns."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    @property
    def sha256(self) -> str:
        """Of what has been written so far."""
        return self._digest.hexdigest()

    def write(self, kind: str, step: int, epoch: float, **fields) -> dict:
        record = {
            "kind": kind,
            "step": step,
            "epoch": round(epoch, 6),
            "seconds": round(self.seconds, 3),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **json_safe(fields, digits=9 if kind == "train" else 17),  # there are many, of sums in fp32
        }
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        rest = memoryview(line)
        try:
            while rest:  # a disk that fills up takes the part that still fits, and only the next write is an error
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._digest.update(line)
        return record

    def close(self) -> None:
        self._file.close()


# ---- reading ---------------------------------------------------------------------------------------------------------


def _is_text(value) -> bool:
    return isinstance(value, str)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_clock(value) -> bool:
    return isinstance(value, dict) and all(
        _is_number(value.get(key)) for key in ("train", "data", "eval", "checkpoint")
    )


def _is_metrics(value) -> bool:
    columns = {
        "step",
        "epoch",
        "phase",
        "seconds",
        "train_loss",
        "train_seconds",
        "best",
    }  # beside which tables show them
    return (
        isinstance(value, dict)
        and all(number is None or _is_number(number) for number in value.values())
        and not columns & value.keys()
    )


# What readers count on, beside `kind`: {dotted field: what it must be}. All else may be missing or null.
COMMON = {"step": _is_whole, "epoch": _is_number, "seconds": _is_number}
FIELDS = {
    "run": {
        "spec.name": _is_text,
        "spec.seed": _is_whole,
        "spec.model.task": _is_text,
        "spec.eval.metric": _is_text,
        "pretrained.name": _is_text,
        "data.splits": lambda splits: (
            isinstance(splits, dict)
            and all(_is_whole(_field(c, "examples")) and _is_text(_field(c, "kind")) for c in splits.values())
        ),
        "device": _is_text,
        "precision": _is_text,
        "parameters": lambda value: _is_whole(value) and value > 0,
        "steps_planned": _is_whole,
    },
    "phase": {
        "name": _is_text,
        "steps": _is_whole,
        "trains": lambda rows: isinstance(rows, list) and all(_is_whole(_field(row, "parameters")) for row in rows),
    },
    "train": {
        "loss": lambda value: value is None or _is_number(value),
        "examples": _is_whole,
        "tokens": _is_whole,
        "tokens_per_second": lambda value: _is_number(value) and value > 0,
        "padding": lambda value: _is_number(value) and 0 <= value < 1,
        "peak_memory_mb": _is_number,
    },
    "eval": {
        "phase": _is_text,
        "metrics": _is_metrics,
        "clock": _is_clock,
    },
    "event": {"event": _is_text},
    "end": {"reason": _is_text, "clock": _is_clock, "best_bytes": lambda value: value is None or _is_whole(value)},
}


def _field(record, path: str):
    """The value at a dotted path, None where there is none."""
    for key in path.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def fault(record) -> str | None:
    """Why a line's value cannot be used as a record, or None."""
    if not isinstance(record, dict) or not _is_text(record.get("kind")):
        return "is not a record"
    for path, holds in (COMMON | FIELDS.get(record["kind"], {})).items():
        if not holds(_field(record, path)):
            return f"is a record of kind {record['kind']!r} without a usable {path!r}"
    return None


def upgrade(record: object) -> None:
    """Give a `run` record of version 1 the `data.splits` of version 2, in place."""
    data = _field(record, "data")
    if _field(record, "kind") == "run" and isinstance(data, dict) and "splits" not in data:
        counts = {split: _field(data, f"{split}.questions") for split in ("train", "dev")}
        if all(_is_whole(count) for count in counts.values()):
            data["splits"] = {split: {"examples": n, "kind": "questions"} for split, n in counts.items()}


def no_number(literal: str):
    """For json.loads, which takes NaN and Infinity unless told otherwise."""
    raise ValueError(f"{literal} is not a number")


def parse_line(line: bytes) -> tuple[dict | None, str | None]:
    """(record, None), or (None, why there is none); (None, None) for an empty line."""
    if not line.strip():
        return None, None
    try:
        record = json.loads(line, parse_constant=no_number)
    except (ValueError, RecursionError):
        record = None
    upgrade(record)
    wrong = fault(record)
    return (record, None) if wrong is None else (None, wrong)


def read_records(folder: Path) -> tuple[list[dict], list[str]]:
    """The records of a run folder, and a remark for each line that is not one. A torn last line (the run was killed
    while writing) is such a remark, not an error. Raises InputError where there is no readable metrics.jsonl."""
    path = folder / FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; is {folder} a run folder?")
    records, remarks = [], []
    lines = read_bytes(path).split(b"\n")
    for number, line in enumerate(lines, 1):
        record, wrong = parse_line(line)
        if number == len(lines) and line:  # a whole line ends in a newline, so what follows the last one is torn
            record, wrong = None, "is torn (the run was stopped while writing it)"
        if record is not None:
            records.append(record)
        if wrong is not None:
            remarks.append(f"{path}: line {number} {wrong}; ignored")
    return records, remarks


def finished(folder: Path) -> bool:
    """Whether the run in a folder has come to its end."""
    if not (folder / FILE).is_file():
        return False
    records, _ = read_records(folder)
    return bool(records) and records[-1]["kind"] == "end" and records[-1]["reason"] != "diverged"


SCORES = "dev_scores.safetensors"  # in best/: the score of each development example, by metric
