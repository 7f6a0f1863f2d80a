"""Progress of a run: its evaluations with the best one, its epochs, its phases."""

import numpy as np

from experiments.config.metrics import number
from experiments.report.declaration import Figure, Section, look_up, unless_zero
from experiments.report.run import EVALUATION, Run, difference, shown_metrics
from experiments.terminal import amount, duration

# ---- evaluations -----------------------------------------------------------------------------------------------------


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


def best_text(best: dict, report: dict) -> str:
    """ "f1 79.3, 95 % interval 76.0 to 82.4 (bootstrap), at step 514, epoch 2.00, all-layers" """
    metric = report["metric"]
    interval = look_up(report, ["coverage", "intervals", metric])
    sure = ""
    if interval:
        low, high = (number(interval[end], metric) for end in ("low", "high"))
        sure = f"95 % interval {low} to {high} ({interval['by']}), "
    where = f"at step {best['step']}, epoch {best['epoch']:.2f}, {best['phase']}"
    return f"{metric} {number(best['metrics'][metric], metric)}, {sure}{where}"


def difference_text(change: dict, report: dict) -> str:
    """ "loss +0.300, f1 -5.0"; nothing where the last evaluation is the best one."""
    if report["final"]["step"] == report["best"]["step"]:
        return ""
    return ", ".join(f"{name} {number(change[name], name, '+')}" for name in shown_metrics(change, report["metric"]))


EVALUATIONS = Section("Evaluations", (
    Figure("evaluations[]", "an evaluation of the development set", lambda run: run.evaluations,
           parts=EVALUATION),
    Figure("best", "the best of the evaluations by eval.metric, null where there is none", lambda run: run.best,
           best_text),
    Figure("final", "the last of the evaluations, null where there is none", lambda run: run.final),
    Figure("final_minus_best.<metric>", "the last value less the one at the best evaluation",
           lambda run: difference(run.final, run.best) if run.best else None, difference_text, "final - best"),
    Figure("after_best", "what came after the best evaluation, null where there is none", after_best, parts=(
        Figure("evaluations", "how many of them", None, unless_zero("{} evaluations"), "after best"),
        Figure("steps", "optimizer steps", None, unless_zero("{} steps"), "after best"),
        Figure("seconds", "seconds of training", None, lambda s, _: f"{duration(s)} of training" if s else "",
               "after best"),
        Figure("share", "share of all training, which stopping at the best would have saved", None,
               unless_zero("{:.0%} of it all, saved by stopping there"), "after best"),
    )),
))  # fmt: skip

# ---- epochs and phases -----------------------------------------------------------------------------------------------


def stretch(run: Run, chosen: np.ndarray, after: int, until: int) -> dict:
    """The steps after < step <= until of a run. chosen: their train records, bool [N].

    train_loss: see Run.mean_loss. improvement: see there. seconds: the sum of tokens / tokens per second. lr: the
    highest and the last learning rate of each part of the model that trained. evaluation: the last one.
    """
    rates = {part: rates[chosen & np.isfinite(rates)] for part, rates in run.rates.items()}
    rows = [row for row in run.evaluations if after < row["step"] <= until]
    return {
        "steps": [after, until],
        "train_loss": run.mean_loss(chosen),
        "improvement": improvement(run, chosen),
        "seconds": float((run.train["tokens"] / run.train["tokens_per_second"])[chosen].sum()),
        "lr": {part: {"highest": float(r.max()), "last": float(r[-1])} for part, r in rates.items() if len(r)},
        "evaluation": rows[-1] if rows else None,
    }


def improvement(run: Run, chosen: np.ndarray) -> float | None:
    """By how much the training loss fell: its mean over the first tenth of the records (at least one) less that over
    the last. Losses 4, 2, 1: 3."""
    places = np.flatnonzero(chosen)
    if len(places) < 2:
        return None
    tenth = max(1, len(places) // 10)
    first, last = run.mean_loss(places[:tenth]), run.mean_loss(places[-tenth:])
    return None if first is None or last is None else first - last


def epochs(run: Run) -> list[dict]:
    """Epoch n holds the records of n - 1 < epoch <= n. The last one may be part of an epoch."""
    step, found, after = run.train["step"], [], 0
    count = np.ceil(run.train["epoch"] - 1e-6)
    for epoch in np.unique(count[count >= 1]):
        until = int(step[count == epoch][-1])
        found.append({"epoch": int(epoch), **stretch(run, count == epoch, after, until)})
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
        before = [row for row in run.evaluations if row["step"] <= after]
        change = difference(course["evaluation"], before[-1]) if before and course["evaluation"] else None
        share = parameters / run.start["parameters"]
        phase = {"phase": record["name"], "planned": record["steps"], "parameters": parameters, "share": share}
        found.append(phase | course | {"change": change})
    return found


def dev_columns(evaluation: dict, report: dict) -> dict[str, str]:
    """The loss and the deciding metric of an evaluation."""
    metrics, metric = evaluation["metrics"], report["metric"]
    return {"loss": number(metrics.get("loss"), "loss"), metric: number(metrics.get(metric), metric)}


def highest_rate(rates: dict, _) -> str:
    return f"{max(rate['highest'] for rate in rates.values()):.2g}" if rates else "-"


def change_text(change: dict, report: dict) -> str:
    return number(change.get(report["metric"]), report["metric"], "+")


# What an epoch and a phase have in common, in the order of a table's columns.
COURSE = (
    Figure("steps", "[after, until]: the steps after < step <= until"),
    Figure("train_loss", "mean training loss", None, "{:.3f}"),
    Figure("improvement", "the training loss, from its first to its last tenth of the records", None, "{:.3f}",
           "fell by", note=True),
    Figure("evaluation", "the last of the evaluations in it, null where there is none", None, dev_columns),
)  # fmt: skip
RATE = (Figure("highest", "the highest"), Figure("last", "the last"))
TRAINING = Figure("seconds", "seconds of training", None, lambda seconds, _: duration(seconds), "training")

EPOCHS = Section("Epochs", (
    Figure("epochs[]", "an epoch, the last one may be part of one", epochs, parts=(
        Figure("epoch", "its number, from 1", None, "{}"),
        *COURSE,
        Figure("lr.<part>", "learning rate of a part of the model", None, highest_rate, "highest lr", parts=RATE),
        TRAINING,
    )),
))  # fmt: skip

PHASES = Section("Phases", (
    Figure("parameters", "how many the model has", lambda run: run.start["parameters"]),
    Figure("phases[]", "a phase", phases, parts=(
        Figure("phase", "its name", None, "{}"),
        Figure("planned", "its steps, as planned", None, "{}", "steps"),
        Figure("parameters", "how many train in it", None,
               lambda count, report: f"{amount(count)} ({report['share']:.2%})", "trains"),
        Figure("share", "share of all parameters that trains"),
        *COURSE,
        Figure("change.<metric>", "each metric at its last evaluation less at the last one before the phase", None,
               change_text, note=True),
        Figure("lr.<part>", "learning rate of a part of the model", parts=RATE),
        TRAINING,
    )),
))  # fmt: skip
