"""Classification, multi-label and regression: their examples, their batches, their evaluation."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from data.batching import Part, eval_batches
from data.files import InputError, shown
from data.labels import Labelling, Outputs, balanced_weights, labels_of, learn_labels, learn_scale, number_of, targets
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
from data.sources import Split, row_sets, sample
from data.splits import contradictions, duplicates, mark
from data.tokens import Texts, collate, make_masking, tokenize
from experiments.config.spec import DataSpec, EvalSpec, TaskSpec
from experiments.tasks.base import Evaluated
from model.heads import TaskModel
from model.machine import Precision, to_device

EVAL_BATCH_TOKENS = 4096


class TextTask:
    """Training and development texts of a task. Building it reads, splits, labels and tokenizes everything."""

    def __init__(self, spec: TaskSpec, evaluation: EvalSpec, name: str, tokenizer: Tokenizer, root: Path):
        data, self.spec = spec.data, spec
        split = Split(data.dev_fraction, data.folds, data.fold, data.train_limit, data.dev_limit)
        labelling, regression = labelling_of(data), spec.task == "regression"
        train, dev, everything, self.fingerprints = row_sets(
            data.source,
            data.train,
            data.dev,
            root,
            columns_of(data),
            split,
            stratum=number_of if regression else lambda row: tuple(sorted(labels_of(row, spec.task, labelling))),
        )
        self._outputs = learn_scale(train) if regression else learn_labels(spec.task, everything, labelling)
        self.outputs = {name: self._outputs}
        self.train_marks = {name: torch.tensor(sorted({mark(row) for row in train}))}
        self.train = tokenize(train, tokenizer, data.max_length)
        self.target = targets(spec.task, train, self._outputs, labelling)
        check_learnable(self.target, train)
        task, _, metric = evaluation.metric.rpartition(".")  # "f1", or of several tasks "sentiment.f1"
        if metric in ("f1", "roc_auc") and task in ("", name) and len(self._outputs.labels) != 2:
            raise InputError(f"eval.metric: {metric} is for two labels, these are {len(self._outputs.labels)}")
        judged = {"dev": dev} | ({"train": sample(train, evaluation.train_sample)} if evaluation.train_sample else {})
        self._judged = {
            split: (tokenize(rows, tokenizer, data.max_length), targets(spec.task, rows, self._outputs, labelling))
            for split, rows in judged.items()
        }
        self.weight = example_weights(spec, self._outputs, self.target)
        kind = {"kind": "texts", "labels": len(self._outputs.labels)}
        self.splits = {
            "train": {"examples": len(train), **kind, "texts_cut": self.train.cut, **self._contradictions(train)},
            "dev": {"examples": len(dev), **kind, "texts_cut": self._judged["dev"][0].cut, **duplicates(train, dev)},
        }
        self.remarks = weight_remarks(self._outputs, self.weight, self.target)
        self.parts = [Part(self.train.lengths, data.batch_tokens, data.batch_size)]
        self.lengths = self.train.lengths  # tokens of each training text [N]
        self._masking = make_masking(tokenizer, data.mask_tokens)
        self._ids = [row.where for row in train]

    def _contradictions(self, train: list[Row]) -> dict[str, int]:
        if self.spec.task == "regression":  # its numbers differ a little, as measurements do
            return {}
        labelling = labelling_of(self.spec.data)
        labels = [frozenset(labels_of(row, self.spec.task, labelling)) for row in train]
        return {"contradictions": contradictions(train, labels)}

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict[str, Tensor | None]:
        """The training texts `rows`. random: for what is drawn anew each time."""
        batch = collate(self.train, rows)
        if self._masking:
            self._masking.apply(batch, random)
        batch["target"] = torch.from_numpy(self.target[rows])
        if self.weight is not None:
            batch["weight"] = torch.from_numpy(self.weight[rows])
        return batch

    def losses(self, head: nn.Module, logits: Tensor, batch: dict) -> Tensor:
        """What is minimised, for each example [B]."""
        losses = head.loss(logits, batch, self.spec.loss.label_smoothing)
        return losses * batch["weight"] if "weight" in batch else losses

    def parameters_of(self, model: TaskModel, batches: list[np.ndarray]) -> dict[str, nn.Parameter]:
        """What a step over these batches can reach: all of the model."""
        return dict(model.named_parameters())

    def example_ids(self, rows: np.ndarray) -> list[str]:
        return [self._ids[i] for i in rows]

    def evaluate(self, model: TaskModel, device: torch.device, precision: Precision, split: str = "dev") -> Evaluated:
        """Loss (a mean over the texts, without weights and smoothing) and metrics on the development set, or on a
        sample of the training set (split "train"). Leaves the model's mode as it was."""
        (texts, target), kind = self._judged[split], self.spec.task
        logits, losses = predict(model, texts, device, precision, target)
        found = {"loss": float(losses.mean()), **metrics(kind, self._outputs, logits, target)}
        if kind == "regression":
            gold, predicted = (in_unit(self._outputs, x.astype(float)) for x in (target, logits[:, 0]))
            squares = (predicted - gold) ** 2
            root = {"rmse": lambda chosen: float(np.sqrt(squares[chosen].mean()))}
            return Evaluated(found, {"mae": np.abs(predicted - gold)}, root)
        if kind == "multi_label":
            said, has = logits > 0, target > 0
            hits, marks = (said & has).sum(1), said.sum(1) + has.sum(1)  # of each text
            joint = {"micro_f1": lambda chosen: 200 * hits[chosen].sum() / max(1, marks[chosen].sum())}
            return Evaluated(found, {"exact": 100.0 * (said == has).all(1)}, joint)
        predicted, classes = logits.argmax(1), len(self._outputs.labels)

        def macro_f1(chosen: np.ndarray) -> float:
            return 100 * averages(counts(target[chosen], predicted[chosen], classes))["macro_f1"]

        def f1(chosen: np.ndarray) -> float:  # of the second of two labels
            return 100 * per_class(counts(target[chosen], predicted[chosen], classes))["f1"][1]

        joint = {"macro_f1": macro_f1} | ({"f1": f1} if classes == 2 else {})
        return Evaluated(found, {"accuracy": 100.0 * (predicted == target)}, joint)


