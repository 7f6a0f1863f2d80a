"""Logits to answers: the best spans of all windows, merged into a ranked list for each question.

Follows the original run_squad.py, with two exceptions. Only tokens of the context take places among the `n_best` starts
and ends (there, question and padding compete for them). And texts are cut from the original context by character
offsets (there, they are put together again from word pieces and aligned by a heuristic).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data.readers import Question
from data.squad import Windows

WINDOWS_AT_ONCE = 512


@dataclass(frozen=True)
class Span:
    """One possible answer. start, end: characters of the original context, end exclusive; both 0 for no answer."""

    text: str
    start: int
    end: int
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit


@dataclass(frozen=True)
class Answers:
    """A model's answers to one question."""

    spans: list[Span]  # best first, no text twice; empty where the context is
    null: Span  # "no answer": the logits of [CLS] in the window where their sum is smallest

    @property
    def best(self) -> str:
        """The best text; "" where there is none."""
        return self.spans[0].text if self.spans else ""

    @property
    def null_odds(self) -> float:
        """Score of "no answer" minus that of the best span; without a span minus 0, as in the original."""
        return self.null.score - (self.spans[0].score if self.spans else 0.0)

    def text(self, threshold: float | None) -> str:
        """The answer: "" where the null odds exceed the threshold. None: always the best span. (A model that has never
        seen an unanswerable question uses [CLS] only for "not in this window".)"""
        return "" if threshold is not None and self.null_odds > threshold else self.best

    def ranked(self, with_null: bool) -> list[tuple[Span, float]]:
        """Spans, "no answer" among them if it counts, best first, each with its probability: a softmax over these."""
        spans = sorted([*self.spans, self.null] if with_null else self.spans, key=lambda span: -span.score)
        if not spans:
            return []
        weights = np.exp(np.array([span.score for span in spans]) - spans[0].score)
        return list(zip(spans, (weights / weights.sum()).tolist(), strict=True))


def max_context(windows: Windows) -> np.ndarray:
    """Mark each token of `windows.tokens` that is context and has the most context around it here. bool [sum lengths]

    A token that several windows share is scored only in the best of them: the one with the largest
    min(tokens to its left, tokens to its right) + 0.01 * window length, the first of equals. In the example of
    data/squad.py, "to" is in window 0 (3 left, 1 right -> 1) and window 1 (0 left -> 0): only window 0 may use it.
    """
    count = windows.lengths - windows.context_at - 1  # context tokens of each window [N]
    size = windows.context_end - windows.context_begin  # and of each question's whole context [M]
    window = np.repeat(np.arange(len(windows)), count)  # the window of each context token in it [C = count.sum()]
    left = np.arange(len(window)) - (np.cumsum(count) - count)[window]  # context tokens to its left there [C]
    score = np.minimum(left, count[window] - 1 - left) + 0.01 * count[window]  # [C]
    first_of_question = (np.cumsum(size) - size)[windows.question]  # [N]
    token = (first_of_question + windows.context_from)[window] + left  # one number for all copies of a token [C]
    ranked = np.lexsort((-score, token))  # stable: of equal scores, the first window's
    _, best = np.unique(token[ranked], return_index=True)
    position = (windows.begin[:-1] + windows.context_at)[window] + left  # in windows.tokens [C]
    result = np.zeros(len(windows.tokens), dtype=bool)
    result[position[ranked[best]]] = True
    return result


def _spans_of_windows(
    windows: Windows, rows: np.ndarray, start: np.ndarray, end: np.ndarray, usable: np.ndarray, n_best: int, limit: int
) -> tuple[np.ndarray, ...]:
    """Pair the n_best starts with the n_best ends of each window in `rows`, and keep the valid spans.

    Returns (row, first position, last position, start logit, end logit), each [count], by question and then by score.
    """
    lengths = windows.lengths[rows]
    position = np.arange(lengths.max())  # [T]
    flat = np.minimum(windows.begin[rows][:, None] + position, len(windows.tokens) - 1)  # [n, T]
    context = (position >= windows.context_at[rows][:, None]) & (position < lengths[:, None] - 1)
    # In double precision, like Python's numbers in the original, so that equal sums are equal there and here.
    start = np.where(context, start[flat], -np.inf).astype(np.float64)
    end = np.where(context, end[flat], -np.inf).astype(np.float64)
    k = min(n_best, len(position))
    starts = np.argsort(-start, axis=1, kind="stable")[:, :k]  # [n, k], of equals the first in the text
    ends = np.argsort(-end, axis=1, kind="stable")[:, :k]
    start_logit, end_logit = np.take_along_axis(start, starts, 1), np.take_along_axis(end, ends, 1)
    length = ends[:, None, :] - starts[:, :, None] + 1  # [n, k, k]
    best_placed = np.take_along_axis(usable[flat], starts, 1)[:, :, None]
    valid = (length >= 1) & (length <= limit) & best_placed & np.isfinite(end_logit)[:, None, :]
    n, i, j = valid.nonzero()
    a, b = start_logit[n, i], end_logit[n, j]
    order = np.lexsort((-(a + b), windows.question[rows[n]]))  # stable: of equals the one with the better start
    n, i, j = n[order], i[order], j[order]
    return rows[n], starts[n, i], ends[n, j], a[order], b[order]


def decode(
    windows: Windows,
    questions: Sequence[Question],
    start: np.ndarray,
    end: np.ndarray,
    n_best: int = 20,
    max_answer_length: int = 30,
    usable: np.ndarray | None = None,
) -> list[Answers]:
    """The answers to each question over all of its windows.

    start, end: float32 [sum of lengths], the logits in the flat layout of `windows.tokens`.
    n_best: starts and ends considered in a window, and spans kept; max_answer_length: in tokens. A span must start
    where its token has the most context (`usable`: what `max_context` gives, if it is at hand), and not end before.
    """
    usable = max_context(windows) if usable is None else usable
    spans: list[list[Span]] = [[] for _ in questions]
    shift = windows.context_begin[windows.question] + windows.context_from - windows.context_at
    # Groups of about WINDOWS_AT_ONCE windows begin where a question does.
    begins = np.searchsorted(windows.question, np.unique(windows.question[::WINDOWS_AT_ONCE]))
    for rows in np.split(np.arange(len(windows)), begins[1:]):
        row, first, last, start_logit, end_logit = _spans_of_windows(
            windows, rows, start, end, usable, n_best, max_answer_length
        )
        chars = np.stack([windows.char_spans[first + shift[row], 0], windows.char_spans[last + shift[row], 1]], 1)
        numbers = windows.question[row]
        bounds = np.searchsorted(numbers, np.arange(windows.question[rows[0]], windows.question[rows[-1]] + 2))
        for number, (low, high) in enumerate(pairwise(bounds.tolist()), start=int(windows.question[rows[0]])):
            context, found = questions[number].context, {}
            for at in range(low, high):
                a, b = chars[at].tolist()
                text = context[a:b]
                if text not in found:
                    found[text] = Span(text, a, b, float(start_logit[at]), float(end_logit[at]))
                    if len(found) == n_best:
                        break
            spans[number] = list(found.values())
    cls = windows.begin[:-1]
    order = np.lexsort((start[cls].astype(np.float64) + end[cls], windows.question))
    lowest = order[np.searchsorted(windows.question[order], np.arange(len(questions)))]
    nulls = [Span("", 0, 0, float(start[cls[n]]), float(end[cls[n]])) for n in lowest]
    return [Answers(*pair) for pair in zip(spans, nulls, strict=True)]
