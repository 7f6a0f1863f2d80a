"""Metrics of classification, multi-label and regression. Equal to scikit-learn's and scipy's
(tests/data/test_metrics.py compares with them where they are installed, and with fixed numbers where not).

Axes:  N examples   K classes or labels
"""

import numpy as np


def counts(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [N], int [N] -> int [3, K]: how often each class is right, in gold, and predicted."""
    return np.stack([np.bincount(x, minlength=classes) for x in (gold[gold == predicted], gold, predicted)])


def label_counts(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Counts as in `counts`, for several labels an example: bool [N, K], bool [N, K] -> int [3, K]"""
    return np.stack([x.sum(0) for x in (gold & predicted, gold, predicted)])


def confusion(gold: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int [N], int [N] -> int [K, K], rows gold, columns predicted"""
    return np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, 0 where b is 0 (scikit-learn's zero_division=0)"""
    return np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=np.asarray(b) != 0)


def per_class(counted: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall, f1 and support of each class [K], from `counts` or `label_counts`"""
    hits, gold, predicted = counted
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, gold),
        "f1": _ratio(2 * hits, gold + predicted),
        "support": gold,
    }


def averages(counted: np.ndarray) -> dict[str, float]:
    """accuracy; macro (over classes that occur in gold or predictions) and weighted (by support) means of precision,
    recall and f1; Matthews' correlation coefficient. From `counts`. (Micro averages are the accuracy.)"""
    each = per_class(counted)
    hits, gold, predicted = counted.astype(float)
    occurs, right, total = gold + predicted > 0, hits.sum(), gold.sum()
    result = {"accuracy": right / total}
    for key in ("precision", "recall", "f1"):
        result[f"macro_{key}"] = each[key][occurs].mean()
        result[f"weighted_{key}"] = (each[key] * each["support"]).sum() / total
    covariance = right * total - gold @ predicted
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
    """The share of examples whose class is among the k most probable, of equals the later one (as scikit-learn has it).
    [N], [N, K]"""
    ranked = np.argsort(probabilities, axis=1, kind="stable")[:, ::-1]
    return float((ranked[:, :k] == gold[:, None]).any(1).mean())


def calibration_error(gold: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): over bins of equal width, the gap between mean confidence and
    accuracy, weighted by the bins' sizes."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == gold
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    bin_masks = [which == b for b in np.unique(which)]
    return float(sum(abs(confidence[m].mean() - right[m].mean()) * m.mean() for m in bin_masks))


def multi_label(gold: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """exact: the share of examples with all labels right; precision, recall and f1 as micro (over all decisions),
    macro (mean over the labels) and weighted (by how many have the label). gold, predicted bool [N, K]"""
    counted = label_counts(gold, predicted)
    each, pooled = per_class(counted), per_class(counted.sum(1))
    support, _ = each.pop("support"), pooled.pop("support")
    result = {"exact": (gold == predicted).all(1).mean()}
    result |= {f"micro_{key}": value for key, value in pooled.items()}
    result |= {f"macro_{key}": value.mean() for key, value in each.items()}
    result |= {f"weighted_{key}": _ratio((value * support).sum(), support.sum()) for key, value in each.items()}
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
    """mae, mse, rmse, r2, pearson, spearman. [N], [N]; a correlation with a constant is NaN, and so is r2 where gold is
    one (scikit-learn: 0, or 1 if there is no error)"""
    error = predicted - gold
    spread = 0.0 if gold.min() == gold.max() else ((gold - gold.mean()) ** 2).sum()
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
    if a.min() == a.max() or b.min() == b.max():  # their deviations from the mean are rounding errors, or 0
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale else float("nan")
