import pytest

from data.scoring import average, exact_match, f1, normalise, score_each
from data.squad import Question


def test_normalisation_drops_case_punctuation_articles_and_spaces():
    assert normalise("The  U.S. Army's\tan end") == "us armys end"
    assert normalise("A.") == ""


@pytest.mark.parametrize(
    "gold,predicted,exact,overlap",
    [
        ("the store", "store.", 1, 1),
        ("in the red house", "a red house", 0, 0.8),
        ("store", "", 0, 0),
        ("", "", 1, 1),
        ("the", "", 1, 1),
        ("b b c", "b c c", 0, 2 / 3),
    ],
)
def test_exact_match_and_f1(gold, predicted, exact, overlap):
    assert exact_match(gold, predicted) == exact
    assert f1(gold, predicted) == pytest.approx(overlap)


def test_the_best_of_several_gold_answers_counts_and_kinds_are_split():
    questions = [
        Question("a", "?", "red house", (("house", 4), ("red house", 0))),
        Question("b", "?", "red house", ()),
        Question("c", "?", "the house", (("the", 0), ("house", 4))),  # "the" normalises to nothing: it cannot be right
    ]
    result = average(questions, *score_each(questions, {"a": "red house", "b": "house", "c": ""}))
    assert result == pytest.approx(
        {
            "exact": 100 / 3,
            "f1": 100 / 3,
            "HasAns_exact": 50.0,
            "HasAns_f1": 50.0,
            "NoAns_exact": 0.0,
            "NoAns_f1": 0.0,
            "total": 3,
            "HasAns_total": 2,
            "NoAns_total": 1,
        }
    )
