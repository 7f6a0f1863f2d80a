"""Figures of several runs: the columns of a row of runs, and what a row gains and costs against the first."""

from experiments.config.metrics import mean_sd, number
from experiments.report.comparison import Row, leaders, steady_order
from experiments.report.declaration import Figure, Section, with_spread
from experiments.report.pairing import Pair, pairs
from experiments.report.run import shown_metrics
from experiments.terminal import amount, duration

MOST_SETTINGS = 8  # columns of settings in a table; --json has all


def metric_columns(metrics: dict, row: dict) -> dict[str, str]:
    return {name: mean_sd(metrics[name], name) for name in shown_metrics(metrics, row["metric"])}


def settings_columns(settings: dict, _) -> dict[str, str]:
    return {key: "-" if value is None else str(value) for key, value in list(settings.items())[:MOST_SETTINGS]}


def epoch_columns(found: list[dict], row: dict) -> dict[str, str]:
    """{"worse by": "5.0 in epoch 2 (beyond ± 4.0)", "epoch 1": "20.0", "epoch 2": "15.0"}"""
    if len(found) < 2:
        return {}
    metric, falls = row["metric"], []
    for epoch, each in enumerate(found, 1):
        if each["fell"]:
            sure, inside = each["interval"], each["fell"] < (each["interval"] or 0)
            bounds = "" if sure is None else f" ({'within' if inside else 'beyond'} ± {number(sure, metric)})"
            falls.append(f"{number(each['fell'], metric)} in epoch {epoch}{bounds}")
    means = {f"epoch {epoch}": number(each["mean"], metric) for epoch, each in enumerate(found, 1)}
    return {"worse by": ", ".join(falls) or "never"} | means


def verdicts_text(found: dict[str, int], _) -> str:
    return ", ".join(f"{count} {name}" if len(found) > 1 else name for name, count in found.items()) or "-"


# ---- rows of runs ----------------------------------------------------------------------------------------------------

OUTCOME = Section("By outcome", (
    Figure("runs[]", "the names of the runs", lambda row: row.each("name"), lambda runs, _: {"n": str(len(runs))}),
    Figure("seeds[]", "their seeds", lambda row: row.each("seed")),
    Figure("ended", "whether they have ended; a row that has not leads in nothing", lambda row: row.ended),
    Figure("left_out[]", "a run that shares the settings, and does not count because it has not ended",
           lambda row: row.left_out, parts=(
        Figure("name", "its name"), Figure("status", "its status"),
    )),
    Figure("metric", "eval.metric of the row", lambda row: row.metric),
    Figure("metrics.<metric>", "mean ± sd over the n runs that share all but seed and fold, at each run's best "
           "evaluation; a star leads its column", Row.metrics, metric_columns, note=True),
    Figure("final_minus_best", "last value of eval.metric less the best; mean, sd, n",
           lambda row: row.over(["final_minus_best", row.metric]),
           lambda found, row: mean_sd(found, row["metric"]), "since best", note=True),
    Figure("best_epoch", "epoch of the best evaluation; mean, sd, n", lambda row: row.over("best.epoch")),
    Figure("settings.<setting>", "the row's value of each setting in which the runs differ", lambda row: row.settings,
           settings_columns),
))  # fmt: skip

BY_EPOCH = Section("Epoch by epoch", (
    Figure("by_epoch[]", "eval.metric at the last evaluation of each epoch; worse by: the fall of its mean from one "
           "epoch to the next, within or beyond half of the 95 % interval of one evaluation", Row.by_epoch,
           epoch_columns, "by epoch", note=True, parts=(
        Figure("mean", "mean over the runs"),
        Figure("sd", "standard deviation over the runs, null for one"),
        Figure("n", "how many runs"),
        Figure("fell", "how much worse than an epoch before; null where it is not"),
        Figure("interval", "half of the 95 % interval of an evaluation"),
    )),
))  # fmt: skip

STABILITY = Section("By stability", (
    Figure("scatter", "standard deviation of 20 losses around their trend; mean, sd, n",
           lambda row: row.over("stability.scatter"), with_spread("{:.3f}"), note=True),
    Figure("per_100_steps", "oscillations in 100 steps; mean, sd, n", lambda row: row.over("stability.per_100_steps"),
           with_spread("{:.1f}"), "osc. per 100", note=True),
    Figure("volatility", "standard deviation of 20 losses; mean, sd, n", lambda row: row.over("stability.volatility"),
           with_spread("{:.3f}"), note=True),
    Figure("records_every", "steps from one loss to the next; mean, sd, n",
           lambda row: row.over("stability.records_every")),
    Figure("spikes", "losses far above the 20 before them, in all runs", lambda row: row.total("stability.spikes"),
           "{}"),
    Figure("nonfinite", "steps without a finite loss or gradient, in all runs",
           lambda row: row.total("stability.nonfinite"), "{}", "not finite"),
    Figure("verdicts.<verdict>", "how many runs have a verdict", Row.verdicts, verdicts_text, "verdict"),
))  # fmt: skip

