"""From logits to answer texts, and from answer texts to exact match and F1.

Decoding follows the original run_squad.py, scoring SQuAD's official evaluation script (version 2.0).
"""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data.squad import Question, Windows

# ---- decoding --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers:
    """The best span of each of M questions, and what "no answer" scored beside it."""

    char_spans: np.ndarray  # int64 [M, 2], characters in the original context; (0, 0) where there is no valid span
    span_score: np.ndarray  # float32 [M], start logit + end logit of that span; -inf where there is none
    null_score: np.ndarray  # float32 [M], start + end logit of [CLS], the minimum over the question's windows

    def texts(self, questions: Sequence[Question], null_threshold: float | None) -> list[str]:
        """The answer to each question, cut from its original context; "" for no answer.

        null_threshold: answer "" where null_score - span_score exceeds it. None: always give a span if there is one
        (a model that has never seen an unanswerable question uses [CLS] only for "not in this window").
        """
        texts = [q.context[a:b] for q, (a, b) in zip(questions, self.char_spans, strict=True)]
        if null_threshold is None:
            return texts
        is_null = self.null_score - self.span_score > null_threshold
        return ["" if null else text for text, null in zip(texts, is_null, strict=True)]


def max_context(windows: Windows) -> np.ndarray:
    """For each token of `windows.tokens`: is it context, and has it here the most context around it? bool [sum lengths]

    A token that several windows share is scored only in the best of them: the one with the larger
    min(tokens to its left, tokens to its right) + 0.01 * window length; the first of equals. In the example of
    data/squad.py, "to" is in window 0 (3 left, 1 right -> 1) and window 1 (0 left -> 0): only window 0 may use it.
    """
    result = np.zeros(len(windows.tokens), dtype=bool)
    first_of_question = np.searchsorted(windows.question, np.arange(windows.question[-1] + 2))
    for first, last in pairwise(first_of_question):
        spans = []  # (position in windows.tokens, first context token, count) of each window
        for n in range(first, last):
            count = int(windows.begin[n + 1] - windows.begin[n] - windows.context_at[n] - 1)
            spans.append((int(windows.begin[n] + windows.context_at[n]), int(windows.context_from[n]), count))
        if len(spans) == 1:
            result[spans[0][0] : spans[0][0] + spans[0][2]] = True
            continue
        total = max(start + count for _, start, count in spans)
        scores = np.full((len(spans), total), -1.0)
        for row, (_, start, count) in zip(scores, spans, strict=True):
            left = np.arange(count)
            row[start : start + count] = np.minimum(left, count - 1 - left) + 0.01 * count
        best = scores.argmax(0)
        for w, (position, start, count) in enumerate(spans):
            result[position : position + count] = best[start : start + count] == w
    return result


def _best_in_windows(
    windows: Windows,
    rows: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    usable: np.ndarray,
    n_best: int,
    longest: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best span of each window in `rows`: (score, first, last position in the window), each [len(rows)]."""
    lengths = windows.lengths[rows]
    position = np.arange(lengths.max())  # [T]
    flat = np.minimum(windows.begin[rows][:, None] + position, len(windows.tokens) - 1)  # [n, T]
    context = (position >= windows.context_at[rows][:, None]) & (position < lengths[:, None] - 1)
    start = np.where(context, start[flat], -np.inf)
    end = np.where(context, end[flat], -np.inf)
    k = min(n_best, len(position))
    starts = np.argpartition(-start, k - 1, axis=1)[:, :k]  # [n, k]
    ends = np.argpartition(-end, k - 1, axis=1)[:, :k]
    score = np.take_along_axis(start, starts, 1)[:, :, None] + np.take_along_axis(end, ends, 1)[:, None, :]  # [n, k, k]
    length = ends[:, None, :] - starts[:, :, None] + 1
    best_placed = np.take_along_axis(usable[flat], starts, 1)[:, :, None]
    score = np.where((length >= 1) & (length <= longest) & best_placed, score, -np.inf)
    best = score.reshape(len(rows), -1).argmax(1)
    first, last = starts[np.arange(len(rows)), best // k], ends[np.arange(len(rows)), best % k]
    return score.reshape(len(rows), -1)[np.arange(len(rows)), best], first, last


def decode(
    windows: Windows, start: np.ndarray, end: np.ndarray, n_best: int = 20, max_answer_length: int = 30
) -> Answers:
    """The best answer to each question over all of its windows.

    start, end: float32 [sum of lengths], the logits in the flat layout of `windows.tokens`.
    n_best: starts and ends considered in a window; max_answer_length: in tokens. A span must start where its token has
    the most context, and end at or after its start.
    """
    usable = max_context(windows)
    parts = [
        _best_in_windows(windows, rows, start, end, usable, n_best, max_answer_length)
        for rows in np.array_split(np.arange(len(windows)), max(1, len(windows) // 512))
    ]
    score, first, last = (np.concatenate(column) for column in zip(*parts, strict=True))
    count = int(windows.question[-1]) + 1
    null = np.full(count, np.inf, dtype=np.float32)
    np.minimum.at(null, windows.question, start[windows.begin[:-1]] + end[windows.begin[:-1]])
    # The best window of each question: sort by (question, score descending) and take each question's first row.
    order = np.lexsort((-score, windows.question))
    best = order[np.searchsorted(windows.question[order], np.arange(count))]
    shift = windows.context_begin[windows.question] + windows.context_from - windows.context_at
    found = np.isfinite(score[best])
    chars = np.zeros((count, 2), dtype=np.int64)
    rows = best[found]
    chars[found, 0] = windows.char_spans[first[rows] + shift[rows], 0]
    chars[found, 1] = windows.char_spans[last[rows] + shift[rows], 1]
    return Answers(chars, score[best].astype(np.float32), null)


# ---- metrics ---------------------------------------------------------------------------------------------------------


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
    return 2 * common / (len(gold_words) + len(predicted_words))


def score_answers(questions: Sequence[Question], predictions: Mapping[str, str]) -> dict[str, float]:
    """Exact match and F1 in percent, each the best over a question's gold answers, averaged over the questions.

    Gold answers that normalise to nothing do not count; an unanswerable question's gold answer is "". Where both kinds
    occur, HasAns_* and NoAns_* are the averages over each.
    """
    exact, overlap = np.zeros(len(questions)), np.zeros(len(questions))
    for i, question in enumerate(questions):
        golds = [text for text, _ in question.answers if normalise(text)] or [""]
        predicted = predictions[question.id]
        exact[i] = max(exact_match(gold, predicted) for gold in golds)
        overlap[i] = max(f1(gold, predicted) for gold in golds)
    answerable = np.array([bool(question.answers) for question in questions])
    result = {"exact": 100 * exact.mean(), "f1": 100 * overlap.mean()}
    if answerable.any() and not answerable.all():
        for name, chosen in (("HasAns", answerable), ("NoAns", ~answerable)):
            result[f"{name}_exact"], result[f"{name}_f1"] = 100 * exact[chosen].mean(), 100 * overlap[chosen].mean()
    return {key: float(value) for key, value in result.items()}
