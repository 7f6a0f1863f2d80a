"""Runs that are interrupted, killed, tampered with, and continued. A small random encoder, real everything else."""

import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from experiments import checkpoints
from experiments import folder as folder_module
from experiments.folder import claim
from experiments.runlog import read_records
from tests.tiny import ROOT, assert_same_run, records_of, run_main, start_process, wait_for_step


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_continues_to_the_same_numbers(experiment, tmp_path, number, code):
    path = experiment()
    longer = ["--set", "data.train_limit=300", "data.dev_limit=24"]
    assert run_main(path, tmp_path, *longer, "name=whole") == 0
    process = start_process(path, tmp_path, *longer)
    wait_for_step(tmp_path / "runs" / "tiny", 9)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "go on: python train.py --exp" in errors and "--resume" in errors and "Traceback" not in errors
    assert run_main(path, tmp_path, *longer, "--resume") == 0
    assert_same_run(tmp_path / "runs" / "whole", tmp_path / "runs" / "tiny")
    assert any(r.get("event") == "interrupted" for r in read_records(tmp_path / "runs" / "tiny")[0])


RESUMABLE = {
    "plain": [],
    "bf16 and accumulation": ["amp=bf16", "optim.accumulate=2"],
    "fp16 and its scaler": ["amp=fp16"],
    "momentum and cosine": ["optim.name=sgd", "phases.1.schedule=cosine", "lora.dropout=0.1"],
    "rmsprop, constant, a third epoch": ["optim.name=rmsprop", "phases.0.schedule=constant", "phases.1.epochs=2"],
    "adam and gradual unfreezing": [
        "optim.name=adam",
        'phases.1={"name":"two","epochs":2,"train":["head","lora"],"gradual":"layers.1-0"}',
    ],
    "patience": ["eval.patience=2", "eval.metric=exact"],
}


@pytest.mark.parametrize("changes", RESUMABLE.values(), ids=RESUMABLE.keys())
def test_a_killed_run_continues_to_the_same_numbers(experiment, tmp_path, monkeypatch, changes):
    """As SIGKILL would: the process ends between two steps and saves nothing at that moment; what was written after
    the last checkpoint is written again. Killed in each phase, then again a little later, past another checkpoint.

    Traps 23, 27 and 28. Fails where a resumed run does not unfreeze again, where the random generator's or the
    optimizer's state is not restored, where patience starts anew, and where records are written twice.
    """
    path = experiment()
    changes = ["--set", "runtime.checkpoint_steps=2", "eval.every_epochs=0.5", *changes]
    assert run_main(path, tmp_path, *changes, "name=whole") == 0
    whole = tmp_path / "runs" / "whole"
    first_phase = records_of(whole, "phase")[0]["steps"]
    deaths = [3, 7, first_phase + 3, first_phase + 8]
    take_step = train.take_step

    def dying(run, batches):
        if deaths and run.progress.position >= deaths[0]:
            deaths.pop(0)
            raise SystemError("killed")
        take_step(run, batches)

    monkeypatch.setattr(train, "take_step", dying)
    resumed_in = []
    while deaths:
        with pytest.raises(SystemError):
            run_main(path, tmp_path, *changes, "--resume")
        resumed_in.append(json.loads((tmp_path / "runs/tiny/last/checkpoint.json").read_text())["progress"]["phase"])
    assert resumed_in[:2] == [0, 0] and min(resumed_in[2:]) >= 1
    assert run_main(path, tmp_path, *changes, "--resume") == 0
    assert_same_run(whole, tmp_path / "runs" / "tiny")


def test_a_run_without_its_last_checkpoint_is_not_resumed_over(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path)
    shutil.rmtree(tmp_path / "runs" / "tiny" / "last")
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, "--resume") == 2
    assert "cannot be resumed, it has no checkpoint (last/); --overwrite starts over" in capsys.readouterr().err
    assert before == files_of(tmp_path / "runs")


def test_a_run_folder_is_there_as_a_whole_or_not_at_all(experiment, tmp_path, monkeypatch, capsys):
    """Killed while it is made: there is no run. Killed while it replaces another: the other one is still there."""
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_trained", lambda *a: (_ for _ in ()).throw(SystemError("killed")))
        with pytest.raises(SystemError):
            run_main(path, tmp_path)
        assert not folder.exists()
    assert run_main(path, tmp_path, "--resume") == 0
    assert "nothing to resume: started from the beginning" in capsys.readouterr().out
    before = files_of(folder)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_trained", lambda *a: (_ for _ in ()).throw(SystemError("killed")))
        with pytest.raises(SystemError):
            run_main(path, tmp_path, "--overwrite")
    assert files_of(folder) == before


