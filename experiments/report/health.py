"""Did a run learn, or only memorise; did it learn steadily; and how sure are its figures? Each with its rule.

Losses here are those of train records, see experiments/report/analysis.py.
"""

import numpy as np

from data.statistics import wilson
from experiments.config.spec import direction
from experiments.report.diary import Diary

# ---- generalisation --------------------------------------------------------------------------------------------------

RISE, FALL = 0.02, 0.05  # of the dev loss: what counts as worse again, and as still getting better
LEARNT = 0.5  # of the first training loss: a run that ends above it has hardly learnt its training set


def generalisation(
    table: list[dict], spec: dict, status: str, half: float | None, first_loss: float | None
) -> dict | None:
    """Training against development, and a verdict by this rule:

    diverged       the run ended so, or its last dev loss is not finite
    overfitting    the dev loss has risen by more than 2 % since its lowest evaluation, the training loss has fallen
                   since, and eval.metric is no better than it was there. `since` is that evaluation's step.
    underfitting   the run has ended, and its training loss is still above half of the first in the diary (`learnt`, one
                   less the ratio of both, is below 0.5), or the dev loss still fell by more than 5 % from the last
                   evaluation but one to the last and eval.metric got better by more than `half` of its 95 % interval
    healthy        none of these
    unknown        fewer than two evaluations

    The training loss is that of a sample of the training set in evaluation mode where the run has evaluated one
    (eval.train_sample; `footing` "same"), else that of training (`footing` "training mode").

    gap: dev loss less training loss, at the first and the last evaluation. metric_gap: by how much eval.metric is
    better on the sample of the training set than on the development set; null without a sample. remarks: why a
    development set can come out better than training, and where the loss says something else than the metric.
    """
    metric, rows, train_loss = spec["eval"]["metric"], [], None
    same = all(row["on_train"] and row["on_train"].get("loss") is not None for row in table)
    for row in table:
        now = row["on_train"]["loss"] if same else row["train_loss"]
        train_loss = train_loss if now is None else now  # an evaluation right after another has none of its own
        if row.get("loss") is not None and train_loss is not None:
            score = None if row.get(metric) is None else direction(metric) * row[metric]
            rows.append({"step": row["step"], "train_loss": train_loss, "loss": row["loss"], "score": score})
    if not rows:
        return None
    lowest, last = min(rows, key=lambda row: row["loss"]), rows[-1]
    change = {key: last[key] - lowest[key] for key in ("train_loss", "loss")}
    diverged = status == "diverged" or table[-1].get("loss") is None
    learnt = 1 - last["train_loss"] / first_loss if first_loss else None
    verdict = "diverged" if diverged else verdict_of(rows, lowest, half, learnt)
    if verdict == "underfitting" and status == "unfinished":
        verdict = "healthy"  # so far: it was meant to go on
    gaps = [row["loss"] - row["train_loss"] for row in rows]
    ahead = [
        direction(metric) * (row["on_train"][metric] - row[metric])
        for row in table
        if same and row.get(metric) is not None and row["on_train"].get(metric) is not None
    ]
    remarks = dev_below_train(spec, same) if gaps[-1] < 0 or (ahead and ahead[-1] < 0) else []
    if verdict == "healthy" and rises(lowest, last):
        remarks.append(
            f"the dev loss has risen since step {lowest['step']} while {metric} got better: surer, of its mistakes too"
        )
    return {
        "verdict": verdict,
        "since": lowest["step"] if verdict == "overfitting" else None,
        "change": change,
        "learnt": learnt,
        "last_fall": rows[-2]["loss"] - last["loss"] if len(rows) > 1 else None,
        "footing": "same" if same else "training mode",
        "gap": {"first": gaps[0], "last": gaps[-1]},
        "metric_gap": {"first": ahead[0], "last": ahead[-1]} if ahead else None,
        "remarks": remarks,
    }


def rises(lowest: dict, last: dict) -> bool:
    """Whether the dev loss has risen since its lowest while the training loss has fallen."""
    return last["loss"] - lowest["loss"] > RISE * lowest["loss"] and last["train_loss"] < lowest["train_loss"]


