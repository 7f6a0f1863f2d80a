"""Figures of one run, on records made by hand."""

import time

import numpy as np
import pytest

from experiments.records import Records, read_records
from experiments.report.figures import summary_of
from experiments.report.run import Run
from experiments.report.training import oscillations, rolling, scatter, spikes
from tests.experiments.report.made import records, summary, training, write


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(read_records(write(tmp_path / "made", records())))


# ---- one run ---------------------------------------------------------------------------------------------------------


def test_the_training_loss_is_a_mean_over_examples(run):
    assert run.mean_loss(run.between(0, 5)) == pytest.approx((4.0 * 30 + 2.0 * 10) / 40)
    assert run.mean_loss(run.between(10, 15)) is None


def test_throughput_is_all_tokens_over_all_training_time(run):
    figures = summary_of(run)["throughput"]
    assert figures["tokens_per_second"] == pytest.approx(3500 / (10 + 10 + 10 + 10))
    assert figures["padding"] == pytest.approx(0.2) and figures["examples_per_second"] == pytest.approx(120 / 40)


def test_every_figure_of_the_summary(run):
    s = summary_of(run)
    assert (s["status"], s["steps"], s["steps_planned"], s["seed"]) == ("finished", 20, 20, 3)
    assert [row["best"] for row in s["evaluations"]] == [False, False, True, False]
    assert [row["train_loss"] for row in s["evaluations"]] == [3.5, 1.0, None, 0.5]
    assert [row["train_seconds"] for row in s["evaluations"]] == [5, 5, 5, 5]
    assert (s["best"]["step"], s["best"]["metrics"]["f1"], s["final"]["metrics"]["f1"]) == (15, 40.0, 35.0)
    assert s["final_minus_best"] == pytest.approx({"loss": 0.3, "f1": -5.0})
    assert s["after_best"] == {"evaluations": 1, "steps": 5, "seconds": 5.0, "share": 0.25}
    assert s["seconds"] == {"total": 21.0, "train": 20.0, "data": 0.1, "eval": 4.0, "checkpoint": 0.2}
    assert s["peak_memory_mb"] == 120 and s["data"] == {"qa": {"train": "7 questions", "dev": "5 questions"}}
    assert s["events"] == ["nonfinite at step 17"]


def test_phases_say_what_they_did_to_training_and_to_development(run):
    one, two = summary_of(run)["phases"]
    assert (one["phase"], one["planned"], one["parameters"], one["share"]) == ("one", 10, 50, 0.05)
    assert one["train_loss"] == pytest.approx((4 * 30 + 2 * 10 + 1 * 40) / 80)
    assert one["change"] is None and one["evaluation"]["metrics"]["f1"] == 20.0
    assert (two["phase"], two["parameters"], two["share"]) == ("two", 250, 0.25)
    assert two["change"] == pytest.approx({"loss": -0.2, "f1": 15.0})
    assert one["seconds"] == pytest.approx(10 + 10 + 10) and two["seconds"] == pytest.approx(10)


def test_epochs_hold_their_steps_and_their_last_evaluation(run):
    first, second = summary_of(run)["epochs"]
    assert (first["epoch"], first["evaluation"]["step"]) == (1, 10)
    assert (second["epoch"], second["evaluation"]["step"]) == (2, 20)
    assert second["train_loss"] == 0.5


@pytest.mark.parametrize("metric,best", [("loss", 15), ("f1", 15)])
def test_of_a_loss_the_lowest_is_the_best(tmp_path, metric, best):
    assert summary(tmp_path, records(), eval={"metric": metric})["best"]["step"] == best


def test_a_value_that_was_not_finite_is_not_the_best(tmp_path):
    found = records()
    found[8]["metrics"]["f1"] = None
    assert summary(tmp_path, found)["best"]["step"] == 20


# ---- stability -------------------------------------------------------------------------------------------------------


def test_an_oscillation_is_a_change_of_more_than_the_threshold():
    assert oscillations(np.array([1.00, 1.005, 1.02, 0.9]), 0.01) == 2  # the docstring's
    seven = [1, 1.1, 1, 1.005, 1.1, 1, 0.9, 0.901, 1, 1.1, 1.1]
    assert oscillations(np.array(seven), 0.01) == 7
    assert oscillations(np.array(seven), 0.2) == 0


def test_volatility_is_the_mean_of_rolling_standard_deviations_of_twenty():
    loss = np.random.default_rng(0).random(50)
    by_hand = [np.std(loss[i : i + 20], ddof=1) for i in range(31)]
    assert rolling(loss)[1] == pytest.approx(by_hand)
    assert rolling(loss[:5])[1] == pytest.approx([np.std(loss[:5], ddof=1)])


