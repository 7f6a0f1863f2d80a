"""Metrics of ranked passages, each a score per question: their means are MRR, recall at k, NDCG and MAP.

Equal scores. Passages that share a score share the last of their places, so a model that gives all the same score gains
nothing: scikit-learn's average precision counts so, too. NDCG is the mean over the orders that they could have, as
scikit-learn's ndcg_score.

Axes:  Q questions   P passages
"""

from collections.abc import Collection, Sequence

import numpy as np

CUTS = (1, 5, 10)  # of recall
DEPTH = 10  # of NDCG


def rank_scores(scores: np.ndarray, relevant: Collection[int]) -> dict[str, float]:
    """One question's metrics, 0 to 1. scores: of all passages [P]; NaN counts as the lowest. relevant: the numbers of
    those that answer it, at least one.

    mrr           1 / the place of the first relevant one (Voorhees 1999)
    recall_at_K   the share of the relevant ones among the first K
    ndcg_at_10    gains of 1 / log2(place + 1) over the first 10, over the most there could be (Järvelin 2002)
    map           the mean, over the relevant ones, of the share of relevant ones up to there: average precision

    Relevant passages in places 1 and 4 of 5: mrr 1, recall_at_1 0.5, ndcg (1 + 0.43) / (1 + 0.63), map (1 + 2/4) / 2.
    """
    if not relevant:
        raise ValueError("a question without a relevant passage has no metrics")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = scores[list(relevant)]  # [relevant]
    before = (scores > own[:, None]).sum(1)  # passages above each
    last = (scores >= own[:, None]).sum(1)  # its place, the last of its equals'
    found = (own >= own[:, None]).sum(1)  # relevant ones up to there
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, DEPTH + 2)))])  # sum over the first n places
    gained, reached = (discounts[np.minimum(place, DEPTH)] for place in (before, last))
    return {
        "mrr": float(1 / last.min()),
        **{f"recall_at_{k}": float((last <= k).mean()) for k in CUTS},
        "ndcg_at_10": float(((reached - gained) / (last - before)).sum() / discounts[min(len(own), DEPTH)]),
        "map": float((found / last).mean()),
    }


def contrastive_loss(logits: np.ndarray, relevant: Collection[int]) -> float:
    """-log softmax of a relevant passage among itself and all that are not relevant; the mean over the relevant ones.
    logits [P]"""
    chosen = list(relevant)
    others = np.delete(logits.astype(np.float64), chosen)
    rest = others.max() + np.log(np.exp(others - others.max()).sum()) if len(others) else -np.inf
    return float(np.mean(np.logaddexp(logits[chosen], rest) - logits[chosen]))


def judge_vectors(
    questions: np.ndarray, passages: np.ndarray, relevant: Sequence[Collection[int]], temperature: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """{metric: each question's score in percent [Q]} and losses [Q] of unit vectors [Q, C] against [P, C]. relevant:
    the numbers of each question's passages."""
    found, losses = [], []
    for vector, own in zip(questions, relevant, strict=True):
        cosines = passages @ vector  # [P]
        found.append(rank_scores(cosines, own))
        losses.append(contrastive_loss(cosines / temperature, own))
    return {key: 100 * np.array([each[key] for each in found]) for key in found[0]}, np.array(losses)
