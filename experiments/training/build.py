"""From a spec to a model, and what was trained to and from a checkpoint folder."""

from collections.abc import Callable, Collection
from pathlib import Path

from torch import Tensor, nn

from data.files import InputError
from experiments.config.spec import Spec
from lora.adapter import load_adapter, save_adapter
from lora.inject import PatternError, adapter_parameters, inject, lora_layers
from model.bert import Dropout
from model.heads import TaskModel
from model.pretrained import Base, Pretrained, load_encoder, load_tokenizer
from model.tensors import fill_parameters, read_tensors, write_tensors

HEAD, ENCODER = "head.safetensors", "encoder.safetensors"


def load_base(spec: Spec) -> Base:
    """Encoder and tokenizer of `model.pretrained`. Raises InputError where they do not fit each other or the spec."""
    overrides = {"attention": spec.model.attention, "attention_dropout": spec.model.attention_dropout}
    if spec.model.dropout is not None:
        overrides["dropout"] = spec.model.dropout
    encoder, pretrained = load_encoder(spec.model.pretrained, **overrides)
    longest = max(task.data.max_length for task in spec.task_specs().values())
    if longest > encoder.config.max_positions:
        raise InputError(
            f"data.max_length: {longest}, but {spec.model.pretrained} has only {encoder.config.max_positions} positions"
        )
    tokenizer = load_tokenizer(pretrained.folder)
    largest = max(tokenizer.get_vocab().values())
    if largest >= encoder.config.vocab_size:
        raise InputError(
            f"{pretrained.folder}: the tokenizer's token ids go up to {largest}, the encoder knows "
            f"{encoder.config.vocab_size} tokens; they do not belong together"
        )
    return Base(encoder, pretrained, tokenizer)


def build_model(spec: Spec, base: Base, make_head: Callable[[Base], nn.Module]) -> TaskModel:
    """The encoder of `base`, with LoRA where the spec asks for it, under the head that make_head(base) makes.
    Random parts draw from torch's generator: seed it first. Every parameter of the result is frozen until
    `set_trainable`."""
    encoder = base.encoder
    if spec.lora is not None:
        try:
            inject(
                encoder,
                spec.lora.targets,
                spec.lora.rank,
                spec.lora.alpha,
                dropout=lambda: Dropout(spec.lora.dropout),
                ranks=spec.lora.ranks,
                rslora=spec.lora.rslora,
            )
        except PatternError as error:
            raise InputError(str(error)) from None
    return TaskModel(encoder, make_head(base)).requires_grad_(False)


def unused_tensors(model: TaskModel, pretrained: Pretrained) -> list[str]:
    """Names of the checkpoint's tensors that neither encoder nor head uses."""
    pooled = any(name.endswith("pool.dense.weight") for name, _ in model.head.named_parameters())
    return [name for name in pretrained.unused if not (pooled and name.startswith("pooler."))]


def _encoder_parameters(model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> dict[str, Tensor]:
    """{Hugging Face name: parameter} of the encoder's own trained weights; adapters are saved elsewhere."""
    adapters, chosen = adapter_parameters(model.encoder), {}
    for name, parameter in model.encoder.named_parameters():
        if f"encoder.{name}" in trained and name not in adapters:
            module_path, _, leaf = name.rpartition(".")
            chosen[f"{pretrained.hugging_face_name(module_path)}.{leaf}"] = parameter
    return chosen


def save_trained(folder: Path, model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> None:
    """Write what differs from the pretrained checkpoint: head, adapters (PEFT's format), and the encoder parameters
    among the names in `trained`."""
    write_tensors(folder / HEAD, dict(model.head.named_parameters()))
    if any(lora_layers(model.encoder)):
        save_adapter(model.encoder, folder, pretrained.hugging_face_name, pretrained.name)
    encoder = _encoder_parameters(model, pretrained, trained)
    if encoder:
        write_tensors(folder / ENCODER, encoder)


def load_trained(folder: Path, model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> None:
    """The inverse of `save_trained`. Raises InputError naming what is missing, unexpected or misshapen."""
    fill_parameters(dict(model.head.named_parameters()), read_tensors(folder / HEAD), folder / HEAD)
    if any(lora_layers(model.encoder)):
        load_adapter(model.encoder, folder, pretrained.hugging_face_name)
    encoder = _encoder_parameters(model, pretrained, trained)
    if encoder:
        fill_parameters(encoder, read_tensors(folder / ENCODER), folder / ENCODER)