def test_a_spike_stands_out_of_the_twenty_before_it():
    loss = np.tile([1.0, 1.01], 30)
    loss[[25, 40]] = 2.0, 1.05  # the second is more than 3 sd above, but less than 10 %
    assert spikes(loss).tolist() == [25]
    assert spikes(np.ones(20)).tolist() == []


def test_scatter_is_what_remains_beside_the_trend():
    smooth = np.linspace(4.0, 1.0, 100)
    assert scatter(smooth) == pytest.approx(0, abs=1e-6)
    noise = np.random.default_rng(0).normal(0, 0.1, 4000)
    assert scatter(2 + noise) == pytest.approx(0.1, rel=0.03)
    spiky = np.full(100, 2.0)
    spiky[[3, 50, 80]] = 20.0
    assert scatter(spiky) > scatter(2 + noise)
    assert scatter(np.array([1.0, 2.0])) is None and scatter(np.zeros(30)) == 0


def test_stability_of_runs_that_log_at_other_intervals(tmp_path):
    losses = [1, 1.1, 1, 1.005, 1.1, 1, 0.9, 0.901, 1, 1.1, 1.1]
    found = [records()[0], *training(losses, every=5, grad_norm=2.0, grad_norm_max=3.0, clipped=0.5)]
    found[-1] |= {"grad_norm": 4.0, "grad_norm_max": 9.0, "clipped": 1.0}
    found += [
        {"kind": "event", "step": 55, "epoch": 1.1, "seconds": 12.0, "event": e} for e in ("nonfinite", "overflow")
    ]
    stable = summary(tmp_path, found)["stability"]
    assert (stable["oscillations"], stable["records_every"]) == (7, 5.0)
    assert stable["per_100_steps"] == pytest.approx(100 * 7 / 50)
    assert stable["gradient"] == pytest.approx(
        {"p50": 2.0, "p90": 2.0, "p99": np.quantile([2] * 10 + [4], 0.99), "max": 9}
    )
    assert stable["clipped"] == pytest.approx((10 * 0.5 + 1) / 11)
    assert (stable["nonfinite"], stable["overflows"]) == (1, 1)


# ---- generalisation --------------------------------------------------------------------------------------------------


def course(
    *losses: tuple[float, float], on_train: bool = False, f1: list | None = None, first: float = 10.0
) -> list[dict]:
    """A run that finished: a run record and evaluations; each has (training loss before it, dev loss), and an f1 that
    falls as the dev loss rises, or the given one. first: the training loss that it began with."""
    found = [records()[0], {**training([first])[0], "step": 0, "epoch": 0.0, "examples": 0}]
    for i, (train_loss, dev_loss) in enumerate(losses, 1):
        found += training([train_loss])
        found[-1] |= {"step": i, "epoch": float(i)}
        metrics = {"loss": dev_loss, "f1": 10.0 - dev_loss if f1 is None else f1[i - 1]}
        evaluation = {**records()[4], "step": i, "epoch": float(i), "metrics": metrics}
        found.append(evaluation)
        if on_train:
            found.append(evaluation | {"split": "train", "metrics": {"loss": train_loss / 2, "f1": 2.0}})
    return [*found, {**records()[-1], "step": len(losses), "epoch": float(len(losses))}]


@pytest.mark.parametrize(
    "losses,verdict,since",
    [
        ([(1.0, 0.9), (0.5, 0.6), (0.2, 0.7)], "overfitting", 2),
        ([(1.0, 0.9), (0.5, 0.6), (0.2, 0.611)], "healthy", None),  # 1.8 % is not worse
        ([(1.0, 0.9), (0.5, 0.6), (0.6, 0.7)], "healthy", None),  # training got worse as well
        ([(1.0, 0.9), (0.8, 0.8)], "still improving", None),
        ([(1.0, 0.9), (0.8, 0.87)], "healthy", None),  # 3.3 % is not much
        ([(1.0, 0.9)], "unknown", None),
    ],
)
def test_the_verdict_follows_its_rule(tmp_path, losses, verdict, since):
    found = summary(tmp_path, course(*losses))["generalisation"]
    assert (found["verdict"], found["since"], found["footing"]) == (verdict, since, "training mode")
    assert found["gap"]["last"] == pytest.approx(losses[-1][1] - losses[-1][0])


