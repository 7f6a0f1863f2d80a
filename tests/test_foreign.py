"""What comes from elsewhere: links, other people's folders, runs whose parts do not belong together."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import eval as eval_py
import train
from data.files import sha256_of
from data.labels import Outputs
from experiments.inference.trained import load_run
from experiments.records import read_records
from experiments.tasks.texts import baseline
from tests.experiments.report.made import read_summary
from tests.test_resume import files_of
from tests.tiny import run_main, started

THESIS = "years of work"


@pytest.fixture
def run(experiment, tmp_path, capsys) -> tuple[Path, Path]:
    """(experiment file, folder of a run that has finished)"""
    path = experiment()
    assert run_main(path, tmp_path) == 0
    capsys.readouterr()
    return path, tmp_path / "runs" / "tiny"


def refusal(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


# ---- nothing of somebody's is lost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["photos/beach.jpg", "thesis.tex", "best/notes.txt", "predictions/notes.txt"])
def test_a_run_folder_with_somebodys_files_is_not_replaced(run, tmp_path, capsys, extra):
    path, folder = run
    (folder / extra).parent.mkdir(exist_ok=True)
    (folder / extra).write_text(THESIS)
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, "--overwrite") == 2
    assert f"{folder / extra.split('/')[0]}" in refusal(capsys)
    assert files_of(tmp_path / "runs") == before


def test_a_folder_with_a_file_of_that_name_is_not_yet_a_run(experiment, tmp_path, capsys):
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    for spec in ('{"name": "a specification of something else"}', "x"):
        (folder / "spec.json").write_text(spec)
        (folder / "metrics.jsonl").write_text('{"kilometres": 7}\n')
        assert run_main(experiment(), tmp_path, "--overwrite") == 2
        assert "is not empty and not a run folder" in refusal(capsys)
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.jsonl", "spec.json"]


def test_litter_of_file_managers_and_predictions_go_with_the_run(run, tmp_path):
    path, folder = run
    (folder / ".DS_Store").write_bytes(b"icons")
    (folder / "predictions" / "dev.json").mkdir(parents=True)
    assert run_main(path, tmp_path, "--overwrite") == 0
    assert not (folder / "predictions").exists()


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
@pytest.mark.parametrize(
    "name", ["best", "last", "predictions", "metrics.jsonl", "spec.json", "train_texts.safetensors"]
)
@pytest.mark.parametrize("to", ["elsewhere", "..", "."])
def test_a_link_in_a_run_folder_is_not_written_through(run, tmp_path, capsys, option, name, to):
    """A run that somebody sent may hold them; with best -> .., resuming once replaced the folder of all runs."""
    path, folder = run
    elsewhere = tmp_path / "runs" / "elsewhere"
    place = folder / name
    if name == "predictions":
        elsewhere.mkdir()
    else:
        (shutil.copytree if place.is_dir() else shutil.copyfile)(place, elsewhere)
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(elsewhere if to == "elsewhere" else to)
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, option) == 2
    assert files_of(tmp_path / "runs") == before
    message = refusal(capsys)
    if name not in ("metrics.jsonl", "spec.json") or to == "elsewhere":
        assert f"{place}: is a link" in message


def test_a_run_folder_that_is_a_link_is_refused_by_name(run, tmp_path, capsys):
    path, folder = run
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tiny").symlink_to(folder)
    for option in ("--resume", "--overwrite"):
        assert train.main(["--exp", str(path), "--runs", str(tmp_path / "other"), option]) == 2
        assert "tiny: is a link; choose another name" in refusal(capsys)
    (tmp_path / "runs2").symlink_to(tmp_path / "runs")  # where all runs are may well be on another disk
    assert train.main(["--exp", str(path), "--runs", str(tmp_path / "runs2"), "--resume"]) == 0


def test_a_copy_made_of_hard_links_is_not_resumed_into_its_original(run, tmp_path, capsys):
    """As `cp -al` makes them."""
    path, folder = run
    shutil.copytree(folder, tmp_path / "copies" / "tiny", copy_function=os.link)
    before = files_of(folder)
    assert train.main(["--exp", str(path), "--runs", str(tmp_path / "copies"), "--resume"]) == 2
    assert "metrics.jsonl: is one file with another name elsewhere (a hard link); copy it" in refusal(capsys)
    assert files_of(folder) == before


@pytest.mark.parametrize("lock", ["a file", "a link"])
def test_a_file_with_the_name_of_the_lock_is_left_alone(experiment, tmp_path, capsys, lock):
    (tmp_path / "runs").mkdir()
    (tmp_path / "thesis.tex").write_text(THESIS)
    place = tmp_path / "runs" / ".tiny.lock"
    place.symlink_to(tmp_path / "thesis.tex") if lock == "a link" else place.write_text(THESIS)
    assert run_main(experiment(), tmp_path) == 2
    assert ".tiny.lock: is a" in refusal(capsys) and place.read_text() == THESIS


def test_predictions_are_not_written_through_a_link(run, tmp_path, capsys):
    _, folder = run
    (tmp_path / "elsewhere").mkdir()
    (folder / "predictions").symlink_to(tmp_path / "elsewhere")
    data = write_questions(tmp_path)
    assert eval_py.main(["score", str(folder), "--data", str(data)]) == 2
    assert "predictions: is a link" in refusal(capsys) and not list((tmp_path / "elsewhere").iterdir())


def test_an_overwrite_that_died_between_its_renames_is_still_a_run_for_all(run, tmp_path, capsys):
    path, folder = run
    folder.rename(folder.with_name(".tiny.0123456789abcdef.old"))
    assert read_summary(folder)["status"] == "finished"
    assert load_run(folder).metrics
    assert run_main(path, tmp_path, "--resume") == 0 and folder.is_dir()


def test_all_files_of_a_run_have_the_mode_that_the_person_wants(experiment, tmp_path):
    before = os.umask(0o027)
    try:
        run_main(experiment(), tmp_path)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o640"}


# ---- a run's parts belong together -----------------------------------------------------------------------------------


def write_questions(folder: Path) -> Path:
    from data.synthetic.qa import qa_dataset

    path = folder / "asked.json"
    path.write_text(json.dumps(qa_dataset("dev", 4)))
    return path


def edit(path: Path, change) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def score(folder: Path, capsys) -> str:
    code = eval_py.main(["score", str(folder), "--data", str(write_questions(folder.parent)), "--json"])
    said = capsys.readouterr()
    return said.err if code else ""


def test_the_best_of_another_run_is_not_scored_under_this_ones_name(run, tmp_path, capsys):
    """Not even if all its settings are the same."""
    path, folder = run
    other = tmp_path / "again"
    assert train.main(["--exp", str(path), "--runs", str(other)]) == 0
    capsys.readouterr()
    shutil.rmtree(folder / "best")
    shutil.copytree(other / "tiny" / "best", folder / "best")
    assert "best: is not this run's, or its records are not" in score(folder, capsys)


@pytest.mark.parametrize(
    "change",
    [lambda spec: spec["optim"].update(lr=0.5), lambda spec: spec["tasks"]["main"]["data"].update(max_length=80)],
)
def test_an_edited_spec_is_not_what_the_model_was_trained_with(run, capsys, change):
    edit(run[1] / "spec.json", change)
    assert "spec.json: is not what best/ was trained with" in score(run[1], capsys)


def test_after_resume_anyway_the_best_is_scored_with_the_settings_it_was_trained_with(run, tmp_path, capsys):
    path, folder = run
    before = load_run(folder)
    changed = ["--set", "decoding.max_answer_length=3", "phases.1.epochs=1.1", "optim.lr=1e-9"]
    assert run_main(path, tmp_path, "--resume-anyway", *changed) == 0
    after = load_run(folder)
    assert json.loads((folder / "spec.json").read_text())["tasks"]["main"]["decoding"]["max_answer_length"] == 3
    assert after.spec.tasks == before.spec.tasks
    assert score(folder, capsys) == ""


def test_what_has_trained_is_not_dropped_when_resumed_without_it(experiment, tmp_path, capsys):
    path = experiment(phases=[{"name": "one", "epochs": 1, "train": ["all"]}], lora=None)
    assert run_main(path, tmp_path) == 0
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, "--resume-anyway", "--set", 'phases.0.train=["head"]') == 2
    assert "encoder.safetensors: holds encoder weights; no phase" in capsys.readouterr().err
    path = experiment(phases=[{"name": "one", "epochs": 1, "train": ["head"]}], lora=None)
    shutil.rmtree(tmp_path / "runs")
    assert run_main(experiment(phases=[{"name": "one", "epochs": 1, "train": ["lora"]}]), tmp_path) == 0
    path = experiment(phases=[{"name": "one", "epochs": 1, "train": ["head"]}], lora=None)
    assert run_main(path, tmp_path, "--resume-anyway") == 2
    assert "adapter_model.safetensors: holds adapters" in capsys.readouterr().err
    assert before


def test_what_a_run_was_trained_on_before_it_was_continued_stays_known(run, tmp_path):
    path, folder = run
    before = load_file(folder / "train_texts.safetensors")["main"]
    more = ["--set", "data.train_limit=60", "phases.0.epochs=2"]
    assert run_main(path, tmp_path, "--resume-anyway", *more) == 0
    after = load_file(folder / "train_texts.safetensors")["main"]
    assert set(before.tolist()) <= set(after.tolist())


def damage_head(place: Path, tensors) -> None:
    head = load_file(place / "head.safetensors")
    save_file({key: tensors(value) for key, value in head.items()}, place / "head.safetensors")
    edit(
        place / "checkpoint.json",
        lambda s: s["sha256"].update({"head.safetensors": sha256_of(place / "head.safetensors")}),
    )


@pytest.mark.parametrize(
    "tensors, answer",
    [
        (lambda t: t * float("nan"), "holds NaN or infinity"),
        (lambda t: t + float("inf"), "holds NaN or infinity"),
        (lambda t: t.int(), "holds torch.int32, floating-point numbers are needed"),
    ],
)
def test_a_head_that_holds_no_numbers_is_refused(run, tmp_path, capsys, tensors, answer):
    path, folder = run
    for place in ("best", "last"):
        damage_head(folder / place, tensors)
    assert answer in score(folder, capsys)
    assert run_main(path, tmp_path, "--resume") == 2
    assert answer in refusal(capsys)


def test_an_optimizer_with_moments_that_are_not_finite_is_refused(run, tmp_path, capsys):
    path, folder = run
    file = folder / "last" / "training.safetensors"
    state = load_file(file)
    name = next(key for key in state if key.endswith("exp_avg_sq"))
    save_file(state | {name: state[name] * float("inf")}, file)
    edit(folder / "last" / "checkpoint.json", lambda s: s["sha256"].update({file.name: sha256_of(file)}))
    assert run_main(path, tmp_path, "--resume") == 2
    assert "exp_avg_sq of encoder.layers.0" in refusal(capsys)


def test_a_checkpoint_lists_every_file_that_it_has(run, capsys):
    edit(run[1] / "best" / "checkpoint.json", lambda state: state.update(sha256={}))
    assert "checkpoint.json: does not list" in score(run[1], capsys)


# ---- numbers that mean nothing ---------------------------------------------------------------------------------------


def test_an_evaluation_without_a_finite_loss_is_never_the_best(experiment, tmp_path):
    run = started(experiment(), tmp_path)
    with torch.no_grad():
        for parameter in run.model.head.parameters():
            parameter.fill_(float("nan"))
    assert train.evaluate(run) is False
    (record,) = read_records(run.folder).of_kind("eval")
    assert set(record["metrics"].values()) == {None} and record["intervals"] == {}


def test_what_an_answer_without_reading_reaches_is_on_record(experiment, tmp_path):
    started(experiment(), tmp_path)
    (record,) = read_records(tmp_path / "runs" / "tiny").of_kind("run")
    assert record["data"]["splits"]["main"]["dev"]["baseline"] == {"exact": 100 * 8 / 24, "f1": 100 * 8 / 24}


def test_of_two_labels_the_better_constant_answer_is_the_baseline():
    """All of them "pos", where most are "neg", has an F1 of 57; a model with that has learnt nothing."""
    outputs = Outputs(labels=("neg", "pos"))
    found = baseline("classification", outputs, np.array([0] * 6 + [1] * 4), np.array([0] * 6 + [1] * 4))
    assert found["accuracy"] == 60.0 and found["f1"] == pytest.approx(100 * 2 * 4 / (10 + 4))


# ---- the network -----------------------------------------------------------------------------------------------------


def test_a_run_that_somebody_sent_asks_no_hub_for_weights(run, monkeypatch, capsys):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **how: asked.append(how) or fail())

    def fail():
        raise OSError("not in the cache")

    folder = run[1]
    for place in ("best", "last"):
        edit(
            folder / place / "checkpoint.json", lambda s: s["identity"]["spec"]["model"].update(pretrained="evil/model")
        )
    edit(folder / "spec.json", lambda spec: spec["model"].update(pretrained="evil/model"))
    assert "is not a folder seen from" in score(folder, capsys)
    assert [how["local_files_only"] for how in asked] == [True]
