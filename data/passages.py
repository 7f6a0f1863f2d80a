"""Texts to passages: stretches of a sensible number of tokens, to be ranked and then read.

A paragraph (a blank line ends it) is a passage. Short ones, headings and lines of a list, are joined with what follows;
long ones are cut between sentences, and a sentence that is itself too long, after so many tokens. Nothing is left out,
and no two passages share a token.
"""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

SHORTEST, LONGEST = (
    64,
    256,
)  # tokens: below, a passage is joined; above, cut. Sentence encoders were trained on up to 256
PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*\s+|\n+")

Stretch = tuple[int, int]  # first token, and the one after the last


def split_passages(text: str, chars: np.ndarray) -> list[tuple[int, int]]:
    """The passages of a text as (start, end) of their characters. chars: each token's characters, int [T, 2]."""
    pieces: list[Stretch] = []
    for paragraph in _stretches(text, chars, (0, len(chars)), PARAGRAPH_END):
        if paragraph[1] - paragraph[0] <= LONGEST:
            pieces.append(paragraph)
        else:
            sentences = _stretches(text, chars, paragraph, SENTENCE_END)
            whole = [part for sentence in sentences for part in _cut(sentence)]
            pieces += _join(whole, lambda held, more: held + more <= LONGEST)
    joined = _join(pieces, lambda held, more: min(held, more) < SHORTEST and held + more <= LONGEST)
    return [(int(chars[first, 0]), int(chars[end - 1, 1])) for first, end in joined]


def _stretches(text: str, chars: np.ndarray, within: Stretch, border: re.Pattern) -> list[Stretch]:
    """A stretch of tokens, divided wherever the text has a border; none of them is empty."""
    first, end = within
    if first == end:
        return []
    matches = border.finditer(text, int(chars[first, 0]), int(chars[end - 1, 1]))
    places = np.searchsorted(chars[first:end, 0], [match.end() for match in matches]) + first
    cuts = [first, *sorted({int(place) for place in places if first < place < end}), end]
    return list(pairwise(cuts))


def _cut(stretch: Stretch) -> list[Stretch]:
    first, end = stretch
    return [(begin, min(begin + LONGEST, end)) for begin in range(first, end, LONGEST)]


def _join(stretches: Sequence[Stretch], fits: Callable[[int, int], bool]) -> list[Stretch]:
    """Neighbours joined, from the first on, as long as they fit: a function of the tokens held and to be added."""
    joined: list[Stretch] = []
    for first, end in stretches:
        if joined and fits(joined[-1][1] - joined[-1][0], end - first):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined
