"""The contract of metrics.jsonl: what training writes and reports read. One self-describing JSON record a line.

Every record has `kind`, `step` (optimizer steps taken), `epoch` (fractional), `seconds` since the run began (monotonic
across resumes) and `time` (UTC). A number that is not finite is null. The kinds, in the order in which they come:

    run      which experiment, with what, on what: the resolved spec, data, weights, machine, versions
    phase    what trains from here on, and at which rates; how many frozen layers were computed once and kept
    train    means over the examples since the record before: loss, gradient norm, learning rates, speed
    eval     an evaluation: its split (dev, or a sample of train), metrics, their intervals, whether it is the best
    event    resumed, interrupted, early_stop, a step that was skipped because something was not finite
    end      how the run ended, and its best evaluation

FIELDS says what readers see of a record, and what it must be. training/writer.py appends the records.
"""

import dataclasses
import difflib
import io
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from data.files import InputError, parse_json, read_bytes
from data.writing import surviving

FILE = "metrics.jsonl"
VERSION = 3  # of the records; the `run` record has it
SCORES = "dev_scores.safetensors"  # in a checkpoint: the score of each development example, by metric


def json_safe(value: Any, digits: int = 17) -> Any:
    """The value as JSON can write it: a number that is not finite becomes null, a dataclass an object. digits: how many
    significant ones are kept; with 17 a number reads back as itself."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return {str(key): json_safe(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item, digits) for item in value]
    return value


# ---- what a usable record has ----------------------------------------------------------------------------------------


LONGEST_TEXT = 10_000  # characters
DEEPEST = 20  # objects and lists inside one another
SMALLEST, LARGEST = 1e-100, 1e100  # of a number that is not 0: with the squares and ratios of these, a float can count
LAST_SECOND = 253_402_300_799  # of the year 9999


def _is_text(value) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_number(value) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and (value == 0 or SMALLEST < abs(value) < LARGEST)


def _is_amount(value) -> bool:
    return _is_number(value) and value >= 0


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _is_share(value) -> bool:
    return _is_amount(value) and value <= 1


def _or_null(holds):
    return lambda value: value is None or holds(value)


def _each(holds):
    """A check that something holds for each value of an object."""
    return lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(holds, value.values()))


def _is_clock(value) -> bool:
    return _each(_is_amount)(value) and {"train", "data", "eval", "checkpoint"} <= value.keys()


def _is_split(value) -> bool:
    kind, baseline = look_up(value, "kind"), look_up(value, "baseline")
    return _is_whole(look_up(value, "examples")) and _is_text(kind) and _or_null(_each(_is_number))(baseline)


def _are_phases(value) -> bool:
    return isinstance(value, list) and all(_is_amount(look_up(phase, "epochs")) for phase in value)


def _is_interval(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_or_null(_is_number), value))


def _is_plain(value, depth: int = DEEPEST) -> bool:
    """Whether settings, which are shown as they are, have texts, numbers and a depth that can be shown."""
    if isinstance(value, dict | list):
        below = [*value, *value.values()] if isinstance(value, dict) else value
        return depth > 0 and all(_is_plain(item, depth - 1) for item in below)
    return value is None or _is_text(value) or (isinstance(value, int | float) and abs(value) < 1e300)


# {kind: {dotted field: what it must be}}. A reader sees nothing else: what else is at the top of a record is left out.
COMMON = {"step": _is_whole, "epoch": _is_amount, "seconds": _is_amount}
FIELDS = {
    "run": {
        "version": _or_null(_is_whole),
        "program": _or_null(_is_text),
        "spec": _is_plain,
        "spec.name": _is_text,
        "spec.seed": _is_whole,
        "spec.tasks": lambda value: _each(lambda task: _is_text(look_up(task, "task")))(value) and len(value) > 0,
        "spec.eval.metric": _is_text,
        "spec.phases": _or_null(_are_phases),
        "spec.lora.rank": _or_null(_is_whole),
        "spec.lora.alpha": _or_null(_is_amount),
        "pretrained.name": _is_text,
        "pretrained.sha256": _or_null(_is_text),
        "start.from": _or_null(_is_text),
        "start.sha256": _or_null(_is_text),
        # {task: {split: counts}}, beside them what an answer reaches that never looks at the text: {metric: value}
        "data.splits": _each(_each(_is_split)),
        "data.fingerprints": _or_null(_each(_each(_is_text))),  # {task: {split: sha256 of what it was made from}}
        "device": _is_text,
        "precision": _is_text,
        "parameters": lambda value: _is_whole(value) and value > 0,
        "steps_planned": _is_whole,
    },
    "phase": {
        "name": _is_text,
        "steps": _is_whole,
        "trains": lambda rows: isinstance(rows, list) and all(_is_whole(look_up(row, "parameters")) for row in rows),
    },
    "train": {
        "loss": _or_null(_is_number),
        "examples": _is_whole,
        "tokens": _is_whole,
        "tokens_per_second": lambda value: _is_number(value) and value > 0,
        "padding": lambda value: _is_share(value) and value < 1,
        "peak_memory_mb": _is_amount,
        "grad_norm": _or_null(_is_amount),
        "grad_norm_max": _or_null(_is_amount),
        "clipped": _or_null(_is_share),
        "lr": _or_null(_each(_or_null(_is_amount))),  # {part: rate}
    },
    "eval": {
        "split": _or_null(_is_text),
        "phase": _is_text,
        "metrics": _each(_or_null(_is_number)),
        "intervals": _or_null(_each(_is_interval)),
        "clock": _is_clock,
    },
    "event": {"event": _is_text, "message": _or_null(_is_text)},
    "end": {"reason": _is_text, "clock": _is_clock, "best_bytes": _or_null(_is_whole)},
}


def look_up(found: Any, path: str | list[str]) -> Any:
    """The value at a dotted path, or at its keys; None where there is none."""
    for key in path.split(".") if isinstance(path, str) else path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def read_record(line: bytes) -> dict:
    """The record that a line holds, as readers see it. Raises ValueError saying why it is none."""
    try:
        record = parse_json(line.decode())
    except ValueError:  # UnicodeDecodeError is one
        record = None
    kind = look_up(record, "kind")
    if not _is_text(kind):
        raise ValueError("is not a record")
    checks = COMMON | FIELDS.get(kind, {})
    for path, holds in checks.items():
        if not holds(look_up(record, path)):
            raise ValueError(f"is a record of kind {kind!r} without a usable {path!r}")
    seen = ("kind", *(path.partition(".")[0] for path in checks))
    return {name: record[name] for name in seen if name in record}


# ---- reading ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Records:
    """The records of a run."""

    folder: Path
    records: list[dict]  # in their order
    remarks: list[str]  # a line for each line of the file that could not be used
    written: str  # when the file was last written, UTC

    def of_kind(self, kind: str) -> list[dict]:
        return [record for record in self.records if record["kind"] == kind]

    def column(self, name: str) -> np.ndarray:
        """A number of each train record: float64 [N], NaN where it is missing."""
        values = [record.get(name) for record in self.of_kind("train")]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    @property
    def step(self) -> int:
        """The last step that any record speaks of."""
        return max((record["step"] for record in self.records), default=0)

    @property
    def seconds(self) -> float:
        return max((record["seconds"] for record in self.records), default=0.0)

    @property
    def resumed_anyway(self) -> int:
        """How often the run was continued with other settings or data than it had."""
        return sum(record["event"] == "resumed anyway" for record in self.of_kind("event"))

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return bool(self.records) and self.records[-1]["kind"] == "end" and self.records[-1]["reason"] != "diverged"


def run_folder(folder: Path, needed: str) -> Path:
    """The last complete version of a run's folder. needed: a file that it must have. Raises InputError, with the name
    of a run nearby that may be meant, for what is no run's folder."""
    there = surviving(folder) or folder
    if (there / needed).is_file():
        return there
    places = (folder.parent, *folder.glob("*"), *folder.parent.glob("*"), *Path("runs").glob("*"))
    others = [place for place in places if os.path.isfile(place / FILE) and place.resolve() != folder.resolve()]
    runs = {place.name: str(place) for place in others}
    near = difflib.get_close_matches(folder.name.removesuffix(".json"), runs, n=1)
    listed = ", ".join(sorted(runs.values())[:5]) or "none; train.py makes them, in runs/"
    hint = f"did you mean {runs[near[0]]}?" if near else f"runs here: {listed}"
    raise InputError(f"{folder}: is not a run folder (no {needed}); {hint}")


def read_records(folder: Path) -> Records:
    """The records of a run folder. A line that cannot be used is a remark; so is a torn last one (the run was killed
    while writing it). Raises InputError where there is no readable metrics.jsonl."""
    path = run_folder(folder, FILE) / FILE
    found, remarks = [], []
    for number, line in enumerate(io.BytesIO(read_bytes(path)), 1):
        if not line.endswith(b"\n"):
            remarks.append(f"{path}: line {number} is torn (the run was stopped while writing it); ignored")
        elif line.strip():
            try:
                found.append(read_record(line))
            except ValueError as error:
                remarks.append(f"{path}: line {number} {error}; ignored")
    written = datetime.fromtimestamp(min(max(0.0, path.stat().st_mtime), LAST_SECOND), UTC)
    return Records(folder, found, remarks, written.isoformat(timespec="seconds"))
