import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data.files import InputError
from data.readers import Question, place_answers
from data.readers import read_questions as read_contents
from data.sources import question_sets
from data.squad import make_windows, token_span
from data.tokens import collate
from model.heads import candidates

CONTEXT = "the man went to the store and bought a gallon of milk"  # 12 words, one token each


def write_squad(path: Path, paragraphs: list[tuple[str, list[dict]]]) -> Path:
    """paragraphs: [(context, [qa, ...]), ...]"""
    data = [{"title": "t", "paragraphs": [{"context": context, "qas": qas} for context, qas in paragraphs]}]
    path.write_text(json.dumps({"version": "v2.0", "data": data}), encoding="utf-8")
    return path


def read_questions(paths: list[Path]) -> list[Question]:
    return read_contents({path: path.read_bytes() for path in paths})[0]


def qa(identifier="q1", question="who?", answers=(("man", 4),), **more) -> dict:
    return {
        "id": identifier,
        "question": question,
        "answers": [{"text": text, "answer_start": start} for text, start in answers],
        **more,
    }


def one(context: str, answer: str | None, question: str = "who ?") -> Question:
    answers = () if answer is None else ((answer, context.index(answer)),)
    return Question("q", question, context, answers)


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_both_versions_of_the_format_are_read(tmp_path):
    path = write_squad(
        tmp_path / "a.json", [(CONTEXT, [qa(), qa("q2", answers=(), is_impossible=True, plausible_answers=[])])]
    )
    first, second = read_questions([path])
    assert first.answers == (("man", 4),) and second.answers == ()


