"""training/start.py: runs that begin with another run's best model."""

import json
import shutil

import pytest
import torch

import train
from experiments.inference import load
from tests.tiny import records_of, run_main

STILL = 1e-12  # a rate at which nothing moves
QUESTION = (["Who won the race?"], ["Ann Lee won the race in 1950."])
FROZEN = [{"name": "x", "epochs": 1, "train": ["head"], "lr": {"head": STILL}}]
KEPT = [{"name": "x", "epochs": 1, "train": ["head", "lora"], "lr": {"head": STILL, "lora": STILL}}]
ALL = [{"name": "x", "epochs": 1, "train": ["all"], "lr": {"all": STILL}}]


@pytest.fixture
def parent(experiment, tmp_path):
    """A run with adapters and one trained layer. Returns a function that trains a child of it."""
    assert run_main(experiment(amp="off", optim={"lr": 0.01}), tmp_path, "--set", "name=parent") == 0

    def child(name: str, *more: str, start: str = "parent", **changes) -> int:
        model = {"pretrained": str(tmp_path / "small"), "start_from": str(tmp_path / "runs" / start)}
        path = experiment(**{"amp": "off", "model": model, **changes})
        return run_main(path, tmp_path, "--set", f"name={name}", *more)

    return child


def logits(folder) -> torch.Tensor:
    model = load(folder)
    return model.logits(model.batch(*QUESTION))


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": None, "phases": FROZEN},
        {"lora": None, "phases": KEPT},
        {"lora": None, "phases": ALL},
        {"lora": {"rank": 2, "dora": True}, "phases": KEPT},
        {"lora": {"rank": 2, "init": "pissa", "targets": "all-linear"}, "phases": KEPT},
    ],
    ids=["head alone", "adapters kept", "all", "new adapters", "new pissa"],
)
def test_a_child_computes_what_its_parent_did_even_when_that_is_gone(parent, tmp_path, changes, capsys):
    assert parent("child", **changes) == 0
    assert "its head begins with the other run's head" in capsys.readouterr().out
    expected = logits(tmp_path / "runs" / "parent")
    shutil.rmtree(tmp_path / "runs" / "parent")
    assert (logits(tmp_path / "runs" / "child") - expected).abs().max() < 1e-4
    start = records_of(tmp_path / "runs" / "child", "run")[0]["start"]
    assert start["from"].endswith("parent") and len(start["sha256"]) == 64


def test_a_grandchild_needs_neither(parent, tmp_path):
    assert parent("child", lora=None, phases=KEPT) == 0
    expected = logits(tmp_path / "runs" / "child")
    shutil.rmtree(tmp_path / "runs" / "parent")
    assert parent("grandchild", start="child", lora={"rank": 2}, phases=KEPT) == 0
    shutil.rmtree(tmp_path / "runs" / "child")
    assert (logits(tmp_path / "runs" / "grandchild") - expected).abs().max() < 1e-4


def test_kept_adapters_train_on_and_a_killed_child_resumes_to_the_same_bits(parent, experiment, tmp_path, monkeypatch):
    phases = [{"name": "x", "epochs": 1, "train": ["head", "lora"]}]
    changes = {"lora": None, "phases": phases, "runtime": {"log_every": 3, "device": "cpu", "threads": 1}}
    assert parent("whole", **changes) == 0
    assert (logits(tmp_path / "runs" / "whole") - logits(tmp_path / "runs" / "parent")).abs().max() > 1e-3

    real, calls = train.take_step, []

    def interrupted(run, batches):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        real(run, batches)

    monkeypatch.setattr(train, "take_step", interrupted)
    assert parent("killed", **changes) == 130
    monkeypatch.setattr(train, "take_step", real)
    assert parent("killed", "--resume", **changes) == 0
    whole, killed = tmp_path / "runs" / "whole", tmp_path / "runs" / "killed"
    for folder in (whole, killed):  # their names differ
        text = (folder / "metrics.jsonl").read_text().replace(folder.name, "same")
        (folder / "metrics.jsonl").write_text(text)
    for kind in ("train", "eval"):
        assert records_of(whole, kind) == records_of(killed, kind)
    for file in ("best", "last"):
        for path in (whole / file).glob("*.safetensors"):
            assert path.read_bytes() == (killed / file / path.name).read_bytes()


def test_a_classifier_keeps_its_head_for_the_same_labels_in_any_order(experiment, tmp_path):
    lines = [json.dumps({"text": f"{w} thing {i}", "label": w}) for i in range(20) for w in ("good", "bad", "odd")]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    data = {"train": ["a.jsonl"], "dev_fraction": 0.2, "max_length": 16, "batch_size": 8}
    base = {"task": "classification", "data": data, "lora": None, "amp": "off"}
    small = str(tmp_path / "small")
    phases = [{"name": "x", "epochs": 2, "train": ["all"]}]
    path = experiment(**base, phases=phases, optim={"lr": 0.003})
    assert run_main(path, tmp_path, "--data-root", str(tmp_path), "--set", "name=parent") == 0
    expected = load(tmp_path / "runs" / "parent").classify(["good thing", "odd thing"])

    model = {"pretrained": small, "start_from": str(tmp_path / "runs" / "parent")}
    names = {"label_names": {"good": "zzz"}}  # another name, which moves nothing but is another label
    for name, more, same in (("same", {}, True), ("other", names, False)):
        path = experiment(**base | {"data": data | more}, model=model, phases=FROZEN)
        assert run_main(path, tmp_path, "--data-root", str(tmp_path), "--set", f"name={name}") == 0
        found = load(tmp_path / "runs" / name).classify(["good thing", "odd thing"])
        alike = [
            f.probabilities == pytest.approx(e.probabilities, abs=1e-4) for f, e in zip(found, expected, strict=True)
        ]
        assert all(alike) is same


@pytest.mark.parametrize(
    "model,message",
    [
        ({"start_from": "nowhere"}, "nowhere"),
        ({"start_from": "runs/parent", "adapter": "x"}, "a run begins with one of them, not both"),
        ({"start_from": "runs/parent", "pretrained": "all-MiniLM-L6-v2"}, "set model.pretrained to what it"),
    ],
)
def test_what_is_no_start_is_refused_in_a_line(parent, experiment, tmp_path, model, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = experiment(model={"pretrained": str(tmp_path / "small")} | model)
    assert run_main(path, tmp_path, "--set", "name=child") == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1 and not (tmp_path / "runs" / "child").exists()


def test_a_run_cannot_begin_with_itself(parent, tmp_path, capsys):
    assert parent("parent", "--overwrite") == 2
    assert "is this run's own folder" in capsys.readouterr().err
    assert load(tmp_path / "runs" / "parent")


def test_a_parent_that_was_trained_again_is_another_start(parent, experiment, tmp_path, capsys):
    assert parent("child") == 0
    assert run_main(experiment(amp="off"), tmp_path, "--overwrite", "--set", "name=parent", "seed=5") == 0
    assert parent("child", "--resume") == 2
    assert "start is" in capsys.readouterr().err