def check_learnable(target: np.ndarray, train: list[Row]) -> None:
    """Raise InputError where the training texts (those that the split and data.train_limit have left) all have the same
    label or labels."""
    if (target == target[0]).all():
        raise InputError(f"{train[0].where}: all {len(train):,} training texts have the same label; nothing to learn")


def columns_of(data: DataSpec) -> Columns:
    return Columns(data.text, data.pair, data.label, data.header)


def labelling_of(data: DataSpec) -> Labelling:
    return Labelling(data.label_separator, data.label_names)


def example_weights(spec: TaskSpec, outputs: Outputs, target: np.ndarray) -> np.ndarray | None:
    """The weight of each training example's loss, float32 [N]; None where all weigh 1."""
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


def weight_remarks(outputs: Outputs, weight: np.ndarray | None, target: np.ndarray) -> list[str]:
    """What the weights of the classes are, for the banner: all of them, or the lowest and the highest."""
    if weight is None:
        return []
    by_label = {outputs.labels[k]: float(weight[target == k][0]) for k in np.unique(target)}
    ranked = sorted(by_label.items(), key=lambda item: item[1])
    chosen = ranked if len(ranked) <= 5 else [ranked[0], ranked[-1]]
    return ["class weights: " + ("" if chosen is ranked else "from ") + ", ".join(f"{k} {w:.2f}" for k, w in chosen)]


# ---- predicting and judging ------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(
    model: TaskModel,
    texts: Texts,
    device: torch.device,
    precision: Precision,
    target: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float32 [N, K], and, where targets are given, the loss of each text [N]. Leaves the model's mode as it
    was."""
    was_training = model.training
    model.eval()
    logits, losses = None, np.zeros(len(texts))
    batches = eval_batches(texts.lengths, EVAL_BATCH_TOKENS)
    for rows in tqdm(batches, desc="evaluating", leave=False, disable=None):
        batch = collate(texts, rows)
        if target is not None:
            batch["target"] = torch.from_numpy(target[rows])
        batch = to_device(batch, device)
        with precision.autocast(device):
            out = model(batch)  # [B, K]
        if logits is None:
            logits = np.zeros((len(texts), out.shape[1]), dtype=np.float32)
        logits[rows] = out.cpu().numpy()
        if target is not None:
            losses[rows] = model.head.loss(out, batch).cpu().numpy()
    model.train(was_training)
    return logits, losses


def probabilities(task: str, logits: np.ndarray) -> np.ndarray:
    """Logits [N, K] -> probabilities [N, K]: softmax for classification, sigmoid for multi_label."""
    tensor = torch.from_numpy(logits).double()
    return (tensor.softmax(1) if task == "classification" else tensor.sigmoid()).numpy()


def metrics(task: str, outputs: Outputs, logits: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Every metric of a task. Shares are in percent; a regression's errors are in the unit of its targets."""
    if task == "regression":
        return regression(in_unit(outputs, target.astype(float)), in_unit(outputs, logits[:, 0].astype(float)))
    p = probabilities(task, logits)
    found = multi_label_metrics(outputs, p, target) if task == "multi_label" else class_metrics(p, target)
    return {key: value if key.startswith("threshold:") else 100 * value for key, value in found.items()}


def in_unit(outputs: Outputs, standardised: np.ndarray) -> np.ndarray:
    return standardised * outputs.sd + outputs.mean


def class_metrics(p: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """For probabilities [N, K] and classes [N]. With two classes also precision, recall and F1 of the second one, and
    the area under its ROC curve; with more the share whose class is among the first 3 or 5."""
    classes = p.shape[1]
    counted = counts(target, p.argmax(1), classes)
    found = averages(counted)
    if classes == 2:
        second = per_class(counted)
        found |= {key: float(second[key][1]) for key in ("precision", "recall", "f1")}
        found["roc_auc"] = roc_auc(target == 1, p[:, 1])
    found |= {f"top_{k}_accuracy": top_k_accuracy(target, p, k) for k in (3, 5) if k < classes}
    return {**found, "ece": calibration_error(target, p)}


def multi_label_metrics(outputs: Outputs, p: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """For probabilities and targets [N, K]: micro and macro F1 and exact (all labels of a text right) at a threshold of
    0.5; the threshold with the best F1 for each label, and best_macro_f1 and best_micro_f1 at those."""
    found = multi_label(target > 0, p > 0.5)
    thresholds = best_thresholds(target > 0, p)
    tuned = multi_label(target > 0, p >= thresholds)
    found |= {"best_micro_f1": tuned["micro_f1"], "best_macro_f1": tuned["macro_f1"]}
    return found | {f"threshold:{label}": float(t) for label, t in zip(outputs.labels, thresholds, strict=True)}
