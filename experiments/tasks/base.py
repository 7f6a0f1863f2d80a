"""What an evaluation finds."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from data.statistics import bootstrap, bootstrap_mean


@dataclass(frozen=True)
class Evaluated:
    """Metrics, and of those that are means over examples the score of each example, in the same unit [N]. other: the
    statistics behind metrics that are not means (macro F1, for one), as functions of the numbers of chosen examples."""

    metrics: dict[str, float]
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    other: dict[str, Callable[[np.ndarray], float]] = field(default_factory=dict)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of each metric that has scores or a statistic."""
        count = max((len(scores) for scores in self.scores.values()), default=0)
        found = {name: bootstrap_mean(scores) for name, scores in self.scores.items()}
        return found | {name: bootstrap(count, statistic) for name, statistic in self.other.items()}

    def named(self, task: str) -> "Evaluated":
        """The same under the names that they have among several tasks: NAME.metric. (Tasks have different examples, so
        there are no joint statistics.)"""
        metrics, scores = ({f"{task}.{key}": v for key, v in values.items()} for values in (self.metrics, self.scores))
        return Evaluated(metrics, scores)
