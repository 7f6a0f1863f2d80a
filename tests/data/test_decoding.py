import itertools

import numpy as np
import pytest

from data import decoding
from data.decoding import decode, max_context
from data.readers import Question
from data.squad import make_windows
from tests.data.test_squad import CONTEXT, one


def flat_logits(windows, positions: dict[int, list[tuple[int, float]]]) -> np.ndarray:
    """Zeros, but for {window: [(position in it, logit), ...]}"""
    logits = np.zeros(len(windows.tokens), dtype=np.float32)
    for n, entries in positions.items():
        for position, value in entries:
            logits[windows.begin[n] + position] = value
    return logits


@pytest.fixture
def single(tokenizer):
    """One question over one window: positions 4..15 are the twelve words of the context."""
    question = one(CONTEXT, "the store")
    return [question], make_windows([question], tokenizer, 64, 16, 16)


def answer(windows, questions, start, end, threshold=None, **options) -> str:
    logits = flat_logits(windows, {0: start}), flat_logits(windows, {0: end})
    return decode(windows, questions, *logits, **options)[0].text(threshold)


def test_the_best_span_is_cut_from_the_original_text(single):
    questions, windows = single
    assert answer(windows, questions, [(8, 5.0)], [(9, 5.0)]) == "the store"
    assert answer(windows, questions, [(4, 5.0)], [(15, 5.0)]) == CONTEXT


def test_an_end_before_its_start_and_too_long_a_span_are_not_answers(single):
    questions, windows = single
    assert answer(windows, questions, [(8, 5.0), (5, 4.0)], [(6, 5.0), (8, 1.0)]) == "man went"
    assert answer(windows, questions, [(4, 5.0)], [(15, 5.0), (6, 1.0)], max_answer_length=4) == "the man went"


def test_question_and_special_positions_never_answer(single):
    questions, windows = single
    assert answer(windows, questions, [(1, 9.0), (5, 1.0)], [(2, 9.0), (5, 1.0)]) == "man"


def test_no_answer_is_given_where_the_null_score_exceeds_the_span_by_more_than_the_threshold(single):
    questions, windows = single
    start, end = [(0, 6.0), (8, 5.0)], [(0, 6.0), (9, 5.0)]  # null 12, span 10
    assert answer(windows, questions, start, end, threshold=None) == "the store"
    assert answer(windows, questions, start, end, threshold=1.9) == ""
    assert answer(windows, questions, start, end, threshold=2.0) == "the store"


def test_the_null_score_is_the_minimum_over_the_windows(tokenizer):
    question = one(CONTEXT, "the store")
    windows = make_windows([question], tokenizer, max_length=10, doc_stride=3, max_query_length=2)
    cls = flat_logits(windows, {0: [(0, 3.0)], 1: [(0, -1.0)], 2: [(0, 5.0)], 3: [(0, 2.0)]})
    assert decode(windows, [question], cls, cls)[0].null.score == -2.0


def test_an_empty_context_gives_the_empty_answer(tokenizer):
    questions = [one("", None), one("milk", "milk")]
    windows = make_windows(questions, tokenizer, 64, 16, 16)
    zeros = np.zeros(len(windows.tokens), dtype=np.float32)
    empty, milk = decode(windows, questions, zeros, zeros)
    assert (empty.text(None), milk.text(None)) == ("", "milk")
    assert empty.spans == [] and empty.null_odds == 0.0 and empty.ranked(with_null=False) == []


def test_a_token_counts_only_in_the_window_with_the_most_context_around_it(tokenizer):
    question = one(CONTEXT, "the store")
    windows = make_windows([question], tokenizer, max_length=10, doc_stride=3, max_query_length=2)
    flags = max_context(windows)
    used = []
    for n in range(len(windows)):
        span = flags[windows.begin[n] + windows.context_at[n] : windows.begin[n + 1] - 1]
        used.append((windows.context_from[n] + span.nonzero()[0]).tolist())
    # By hand, min(left, right) in windows of 5, 5, 5 and 3: 3 is 1 in window 0 and 0 in window 1; 4 is 0 and 1; 6 is 1
    # (window 1) and 0 (window 2); 7 is 0 and 1; 9 is 1 (window 2) and 0 (window 3); 10 is 0 in window 2 and 1 in 3.
    assert used == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11]]
    assert sorted(itertools.chain(*used)) == list(range(12))


