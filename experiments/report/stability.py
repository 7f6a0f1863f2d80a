"""Stability of a run: how steadily its training loss fell, and how its gradients behaved.

Where batches differ by more than the threshold, nearly every loss is an oscillation; scatter tells such runs apart. A
loss is the mean over the steps of a record, so only runs whose records stand for as many steps compare.
"""

import numpy as np

from experiments.report.declaration import Figure, unless_zero
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
    """How far losses lie from their own trend: the standard deviation of the residuals around the straight line through
    each window; the mean over all windows. Losses on a line: 0."""
    if len(loss) < 3:
        return None
    windows = windows_of(loss)
    x = np.arange(windows.shape[1]) - (windows.shape[1] - 1) / 2
    centred = windows - windows.mean(1, keepdims=True)
    residuals = centred - np.outer(centred @ x / (x @ x), x)
    return float(np.sqrt((residuals**2).sum(1) / (len(x) - 2)).mean())


def stability(run: Run) -> dict:
    """How steadily the run trained. What is said of losses is null where there are fewer than two.

    per_100_steps: oscillations / steps between the first and the last loss x 100. clipped: the records' shares, each
    weighted by the steps that it stands for. gradient: see there.
    """
    loss, step = run.losses
    found: dict = {"threshold": run.threshold, "losses": len(loss)}
    if len(loss) > 1:
        count, places = oscillations(loss, run.threshold), spikes(loss)
        found |= {
            "records_every": float(np.median(np.diff(step))),
            "oscillations": count,
            "per_100_steps": 100 * count / max(1.0, step[-1] - step[0]),
            "volatility": float(rolling(loss)[1].mean()),
            "scatter": scatter(loss),
            "spikes": len(places),
            "spike_steps": step[places[:5]].astype(int).tolist(),
        }
    share, steps = run.train["clipped"], np.diff(run.train["step"], prepend=0.0)
    known = np.isfinite(share) & (steps > 0)
    events = [record["event"] for record in run.records.of_kind("event")]
    return found | {
        "gradient": gradient(run),
        "clipped": float(share[known] @ steps[known] / steps[known].sum()) if known.any() else None,
        "nonfinite": events.count("nonfinite"),
        "overflows": events.count("overflow"),
    }


def gradient(run: Run) -> dict[str, float] | None:
    """Percentiles over the records of the mean norm before clipping, and the largest norm of all."""
    norm, largest = (run.train[name][np.isfinite(run.train[name])] for name in ("grad_norm", "grad_norm_max"))
    if not len(norm) or not len(largest):
        return None
    found = zip(("p50", "p90", "p99"), np.quantile(norm, (0.5, 0.9, 0.99)).tolist(), strict=True)
    return dict(found) | {"max": float(largest.max())}


def oscillations_text(count: int, report: dict) -> str:
    found = report["stability"]
    return f"{count} in {found['losses'] - 1} changes of the loss, by more than {100 * found['threshold']:g} %"


def gradient_text(found: dict, _) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in found.items())


STABILITY = Figure("stability", "how steadily it trained", stability, parts=(
    Figure("threshold", "the relative change of the loss that counts as an oscillation"),
    Figure("losses", "finite training losses"),
    Figure("records_every", "steps from one loss to the next, median"),
    Figure("oscillations", "changes from one loss to the next that are larger than the threshold", None,
           oscillations_text, note=True),
    Figure("per_100_steps", "oscillations in 100 steps", None, "{:.1f} per 100 steps", "oscillations"),
    Figure("volatility", "mean of the rolling standard deviation of 20 losses, their trend included", None, "{:.3f}",
           note=True),
    Figure("scatter", "the same around the straight line through those 20 losses", None, "{:.3f}", note=True),
    Figure("spikes", "losses above the mean of the 20 before by 3 of their standard deviations and by 10 %", None,
           "{}", note=True),
    Figure("spike_steps[]", "the steps of the first five"),
    Figure("gradient.<percentile>", "p50, p90, p99 and max of the gradient norm before clipping", None, gradient_text,
           "gradient norm"),
    Figure("clipped", "share of the steps in which clipping bit", None, "clipped in {:.0%} of the steps",
           "gradient norm"),
    Figure("nonfinite", "steps skipped because loss or gradient was not finite", None,
           unless_zero("{} steps without a finite loss or gradient"), "not finite"),
    Figure("overflows", "steps skipped because fp16 overflowed", None, unless_zero("{} fp16 overflows"), "not finite"),
))  # fmt: skip
