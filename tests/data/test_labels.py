"""data/labels.py: labels to numbers, texts to tokens."""

import numpy as np
import pytest

from data.files import InputError
from data.labels import Labelling, Outputs, balanced_weights, cut_pair, learn_labels, learn_scale, targets, tokenize
from data.readers import Row
from data.tokens import collate


def rows(*labels) -> list[Row]:
    return [Row("a text", None, label, f"x line {i}") for i, label in enumerate(labels)]


PLAIN = Labelling()


def test_labels_are_in_alphabetical_order_and_whole_numbers_in_theirs():
    assert learn_labels("classification", rows("b", "a", "C"), PLAIN).labels == ("C", "a", "b")
    assert learn_labels("classification", rows(10, 9, "2"), PLAIN).labels == ("2", "9", "10")
    assert learn_labels("classification", rows("10", "9", "x"), PLAIN).labels == ("10", "9", "x")


def test_labels_may_have_names():
    """Which do not change their order: the second of "0" and "1", whose precision and recall are told, stays "1"."""
    labelling = Labelling(names={"0": "other", "1": "fraud"})
    outputs = learn_labels("classification", rows("0", 1, "1"), labelling)
    assert outputs.labels == ("other", "fraud")
    assert targets("classification", rows(1, "0"), outputs, labelling).tolist() == [1, 0]
    with pytest.raises(InputError, match="no text has the label '2'"):
        learn_labels("classification", rows("0", "1"), Labelling(names={"2": "x"}))


@pytest.mark.parametrize("names,message", [({"a": "x", "b": "x"}, "the name 'x' of 'b' is that of 'a' too"),
                                           ({"a": "b"}, "the name 'b' of 'b' is that of 'a' too"),
                                           ({"a": " "}, "the name ' ' of 'a' is empty")])  # fmt: skip
def test_two_labels_cannot_have_one_name(names, message):
    with pytest.raises(InputError, match=message):
        learn_labels("classification", rows("a", "b"), Labelling(names=names))


@pytest.mark.parametrize("value,count", [(0.1, 12), (3.7, 3), (5, 4)])
def test_targets_that_are_all_the_same_cannot_be_learnt(value, count):
    """Their standard deviation, of 1e-17 or so, is not always 0."""
    with pytest.raises(InputError, match="every training target is"):
        learn_scale(rows(*[value] * count))


def test_a_text_may_have_several_labels_or_none():
    for given in (rows("b|a", "", "c | a"), rows(["b", "a"], [], ["c", "a"])):
        outputs = learn_labels("multi_label", given, PLAIN)
        assert outputs.labels == ("a", "b", "c")
        assert targets("multi_label", given, outputs, PLAIN).tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_a_label_that_training_has_not_is_named_with_its_line():
    with pytest.raises(InputError, match=r"x line 1: the label 'c' is not one of the training files' \('a', 'b'\)"):
        targets("classification", rows("a", "c"), Outputs(labels=("a", "b")), PLAIN)


def test_numbers_are_standardised_by_training():
    outputs = learn_scale(rows("1", 2, 6.0))
    assert (outputs.mean, outputs.sd) == pytest.approx((3, np.sqrt(14 / 3)))
    found = targets("regression", rows(3, "3.5"), outputs, PLAIN)
    assert found == pytest.approx([0, 0.5 / outputs.sd]) and found.dtype == np.float32


def test_numbers_that_fp32_cannot_tell_apart_or_hold_are_refused():
    with pytest.raises(InputError, match="differ by less than 1e-30"):
        learn_scale(rows(1e-200, 2e-200))
    with pytest.raises(InputError, match=r"x line 1: the target 1 is far beyond all training targets"):
        targets("regression", rows(0, 1), learn_scale(rows(1e-20, 2e-20)), PLAIN)


@pytest.mark.parametrize("label", ["1_000", "nan", "inf", "1e400", "", "ten", None, True, [1], "1e200"])
def test_what_is_no_number_is_no_target(label):
    with pytest.raises(InputError, match=r"x line 1: the target is .*, expected a number"):
        learn_scale(rows(1, label))


def test_balanced_weights_are_those_of_the_docstring_and_average_to_one():
    target = np.array([0] * 80 + [1] * 20)
    assert balanced_weights(target, 2).tolist() == [0.625, 2.5]
    assert balanced_weights(target, 2, cap=2).tolist() == [0.625, 2]
    assert balanced_weights(target, 2)[target].mean() == pytest.approx(1)


def test_a_pair_is_cut_as_the_original_bert_cuts_it():
    def by_hand(a, b, room):
        while a + b > room:
            a, b = (a - 1, b) if a > b else (a, b - 1)
        return a, b

    for a in range(14):
        for b in range(14):
            for room in range(1, 16):
                assert cut_pair(a, b, room) == by_hand(a, b, room)


def test_texts_and_pairs_become_what_the_tokenizers_library_makes_of_them(tokenizer):
    given = [Row("A good film, really.", None, 1, "a"), Row("Is it?", "It is: café 400km", 0, "b")]
    texts, cut = tokenize(given, tokenizer, 64)
    assert cut == 0
    batch = collate(texts, np.array([1, 0]))
    for place, row in ((0, given[1]), (1, given[0])):
        expected = tokenizer.encode(row.text, row.pair)
        length = len(expected.ids)
        assert batch["tokens"][place, :length].tolist() == expected.ids
        assert batch["types"][place, :length].tolist() == expected.type_ids
        assert batch["types"][place, length:].sum() == 0
        assert batch["mask"][place].sum() == length and batch["mask"][place, :length].all()


def test_long_texts_are_cut_and_counted(tokenizer):
    given = [Row("word " * 100, None, 1, "a"), Row("word " * 100, "a few words", 0, "b"), Row("short", None, 0, "c")]
    texts, cut = tokenize(given, tokenizer, 32)
    assert texts.lengths.tolist() == [32, 32, 3] and cut == 2
    sep = tokenizer.token_to_id("[SEP]")
    assert all(texts.tokens[end - 1] == sep for end in texts.begin[1:])
    assert texts.second.tolist() == [32, 32 - 4, 3]  # "a few words [SEP]" is the last four
