"""Statements that hold for every input, tried on inputs that nobody would think of (hypothesis invents them)."""

import json
import math
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import Part, TrainingOrder
from data.files import InputError, one_line, parse_json, shown
from data.readers import Question
from data.squad import make_windows, token_span
from data.squad_metrics import exact_match, f1, normalise
from experiments.config.check import read_spec
from experiments.config.parse import build, override
from experiments.config.spec import Spec
from experiments.records import FILE, read_records
from experiments.training.writer import Writer
from model.hub import packaged_folder
from model.tokenizer import load_tokenizer

settings.register_profile("here", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("here")

TEXT = st.text(max_size=40)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)

# ---- spec parsing ----------------------------------------------------------------------------------------------------


def paths_of(value, path=()) -> list[tuple]:
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in items for place in paths_of(item, (*path, key))]


SPEC = json.loads((Path(__file__).parents[1] / "experiments" / "bert_phase2.json").read_text())


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("spec") / "mine.json"


@given(JSON)
def test_any_json_is_a_spec_or_an_input_error(file, value):
    file.write_text(json.dumps(value))
    with pytest.raises(InputError, match=r"mine\.json"):
        read_spec(file)


@given(st.sampled_from(paths_of(SPEC)), JSON)
def test_a_spec_with_any_value_in_any_place_is_a_spec_or_an_input_error(file, path, value):
    """And if it is one, writing it out and reading it again gives the same."""
    raw = json.loads(json.dumps(SPEC))
    node = raw
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    file.write_text(json.dumps(raw))
    try:
        spec = read_spec(file)
    except InputError as error:
        assert len(one_line(str(error))) < 1100
        return
    file.write_text(json.dumps(asdict(spec)))
    assert read_spec(file) == spec


@given(
    st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(["optim.lr", "phases.0", "a..b", "seed.x"]), TEXT)
)
def test_any_assignment_is_applied_or_an_input_error(assignment):
    raw = json.loads(json.dumps(SPEC))
    try:
        override(raw, assignment)
        build(Spec, raw)
    except InputError as error:
        assert str(error)


@given(st.text(max_size=30) | st.binary(max_size=30).map(lambda data: data.decode("utf-8", "replace")))
def test_parsing_json_gives_a_value_or_a_value_error(text):
    try:
        value = parse_json(text)
    except ValueError:
        return
    json.dumps(value, allow_nan=False) if not _has_infinity(value) else None
    assert shown(value)


def _has_infinity(value) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_infinity, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and math.isinf(value)  # 1e999 is JSON


# ---- characters and tokens -------------------------------------------------------------------------------------------

TOKENIZER = load_tokenizer(packaged_folder())
# Plain text hardly ever contains what makes offsets hard, so such characters are asked for: accents that come as one
# or two code points, syllables that fall apart into letters, wide and invisible characters, words that are one piece.
TRICKY = st.text(
    st.sampled_from("aé\u0301ñ한각\u1100\u1161中 \t\u00a0\u200b\u00ad\x00\ufffd😀👩\u200d🚀İßﬁ½.,'")
    | st.characters(codec="utf-8"),
    max_size=24,
) | st.lists(st.sampled_from(["the", "milk", "unaffable", "400km", "naïve", "日本語", "\u202e", " "]), max_size=8).map(
    "".join
)


@given(TRICKY, st.data())
def test_a_region_of_characters_gets_exactly_the_tokens_that_overlap_it(text, data):
    spans = np.array(TOKENIZER.encode(text, add_special_tokens=False).offsets).reshape(-1, 2)
    assert (spans[:, 0] < spans[:, 1]).all() and (spans >= 0).all() and (spans <= len(text)).all()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    overlapping = [i for i, (a, b) in enumerate(spans) if a < end and start < b]
    found = token_span(spans, start, end)
    assert overlapping == ([] if found is None else list(range(found[0], found[1] + 1)))


