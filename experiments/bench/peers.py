"""The same experiment through transformers and peft, for comparison: their model, adapters, loss and optimizer on our
questions, windows, batches, learning rates and phases.

    python -m experiments.bench.peers --exp exp/squad_lora.json --data-root DIR        (needs the extra `peers`)

Prints what `train.py` would: an evaluation wherever one is due, decoded and scored by our code, and real
tokens per second. Nothing is written but --out. What differs from a run of ours is only what those libraries do
otherwise: attention, dropout, the cast to 16 bit, and a softmax over question and padding.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.files import InputError
from experiments.config.check import read_spec
from experiments.config.spec import LossSpec
from experiments.terminal import refuse, say
from experiments.training.console import metrics_line
from experiments.training.phases import rate_factor, trained_names
from experiments.training.state import Run
from model.machine import to_device
from model.names import hugging_face_name
from train import set_up


class Peer(nn.Module):
    """BertForQuestionAnswering or BertForSequenceClassification, with peft's LoRA, behind the interface of our
    TaskModel: batch -> logits [B, 2, T] or [B, K]."""

    def __init__(self, run: Run, attention: str):
        from peft import LoraConfig, get_peft_model
        from transformers import BertForQuestionAnswering, BertForSequenceClassification

        super().__init__()
        spec, self.spans = run.spec, run.spec.model.task == "span_qa"
        torch.manual_seed(spec.seed)
        settings = {"attn_implementation": attention}
        if self.spans:
            self.net = BertForQuestionAnswering.from_pretrained(run.pretrained.folder, **settings)
        else:
            settings["num_labels"] = run.model.head.output.out_features
            self.net = BertForSequenceClassification.from_pretrained(run.pretrained.folder, **settings)
        if spec.lora is not None:
            config = LoraConfig(
                r=spec.lora.rank,
                lora_alpha=spec.lora.alpha,
                lora_dropout=spec.lora.dropout,
                target_modules=list(spec.lora.targets),
            )
            self.net = get_peft_model(self.net, config)

    @property
    def head(self) -> "Peer":
        """What knows the loss, as in TaskModel."""
        return self

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        mask = None if batch["mask"] is None else batch["mask"].long()
        out = self.net(input_ids=batch["tokens"], token_type_ids=batch["types"], attention_mask=mask)
        return torch.stack([out.start_logits, out.end_logits], 1).float() if self.spans else out.logits.float()

    def loss(self, logits: Tensor, batch: dict[str, Tensor], *_) -> Tensor:
        """Their loss, of spans over all positions, for each example [B]."""
        if not self.spans:
            return nn.functional.cross_entropy(logits, batch["target"], reduction="none")
        start, end = (
            nn.functional.cross_entropy(logits[:, i], batch["span"][:, i], reduction="none") for i in range(2)
        )
        return (start + end) / 2


# Where theirs keep what our head holds.
HEAD_NAMES = {"head.output": ("qa_outputs", "classifier"), "head.pool.dense": ("bert.pooler.dense",)}


def parameters_by_our_names(run: Run, peer: Peer) -> dict[str, nn.Parameter]:
    """{our name: their parameter}, every one of ours. Raises KeyError where theirs lacks one."""
    theirs, found = dict(peer.net.named_parameters()), {}
    prefix = "base_model.model." if run.spec.lora is not None else ""
    for name, _ in run.model.named_parameters():
        path, _, leaf = name.rpartition(".")
        if path in HEAD_NAMES:
            candidates = [f"{prefix}{place}.{leaf}" for place in HEAD_NAMES[path]]
        else:
            module = f"{prefix}bert.{hugging_face_name(path.removeprefix('encoder.'), 'bert')}"
            candidates = [f"{module}.{leaf}", f"{module}.base_layer.{leaf}", f"{module}.{leaf}.default.weight"]
        found[name] = theirs[next((c for c in candidates if c in theirs), candidates[0])]
    return found


def make_optimizer(run: Run, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """As their Trainer makes it, with our groups."""
    settings = [
        {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay}
        for group in run.groups
    ]
    optim = run.spec.optim
    return torch.optim.AdamW(settings, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)


def set_trainable(run: Run, peer: Peer, parameters: dict[str, nn.Parameter], index: int) -> None:
    """Freeze and unfreeze for a phase of our spec."""
    for parameter in peer.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    trained = trained_names(run.model, [run.spec.phases[index]])
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)


def compare(run: Run, attention: str) -> dict:
    """Train the peer through all phases. Returns its evaluations and speed."""
    peer = Peer(run, attention).to(run.device).train()
    parameters = parameters_by_our_names(run, peer)
    optimizer = make_optimizer(run, parameters)
    phase, seconds, tokens, evaluations = None, 0.0, 0, []
    for position in tqdm(range(len(run.order)), disable=None):
        index = next(i for i, end in enumerate(run.phase_ends) if position < end)
        begin, end = run.phase_span(index)
        if index != phase:
            phase = index
            set_trainable(run, peer, parameters, index)
        factor = rate_factor(run.spec.phases[index], position - begin, end - begin)
        for group, each in zip(run.groups, optimizer.param_groups, strict=True):
            each["lr"] = (group.peaks[index] or 0.0) * factor
        started = time.perf_counter()
        step(run, peer, optimizer, run.order[position])
        seconds += time.perf_counter() - started
        tokens += sum(int(run.task.lengths[rows].sum()) for rows in run.order[position])
        if position + 1 in run.evaluate_at:
            evaluations.append(evaluate(run, peer, position + 1))
    speed = {"train_seconds": seconds, "tokens_per_second": tokens / seconds}
    return {"attention": attention, "evaluations": evaluations, **speed}


def step(run: Run, peer: Peer, optimizer: torch.optim.Optimizer, batches: list[np.ndarray]) -> None:
    count = sum(len(rows) for rows in batches)
    for rows in batches:
        batch = to_device(run.task.batch(rows, np.random.default_rng(0)), run.device)
        with run.precision.autocast(run.device):
            logits = peer(batch)
        (peer.loss(logits, batch).sum() / count).backward()
    if run.spec.optim.clip is not None:
        nn.utils.clip_grad_norm_([p for p in peer.parameters() if p.requires_grad], run.spec.optim.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def evaluate(run: Run, peer: Peer, position: int) -> dict:
    result = run.task.evaluate(peer, run.device, run.precision).metrics
    epoch = run.order.epochs_at(position)
    say(f"  epoch {epoch:5.2f}  {metrics_line(result)}")
    return {"epoch": epoch, **result}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-root", type=Path, default=Path("data"), metavar="DIR")
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "eager"), help="transformers' default is sdpa")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args(argv)
    try:
        spec = read_spec(arguments.exp, arguments.set)
        plain = spec.optim.name == "adamw" and not spec.optim.l1 and not spec.tasks and spec.loss == LossSpec()
        pooled = spec.model.task == "classification" and spec.model.pooling == "cls_pooler"
        if not plain or not (pooled or spec.model.task == "span_qa") or spec.data.mask_tokens:
            raise InputError(
                f"{arguments.exp}: the comparison knows span_qa, or classification with pooling cls_pooler, with adamw "
                "and none of the settings for losses and masking"
            )
        if not (find_spec("transformers") and find_spec("peft")):
            raise InputError("transformers and peft are not installed; pip install -r requirements-peers.txt")
        result = compare(set_up(spec, Path("runs") / spec.name, arguments.data_root), arguments.attention)
    except (InputError, OSError) as error:
        return refuse("peer.py", error)
    say(f"{result['tokens_per_second']:,.0f} real tokens/s, {result['train_seconds']:.0f} s of training")
    if arguments.out:
        arguments.out.write_text(json.dumps({"name": spec.name, "seed": spec.seed, **result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
