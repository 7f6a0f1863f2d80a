"""Figures of several runs, on records made by hand."""

from pathlib import Path

import numpy as np
import pytest

from experiments.repetitions import flat
from experiments.report.comparison import compare
from experiments.report.render import comparison_report, terminal
from tests.experiments.report.made import SPEC, read_summary, records, summary, write


def of(tmp_path, name: str, score: float, **spec) -> dict:
    found = records()
    found[8]["metrics"]["f1"] = score
    return summary(tmp_path, found, name=name, **spec)


def test_runs_that_share_all_but_the_seed_are_one_row(tmp_path):
    runs = [of(tmp_path, f"r{i}", score, seed=i % 2, optim={"lr": lr}) for i, (score, lr) in
            enumerate([(60, 1), (62, 1), (70, 2), (74, 2)])]  # fmt: skip
    found = compare(runs)
    assert found["differing"] == ["optim.lr"] and [row["runs"] for row in found["rows"]] == [["r2", "r3"], ["r0", "r1"]]
    assert found["rows"][0]["metrics"]["f1"] == pytest.approx({"mean": 72.0, "sd": np.sqrt(8), "n": 2})
    (difference,) = found["differences"]
    assert difference["difference"] == -11.0 and difference["tests"][0]["test"] == "Welch's t"
    assert difference["tests"][0]["p"] == pytest.approx(0.0693, abs=1e-4)  # scipy: ttest_ind, equal_var=False
    assert difference["verdict"] == "too few runs"  # two runs say too little to deny it
    assert found["leaders"]["f1"] == 0


def test_the_metric_is_shown_epoch_by_epoch(tmp_path):
    found = records()
    found[-2]["metrics"]["f1"] = 15.0
    runs = [summary(tmp_path, found, name="worse"), of(tmp_path, "better", 40.0, optim={"lr": 1})]
    worse, better = sorted(compare(runs)["rows"], key=lambda row: row["runs"], reverse=True)
    assert [e["mean"] for e in worse["by_epoch"]] == [20.0, 15.0]
    assert [e["mean"] for e in better["by_epoch"]] == [20.0, 35.0]
    page = terminal(comparison_report(compare(runs)))
    assert "epoch 1 epoch 2" in " ".join(page.split()) and "20.0 15.0" in " ".join(page.split())


def test_scores_that_were_kept_are_compared_example_by_example(tmp_path):
    from safetensors.numpy import save_file

    runs = [of(tmp_path, name, score, optim={"lr": lr}) for name, score, lr in (("a", 60, 1), ("b", 61, 2))]
    random = np.random.default_rng(0)
    shared = (random.random(500) < 0.6).astype(np.float32)
    for run, scores in zip(
        runs, (shared, np.maximum(shared, random.random(500) < 0.05).astype(np.float32)), strict=True
    ):
        (Path(run["folder"]) / "best").mkdir()
        save_file({"f1": scores}, Path(run["folder"]) / "best" / "dev_scores.safetensors")
        run["best"]["metrics"]["f1"] = float(scores.mean())  # those of another evaluation would not be used
    (difference,) = compare(runs)["differences"]
    (test,) = difference["tests"]
    assert (test["test"], test["n"]) == ("paired bootstrap", 500) and test["p"] < 0.01
    assert difference["verdict"] == "distinguishable as models"
    page = terminal(comparison_report(compare(runs)))
    assert "distinguishable as models  p < 0.001, n = 500" in page
    # The sentence gives the p of the test by which they differ.
    assert "(p < 0.001, 500 examples), too few runs to be sure of other seeds" in " ".join(page.split())

    other = {"qa": {"task": "span_qa", "data": {"dev_fraction": 0.1}}}  # as many examples, but others
    runs[0]["spec"]["tasks"] = other
    (difference,) = compare(runs)["differences"]
    assert difference["tests"] == [] and difference["untested"] == "other development sets"
    runs[0]["spec"]["tasks"] = {"qa": {"task": "span_qa"}}
    runs[0]["best"]["metrics"]["f1"] += 1
    assert compare(runs)["differences"][0]["untested"] == "its scores of the examples are not there"


