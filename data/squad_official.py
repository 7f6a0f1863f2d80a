"""Scores of a file of predictions, as the official SQuAD script gives them."""

from collections.abc import Mapping, Sequence

from data.readers import Question
from data.squad_metrics import Scores, apply_threshold, average, score_each, thresholds


def score_all(
    questions: Sequence[Question],
    each: tuple[Scores, Scores],
    null_odds: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> tuple[Scores, Scores]:
    """(exact match, F1) of every question, from what `score_each` gives and no-answer probabilities if there are some.

    A question without a prediction scores 0, as in the script of version 1.1 (that of 2.0 breaks off there). Raises
    KeyError for a prediction without a probability.
    """
    exact, overlap = each
    if null_odds is not None:
        exact, overlap = (apply_threshold(questions, scores, null_odds, threshold) for scores in each)
    missing = {question.id: 0.0 for question in questions if question.id not in exact}
    return exact | missing, overlap | missing


def official(
    questions: Sequence[Question],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """Figures that the official script prints for predictions and, if given, no-answer probabilities. Raises KeyError
    as `score_all` does."""
    each = score_each(questions, predictions)
    result = average(questions, *score_all(questions, each, null_odds, threshold))
    if null_odds is not None:
        result |= thresholds(questions, predictions, *score_all(questions, each), null_odds)
    return result
