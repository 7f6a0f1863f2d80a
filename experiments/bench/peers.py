"""An experiment through transformers and peft, for comparison: their model, adapters, loss and optimizer on our data,
batches, learning rates and phases.

    python -m experiments.bench.peers --exp exp/squad_lora.json --data-root DIR        (needs the extra `peers`)

It trains by `train.train` and writes a run folder like any other, so `eval.py summary` puts it beside ours. Different
are attention, dropout, the cast to 16 bit, the optimizer's kernels, and a softmax over question and padding.
"""

import argparse
import sys
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import train
from data.files import InputError
from experiments.config.check import read_spec
from experiments.config.spec import ClassificationTask, LabelLoss, LoraSpec, LossSpec, SpanQATask, Spec
from experiments.terminal import refuse
from experiments.training import console
from experiments.training.folder import check_folder, claim, open_folder
from experiments.training.state import Run
from model.families import hugging_face_name
from model.heads import SpanHead, TaskModel

# Module of our head -> names of its counterpart in theirs.
HEAD_NAMES = {"output": ("qa_outputs", "classifier"), "pool.dense": ("bert.pooler.dense",)}


def build_net(run: Run, attention: str) -> nn.Module:
    """BertForQuestionAnswering or BertForSequenceClassification, with peft's LoRA where the spec has it."""
    from peft import LoraConfig, get_peft_model
    from transformers import BertForQuestionAnswering, BertForSequenceClassification

    spec, (name, task) = run.spec, next(iter(run.spec.tasks.items()))
    torch.manual_seed(spec.seed)
    settings: dict[str, Any] = {"attn_implementation": attention}
    kind: Any = BertForQuestionAnswering
    if not isinstance(task, SpanQATask):
        kind = BertForSequenceClassification
        settings["num_labels"] = len(run.tasks.outputs[name].labels)
    net = kind.from_pretrained(run.pretrained.folder, **settings)
    if spec.lora is None:
        return net
    lora: dict[str, Any] = {
        "r": spec.lora.rank,
        "lora_alpha": spec.lora.alpha,
        "lora_dropout": spec.lora.dropout,
        "target_modules": list(spec.lora.targets),
    }
    config = LoraConfig(**lora)
    return get_peft_model(net, config)


def parameters_by_our_names(ours: TaskModel, net: nn.Module, adapted: bool) -> dict[str, nn.Parameter]:
    """{our name: their parameter}, every one of ours. Raises KeyError where theirs lacks one."""
    theirs, found = dict(net.named_parameters()), {}
    prefix = "base_model.model." if adapted else ""
    for name, _ in ours.named_parameters():
        path, _, leaf = name.rpartition(".")
        if path.startswith("head."):
            candidates = [f"{prefix}{place}.{leaf}" for place in HEAD_NAMES[path.split(".", 2)[2]]]
        else:
            module = f"{prefix}bert.{hugging_face_name(path.removeprefix('encoder.'), 'bert')}"
            candidates = [f"{module}.{leaf}", f"{module}.base_layer.{leaf}", f"{module}.{leaf}.default.weight"]
        found[name] = theirs[next((c for c in candidates if c in theirs), candidates[0])]
    return found


class Peer(TaskModel):
    """Their network behind the interface and names of our model. Our modules hold its parameters; it alone computes."""

    def __init__(self, ours: TaskModel, net: nn.Module, adapted: bool):
        super().__init__(ours.encoder, {name: ours.head_of(name) for name in ours.head})
        for name, parameter in parameters_by_our_names(ours, net, adapted).items():
            path, _, leaf = name.rpartition(".")
            setattr(self.get_submodule(path), leaf, parameter)
        self._net = [net]  # in a list, so that its parameters are not there twice
        for head in self.head.values():
            if isinstance(head, SpanHead):
                head.loss = span_loss  # type: ignore[method-assign, assignment]

    @property
    def net(self) -> nn.Module:
        return self._net[0]

    def train(self, mode: bool = True) -> "Peer":
        if hasattr(self, "_net"):
            self.net.train(mode)
        return super().train(mode)

    def forward(self, batch: dict) -> Tensor:
        """batch -> logits, float32 [B, 2, T] or [B, K]"""
        mask = None if batch["mask"] is None else batch["mask"].long()
        out = self.net(input_ids=batch["tokens"], token_type_ids=batch["types"], attention_mask=mask)
        logits = torch.stack([out.start_logits, out.end_logits], 1) if "start_logits" in out else out.logits
        return logits.float()


def span_loss(logits: Tensor, batch: dict[str, Tensor], *_) -> Tensor:
    """Their loss of spans, over all positions, for each example [B]."""
    start, end = (nn.functional.cross_entropy(logits[:, i], batch["span"][:, i], reduction="none") for i in range(2))
    return (start + end) / 2


def through_peers(run: Run, attention: str) -> Run:
    """Replace model and optimizer of a run, as `train.set_up` has made it, by theirs."""
    run.model = Peer(run.model, build_net(run, attention), run.spec.lora is not None).to(run.machine.device).train()
    run.model.requires_grad_(False)
    run.model.net.requires_grad_(False)
    parameters, optim = dict(run.model.named_parameters()), run.spec.optim
    groups = [
        {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay}
        for group in run.groups
    ]
    run.optimizer = torch.optim.AdamW(groups, lr=optim.lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)
    run.program = f"transformers {version('transformers')}, peft {version('peft')}, {attention} attention"
    return run


def check(spec: Spec) -> None:
    """Raise InputError for what the comparison does not know, or where the libraries are missing."""
    task, *others = spec.tasks.values()
    plain = spec.optim.name == "adamw" and not spec.optim.l1 and not others and not task.data.mask_tokens
    span = isinstance(task, SpanQATask) and task.loss == LossSpec()
    text = isinstance(task, ClassificationTask) and task.pooling == "cls_pooler" and task.loss == LabelLoss()
    lora = spec.lora or LoraSpec()
    known = {name: getattr(lora, name) for name in ("rank", "alpha", "dropout", "targets")}
    if lora != LoraSpec(**known) or "all-linear" in lora.targets:
        raise InputError(
            f"{spec.name}: the comparison knows plain LoRA: lora.{', '.join(known)} by name, not all-linear"
        )
    if not plain or not (span or text):
        raise InputError(
            f"{spec.name}: the comparison knows span_qa, or classification with pooling cls_pooler, with adamw and "
            "none of the settings for losses and masking"
        )
    if not (find_spec("transformers") and find_spec("peft")):
        raise InputError("transformers and peft are not installed; pip install -r requirements-peers.txt")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="peers", description="Train an experiment through transformers and peft.")
    parser.add_argument("--exp", type=Path, required=True, metavar="FILE")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-root", type=Path, default=train.HERE / "data", metavar="DIR")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--attention", default="sdpa", choices=("sdpa", "eager"), help="transformers' default is sdpa")
    parser.add_argument("--overwrite", action="store_true", help="replace a run of the same name")
    arguments = parser.parse_args(argv)
    try:
        spec = read_spec(arguments.exp, arguments.set)
        check(spec)
        spec = replace(spec, name=f"{spec.name}_peers")
        folder = arguments.runs / spec.name
        check_folder(folder, False, arguments.overwrite)
        run = through_peers(train.set_up(spec, folder, arguments.data_root), arguments.attention)
        with claim(folder):
            console.banner(run, open_folder(run, False, arguments.overwrite))
            return train.finish(run, train.train(run), "python -m experiments.bench.peers ... --overwrite")
    except (InputError, OSError) as error:
        return refuse("peers", error)


if __name__ == "__main__":
    sys.exit(main())
