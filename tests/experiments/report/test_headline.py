"""The sentence that a report opens with."""

import pytest

from experiments.report.comparison import compare
from experiments.report.headline import in_words, of_runs
from tests.experiments.report.made import records, summary
from tests.experiments.report.test_several_runs import of


def test_of_one_run_it_says_what_it_reached_and_how_sure_that_is(tmp_path):
    found = records()
    found[8]["intervals"] = {"f1": [33.0, 47.0]}
    said = summary(tmp_path, found)["headline"]
    assert said.startswith("f1 40.0 (95 % interval 33.0 to 47.0, 5 examples, one seed), overfitting at the end. Next: ")


def test_of_a_run_that_goes_on_it_says_how_far_it_is(tmp_path):
    assert summary(tmp_path, records()[:-1])["headline"].startswith("not finished, step 20 of 20; so far f1 40.0 (")


def test_of_a_run_without_an_evaluation_it_says_that(tmp_path):
    assert (
        summary(tmp_path, records()[:4])["headline"]
        == "unfinished at step 5, without an evaluation that could be the best"
    )


def test_of_a_worthless_run_it_says_why(tmp_path):
    found = records()
    found[0]["data"]["splits"]["qa"]["dev"]["baseline"] = {"f1": 50.6}
    said = summary(tmp_path, found)["headline"]
    assert said.startswith("worth nothing: f1 is 40.0 at best; an answer that never looks at the text reaches 50.6")


def runs(tmp_path, name: str, scores: list[float], **spec) -> list[dict]:
    return [of(tmp_path, f"{name}{i}", score, seed=i, **spec) for i, score in enumerate(scores)]


def test_of_several_it_says_first_which_settings_cannot_be_told_apart(tmp_path):
    found = compare(
        runs(tmp_path, "a", [92.0, 93.0, 93.4], variant="LoRA r16")
        + runs(tmp_path, "b", [92.4, 92.6, 93.1], variant="full")
        + runs(tmp_path, "c", [90.1, 90.3, 90.2], variant="LoRA r4")
    )
    assert found["headline"] == (
        "LoRA r16 and full are not distinguishable: f1 92.8 ± 0.7 and 92.7 ± 0.4 (p = 0.84, 3 runs each); "
        "LoRA r4 is 2.6 behind (p = 0.023, 3 runs each)"
    )


def test_a_difference_between_models_is_told_with_the_p_of_the_test_that_found_it():
    """Not with that of the runs, which says that nothing was found."""
    tests = [{"test": "paired bootstrap", "p": 0.008, "n": 1000}, {"test": "Welch's t", "p": 0.36, "n": 2}]
    difference = {"row": 1, "difference": -2.2, "verdict": "distinguishable as models", "tests": tests}
    row = {"ended": True, "sound": True, "runs": ["x", "y"], "metrics": {"f1": {"mean": 82.2, "sd": 0.4, "n": 2}}}
    rows = [row | {"row": i, "label": label} for i, label in enumerate(("full", "r4"))]
    assert of_runs({"metric": "f1", "rows": rows, "differences": [difference]}) == (
        "full is best: f1 82.2 ± 0.4 (n = 2); "
        "r4 is 2.2 behind (p = 0.008, 1,000 examples), too few runs to be sure of other seeds"
    )
    sure = difference | {"verdict": "distinguishable", "tests": [tests[0], tests[1] | {"p": 0.02, "n": 3}]}
    assert of_runs({"metric": "f1", "rows": rows, "differences": [sure]}).endswith("behind (p = 0.02, 3 runs each)")


def test_rows_are_named_by_what_differs(tmp_path):
    few = compare(runs(tmp_path, "a", [60.0], lora={"rank": 4}) + runs(tmp_path, "b", [70.0], lora={"rank": 16}))
    assert [row["label"] for row in few["rows"]] == ["rank 16", "rank 4"]
    assert (
        few["headline"]
        == "rank 16 is best: f1 70.0 (n = 1); rank 4 is 10.0 behind (no test), too few runs to be sure of other seeds"
    )
    many = {"optim": {"lr": 1, "clip": 2, "l1": 3, "beta1": 4}}
    assert [
        row["label"] for row in compare(runs(tmp_path, "c", [60.0]) + runs(tmp_path, "d", [70.0], **many))["rows"]
    ] == ["d0", "c0"]


@pytest.mark.parametrize(
    "value, words",
    [(["head", "lora"], "head+lora"), (None, "-"), (True, "yes"), (2e-4, "0.0002"), (16, "16"), ([], "none")],
)
def test_a_setting_reads_as_a_person_writes_it(value, words):
    assert in_words(value) == words


def test_what_moves_along_with_a_setting_is_named(tmp_path):
    found = compare(
        runs(tmp_path, "a", [60.0], lora={"rank": 4, "alpha": 32}, phases=[{"epochs": 1}])
        + runs(tmp_path, "b", [70.0], lora={"rank": 16, "alpha": 32}, phases=[{"epochs": 2}])
    )
    assert found["remarks"][:2] == [
        "the scaling of the adapters (alpha / rank) moves with lora.rank: 2 at rank 16, 8 at rank 4",
        "the rows were given different numbers of epochs: 2 in row 1, 1 in row 2",
    ]