def test_a_run_that_has_not_learnt_half_of_its_training_set_is_underfitting(tmp_path):
    for last, verdict in ((0.51, "underfitting"), (0.49, "healthy")):
        found = summary(tmp_path, course((0.9, 0.9), (last, 0.87), first=1.0))
        assert found["generalisation"]["verdict"] == verdict
        assert found["generalisation"]["learnt"] == pytest.approx(1 - last)
        assert any("fell by 49% only" in text for text in found["suggestions"]) is (verdict == "underfitting")


def test_a_loss_that_rises_while_the_metric_gets_better_is_no_overfitting_yet(tmp_path):
    found = summary(tmp_path, course((1.0, 0.9), (0.5, 0.6), (0.2, 0.7), f1=[50.0, 60.0, 61.0]))
    assert found["generalisation"]["verdict"] == "healthy" and found["suggestions"] == []
    (remark,) = found["generalisation"]["remarks"]
    assert "has risen since step 2 while f1 got better" in remark


def test_a_gain_within_the_interval_is_no_improvement(tmp_path):
    for gain, verdict in ((1.0, "healthy"), (3.0, "still improving")):
        found = course((1.0, 0.9), (0.8, 0.8), f1=[50.0, 50.0 + gain])
        found[-2]["intervals"] = {"f1": [48.0, 52.0]}
        assert summary(tmp_path, found)["generalisation"]["verdict"] == verdict


def test_a_run_that_goes_on_is_not_called_underfitting(tmp_path):
    assert summary(tmp_path, course((1.0, 0.9), (0.8, 0.8))[:-1])["generalisation"]["verdict"] == "healthy"


def test_a_run_that_diverged_is_called_so_and_told_its_rate(tmp_path):
    found = course((1.0, 0.9), (0.8, 0.8))
    found[-1]["reason"] = "diverged"
    diverged = summary(tmp_path, found, optim={"lr": 0.5})
    assert diverged["generalisation"]["verdict"] == "diverged"
    assert diverged["suggestions"][0].startswith("the run diverged at step 2: lower optim.lr (0.5)")
    found[-2]["metrics"]["loss"], found[-1]["reason"] = None, "finished"
    assert summary(tmp_path, found)["generalisation"]["verdict"] == "diverged"


def test_events_count_where_no_loss_is_finite(tmp_path):
    event = {"kind": "event", "step": 0, "epoch": 0.0, "seconds": 1.0, "event": "nonfinite", "loss": None}
    found = summary(tmp_path, [records()[0], *[event] * 3])["stability"]
    assert (found["nonfinite"], found["losses"], found["scatter"]) == (3, 0, None)


def test_on_the_same_footing_where_the_run_evaluated_training_texts(tmp_path):
    found = summary(tmp_path, course((1.0, 0.9), (0.5, 0.6), on_train=True))
    assert found["generalisation"]["footing"] == "same"
    assert found["generalisation"]["gap"] == pytest.approx({"first": 0.4, "last": 0.35})
    assert found["generalisation"]["metric_gap"] == pytest.approx({"first": 2.0 - 9.1, "last": 2.0 - 9.4})
    assert len(found["evaluations"]) == 2 and found["evaluations"][0]["on_train"]["f1"] == 2.0


def test_a_dev_metric_above_that_of_the_training_sample_is_chance_or_an_easier_set(tmp_path):
    found = course((1.0, 0.9), (0.5, 0.6), on_train=True)
    for record in found:
        if record.get("split") == "train":
            record["metrics"]["f1"] = 0.5
    found = summary(tmp_path, found, eval={"metric": "f1", "train_sample": 500})["generalisation"]
    assert found["metric_gap"]["last"] == pytest.approx(0.5 - 9.4) and found["verdict"] != "overfitting"
    remark = found["remarks"][0]
    assert "evaluated alike" in remark and "500" in remark


def test_a_dev_loss_below_training_is_named_for_what_it_is(tmp_path):
    found = summary(
        tmp_path,
        course((1.0, 0.9), (0.9, 0.89)),
        tasks={"qa": {"task": "span_qa", "loss": {"class_weights": "balanced", "label_smoothing": 0.1}}},
    )
    (remark,) = found["generalisation"]["remarks"]
    assert remark.startswith("training loss is measured with dropout on")


# ---- how sure, and what next -----------------------------------------------------------------------------------------


