"""Whole training steps beside transformers and peft (extra `peers`): same parameters, same batches, same losses."""

import pytest
import torch

from model.heads import EXCLUDED
from tests.tiny import set_up

pytest.importorskip("transformers")
pytest.importorskip("peft")

from experiments.peer import Peer, parameters_by_our_names
from experiments.schedule import set_trainable
from train import backward, set_rates


@pytest.mark.parametrize("phase", [0, 1], ids=["head and adapters", "and a layer"])
def test_training_follows_transformers_and_peft_step_by_step(experiment, tmp_path, phase):
    """In fp32 without dropout, with our loss on both sides (theirs also spreads over question and padding): the losses
    of 20 AdamW steps agree within 1e-4."""
    settings = ["amp=off", "model.dropout=0", "optim.clip=null", "phases.0.warmup_ratio=0"]
    run = set_up(experiment(), tmp_path, *settings)
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
    for position in range(20):
        run.progress.step = position
        set_rates(run)
        for ours, their in zip(run.optimizer.param_groups, optimizer.param_groups, strict=True):
            their["lr"] = ours["lr"]
        rows = run.order[position % len(run.order)]
        our_loss, _ = backward(run, rows)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        batch = run.task.batch(rows[0], run.device)
        logits = peer(batch).masked_fill(~batch["candidates"][:, None, :], EXCLUDED)
        loss = run.model.head.loss(logits, batch).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        assert our_loss == pytest.approx(loss.item(), abs=1e-4), position
