"""Runs that are interrupted, killed, tampered with, and continued. A small random encoder, real everything else."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from data.files import InputError
from experiments.inference.trained import load_run
from experiments.records import read_records
from experiments.training import checkpoint as checkpoints
from experiments.training import folder as folder_module
from experiments.training.folder import claim
from tests.experiments.report.made import read_summary
from tests.tiny import FILES, ROOT, assert_same_run, dying_at, records_of, run_main, start_process, wait_for_step


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
    assert any(r.get("event") == "interrupted" for r in read_records(tmp_path / "runs" / "tiny").records)


def test_a_signal_that_is_ignored_stays_ignored(experiment, tmp_path):
    """As for a job in the background of a script, or under nohup."""
    process = start_process(experiment(), tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    wait_for_step(tmp_path / "runs" / "tiny", 3)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


def test_a_reader_that_has_gone_does_not_stop_training(experiment, tmp_path):
    """`train.py | head`; and Ctrl-C, which takes `tee` along, still saves and says 130."""
    for name, number, code in (("head", None, 0), ("tee", signal.SIGINT, 130)):
        process = start_process(experiment(), tmp_path, "--set", f"name={name}", "data.train_limit=300")
        process.stdout.close()
        process.stderr.close()
        wait_for_step(tmp_path / "runs" / name, 3)
        if number:
            process.send_signal(number)
        assert process.wait(timeout=60) == code
    last = json.loads((tmp_path / "runs" / "tee" / "last" / "checkpoint.json").read_text())
    assert last["progress"]["step"] == read_records(tmp_path / "runs" / "tee").records[-1]["step"]


RESUMABLE = {
    "two tasks, with masking": [
        "data={}",
        'tasks={"qa":{"task":"span_qa","data":{"source":"synthetic_qa","train_limit":40,"dev_limit":8,"max_length":96,'
        '"doc_stride":48,"max_query_length":24,"batch_size":8,"mask_tokens":0.1}},"mood":{"task":"classification",'
        '"data":{"source":"synthetic_sentiment","train_limit":40,"dev_limit":8,"batch_size":8,"max_length":96},'
        '"loss":{"class_weights":"balanced"}}}',
    ],
    "plain": [],
    "bf16 and accumulation": ["amp=bf16", "optim.accumulate=2"],
    "fp16 and its scaler": ["amp=fp16"],
    "momentum and cosine": ["optim.name=sgd", "phases.1.schedule=cosine", "lora.dropout=0.1"],
    "rmsprop, constant, a third epoch": ["optim.name=rmsprop", "phases.0.schedule=constant", "phases.1.epochs=2"],
    "adam and gradual unfreezing": [
        "optim.name=adam",
        'phases.1={"name":"two","epochs":2,"train":["head","lora"],"gradual":"layers.1-0"}',
    ],
    "a trunk that is kept": [
        "model.trunk_mb=10",
        "model.dropout=0.1",
        'phases=[{"name":"heads","epochs":1,"train":["head"]},{"name":"top","epochs":1,"train":["head","lora"]}]',
        'lora.targets=["layers.1.*query"]',
    ],
    "dora, and a rate of its own for B": ["lora.dora=true", "lora.b_rate=8", "lora.dropout=0.1", "lora.rslora=true"],
    "pissa everywhere": ["lora.init=pissa", "lora.targets=all-linear", "optim.weight_decay=0"],
    "pissa above a trunk that is kept": [
        "lora.init=pissa",
        "model.trunk_mb=10",
        'phases=[{"name":"heads","epochs":1,"train":["head"]},{"name":"top","epochs":1,"train":["head","lora"]}]',
        'lora.targets=["layers.1.*query"]',
    ],
    "less memory": ["runtime.save_memory=true", "model.attention_dropout=0.1", "model.dropout=0.1"],
    # Nothing gets better: the evaluation at step 23 ends the run, after the last death.
    "patience": ["eval.patience=2", "optim.lr=1e-9"],
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
    deaths = [3, 7, first_phase + 3, first_phase + 6]
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


def another_machine(monkeypatch) -> None:
    """Its singular value decomposition differs in the last bits, and in signs that are free."""
    svd = torch.linalg.svd

    def other(weight, **options):
        U, S, Vh = svd(weight, **options)
        return -U * (1 + 1e-6), S, -Vh

    monkeypatch.setattr(torch.linalg, "svd", other)


def test_a_pissa_run_continues_and_answers_on_another_machine(experiment, tmp_path, monkeypatch):
    """Fails where the residual weights are decomposed again instead of saved, or where the best model lacks them."""
    path, settings = experiment(), ["--set", "lora.init=pissa", 'phases.1.train=["head","lora"]', "phases.1.lr={}"]
    assert run_main(path, tmp_path, *settings, "name=whole") == 0
    whole, folder = tmp_path / "runs" / "whole", tmp_path / "runs" / "tiny"
    with dying_at(7, monkeypatch):
        run_main(path, tmp_path, *settings)
    loaded = load_run(whole)
    another_machine(monkeypatch)
    assert run_main(path, tmp_path, *settings, "--resume") == 0
    assert_same_run(whole, folder)
    found, changed = dict(load_run(whole).model.named_parameters()), []
    for name, parameter in loaded.model.named_parameters():
        assert torch.equal(parameter, found[name]), name
        changed += [name] if "query.weight" in name or "value.weight" in name else []
    saved = load_file(folder / "best" / "encoder.safetensors")
    assert len(saved) == len(changed) == 4  # of two layers, and nothing else


def test_an_adapter_of_pissa_is_not_resumed_as_another(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path, "--set", "lora.init=pissa")
    assert run_main(path, tmp_path, "--resume-anyway") == 2
    assert "init_lora_weights is 'pissa', the model has lora.init 'default'" in capsys.readouterr().err


def test_a_resumed_run_says_so_beside_what_its_task_has_to_say(experiment, tmp_path, capsys):
    """Fails where the banner's loop over the task's remarks takes the place of its own."""
    data = {"source": "synthetic_sentiment", "train_limit": 40, "dev_limit": 8, "batch_size": 8, "max_length": 96}
    path = experiment(task="classification", data=data, loss={"class_weights": "balanced"})
    assert run_main(path, tmp_path) == 0
    capsys.readouterr()
    assert run_main(path, tmp_path, "--resume") == 0
    banner = capsys.readouterr().out
    assert "class weights: " in banner and "resumed at step 10, epoch 2.00" in banner


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
        (folder / name).rename(folder / f".{name}.0123456789abcdef.old")
        (folder / f".{name}.0123456789abcdef.new").mkdir()
    assert run_main(path, tmp_path, "--resume") == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_diary_that_lost_its_end_is_not_continued(experiment, tmp_path, capsys):
    path = experiment()
    run_main(path, tmp_path)
    metrics = tmp_path / "runs" / "tiny" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:1000])
    assert run_main(path, tmp_path, "--resume") == 2
    assert "metrics.jsonl: is shorter than the" in capsys.readouterr().err
    metrics.unlink()
    assert run_main(path, tmp_path, "--resume") == 2
    assert "metrics.jsonl: no such file" in capsys.readouterr().err


def test_what_was_written_after_the_checkpoint_is_cut_off_and_reported(experiment, tmp_path, capsys):
    """A torn last line included."""
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path)
    with (folder / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"kind": "train", "step": 21}\n{"kind": "tr')
    assert run_main(path, tmp_path, "--resume") == 0
    remark = "2 later record(s) cut off, to be written again; a torn last line removed"  # the `end` and the one above
    assert remark in capsys.readouterr().out
    found = read_records(folder)
    records, remarks = found.records, found.remarks
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
    assert "spec.optim.lr is 0.5, was 0.001" in message and "spec.tasks.main.data.train_limit is 79, was 80" in message
    assert "data.main.train is" in message and "--resume-anyway" in message
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
    assert "format is 99, was 5" in message and "pretrained is '" in message


def test_a_setting_that_is_new_since_the_checkpoint_is_no_difference(experiment, tmp_path):
    """Whoever adds a setting, or updates the code, can go on with the runs under way."""
    path = experiment()
    run_main(path, tmp_path)
    for place in ("last", "best"):
        file = tmp_path / "runs" / "tiny" / place / "checkpoint.json"
        state = json.loads(file.read_text())
        del state["identity"]["spec"]["lora"]["rslora"], state["identity"]["spec"]["optim"]["l1"]
        file.write_text(json.dumps(state))
    assert run_main(path, tmp_path, "--resume") == 0


def test_resuming_anyway_is_recorded(experiment, tmp_path):
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path, "--set", "phases.1.epochs=0.5")
    assert run_main(path, tmp_path, "--resume-anyway", "--set", "optim.lr=0.002") == 0
    (event,) = [r for r in read_records(folder).records if r.get("event") == "resumed anyway"]
    assert event["message"] == "spec.optim.lr is 0.002, was 0.001; spec.phases.1.epochs is 1.0, was 0.5"
    assert records_of(folder, "end")[-1]["epoch"] == 2.0
    assert run_main(path, tmp_path, "--resume", "--set", "optim.lr=0.002") == 0  # it is that experiment now


def test_what_has_trained_stays_saved_when_an_earlier_phase_is_entered_again(experiment, tmp_path):
    """Phase two trains an encoder layer; a longer phase one then puts the run back into phase one."""
    path, longer = experiment(), ["--set", "phases.0.epochs=3"]
    run_main(path, tmp_path)
    assert run_main(path, tmp_path, "--resume-anyway", *longer) == 0
    assert (tmp_path / "runs" / "tiny" / "last" / "encoder.safetensors").is_file()
    summary = read_summary(tmp_path / "runs" / "tiny")
    assert summary["steps"] == summary["steps_planned"] and summary["final"]["epoch"] == 4  # of what it is now
    spec = json.loads((tmp_path / "runs" / "tiny" / "spec.json").read_text())
    assert spec["phases"][0]["epochs"] == 3


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


def test_nobody_else_is_inside_while_a_run_is_claimed(tmp_path):
    """Four threads, each with a lock of its own, let go of the lock file and take it again as fast as they can."""
    inside, overlaps, entered = [], [], []

    def work():
        for _ in range(1500):
            try:
                with claim(tmp_path / "run"):
                    inside.append(1)
                    overlaps.extend(inside[1:])
                    entered.append(1)
                    inside.pop()
            except InputError:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entered) > 500 and not overlaps and not list(tmp_path.iterdir())


def test_a_run_that_appeared_in_the_meantime_is_not_replaced(experiment, tmp_path, monkeypatch, capsys):
    """Two are started; one sets up so slowly that the other has ended by then."""
    path, folder, set_up = experiment(), tmp_path / "runs" / "tiny", train.set_up

    def slow(*arguments):
        monkeypatch.setattr(train, "set_up", set_up)
        assert run_main(path, tmp_path) == 0
        return set_up(*arguments)

    monkeypatch.setattr(train, "set_up", slow)
    assert run_main(path, tmp_path) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert len(records_of(folder, "run")) == len(records_of(folder, "end")) == 1


def test_an_overwrite_that_died_between_its_renames_has_lost_nothing(experiment, tmp_path, capsys):
    path, folder = experiment(), tmp_path / "runs" / "tiny"
    run_main(path, tmp_path)
    before = files_of(folder)
    folder.rename(folder.with_name(".tiny.0123456789abcdef.old"))
    assert run_main(path, tmp_path) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run_main(path, tmp_path, "--resume") == 0
    assert files_of(folder).keys() == before.keys()


def test_two_processes_that_start_together_are_one_run(experiment, tmp_path):
    processes = [start_process(experiment(), tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], errors
    assert len(records_of(tmp_path / "runs" / "tiny", "run")) == 1


FULL = {
    "a checkpoint that has grown": (["runtime.log_every=3"], "last/training.safetensors", 0.5),
    "the metrics file": (['phases.1.train=["head"]', "phases.1.lr={}", "phases.1.epochs=9"], "metrics.jsonl", 0.75),
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


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of so many bytes, or gives it another size. Needs root."""
    place = tmp_path / "disk"
    place.mkdir()

    def resize(size: int) -> Path:
        options = f"size={size}" + (",remount" if place.is_mount() else "")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        return place

    yield resize
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_disk_that_is_really_full_loses_nothing(experiment, tmp_path, small_disk, share):
    """Full before there is a run, or in the middle of a save: with more room the run goes on to the same numbers."""
    path, whole = experiment(), tmp_path / "runs" / "whole"
    changes = ["--set", "runtime.checkpoint_steps=1"]
    assert run_main(path, tmp_path, *changes, "name=whole") == 0
    needed = sum(file.stat().st_size for file in whole.rglob("*.*"))
    disk = small_disk(int(share * needed))
    command = [sys.executable, "train.py", "--exp", path, "--runs", disk, *changes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "No space left on device" in done.stderr
    small_disk(3 * needed)
    assert train.main(["--exp", str(path), "--runs", str(disk), *changes, "--resume"]) == 0
    assert_same_run(whole, disk / "tiny")
    assert sorted(file.name for file in disk.iterdir()) == ["tiny"]


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


def test_a_run_folder_that_was_deleted_is_not_made_again_in_pieces(experiment, tmp_path, monkeypatch, capsys):
    take_step, folder = train.take_step, tmp_path / "runs" / "tiny"

    def deleting(run, batches):
        if run.progress.step == 3:
            shutil.rmtree(folder)
        take_step(run, batches)

    monkeypatch.setattr(train, "take_step", deleting)
    assert run_main(experiment(), tmp_path) == 1
    assert "No such file or directory" in capsys.readouterr().err
    assert not folder.exists()


ON_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ON_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes")


@pytest.mark.parametrize("error", [ON_GPU, ON_CPU, MemoryError()], ids=["gpu", "cpu", "python"])
@pytest.mark.parametrize("where", ["take_step", "set_up"])
def test_memory_that_runs_out_is_one_line(experiment, tmp_path, monkeypatch, capsys, error, where):
    def full(*arguments):
        raise error

    monkeypatch.setattr(train, where, full)
    assert run_main(experiment(), tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (str(error) or "MemoryError") in line
    assert ("data.batch_tokens" if where == "take_step" else "set this up") in line


def test_another_error_of_torch_keeps_its_traceback(experiment, tmp_path, monkeypatch):
    def wrong(*arguments):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(train, "take_step", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        run_main(experiment(), tmp_path)
