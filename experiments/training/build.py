"""Builds what a spec asks for: machine, encoder with its tokenizer, model, optimizer."""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from data.files import InputError
from data.labels import Outputs
from experiments.config.optimizers import OPTIMIZERS
from experiments.config.spec import OptimSpec, Spec
from experiments.tasks.several import make_heads
from experiments.training.phases import Group
from lora.inject import PatternError, inject, put
from lora.peft import PeftAdapter, apply_weights, read_peft
from model.bert import BertEncoder
from model.dropout import Dropout
from model.heads import TaskModel
from model.hub import locate
from model.machine import Machine, choose_machine, keep_freed_memory
from model.pretrained import Base, Pretrained, load_encoder
from model.tokenizer import load_tokenizer


def prepare_machine(spec: Spec, device: str) -> Machine:
    """The machine of a run, with PyTorch set up for it: threads, determinism, memory."""
    keep_freed_memory(not spec.runtime.save_memory)
    if spec.runtime.threads:
        torch.set_num_threads(spec.runtime.threads)
    if spec.runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(spec.runtime.deterministic)
    return choose_machine(device, spec.amp)


def load_base(spec: Spec, download: bool = True) -> Base:
    """Encoder and tokenizer of `model.pretrained`, with `model.adapter` in it. download: fetch them from a hub if they
    are not on this machine. Raises InputError where they do not fit each other or the spec."""
    overrides = {"attention": spec.model.attention, "attention_dropout": spec.model.attention_dropout}
    overrides["recompute"] = spec.runtime.save_memory
    if spec.model.dropout is not None:
        overrides["dropout"] = spec.model.dropout
    encoder, pretrained = load_encoder(spec.model.pretrained, download, **overrides)
    head: dict[str, Tensor] = {}
    if spec.model.adapter is not None:
        found = read_peft(locate(spec.model.adapter, download, "model.adapter"), encoder, pretrained.family)
        begin_with(encoder, found, keep=keeps_adapters(spec))
        digest = hashlib.sha256(f"{pretrained.sha256}{found.sha256}".encode()).hexdigest()
        pretrained, head = dataclasses.replace(pretrained, sha256=digest), found.head
    longest = max(task.data.max_length for task in spec.tasks.values())
    if longest > encoder.config.max_positions:
        raise InputError(
            f"data.max_length: {longest}, but {spec.model.pretrained} has only {encoder.config.max_positions} positions"
        )
    tokenizer = load_tokenizer(pretrained.folder, pretrained.family)
    largest = max(tokenizer.get_vocab().values())
    if largest >= encoder.config.vocab_size:
        raise InputError(
            f"{pretrained.folder}: the tokenizer's token ids go up to {largest}, the encoder knows "
            f"{encoder.config.vocab_size} tokens; they do not belong together"
        )
    return Base(encoder, pretrained, tokenizer, head)


def keeps_adapters(spec: Spec) -> bool:
    """Whether the layers of model.adapter stay LoRA layers: if phases train them, and no new ones take their place."""
    return spec.lora is None and any("lora" in phase.train for phase in spec.phases)


def begin_with(encoder: BertEncoder, found: PeftAdapter, keep: bool) -> None:
    """Put an adapter into an encoder, as LoRA layers, or (keep False) merged into its weights."""
    apply_weights(encoder, found)
    for path, own in found.adapter.layers.items():
        linear = encoder.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        layer = own.around(linear)
        layer.lora_dropout = Dropout(found.dropout)
        put(encoder, path, layer if keep else layer.to_linear())


def build_model(spec: Spec, base: Base, outputs: Mapping[str, Outputs], fresh: bool = True) -> TaskModel:
    """The encoder of `base`, with LoRA where the spec asks for it, under a new head for each task. outputs: what each
    head's outputs mean. fresh: False where saved tensors will be filled in; it spares the work of `lora.init`. Random
    parts draw from torch's generator: seed it first. Every parameter is frozen until `set_trainable`."""
    if spec.lora is not None:
        lora, p = spec.lora, spec.lora.dropout
        variant: dict[str, Any] = {"rslora": lora.rslora, "dora": lora.dora, "init": lora.init, "fresh": fresh}
        try:
            inject(base.encoder, lora.targets, lora.rank, lora.alpha, lambda: Dropout(p), lora.ranks, **variant)
        except PatternError as error:
            raise InputError(str(error)) from None
    return TaskModel(base.encoder, make_heads(spec, outputs, base)).requires_grad_(False)


def unused_tensors(model: TaskModel, pretrained: Pretrained) -> list[str]:
    """Names of the checkpoint's tensors that neither encoder nor head uses."""
    taken = {name for task in model.head for name in model.head_of(task).taken}
    return [name for name in pretrained.unused if name not in taken]


def make_optimizer(optim: OptimSpec, groups: list[Group], model: nn.Module) -> torch.optim.Optimizer:
    """One optimizer for the whole run, with every group that any phase trains. Rates are set before each step."""
    parameters = dict(model.named_parameters())
    settings = [
        {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay} for group in groups
    ]
    kind = OPTIMIZERS[optim.name]
    return getattr(torch.optim, kind.torch_name)(settings, lr=optim.lr, **kind.arguments(optim))
