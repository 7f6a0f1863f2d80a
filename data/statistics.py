"""Confidence intervals of shares and means, and tests of whether a difference is more than noise."""

import math
from collections.abc import Callable

import numpy as np

RESAMPLES = 1000  # for an interval
RESAMPLES_OF_PAIRS = 5000  # for a p: enough to tell 0.05 from 0.06


def wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `count` independent examples (Wilson 1927):
    (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n). 90 of 100: 0.826 to 0.945."""
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre - half) / (1 + z * z / count), (centre + half) / (1 + z * z / count)


def bootstrap_mean(scores: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of per-example scores [N], over 1,000 resamples (Efron 1979)."""
    return bootstrap(len(scores), lambda chosen: scores[chosen].mean(), seed)


def paired_bootstrap(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of "a and b have the same mean", for scores of the same examples [N]: twice the smaller share of
    5,000 resamples in which the difference of the means has either sign, and never below 1/5,000 (Koehn 2004), nor
    below what the examples that differ can show: all 3 of 3 on one side happen by chance in 2 x 1/8 of all cases."""
    floor = 2.0 ** (1 - int((a != b).sum()))
    differences = _resampled(len(a), lambda chosen: (a - b)[chosen].mean(), seed, RESAMPLES_OF_PAIRS)
    smaller = min((differences <= 0).mean(), (differences >= 0).mean())
    return float(min(1.0, max(2 * smaller, floor, 1 / RESAMPLES_OF_PAIRS)))


def bootstrap(count: int, statistic: Callable[[np.ndarray], float], seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of any statistic of `count` examples, a function of the resampled ones' numbers."""
    low, high = np.quantile(_resampled(count, statistic, seed, RESAMPLES), (0.025, 0.975))
    return float(low), float(high)


def _resampled(count: int, statistic: Callable[[np.ndarray], float], seed: int, resamples: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.array([statistic(random.integers(0, count, count)) for _ in range(resamples)])


def welch(a: list[float], b: list[float]) -> float:
    """Two-sided p of "a and b have the same mean" by Welch's t test, for samples of at least two values each. 1 where
    neither varies and both are equal, 0 where they differ."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    variances = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if sum(variances) == 0:
        return float(x.mean() == y.mean())
    t = abs(x.mean() - y.mean()) / math.sqrt(sum(variances))
    freedom = sum(variances) ** 2 / sum(v * v / (len(s) - 1) for v, s in zip(variances, (x, y), strict=True))
    return 2 * t_tail(t, freedom)


def t_tail(t: float, freedom: float) -> float:
    """P(T > t) of Student's t distribution, t >= 0, by the trapezoid rule.

    With T = √freedom tan(u), the density becomes cos(u)^(freedom - 1) up to a factor, over a finite range and smooth
    enough for 20,000 points to be right to six digits (tests/data/test_statistics.py compares with scipy).
    """
    u = np.linspace(math.atan(t / math.sqrt(freedom)), math.pi / 2, 20_001)
    density = np.exp((freedom - 1) * np.log(np.maximum(np.cos(u), 1e-300)))
    log_factor = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(math.pi)
    area = ((density[1:] + density[:-1]) * np.diff(u)).sum() / 2
    return float(area * math.exp(log_factor))
