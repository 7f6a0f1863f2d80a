"""Whole training steps beside transformers and peft (extra `peers`): same parameters, same batches, same losses."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import train
from experiments.config.check import read_spec
from model.heads import EXCLUDED
from tests.tiny import ROOT, set_up

pytest.importorskip("transformers")
pytest.importorskip("peft")

from experiments.bench.peers import Peer, parameters_by_our_names
from experiments.training.phases import set_trainable
from train import backward, set_rates

DATA = Path(os.environ.get("DATA_ROOT", ROOT / "data"))  # where Banking77 is looked for


@pytest.mark.parametrize("phase", [0, 1], ids=["head and adapters", "and a layer"])
def test_training_follows_transformers_and_peft_step_by_step(experiment, tmp_path, phase):
    """In fp32 without dropout, with our loss on both sides (theirs also spreads over question and padding): the losses
    of 20 AdamW steps agree within 1e-4."""
    settings = ["amp=off", "model.dropout=0", "optim.clip=null", "phases.0.warmup_ratio=0"]
    run = set_up(experiment(), tmp_path, *settings)
    follow(run, phase, steps=20)


def follow(run, phase: int, steps: int) -> None:
    """Both take the same steps from the same parameters; their losses are compared at each."""
    run.progress.phase = run.progress.furthest = phase
    peer = Peer(run, "eager").train()
    for module in peer.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    theirs = parameters_by_our_names(run, peer)
    set_trainable(run.model, run.spec.phases[phase])
    with torch.no_grad():
        for name, parameter in run.model.named_parameters():
            theirs[name].copy_(parameter)
            theirs[name].requires_grad_(parameter.requires_grad)
    groups = [
        {"params": [theirs[name] for name in group.names], "weight_decay": group.weight_decay} for group in run.groups
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    for position in range(steps):
        run.progress.step = position
        set_rates(run)
        for ours, their in zip(run.optimizer.param_groups, optimizer.param_groups, strict=True):
            their["lr"] = ours["lr"]
        rows = run.order[position % len(run.order)]
        our_loss, _ = backward(run, rows)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        batch = run.task.batch(rows[0], np.random.default_rng(0))
        logits = peer(batch)
        if peer.spans:
            logits = logits.masked_fill(~batch["candidates"][:, None, :], EXCLUDED)
            loss = run.model.head.loss(logits, batch).mean()
        else:
            loss = peer.loss(logits, batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert our_loss == pytest.approx(loss.item(), abs=1e-4), position


@pytest.mark.parametrize("source", ["generated reviews", "Banking77"])
def test_full_fine_tuning_of_the_real_checkpoint_follows_a_plain_transformers_loop(tmp_path, source):
    """In fp32 without dropout, everything trains: the same losses within 1e-4, for 50 steps of Banking77."""
    data = {"source": "synthetic_sentiment", "train_limit": 3000, "dev_limit": 10, "batch_size": 16}
    if source == "Banking77":
        data = {"train": ["banking77/train.csv"], "dev_fraction": 0.1, "label": "category", "batch_size": 16}
        if not (DATA / "banking77" / "train.csv").is_file():
            pytest.skip(f"no banking77/train.csv in {DATA}; DATA_ROOT names the folder")
    spec = {
        "model": {"task": "classification", "pooling": "cls_pooler", "dropout": 0},
        "data": data,
        "phases": [{"name": "full", "epochs": 1, "train": ["all"]}],
        "optim": {"lr": 1e-4, "clip": None},
        "amp": "off",
        "runtime": {"device": "cpu"},
    }
    (tmp_path / "full.json").write_text(json.dumps(spec))
    run = train.set_up(read_spec(tmp_path / "full.json"), tmp_path / "runs" / "full", DATA)
    follow(run, phase=0, steps=50 if source == "Banking77" else 10)
