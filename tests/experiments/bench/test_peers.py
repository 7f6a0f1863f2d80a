"""Whole training steps beside transformers and peft (extra `peers`): same parameters, same batches, same losses."""

import json
import os
from pathlib import Path

import pytest
import torch

import eval as eval_py
import train
from data.files import InputError
from experiments.config.check import read_spec
from experiments.inference.trained import load_run
from model.heads import EXCLUDED, SpanHead, candidates
from tests.tiny import FILES, ROOT, records_of, run_main, set_up

pytest.importorskip("transformers")
pytest.importorskip("peft")

from experiments.bench import peers
from experiments.bench.peers import through_peers
from experiments.training.phases import set_trainable

DATA = Path(os.environ.get("DATA_ROOT", ROOT / "data"))  # where Banking77 is looked for


@pytest.mark.parametrize("phase", [0, 1], ids=["head and adapters", "and a layer"])
def test_training_follows_transformers_and_peft_step_by_step(experiment, tmp_path, phase):
    """In fp32 without dropout, with our loss on both sides (theirs also spreads over question and padding): the losses
    of 20 AdamW steps agree within 1e-4."""
    settings = ["amp=off", "model.dropout=0", "optim.clip=null", "phases.0.warmup_ratio=0"]
    ours, theirs = (set_up(experiment(), tmp_path, *settings) for _ in range(2))
    follow(ours, theirs, phase, steps=20)


def follow(ours, theirs, phase: int, steps: int) -> None:
    """Both take the same steps from the same parameters; their losses are compared at each."""
    theirs = through_peers(theirs, "eager")
    for module in theirs.model.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    (head,), (their_head,) = ours.model.head.values(), theirs.model.head.values()
    if isinstance(head, SpanHead):
        allowed = lambda logits, batch: logits.masked_fill(~candidates(batch["types"])[:, None, :], EXCLUDED)  # noqa: E731
        their_head.loss = lambda logits, batch, *more: head.loss(allowed(logits, batch), batch, *more)
    with torch.no_grad():
        own = dict(theirs.model.named_parameters())
        for name, parameter in ours.model.named_parameters():
            own[name].copy_(parameter)
    losses = []
    for run in (ours, theirs):
        run.progress.phase = run.progress.furthest = phase
        set_trainable(run.model, run.spec.phases[phase])
        for position in range(steps):
            run.progress.step = position
            run.set_rates()
            losses.append(train.compute_gradients(run, run.plan.order[position % len(run.plan.order)])[0])
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
    assert losses[:steps] == pytest.approx(losses[steps:], abs=1e-4)


def test_a_run_through_the_libraries_is_a_run_folder_like_any_other(experiment, tmp_path, capsys):
    """It stands beside ours in a summary, as a row of its own, and can be scored by our model."""
    path, runs = experiment(eval={"every_epochs": 1}), tmp_path / "runs"
    assert run_main(path, tmp_path) == 0
    assert peers.main(["--exp", str(path), "--runs", str(runs)]) == 0
    assert sorted(p.name for p in (runs / "tiny_peers").iterdir()) == FILES
    capsys.readouterr()
    assert eval_py.main(["summary", str(runs / "tiny"), str(runs / "tiny_peers"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2
    trained, record = load_run(runs / "tiny_peers"), records_of(runs / "tiny_peers", "run")[0]
    assert record["program"].startswith("transformers ") and not trained.model.training


@pytest.mark.parametrize("source", ["generated reviews", "Banking77"])
def test_full_fine_tuning_of_the_real_checkpoint_follows_a_plain_transformers_loop(tmp_path, source):
    """In fp32 without dropout, everything trains: the same losses within 1e-4, for 50 steps of Banking77."""
    data = {"source": "synthetic_sentiment", "train_limit": 3000, "dev_limit": 10, "batch_size": 16}
    if source == "Banking77":
        data = {"train": ["banking77/train.csv"], "dev_fraction": 0.1, "label": "category", "batch_size": 16}
        if not (DATA / "banking77" / "train.csv").is_file():
            pytest.skip(f"no banking77/train.csv in {DATA}; DATA_ROOT names the folder")
    spec = {
        "model": {"dropout": 0},
        "task": "classification",
        "pooling": "cls_pooler",
        "data": data,
        "phases": [{"name": "full", "epochs": 1, "train": ["all"]}],
        "optim": {"lr": 1e-4, "clip": None},
        "amp": "off",
        "runtime": {"device": "cpu"},
    }
    (tmp_path / "full.json").write_text(json.dumps(spec))
    spec = read_spec(tmp_path / "full.json")
    ours, theirs = (train.set_up(spec, tmp_path / "runs" / "full", DATA) for _ in range(2))
    follow(ours, theirs, phase=0, steps=50 if source == "Banking77" else 10)


@pytest.mark.parametrize("setting", ["dora=true", "init=pissa", "b_rate=4", "rslora=true", "targets=all-linear"])
def test_a_variant_of_lora_that_the_comparison_does_not_know_is_refused(experiment, setting):
    """Fails where the libraries would be trained with plain LoRA instead."""
    peers.check(read_spec(experiment()))
    with pytest.raises(InputError, match="the comparison knows plain LoRA"):
        peers.check(read_spec(experiment(), [f"lora.{setting}"]))
