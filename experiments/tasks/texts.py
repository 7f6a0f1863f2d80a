"""Labelled texts as tasks: classification, multi-label and regression. Their examples, head and evaluation.

Axes:  N examples   K outputs: classes, labels, or 1 for a number
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from data.files import InputError, shown
from data.labels import (
    Labelling,
    Outputs,
    balanced_weights,
    labels_of,
    learn_labels,
    learn_scale,
    number_of,
    targets,
    tokenize,
)
from data.metrics import (
    averages,
    best_thresholds,
    calibration_error,
    counts,
    multi_label,
    per_class,
    regression,
    roc_auc,
    top_k_accuracy,
)
from data.readers import Columns, Row
from data.sources import row_sets, sample
from data.splits import contradictions, duplicates, mark
from data.tokens import Tokens
from experiments.config.metrics import deciding, direction
from experiments.config.spec import ClassificationTask, EvalSpec, TextData, TextTask
from experiments.tasks.base import Evaluated, Task, predict
from model.families import Family
from model.heads import Head, TaskModel
from model.machine import Machine
from model.text_heads import TextHead, binary_cross_entropy, cross_entropy, squared_error

LOSSES = {"classification": cross_entropy, "multi_label": binary_cross_entropy, "regression": squared_error}


class Texts(Task):
    """Texts, or pairs of texts, with one label, any number of labels, or a number."""

    spec: TextTask

    def __init__(self, name: str, spec: TextTask, evaluation: EvalSpec, tokenizer: Tokenizer, root: Path):
        super().__init__(name, spec, evaluation, tokenizer, root)
        data, kind, labelling = spec.data, spec.task, labelling_of(spec.data)

        def labels(row: Row) -> tuple[str, ...]:  # as they are written: a name to show must not change a split
            return tuple(sorted(labels_of(row, kind, replace(labelling, names=None))))

        stratum = number_of if kind == "regression" else labels
        rows = row_sets(data, root, columns_of(data), stratum)
        train, dev, self.fingerprints = rows.train, rows.dev, rows.fingerprints
        self.outputs = learn_scale(train) if kind == "regression" else learn_labels(kind, rows.everything, labelling)
        check_metric(evaluation.metric, name, self.outputs)
        self.train, cut = tokens_of(train, tokenizer, spec, self.outputs)
        target = self.train.labels["target"]
        check_learnable(target, train)
        weight = example_weights(spec, self.outputs, target)
        self.remarks = []
        if weight is not None:
            self.train = replace(self.train, labels={"target": target, "weight": weight})
            self.remarks = [weight_remark(self.outputs, weight, target)]
        self.ids = [row.where for row in train]
        self.marks = torch.tensor(sorted({mark(row) for row in train}))
        judged = {"dev": dev} | ({"train": sample(train, evaluation.train_sample)} if evaluation.train_sample else {})
        made = {split: tokens_of(rows, tokenizer, spec, self.outputs) for split, rows in judged.items()}
        self.judged = {split: tokens for split, (tokens, _) in made.items()}
        shared = {"kind": "texts", "labels": len(self.outputs.labels)}
        self.splits = {
            "train": {"examples": len(train), **shared, "texts_cut": cut},
            "dev": {"examples": len(dev), **shared, "texts_cut": made["dev"][1], **duplicates(train, dev)},
        }
        self.splits["dev"]["baseline"] = baseline(kind, self.outputs, target, self.judged["dev"].labels["target"])
        if kind != "regression":  # its numbers differ a little, as measurements do
            self.splits["train"]["contradictions"] = contradictions(train, [labels(row) for row in train])

    @staticmethod
    def make_head(spec: Any, outputs: Outputs, width: int, dropout: float, family: Family) -> Head:
        count, (_, activation, _) = max(1, len(outputs.labels)), family.text_head
        return TextHead(width, count, LOSSES[spec.task], spec.pooling, dropout, activation)

    def evaluate(self, model: TaskModel, machine: Machine, split: str = "dev") -> Evaluated:
        examples = self.judged[split]
        logits, losses = predict(model, self.name, examples, machine)
        found = judge(self.spec.task, self.outputs, np.stack(logits), examples.labels["target"])
        return Evaluated({"loss": float(losses.mean()), **found.metrics}, found.scores, found.statistics)


# ---- from the spec to the data ---------------------------------------------------------------------------------------


def columns_of(data: TextData) -> Columns:
    return Columns(data.text, data.pair, data.label, data.header)


def labelling_of(data: TextData) -> Labelling:
    return Labelling(getattr(data, "label_separator", "|"), getattr(data, "label_names", None))


def tokens_of(rows: list[Row], tokenizer: Tokenizer, spec: TextTask, outputs: Outputs) -> tuple[Tokens, int]:
    """The rows as tokens with their targets, and how many texts had to be cut."""
    target = targets(spec.task, rows, outputs, labelling_of(spec.data))
    return tokenize(rows, tokenizer, spec.data.max_length, {"target": target})


def check_metric(metric: str, name: str, outputs: Outputs) -> None:
    """Raise InputError where eval.metric ("f1", or "mood.f1") is for two labels and these are not two."""
    task, _, last = metric.rpartition(".")
    if last in ("f1", "roc_auc") and task in ("", name) and len(outputs.labels) != 2:
        raise InputError(f"eval.metric: {last} is for two labels, these are {len(outputs.labels)}")


def check_learnable(target: np.ndarray, train: list[Row]) -> None:
    """Raise InputError where the training texts (those that the split and data.train_limit have left) all have the same
    label or labels."""
    if (target == target[0]).all():
        raise InputError(f"{train[0].where}: all {len(train):,} training texts have the same label; nothing to learn")


def example_weights(spec: TextTask, outputs: Outputs, target: np.ndarray) -> np.ndarray | None:
    """The weight of each training example's loss, float32 [N]; None where all weigh 1."""
    if not isinstance(spec, ClassificationTask):
        return None
    loss = spec.loss
    if loss.class_weights == "balanced":
        weights = balanced_weights(target, len(outputs.labels), loss.class_weight_cap)
    elif loss.label_weights:
        unknown = next((label for label in loss.label_weights if label not in outputs.labels), None)
        if unknown is not None:
            known = ", ".join(map(shown, outputs.labels[:10]))
            raise InputError(f"loss.label_weights: {shown(unknown)} is not a label of the training set ({known})")
        weights = np.array([loss.label_weights.get(label, 1.0) for label in outputs.labels])
    else:
        return None
    return weights[target].astype(np.float32)