def verdict_of(rows: list[dict], lowest: dict, half: float | None, learnt: float | None) -> str:
    """See `generalisation`."""
    if len(rows) < 2:
        return "unknown"
    before, last = rows[-2:]

    def gained(since: dict) -> float | None:
        return None if last["score"] is None or since["score"] is None else last["score"] - since["score"]

    if rises(lowest, last) and not (gained(lowest) or 0) > 0:
        return "overfitting"
    better = gained(before)
    if learnt is not None and learnt < LEARNT:
        return "underfitting"
    if before["loss"] - last["loss"] > FALL * before["loss"] and (better is None or better > (half or 0)):
        return "underfitting"
    return "healthy"


def dev_below_train(spec: dict, same: bool) -> list[str]:
    """Why the development set may come out better than training."""
    if same:
        sample = spec["eval"].get("train_sample")
        return [f"both are evaluated alike: an easier development set, or chance (the training sample has {sample})"]
    reasons = ["training loss is measured with dropout on, and while the weights still move"]
    losses = [task["loss"] for task in (spec.get("tasks") or {}).values()] or [spec.get("loss", {})]
    if any(loss.get("label_smoothing") for loss in losses):
        reasons.append("training loss includes label smoothing")
    if any(loss.get("class_weights", "none") != "none" or loss.get("label_weights") for loss in losses):
        reasons.append("training loss is weighted by class")
    data = [task["data"] for task in (spec.get("tasks") or {}).values()] or [spec.get("data", {})]
    if any(each.get("mask_tokens") for each in data):
        reasons.append("training sees masked texts")
    return reasons


# ---- stability -------------------------------------------------------------------------------------------------------

WINDOW = 20  # consecutive losses


def oscillations(loss: np.ndarray, threshold: float) -> int:
    """How many changes between consecutive losses are larger than `threshold` times the earlier one.
    1.00, 1.005, 1.02, 0.9 at 0.01: two (1.005 to 1.02, 1.02 to 0.9)."""
    return int((np.abs(np.diff(loss)) > threshold * np.abs(loss[:-1])).sum())


