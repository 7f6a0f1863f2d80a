"""Suggestions of what to try next, each tied to a figure of the report, and never more than five."""

from collections.abc import Iterator
from itertools import islice

from experiments.config.metrics import metric_of
from experiments.report.cost import seconds, throughput
from experiments.report.declaration import look_up
from experiments.report.health import LEARNT, generalisation, half_interval
from experiments.report.progress import after_best, phases
from experiments.report.run import Run
from experiments.report.stability import stability

MOST = 5


def suggestions(run: Run) -> list[str]:
    """What to try next, the most pressing first."""
    found = (text for rule in (of_failures, of_evaluations, of_learning, of_steps, of_cost) for text in rule(run))
    return list(islice(found, MOST))


def highest_rate(run: Run, words: str) -> str:
    """ " (highest here: 0.002)", nothing where no rate is known"""
    highest = max((rate["highest"] for phase in phases(run) for rate in phase["lr"].values()), default=None)
    return "" if highest is None else f" ({words}{highest:.2g})"


def of_failures(run: Run) -> Iterator[str]:
    nonfinite = stability(run)["nonfinite"]
    if run.status == "diverged":
        rate, step = highest_rate(run, "highest here: "), run.records.step
        yield f"the run diverged at step {step}: lower optim.lr{rate}, set optim.clip, or raise warmup_ratio"
    elif nonfinite:
        yield f"{nonfinite} steps had no finite loss or gradient: lower optim.lr, or raise warmup_ratio"


def of_evaluations(run: Run) -> Iterator[str]:
    """Is the best evaluation the first, or long ago?"""
    count, later = len(run.evaluations), after_best(run)
    if count > 1 and run.evaluations[0]["best"]:
        yield (
            f"the best of {count} evaluations was the first, at step {run.best['step']}: evaluate more often "
            "(eval.every_epochs), or lower optim.lr"
        )
    elif later and later["evaluations"] >= 2 and later["share"] > 0.2 and run.status == "finished":
        yield (
            f"{later['share']:.0%} of the training came after the best evaluation: fewer epochs, or eval.patience="
            f"{later['evaluations'] - 1}"
        )


def of_learning(run: Run) -> Iterator[str]:
    """Did it learn too little, or too much of its training set?"""
    found, later, best_is_last = generalisation(run), after_best(run), run.best is run.final
    if not found:
        return
    verdict, learnt = found["verdict"], found["learnt"]
    if verdict == "underfitting" and learnt is not None and learnt < LEARNT:
        rate, longer = highest_rate(run, "this was "), ", or more epochs" if best_is_last else ""
        yield f"the training loss fell by {learnt:.0%} only: another optim.lr{rate}{longer}"
    elif verdict == "underfitting" and best_is_last:
        yield f"the dev loss still fell by {found['last_fall']:.3f} in the last interval: train for more epochs"
    elif verdict == "overfitting" and not (later and later["share"] > 0.2):
        yield (
            f"the dev loss has risen by {found['change']['loss']:.3f} since step {found['since']}: more dropout, "
            "weight decay or data.mask_tokens, or fewer epochs"
        )


def of_steps(run: Run) -> Iterator[str]:
    """A limit that bites in every step gives all of them the same length, and Adam divides by that again. Only one that
    bites in many steps, not in all, says that some are wild."""
    found, clip = stability(run), look_up(run.spec, "optim.clip")
    share, spikes = found["clipped"], found.get("spikes", 0)
    if share and clip and 0.5 < share < 0.95:
        yield f"clipping bit in {share:.0%} of the steps: lower optim.lr, or raise optim.clip ({clip})"
    if spikes > max(2, 0.02 * found["losses"]):
        yield f"{spikes} of {found['losses']} losses were spikes: lower optim.lr, or larger batches"


def of_cost(run: Run) -> Iterator[str]:
    half, speed, clock = half_interval(run), throughput(run), seconds(run)
    if half and half > 2 and metric_of(run.metric).unit == "%":
        yield f"{run.metric} is only sure to about ± {half:.1f}: judge on more examples, or over several seeds"
    if speed and speed["padding"] > 0.2:
        yield f"{speed['padding']:.0%} of the computed tokens were padding: larger batches, or data.batch_tokens"
    if clock.get("eval") and clock["eval"] > 0.3 * clock["total"] > 0:
        share = clock["eval"] / clock["total"]
        yield f"evaluation took {share:.0%} of the time: evaluate less often, or on fewer examples"