def weight_remark(outputs: Outputs, weight: np.ndarray, target: np.ndarray) -> str:
    """The weights of the classes, for the banner: all of them, or of many the lowest and the highest."""
    by_label = {outputs.labels[k]: float(weight[target == k][0]) for k in np.unique(target)}
    ranked = sorted(by_label.items(), key=lambda item: item[1])
    chosen = ranked if len(ranked) <= 5 else [ranked[0], ranked[-1]]
    return "class weights: " + ("" if chosen is ranked else "from ") + ", ".join(f"{k} {w:.2f}" for k, w in chosen)


# ---- from logits to metrics ------------------------------------------------------------------------------------------


def probabilities(kind: str, logits: np.ndarray) -> np.ndarray:
    """Logits [N, K] -> probabilities [N, K]: softmax for classification, sigmoid for multi_label."""
    tensor = torch.from_numpy(logits).double()
    return (tensor.softmax(1) if kind == "classification" else tensor.sigmoid()).numpy()


def in_unit(outputs: Outputs, standardised: np.ndarray) -> np.ndarray:
    """A regression's standardised numbers in the unit of its targets."""
    return standardised.astype(float) * outputs.sd + outputs.mean


def judge(kind: str, outputs: Outputs, logits: np.ndarray, target: np.ndarray) -> Evaluated:
    """Every metric of logits [N, K] against targets, with the scores or statistics that its interval takes. Shares are
    in percent; a regression's errors are in the unit of its targets."""
    if kind == "regression":
        return judge_numbers(in_unit(outputs, logits[:, 0]), in_unit(outputs, target))
    if kind == "multi_label":
        return judge_label_sets(outputs, probabilities(kind, logits), target > 0)
    return judge_labels(probabilities(kind, logits), target)


