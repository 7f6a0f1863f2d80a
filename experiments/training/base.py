"""What a run begins with: the machine, and the pretrained encoder with its tokenizer."""

import os

import torch

from data.files import InputError
from experiments.config.spec import Spec
from model.heads import TaskModel
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
    if spec.runtime.deterministic != torch.are_deterministic_algorithms_enabled():  # to set it costs 2 s of imports
        torch.use_deterministic_algorithms(spec.runtime.deterministic)
    return choose_machine(device, spec.amp)


def load_base(spec: Spec, download: bool = True) -> Base:
    """Encoder and tokenizer of `model.pretrained`. download: fetch them from a hub if they are not on this machine.
    Raises InputError where they do not fit each other or the spec."""
    overrides = {"attention": spec.model.attention, "attention_dropout": spec.model.attention_dropout}
    overrides["recompute"] = spec.runtime.save_memory
    if spec.model.dropout is not None:
        overrides["dropout"] = spec.model.dropout
    encoder, pretrained = load_encoder(spec.model.pretrained, download, **overrides)
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
    return Base(encoder, pretrained, tokenizer)


def unused_tensors(model: TaskModel, pretrained: Pretrained) -> list[str]:
    """Names of the checkpoint's tensors that neither encoder nor head uses."""
    taken = {name for task in model.head for name in model.head_of(task).taken}
    return [name for name in pretrained.unused if name not in taken]
