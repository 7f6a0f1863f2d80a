"""Adapters on disk, in PEFT's own file format: adapter_model.safetensors and adapter_config.json.

A folder written here loads with `peft.PeftModel.from_pretrained`, and one written by PEFT for the same layers loads
here (tests/test_adapter.py does both). `names` maps our module paths to the names of the published model, because
that is what PEFT's keys are made of.
"""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inputs import InputError, read_json
from lora.inject import lora_layers

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def adapter_tensors(model: nn.Module, names: Callable[[str], str]) -> dict[str, Tensor]:
    """{PEFT key: tensor} of every adapter: base_model.model.<module>.lora_A.weight [R, C_in], lora_B [C_out, R]."""
    tensors = {}
    for name, layer in lora_layers(model):
        prefix = f"base_model.model.{names(name)}"
        tensors[f"{prefix}.lora_A.weight"] = layer.lora_A.detach()
        tensors[f"{prefix}.lora_B.weight"] = layer.lora_B.detach()
    return tensors


def adapter_config(model: nn.Module, names: Callable[[str], str], base: str) -> dict:
    """The settings PEFT needs to rebuild the adapters. Every layer is named in full, so no pattern can match more."""
    layers = {names(name): layer for name, layer in lora_layers(model)}
    if not layers:
        raise ValueError("the model has no LoRA layers")
    first = next(iter(layers.values()))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": first.rank,
        "lora_alpha": first.alpha,
        "use_rslora": first.rslora,
        "lora_dropout": getattr(first.lora_dropout, "p", 0.0),
        "target_modules": sorted(layers),
        "rank_pattern": {name: layer.rank for name, layer in layers.items() if layer.rank != first.rank},
        "alpha_pattern": {},
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def save_adapter(model: nn.Module, folder: Path, names: Callable[[str], str], base: str) -> None:
    """Write both files. Raises InputError while merged: the folded-in update would be saved, and later added, twice."""
    merged = [name for name, layer in lora_layers(model) if layer.merged]
    if merged:
        raise InputError(f"{folder}: the adapters are merged ({merged[0]}, ...); unmerge before saving")
    save_file(
        {key: tensor.cpu().contiguous() for key, tensor in adapter_tensors(model, names).items()},
        folder / WEIGHTS,
        metadata={"format": "pt"},
    )
    (folder / CONFIG).write_text(json.dumps(adapter_config(model, names, base), indent=2) + "\n", encoding="utf-8")


def load_adapter(model: nn.Module, folder: Path, names: Callable[[str], str]) -> None:
    """Fill the LoRA layers of a model from a folder. Strict: keys, shapes and scaling must be the model's own.

    Raises InputError that names the first key that is missing, unexpected, or of another rank.
    """
    try:
        saved = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder / WEIGHTS}: cannot be read as safetensors: {error}") from None
    config = read_json(folder / CONFIG)
    expected = adapter_tensors(model, names)
    for what, keys in (("missing", expected.keys() - saved.keys()), ("unexpected", saved.keys() - expected.keys())):
        if keys:
            raise InputError(f"{folder / WEIGHTS}: {len(keys)} {what} key(s), the first is {min(keys)}")
    for key, tensor in expected.items():
        if saved[key].shape != tensor.shape:
            raise InputError(
                f"{folder / WEIGHTS}: {key} is {tuple(saved[key].shape)}, the model has {tuple(tensor.shape)}"
            )
    first = next((layer for _, layer in lora_layers(model)), None)
    for key, ours in (("lora_alpha", first and first.alpha), ("use_rslora", first and first.rslora)):
        if config.get(key) != ours:
            raise InputError(f"{folder / CONFIG}: {key} must be {ours}, as in the model")
    for key, tensor in expected.items():
        tensor.copy_(saved[key])
