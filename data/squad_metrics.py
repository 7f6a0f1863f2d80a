"""Exact match, F1 and no-answer thresholds of answer texts, number for number as SQuAD's official script 2.0.

Files of version 1.1 are scored by the same rules; their own script differs only where answers are missing or normalise
to nothing. `tests/data/test_squad_metrics.py` compares with numbers that the script itself gave.
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

from data.readers import Question

# ---- one answer ------------------------------------------------------------------------------------------------------


def normalise(text: str) -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces: "The U.S. Army's" -> "us armys"."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(gold: str, predicted: str) -> float:
    return float(normalise(gold) == normalise(predicted))


def f1(gold: str, predicted: str) -> float:
    """Harmonic mean of precision and recall over words, counted as a bag: gold "in the red house", predicted "a red
    house" share 2 of 3 and 2 of 2 words -> 0.8. Where either side has no words, 1 if both have none, else 0."""
    gold_words, predicted_words = normalise(gold).split(), normalise(predicted).split()
    if not gold_words or not predicted_words:
        return float(gold_words == predicted_words)
    common = sum((Counter(gold_words) & Counter(predicted_words)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted_words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)  # in this order: the script's last digit


# ---- many answers ----------------------------------------------------------------------------------------------------

Scores = dict[str, float]  # by question id


def score_each(questions: Sequence[Question], predictions: Mapping[str, str]) -> tuple[Scores, Scores]:
    """(exact match, F1) of every question, each 0 to 1 and the best over its gold answers.

    Gold answers that normalise to nothing do not count; without any, the only right answer is "". A question without a
    prediction scores 0, as in the script of version 1.1 (that of 2.0 breaks off there).
    """
    exact, overlap = ({question.id: 0.0 for question in questions} for _ in range(2))
    for question in questions:
        if question.id in predictions:
            golds = [text for text, _ in question.answers if normalise(text)] or [""]
            predicted = predictions[question.id]
            exact[question.id] = max(exact_match(gold, predicted) for gold in golds)
            overlap[question.id] = max(f1(gold, predicted) for gold in golds)
    return exact, overlap


def average(questions: Sequence[Question], exact: Scores, overlap: Scores) -> dict[str, float]:
    """exact, f1 in percent and total; the same as HasAns_* and NoAns_* over the questions with and without an answer,
    where there are any."""
    result = {}
    for prefix, kinds in (("", (True, False)), ("HasAns_", (True,)), ("NoAns_", (False,))):
        ids = [q.id for q in questions if bool(q.answers) in kinds]
        if ids:
            result[f"{prefix}exact"] = 100.0 * sum(exact[i] for i in ids) / len(ids)
            result[f"{prefix}f1"] = 100.0 * sum(overlap[i] for i in ids) / len(ids)
            result[f"{prefix}total"] = len(ids)
    return result


def apply_threshold(
    questions: Sequence[Question], scores: Scores, null_odds: Mapping[str, float], threshold: float
) -> Scores:
    """The scores if every answer whose question's null odds exceed the threshold is replaced by ""."""
    answerable = {question.id: bool(question.answers) for question in questions}
    empty = {i: float(not answerable[i]) for i, odds in null_odds.items() if i in scores and odds > threshold}
    return scores | empty


def best_threshold(
    questions: Sequence[Question], texts: Mapping[str, str], scores: Scores, null_odds: Mapping[str, float]
) -> tuple[float, float]:
    """(highest average in percent, the threshold that gives it), over all thresholds that the null odds offer.

    texts, scores: of the best answer, before any threshold has put "" in its place. The sweep starts with "" for every
    question and lets the answers in one by one, the surest first: an answerable question adds its score, each other one
    loses its point.

    Worked example: odds -3 (right answer), 1 (unanswerable), 2 (right answer) -> points 1, 2, 1, 2 of 3; the first of
    the best comes after -3: 66.7 at threshold -3.
    """
    answerable = {question.id: bool(question.answers) for question in questions}
    points = float(sum(not answerable[i] for i in scores if i in texts))
    best, threshold = points, 0.0
    for i in sorted(null_odds, key=lambda i: null_odds[i]):
        if i in texts and i in scores:
            points += scores[i] if answerable[i] else -1 if texts[i] else 0
            if points > best:
                best, threshold = points, null_odds[i]
    return 100.0 * best / len(scores), threshold


def judge(
    questions: Sequence[Question], texts: Mapping[str, str], null_odds: Mapping[str, float], threshold: float | None
) -> tuple[dict[str, float], dict[str, Scores]]:
    """The official figures for the best answers at a null threshold, and the scores of each question, 0 to 1.

    threshold: "" is answered where the null odds exceed it. None, for a model that always answers, leaves out the best
    figures that any threshold would give, and which threshold that is.
    """
    scores = dict(zip(("exact", "f1"), score_each(questions, texts), strict=True))
    best: dict[str, float] = {}
    if threshold is not None:
        answered = {i: odds for i, odds in null_odds.items() if i in texts}
        for name, of_texts in list(scores.items()):
            best[f"best_{name}"], limit = best_threshold(questions, texts, of_texts, answered)
            best[f"best_{name}_thresh"] = limit
            scores[name] = apply_threshold(questions, of_texts, answered, threshold)
            scores[f"best_{name}"] = apply_threshold(questions, of_texts, answered, limit)
    return average(questions, scores["exact"], scores["f1"]) | best, scores
