"""Every metric: what it is called, what it means, how it is written, and whether it may choose the best evaluation.

Whatever prints, ranks or checks a metric reads this table. The numbers come from data/squad_metrics.py (span QA),
data/metrics.py (labels and numbers) and data/ranking.py (passages). In a run with several tasks a metric is called
TASK.metric.
"""

from collections.abc import Iterable
from dataclasses import dataclass

SPAN, ONE, MANY, NUMBER, RANKING = ("span_qa", "classification", "multi_label", "regression", "retrieval")
# What chooses the best evaluation where eval.metric says nothing. Of several tasks: their mean.
DEFAULTS = {SPAN: "f1", ONE: "accuracy", MANY: "micro_f1", NUMBER: "rmse", RANKING: "mrr"}


@dataclass(frozen=True)
class Metric:
    name: str
    unit: str  # "%", or "": a loss, a correlation, or the unit of a regression's targets
    better: str  # higher, or lower
    shown: str  # "line": everywhere; "table": in reports and scores; "score": in scores; "": in JSON only
    decides: tuple[str, ...]  # kinds of task whose best evaluation it may choose (eval.metric)
    meaning: str
    mean_of: str = ""  # "scores": a mean over examples; "hits": a mean of 0 and 100, for which Wilson's interval holds


TABLE = (
    Metric("loss", "", "lower", "line", (), "mean loss of an example, no weights, no smoothing"),
    Metric("mean", "%", "higher", "line", (), "mean of the default metrics of several tasks"),
    Metric("accuracy", "%", "higher", "line", (ONE,), "right labels", "hits"),
    Metric("precision", "%", "higher", "table", (), "of two labels, the second one's"),
    Metric("recall", "%", "higher", "table", (), "of two labels, the second one's"),
    Metric("exact", "%", "higher", "line", (SPAN, MANY), "exact answers; texts with all labels right", "hits"),
    Metric("f1", "%", "higher", "line", (SPAN, ONE), "of an answer's words; of the second of two labels", "scores"),
    Metric("HasAns_exact", "%", "higher", "score", (), "exact match of questions with an answer"),
    Metric("HasAns_f1", "%", "higher", "table", (), "F1 of questions with an answer"),
    Metric("NoAns_exact", "%", "higher", "", (), "questions without an answer that get none"),
    Metric("NoAns_f1", "%", "higher", "table", (), "questions without an answer that get none"),
    Metric("best_exact", "%", "higher", "score", (SPAN,), "exact match at the best null threshold", "scores"),
    Metric("best_f1", "%", "higher", "table", (SPAN,), "F1 at the best null threshold", "scores"),
    Metric("macro_f1", "%", "higher", "line", (ONE, MANY), "mean F1 of the labels"),
    Metric("micro_f1", "%", "higher", "line", (MANY,), "F1 over all decisions"),
    Metric("weighted_f1", "%", "higher", "score", (ONE, MANY), "mean F1 of the labels, by their frequency"),
    Metric("best_micro_f1", "%", "higher", "table", (MANY,), "micro F1 at each label's best threshold"),
    Metric("best_macro_f1", "%", "higher", "score", (MANY,), "macro F1 at each label's best threshold"),
    Metric("macro_precision", "%", "higher", "score", (ONE,), "mean precision of the labels"),
    Metric("macro_recall", "%", "higher", "score", (ONE,), "mean recall of the labels"),
    Metric("matthews", "%", "higher", "score", (ONE,), "Matthews' correlation coefficient"),
    Metric("roc_auc", "%", "higher", "score", (ONE,), "of two labels, the area under the ROC curve"),
    Metric("top_3_accuracy", "%", "higher", "score", (), "texts whose label is among the 3 most probable"),
    Metric("top_5_accuracy", "%", "higher", "score", (), "texts whose label is among the 5 most probable"),
    Metric("ece", "%", "lower", "score", (), "expected calibration error"),
    Metric("rmse", "", "lower", "line", (NUMBER,), "root mean squared error"),
    Metric("mae", "", "lower", "line", (NUMBER,), "mean absolute error", "scores"),
    Metric("mse", "", "lower", "score", (), "mean squared error"),
    Metric("r2", "", "higher", "table", (NUMBER,), "share of the variance explained"),
    Metric("pearson", "", "higher", "line", (NUMBER,), "correlation"),
    Metric("spearman", "", "higher", "table", (NUMBER,), "correlation of ranks"),
    Metric("mrr", "%", "higher", "line", (RANKING,), "mean of 1 / the place of the first right passage", "scores"),
    Metric("recall_at_1", "%", "higher", "line", (RANKING,), "right passages that come first", "scores"),
    Metric("recall_at_5", "%", "higher", "table", (RANKING,), "right passages among the first 5", "scores"),
    Metric("recall_at_10", "%", "higher", "line", (RANKING,), "right passages among the first 10", "scores"),
    Metric("ndcg_at_10", "%", "higher", "table", (RANKING,), "discounted gain of the first 10 places", "scores"),
    Metric("map", "%", "higher", "score", (RANKING,), "mean average precision", "scores"),
)
METRICS = {metric.name: metric for metric in TABLE}


def metric_of(name: str) -> Metric:
    """The row of "f1" or "qa.f1". A figure that is not in the table (a threshold, a count) is a plain number that is
    shown in JSON only."""
    last = name.rpartition(".")[2] if ":" not in name else name  # threshold:LABEL, and a label may be called anything
    return METRICS.get(last) or Metric(name, "", "higher", "", (), "")


def direction(name: str) -> int:
    """1 where more of a metric is better, -1 where less is."""
    return 1 if metric_of(name).better == "higher" else -1


def deciding(kind: str) -> list[str]:
    """The metrics that may choose the best evaluation of a task of this kind; the loss of any kind may."""
    return [metric.name for metric in TABLE if metric.name == "loss" or kind in metric.decides]


def shown_in(names: Iterable[str], *places: str) -> list[str]:
    """Those of the names that are shown in one of the places, in the table's order, a task's metrics together."""
    order = list(METRICS)
    chosen = [name for name in names if metric_of(name).shown in places]
    return sorted(chosen, key=lambda name: (name.rpartition(".")[0], order.index(name.rpartition(".")[2])))


def number(value: float | None, name: str, sign: str = "") -> str:
    """A metric as text: a percentage with one decimal, anything else with three; "-" for none. sign: "+" shows it
    always."""
    if value is None:
        return "-"
    return f"{value:{sign}.1f}" if metric_of(name).unit == "%" else f"{value:{sign}.3f}"


def mean_sd(values: dict | None, name: str) -> str:
    """{"mean", "sd", "n"} as "92.3 ± 0.4", as "92.3" where there is one value only."""
    if values is None:
        return "-"
    mean = number(values["mean"], name)
    return mean if values["sd"] is None else f"{mean} ± {number(values['sd'], name)}"
