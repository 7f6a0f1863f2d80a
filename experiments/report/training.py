"""Training of a run: how steadily the loss fell, how the gradients behaved, and what it cost.

Where batches differ by more than the threshold, nearly every loss is an oscillation; scatter tells such runs apart. A
loss is the mean over the steps of a record, so only runs whose records stand for as many steps compare.
"""

import numpy as np

from experiments.report.run import Run

WINDOW = 20  # consecutive losses


def oscillations(loss: np.ndarray, threshold: float) -> int:
    """How many changes between consecutive losses are larger than `threshold` times the earlier one.
    1.00, 1.005, 1.02, 0.9 at 0.01: two (1.005 to 1.02, 1.02 to 0.9)."""
    return int((np.abs(np.diff(loss)) > threshold * np.abs(loss[:-1])).sum())


def windows_of(loss: np.ndarray) -> np.ndarray:
    """Each WINDOW consecutive losses, or all where there are fewer [windows, losses]."""
    return np.lib.stride_tricks.sliding_window_view(loss, min(WINDOW, len(loss)))


def rolling(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation of each window."""
    windows = windows_of(loss)
    return windows.mean(1), windows.std(1, ddof=1)


def spikes(loss: np.ndarray) -> np.ndarray:
    """Places of the losses that are more than three standard deviations, and more than 10 %, above the mean of the
    WINDOW losses before them."""
    if len(loss) <= WINDOW:
        return np.zeros(0, dtype=int)
    mean, sd = rolling(loss[:-1])
    return WINDOW + np.flatnonzero(loss[WINDOW:] > np.maximum(mean + 3 * sd, 1.1 * mean))


def scatter(loss: np.ndarray) -> float | None:
    """Distance of losses from their own trend: the standard deviation of the residuals around the straight line through
    each window; the mean over all windows. Losses on a line: 0."""
    if len(loss) < 3:
        return None
    windows = windows_of(loss)
    x = np.arange(windows.shape[1]) - (windows.shape[1] - 1) / 2
    centred = windows - windows.mean(1, keepdims=True)
    residuals = centred - np.outer(centred @ x / (x @ x), x)
    return float(np.sqrt((residuals**2).sum(1) / (len(x) - 2)).mean())


UNKNOWN = ("records_every", "oscillations", "per_100_steps", "volatility", "scatter", "spikes", "gradient", "clipped")


def stability(run: Run) -> dict:
    """How steadily the run trained. What needs two losses is null where there are fewer.

    per_100_steps: oscillations / steps between the first and the last loss x 100. gradient: percentiles over the
    records of the mean norm before clipping, and the largest norm of all. clipped: the records' shares, each weighted
    by the steps that it stands for.
    """
    known = np.isfinite(run.train["loss"])
    loss, step = run.train["loss"][known], run.train["step"][known]
    found: dict = dict.fromkeys(UNKNOWN) | {"threshold": run.threshold, "losses": len(loss)}
    if len(loss) > 1:
        count = oscillations(loss, run.threshold)
        found |= {
            "records_every": float(np.median(np.diff(step))),
            "oscillations": count,
            "per_100_steps": 100 * count / max(1.0, step[-1] - step[0]),
            "volatility": float(rolling(loss)[1].mean()),
            "scatter": scatter(loss),
            "spikes": len(spikes(loss)),
        }
    norm, largest = (run.train[name][np.isfinite(run.train[name])] for name in ("grad_norm", "grad_norm_max"))
    if len(norm) and len(largest):
        p50, p90, p99 = np.quantile(norm, (0.5, 0.9, 0.99)).tolist()
        found["gradient"] = {"p50": p50, "p90": p90, "p99": p99, "max": float(largest.max())}
    share, steps = run.train["clipped"], np.diff(run.train["step"], prepend=0.0)
    known = np.isfinite(share) & (steps > 0)
    if known.any():
        found["clipped"] = float(share[known] @ steps[known] / steps[known].sum())
    events = [record["event"] for record in run.records.of_kind("event")]
    return found | {"nonfinite": events.count("nonfinite"), "overflows": events.count("overflow")}


def seconds(run: Run) -> dict[str, float]:
    """Seconds in each part of the run, by the clock of its last evaluation or its end. After the last evaluation of a
    run that goes on there are train records only, so its training is the sum of tokens / tokens per second."""
    clocks = [record["clock"] for record in (*run.records.of_kind("eval"), run.end) if record]
    found = {"total": run.records.seconds, **(clocks[-1] if clocks else {})}
    return found if run.end else found | {"train": float(run.train_seconds.sum())}


def throughput(run: Run) -> dict[str, float] | None:
    """Speed over the train records with tokens, None where there are none.

    tokens_per_second: sum of tokens / sum of seconds, the making of batches included. median: over the records.
    padding: 1 - real tokens / all tokens computed; 80 real tokens of 100: 0.2.
    """
    used = run.train["tokens"] > 0
    if not used.any():
        return None
    tokens, rate, padding = (run.train[name][used] for name in ("tokens", "tokens_per_second", "padding"))
    spent = run.train_seconds[used].sum()
    return {
        "tokens_per_second": float(tokens.sum() / spent),
        "median": float(np.median(rate)),
        "examples_per_second": float(run.train["examples"][used].sum() / spent),
        "padding": float(1 - tokens.sum() / (tokens / (1 - padding)).sum()),
    }
