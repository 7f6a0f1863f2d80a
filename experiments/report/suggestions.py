"""Suggestions of what to try next, from the figures of one run, each with its number."""

from collections.abc import Callable

from experiments.config.metrics import metric_of
from experiments.report.progress import LEARNT, half_interval
from experiments.report.run import look_up

MOST = 5


def suggestions(s: dict) -> list[str]:
    """Up to five, given the figures of a run (figures.summary_of), the most pressing first."""
    return [text for rule in RULES if (text := rule(s))][:MOST]


def highest_rate(s: dict, words: str) -> str:
    """ " (highest here: 0.002)", nothing where no rate is known"""
    highest = max((phase["highest_lr"] for phase in s["phases"] if phase["highest_lr"]), default=None)
    return "" if highest is None else f" ({words}{highest:.2g})"


def failure(s: dict) -> str | None:
    nonfinite = s["stability"]["nonfinite"]
    if s["status"] == "diverged":
        rate = highest_rate(s, "highest here: ")
        return f"the run diverged at step {s['steps']}: lower optim.lr{rate}, set optim.clip, or raise warmup_ratio"
    advice = f"{nonfinite} steps had no finite loss or gradient: lower optim.lr, or raise warmup_ratio"
    return advice if nonfinite else None


def best_first(s: dict) -> str | None:
    rows = s["evaluations"]
    where = f"the best of {len(rows)} evaluations was the first, at step {rows[0]['step']}" if rows else ""
    best = len(rows) > 1 and rows[0]["best"]
    return f"{where}: evaluate more often (eval.every_epochs), or lower optim.lr" if best else None


def best_long_ago(s: dict) -> str | None:
    later = s["after_best"]
    if best_first(s) or not later or s["status"] != "finished" or later["evaluations"] < 2 or later["share"] <= 0.2:
        return None
    share, patience = f"{later['share']:.0%} of the training", later["evaluations"] - 1
    return f"{share} came after the best evaluation: fewer epochs, or eval.patience={patience}"


def underfitting(s: dict) -> str | None:
    found = s["generalisation"]
    if not found or found["verdict"] != "underfitting":
        return None
    best_is_last = s["evaluations"][-1]["best"]
    if found["learnt"] is not None and found["learnt"] < LEARNT:
        rate, longer = highest_rate(s, "this was "), ", or more epochs" if best_is_last else ""
        return f"the training loss fell by {found['learnt']:.0%} only: another optim.lr{rate}{longer}"
    fell = f"the dev loss still fell by {found['last_fall']:.3f} in the last interval"
    return f"{fell}: train for more epochs" if best_is_last else None


def overfitting(s: dict) -> str | None:
    found = s["generalisation"]
    if not found or found["verdict"] != "overfitting" or (s["after_best"] and s["after_best"]["share"] > 0.2):
        return None
    return f"the dev loss has risen since step {found['since']}: more dropout, weight decay or data.mask_tokens, or fewer epochs"


def clipping(s: dict) -> str | None:
    """A limit that bites in every step gives all of them the same length, and Adam divides by that again. Only one that
    bites in many steps, not in all, says that some are wild."""
    share, clip = s["stability"]["clipped"], look_up(s["spec"], "optim.clip")
    advice = f"clipping bit in {share or 0:.0%} of the steps: lower optim.lr, or raise optim.clip ({clip})"
    return advice if clip and share and 0.5 < share < 0.95 else None


def unsure(s: dict) -> str | None:
    metric = s["metric"]
    half = half_interval(look_up(s, ["coverage", "intervals", metric])) or 0.0
    advice = f"{metric} is only sure to about ± {half:.1f}: judge on more examples, or over several seeds"
    return advice if half > 2 and metric_of(metric).unit == "%" else None


def padding(s: dict) -> str | None:
    share = look_up(s, "throughput.padding") or 0.0
    advice = f"{share:.0%} of the computed tokens were padding: larger batches, or data.batch_tokens"
    return advice if share > 0.2 else None


RULES: tuple[Callable[[dict], str | None], ...] = (
    *(failure, best_first, best_long_ago, underfitting, overfitting, clipping, unsure, padding),
)
