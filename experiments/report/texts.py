"""Texts of figures: functions of a figure's value and of a report, or of a report and a row of it.

Each returns one text, a list (a line each), a dict ({column or label: text}), or None where there is nothing to say.
"""

from collections.abc import Callable
from typing import Any

from experiments.config.metrics import mean_sd, number, shown_in
from experiments.records import look_up
from experiments.terminal import duration

MOST_LINES = 10  # of events, remarks and suggestions each
Text = Callable[[Any, dict], str | list[str] | dict[str, str] | None]


def every(found: list[str], _) -> list[str]:
    """A line for each of the first ones, and how many more there are."""
    return found if len(found) <= MOST_LINES else [*found[:MOST_LINES], f"{len(found) - MOST_LINES} more"]


def spent(seconds: float, _) -> str:
    return duration(seconds)


def clock(found: dict, _) -> str:
    """ "1 h 02 min, train 59 min 00 s, ..." """
    words = {name: "" if name == "total" else f"{name} " for name in found}
    return ", ".join(f"{words[name]}{duration(value)}" for name, value in found.items())


def after_best(found: dict, _) -> str | None:
    time = f"{duration(found['seconds'])} of training, {found['share']:.0%} of it all, saved by stopping there"
    return f"{found['evaluations']} evaluations, {found['steps']} steps, {time}" if found["steps"] else None


def shown_metrics(metrics: dict, deciding: str) -> list[str]:
    """The metrics that a table has room for, and the one that decides; not the losses of single tasks."""
    found = [name for name in shown_in(metrics, "line", "table") if not name.endswith(".loss")]
    return found if deciding in found or deciding not in metrics else [*found, deciding]


def column_of(metric: str) -> str:
    return "dev loss" if metric == "loss" else metric


def metrics(found: dict, report: dict) -> dict[str, str]:
    """A column for each metric, of an evaluation or of a row of runs."""
    write = mean_sd if "runs" in report else number
    return {column_of(name): write(found[name], name) for name in shown_metrics(found, report["metric"])}


def last(evaluation: dict, report: dict) -> dict[str, str]:
    """The loss and the deciding metric of an evaluation."""
    return {column_of(name): number(evaluation["metrics"].get(name), name) for name in ("loss", report["metric"])}


def best(row: dict, report: dict) -> str:
    """ "f1 79.3, 95 % interval 76.0 to 82.4 (bootstrap), at step 514, epoch 2.00, all-layers" """
    metric = report["metric"]
    interval, sure = look_up(report, "coverage.interval"), ""
    if interval:
        low, high = (number(interval[end], metric) for end in ("low", "high"))
        sure = f"95 % interval {low} to {high} ({interval['by']}), "
    where = f"at step {row['step']}, epoch {row['epoch']:.2f}, {row['phase']}"
    return f"{metric} {number(row['metrics'][metric], metric)}, {sure}{where}"


def difference(change: dict, report: dict) -> str | None:
    """ "loss +0.300, f1 -5.0"; nothing where the last evaluation is the best one."""
    names = shown_metrics(change, report["metric"]) if report["final"]["step"] != report["best"]["step"] else []
    return ", ".join(f"{name} {number(change[name], name, '+')}" for name in names) or None


def gap(found: dict, report: dict) -> list[str]:
    """A line for the losses, and one for eval.metric where it is known on a sample of the training set."""
    ahead = report["generalisation"]["metric_gap"]
    mode = "evaluation" if report["generalisation"]["footing"] == "same" else "training"
    first, last = found["first"], found["last"]
    losses = f"dev loss - training loss {first:+.3f} first, {last:+.3f} last, training loss in {mode} mode"
    metric = report["metric"]
    ends = [number(ahead[end], metric, "+") for end in ("first", "last")] if ahead else []
    return [losses, f"{metric} on the training sample - on dev {ends[0]} first, {ends[1]} last"] if ends else [losses]


def clipped(share: float, report: dict) -> str:
    """The share of the steps in which clipping bit. Where it bites in all of them, Adam divides it out again."""
    often = share > 0.95 and look_up(report, "spec.optim.name") in (None, "adam", "adamw")
    harmless = ", which Adam divides out again, as it does any constant factor" if often else ""
    return f"clipped in {share:.0%} of the steps{harmless}"


def oscillations(count: int, report: dict) -> str:
    found = report["stability"]
    return f"{count} in {found['losses'] - 1} changes of the loss, by more than {100 * found['threshold']:g} %"


# ---- of several runs -------------------------------------------------------------------------------------------------


def row_name(place: int, report: dict) -> dict[str, str]:
    """ "1" and what tells a row apart from the others"""
    return {"row": f"{place + 1} {report['rows'][place]['label']}"}


def tests(found: list[dict], _) -> dict[str, str]:
    """{"paired bootstrap": "p = 0.310, n = 600", "Welch's t": "-"}"""
    ps = {each["test"]: "p < 0.001" if each["p"] < 0.001 else f"p = {each['p']:.3f}" for each in found}
    return {each["test"]: f"{ps[each['test']]}, n = {each['n']:,}" for each in found}
