"""A trained classifier, multi-label model or regression at work: scoring it, seeing where it fails, asking it."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.files import replace_file
from data.labels import number_of, targets
from data.metrics import confusion, counts, multi_label, per_class
from data.readers import Row
from data.splits import mark
from data.tokens import tokenize
from experiments.inference.load import Trained
from experiments.tasks.texts import in_unit, labelling_of, metrics, predict, probabilities

MOST_IN_MATRIX = 1000  # labels; a matrix of 10,000 would be a hundred million numbers


def label_thresholds(trained: Trained) -> np.ndarray:
    """Of a multi-label model: the probability from which on a text has a label [K], found on the development set of
    training."""
    return np.array([trained.metrics.get(f"threshold:{label}") or 0.5 for label in trained.outputs.labels])


def predict_rows(trained: Trained, rows: Sequence[Row], target: np.ndarray | None = None):
    """Logits [N, K] and losses [N] of rows, see `text_task.predict`."""
    texts = tokenize(rows, trained.tokenizer, trained.task.data.max_length)
    return predict(trained.model, texts, trained.device, trained.precision, target)


def answers_of(trained: Trained, logits: np.ndarray) -> list[dict]:
    """What the model says of each text: {"label", "probability", "probabilities"}, {"labels", "probabilities",
    "thresholds"} or {"value"}. Probabilities are listed from the highest on."""
    outputs, kind = trained.outputs, trained.task.task
    if kind == "regression":
        return [{"value": float(value)} for value in in_unit(outputs, logits[:, 0].astype(float))]
    thresholds, found = label_thresholds(trained), []
    for p in probabilities(kind, logits):
        ranked = {outputs.labels[k]: float(p[k]) for k in np.argsort(-p, kind="stable")}
        if kind == "classification":
            best = next(iter(ranked))
            found.append({"label": best, "probability": ranked[best], "probabilities": ranked})
        else:
            chosen = [outputs.labels[k] for k in np.flatnonzero(p >= thresholds)]
            found.append(
                {
                    "labels": chosen,
                    "probabilities": ranked,
                    "thresholds": dict(zip(outputs.labels, thresholds.tolist(), strict=True)),
                }
            )
    return found


def ask_texts(trained: Trained, rows: Sequence[Row]) -> list[dict]:
    """The answers to some texts, in one batch or few."""
    logits, _ = predict_rows(trained, rows)
    return [{"text": row.text, **answer} for row, answer in zip(rows, answers_of(trained, logits), strict=True)]


# ---- scoring ---------------------------------------------------------------------------------------------------------


def score_rows(trained: Trained, rows: Sequence[Row], errors: int = 0) -> tuple[dict, list[dict]]:
    """Everything `eval.py score` says of a run on labelled texts: metrics, scores of each label, the confusion matrix
    (rows gold, columns predicted; not of more than MOST_IN_MATRIX labels), the most frequent confusions, the worst
    misses. And a prediction for each text."""
    kind, outputs = trained.task.task, trained.outputs
    target = targets(kind, rows, outputs, labelling_of(trained.task.data))
    logits, losses = predict_rows(trained, rows, target)
    answers = answers_of(trained, logits)
    result = {
        "run": str(trained.folder),
        "task": kind,
        "trained_on": None if trained.known is None else sum(mark(row) in trained.known for row in rows),
        "loss": float(losses.mean()),
        **metrics(kind, outputs, logits, target),
    }
    if kind == "classification":
        predicted, count = logits.argmax(1), len(outputs.labels)
        result["labels"] = by_label(outputs.labels, per_class(counts(target, predicted, count)))
        if count <= MOST_IN_MATRIX:
            result["confusion"] = confusion(target, predicted, count).tolist()
        result["confusions"] = confusions(outputs.labels, target, predicted)
    elif kind == "multi_label":
        chosen = probabilities(kind, logits) >= label_thresholds(trained)
        # At the thresholds of training's development set; the best ones for this file would be fitted to it.
        result = {key: value for key, value in result.items() if not key.startswith(("best_", "threshold:"))}
        result["thresholds"] = dict(zip(outputs.labels, label_thresholds(trained).tolist(), strict=True))
        result |= {key: 100 * value for key, value in multi_label(target > 0, chosen).items()}
        pairs = ((target[:, k].astype(int), chosen[:, k].astype(int)) for k in range(len(outputs.labels)))
        each = [by_label(("no", "yes"), per_class(counts(*pair, 2)))["yes"] for pair in pairs]
        result["labels"] = dict(zip(outputs.labels, each, strict=True))
    gold = gold_of(trained, rows, target)
    predictions = [
        {"id": row.where, "gold": g, **answer, "loss": float(loss)}
        for row, g, answer, loss in zip(rows, gold, answers, losses, strict=True)
    ]
    for prediction in predictions:
        prediction.pop("probabilities", None)
        prediction.pop("thresholds", None)
    worst = [i for i in np.argsort(-losses, kind="stable") if is_wrong(kind, predictions[i])]
    result["errors"] = [{"text": rows[i].text, "pair": rows[i].pair, **predictions[i]} for i in worst[:errors]]
    return result, predictions


def gold_of(trained: Trained, rows: Sequence[Row], target: np.ndarray) -> list:
    """What the files say: a label, a list of labels, or a number."""
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
    scale = {key: 1 if key == "support" else 100 for key in scores}
    return {
        label: {key: scale[key] * float(values[k]) for key, values in scores.items()} for k, label in enumerate(labels)
    }


def confusions(labels: Sequence[str], gold: np.ndarray, predicted: np.ndarray, count: int = 10) -> list[dict]:
    """The most frequent mistakes: gold, predicted, how often, and how often the gold label occurs. int [N], int [N]"""
    wrong = gold != predicted
    pairs, times = np.unique(np.stack([gold[wrong], predicted[wrong]], 1), axis=0, return_counts=True)
    return [
        {"gold": labels[i], "predicted": labels[j], "count": int(n), "of": int((gold == i).sum())}
        for (i, j), n in sorted(zip(pairs.tolist(), times, strict=True), key=lambda pair: -pair[1])[:count]
    ]


def write_rows(folder: Path, predictions: Sequence[dict]) -> None:
    """predictions.jsonl: id (file and line), gold, what was predicted, and the loss, a line per text."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions]
    replace_file(folder / "predictions.jsonl", "".join(lines))
