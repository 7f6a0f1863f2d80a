"""Questions about passages to windows of tokens.

A window is what the encoder sees of a passage:   [CLS] question [SEP] a stretch of the context [SEP]
Windows over a context that does not fit into one begin `doc_stride` tokens apart, as in the original run_squad.py.

Worked example, with room for 5 context tokens and doc_stride 3:
    context    the man went to the store and bought a gallon of milk         (12 tokens)
    window 0   the man went to the
    window 1                to the store and bought
    window 2                             and bought a gallon of
    window 3                                          gallon of milk
If the answer is "the store": window 1 holds all of it and is labelled with its positions. Window 0 holds only "the":
it is labelled [CLS], as are windows 2 and 3, because its tokens do not answer the question.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from data.files import InputError
from data.readers import Question
from data.special_tokens import special_tokens
from data.tokens import Tokens, encode


@dataclass(frozen=True, kw_only=True)
class Windows(Tokens):
    """N windows over the contexts of M questions. The second text of a window is its stretch of the context."""

    question: np.ndarray  # int32 [N], the question it belongs to; ascending
    context_from: np.ndarray  # int32 [N], which token of the whole context its first context token is
    char_spans: np.ndarray  # int32 [sum of context lengths, 2], each context token's characters in the original text
    context_begin: np.ndarray  # int64 [M], where in char_spans the question's context begins
    context_end: np.ndarray  # int64 [M], and where it ends
    counts: dict[str, int]  # what happened on the way, for the run record

    @property
    def context_at(self) -> np.ndarray:
        """Position in the window of its first context token, int64 [N]"""
        return self.second

    @property
    def span(self) -> np.ndarray:
        """Labelled first and last position in the window, int64 [N, 2]; (0, 0) is [CLS]"""
        return self.labels["span"]

    def context_chars(self, question: int) -> np.ndarray:
        """Characters of each token of a question's context, int32 [tokens, 2]"""
        return self.char_spans[self.context_begin[question] : self.context_end[question]]


def token_span(char_spans: np.ndarray, start: int, end: int) -> tuple[int, int] | None:
    """First and last token that overlap characters [start, end), or None where no token does.

    char_spans [T, 2]. Tokens ascend and do not overlap, so both ends are a binary search. An answer inside one token
    ("km" in "400km") is labelled with that whole token.
    """
    first = int(np.searchsorted(char_spans[:, 1], start, side="right"))
    last = int(np.searchsorted(char_spans[:, 0], end, side="left")) - 1
    return (first, last) if first <= last else None


def _context_windows(length: int, room: int, doc_stride: int) -> list[tuple[int, int]]:
    """[(from, to)] of each window over a context of `length` tokens; one empty window for an empty context."""
    windows, start = [], 0
    while True:
        end = min(start + room, length)
        windows.append((start, end))
        if end == length:
            return windows
        start += doc_stride


def _answer_tokens(question: Question, chars: np.ndarray, counts: dict[str, int]) -> tuple[int, int] | None:
    """First and last context token of the first gold answer, None without one. chars [T, 2]: each token's characters.
    Counts answers that are lost, and those that are another text after the way to tokens and back."""
    if not question.answers:
        return None
    text, start = question.answers[0]
    span = token_span(chars, start, start + len(text))
    if span is None:
        counts["answers_lost"] += 1
    else:
        counts["answers_widened"] += question.context[chars[span[0], 0] : chars[span[1], 1]] != text.strip()
    return span


def make_windows(
    questions: Sequence[Question], tokenizer: Tokenizer, max_length: int, doc_stride: int, max_query_length: int
) -> Windows:
    """Tokenize and window the questions. Each distinct context is tokenized once.

    max_length: tokens in a window, special ones included. doc_stride: the step between windows in tokens (the
    `tokenizers` library calls the *overlap* stride; it is not used here). max_query_length: longer questions are cut.
    Raises InputError where a stride could skip context.
    """
    special = special_tokens(tokenizer)
    room = max_length - 2 - len(special.between)  # for a question and a stretch of its context
    if doc_stride > room - max_query_length:
        told = f"beside {max_query_length} of question, a window of {max_length} has room for {room - max_query_length}"
        raise InputError(f"data.doc_stride: {doc_stride} could skip text: {told}")
    context_number = {text: number for number, text in enumerate(dict.fromkeys(q.context for q in questions))}
    encoded = encode(list(context_number), tokenizer)
    context_ids = [np.array(e.ids, dtype=np.int32) for e in encoded]
    context_chars = [np.array(e.offsets, dtype=np.int32).reshape(-1, 2) for e in encoded]
    context_offset = np.cumsum([0, *map(len, context_ids)])
    query_ids = [e.ids for e in encode([q.question for q in questions], tokenizer)]
    counts = {"windows": 0, "questions_cut": 0, "answers_widened": 0, "answers_lost": 0}
    pieces: list[np.ndarray | list[int]] = []
    rows: list[tuple[int, ...]] = []
    for number, question in enumerate(questions):
        query = query_ids[number][:max_query_length]
        counts["questions_cut"] += len(query_ids[number]) > max_query_length
        c = context_number[question.context]
        answer = _answer_tokens(question, context_chars[c], counts)
        at = 1 + len(query) + len(special.between)
        for begin, end in _context_windows(len(context_ids[c]), room - len(query), doc_stride):
            pieces += [[special.cls, *query, *special.between], context_ids[c][begin:end], [special.sep]]
            span = (0, 0)
            if answer is not None and begin <= answer[0] and answer[1] < end:
                span = (at + answer[0] - begin, at + answer[1] - begin)
            rows.append((number, at, begin, *span, at + end - begin + 1))
    counts["windows"] = len(rows)
    table = np.array(rows, dtype=np.int64)
    return Windows(
        tokens=np.concatenate(pieces).astype(np.int32),
        begin=np.concatenate([[0], np.cumsum(table[:, 5])]),
        second=table[:, 1],
        pad=special.pad,
        labels={"span": table[:, 3:5]},
        question=table[:, 0].astype(np.int32),
        context_from=table[:, 2].astype(np.int32),
        char_spans=np.concatenate(context_chars),
        context_begin=context_offset[[context_number[q.context] for q in questions]],
        context_end=context_offset[[context_number[q.context] + 1 for q in questions]],
        counts=counts,
    )