@pytest.mark.parametrize("dies_in", ["save_last", "save_best"])
def test_a_run_killed_around_its_first_evaluation_resumes(experiment, tmp_path, monkeypatch, dies_in):
    """last/ is written first, and then best/ with the same model: a death between the two leaves it in last/ only."""
    path = experiment()
    run_main(path, tmp_path, "--set", "name=whole")
    with monkeypatch.context() as patch:
        patch.setattr(train, dies_in, lambda *a: (_ for _ in ()).throw(SystemError("killed")))
        with pytest.raises(SystemError):
            run_main(path, tmp_path)
    assert not (tmp_path / "runs" / "tiny" / "best").exists()
    assert run_main(path, tmp_path, "--resume") == 0
    assert_same_run(tmp_path / "runs" / "whole", tmp_path / "runs" / "tiny")


def test_a_best_that_is_not_the_one_last_speaks_of_is_refused(experiment, tmp_path, capsys):
    """As after a best evaluation that was saved, lost with its record, and would not come again."""
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path)
    state = json.loads((folder / "best" / "checkpoint.json").read_text())
    state["progress"]["best"]["step"] -= 1
    (folder / "best" / "checkpoint.json").write_text(json.dumps(state))
    last = json.loads((folder / "last" / "checkpoint.json").read_text())
    last["progress"]["step"] -= 1
    (folder / "last" / "checkpoint.json").write_text(json.dumps(last))
    assert run_main(path, tmp_path, "--resume") == 2
    assert "best: is not the best evaluation, of step" in capsys.readouterr().err


def test_checkpoints_that_died_between_two_renames_come_back(experiment, tmp_path):
    path = experiment()
    run_main(path, tmp_path)
    folder = tmp_path / "runs" / "tiny"
    for name in ("best", "last"):
        (folder / name).rename(folder / f".{name}.old")
        (folder / f".{name}.new").mkdir()
    assert run_main(path, tmp_path, "--resume") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["best", "last", "metrics.jsonl", "spec.json"]


def test_a_diary_that_lost_its_end_is_not_continued(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path)
    diary = tmp_path / "runs" / "tiny" / "metrics.jsonl"
    diary.write_bytes(diary.read_bytes()[:1000])
    assert run_main(path, tmp_path, "--resume") == 2
    assert "metrics.jsonl: is shorter than the" in capsys.readouterr().err
    diary.unlink()
    assert run_main(path, tmp_path, "--resume") == 2
    assert "metrics.jsonl: no such file" in capsys.readouterr().err


def test_what_was_written_after_the_checkpoint_is_cut_off_and_reported(experiment, tmp_path, capsys):
    """A torn last line included."""
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path)
    with (folder / "metrics.jsonl").open("ab") as diary:
        diary.write(b'{"kind": "train", "step": 21}\n{"kind": "tr')
    assert run_main(path, tmp_path, "--resume") == 0
    remark = "2 later record(s) cut off, to be written again; a torn last line removed"  # the `end` and the one above
    assert remark in capsys.readouterr().out
    records, remarks = read_records(folder)
    assert not remarks and remark in next(r["message"] for r in records if r.get("event") == "resumed")


def test_bookkeeping_settings_may_change_on_resume(experiment, tmp_path):
    path = experiment()
    run_main(path, tmp_path)
    assert run_main(path, tmp_path, "--resume", "--set", "runtime.checkpoint_seconds=1", "runtime.device=auto") == 0


def test_resuming_with_another_spec_lists_the_differences(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path)
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, "--resume", "--set", "optim.lr=0.5", "data.train_limit=79") == 2
    message = capsys.readouterr().err
    assert "spec.optim.lr is 0.5, was 0.001" in message and "spec.data.train_limit is 79, was 80" in message
    assert "data.train is" in message and "--resume-anyway" in message
    assert before == files_of(tmp_path / "runs")


def test_other_weights_and_another_checkpoint_format_are_differences_too(experiment, tmp_path, capsys, monkeypatch):
    path = experiment()
    run_main(path, tmp_path)
    weights = tmp_path / "small" / "model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(tensors, weights)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_FORMAT", 99)
    monkeypatch.setattr(folder_module, "CHECKPOINT_FORMAT", 99)
    assert run_main(path, tmp_path, "--resume") == 2
    message = capsys.readouterr().err
    assert "format is 99, was 3" in message and "pretrained is '" in message


