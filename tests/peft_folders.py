"""Folders of adapters as PEFT writes them, made by hand from random tensors."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.training.start import begin_with_adapter
from lora.adapter import CONFIG, WEIGHTS
from lora.peft import PeftAdapter, read_peft
from model.families import FAMILIES, hugging_face_name
from model.pretrained import Pretrained

# adapter_config.json as PEFT 0.21 writes it, with every setting at its default.
SETTINGS: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "auto_mapping": None,
    "base_model_name_or_path": "somebody/base",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 6,
    "lora_bias": False,
    "lora_dropout": 0.0,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": ["classifier", "score"],
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["value", "query"],
    "target_parameters": None,
    "task_type": "SEQ_CLS",
    "trainable_token_indices": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
}
BEFORE = "base_model.model."


def key_of(path: str, own: str = "", family: str = "bert", prefix: bool = True) -> str:
    """("layers.0.attention.query", "lora_A.weight") -> what PEFT calls it in a model that has a head"""
    name = hugging_face_name(path, family)
    return BEFORE + (f"{FAMILIES[family].prefix}." if prefix else "") + name + (f".{own}" if own else "")


def random(*shape: int, seed: int = 0, size: float = 0.2) -> Tensor:
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def adapters_of(
    encoder: nn.Module, endings: tuple[str, ...], rank: int = 4, family: str = "bert", seed: int = 0
) -> dict[str, Tensor]:
    """A random A and B for every linear layer of an encoder whose path ends so."""
    tensors = {}
    for number, (path, module) in enumerate(encoder.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(endings):
            C_out, C_in = module.weight.shape
            tensors[key_of(path, "lora_A.weight", family)] = random(rank, C_in, seed=seed + 2 * number)
            tensors[key_of(path, "lora_B.weight", family)] = random(C_out, rank, seed=seed + 2 * number + 1)
    return tensors


def write_peft(folder: Path, tensors: dict[str, Tensor], **settings) -> Path:
    """A folder as PEFT's save_pretrained makes it. settings: those that differ from PEFT's defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(SETTINGS | settings, indent=2))
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n")
    return folder


def change_tensors(folder: Path, change) -> None:
    """Apply `change` to the dict of tensors in a folder."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def change_settings(folder: Path, **settings) -> None:
    found = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(found | settings))


# The two calls of the code that these folders are for.


def read(folder: Path, encoder: nn.Module, family: str = "bert") -> PeftAdapter:
    return read_peft(folder, encoder, Pretrained("base", Path("base"), family, (), {}, (), ""))


def begin(encoder, found: PeftAdapter, keep: bool) -> None:
    begin_with_adapter(encoder, found, keep)
