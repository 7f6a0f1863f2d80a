"""data/splits.py: stratified, and no text on both sides."""

from collections import Counter

import numpy as np
import pytest

from data.readers import Row
from data.splits import contradictions, duplicates, normalised, partition


def row(text: str, label="a", pair=None) -> Row:
    return Row(text, pair, label, "here")


def labelled(**counts: int) -> list[Row]:
    return [row(f"{label} {i}", label) for label, count in counts.items() for i in range(count)]


def labels(rows):
    return [r.label for r in rows]


def test_the_worked_example_of_the_docstring():
    rows = labelled(a=5, b=5)
    part = partition(rows, labels(rows), [0.8, 0.2])
    assert Counter(zip(labels(rows), part.tolist(), strict=True)) == {
        ("a", 0): 4,
        ("a", 1): 1,
        ("b", 0): 4,
        ("b", 1): 1,
    }


@pytest.mark.parametrize("shares", [[0.82, 0.18], [0.2] * 5, [0.5, 0.3, 0.2]])
def test_every_part_has_its_share_of_every_class_to_within_one_text(shares):
    rows = labelled(a=200, b=37, c=11, d=2)
    part = partition(rows, labels(rows), shares)
    for label, count in Counter(labels(rows)).items():
        for number, share in enumerate(shares):
            got = sum(p == number and r.label == label for p, r in zip(part, rows, strict=True))
            assert abs(got - share * count) <= 1
    for number, share in enumerate(shares):
        assert abs((part == number).sum() - share * len(rows)) <= 1


def test_classes_of_one_text_each_are_dealt_out_too():
    """A rule that only looks at one class at a time would leave all of them in training."""
    rows = [row(f"text {i}", str(i)) for i in range(100)]
    assert (partition(rows, labels(rows), [0.8, 0.2]) == 1).sum() == 20


def test_a_text_that_is_there_many_times_takes_no_other_label_out_of_its_part():
    rows = [*labelled(a=100, b=100, c=100), *[row("again and again", "a")] * 60]
    part = partition(rows, labels(rows), [0.2] * 5)
    assert len({p for p, r in zip(part, rows, strict=True) if r.text == "again and again"}) == 1
    for label in "bc":
        inside = Counter(p for p, r in zip(part.tolist(), rows, strict=True) if r.label == label)
        assert all(18 <= inside[number] <= 22 for number in range(5)), inside


def test_numbers_are_stratified_by_their_order():
    rows = [row(f"text {i}", i * 0.37) for i in range(100)]
    part = partition(rows, labels(rows), [0.75, 0.25])
    for quarter in range(4):
        assert 5 <= (part[25 * quarter : 25 * quarter + 25] == 1).sum() <= 7


def test_one_text_is_never_in_two_parts_however_it_is_written_or_labelled():
    rows = [row(text, label) for i in range(50) for text, label in ((f"Text {i}", "a"), (f"text  {i}!", "b"))]
    part = partition(rows, labels(rows), [0.7, 0.3]).reshape(50, 2)
    assert (part[:, 0] == part[:, 1]).all() and 0 < part.sum() < 100


def test_the_split_is_always_the_same_and_not_the_order_of_the_file():
    rows = labelled(a=100)
    first, second = (partition(rows, labels(rows), [0.5, 0.5]) for _ in range(2))
    assert (first == second).all()
    assert 30 < (first[:-1] != first[1:]).sum() < 70  # halves or a strict alternation would be 1 or 99


def test_what_makes_no_difference_is_normalised_away():
    assert normalised(row("Where is  my Card?")) == normalised(row("where is my card"))
    assert normalised(row("Café — über")) == normalised(row("cafe uber"))
    assert normalised(row("ＡＢＣ")) == normalised(row("abc"))
    assert normalised(row("a", pair="b")) != normalised(row("a", pair="c"))
    assert normalised(row("?!")) != normalised(row("..."))
    assert normalised(row("Costs $5")) == normalised(row("costs 5"))


@pytest.mark.parametrize("a,b", [("Great \U0001f44d", "Great \U0001f44e"), ("\u0915\u093f", "\u0915\u0940"),
                                 ("\u304c\u304d", "\u304b\u304d"), ("1 film", "2 films")])  # fmt: skip
def test_what_makes_a_difference_is_not(a, b):
    """Emoji, the vowel signs of Hindi, the voicing marks of Japanese."""
    assert normalised(row(a)) != normalised(row(b))


def test_texts_with_different_labels_in_different_places_are_counted():
    rows = [row("One", "a"), row("one!", "b"), row("Two", "a"), row("two", "a"), row("Three", "b")]
    assert contradictions(rows, labels(rows)) == 1


def test_leaks_are_counted_as_they_are_and_normalised():
    train, dev = [row("One"), row("Two"), row("Three")], [row("One"), row("two!"), row("four")]
    assert duplicates(train, dev) == {"duplicates": 1, "near_duplicates": 2}


def test_folds_cover_everything_once():
    rows = labelled(a=23, b=14)
    part = partition(rows, labels(rows), [1 / 3] * 3)
    assert sorted(np.unique(part)) == [0, 1, 2] and np.bincount(part).min() >= 12