def test_resuming_anyway_is_recorded(experiment, tmp_path):
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path, "--set", "phases.1.epochs=0.5")
    assert run_main(path, tmp_path, "--resume-anyway", "--set", "optim.lr=0.002") == 0
    (event,) = [r for r in read_records(folder)[0] if r.get("event") == "resumed anyway"]
    assert event["message"] == "spec.optim.lr is 0.002, was 0.001; spec.phases.1.epochs is 1.0, was 0.5"
    assert records_of(folder, "end")[-1]["epoch"] == 2.0
    assert run_main(path, tmp_path, "--resume", "--set", "optim.lr=0.002") == 0  # it is that experiment now


@pytest.mark.parametrize("change", ["optim.name=sgd", "lora.rank=2", 'lora.targets=["key"]', "data.train_limit=8"])
def test_what_does_not_fit_is_not_resumed_anyway_either(experiment, tmp_path, capsys, change):
    path = experiment()
    run_main(path, tmp_path)
    before = files_of(tmp_path / "runs")
    assert run_main(path, tmp_path, "--resume-anyway", "--set", change) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert before == files_of(tmp_path / "runs")


def test_resuming_a_finished_run_changes_no_number(experiment, tmp_path):
    path = experiment()
    run_main(path, tmp_path)
    before = records_of(tmp_path / "runs" / "tiny")
    assert run_main(path, tmp_path, "--resume") == 0
    assert records_of(tmp_path / "runs" / "tiny") == before


# ---- two processes, a full disk, a damaged checkpoint ----------------------------------------------------------------


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_a_second_process_on_a_run_folder_is_refused(experiment, tmp_path, capsys, option):
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    if option:
        run_main(path, tmp_path)
    before = files_of(folder)
    with claim(folder):
        assert run_main(path, tmp_path, *option) == 2
    assert "another process is working on this run; stop it first" in capsys.readouterr().err
    assert files_of(folder) == before
    assert run_main(path, tmp_path, *option) == 0


def test_two_processes_that_start_together_are_one_run(experiment, tmp_path):
    processes = [start_process(experiment(), tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], errors
    assert len(records_of(tmp_path / "runs" / "tiny", "run")) == 1


FULL = {
    "a checkpoint that has grown": (["runtime.log_every=3"], "last/training.safetensors", 0.5),
    "the diary": (['phases.1.train=["head"]', "phases.1.lr={}", "phases.1.epochs=9"], "metrics.jsonl", 0.75),
}


@pytest.mark.parametrize("changes,file,share", FULL.values(), ids=FULL.keys())
def test_a_full_disk_ends_the_run_with_its_checkpoint_intact(experiment, tmp_path, changes, file, share):
    """The full disk is a limit on the size of a file, met at a share of what a file grows to in the second phase. With
    more room the run goes on to the same numbers."""
    path, whole = experiment(), tmp_path / "runs" / "whole"
    changes = ["--set", "runtime.checkpoint_steps=1", "runtime.log_every=1", *changes]
    assert run_main(path, tmp_path, *changes, "name=whole") == 0
    room = int((whole / file).stat().st_size * share)
    command = [sys.executable, "train.py", "--exp", path, "--runs", tmp_path / "runs", *changes]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # noqa: E731
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "File too large" in line and "last/ is intact" in line and "--resume" in line
    assert json.loads((tmp_path / "runs/tiny/last/checkpoint.json").read_text())["progress"]["phase"] >= 0
    assert run_main(path, tmp_path, *changes, "--resume") == 0
    assert_same_run(whole, tmp_path / "runs" / "tiny")


@pytest.mark.parametrize("name", ["head.safetensors", "training.safetensors", "adapter_config.json"])
def test_a_checkpoint_that_is_not_what_was_saved_is_refused(experiment, tmp_path, capsys, name):
    """One flipped bit is enough; safetensors itself would not notice."""
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path)
    file = folder / "last" / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    before = files_of(folder)
    assert run_main(path, tmp_path, "--resume") == 2
    assert f"{name}: is not what was saved (sha256 differs)" in capsys.readouterr().err
    assert files_of(folder) == before


def test_memory_that_runs_out_is_one_line(experiment, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(train, "take_step", full)
    assert run_main(experiment(), tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Tried to allocate 2.00 GiB." in line and "data.batch_tokens" in line
