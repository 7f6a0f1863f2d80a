"""data/ranking.py, by hand, beside a plain reference and beside scikit-learn (extra `peers`)."""

import math

import numpy as np
import pytest

from data.ranking import contrastive_loss, judge_vectors, rank_scores


def plain(scores: list[float], relevant: set[int]) -> dict[str, float]:
    """The definitions, word by word, for scores that all differ."""
    order = sorted(range(len(scores)), key=lambda n: -scores[n])
    places = [place for place, n in enumerate(order, 1) if n in relevant]
    gains = sum(1 / math.log2(place + 1) for place in places if place <= 10)
    most = sum(1 / math.log2(place + 1) for place in range(1, min(10, len(relevant)) + 1))
    return {
        "mrr": 1 / places[0],
        **{f"recall_at_{k}": sum(place <= k for place in places) / len(relevant) for k in (1, 5, 10)},
        "ndcg_at_10": gains / most,
        "map": sum(found / place for found, place in enumerate(places, 1)) / len(relevant),
    }


def test_the_example_of_the_module_is_true():
    found = rank_scores(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), [0, 3])
    assert found["mrr"] == 1 and found["recall_at_1"] == 0.5 and found["recall_at_5"] == 1
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / math.log2(5)) / (1 + 1 / math.log2(3)))
    assert found["map"] == pytest.approx((1 + 2 / 4) / 2)


@pytest.mark.parametrize("relevant", [{3}, {0, 7}, {1, 2, 4, 8, 16}, set(range(15)), set(range(40))])
def test_every_metric_is_the_plain_definition(relevant):
    for seed in range(10):
        scores = np.random.default_rng(seed).permutation(40).astype(float)
        assert rank_scores(scores, relevant) == pytest.approx(plain(scores.tolist(), relevant))


@pytest.mark.parametrize("levels", [3, 10, 1000])
def test_ndcg_and_map_equal_scikit_learn_with_and_without_ties(levels):
    m = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(levels)
    for count in (1, 2, 5):
        scores = random.integers(0, levels, 30).astype(float)
        relevant = random.choice(30, count, replace=False).tolist()
        truth = np.zeros((1, 30), dtype=int)
        truth[0, relevant] = 1
        found = rank_scores(scores, relevant)
        assert found["ndcg_at_10"] == pytest.approx(m.ndcg_score(truth, scores[None], k=10))
        assert found["map"] == pytest.approx(m.label_ranking_average_precision_score(truth, scores[None]))
        assert found["map"] == pytest.approx(m.average_precision_score(truth[0], scores))


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_model_that_gives_all_the_same_score_gains_nothing(value):
    found = rank_scores(np.full(50, value), [0])
    assert found["mrr"] == found["map"] == 1 / 50 and found["recall_at_1"] == found["recall_at_10"] == 0


def test_a_question_without_a_relevant_passage_has_no_metrics():
    with pytest.raises(ValueError, match="no metrics"):
        rank_scores(np.zeros(3), [])


def test_the_loss_is_cross_entropy_among_the_wrong_passages_and_one_right_one():
    logits = np.array([2.0, 1.0, 0.5, -1.0])
    assert contrastive_loss(logits, [1]) == pytest.approx(-math.log(math.exp(1) / np.exp(logits).sum()))
    first, second = (math.log(math.exp(x) + math.exp(0.5) + math.exp(-1.0)) - x for x in (2.0, 1.0))
    assert contrastive_loss(logits, [0, 1]) == pytest.approx((first + second) / 2)
    assert contrastive_loss(logits[:1], [0]) == 0


def test_vectors_are_judged_by_question_in_percent():
    passages = np.eye(3, dtype=np.float32)
    scores, losses = judge_vectors(passages[[0, 1]], passages, [[0], [2]], 0.5)
    assert scores["recall_at_1"].tolist() == [100, 0] and scores["mrr"].tolist() == [100, pytest.approx(100 / 3)]
    assert losses[0] == pytest.approx(math.log(math.exp(2) + 2) - 2)
