"""Progress of a run: its epochs and phases, training against development, and how sure that is."""

import numpy as np

from data.statistics import wilson
from experiments.config.metrics import direction, metric_of
from experiments.records import look_up
from experiments.report.run import Run
from experiments.report.soundness import unsound

RISE, FALL = 0.02, 0.05  # of the dev loss: what counts as worse again, and as still getting better
LEARNT = 0.5  # of the first training loss: a run that ends above it has hardly learnt its training set

# ---- evaluations, epochs and phases ----------------------------------------------------------------------------------


def difference(row: dict, other: dict) -> dict[str, float | None]:
    """Each metric of one evaluation less that of another."""
    a, b = row["metrics"], other["metrics"]
    return {name: None if a[name] is None or b.get(name) is None else a[name] - b[name] for name in a}


def after_best(run: Run) -> dict | None:
    """What came after the best evaluation: evaluations, optimizer steps, seconds of training, and their share of all
    training. A run that had stopped at its best would have saved as much."""
    if not run.best:
        return None
    later = [row for row in run.evaluations if row["step"] > run.best["step"]]
    seconds, total = (sum(row["train_seconds"] for row in rows) for rows in (later, run.evaluations))
    steps = run.final["step"] - run.best["step"]
    share = seconds / total if total else 0.0
    return {"evaluations": len(later), "steps": steps, "seconds": seconds, "share": share}


def stretch(run: Run, chosen: np.ndarray, after: int, until: int) -> dict:
    """The steps after < step <= until of a run. chosen: the places of their train records.

    seconds: the sum of tokens / tokens per second. evaluation: the last one.
    """
    return {
        "train_loss": run.mean_loss(chosen),
        "seconds": float(run.train_seconds[chosen].sum()),
        "evaluation": run.evaluation_between(after, until),
    }


def epochs(run: Run) -> list[dict]:
    """Epoch n holds the records of n - 1 < epoch <= n. The last one may be part of an epoch."""
    found, after = [], 0
    count = np.ceil(run.train["epoch"] - 1e-6)
    order = np.argsort(count, kind="stable")
    numbers, begins = np.unique(count[order], return_index=True)
    for epoch, chosen in zip(numbers, np.split(order, begins[1:]), strict=False):  # of no records, one empty piece
        if epoch >= 1:
            until = int(run.train["step"][chosen[-1]])
            found.append({"epoch": int(epoch), **stretch(run, chosen, after, until)})
            after = until
    return found


def phases(run: Run) -> list[dict]:
    """A phase lasts until the next one begins. change: each metric at its last evaluation less its value at the last
    evaluation before the phase."""
    records, found = run.records.of_kind("phase"), []
    ends = [*(record["step"] for record in records[1:]), run.records.step]
    for record, until in zip(records, ends, strict=False):
        after, parameters = record["step"], sum(row["parameters"] for row in record["trains"])
        course = stretch(run, run.between(after, until), after, until)
        before = run.evaluation_between(-1, after)
        change = difference(course["evaluation"], before) if before and course["evaluation"] else None
        share = parameters / run.start["parameters"]
        phase = {"phase": record["name"], "planned": record["steps"], "parameters": parameters, "share": share}
        found.append(phase | course | {"change": change})
    return found


# ---- training against development ------------------------------------------------------------------------------------


def generalisation(run: Run) -> dict | None:
    """Training against development; None before the first evaluation.

    footing: "same" where both losses are measured in evaluation mode, because the run evaluates a sample of the
    training set too (eval.train_sample). learnt: 1 - last training loss / first; from 4.0 to 1.0: 0.75. gap: dev loss
    less training loss. metric_gap: how much better eval.metric is on the sample. verdict: see verdict_of. unsound: see
    soundness.py.
    """
    if not run.evaluations:
        return None
    same = all(look_up(row, "on_train.loss") is not None for row in run.evaluations)
    rows, wrong = courses(run, same), unsound(run)
    lowest = min(rows, key=lambda row: row["loss"], default=None)
    losses = run.train["loss"][np.isfinite(run.train["loss"])]
    learnt = 1 - rows[-1]["train_loss"] / float(losses[0]) if rows and len(losses) and losses[0] else None
    verdict = verdict_of(run, rows, lowest, learnt, wrong[0] if wrong else None)
    pairs = [(look_up(row, ["on_train", run.metric]), row["metrics"].get(run.metric)) for row in run.evaluations]
    ahead = [direction(run.metric) * (a - b) for a, b in pairs if same and a is not None and b is not None]
    gaps = [row["loss"] - row["train_loss"] for row in rows]
    below = EASY.format(look_up(run.spec, "eval.train_sample")) if same else DROPOUT
    remarks = [wrong[1]] if wrong else []
    remarks += [below] if any(gap < 0 for gap in gaps[-1:] + ahead[-1:]) else []
    if verdict == "healthy" and lowest and rises(lowest, rows[-1]):
        risen = f"the dev loss has risen since step {lowest['step']} while {run.metric} got better"
        remarks.append(f"{risen}: the model is surer, of its mistakes too")
    return {
        "verdict": verdict,
        "since": lowest["step"] if lowest and verdict == "overfitting" else None,
        "learnt": learnt,
        "last_fall": rows[-2]["loss"] - rows[-1]["loss"] if len(rows) > 1 else None,
        "footing": "same" if same else "training mode",
        "gap": {"first": gaps[0], "last": gaps[-1]} if gaps else None,
        "metric_gap": {"first": ahead[0], "last": ahead[-1]} if ahead else None,
        "unsound": wrong[1] if wrong else None,
        "remarks": remarks,
    }