@given(TRICKY, TRICKY, st.data())
def test_an_answer_in_any_text_is_labelled_with_its_own_characters(question, context, data):
    """In the window that holds it, the labelled tokens are the first and the last that touch the answer."""
    start = data.draw(st.integers(0, len(context)))
    end = data.draw(st.integers(start, len(context)))
    answers = ((context[start:end], start),) if end > start else ()
    windows = make_windows([Question("q", question, context, answers)], TOKENIZER, 16, 4, 4)
    covered = set()
    for n in range(len(windows)):
        count = windows.lengths[n] - windows.context_at[n] - 1
        covered |= set(range(windows.context_from[n], windows.context_from[n] + count))
        first, last = windows.span[n] - windows.context_at[n] + windows.context_from[n]
        if windows.span[n].any():
            a, b = windows.char_spans[first], windows.char_spans[last]
            assert a[0] < end and a[1] > start and b[0] < end and b[1] > start
    assert covered == set(range(len(windows.char_spans)))  # no token of the context is in no window


# ---- the order of the data -------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=80).map(np.array),
    batch_size=st.none() | st.integers(1, 12),
    batch_tokens=st.integers(1, 400),
    accumulate=st.integers(1, 5),
    seed=st.integers(0, 2**31 - 1),
    epochs=st.integers(1, 3),
    data=st.data(),
)
def test_every_example_comes_once_an_epoch_from_wherever_a_run_resumes(
    lengths, batch_size, batch_tokens, accumulate, seed, epochs, data
):
    plan = ([Part(lengths, batch_tokens, batch_size)], epochs, seed, accumulate)
    order = TrainingOrder(*plan)
    steps = [[batch.tolist() for batch in order[i]] for i in range(len(order))]
    ends = [order.position(epoch) for epoch in range(epochs + 1)]
    for begin, end in pairwise(ends):
        seen = [example for step in steps[begin:end] for batch in step for example in batch]
        assert sorted(seen) == list(range(len(lengths)))
    assert all(1 <= len(step) <= accumulate for step in steps)
    stop = data.draw(st.integers(0, len(order)))  # killed here: a new process goes on
    resumed = TrainingOrder(*plan)
    assert [[batch.tolist() for batch in resumed[i]] for i in range(stop, len(order))] == steps[stop:]
    part = data.draw(st.floats(0, epochs))
    position = order.position(part)
    assert 0 <= position <= len(order) and order.position(order.epochs_at(position)) == position


# ---- metrics ---------------------------------------------------------------------------------------------------------

ANSWER = st.text(max_size=30) | st.lists(
    st.sampled_from(["a", "an", "The", "the.", "cat,", "CAT", "U.S.", "milk", "...", "½", "İ"]), max_size=6
).map(" ".join)


@given(ANSWER)
def test_normalising_twice_changes_nothing_more(text):
    once = normalise(text)
    assert normalise(once) == once
    assert not {"a", "an", "the"} & set(once.split()) and once == " ".join(once.split())
    assert normalise(f" The {text}!? ") == once


@given(ANSWER, ANSWER)
def test_f1_is_symmetric_and_agrees_with_exact_match(one, other):
    value = f1(one, other)
    assert 0 <= value <= 1 and value == f1(other, one)
    if exact_match(one, other):
        assert value == 1
    if not set(normalise(one).split()) & set(normalise(other).split()):
        assert value == float(not normalise(one) and not normalise(other))


# ---- the metrics file ------------------------------------------------------------------------------------------------


@given(st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=6), st.floats(0, 1), st.floats(0, 1))
def test_a_diary_cut_anywhere_loses_at_most_the_line_that_was_cut(tmp_path_factory, fields, share, share_kept):
    folder = tmp_path_factory.mktemp("metrics")
    log = Writer(folder)
    for i, more in enumerate(fields):
        log.write("event", i, 0.5, event="e", more=more)
    log.close()
    whole = (folder / FILE).read_bytes()
    cut = round(share * len(whole))
    (folder / FILE).write_bytes(whole[:cut])
    found = read_records(folder)
    records, remarks = found.records, found.remarks
    assert [r["step"] for r in records] == list(range(whole[:cut].count(b"\n")))
    assert len(remarks) == (cut > 0 and whole[cut - 1 : cut] != b"\n")
    offset = round(share_kept * cut)
    if offset:  # a run that goes on has at least its first record
        Writer(folder, offset).close()
        assert (folder / FILE).read_bytes() == whole[:offset]


@given(st.binary(max_size=200))
def test_any_bytes_are_records_and_remarks(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("metrics")
    (folder / FILE).write_bytes(content)
    found = read_records(folder)
    records, remarks = found.records, found.remarks
    assert len(records) + len(remarks) == len([line for line in content.split(b"\n") if line.strip()])
