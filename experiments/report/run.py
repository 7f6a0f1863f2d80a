"""A run as its figures see it: its records, the columns of its train records, and its evaluations as rows.

Losses come from `train` records. They are means over the examples since the record before, in training mode (dropout
on, weights moving). Metrics come from `eval` records, in evaluation mode.
"""

from functools import cached_property
from typing import Any

import numpy as np

from data.files import InputError
from experiments.config.metrics import direction, number, shown_in
from experiments.records import Records
from experiments.report.declaration import Figure
from experiments.terminal import duration

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
        self.start = starts[-1]  # a run that is started again without --resume begins with another one
        self.spec: dict = self.start["spec"]
        self.metric: str = self.spec["eval"]["metric"]
        self.train = {name: records.column(name) for name in COLUMNS}  # float64 [N] each

    @property
    def end(self) -> dict | None:
        return next(reversed(self.records.of_kind("end")), None)

    @property
    def status(self) -> str:
        return self.end["reason"] if self.end else "unfinished"

    @cached_property
    def rates(self) -> dict[str, np.ndarray]:
        """The learning rates of each part of the model: float64 [N], NaN where a part did not train."""
        rows = [record["lr"] if isinstance(record.get("lr"), dict) else {} for record in self.records.of_kind("train")]
        parts = dict.fromkeys(part for row in rows for part in row)
        return {part: np.array([_number(row.get(part)) for row in rows]) for part in parts}

    @cached_property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """The finite training losses, and their steps [M]."""
        known = np.isfinite(self.train["loss"])
        return self.train["loss"][known], self.train["step"][known]

    @cached_property
    def dev_records(self) -> list[dict]:
        """The records of evaluations of the development set."""
        return [record for record in self.records.of_kind("eval") if record.get("split", "dev") == "dev"]

    @cached_property
    def best_record(self) -> dict | None:
        """The evaluation with the highest eval.metric (the lowest, for losses and errors), the first of equals."""
        known = [record for record in self.dev_records if record["metrics"].get(self.metric) is not None]
        return max(known, key=lambda record: direction(self.metric) * record["metrics"][self.metric], default=None)

    @cached_property
    def evaluations(self) -> list[dict]:
        return evaluations(self)

    @property
    def best(self) -> Any:
        return next((row for row in self.evaluations if row["best"]), None)

    @property
    def final(self) -> Any:
        return self.evaluations[-1] if self.evaluations else None

    def between(self, after: float, until: float) -> np.ndarray:
        """Which train records are of steps after < step <= until; bool [N]"""
        return (self.train["step"] > after) & (self.train["step"] <= until)

    def mean_loss(self, chosen: np.ndarray) -> float | None:
        """Mean loss per example over some train records: sum of loss x examples / sum of examples.
        Losses 4.0 and 2.0 of 30 and 10 examples: 3.5."""
        loss, examples = self.train["loss"][chosen], self.train["examples"][chosen]
        known = np.isfinite(loss)
        return float(loss[known] @ examples[known] / examples[known].sum()) if examples[known].sum() else None


def _number(value) -> float:
    usable = isinstance(value, int | float) and abs(value) < 1e300
    return float(value) if usable else np.nan


# ---- an evaluation ---------------------------------------------------------------------------------------------------


def evaluations(run: Run) -> list[dict]:
    """A row for each evaluation of the development set, with the training since the one before."""
    samples = {record["step"]: record["metrics"] for record in run.records.of_kind("eval") if of_train(record)}
    rows, before, clock = [], 0, 0.0
    for record in run.dev_records:
        rows.append(
            {
                **{key: record[key] for key in ("step", "epoch", "phase", "seconds", "metrics")},
                "best": record is run.best_record,
                "train_loss": run.mean_loss(run.between(before, record["step"])),
                "train_seconds": record["clock"]["train"] - clock,
                "on_train": samples.get(record["step"]),
            }
        )
        before, clock = record["step"], record["clock"]["train"]
    return rows


def of_train(record: dict) -> bool:
    """Whether an evaluation is of a sample of the training set."""
    return record.get("split") == "train"


def shown_metrics(metrics: dict, deciding: str) -> list[str]:
    """The metrics that a table has room for, and the one that decides; not the losses of single tasks."""
    found = [name for name in shown_in(metrics, "line", "table") if not name.endswith(".loss")]
    return found if deciding in found or deciding not in metrics else [*found, deciding]


def metric_columns(metrics: dict, report: dict) -> dict[str, str]:
    return {name: number(metrics[name], name) for name in shown_metrics(metrics, report["metric"])}


def on_train_column(metrics: dict, report: dict) -> dict[str, str]:
    metric = report["metric"]
    return {f"{metric} on train": number(metrics.get(metric), metric)}


EVALUATION = (
    Figure("best", "whether it is the best one", None, lambda best, _: "best" if best else "", ""),
    Figure("step", "after which optimizer step", None, "{}"),
    Figure("epoch", "after how many epochs", None, "{:.2f}"),
    Figure("phase", "phase that the run was in", None, "{}"),
    Figure("seconds", "seconds since the run began"),
    Figure("train_seconds", "seconds in training steps since the evaluation before", None,
           lambda seconds, _: duration(seconds), "training"),
    Figure("train_loss", "mean training loss since the evaluation before", None, "{:.3f}"),
    Figure("metrics.<metric>", "each metric, and the loss, on the development set", None, metric_columns),
    Figure("on_train.<metric>", "the same on a sample of the training set; null without eval.train_sample", None,
           on_train_column),
)  # fmt: skip


def difference(row: dict, other: dict) -> dict[str, float | None]:
    """Each metric of one evaluation less that of another."""
    a, b = row["metrics"], other["metrics"]
    return {name: None if a[name] is None or b.get(name) is None else a[name] - b[name] for name in a}