def courses(run: Run, same: bool) -> list[dict]:
    """step, train_loss, loss and score of each evaluation with both losses. A higher score is better."""
    rows, train_loss = [], None
    for row in run.evaluations:
        now = row["on_train"]["loss"] if same else row["train_loss"]
        train_loss = train_loss if now is None else now  # an evaluation right after another has none of its own
        loss, score = row["metrics"].get("loss"), row["metrics"].get(run.metric)
        if loss is not None and train_loss is not None:
            score = None if score is None else direction(run.metric) * score
            rows.append({"step": row["step"], "train_loss": train_loss, "loss": loss, "score": score})
    return rows


def verdict_of(run: Run, rows: list[dict], lowest: dict | None, learnt: float | None, wrong: str | None) -> str:
    """Overfitting, underfitting and what is unsound as figures.WORDS has them; diverged where the run or its last dev
    loss did; unknown of one evaluation; else healthy. A run that goes on is not underfitting. wrong: the verdict of
    soundness.py, if it has one."""
    if run.status == "diverged" or run.final["metrics"].get("loss") is None:
        return "diverged"
    if wrong or lowest is None or len(rows) < 2:
        return wrong or "unknown"
    before, last = rows[-2:]
    if rises(lowest, last) and not (gained(lowest, last) or 0) > 0:
        return "overfitting"
    if run.status == "unfinished":
        return "healthy"  # so far: it was meant to go on
    better, sure = gained(before, last), half_interval(interval(run)) or 0
    falls = before["loss"] - last["loss"] > FALL * before["loss"] and (better is None or better > sure)
    if learnt is not None and learnt < LEARNT:
        return "underfitting"
    return "still improving" if falls else "healthy"


def rises(lowest: dict, last: dict) -> bool:
    """Whether the dev loss has risen since its lowest while the training loss has fallen."""
    return last["loss"] - lowest["loss"] > RISE * lowest["loss"] and last["train_loss"] < lowest["train_loss"]


def gained(since: dict, last: dict) -> float | None:
    """By how much eval.metric got better since an evaluation."""
    return None if last["score"] is None or since["score"] is None else last["score"] - since["score"]


EASY = "both are evaluated alike: an easier development set, or chance (the training sample has {})"
DROPOUT = "training loss is measured with dropout on, while the weights still move, with any smoothing and weights"

# ---- how sure --------------------------------------------------------------------------------------------------------


def interval(run: Run) -> dict | None:
    """95 % interval of eval.metric at the best evaluation: by bootstrap where the run has computed one, else Wilson's
    for metrics that are shares of examples. 90.0 of 100 examples: 82.6 to 94.5."""
    if not run.best:
        return None
    counts, value, (task, _, last) = dev_examples(run), run.best["metrics"][run.metric], run.metric.rpartition(".")
    count = counts.get(task) if task else next(iter(counts.values()), None)
    given = look_up(run.best_record, ["intervals", run.metric])
    # Where all examples are alike, all resamples are too: no interval.
    if isinstance(given, list) and None not in given and given[0] < given[1]:
        return {"low": given[0], "high": given[1], "by": "bootstrap"}
    if metric_of(last).mean_of == "hits" and count and 0 <= value <= 100:
        low, high = wilson(value / 100, count)
        return {"low": 100 * low, "high": 100 * high, "by": "Wilson"}
    return None


def half_interval(found: dict | None) -> float | None:
    return (found["high"] - found["low"]) / 2 if found else None


def dev_examples(run: Run) -> dict[str, int]:
    """The number of development examples of each task."""
    splits = run.start["data"]["splits"]
    return {task: found["dev"]["examples"] for task, found in splits.items() if "dev" in found}