def test_one_run_each_is_no_test(tmp_path):
    found = compare([of(tmp_path, name, score, optim={"lr": lr}) for name, score, lr in (("a", 60, 1), ("b", 61, 2))])
    (difference,) = found["differences"]
    assert difference["tests"] == [] and difference["verdict"] == "too few runs"
    assert "too few runs" in terminal(comparison_report(found))


def test_runs_from_other_weights_repeat_nothing(tmp_path):
    """Not even if both are called the same."""
    made = [records(), records()]
    for given, digest in zip(made, ("a" * 64, "b" * 64), strict=True):
        given[0]["pretrained"]["sha256"] = digest
    found = compare([summary(tmp_path, given, name=f"r{i}", seed=i) for i, given in enumerate(made)])
    assert len(found["rows"]) == 2 and found["differing"] == ["pretrained (fingerprint)"]


def test_a_run_that_was_continued_as_something_else_repeats_nothing(tmp_path):
    other = records()
    other.insert(1, {**other[9], "event": "resumed anyway", "message": "spec.optim.lr is 1, was 2"})
    found = compare([summary(tmp_path, given, name=f"r{i}", seed=i) for i, given in enumerate((records(), other))])
    assert len(found["rows"]) == 2


def test_settings_are_compared_by_their_dotted_names():
    spec = {"a": {"b": 1, "c": []}, "phases": [{"epochs": 1}, {"epochs": 2}], "t": ["x", "y"], "d": {}}
    assert flat(spec) == {"a.b": 1, "a.c": [], "phases.0.epochs": 1, "phases.1.epochs": 2, "t": ["x", "y"], "d": {}}


def test_runs_of_different_metrics_are_not_ranked(tmp_path):
    found = compare([of(tmp_path, "a", 1), of(tmp_path, "b", 60, eval={"metric": "loss"})])
    assert found["metric"] is None and [row["runs"] for row in found["rows"]] == [["a"], ["b"]]


def test_runs_that_go_on_neither_count_nor_lead(tmp_path):
    ended = [of(tmp_path, f"a{seed}", 60.0 + seed, seed=seed, optim={"lr": 1}) for seed in (0, 1)]
    going = summary(tmp_path, records()[:-1], name="a2", seed=2, optim={"lr": 1})
    other = summary(tmp_path, records()[:-1], name="b", optim={"lr": 2})
    other["best"]["metrics"]["f1"] = 99.0
    found = compare([*ended, going, other])
    assert [row["runs"] for row in found["rows"]] == [["a0", "a1"], ["b"]]
    assert not found["rows"][1]["ended"]
    assert found["differences"] == [] and not found["leaders"]
    page = terminal(comparison_report(found))
    assert "a2 is unfinished and does not count" in page and "row 2 is of runs that have not ended" in page


def test_settings_and_data_make_a_run_and_not_its_name(tmp_path):
    """A copied folder, or the same seed trained again under another name, is no second seed."""
    runs = [of(tmp_path, "a", 60.0, seed=1), of(tmp_path, "again", 60.0, seed=1), of(tmp_path, "b", 62.0, seed=2)]
    found = compare(runs)
    (row,) = found["rows"]
    assert (row["runs"], row["metrics"]["f1"]["n"]) == (["a", "b"], 2)
    (remark,) = found["remarks"]
    assert remark.startswith(f"{runs[1]['folder']} repeats {runs[0]['folder']} ")
    assert compare(runs[:2])["rows"][0]["metrics"]["f1"]["n"] == 1


def test_folds_are_repetitions_and_the_same_fold_on_another_machine_is_none(tmp_path):
    def fold(number: int, threads: int, name: str) -> dict:
        data = {"folds": 5, "fold": number}
        return of(tmp_path, name, 60.0, tasks={"qa": {"task": "span_qa", "data": data}}, runtime={"threads": threads})

    found = compare([fold(0, 1, "a"), fold(1, 1, "b"), fold(0, 2, "c")])
    assert [row["runs"] for row in found["rows"]] == [["a", "b"]] and len(found["remarks"]) == 1