def baseline(kind: str, outputs: Outputs, train: np.ndarray, dev: np.ndarray) -> dict[str, float]:
    """The metrics of an answer that never looks at the text: the commonest label of the training set (of two labels,
    whichever is better), the labels that most of its texts have, or its mean number. train, dev: targets. With 3
    training texts in 4 positive and 19 development texts in 20, an accuracy of 95 is worth nothing, and so is an F1 of
    97 where the positive label is the second."""
    if kind == "classification":
        classes = len(outputs.labels)
        answers = np.eye(classes)[[np.bincount(train).argmax()] if classes > 2 else [0, 1]]
    else:
        answers = np.where(train.mean(0) > 0.5, 1.0, -1.0)[None] if kind == "multi_label" else np.zeros((1, 1))
    blind = [np.tile(answer.astype(np.float32), (len(dev), 1)) for answer in answers]
    found = [judge(kind, outputs, logits, dev).metrics for logits in blind]
    known = [name for name in deciding(kind) if all(math.isfinite(each.get(name, math.nan)) for each in found)]
    return {name: max((each[name] for each in found), key=lambda value: direction(name) * value) for name in known}


def judge_labels(p: np.ndarray, target: np.ndarray) -> Evaluated:
    """Metrics of probabilities [N, K] against classes [N]. With two classes also precision, recall and F1 of the second
    one, and the area under its ROC curve; with more the share whose class is among the first 3 or 5."""
    classes, predicted = p.shape[1], p.argmax(1)
    counted = counts(target, predicted, classes)
    found = averages(counted)

    def macro_f1(chosen: np.ndarray) -> float:
        return 100 * averages(counts(target[chosen], predicted[chosen], classes))["macro_f1"]

    def f1(chosen: np.ndarray) -> float:  # of the second of two labels
        return 100.0 * per_class(counts(target[chosen], predicted[chosen], classes))["f1"][1]

    statistics: dict[str, Callable[[np.ndarray], float]] = {"macro_f1": macro_f1}
    if classes == 2:
        second = per_class(counted)
        found |= {key: float(second[key][1]) for key in ("precision", "recall", "f1")}
        found["roc_auc"] = roc_auc(target == 1, p[:, 1])
        statistics["f1"] = f1
    found |= {f"top_{k}_accuracy": top_k_accuracy(target, p, k) for k in (3, 5) if k < classes}
    found["ece"] = calibration_error(target, p)
    in_percent = {key: 100 * value for key, value in found.items()}
    return Evaluated(in_percent, {"accuracy": 100.0 * (predicted == target)}, statistics)


def judge_label_sets(outputs: Outputs, p: np.ndarray, has: np.ndarray) -> Evaluated:
    """Metrics of probabilities against labels [N, K]: micro and macro F1 and exact (all labels of a text right) at a
    threshold of 0.5; each label's threshold with the best F1, and the best F1s at those."""
    said, thresholds = p > 0.5, best_thresholds(has, p)
    found, tuned = multi_label(has, said), multi_label(has, p >= thresholds)
    found |= {"best_micro_f1": tuned["micro_f1"], "best_macro_f1": tuned["macro_f1"]}
    hits, marks = (said & has).sum(1), said.sum(1) + has.sum(1)  # of each text
    statistics = {"micro_f1": lambda chosen: 200 * hits[chosen].sum() / max(1, marks[chosen].sum())}
    metrics = {key: 100 * value for key, value in found.items()}
    metrics |= {f"threshold:{label}": float(t) for label, t in zip(outputs.labels, thresholds, strict=True)}
    return Evaluated(metrics, {"exact": 100.0 * (said == has).all(1)}, statistics)


def judge_numbers(predicted: np.ndarray, gold: np.ndarray) -> Evaluated:
    """Metrics of predicted against true numbers [N]."""
    squares = (predicted - gold) ** 2
    statistics = {"rmse": lambda chosen: float(np.sqrt(squares[chosen].mean()))}
    return Evaluated(regression(gold, predicted), {"mae": np.abs(predicted - gold)}, statistics)
