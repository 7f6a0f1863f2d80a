"""A best model that is none, on records made by hand."""

import copy

import pytest

from experiments.report.comparison import compare
from experiments.report.render import comparison_report, run_report, terminal
from tests.experiments.report.made import records, summary


def judged(tmp_path, baseline: dict | None = None, losses: dict[int, float | None] | None = None, **spec) -> dict:
    """The summary of a run whose best f1 is 40.0 at step 15, with a baseline and other dev losses at some steps."""
    found = copy.deepcopy(records())
    found[0]["data"]["splits"]["qa"]["dev"]["baseline"] = baseline
    for record in found:
        if record["kind"] == "eval" and losses and record["step"] in losses:
            record["metrics"]["loss"] = losses[record["step"]]
    return summary(tmp_path, found, **spec)


@pytest.mark.parametrize(
    "baseline,wrong",
    [({"f1": 39.9}, False), ({"f1": 40.0}, True), ({"f1": 40.0 - 1e-12}, True), ({"f1": 55.0}, True), (None, False),
     ({}, False), ({"exact": 99.0}, False), ({"exact": 99.0, "f1": 55.0}, True), ({"loss": 1.4}, True),
     ({"loss": 1.6}, False), ({"loss": 1.6, "f1": 55.0}, True)],
)  # fmt: skip
def test_the_best_model_is_compared_with_an_answer_that_never_looks(tmp_path, baseline, wrong):
    found = judged(tmp_path, baseline)["generalisation"]
    assert (found["verdict"] == "no better than guessing") is wrong is (found["unsound"] is not None)


def test_the_remark_names_both_numbers_and_the_page_explains_the_word(tmp_path):
    page = " ".join(terminal(run_report(judged(tmp_path, {"f1": 55.0}))).split())
    assert "verdict no better than guessing" in page
    assert "f1 is 40.0 at best; an answer that never looks at the text reaches 55.0" in page
    assert "no better than an answer that never looks at the text: the commonest label" in page


def test_of_several_tasks_any_may_be_no_better_than_guessing(tmp_path):
    found = copy.deepcopy(records())
    tasks = {name: {"task": "classification"} for name in ("a", "b")}
    split = {"examples": 5, "kind": "texts", "baseline": {"accuracy": 50.0}}
    found[0]["data"]["splits"] = {name: {"dev": split} for name in tasks}
    for record in found:
        if record["kind"] == "eval":
            record["metrics"] = {"loss": 100.0, "mean": 60.0, "a.accuracy": 70.0, "b.accuracy": 50.0, "a.loss": 1.0}
    given = {"tasks": tasks, "eval": {"metric": "mean"}}
    assert summary(tmp_path, found, **given)["generalisation"]["unsound"].startswith("b.accuracy is 50.0 at best")
    for record in found:
        if record["kind"] == "eval":
            record["metrics"] |= {"b.accuracy": 51.0, "a.loss": 21.0}
    assert summary(tmp_path, found, **given)["generalisation"]["verdict"] == "loss beyond bounds"


@pytest.mark.parametrize("losses,verdict", [({15: 21.0}, "loss beyond bounds"), ({20: 1e6}, "loss beyond bounds"),
                                            ({5: 1e6, 10: 1e6}, None), ({15: 19.0, 20: 19.5}, None)])  # fmt: skip
def test_a_loss_beyond_any_sane_bound_is_said(tmp_path, losses, verdict):
    found = judged(tmp_path, losses=losses)["generalisation"]
    assert found["unsound"] is None if verdict is None else found["verdict"] == verdict


def test_where_no_loss_is_finite_there_is_no_best_and_the_run_has_diverged(tmp_path):
    lost = judged(tmp_path, losses=dict.fromkeys((5, 10, 15, 20)), name="lost")
    assert lost["best"] is None and lost["generalisation"]["verdict"] == "diverged"
    assert "verdict diverged" in " ".join(terminal(run_report(lost)).split())
    found = compare([lost, judged(tmp_path, optim={"lr": 1})])
    assert [row["runs"] for row in found["rows"]] == [["made"]]
    assert found["remarks"] == ["lost has no evaluation with a finite loss"]


@pytest.mark.parametrize("fault", [{"baseline": {"f1": 55.0}}, {"losses": {15: 25.0}}])
def test_what_is_unsound_leads_in_nothing_and_a_note_says_why(tmp_path, fault):
    better = judged(tmp_path, name="better", optim={"lr": 1}, **fault)
    better["best"]["metrics"]["f1"], better["peak_memory_mb"] = 99.0, 1
    sound, other = (judged(tmp_path, name=name, optim={"lr": lr}) for name, lr in (("sound", 2), ("other", 3)))
    other["best"]["metrics"]["f1"] = 39.0
    found = compare([better, other, sound])
    assert [row["runs"] for row in found["rows"]] == [["sound"], ["other"], ["better"]]
    assert [row["sound"] for row in found["rows"]] == [True, True, False]
    assert found["leaders"] == {"f1": 0} and [each["row"] for each in found["differences"]] == [1]
    page = " ".join(terminal(comparison_report(found)).split())
    assert "row 3 has no sound run: it leads in nothing and is not tested" in page
    assert f"better: {better['generalisation']['unsound']}" in page


def test_a_seed_that_learnt_nothing_is_in_its_row_s_mean(tmp_path):
    seeds = [judged(tmp_path, name="a", seed=0), judged(tmp_path, {"f1": 55.0}, name="b", seed=1)]
    seeds[0]["best"]["metrics"]["f1"] = 90.0
    (row,) = compare(seeds)["rows"]
    assert row["metrics"]["f1"]["mean"] == 65.0 and row["sound"]
