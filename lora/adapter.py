"""Adapters on disk, in PEFT's own file format: adapter_model.safetensors and adapter_config.json.

A folder written here loads with `peft.PeftModel.from_pretrained`, and one written by PEFT for the same layers loads
here (tests/lora/test_adapter.py does both). `names` maps our module paths to the names of the published model, because
that is what PEFT's keys are made of.
"""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from data.files import InputError, read_json, shown
from data.writing import write_json
from lora.inject import lora_layers
from model.tensors import fill_parameters, read_tensors, write_tensors

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
LABELS = "labels"  # in the metadata of an exported adapter's tensors: those of its head, in order, as JSON


def adapter_tensors(model: nn.Module, names: Callable[[str], str]) -> dict[str, Tensor]:
    """{PEFT key: tensor} of every adapter: base_model.model.<module>.lora_A.weight [R, C_in], lora_B [C_out, R]."""
    tensors = {}
    for name, layer in lora_layers(model):
        for own, parameter in layer.adapter_parameters().items():
            tensors[f"base_model.model.{names(name)}.{layer.PEFT_KEYS[own]}"] = parameter.detach()
    return tensors


def adapter_config(model: nn.Module, names: Callable[[str], str], base: str) -> dict:
    """Settings that PEFT rebuilds the adapters from. Every layer is named in full, so no pattern can match more."""
    layers = {names(name): layer for name, layer in lora_layers(model)}
    if not layers:
        raise ValueError("the model has no LoRA layers")
    first = next(iter(layers.values()))
    alphas = {name: layer.alpha for name, layer in layers.items() if layer.alpha != first.alpha}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": first.rank,
        "lora_alpha": first.alpha,
        **first.peft_settings(),
        "lora_dropout": getattr(first.lora_dropout, "p", 0.0),
        "target_modules": sorted(layers),
        "rank_pattern": {name: layer.rank for name, layer in layers.items() if layer.rank != first.rank},
        "alpha_pattern": alphas,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": "pissa" if first.init == "pissa" else True,  # pissa: A and B go with the residual weights
        "inference_mode": True,
    }


def save_adapter(model: nn.Module, folder: Path, names: Callable[[str], str], base: str) -> None:
    """Write both files. Raises InputError while merged: the folded-in update would be saved, and later added, twice."""
    merged = [name for name, layer in lora_layers(model) if layer.merged]
    if merged:
        raise InputError(f"{folder}: the adapters are merged ({merged[0]}, ...); unmerge before saving")
    write_tensors(folder / WEIGHTS, adapter_tensors(model, names))
    write_json(folder / CONFIG, adapter_config(model, names, base))


def load_adapter(model: nn.Module, folder: Path, names: Callable[[str], str]) -> None:
    """Fill the LoRA layers of a model from a folder. Strict: keys, shapes and scaling must be the model's own.

    Raises InputError that names the first key that is missing, unexpected, or of another rank.
    """
    saved, config = read_tensors(folder / WEIGHTS), read_json(folder / CONFIG)
    first, own = next(layer for _, layer in lora_layers(model)), adapter_config(model, names, "")
    for key in ("lora_alpha", "alpha_pattern", *first.peft_settings()):
        found = config.get(key, False if isinstance(own[key], bool) else None)  # PEFT's flags are off by default
        if found != own[key]:
            raise InputError(f"{folder / CONFIG}: {key} is {shown(found)}, the model has {own[key]!r}")
    init = config.get("init_lora_weights")
    if str(init).startswith("pissa") != (first.init == "pissa"):
        raise InputError(
            f"{folder / CONFIG}: init_lora_weights is {shown(init)}, the model has lora.init {first.init!r}; "
            "adapters that began with pissa belong to weights without their part, others to whole ones"
        )
    fill_parameters(adapter_tensors(model, names), saved, folder / WEIGHTS)
