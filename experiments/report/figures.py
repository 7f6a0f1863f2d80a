"""All figures of a report, and their documentation: `python -m experiments.report.figures` prints every name.

ONE_RUN is what `eval.py summary --json` says of one run, SEVERAL_RUNS what it says of several. In a name, dots separate
keys, [] is each item of a list, and <...> stands for names that depend on the run. What could not be known is null.
The formula of a figure is in the docstring of the function that computes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from experiments.config.metrics import mean_sd, number
from experiments.records import look_up
from experiments.report import progress, texts, training
from experiments.report.headline import in_words, of_run
from experiments.report.run import Run
from experiments.report.suggestions import suggestions
from experiments.report.texts import Text
from experiments.terminal import amount, duration

SCHEMA = 3  # goes up whenever a name goes away or means something else; new names may appear without


@dataclass(frozen=True)
class Figure:
    """One figure of a report. The figures of a table are the columns of its rows: "epochs[].epoch" of "epochs[]".

    name: its place in the JSON.
    meaning: one line of the documentation.
    text: a template for the value, or a function of it, see texts.py. Without, the value is in another figure's text.
    label: its column in a table, or its line elsewhere; lines with the same label become one.
    compute: its value, given the run. Without, it is part of a figure before.
    """

    name: str
    meaning: str
    text: str | Text | None = None
    label: str | None = None
    compute: Callable[[Run], Any] | None = None

    @cached_property
    def path(self) -> list[str]:
        """The keys that lead to the value, in its row if it has one: "rows[].metrics.<metric>" -> ["metrics"]"""
        return self.name.partition("[].")[2 if "[]." in self.name else 0].partition(".<")[0].rstrip("[]").split(".")

    @cached_property
    def heading(self) -> str:
        """The label, or the last part of the name."""
        return self.path[-1].replace("_", " ") if self.label is None else self.label


def data_in_words(run: Run) -> dict[str, dict[str, str]]:
    """{task: {split: "5,000 questions"}}"""
    return {
        task: {split: f"{counts['examples']:,} {counts['kind']}" for split, counts in splits.items()}
        for task, splits in run.start["data"]["splits"].items()
    }


def events(run: Run) -> list[str]:
    found = [(record, record.get("message") or "") for record in run.records.of_kind("event")]
    return [f"{record['event']} at step {record['step']}: {message}".rstrip(": ") for record, message in found]


MIXED = "the metrics file holds several runs: somebody has put it together, and these figures mix them"
WORDS = {  # that need an explanation
    "oscillation": "a change from one loss to the next by more than the threshold (1 % unless told)",
    "spike": "a loss 3 standard deviations and 10 % above the mean of the 20 losses before it",
    "overfitting": "the dev loss is 2 % above its lowest, the training loss below, eval.metric no better",
    "underfitting": "ended with a training loss that fell by less than half",
    "still improving": "in the last interval, the dev loss fell by 5 % and eval.metric got better by half of its "
    "interval",
    "no better than guessing": "at the best evaluation, eval.metric (of each task, it or its baseline's first metric) "
    "is no better than an answer that never looks at the text: the commonest label, the mean, no answer",
    "loss beyond bounds": "a task's dev loss is above 20 at the best or the last evaluation; guessing among a million "
    "answers costs 13.8, and predicting the mean 1",
    "distinguishable": "every test has p < 0.05, Welch's among them; as models: the bootstrap alone, with fewer than "
    "three runs in a row, so other seeds may come out the other way",
}

# ---- one run ---------------------------------------------------------------------------------------------------------

HEAD = (
    Figure("schema", "the version of these names", compute=lambda _: SCHEMA),
    Figure("headline", "one sentence: what it reached, how sure that is, what to try next", "{}", "in short"),
    Figure("name", "the run's name", compute=lambda run: run.spec["name"]),
    Figure("folder", "where it is, as given", compute=lambda run: str(run.records.folder)),
    Figure("spec", "the resolved experiment, see `python -m experiments.config.spec`", compute=lambda run: run.spec),
    Figure("program", "what trained it: train.py, or other libraries", compute=lambda run: run.start.get("program")),
    Figure("status", "finished, stopped early or diverged; unfinished where the run has not ended",
           compute=lambda run: run.status),
    Figure("last_written", "when its records were last written, UTC", compute=lambda run: run.records.written),
    Figure("seed", "its seed", compute=lambda run: run.spec["seed"]),
    Figure("metric", "eval.metric, which chooses the best evaluation", compute=lambda run: run.metric),
    Figure("steps", "optimizer steps done", compute=lambda run: run.records.step),
    Figure("steps_planned", "optimizer steps to be done in all", compute=lambda run: run.start["steps_planned"]),
    Figure("task", "what it trains: span_qa, classification, multi_label, regression; several joined by ' and '",
           "{}", "run", lambda run: " and ".join(dict.fromkeys(task["task"] for task in run.spec["tasks"].values()))),
    Figure("pretrained", "the name of the pretrained weights", "{}", "run", lambda run:
           run.start["pretrained"]["name"]),
    Figure("pretrained_sha256", "over the files of the pretrained weights and their tokenizer", compute=lambda run:
           run.start["pretrained"].get("sha256")),
    Figure("start", "the run or the adapters that it began with", "{}", "run", lambda run:
           look_up(run.start, "start.from")),
    Figure("start_sha256", "over the files of those", compute=lambda run: look_up(run.start, "start.sha256")),
    Figure("device", "cpu, cuda, mps", "{}", "run", lambda run: run.start["device"]),
    Figure("precision", "bf16, fp16, fp32", "{}", "run", lambda run: run.start["precision"]),
    Figure("data.<task>.<split>", "how much each split of a task has, in words", lambda found, _: {
           f"data of {task}": ", ".join(map(" ".join, splits.items())) for task, splits in found.items()},
           None, data_in_words),
    Figure("fingerprints.<task>.<split>", "sha256 of what each split of a task was made from",
           compute=lambda run: run.start["data"].get("fingerprints") or {}),
)  # fmt: skip

EVALUATIONS = (
    Figure("evaluations[]", "an evaluation of the development set", compute=lambda run: run.evaluations),
    Figure("evaluations[].best", "whether it is the best one", lambda best, _: "best" if best else "", ""),
    Figure("evaluations[].step", "after which optimizer step", "{}"),
    Figure("evaluations[].epoch", "after how many epochs", "{:.2f}"),
    Figure("evaluations[].phase", "phase that the run was in", "{}"),
    Figure("evaluations[].train_seconds", "seconds of training since the one before", texts.spent, "training"),
    Figure("evaluations[].train_loss", "mean training loss since the evaluation before", "{:.3f}"),
    Figure("evaluations[].metrics.<metric>", "each metric, and the loss, on the development set", texts.metrics),
    Figure("evaluations[].on_train.<metric>", "the same on a sample of the training set, where there is one",
           lambda found, row: {f"{row['metric']} on train": number(found.get(row["metric"]), row["metric"])}),
    Figure("best", "the best of the evaluations by eval.metric, null where there is none", texts.best, None,
           lambda run: run.best),
    Figure("final", "the last of the evaluations, null where there is none", compute=lambda run: run.final),
    Figure("final_minus_best.<metric>", "the last value less the one at the best evaluation", texts.difference,
           "final - best", lambda run: progress.difference(run.final, run.best) if run.best else None),
    Figure("after_best.<figure>", "evaluations, steps, seconds of training and their share of all training, which "
           "stopping at the best would have saved", texts.after_best, None, progress.after_best),
)  # fmt: skip

EPOCHS = (
    Figure("epochs[]", "an epoch, the last one may be part of one", compute=progress.epochs),
    Figure("epochs[].epoch", "its number, from 1", "{}"),
    Figure("epochs[].train_loss", "mean training loss", "{:.3f}"),
    Figure("epochs[].evaluation", "the last of the evaluations in it, null where there is none", texts.last),
    Figure("epochs[].seconds", "seconds of training", texts.spent, "training"),
)  # fmt: skip

PHASES = (
    Figure("parameters", "how many the model has", compute=lambda run: run.start["parameters"]),
    Figure("phases[]", "a phase", compute=progress.phases),
    Figure("phases[].phase", "its name", "{}"),
    Figure("phases[].planned", "its steps, as planned", "{}", "steps"),
    Figure("phases[].parameters", "how many train in it", lambda n, row: f"{amount(n)} ({row['share']:.2%})", "trains"),
    Figure("phases[].share", "share of all parameters that trains"),
    Figure("phases[].train_loss", "mean training loss", "{:.3f}"),
    Figure("phases[].evaluation", "the last of the evaluations in it, null where there is none", texts.last),
    Figure("phases[].seconds", "seconds of training", texts.spent, "training"),
    Figure("phases[].change.<metric>", "each metric at its last evaluation less at the last one before the phase",
           lambda found, row: number(found.get(row["metric"]), row["metric"], "+")),
)  # fmt: skip

HEALTH = (
    Figure("generalisation", "training against development", compute=progress.generalisation),
    Figure("generalisation.<figure>", "learnt: 1 - last training loss / first; last_fall: of the dev loss, in the last "
           "interval; footing: same (both losses are measured in evaluation mode) or training mode; unsound: why the "
           "run never leads a ranking, null where it may"),
    Figure("generalisation.verdict", "overfitting, underfitting, healthy, diverged, no better than guessing, loss "
           "beyond bounds, or unknown (a single evaluation)",
           lambda found, report: f"{found} so far" if report["status"] == "unfinished" else found),
    Figure("generalisation.since", "the step since which it overfits", "since step {}", "verdict"),
    Figure("generalisation.metric_gap.<end>", "how much better eval.metric is on the training sample, first and last; "
           "null without a sample"),
    Figure("generalisation.gap.<end>", "dev loss less training loss, first and last evaluation", texts.gap),
    Figure("generalisation.remarks[]", "why the run is unsound, dev comes out better than training, or the loss "
           "contradicts the metric",
           texts.every, "mind"),
    Figure("stability", "how steadily it trained", compute=training.stability),
    Figure("stability.<figure>", "threshold: the relative change that counts as an oscillation; losses: how many are "
           "finite; records_every: steps from one to the next, median"),
    Figure("stability.oscillations", "changes from one loss to the next beyond the threshold", texts.oscillations),
    Figure("stability.per_100_steps", "oscillations in 100 steps", "{:.1f} per 100 steps", "oscillations"),
    Figure("stability.volatility", "mean rolling standard deviation of 20 losses, trend included", "{:.3f}"),
    Figure("stability.scatter", "the same around the straight line through those 20 losses", "{:.3f}"),
    Figure("stability.spikes", "how many losses are spikes", "{}"),
    Figure("stability.gradient.<percentile>", "p50, p90, p99 and max of the gradient norm before clipping",
           lambda found, _: ", ".join(f"{name} {value:.2f}" for name, value in found.items()), "gradient norm"),
    Figure("stability.clipped", "share of the steps in which clipping bit", texts.clipped, "gradient norm"),
    Figure("stability.nonfinite", "steps skipped because loss or gradient was not finite",
           "{} steps without a finite loss or gradient", "not finite"),
    Figure("stability.overflows", "steps skipped because fp16 overflowed", "{} fp16 overflows", "not finite"),
    Figure("coverage", "how often and on what it was judged", compute=lambda run: {"evaluations": len(run.evaluations),
           "examples": progress.dev_examples(run), "interval": progress.interval(run)}),
    Figure("coverage.evaluations", "how many there were", "{} evaluations", "coverage"),
    Figure("coverage.interval.<end>", "95 % interval of eval.metric at the best evaluation: low, high, and by what, "
           "bootstrap over the examples or Wilson"),
    Figure("coverage.examples.<task>", "development examples", lambda found, _: ", ".join(
           f"{count:,} examples of {task}" for task, count in found.items()), "coverage"),
)  # fmt: skip

COST = (
    Figure("seconds.<part>", "total; train: in training steps, the making of batches included; data: in making "
           "batches; eval; checkpoint", texts.clock, "time", training.seconds),
    Figure("throughput.<figure>", "tokens_per_second: real tokens (no padding) / seconds of training; median, over "
           "the records; examples_per_second, of windows of questions; padding: its share in all tokens computed",
           "{0[median]:,.0f} real tokens/s, {0[examples_per_second]:,.0f} examples/s, {0[padding]:.1%} padding",
           "speed", training.throughput),
    Figure("peak_memory_mb", "MiB, of the process or of the accelerator", "{:,} MiB at its peak", "memory",
           lambda run: int(max(run.train["peak_memory_mb"], default=0))),
    Figure("best_bytes", "size of the best checkpoint, once the run has ended", lambda size, _:
           f"best checkpoint {size / 1e6:.1f} MB", "memory", lambda run: (run.end or {}).get("best_bytes")),
)  # fmt: skip

NOTES = (
    Figure("suggestions[]", "up to five, each with its number", texts.every, "try"),
    Figure("events[]", "what happened", texts.every, "event", events),
    Figure("remarks[]", "what the metrics file lacks", texts.every, "note",
           lambda run: [MIXED] * run.mixed + run.records.remarks),
)  # fmt: skip

SECTIONS = {
    "": HEAD,
    "Evaluations": EVALUATIONS,
    "Epochs": EPOCHS,
    "Phases": PHASES,
    "Health": HEALTH,
    "Cost": COST,
    "Suggestions, events and notes": NOTES,
}
ONE_RUN = tuple(figure for figures in SECTIONS.values() for figure in figures)

# ---- several runs ----------------------------------------------------------------------------------------------------

ROWS = (
    Figure("rows[]", "runs that share all but seed and fold, the best row first"),
    Figure("rows[].row", "its number, from 0", texts.row_name),
    Figure("rows[].runs[]", "the names of the runs", lambda runs, _: str(len(runs))),
    Figure("rows[].<figure>", "label: what tells it apart from the others; folders and seeds of its runs; metric: its "
           "eval.metric; ended: whether its runs have; sound: whether one of them is; else it leads in nothing; "
           "scaling of its adapters; epochs and steps that were planned"),
    Figure("rows[].metrics.<metric>", "mean, sd, n of each metric at the runs' best evaluations", texts.metrics),
    Figure("rows[].settings.<setting>", "the row's value of each setting in which the runs differ",
           lambda found, row: {key: in_words(value) for key, value in found.items() if value != row["label"]}),
    Figure("rows[].by_epoch[]", "eval.metric at the last evaluation of each epoch; mean, sd, n",
           lambda found, row: {f"epoch {i}": mean_sd(each, row["metric"]) for i, each in enumerate(found, 1)}),
    Figure("rows[].scatter", "standard deviation of 20 losses around their trend; mean, sd, n",
           lambda found, _: mean_sd(found, "")),
    Figure("rows[].records_every", "steps from one loss to the next; mean, sd, n", "{[mean]:g}", "steps a loss"),
    Figure("rows[].spikes", "losses far above the 20 before them, in all runs", "{}"),
    Figure("rows[].nonfinite", "steps without a finite loss or gradient, in all runs", "{}", "not finite"),
    Figure("rows[].verdicts.<verdict>", "how many runs have a verdict",
           lambda found, _: ", ".join(f"{n} {name}" if len(found) > 1 else name for name, n in found.items()),
           "verdict"),
    Figure("rows[].trainable", "parameters that train, in the phase with the most", lambda n, _: amount(n), "trains"),
    Figure("rows[].train_seconds", "seconds in training steps; mean, sd, n", lambda found, _: duration(found["mean"]),
           "training"),
    Figure("rows[].tokens_per_second", "real tokens a second in training; mean, sd, n", "{[mean]:,.0f}", "tokens/s"),
    Figure("rows[].peak_memory_mb", "MiB, the highest of the runs", "{:,} MiB", "memory"),
    Figure("rows[].best_bytes", "size of the best checkpoint, the largest of the runs",
           lambda size, _: f"{size / 1e6:.1f} MB" if size else "-", "checkpoint"),
)  # fmt: skip

DIFFERENCES = (
    Figure("differences[]", "a row against the first"),
    Figure("differences[].row", "the number of the row, from 0", texts.row_name),
    Figure("differences[].difference", "eval.metric of the row less that of the first",
           lambda change, found: {found["metric"]: number(change, found["metric"], "+")}),
    Figure("differences[].verdict", "distinguishable (as models), not distinguishable, too few runs", "{}"),
    Figure("differences[].tests[]", "paired bootstrap over dev examples, Welch's t over runs", texts.tests),
    Figure("differences[].tests[].<figure>", "test; p, two-sided; n, the examples, or the runs of the smaller row"),
    Figure("differences[].untested", "why there is no bootstrap", "{}", "no bootstrap"),
)  # fmt: skip

SEVERAL_RUNS = (
    HEAD[0],
    Figure("headline", "one sentence: which rows differ, by how much, how sure that is"),
    Figure("metric", "eval.metric, by which rows are ranked; null where the runs have different ones"),
    Figure("differing[]", "a setting in which the runs differ"),
    *ROWS,
    Figure("leaders.<metric>", "the number of the row (from 0) that is best in a metric"),
    *DIFFERENCES,
    Figure("remarks[]", "what is odd about the set of runs"),
)


def summary_of(run: Run) -> dict:
    """All figures of one run."""
    found = {figure.path[0]: figure.compute(run) for figure in ONE_RUN if figure.compute}
    found |= {"suggestions": suggestions(found)}
    return found | {"headline": of_run(found)}


def main() -> None:
    for title, figures in (("One run", ONE_RUN), ("Several runs", SEVERAL_RUNS)):
        print(f"{title} (schema {SCHEMA})\n")
        print("\n".join(f"  {figure.name:40} {figure.meaning}" for figure in figures) + "\n")


if __name__ == "__main__":
    main()