def test_intervals_are_wilsons_or_the_runs_own(tmp_path):
    found = course((1.0, 0.9))
    found[0]["data"]["splits"]["qa"]["dev"]["examples"] = 100
    found[3]["metrics"] = {"loss": 0.9, "f1": 50.0, "exact": 90.0}
    found[3]["intervals"] = {"f1": [45.0, 55.0]}
    sure = summary(tmp_path, found)["coverage"]
    assert sure["interval"] == {"low": 45.0, "high": 55.0, "by": "bootstrap"}
    assert (sure["evaluations"], sure["examples"]) == (1, {"qa": 100})
    exact = summary(tmp_path, found, eval={"metric": "exact"})["coverage"]["interval"]
    assert exact["by"] == "Wilson" and exact["low"] == pytest.approx(82.563, abs=1e-3)


def test_every_suggestion_has_its_number_and_there_are_five_at_most(tmp_path):
    found = course((1.0, 0.9), (0.5, 0.95), (0.4, 1.0), (0.3, 1.1))
    found[3]["metrics"]["f1"], found[3]["intervals"] = 9.5, {"f1": [5.5, 13.5]}
    for record in found:
        if record["kind"] == "train":
            record |= {"clipped": 0.9, "padding": 0.5, "grad_norm": 1.0, "grad_norm_max": 1.0}
    found.append({"kind": "event", "step": 4, "epoch": 4.0, "seconds": 20.0, "event": "nonfinite"})
    given = summary(tmp_path, found, optim={"clip": 1.0})["suggestions"]
    assert [text.split()[0] for text in given] == ["1", "the", "the", "clipping", "f1"]  # and not the sixth, padding
    assert all(any(c.isdigit() for c in text) for text in given)


def test_only_a_limit_that_bites_in_some_steps_says_that_they_are_wild(tmp_path):
    """Adam divides by the gradient's size anyway: where it bites in all of them, nothing is to be done."""
    advice = {}
    for share in (0.4, 0.7, 1.0):
        found = [records()[0], *training([1.0, 0.9], clipped=share, grad_norm=3.4, grad_norm_max=9.0)]
        advice[share] = summary(tmp_path, found, optim={"clip": 1.0})["suggestions"]
    assert advice[0.4] == advice[1.0] == [] and "lower optim.lr" in advice[0.7][0]


def test_advice_does_not_contradict_itself(tmp_path):
    """More epochs, or fewer? The best evaluation is the second of five, and the loss falls again at the end."""
    found = course((1.0, 0.9), (0.8, 0.8), (0.8, 0.9), (0.8, 0.9), (0.8, 0.7), f1=[1.0, 9.0, 2.0, 2.0, 8.0])
    for i, record in enumerate(r for r in found if r["kind"] == "eval"):
        record["clock"] = record["clock"] | {"train": float(i + 1)}
    advice = summary(tmp_path, found)["suggestions"]
    assert any("fewer epochs" in text for text in advice) and not any("more epochs" in text for text in advice)
    found[-1]["reason"] = "stopped early"
    assert not any("eval.patience" in text for text in summary(tmp_path, found)["suggestions"])


def test_a_good_run_needs_no_advice(tmp_path):
    found = [
        records()[0],
        *training([1.0, 0.9, 0.8]),
        {**records()[4], "step": 3, "metrics": {"loss": 0.8, "f1": 90.0}},
    ]
    assert summary(tmp_path, found)["suggestions"] == []


def test_a_null_loss_is_never_the_best(tmp_path):
    """Outputs that are no numbers become the first label, and on some sets that is nearly always right."""
    found = records()
    found[8]["metrics"]["loss"] = None
    assert summary(tmp_path, found)["best"]["step"] == 20


def test_time_grows_with_the_records_and_not_with_their_square(tmp_path):
    """With an evaluation, an epoch and a phase for each training record, as many as there are of any."""

    def seconds(count: int) -> float:
        found, (first, phase), evaluation = [], records()[:2], records()[4]
        for i in range(1, count + 1):
            found += [phase | {"step": i - 1}, *training([2.0]), evaluation | {"metrics": {"loss": 2.0, "f1": i % 9}}]
            for record in found[-2:]:
                record |= {"step": i, "epoch": float(i)}
        run = Run(Records(tmp_path, [first, *found], [], "2026-01-01T00:00:00"))
        began = time.perf_counter()
        summary_of(run)
        return time.perf_counter() - began

    assert seconds(10_000) < 40 * min(seconds(1000) for _ in range(3))


def test_two_metrics_files_in_one_are_remarked_upon(tmp_path):
    assert any("holds several runs" in remark for remark in summary(tmp_path, records() + records())["remarks"])
    assert not summary(tmp_path, records())["remarks"]