def windows_of(loss: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """How many losses a window has (WINDOW, or all where there are fewer), and of each window the mean and the sum of
    the squared deviations from it [N - count + 1]. By sums: a diary may have 100,000 losses."""
    count, level = min(WINDOW, len(loss)), loss.mean()
    ones, centred = np.ones(count), loss - level  # squares of what is near 0 lose no digits
    mean = np.convolve(centred, ones, "valid") / count
    squares = np.convolve(centred * centred, ones, "valid") - count * mean * mean
    return count, mean + level, np.maximum(squares, 0)


def rolling(loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation of each WINDOW consecutive losses, of all of them where there are fewer."""
    count, mean, squares = windows_of(loss)
    return mean, np.sqrt(squares / (count - 1))


def spikes(loss: np.ndarray) -> np.ndarray:
    """Places of the losses that are more than three standard deviations, and more than 10 %, above the mean of the
    WINDOW losses before them."""
    if len(loss) <= WINDOW:
        return np.zeros(0, dtype=int)
    mean, sd = rolling(loss[:-1])
    return WINDOW + np.flatnonzero(loss[WINDOW:] > np.maximum(mean + 3 * sd, 1.1 * mean))


def scatter(loss: np.ndarray) -> float | None:
    """How far losses lie from their own trend: the standard deviation of the residuals around the straight line through
    WINDOW consecutive losses (all, where there are fewer); the mean over all such windows."""
    if len(loss) < 3:
        return None
    count, _, squares = windows_of(loss)
    x = np.arange(count) - (count - 1) / 2
    slope = np.convolve(loss - loss.mean(), x[::-1], "valid") / (x @ x)
    residuals = np.maximum(squares - slope**2 * (x @ x), 0)
    return float(np.sqrt(residuals / (count - 2)).mean())


LOSS_FIGURES = ("records_every", "oscillations", "per_100_steps", "volatility", "scatter", "spikes", "spike_steps")


def stability(diary: Diary, threshold: float) -> dict:
    """How steadily the loss fell. With fewer than two finite losses, what is said of losses is null.

    oscillations: see there; per_100_steps: divided by the steps between the first and the last loss, times 100. Where
    batches differ more than the threshold, nearly every loss is one: scatter tells such runs apart.
    volatility: the mean of the rolling standard deviation (window 20) of the losses, their trend included.
    scatter: the same around the trend, see there.
    spikes: see there, and the steps of the first few. records_every: steps between two losses (a longer interval
    averages over more steps, so only runs that log equally often compare).
    gradient: percentiles of the records' mean norm before clipping, and the largest norm of all; clipped: share of
    the steps in which clipping bit. nonfinite, overflows: events.
    """
    known = np.isfinite(diary.train["loss"])
    loss, step = diary.train["loss"][known], diary.train["step"][known]
    events = [record["event"] for record in diary.of_kind("event")]
    found = {"threshold": threshold, "losses": len(loss), **dict.fromkeys(LOSS_FIGURES)}
    if len(loss) > 1:
        steps = max(1.0, step[-1] - step[0])
        count, places = oscillations(loss, threshold), spikes(loss)
        found |= {
            "records_every": float(np.median(np.diff(step))),
            "oscillations": count,
            "per_100_steps": 100 * count / steps,
            "volatility": float(rolling(loss)[1].mean()),
            "scatter": scatter(loss),
            "spikes": len(places),
            "spike_steps": step[places[:5]].astype(int).tolist(),
        }
    return found | {
        "gradient": gradient(diary),
        "clipped": clipped(diary),
        "nonfinite": events.count("nonfinite"),
        "overflows": events.count("overflow"),
    }


def gradient(diary: Diary) -> dict[str, float] | None:
    norm, largest = (diary.train[name] for name in ("grad_norm", "grad_norm_max"))
    norm, largest = norm[np.isfinite(norm)], largest[np.isfinite(largest)]
    if not len(norm) or not len(largest):
        return None
    names = ("p50", "p90", "p99")
    return dict(zip(names, np.quantile(norm, (0.5, 0.9, 0.99)).tolist(), strict=True)) | {"max": float(largest.max())}


def clipped(diary: Diary) -> float | None:
    """Share of the steps in which clipping bit: the records' shares, each by the steps that it stands for."""
    share, steps = diary.train["clipped"], np.diff(diary.train["step"], prepend=0.0)
    known = np.isfinite(share) & (steps > 0)
    return float(share[known] @ steps[known] / steps[known].sum()) if known.any() else None


# ---- how sure --------------------------------------------------------------------------------------------------------

OF_EXAMPLES = ("exact", "accuracy")  # shares of examples, which Wilson's interval is for


def coverage(best: dict | None, records: list[dict], splits: dict) -> dict | None:
    """How often and on how much the run was judged, and how sure that is: for each metric of the best evaluation its
    95 % interval, from the run itself where it has computed one by bootstrap (`intervals`), else Wilson's, for shares
    of examples."""
    if best is None:
        return None
    examples = {name: counts["examples"] for name, counts in splits.items() if name.endswith("dev")}
    steps = [record["step"] for record in records]
    intervals = {}
    for name, value in best["metrics"].items():
        task, _, last = name.rpartition(".")
        count = examples.get(f"{task} dev".strip())
        given = (best.get("intervals") or {}).get(name)
        if given is not None and len(given) == 2 and None not in given:
            intervals[name] = {"low": given[0], "high": given[1], "by": "bootstrap"}
        elif last in OF_EXAMPLES and count and value is not None and 0 <= value <= 100:
            low, high = wilson(value / 100, count)
            intervals[name] = {"low": 100 * low, "high": 100 * high, "by": "Wilson"}
    every = float(np.median(np.diff([0, *steps])))
    return {"evaluations": len(records), "every_steps": every, "examples": examples, "intervals": intervals}
