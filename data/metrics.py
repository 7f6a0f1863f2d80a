"""Metrics of classification, multi-label and regression. Equal to scikit-learn's and scipy's
(tests/data/test_metrics.py compares with them where they are installed, and with fixed numbers where not).

Axes:  N examples   K classes or labels
"""

import numpy as np


def confusion(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [N], int [N] -> int [K, K], rows gold, columns predicted"""
    return np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, 0 where b is 0 (scikit-learn's zero_division=0)"""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.asarray(b) != 0)


def _scores(hits: np.ndarray, predicted: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall and f1 from counts: true positives, predicted and gold positives"""
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, gold),
        "f1": _ratio(2 * hits, gold + predicted),
    }


def per_class(table: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall, f1 and support of each class, [K]"""
    return {**_scores(np.diag(table), table.sum(0), table.sum(1)), "support": table.sum(1)}


def averages(table: np.ndarray) -> dict[str, float]:
    """accuracy; precision, recall and f1 as macro (mean over the classes that occur in gold or predictions) and
    weighted (by support); Matthews' correlation coefficient. (Where each example has one label, micro averages are the
    accuracy.)"""
    each = per_class(table)
    occurs = (table.sum(1) + table.sum(0)) > 0
    total = table.sum()
    result = {"accuracy": np.trace(table) / total}
    for key in ("precision", "recall", "f1"):
        result[f"macro_{key}"] = each[key][occurs].mean()
        result[f"weighted_{key}"] = (each[key] * each["support"]).sum() / total
    gold, predicted = table.sum(1).astype(float), table.sum(0).astype(float)
    covariance = np.trace(table) * total - gold @ predicted
    spread = (total**2 - gold @ gold) * (total**2 - predicted @ predicted)
    result["matthews"] = covariance / np.sqrt(spread) if spread else 0.0
    return {key: float(value) for key, value in result.items()}


def roc_auc(gold: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. gold bool [N],
    score [N]. NaN where one of the two kinds is missing."""
    positives, negatives = int(gold.sum()), int((~gold).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks(score)[gold].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ranks(values: np.ndarray) -> np.ndarray:
    """1, 2, ... in ascending order, equal values sharing their mean rank"""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def top_k_accuracy(gold: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """The share of examples whose class is among the k most probable. [N], [N, K]"""
    return float((np.argsort(-probabilities, axis=1, kind="stable")[:, :k] == gold[:, None]).any(1).mean())


def calibration_error(gold: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): over bins of equal width, the gap between mean confidence and
    accuracy, weighted by the bins' sizes."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == gold
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    bin_masks = [which == b for b in np.unique(which)]
    return float(sum(abs(confidence[m].mean() - right[m].mean()) * m.mean() for m in bin_masks))


def multi_label(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """exact: the share of examples with all labels right; precision, recall and f1 as micro (over all decisions) and
    macro (mean over the labels). gold, predicted bool [N, K]"""
    hits = gold & predicted
    each = _scores(hits.sum(0), predicted.sum(0), gold.sum(0))
    pooled = _scores(hits.sum(), predicted.sum(), gold.sum())
    result = {"exact": (gold == predicted).all(1).mean()}
    result |= {f"micro_{key}": value for key, value in pooled.items()}
    result |= {f"macro_{key}": value.mean() for key, value in each.items()}
    return {key: float(value) for key, value in result.items()}


def best_thresholds(gold: np.ndarray, p: np.ndarray) -> np.ndarray:
    """For each label the threshold with the highest F1 of "p >= threshold" [K], half-way to the next lower probability;
    0.5 for a label that nothing has. gold bool [N, K], p [N, K]"""
    thresholds = np.full(gold.shape[1], 0.5)
    for k in range(gold.shape[1]):
        if not gold[:, k].any():
            continue
        order = np.argsort(-p[:, k], kind="stable")
        score, hits = p[order, k], np.cumsum(gold[order, k])
        f1 = 2 * hits / (np.arange(1, len(order) + 1) + hits[-1])
        f1[:-1][score[:-1] == score[1:]] = 0  # equal probabilities are on the same side
        best = int(f1.argmax())
        below = score[best + 1] if best + 1 < len(order) else 0.0
        thresholds[k] = (score[best] + below) / 2
    return thresholds


def regression(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """mae, mse, rmse, r2, pearson, spearman. [N], [N]; a correlation of a constant is NaN"""
    error = predicted - gold
    spread = ((gold - gold.mean()) ** 2).sum()
    mse = float((error**2).mean())
    return {
        "mae": float(np.abs(error).mean()),
        "mse": mse,
        "rmse": mse**0.5,
        "r2": float(1 - (error**2).sum() / spread) if spread else float("nan"),
        "pearson": _correlation(gold, predicted),
        "spearman": _correlation(ranks(gold), ranks(predicted)),
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")
