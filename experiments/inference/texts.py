"""Scoring a trained classifier, multi-label model or regression on a file, and asking it about texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.files import read_bytes
from data.labels import Outputs, number_of, targets, tokenize
from data.metrics import confusion, counts, label_counts, multi_label, per_class, regression
from data.readers import Row, read_table
from experiments.inference.thresholds import Wanted, operating_point, wanted_label
from experiments.inference.trained import Scored, Trained, trained_on
from experiments.tasks.base import predict
from experiments.tasks.texts import columns_of, in_unit, judge, labelling_of, probabilities

MOST_IN_MATRIX = 1000  # labels; a matrix of 10,000 would be a hundred million numbers


def label_thresholds(trained: Trained) -> np.ndarray:
    """Lowest probability at which a text has a label [K], of a multi-label model: from training's development set."""
    return np.array([trained.metrics.get(f"threshold:{label}") or 0.5 for label in trained.outputs.labels])


def predict_rows(
    trained: Trained, rows: Sequence[Row], labels: dict[str, np.ndarray] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, K] and, with labels, losses [N] of rows."""
    tokens, _ = tokenize(rows, trained.tokenizer, trained.task.data.max_length, labels)
    logits, losses = predict(trained.model, trained.name, tokens, trained.machine)
    return np.stack(logits), losses


def answers_of(trained: Trained, logits: np.ndarray) -> list[dict]:
    """The answer to each text: {"label", "probability", "probabilities"}, {"labels", "probabilities", "thresholds"} or
    {"value"}. The highest probability comes first."""
    outputs, kind = trained.outputs, trained.task.task
    if kind == "regression":
        return [{"value": float(value)} for value in in_unit(outputs, logits[:, 0])]
    thresholds, found = label_thresholds(trained), []
    by_name = dict(zip(outputs.labels, thresholds.tolist(), strict=True))
    for p in probabilities(kind, logits):
        ranked = {outputs.labels[k]: float(p[k]) for k in np.argsort(-p, kind="stable")}
        if kind == "classification":
            best = next(iter(ranked))
            found.append({"label": best, "probability": ranked[best], "probabilities": ranked})
        else:
            chosen = [outputs.labels[k] for k in np.flatnonzero(p >= thresholds)]
            found.append({"labels": chosen, "probabilities": ranked, "thresholds": by_name})
    return found


def ask(trained: Trained, rows: Sequence[Row]) -> list[dict]:
    """The answers to some texts, in one batch or few."""
    logits, _ = predict_rows(trained, rows)
    return [{"text": row.text, **answer} for row, answer in zip(rows, answers_of(trained, logits), strict=True)]


# ---- scoring ---------------------------------------------------------------------------------------------------------


def score(trained: Trained, file: Path, errors: int, wanted: Wanted | None = None) -> Scored:
    """Score a run on a file of labelled texts: metrics, scores of each label, confusions, the worst misses, and, if it
    is wanted, the threshold for a precision or recall. Predictions hold each text's id (file and line), gold value,
    predicted value and loss."""
    chosen = None if wanted is None else wanted_label(trained, wanted)
    rows = read_table(file, read_bytes(file), columns_of(trained.task.data))
    kind, outputs = trained.task.task, trained.outputs
    target = targets(kind, rows, outputs, labelling_of(trained.task.data))
    logits, losses = predict_rows(trained, rows, {"target": target})
    result: dict[str, Any] = {
        "task": kind,
        "trained_on": trained_on(trained, rows),
        "loss": float(losses.mean()),
        **judge(kind, outputs, logits, target).metrics,
        "baseline": blind(kind, outputs, target),
    }
    if wanted is not None and chosen is not None:
        point = operating_point(probabilities(kind, logits)[:, chosen], target == chosen, wanted)
        result["at"] = {"label": outputs.labels[chosen], **point}
    if kind == "classification":
        result |= label_details(outputs.labels, target, logits.argmax(1))
    elif kind == "multi_label":
        # At the thresholds of training's development set; the best ones for this file would be fitted to it.
        result = {key: value for key, value in result.items() if not key.startswith(("best_", "threshold:"))}
        result |= label_set_details(trained, target > 0, probabilities(kind, logits))
    predictions = []
    for i, (gold, answer) in enumerate(zip(gold_of(trained, rows, target), answers_of(trained, logits), strict=True)):
        said = {key: value for key, value in answer.items() if key not in ("probabilities", "thresholds")}
        predictions.append({"id": rows[i].where, "gold": gold, **said, "loss": float(losses[i])})
    worst = [i for i in np.argsort(-losses, kind="stable") if is_wrong(kind, predictions[i])]
    result["errors"] = [{"text": rows[i].text, "pair": rows[i].pair, **predictions[i]} for i in worst[:errors]]
    lines = "".join(json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions)
    return Scored("texts", {"texts": len(rows)}, result, {"predictions.jsonl": lines})


def blind(kind: str, outputs: Outputs, target: np.ndarray) -> dict:
    """What is reached without looking at a text: {"answer", metric: value}. The answer is the file's commonest label or
    set of labels, or the mean of the training targets. (The baseline of training is learnt from the training set.)"""
    if kind == "classification":
        found = np.bincount(target)
        return {"answer": outputs.labels[found.argmax()], "accuracy": 100 * float(found.max() / len(target))}
    if kind == "multi_label":
        sets, times = np.unique(target > 0, axis=0, return_counts=True)
        chosen = sets[times.argmax()]
        scores = multi_label(target > 0, np.tile(chosen, (len(target), 1)))
        answer = [outputs.labels[k] for k in np.flatnonzero(chosen)]
        return {"answer": answer, **{name: 100 * scores[name] for name in ("micro_f1", "exact")}}
    gold = in_unit(outputs, target)
    errors = regression(gold, np.full(len(gold), outputs.mean))
    return {"answer": outputs.mean, "rmse": errors["rmse"], "mae": errors["mae"]}


def label_details(labels: Sequence[str], target: np.ndarray, predicted: np.ndarray) -> dict:
    """Scores of each label, the most frequent confusions, and, of up to MOST_IN_MATRIX labels, the confusion matrix:
    rows gold, columns predicted."""
    count = len(labels)
    matrix = {"confusion": confusion(target, predicted, count).tolist()} if count <= MOST_IN_MATRIX else {}
    each = by_label(labels, per_class(counts(target, predicted, count)))
    return {"labels": each, **matrix, "confusions": confusions(labels, target, predicted)}


def label_set_details(trained: Trained, has: np.ndarray, p: np.ndarray) -> dict:
    """Metrics and scores of each label at the run's own thresholds. has, p [N, K]"""
    labels, thresholds = trained.outputs.labels, label_thresholds(trained)
    chosen = p >= thresholds
    return {
        "thresholds": dict(zip(labels, thresholds.tolist(), strict=True)),
        **{key: 100 * value for key, value in multi_label(has, chosen).items()},
        "labels": by_label(labels, per_class(label_counts(has, chosen))),
    }


