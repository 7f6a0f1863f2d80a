"""A run as its figures see it: its records, the columns of its train records, and its evaluations as rows.

Losses come from `train` records. They are means over the examples since the record before, in training mode (dropout
on, weights moving). Metrics come from `eval` records, in evaluation mode.
"""

import bisect
from functools import cached_property
from typing import Any

import numpy as np

from data.files import InputError
from experiments.config.metrics import direction
from experiments.records import Records

COLUMNS = (
    *("step", "epoch", "loss", "examples", "tokens", "tokens_per_second", "padding", "peak_memory_mb"),
    *("grad_norm", "grad_norm_max", "clipped"),
)


class Run:
    """What a run has written. threshold: the relative change of the loss that counts as an oscillation."""

    def __init__(self, records: Records, threshold: float = 0.01):
        """Raises InputError where the record that says what was run is missing."""
        starts = records.of_kind("run")
        if not starts:
            missing = "the first record, kind 'run', is missing: nothing can be said about this run"
            because = f" ({records.remarks[0]})" if records.remarks else ""
            raise InputError(f"{records.folder}: {missing}{because}")
        self.records, self.threshold = records, threshold
        self.start = starts[-1]  # one that is continued as something else has another
        self.mixed = len(starts) > 1 + records.resumed_anyway  # records of several runs in one file
        self.end: dict | None = next(reversed(records.of_kind("end")), None)
        self.status: str = self.end["reason"] if self.end else "unfinished"
        self.spec: dict = self.start["spec"]
        self.metric: str = self.spec["eval"]["metric"]
        self.train = {name: records.column(name) for name in COLUMNS}  # float64 [N] each
        self.train_seconds = self.train["tokens"] / self.train["tokens_per_second"]

    @cached_property
    def rates(self) -> dict[str, np.ndarray]:
        """The learning rates of each part of the model: float64 [N], NaN where a part did not train."""
        rows = [record["lr"] if isinstance(record.get("lr"), dict) else {} for record in self.records.of_kind("train")]
        parts = dict.fromkeys(part for row in rows for part in row)
        known = {part: [row.get(part) for row in rows] for part in parts}
        return {part: np.array([r if isinstance(r, float | int) else np.nan for r in known[part]]) for part in parts}

    @cached_property
    def dev_records(self) -> list[dict]:
        """The records of evaluations of the development set."""
        return [record for record in self.records.of_kind("eval") if record.get("split", "dev") == "dev"]

    @cached_property
    def best_record(self) -> dict | None:
        """The evaluation with the highest eval.metric (the lowest, for losses and errors), the first of equals. One
        whose loss is not finite is never the best: outputs that are no numbers may still hit the right label."""
        needed = (self.metric, "loss")
        known = [each for each in self.dev_records if all(each["metrics"].get(name) is not None for name in needed)]
        return max(known, key=lambda record: direction(self.metric) * record["metrics"][self.metric], default=None)

    @cached_property
    def evaluations(self) -> list[dict]:
        """A row for each evaluation of the development set, with the training since the one before."""
        evaluated = self.records.of_kind("eval")
        samples = {record["step"]: record["metrics"] for record in evaluated if record.get("split") == "train"}
        rows, before, clock = [], 0, 0.0
        for record in self.dev_records:
            row = {key: record[key] for key in ("step", "epoch", "phase", "metrics")}
            row["best"] = record is self.best_record
            row["train_loss"] = self.mean_loss(self.between(before, record["step"]))
            row["train_seconds"] = record["clock"]["train"] - clock
            row["on_train"] = samples.get(record["step"])
            rows.append(row)
            before, clock = record["step"], record["clock"]["train"]
        return rows

    @cached_property
    def best(self) -> Any:
        return next((row for row in self.evaluations if row["best"]), None)

    @property
    def final(self) -> Any:
        return self.evaluations[-1] if self.evaluations else None

    def between(self, after: float, until: float) -> np.ndarray:
        """The places of the train records of steps after < step <= until, in the order of their steps."""
        low, high = np.searchsorted(self.train["step"], (after, until), side="right", sorter=self._by_step)
        return self._by_step[low:high]

    def evaluation_between(self, after: float, until: float) -> dict | None:
        """The last evaluation of steps after < step <= until."""
        place = bisect.bisect_right(self._evaluated, until, key=lambda row: row["step"]) - 1
        return self._evaluated[place] if place >= 0 and self._evaluated[place]["step"] > after else None

    @cached_property
    def _by_step(self) -> np.ndarray:
        return np.argsort(self.train["step"], kind="stable")

    @cached_property
    def _evaluated(self) -> list[dict]:
        return sorted(self.evaluations, key=lambda row: row["step"])

    def mean_loss(self, chosen: np.ndarray) -> float | None:
        """Mean loss per example over the train records at some places: sum of loss x examples / sum of examples.
        Losses 4.0 and 2.0 of 30 and 10 examples: 3.5."""
        loss, examples = self.train["loss"][chosen], self.train["examples"][chosen]
        known = np.isfinite(loss)
        return float(loss[known] @ examples[known] / examples[known].sum()) if examples[known].sum() else None