COST = Section("Cost", (
    Figure("trainable", "parameters that train, in the phase with the most", Row.trainable,
           lambda count, _: amount(count), "trains"),
    Figure("train_seconds", "in training steps; mean, sd, n", lambda row: row.over("seconds.train"),
           lambda found, _: duration(found["mean"]), "training"),
    Figure("tokens_per_second", "real tokens a second in training; mean, sd, n",
           lambda row: row.over("throughput.tokens_per_second"), lambda found, _: f"{found['mean']:,.0f}", "tokens/s"),
    Figure("peak_memory_mb", "MiB, the highest of the runs", lambda row: row.most("peak_memory_mb"), "{:,} MiB",
           "memory"),
    Figure("best_bytes", "size of the best checkpoint, the largest of the runs", lambda row: row.most("best_bytes"),
           lambda size, _: f"{size / 1e6:.1f} MB" if size else "-", "checkpoint"),
))  # fmt: skip

TABLES = (OUTCOME, BY_EPOCH, STABILITY, COST)

# ---- against the first row -------------------------------------------------------------------------------------------


def test_columns(tests: list[dict], _) -> dict[str, str]:
    """{"paired bootstrap": "p = 0.310, n = 600", "Welch's t": "-"}"""
    return {test["test"]: f"{p_text(test['p'])}, n = {test['n']:,}" for test in tests}


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


DIFFERENCES = Section("Against the first", (
    Figure("row", "the number of the row, from 0", lambda pair: pair.number),
    Figure("first[]", "the runs of the first row", lambda pair: pair.first.each("name")),
    Figure("other[]", "the runs of the other row", lambda pair: pair.other.each("name")),
    Figure("difference", "eval.metric of the other row less that of the first",
           lambda pair: pair.other.mean - pair.first.mean,
           lambda change, found: {found["metric"]: number(change, found["metric"], "+")}, note=True),
    Figure("oscillations_ratio", "oscillations in 100 steps: other / first", Pair.oscillations_ratio, "{:.2f}",
           "oscillations", note=True),
    Figure("time_ratio", "seconds of training: other / first", lambda pair: pair.ratio("seconds.train"), "{:.2f}",
           "training", note=True),
    Figure("verdict", "distinguishable: every test has p < 0.05, Welch's among them; distinguishable as models: only "
           "the bootstrap says so, and with fewer than three runs in a row other seeds may come out the other way. The "
           "first row is the best of these, so expect its lead to shrink on new data", Pair.verdict, "{}", note=True),
    Figure("tests[]", "paired bootstrap over the development examples, of scores averaged over a row's seeds; "
           "Welch's t over the runs", lambda pair: pair.tests, test_columns, "tests", note=True, parts=(
        Figure("test", "paired bootstrap or Welch's t"),
        Figure("p", "two-sided"),
        Figure("n", "examples, or runs of the smaller row"),
    )),
    Figure("models_differ", "whether the bootstrap has p < 0.05; null where it could not be made", Pair.models_differ),
    Figure("settings_differ", "whether every test has p < 0.05, Welch's among them; null with too few runs to say no",
           Pair.settings_differ),
    Figure("untested", "why there is no bootstrap", lambda pair: pair.untested),
))  # fmt: skip

SEVERAL = (
    Figure("metric", "eval.metric, by which rows are ranked; null where the runs have different ones",
           lambda found: found.metric),
    Figure("differing[]", "a setting in which the runs differ", lambda found: found.differing),
    Figure("rows[]", "runs that share all but seed and fold, the best row first", lambda found: found.rows,
           parts=tuple(figure for table in TABLES for figure in table.figures)),
    Figure("leaders.<column>", "the number of the row (from 0) that is best in a column", leaders),
    Figure("steady_order", "the numbers of the rows, least scatter first; null where their losses stand for different "
           "numbers of steps", steady_order),
    Figure("differences[]", "a row against the first", pairs, parts=DIFFERENCES.figures),
    Figure("remarks[]", "what is odd about the set of runs", lambda found: found.remarks),
    Figure("without[]", "a run that has no evaluation yet",
           lambda found: [each["name"] for each in found.summaries if not each["best"]]),
)  # fmt: skip