def test_of_a_run_and_its_unfinished_copy_the_one_that_ended_counts(tmp_path):
    found = compare([summary(tmp_path, records()[:-1], name="going"), of(tmp_path, "ended", 60.0)])
    assert found["rows"][0]["runs"] == ["ended"]


def test_runs_on_other_data_are_no_repetitions_of_each_other(tmp_path):
    runs = [of(tmp_path, name, score, seed=i) for i, (name, score) in enumerate((("a", 60.0), ("b", 70.0)))]
    runs[0]["fingerprints"], runs[1]["fingerprints"] = {"qa": {"dev": "1" * 64}}, {"qa": {"dev": "2" * 64}}
    found = compare(runs)
    assert found["differing"] == ["data (fingerprint)"] and len(found["rows"]) == 2


def test_a_task_without_fingerprints_is_no_fault(tmp_path):
    runs = [of(tmp_path, name, 60.0, seed=i) for i, name in enumerate("ab")]
    runs[0]["fingerprints"] = {"qa": {}}
    assert len(compare(runs)["rows"]) == 1


def test_other_data_are_other_rows_also_beside_another_task(tmp_path):
    tasks = {n: {"qa": {"task": "span_qa", "data": {"train_limit": n}}} for n in (1, 2)}
    runs = [of(tmp_path, f"r{n}", 60.0 + n, seed=n, tasks=tasks[n]) for n in (1, 2)]
    other = of(tmp_path, "words", 50.0, tasks={"words": {"task": "classification", "data": {"label": "kind"}}})
    found = compare([*runs, other])
    assert len(found["rows"]) == 3
    assert found["differing"] == [
        "tasks",
        "tasks.qa.data.train_limit",
    ]  # not data.label: the task says that


def test_names_are_no_settings_but_the_optimizers_is_one(tmp_path):
    phases = [{"name": "full", "epochs": 1}]
    runs = [of(tmp_path, "a", 60.0, phases=phases, optim={"name": "adamw"})]
    runs.append(of(tmp_path, "b", 61.0, phases=[{"name": "all", "epochs": 1}], optim={"name": "sgd"}))
    assert compare(runs)["differing"] == ["optim.name"]


def test_of_adapters_only_what_differs_between_them_is_a_setting_and_a_run_without_has_no_rank(tmp_path):
    lora = {"rank": 16, "alpha": 32, "dropout": 0.0, "targets": ["query", "value"]}
    runs = [of(tmp_path, "full", 60.0, lora=None), of(tmp_path, "lora", 61.0, lora=lora)]
    assert compare(runs)["differing"] == ["lora.rank"] and len(compare(runs)["rows"]) == 2
    wide = of(tmp_path, "wide", 62.0, lora=lora | {"rank": 32, "alpha": 64})
    assert compare([*runs, wide])["differing"] == ["lora.rank", "lora.alpha"]


def test_the_deciding_metric_has_a_column_and_only_known_directions_lead(tmp_path):
    found = [records() for _ in range(2)]
    for i, each in enumerate(found):
        each[0]["spec"] = SPEC | {"eval": {"metric": "matthews"}, "name": f"r{i}", "optim": {"lr": i}}
        for record in each:
            if record["kind"] == "eval":
                record["metrics"] |= {"matthews": 50.0 + i, "ece": 5.0 + i}
    compared = compare([read_summary(write(tmp_path / str(i), each)) for i, each in enumerate(found)])
    assert "matthews" in compared["leaders"] and "ece" not in compared["leaders"]
    assert "*51.0" in terminal(comparison_report(compared))


def test_a_variant_names_its_row_and_only_words_that_occur_are_explained(tmp_path):
    runs = [of(tmp_path, name, score, variant=name) for name, score in (("r4", 60), ("full", 61))]
    page = terminal(comparison_report(compare(runs)))
    head, *rows = page.split("Runs, ranked by f1")[1].strip().splitlines()[:3]
    assert "variant" not in head and [row.split()[:2] for row in rows] == [["1", "full"], ["2", "r4"]]
    assert "\noverfitting " in page and "\nspike " in page and "underfitting" not in page and "oscillation" not in page
