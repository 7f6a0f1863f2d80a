"""Every metric: what it is called, what it means, how it is written, and whether it may choose the best evaluation.

Whatever prints, ranks or checks a metric reads this table. The numbers come from data/squad_metrics.py (span QA) and
data/metrics.py (labels and numbers). In a run with several tasks a metric is called TASK.metric.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    name: str
    meaning: str
    decides: tuple[str, ...] = ()  # kinds of task whose best evaluation it may choose (eval.metric)
    percent: bool = True
    higher_is_better: bool = True
    shown: str = "score"  # "line": everywhere; "table": in reports and scores; "score": in scores; "": in JSON only
    mean_of: str = ""  # "scores": a mean over examples; "hits": a mean of 0 and 100, for which Wilson's interval holds


SPAN, ONE, MANY, NUMBER = ("span_qa", "classification", "multi_label", "regression")
# What chooses the best evaluation where eval.metric says nothing. Of several tasks: their mean.
DEFAULTS = {SPAN: "f1", ONE: "accuracy", MANY: "micro_f1", NUMBER: "rmse"}

_UNIT = {"percent": False}  # not in percent: a loss, a correlation, or in the unit of a regression's targets
_ERROR = {"percent": False, "higher_is_better": False}

TABLE = (
    Metric("loss", "mean loss of an example, without weights and smoothing", shown="line", **_ERROR),
    Metric("mean", "of several tasks: the mean of each task's default metric", shown="line"),
    Metric("accuracy", "right labels", (ONE,), shown="line", mean_of="hits"),
    Metric("precision", "of two labels, the second one's", shown="table"),
    Metric("recall", "of two labels, the second one's", shown="table"),
    Metric(
        "exact", "exact match of the answer; all labels of a text right", (SPAN, MANY), shown="line", mean_of="hits"
    ),
    Metric("f1", "words of the answer; of two labels, the second one's", (SPAN, ONE), shown="line", mean_of="scores"),
    Metric("HasAns_exact", "exact match of questions with an answer"),
    Metric("HasAns_f1", "F1 of questions with an answer", shown="table"),
    Metric("NoAns_exact", "questions without an answer that get none", shown=""),
    Metric("NoAns_f1", "questions without an answer that get none", shown="table"),
    Metric("best_exact", "exact match at the best null threshold", (SPAN,), mean_of="scores"),
    Metric("best_f1", "F1 at the best null threshold", (SPAN,), shown="table", mean_of="scores"),
    Metric("start_accuracy", "answerable questions whose first token is a gold answer's"),
    Metric("end_accuracy", "answerable questions whose last token is a gold answer's"),
    Metric("span_accuracy", "answerable questions whose first and last token are a gold answer's"),
    Metric("macro_f1", "mean F1 of the labels", (ONE, MANY), shown="line"),
    Metric("micro_f1", "F1 over all decisions", (MANY,), shown="line"),
    Metric("weighted_f1", "mean F1 of the labels, by their frequency", (ONE, MANY)),
    Metric("best_micro_f1", "micro F1 at each label's best threshold", (MANY,), shown="table"),
    Metric("best_macro_f1", "macro F1 at each label's best threshold", (MANY,)),
    Metric("macro_precision", "mean precision of the labels", (ONE,)),
    Metric("macro_recall", "mean recall of the labels", (ONE,)),
    Metric("matthews", "Matthews' correlation coefficient", (ONE,)),
    Metric("roc_auc", "of two labels, the area under the ROC curve", (ONE,)),
    Metric("top_3_accuracy", "texts whose label is among the 3 most probable"),
    Metric("top_5_accuracy", "texts whose label is among the 5 most probable"),
    Metric("ece", "expected calibration error", higher_is_better=False),
    Metric("rmse", "root mean squared error", (NUMBER,), shown="line", **_ERROR),
    Metric("mae", "mean absolute error", (NUMBER,), shown="line", mean_of="scores", **_ERROR),
    Metric("mse", "mean squared error", **_ERROR),
    Metric("r2", "share of the variance explained", (NUMBER,), shown="table", **_UNIT),
    Metric("pearson", "correlation", (NUMBER,), shown="line", **_UNIT),
    Metric("spearman", "correlation of ranks", (NUMBER,), shown="table", **_UNIT),
)
METRICS = {metric.name: metric for metric in TABLE}


def metric_of(name: str) -> Metric:
    """The row of "f1" or "qa.f1". A figure that is not in the table (a threshold, a count) is a plain number that is
    shown in JSON only."""
    last = name.rpartition(".")[2]
    return METRICS.get(last) or Metric(name, "", percent=False, shown="")


def direction(name: str) -> int:
    """1 where more of a metric is better, -1 where less is."""
    return 1 if metric_of(name).higher_is_better else -1


def deciding(kind: str) -> list[str]:
    """The metrics that may choose the best evaluation of a task of this kind; the loss always may."""
    return [metric.name for metric in TABLE if kind in metric.decides] + ["loss"]


def shown_in(names: list[str] | dict, *places: str) -> list[str]:
    """Those of the names that are shown in one of the places, in the table's order, a task's metrics together."""
    order = list(METRICS)
    chosen = [name for name in names if metric_of(name).shown in places]
    return sorted(chosen, key=lambda name: (name.rpartition(".")[0], order.index(name.rpartition(".")[2])))


def number(value: float | None, name: str, sign: str = "") -> str:
    """A metric as text: a percentage with one decimal, anything else with three; "-" for none. sign: "+" shows it
    always."""
    if value is None:
        return "-"
    return f"{value:{sign}.1f}" if metric_of(name).percent else f"{value:{sign}.3f}"


def mean_sd(values: dict | None, name: str) -> str:
    """{"mean", "sd", "n"} as "92.3 ± 0.4", as "92.3" where there is one value only."""
    if values is None:
        return "-"
    mean = number(values["mean"], name)
    return mean if values["sd"] is None else f"{mean} ± {number(values['sd'], name)}"
