"""data/metrics.py, by hand and beside scikit-learn and scipy (extra `peers`)."""

import math

import numpy as np
import pytest

from data.metrics import (
    averages,
    best_thresholds,
    calibration_error,
    confusion,
    counts,
    multi_label,
    per_class,
    ranks,
    regression,
    roc_auc,
    top_k_accuracy,
)


def test_a_small_table_by_hand():
    """gold 0 0 0 1 1 2, predicted 0 0 1 1 2 2"""
    gold, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    assert confusion(gold, predicted, 3).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    counted = counts(gold, predicted, 3)
    assert counted.tolist() == [[2, 1, 1], [3, 2, 1], [2, 2, 2]]
    each = per_class(counted)
    assert each["precision"].tolist() == [1, 0.5, 0.5]
    assert each["recall"] == pytest.approx([2 / 3, 0.5, 1])
    assert each["f1"] == pytest.approx([0.8, 0.5, 2 / 3])
    found = averages(counted)
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert found["weighted_f1"] == pytest.approx((3 * 0.8 + 2 * 0.5 + 2 / 3) / 6)
    assert found["matthews"] == pytest.approx((4 * 6 - 2 * 3 - 2 * 2 - 2 * 1) / math.sqrt((36 - 12) * (36 - 14)))


def test_a_class_that_is_never_predicted_has_precision_0_and_one_that_is_nowhere_does_not_count():
    found = averages(counts(np.array([0, 0, 1]), np.array([0, 0, 0]), 4))
    assert found["macro_precision"] == pytest.approx((2 / 3 + 0) / 2) and found["matthews"] == 0


def test_roc_auc_counts_ties_half():
    assert roc_auc(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
    assert roc_auc(np.array([True, True, False, False]), np.array([0.9, 0.4, 0.4, 0.1])) == (3 + 0.5) / 4
    assert math.isnan(roc_auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_equal_values_share_their_rank():
    assert ranks(np.array([10.0, 20, 20, 5])).tolist() == [2, 3.5, 3.5, 1]


def test_calibration_by_hand():
    """Two bins: two texts at 0.9 of which one is right, two at 0.6 of which both are."""
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert calibration_error(np.array([0, 1, 0, 0]), p) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)
    assert calibration_error(np.array([0, 0]), np.array([[1.0, 0.0]] * 2)) == 0


def test_regression_by_hand():
    found = regression(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 6]))
    assert (found["mae"], found["mse"], found["rmse"], found["r2"]) == (0.5, 1.0, 1.0, pytest.approx(1 - 4 / 5))
    assert found["spearman"] == pytest.approx(1) and found["pearson"] == pytest.approx(8 / math.sqrt(5 * 14))
    constant = regression(np.array([1.0, 2]), np.array([1.5, 1.5]))
    assert math.isnan(constant["pearson"]) and constant["r2"] == 0
    rounded = regression(np.array([0.1] * 3), np.array([1.0, 2, 4]))  # the mean of three 0.1 is not 0.1
    assert all(math.isnan(rounded[key]) for key in ("r2", "pearson", "spearman"))


def test_of_equal_probabilities_the_later_class_ranks_higher_as_in_scikit_learn():
    p = np.full((1, 4), 0.25)
    assert [top_k_accuracy(np.array([gold]), p, 2) for gold in range(4)] == [0, 0, 1, 1]


def test_multi_label_by_hand():
    gold = np.array([[1, 0], [1, 1], [0, 0]]).astype(bool)
    predicted = np.array([[1, 0], [1, 0], [1, 0]]).astype(bool)
    found = multi_label(gold, predicted)
    assert found["exact"] == pytest.approx(1 / 3)
    assert (found["micro_precision"], found["micro_recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert found["macro_f1"] == pytest.approx(0.8 / 2) and found["weighted_f1"] == pytest.approx((2 * 0.8 + 0) / 3)


def test_the_best_threshold_is_the_best_of_all_that_make_a_difference():
    random = np.random.default_rng(0)
    gold, p = random.random((60, 4)) < 0.3, np.round(random.random((60, 4)), 1)
    gold[:, 3] = False
    found = best_thresholds(gold, p)
    assert found[3] == 0.5
    for k in range(3):
        tried = [multi_label(gold[:, [k]], p[:, [k]] >= t)["macro_f1"] for t in np.arange(-0.05, 1.1, 0.1)]
        assert multi_label(gold[:, [k]], p[:, [k]] >= found[k])["macro_f1"] == pytest.approx(max(tried))


# ---- beside the libraries --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes,count", [(2, 50), (5, 200), (77, 300), (3, 4)])
def test_everything_about_classes_equals_scikit_learn(classes, count):
    m = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(classes)
    gold = random.integers(0, classes, count)
    p = random.dirichlet(np.ones(classes), count)
    predicted = np.where(random.random(count) < 0.6, gold, p.argmax(1))
    counted, quiet = counts(gold, predicted, classes), {"zero_division": 0}
    assert (confusion(gold, predicted, classes) == m.confusion_matrix(gold, predicted, labels=range(classes))).all()
    found, keys = averages(counted), ("precision", "recall", "f1")
    assert found["accuracy"] == pytest.approx(m.accuracy_score(gold, predicted))
    assert found["accuracy"] == pytest.approx(m.f1_score(gold, predicted, average="micro"))
    assert found["matthews"] == pytest.approx(m.matthews_corrcoef(gold, predicted))
    for how in ("macro", "weighted"):
        theirs = m.precision_recall_fscore_support(gold, predicted, average=how, **quiet)[:3]
        assert [found[f"{how}_{key}"] for key in keys] == pytest.approx(theirs)
    theirs = m.precision_recall_fscore_support(gold, predicted, labels=range(classes), **quiet)
    for key, values in zip((*keys, "support"), theirs, strict=True):
        assert per_class(counted)[key] == pytest.approx(values)
    if classes > 2:
        assert top_k_accuracy(gold, p, 2) == pytest.approx(m.top_k_accuracy_score(gold, p, k=2, labels=range(classes)))
    else:
        assert roc_auc(gold == 1, np.round(p[:, 1], 1)) == pytest.approx(m.roc_auc_score(gold, np.round(p[:, 1], 1)))


def test_everything_about_several_labels_equals_scikit_learn():
    m = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    gold, predicted = random.random((200, 6)) < 0.3, random.random((200, 6)) < 0.3
    found = multi_label(gold, predicted)
    assert found["exact"] == pytest.approx(m.accuracy_score(gold, predicted))
    for how in ("macro", "micro", "weighted"):
        theirs = m.precision_recall_fscore_support(gold, predicted, average=how, zero_division=0)[:3]
        assert [found[f"{how}_{key}"] for key in ("precision", "recall", "f1")] == pytest.approx(theirs)


def test_everything_about_numbers_equals_scikit_learn_and_scipy():
    m, stats = pytest.importorskip("sklearn.metrics"), pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    gold = np.round(random.normal(size=300), 1)
    predicted = np.round(gold + random.normal(size=300), 1)
    found = regression(gold, predicted)
    assert found["mae"] == pytest.approx(m.mean_absolute_error(gold, predicted))
    assert found["mse"] == pytest.approx(m.mean_squared_error(gold, predicted))
    assert found["rmse"] == pytest.approx(m.mean_squared_error(gold, predicted) ** 0.5)
    assert found["r2"] == pytest.approx(m.r2_score(gold, predicted))
    assert found["pearson"] == pytest.approx(stats.pearsonr(gold, predicted)[0])
    assert found["spearman"] == pytest.approx(stats.spearmanr(gold, predicted)[0])
