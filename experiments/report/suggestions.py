"""Suggestions of what to try next, from the figures of one run, each with its number."""

from collections.abc import Iterator

from experiments.config.metrics import metric_of
from experiments.records import look_up
from experiments.report.progress import LEARNT, half_interval
from experiments.report.soundness import GUESSING

MOST = 5
SPIKE = 50  # a gradient so many times as long as the median is worth a word


def suggestions(s: dict) -> list[str]:
    """Up to five, given the figures of a run (figures.summary_of), the most pressing first."""
    return [text for rule in (of_failures, of_evaluations, of_learning, of_cost) for text in rule(s)][:MOST]


def of_failures(s: dict) -> Iterator[str]:
    nonfinite = s["stability"]["nonfinite"]
    if s["status"] == "diverged":
        rate = look_up(s["spec"], "optim.lr")
        yield f"the run diverged at step {s['steps']}: lower optim.lr ({rate}), set optim.clip, or raise warmup_ratio"
    elif nonfinite:
        yield f"{nonfinite} steps had no finite loss or gradient: lower optim.lr, or raise warmup_ratio"


def of_evaluations(s: dict) -> Iterator[str]:
    """Is the best evaluation the first, or long ago?"""
    rows, later = s["evaluations"], s["after_best"]
    if len(rows) > 1 and rows[0]["best"]:
        first = f"the best of {len(rows)} evaluations was the first, at step {rows[0]['step']}"
        yield f"{first}: evaluate more often (eval.every_epochs), or lower optim.lr"
    elif later and later["evaluations"] >= 2 and later["share"] > 0.2 and s["status"] == "finished":
        share, patience = f"{later['share']:.0%} of the training", later["evaluations"] - 1
        yield f"{share} came after the best evaluation: fewer epochs, or eval.patience={patience}"


def of_learning(s: dict) -> Iterator[str]:
    """Did it learn too little, or too much of its training set? Clipping in every step gives all of them the same
    length, and Adam divides by that again. Only clipping in many steps, not in all, says that some are wild."""
    found, best_is_last = s["generalisation"] or {}, bool(s["evaluations"] and s["evaluations"][-1]["best"])
    verdict, learnt = found.get("verdict"), found.get("learnt")
    if verdict in ("underfitting", GUESSING) and learnt is not None and learnt < LEARNT:
        rate, longer = look_up(s["spec"], "optim.lr"), ", or more epochs" if best_is_last else ""
        yield f"the training loss fell by {learnt:.0%} only: another optim.lr ({rate}){longer}"
    elif verdict == "still improving" and best_is_last:
        yield f"the dev loss still fell by {found['last_fall']:.3f} in the last interval: train for more epochs"
    elif verdict == "overfitting" and not (s["after_best"] and s["after_best"]["share"] > 0.2):
        more = "more dropout, weight decay or data.mask_tokens, or fewer epochs"
        yield f"the dev loss has risen since step {found['since']}: {more}"
    gradient = s["stability"]["gradient"] or {"p50": 0, "max": 0}
    if gradient["max"] > SPIKE * gradient["p50"] > 0 and s["status"] != "diverged":
        wild = f"the gradient norm went up to {gradient['max']:.0f}, its median is {gradient['p50']:.1f}"
        yield f"{wild}: lower optim.lr ({look_up(s, 'spec.optim.lr')}), or raise warmup_ratio"
    share, clip = s["stability"]["clipped"], look_up(s["spec"], "optim.clip")
    if share and clip and 0.5 < share < 0.95:
        yield f"clipping bit in {share:.0%} of the steps: lower optim.lr, or raise optim.clip ({clip})"


def of_cost(s: dict) -> Iterator[str]:
    metric, padding = s["metric"], look_up(s, "throughput.padding")
    half = half_interval(look_up(s, "coverage.interval"))
    if half and half > 2 and metric_of(metric).unit == "%":
        yield f"{metric} is only sure to about ± {half:.1f}: judge on more examples, or over several seeds"
    if padding and padding > 0.2:
        yield f"{padding:.0%} of the computed tokens were padding: larger batches, or data.batch_tokens"
