"""Whether a run's best model is worth a place in a ranking: against an answer that never looks at the text, and against
a loss that nothing sane reaches."""

from collections.abc import Iterator

from experiments.config.metrics import direction, number
from experiments.records import look_up
from experiments.report.run import Run

GUESSING, BEYOND = "no better than guessing", "loss beyond bounds"  # verdicts, explained in figures.WORDS
# Nats of an example (of several labels or of start and end, their mean), or squares of standardised numbers. Guessing
# among a million answers costs 13.8, and predicting the mean of the training set 1.
LARGEST_LOSS = 20.0


def unsound(run: Run) -> tuple[str, str] | None:
    """(verdict, why) where a loss is beyond bounds at the best or the last evaluation, or where the best one is no
    better than the baseline that its data tells of; None where there is nothing to say against it."""
    several = len(run.spec["tasks"]) > 1
    for row in filter(None, (run.best, run.final)):
        for name in [f"{task}.loss" for task in run.spec["tasks"]] if several else ["loss"]:
            loss = row["metrics"].get(name)
            if loss is not None and loss > LARGEST_LOSS:
                where = f"the dev {name} is {loss:.4g} at step {row['step']}"
                return BEYOND, f"{where}; nothing sane is above {LARGEST_LOSS:g}"
    for name, reached in baselines(run):
        value = run.best["metrics"][name]
        if direction(name) * (value - reached) < 1e-9:  # rounding aside
            ours, theirs = number(value, name), number(reached, name)
            return GUESSING, f"{name} is {ours} at best; an answer that never looks at the text reaches {theirs}"
    return None


def baselines(run: Run) -> Iterator[tuple[str, float]]:
    """(metric, what an answer reaches that never looks at the text) of each task that has one: eval.metric, or else the
    first of the baseline's metrics that the best evaluation has."""
    for task, splits in run.start["data"]["splits"].items() if run.best else ():
        prefix = f"{task}." if len(run.spec["tasks"]) > 1 else ""
        found = {f"{prefix}{name}": value for name, value in (look_up(splits, "dev.baseline") or {}).items()}
        known = [name for name in found if run.best["metrics"].get(name) is not None]
        chosen = run.metric if run.metric in known else next(iter(known), None)
        if chosen is not None:
            yield chosen, found[chosen]