def test_decoding_finds_every_answer_of_perfect_logits_over_many_windows(tokenizer):
    """Two contexts, so that the second one's characters must be found behind the first one's."""
    texts = [" ".join(f"{letter}{i}" for i in range(100, 300)) for letter in "wv"]
    questions = [
        Question(f"{text[0]}{i}", "who ?", text, ((f"{text[0]}{i}", text.index(f"{text[0]}{i}")),))
        for i in range(100, 300, 3)
        for text in texts
    ]
    windows = make_windows(questions, tokenizer, max_length=64, doc_stride=20, max_query_length=8)
    start, end = (np.zeros(len(windows.tokens), dtype=np.float32) for _ in range(2))
    for n in range(len(windows)):
        start[windows.begin[n] + windows.span[n, 0]] = 9
        end[windows.begin[n] + windows.span[n, 1]] = 9
    predicted = [answers.best for answers in decode(windows, questions, start, end)]
    assert predicted == [question.answers[0][0] for question in questions]


# ---- n-best lists ----------------------------------------------------------------------------------------------------


def slowly(windows, number, context, start, end, n_best, longest) -> list[tuple]:
    """run_squad.py's way, loop by loop, for one question: (text, start, end, start logit, end logit) of its n-best."""
    usable, found = max_context(windows), []
    for n in np.flatnonzero(windows.question == number):
        begin, first, length = int(windows.begin[n]), int(windows.context_at[n]), int(windows.lengths[n])
        positions = list(range(first, length - 1))
        starts = sorted(positions, key=lambda p: -start[begin + p])[:n_best]
        ends = sorted(positions, key=lambda p: -end[begin + p])[:n_best]
        for a in starts:
            for b in ends:
                if usable[begin + a] and a <= b < a + longest:
                    found.append((n, a, b, float(start[begin + a]), float(end[begin + b])))
    found.sort(key=lambda entry: entry[3] + entry[4], reverse=True)
    result, seen = [], set()
    for n, a, b, start_logit, end_logit in found:
        chars = windows.context_chars(number)
        shift = windows.context_from[n] - windows.context_at[n]
        low, high = int(chars[a + shift, 0]), int(chars[b + shift, 1])
        if context[low:high] not in seen and len(result) < n_best:
            seen.add(context[low:high])
            result.append((context[low:high], low, high, start_logit, end_logit))
    return result


@pytest.mark.parametrize("n_best,longest", [(1, 30), (5, 3), (20, 30)])
def test_n_best_lists_are_those_of_the_original_loops(tokenizer, n_best, longest):
    """Over several windows a question, with many equal logits and texts that occur twice."""
    rng = np.random.default_rng(0)
    contexts = [" ".join(rng.choice(["milk", "man", "the", "store", "wash-up"], size)) for size in (3, 20, 60, 60)]
    questions = [Question(f"q{i}", "who ?", context, ()) for i, context in enumerate([*contexts, "", contexts[1]])]
    windows = make_windows(questions, tokenizer, max_length=32, doc_stride=8, max_query_length=4)
    start, end = (rng.integers(-9, 9, len(windows.tokens)).astype(np.float32) / 4 for _ in range(2))
    answers = decode(windows, questions, start, end, n_best, longest)
    for number, question in enumerate(questions):
        expected = slowly(windows, number, question.context, start, end, n_best, longest)
        assert [(s.text, s.start, s.end, s.start_logit, s.end_logit) for s in answers[number].spans] == expected
        scores = [start[b] + end[b] for b in windows.begin[:-1][windows.question == number]]
        assert answers[number].null.score == min(scores)


def test_decoding_in_pieces_changes_nothing(tokenizer, monkeypatch):
    rng = np.random.default_rng(1)
    questions = [Question(f"q{i}", "who ?", " ".join(["milk man"] * int(rng.integers(1, 40))), ()) for i in range(30)]
    windows = make_windows(questions, tokenizer, max_length=32, doc_stride=8, max_query_length=4)
    start, end = (rng.normal(size=len(windows.tokens)).astype(np.float32) for _ in range(2))
    whole = decode(windows, questions, start, end)
    monkeypatch.setattr(decoding, "WINDOWS_AT_ONCE", 3)
    assert decode(windows, questions, start, end) == whole


def test_probabilities_are_a_softmax_over_the_list_and_no_answer_takes_its_rank(single):
    questions, windows = single
    start, end = flat_logits(windows, {0: [(8, 5.0), (0, 4.5)]}), flat_logits(windows, {0: [(9, 5.0), (0, 4.5)]})
    (answers,) = decode(windows, questions, start, end, n_best=2)
    assert answers.null_odds == 9.0 - 10.0
    ranked = answers.ranked(with_null=True)
    assert [span.text for span, _ in ranked] == ["the store", "", CONTEXT[:25]]
    weights = np.exp([10.0, 9.0, 5.0])
    assert [p for _, p in ranked] == pytest.approx((weights / weights.sum()).tolist())
    assert [span.text for span, _ in answers.ranked(with_null=False)] == ["the store", CONTEXT[:25]]
