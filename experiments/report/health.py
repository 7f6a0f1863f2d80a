"""Health of a run: did it learn or only memorise, and how sure are its figures?"""

import numpy as np

from data.statistics import wilson
from experiments.config.metrics import direction, metric_of, number
from experiments.report.declaration import Figure, look_up
from experiments.report.run import Run

# ---- generalisation --------------------------------------------------------------------------------------------------

RISE, FALL = 0.02, 0.05  # of the dev loss: what counts as worse again, and as still getting better
LEARNT = 0.5  # of the first training loss: a run that ends above it has hardly learnt its training set


def generalisation(run: Run) -> dict | None:
    """Training against development; None before the first evaluation.

    footing     "same" where both losses are measured in evaluation mode, because the run evaluates a sample of the
                training set too (eval.train_sample); else "training mode"
    learnt      1 - last training loss / first training loss; from 4.0 to 1.0: 0.75
    gap         dev loss less training loss
    metric_gap  by how much eval.metric is better on the sample of the training set than on the development set
    change      the last losses less those at the lowest dev loss
    verdict     see verdict_of
    """
    same = all(look_up(row, "on_train.loss") is not None for row in run.evaluations)
    rows = courses(run, same)
    if not rows:
        return None
    lowest, last = min(rows, key=lambda row: row["loss"]), rows[-1]
    losses, _ = run.losses
    learnt = 1 - last["train_loss"] / float(losses[0]) if len(losses) and losses[0] else None
    verdict = verdict_of(run, rows, lowest, learnt)
    pairs = [(look_up(row, ["on_train", run.metric]), row["metrics"].get(run.metric)) for row in run.evaluations]
    ahead = [direction(run.metric) * (a - b) for a, b in pairs if same and a is not None and b is not None]
    gaps = [row["loss"] - row["train_loss"] for row in rows]
    remarks = dev_below_train(run.spec, same) if gaps[-1] < 0 or (ahead and ahead[-1] < 0) else []
    if verdict == "healthy" and rises(lowest, last):
        risen = f"the dev loss has risen since step {lowest['step']} while {run.metric} got better"
        remarks.append(f"{risen}: the model is surer, of its mistakes too")
    return {
        "verdict": verdict,
        "since": lowest["step"] if verdict == "overfitting" else None,
        "learnt": learnt,
        "last_fall": rows[-2]["loss"] - last["loss"] if len(rows) > 1 else None,
        "footing": "same" if same else "training mode",
        "gap": {"first": gaps[0], "last": gaps[-1]},
        "metric_gap": {"first": ahead[0], "last": ahead[-1]} if ahead else None,
        "change": {key: last[key] - lowest[key] for key in ("loss", "train_loss")},
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


def verdict_of(run: Run, rows: list[dict], lowest: dict, learnt: float | None) -> str:
    """Overfitting, underfitting, healthy, diverged or unknown, by this rule:

    diverged       the run ended so, or its last dev loss is not finite
    unknown        fewer than two evaluations
    overfitting    the dev loss has risen by more than 2 % since its lowest evaluation, the training loss has fallen
                   since, and eval.metric is no better than it was there
    underfitting   the run has ended, and its training loss fell by less than half. Or the run has ended, the dev loss
                   fell by more than 5 % in the last interval, and eval.metric got better by more than half of its 95 %
                   interval
    healthy        none of these
    """
    if run.status == "diverged" or run.final["metrics"].get("loss") is None:
        return "diverged"
    if len(rows) < 2:
        return "unknown"
    before, last = rows[-2:]
    if rises(lowest, last) and not (gained(lowest, last) or 0) > 0:
        return "overfitting"
    if run.status == "unfinished":
        return "healthy"  # so far: it was meant to go on
    better = gained(before, last)
    falls = before["loss"] - last["loss"] > FALL * before["loss"]
    falls = falls and (better is None or better > (half_interval(run) or 0))
    return "underfitting" if falls or (learnt is not None and learnt < LEARNT) else "healthy"


def rises(lowest: dict, last: dict) -> bool:
    """Whether the dev loss has risen since its lowest while the training loss has fallen."""
    return last["loss"] - lowest["loss"] > RISE * lowest["loss"] and last["train_loss"] < lowest["train_loss"]


def gained(since: dict, last: dict) -> float | None:
    """By how much eval.metric got better since an evaluation."""
    return None if last["score"] is None or since["score"] is None else last["score"] - since["score"]


def dev_below_train(spec: dict, same: bool) -> list[str]:
    if same:
        sample = look_up(spec, "eval.train_sample")
        return [f"both are evaluated alike: an easier development set, or chance (the training sample has {sample})"]
    reasons = ["training loss is measured with dropout on, and while the weights still move"]
    tasks = spec["tasks"].values()
    if any(look_up(task, "loss.label_smoothing") for task in tasks):
        reasons.append("training loss includes label smoothing")
    weighted = (look_up(task, "loss.class_weights") not in (None, "none") for task in tasks)
    if any(weighted) or any(look_up(task, "loss.label_weights") for task in tasks):
        reasons.append("training loss is weighted by class")
    if any(look_up(task, "data.mask_tokens") for task in tasks):
        reasons.append("training sees masked texts")
    return reasons


def verdict_text(found: str, report: dict) -> str:
    return f"{found} so far" if report["status"] == "unfinished" else found


def gap_text(gap: dict, report: dict) -> str:
    mode = "evaluation" if report["generalisation"]["footing"] == "same" else "training"
    return f"dev loss - training loss {gap['first']:+.3f} first, {gap['last']:+.3f} last, training loss in {mode} mode"


def metric_gap_text(gap: dict, report: dict) -> str:
    first, last = (number(gap[end], report["metric"], "+") for end in ("first", "last"))
    return f"{report['metric']} on the training sample - on dev {first} first, {last} last"


def change_text(change: dict, _) -> str:
    return f"dev loss {change['loss']:+.3f}, training loss {change['train_loss']:+.3f}" if change["loss"] else ""


GENERALISATION = Figure("generalisation", "training against development, null before the first evaluation",
                        generalisation, parts=(
    Figure("verdict", "overfitting: the dev loss rose by more than 2 % while the training loss fell and eval.metric "
           "got no better; underfitting: the run ended, and the training loss fell by less than half, or in the last "
           "interval the dev loss fell by more than 5 % and eval.metric got better by more than half of its "
           "95 % interval; otherwise healthy, diverged, or unknown (a single evaluation)", None, verdict_text,
           note=True),
    Figure("since", "the step since which it overfits", None, "since step {}", "verdict"),
    Figure("learnt", "1 - last training loss / first training loss"),
    Figure("last_fall", "by how much the dev loss fell in the last interval"),
    Figure("gap.<end>", "dev loss less training loss, at the first and the last evaluation", None, gap_text, "gap"),
    Figure("footing", "same: both losses are measured in evaluation mode; or training mode"),
    Figure("metric_gap.<end>", "how much better eval.metric is on the training sample than on dev, first and last; "
           "null without a sample", None, metric_gap_text, "metric gap"),
    Figure("change.<loss>", "the last dev and training losses less those at the lowest dev loss", None, change_text,
           "since lowest"),
    Figure("remarks[]", "why dev comes out better than training, or the loss contradicts the metric", None,
           lambda found, _: found, "mind"),
))  # fmt: skip

# ---- how sure --------------------------------------------------------------------------------------------------------


def dev_examples(run: Run) -> dict[str, int]:
    """The number of development examples of each task."""
    splits = run.start["data"]["splits"]
    return {task: found["dev"]["examples"] for task, found in splits.items() if "dev" in found}


def intervals(run: Run) -> dict[str, dict]:
    """95 % interval of each metric at the best evaluation: by bootstrap where the run has computed one, else Wilson's
    for metrics that are shares of examples. 90.0 of 100 examples: 82.6 to 94.5."""
    counts, found = dev_examples(run), {}
    for name, value in run.best["metrics"].items():
        task, _, last = name.rpartition(".")
        count = counts.get(task) if task else next(iter(counts.values()), None)
        given = look_up(run.best_record, ["intervals", name])
        if isinstance(given, list) and len(given) == 2 and all(isinstance(end, int | float) for end in given):
            found[name] = {"low": given[0], "high": given[1], "by": "bootstrap"}
        elif metric_of(last).mean_of == "hits" and count and value is not None and 0 <= value <= 100:
            low, high = wilson(value / 100, count)
            found[name] = {"low": 100 * low, "high": 100 * high, "by": "Wilson"}
    return found


def half_interval(run: Run) -> float | None:
    """Half of the 95 % interval of eval.metric at the best evaluation."""
    found = intervals(run).get(run.metric) if run.best else None
    return None if found is None else (found["high"] - found["low"]) / 2


def every_steps(run: Run) -> float:
    return float(np.median(np.diff([0, *(record["step"] for record in run.dev_records)])))


def examples_text(counts: dict[str, int], _) -> str:
    return "on " + ", ".join(f"{count:,} examples of {task}" for task, count in counts.items())


COVERAGE = Figure("coverage", "how often and on how much it was judged, null before the first evaluation",
                  lambda run: run if run.best else None, parts=(
    Figure("evaluations", "how many there were", lambda run: len(run.dev_records), "{} evaluations", "coverage"),
    Figure("every_steps", "steps from one to the next, median", every_steps, "{:.0f} steps apart", "coverage"),
    Figure("examples.<task>", "development examples", dev_examples, examples_text, "coverage"),
    Figure("intervals.<metric>", "95 % interval of a metric at the best evaluation", intervals, parts=(
        Figure("low", "its lower end"), Figure("high", "its upper end"),
        Figure("by", "bootstrap over the examples, or Wilson"),
    )),
))  # fmt: skip
