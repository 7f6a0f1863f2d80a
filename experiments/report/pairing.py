"""Is one row of runs better than another, or is that noise? Tests over development examples, and over runs."""

from pathlib import Path
from typing import Any

import numpy as np

from data.statistics import paired_bootstrap, welch
from experiments.config.metrics import metric_of
from experiments.records import SCORES
from experiments.report.comparison import Comparison, Row
from experiments.report.declaration import look_up

LIKELY = 0.05  # a p below it is called a difference
ENOUGH_RUNS = 3  # in each row, to say that settings do not differ, and not only models
# What tells development sets of the same files apart.
SPLITTING = ("dev", "dev_fraction", "folds", "fold", "dev_limit", "text", "pair", "label")


class Pair:
    """Another row against the first, and the tests of whether their difference is more than noise.

    tests: a paired bootstrap over the development examples, of each row's scores averaged over its seeds (do these
    models differ on such examples?); Welch's t over the runs, where both rows have two or more (would other seeds
    differ as well?). untested: why there is no bootstrap.
    """

    def __init__(self, number: int, first: Row, other: Row):
        self.number, self.first, self.other = number, first, other
        self.tests: list[dict[str, Any]] = []
        self.untested: str | None = None
        scores = paired_scores(first.members, other.members, first.metric)
        if isinstance(scores, str):
            self.untested = scores
        else:
            self.tests.append({"test": "paired bootstrap", "p": paired_bootstrap(*scores), "n": len(scores[0])})
        samples = [row.each(["best", "metrics", first.metric]) for row in (first, other)]
        self.runs = min(map(len, samples))
        if self.runs > 1:
            self.tests.append({"test": "Welch's t", "p": welch(*samples), "n": self.runs})

    def models_differ(self) -> bool | None:
        """Whether the bootstrap has p < 0.05; None where it cannot be made."""
        return None if self.untested else self.tests[0]["p"] < LIKELY

    def settings_differ(self) -> bool | None:
        """Whether every test has p < 0.05, Welch's among them. None where that fails with fewer than three runs in a
        row: they say too little of other seeds to deny a difference, too."""
        differ = all(test["p"] < LIKELY for test in self.tests)
        return differ if self.runs >= ENOUGH_RUNS or (self.runs > 1 and differ) else None

    def verdict(self) -> str:
        """By settings_differ where it is known, else by models_differ."""
        settings, models = self.settings_differ(), self.models_differ()
        if settings:
            return "distinguishable"
        if settings is None and models:
            return "distinguishable as models"
        return "too few runs" if settings is None and models is None else "not distinguishable"

    def ratio(self, path: str) -> float | None:
        """A figure's mean over the other row, divided by that over the first; None where either is unknown or 0."""
        first, other = self.first.over(path), self.other.over(path)
        return other["mean"] / first["mean"] if first and other and first["mean"] else None

    def oscillations_ratio(self) -> float | None:
        """None where a loss stands for more steps in one row than in the other."""
        return self.ratio("stability.per_100_steps") if self.ratio("stability.records_every") == 1 else None


def pairs(comparison: Comparison) -> list[Pair]:
    """Each row of runs that have ended against the first such row; none where the rows are not ranked."""
    ended = [(number, row) for number, row in enumerate(comparison.rows) if row.ended]
    return [Pair(number, ended[0][1], row) for number, row in ended[1:]] if comparison.metric else []


def paired_scores(ours: list[dict], theirs: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray] | str:
    """The score of each development example in two rows of runs, averaged over the runs that were judged on it (folds
    have different ones, and follow one another). Or why there are none."""
    rows, kept = [], bool(metric_of(metric).mean_of)
    for members in (ours, theirs):
        by_set: dict[str, list[np.ndarray]] = {}
        for member in members:
            scores = example_scores(member, metric)
            if scores is None:
                return "its scores of the examples are not there" if kept else f"{metric} is no mean over examples"
            by_set.setdefault(development_set(member), []).append(scores)
        rows.append({key: by_set[key] for key in sorted(by_set)})
    sizes = [[(key, len(scores)) for key, each in row.items() for scores in each] for row in rows]
    if len({frozenset(each) for each in sizes}) > 1:
        return "other development sets"
    first, second = (np.concatenate([np.mean(each, axis=0) for each in row.values()]) for row in rows)
    return first, second


def development_set(summary: dict) -> str:
    """By what two development sets are known to be the same examples in the same order."""
    tasks = summary["spec"]["tasks"].items()
    parts = {name: {key: look_up(task, ["data", key]) for key in SPLITTING} for name, task in tasks}
    digests = {name: splits.get("dev") for name, splits in summary["fingerprints"].items()}
    return repr((sorted(digests.items()), sorted(parts.items())))


def example_scores(summary: dict, metric: str) -> np.ndarray | None:
    """The score of each development example at a run's best evaluation, None where there are none, or not those of the
    evaluation that the records tell of."""
    from safetensors.numpy import load_file

    path = Path(summary["folder"]) / "best" / SCORES
    try:
        scores = load_file(path).get(metric) if path.is_file() else None
    except Exception:  # safetensors raises its own kinds; a file that cannot be read is as good as none
        return None
    told = summary["best"]["metrics"].get(metric)
    return scores if scores is not None and told is not None and abs(scores.mean() - told) < 1e-3 else None