def gold_of(trained: Trained, rows: Sequence[Row], target: np.ndarray) -> list:
    """Gold value of each row: a label, a list of labels, or a number."""
    labels = trained.outputs.labels
    if trained.task.task == "regression":
        return [number_of(row) for row in rows]
    if trained.task.task == "classification":
        return [labels[k] for k in target]
    return [[labels[k] for k in np.flatnonzero(row)] for row in target]


def is_wrong(kind: str, prediction: dict) -> bool:
    """Whether a prediction differs from its gold value; every one of a regression does."""
    key = {"classification": "label", "multi_label": "labels", "regression": "value"}[kind]
    return prediction[key] != prediction["gold"]


def by_label(labels: Sequence[str], scores: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """{label: precision, recall, f1 (in percent), support}"""
    in_percent = {key: values if key == "support" else 100 * values for key, values in scores.items()}
    return {label: {key: float(values[k]) for key, values in in_percent.items()} for k, label in enumerate(labels)}


def confusions(labels: Sequence[str], gold: np.ndarray, predicted: np.ndarray, count: int = 10) -> list[dict]:
    """The most frequent mistakes: gold, predicted, how often, and how often the gold label occurs. int [N], int [N]"""
    wrong = gold != predicted
    pairs, times = np.unique(np.stack([gold[wrong], predicted[wrong]], 1), axis=0, return_counts=True)
    return [
        {"gold": labels[i], "predicted": labels[j], "count": int(n), "of": int((gold == i).sum())}
        for (i, j), n in sorted(zip(pairs.tolist(), times, strict=True), key=lambda pair: -pair[1])[:count]
    ]