@pytest.mark.parametrize(
    "change,message",
    [
        ({"id": 5}, r"article 0, paragraph 0: 'id': expected a text, found"),
        ({"question": None}, r"question id q1: 'question': expected a text, found"),
        ({"answers": []}, r"question id q1: has no answers and is not is_impossible"),
        ({"is_impossible": True}, r"question id q1: has answers but is_impossible is true"),
        ({"is_impossible": 1}, r"'is_impossible': expected true or false, found"),
        ({"answers": [{"text": "man"}]}, r"question id q1: no 'answer_start'"),
        ({"answers": [{"text": "man", "answer_start": True}]}, r"'answer_start': expected a whole number, found"),
        ({"answers": [{"text": "man", "answer_start": 5}]}, r"1 answer.* not where they say.*q1.*'man' is not at 5"),
        ({"answers": [{"text": "man", "answer_start": -52}]}, r"'man' is not at -52"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, change, message):
    path = write_squad(tmp_path / "a.json", [(CONTEXT, [qa() | change])])
    with pytest.raises(InputError, match=message):
        read_questions([path])


def test_a_duplicate_id_is_an_error_also_across_files(tmp_path):
    a, b = (write_squad(tmp_path / name, [(CONTEXT, [qa()])]) for name in ("a.json", "b.json"))
    with pytest.raises(InputError, match=r"b.json: question id q1 is already in .*a.json"):
        read_questions([a, b])


def test_answers_that_are_not_where_they_say_are_left_out_only_when_asked(tmp_path):
    """A question keeps its other answers, and goes where it has none left."""
    qas = [qa("half", answers=(("man", 4), ("man", 5))), qa("none", answers=(("man", 5),)), qa("good")]
    path = write_squad(tmp_path / "a.json", [(CONTEXT, qas)])
    with pytest.raises(
        InputError, match=r"^2 answer.* data.bad_answers=skip; the first: .*id half: answer 'man' is not at 5"
    ):
        read_questions([path])
    questions, misplaced = read_contents({path: path.read_bytes()}, bad_answers="skip")
    assert [(q.id, q.answers) for q in questions] == [("half", (("man", 4),)), ("good", (("man", 4),))]
    assert len(misplaced) == 2


@pytest.mark.parametrize(
    "answer,context,told",
    [
        ("milk", "a gallon of milk", "it is at 12"),
        ("art", "party art, smart art", "it is at 6 and 17"),  # whole words come before parts of words
        ("art", "the party", "it is at 5"),
        ("a", "a b a b a b a", "it is at 0, 4 and 2 more places"),
        ("日本", "東京は日本の首都", "it is at 3"),
        ("Milk", "a gallon of milk", "its text is nowhere in the passage; did you mean 'milk' at 12?"),
        ("a  gallon", "with\na\ngallon", "its text is nowhere in the passage; did you mean 'a\\ngallon' at 5?"),
        ("beer", "a gallon of milk", "its text is nowhere in the passage$"),
        ("", "milk", "its text is nowhere in the passage$"),
        ("x" * 10**6, "milk", "its text is nowhere in the passage$"),
    ],
)
def test_a_misplaced_answer_is_told_with_where_its_text_is(answer, context, told):
    _, (wrong,) = place_answers(Question("q", "what?", context, ((answer, 99),)), "a.json", "error")
    assert re.search(told if told.endswith("$") else f"{re.escape(told)}$", wrong.remark) and not wrong.moved


def test_fixing_moves_an_answer_to_its_one_place_and_leaves_out_the_others(tmp_path):
    """The worst fix would be to guess: "the" is there twice, and "beer" is not."""
    qas = [
        qa("one", answers=(("store", 0),)),
        qa("mixed", answers=(("the", 1), ("man", 4), ("milk", -1))),
        qa("twice", answers=(("the", 1),)),
        qa("nowhere", answers=(("beer", 0),)),
        qa("none", answers=(), is_impossible=True),
    ]
    path = write_squad(tmp_path / "a.json", [(CONTEXT, qas)])
    questions, misplaced = read_contents({path: path.read_bytes()}, bad_answers="fix")
    assert {q.id: q.answers for q in questions} == {
        "one": (("store", CONTEXT.index("store")),),
        "mixed": (("man", 4), ("milk", CONTEXT.index("milk"))),
        "none": (),
    }
    assert all(question.placed == question.answers for question in questions)
    assert [each.moved for each in misplaced] == [True, False, True, False, False]
    assert [each.remark.partition(":")[0] for each in misplaced[:2]] == ["moved", "left out"]


# ---- a development set of some passages ------------------------------------------------------------------------------


def carved(tmp_path, paragraphs, fraction=0.25, **more):
    write_squad(tmp_path / "a.json", paragraphs)
    data = SimpleNamespace(source="files", train=("a.json",), dev=(), dev_fraction=fraction, bad_answers="error",
                           **{"train_limit": None, "dev_limit": None} | more)  # fmt: skip
    return question_sets(data, tmp_path)


def test_a_fraction_of_the_passages_is_the_development_set_and_none_is_on_both_sides(tmp_path):
    """Nor one that differs in spaces and case alone. Each side has its share of the questions without an answer."""
    paragraphs = []
    for i in range(40):
        qas = [qa(f"{i}-{n}", answers=(("man", 4),)) for n in range(1 + i % 3)]
        qas += [qa(f"{i}-none", answers=(), is_impossible=True)] * (i % 2)
        paragraphs += [(f"the man {i} left", qas), (f"the man  {i} LEFT!", [qa(f"{i}-again")])]
    train, dev = carved(tmp_path, paragraphs)
    number = [{q.context.split()[2] for q in each.questions} for each in (train, dev)]
    assert len(number[1]) == 10 and not number[0] & number[1] and len(number[0] | number[1]) == 40
    assert sum(not q.answers for q in dev.questions) == 5 and sum(not q.answers for q in train.questions) == 15
    assert len(dev.questions) == pytest.approx(len(train.questions) / 3, rel=0.1)
    assert train.fingerprint == dev.fingerprint and carved(tmp_path, paragraphs) == (train, dev)  # always the same
    fewer = carved(tmp_path, paragraphs, train_limit=12, dev_limit=4)
    assert [len(each.questions) for each in fewer] == [12, 4]
    assert {q.id for q in fewer[1].questions} < {q.id for q in dev.questions}


def test_one_passage_cannot_be_divided(tmp_path):
    paragraphs = [(CONTEXT, [qa("q1"), qa("q2")]), (f" {CONTEXT.upper()}.", [qa("q3", answers=(("MAN", 5),))])]
    with pytest.raises(InputError, match=r"a.json: too few different passages \(1\) for data.dev_fraction 0.25"):
        carved(tmp_path, paragraphs)


def test_to_score_only_the_answers_count_as_in_the_official_script(tmp_path):
    """Not where they are, and not what is_impossible says."""
    qas = [qa("a", answers=()), qa("b", is_impossible=True), qa("c", answers=(("man", 5),))]
    path = write_squad(tmp_path / "a.json", [(CONTEXT, qas)])
    questions, misplaced = read_contents({path: path.read_bytes()}, bad_answers="keep")
    assert [(q.id, len(q.answers)) for q in questions] == [("a", 0), ("b", 1), ("c", 1)] and len(misplaced) == 1


# ---- characters and tokens -------------------------------------------------------------------------------------------

TEXTS = [
    "  Leading spaces, then words.",
    "Café, naïve, and Zoë's re\u0301sume\u0301 in combining marks",
    "emoji 😀🎉 between wörds",
    "日本語 and 中文 beside English",
    "tabs\tand\nnewlines\u00a0and\u200bzero widths",
    "control \x00\x07 characters are dropped",
    "U.S.-based (1995–2003), 400km/h",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_token_maps_to_the_characters_it_came_from_and_back(tokenizer, text):
    encoded = tokenizer.encode(text, add_special_tokens=False)
    spans = np.array(encoded.offsets)
    for i, (start, end) in enumerate(spans):
        assert start < end <= len(text)
        assert token_span(spans, start, end) == (i, i)
    words = [(text.index(word), len(word)) for word in text.split() if word.isalnum()]
    for start, length in words:
        first, last = token_span(spans, start, start + length)
        assert text[spans[first, 0] : spans[last, 1]] == text[start : start + length]


def test_answers_at_the_first_and_last_token_and_inside_one_token(tokenizer):
    text = "400km from milk"
    spans = np.array(tokenizer.encode(text, add_special_tokens=False).offsets)
    assert token_span(spans, 0, 3)[0] == 0
    assert token_span(spans, text.index("milk"), len(text)) == (len(spans) - 1,) * 2
    inside = token_span(spans, 1, 2)
    assert spans[inside[0], 0] <= 1 and spans[inside[1], 1] >= 2


def test_a_region_without_a_token_has_no_span(tokenizer):
    spans = np.array(tokenizer.encode("a    b", add_special_tokens=False).offsets)
    assert token_span(spans, 2, 4) is None


# ---- windows ---------------------------------------------------------------------------------------------------------


def window_words(windows, tokenizer) -> list[list[str]]:
    """The context words of each window."""
    words = []
    for n in range(len(windows)):
        ids = windows.tokens[windows.begin[n] + windows.context_at[n] : windows.begin[n + 1] - 1]
        words.append([tokenizer.id_to_token(int(i)) for i in ids])
    return words


def test_the_worked_example_of_the_module_is_true(tokenizer):
    windows = make_windows([one(CONTEXT, "the store")], tokenizer, max_length=10, doc_stride=3, max_query_length=2)
    assert [" ".join(words) for words in window_words(windows, tokenizer)] == [
        "the man went to the",
        "to the store and bought",
        "and bought a gallon of",
        "gallon of milk",
    ]
    at = windows.context_at[1]
    assert windows.span.tolist() == [[0, 0], [at + 1, at + 2], [0, 0], [0, 0]]


def test_every_context_token_is_in_some_window_whatever_the_stride(tokenizer):
    for stride in range(1, 6):
        windows = make_windows([one(CONTEXT, "milk")], tokenizer, max_length=10, doc_stride=stride, max_query_length=2)
        covered = set()
        for n, words in enumerate(window_words(windows, tokenizer)):
            covered |= set(range(windows.context_from[n], windows.context_from[n] + len(words)))
        assert covered == set(range(12))


def test_a_stride_that_would_skip_text_is_an_error(tokenizer):
    with pytest.raises(InputError, match=r"data.doc_stride: 6 could skip text: .* a window of 10 has room for 5"):
        make_windows([one(CONTEXT, "milk")], tokenizer, max_length=10, doc_stride=6, max_query_length=2)


def test_a_window_is_cls_question_sep_context_sep(tokenizer):
    windows = make_windows([one("red house", "house")], tokenizer, 64, 16, 16)
    tokens = [tokenizer.id_to_token(int(i)) for i in windows.tokens]
    assert tokens == ["[CLS]", "who", "?", "[SEP]", "red", "house", "[SEP]"]
    assert windows.span.tolist() == [[5, 5]]


def test_a_long_question_is_cut_and_counted(tokenizer):
    windows = make_windows([one(CONTEXT, "milk", question="why " * 30)], tokenizer, 64, 16, 16)
    assert windows.context_at[0] == 18 and windows.counts["questions_cut"] == 1


def test_an_unanswerable_question_and_an_empty_context_are_labelled_cls(tokenizer):
    windows = make_windows([one(CONTEXT, None), one("", None)], tokenizer, 64, 16, 16)
    assert windows.span.tolist() == [[0, 0], [0, 0]]


def test_a_collated_batch_marks_types_padding_and_candidates(tokenizer):
    windows = make_windows([one(CONTEXT, "milk"), one("red house", "house")], tokenizer, 64, 16, 16)
    batch = collate(windows, np.array([1, 0]))
    assert batch["tokens"].shape == (2, 20)  # 4 + 12 + 1 = 17 tokens, padded to a multiple of 4
    assert batch["mask"].sum(1).tolist() == [7, 17]
    assert batch["types"][0].tolist()[:8] == [0, 0, 0, 0, 1, 1, 1, 0]
    assert candidates(batch["types"])[0].nonzero().squeeze(1).tolist() == [0, 4, 5]
    assert batch["span"].tolist() == [[5, 5], [15, 15]]


def test_a_batch_without_padding_has_no_mask(tokenizer):
    words = " ".join(["milk"] * 11)
    windows = make_windows([one(words, "milk")], tokenizer, 64, 16, 16)  # 5 special and question tokens + 11 = 16
    assert collate(windows, np.array([0]))["mask"] is None


@pytest.mark.parametrize("name", ["rows.csv", "ROWS.TSV", "rows.jsonl"])
def test_a_table_of_texts_is_not_taken_for_broken_questions(name):
    with pytest.raises(InputError, match="is a table of labelled texts; span_qa reads SQuAD's JSON"):
        read_contents({Path(name): b"text,label\ngood,yes\n"})
