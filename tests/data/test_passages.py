"""data/passages.py: texts to passages."""

from itertools import pairwise

import numpy as np
import pytest

from data.passages import LONGEST, SHORTEST, split_passages
from data.tokens import encode


def pieces(text: str, tokenizer) -> list[str]:
    (encoded,) = encode([text], tokenizer)
    return [text[a:b] for a, b in split_passages(text, np.array(encoded.offsets).reshape(-1, 2))]


def count(text: str, tokenizer) -> int:
    return len(encode([text], tokenizer)[0].ids)


LONG = "The river was high and nobody crossed it that day. " * 8  # 88 tokens


def test_paragraphs_are_passages_and_a_heading_goes_with_what_follows(tokenizer):
    first, second = LONG.strip(), LONG.replace("river", "lake").strip()
    assert pieces(f"Notes\n\n{first}\n \n{second}\n", tokenizer) == [f"Notes\n\n{first}", second]
    assert pieces("One.\n\nTwo.\n\nThree.", tokenizer) == ["One.\n\nTwo.\n\nThree."]


def test_a_long_paragraph_is_cut_between_sentences(tokenizer):
    found = pieces(LONG * 6, tokenizer)
    assert len(found) > 1 and all(piece.endswith("that day.") and piece.startswith("The river") for piece in found)
    assert all(count(piece, tokenizer) <= LONGEST for piece in found)


def test_a_sentence_that_never_ends_is_cut_after_so_many_tokens(tokenizer):
    found = pieces("word " * 1000, tokenizer)
    assert [count(piece, tokenizer) for piece in found] == [LONGEST] * 3 + [1000 - 3 * LONGEST]


@pytest.mark.parametrize("seed", range(20))
def test_every_token_is_in_exactly_one_passage(tokenizer, seed):
    random = np.random.default_rng(seed)
    marks = ["\n\n", ". ", "! ", "\n", " \n \n ", " ", "\t", "\u200b", "émile ", "中文。", "a" * 40 + " ", LONG]
    text = "".join(marks[i] + "word " * int(random.integers(0, 90)) for i in random.integers(0, len(marks), 25))
    (encoded,) = encode([text], tokenizer)
    chars = np.array(encoded.offsets).reshape(-1, 2)
    found = split_passages(text, chars)
    inside = [[a <= start and end <= b for a, b in found].count(True) for start, end in chars.tolist()]
    assert inside == [1] * len(chars)
    sizes = [sum(a <= start and end <= b for start, end in chars.tolist()) for a, b in found]
    assert max(sizes) <= LONGEST
    assert all(min(a, b) >= SHORTEST or a + b > LONGEST for a, b in pairwise(sizes))


@pytest.mark.parametrize("text", ["", " \n\n ", "\u200b"])
def test_without_words_there_are_no_passages(tokenizer, text):
    assert pieces(text, tokenizer) == []
