"""Adapters that PEFT wrote, for any model and with any of its settings that we compute: read, or refused by name.

The keys of adapter_model.safetensors say which layers are adapted and with which rank, so that none of PEFT's ways to
choose them (lists, patterns, "all-linear") need be followed. adapter_config.json says the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from data.files import InputError, parse_json, printable, read_json, sha256_of, shown
from lora.adapter import CONFIG, LABELS, WEIGHTS
from lora.several import Adapter, LayerAdapter
from model.families import FAMILIES, HEAD_NAMES, hugging_face_name, published_parameter
from model.pretrained import Pretrained
from model.tensors import read_tensors, require_finite

# Settings that need no answer here: what they say is in the tensors, or does not change what is computed.
NEUTRAL = frozenset(
    (
        *("peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision"),
        *("inference_mode", "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
        *("r", "rank_pattern", "lora_alpha", "alpha_pattern", "lora_dropout", "use_rslora", "use_dora"),
        *("fan_in_fan_out", "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config"),
    )
)
# Initialisations that leave the base weights as they are. (Others, such as PiSSA's, move a part of them into A and B.)
PLAIN_INIT = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
TENSOR = re.compile(r"(?P<path>.+)\.(?P<own>lora_A|lora_B|lora_magnitude_vector)(\.default)?(\.weight)?")
MOST_PATTERNS = 1000  # each is tried on each layer
LORA_NAMES = {"lora_A": "lora_A", "lora_B": "lora_B", "lora_magnitude_vector": "lora_magnitude"}


@dataclass(frozen=True)
class PeftAdapter:
    """What a folder of PEFT's holds."""

    folder: Path
    adapter: Adapter  # of the encoder's layers
    dropout: float
    weights: dict[str, Tensor]  # the encoder's own parameters that it keeps whole (biases, say), by our names
    head: dict[str, Tensor]  # the tensors of its head, by published names without the family's prefix
    labels: tuple[str, ...] | None  # of that head, in order; None where nothing is known of them
    sha256: str  # over both files


def read_settings(path: Path) -> dict[str, Any]:
    """adapter_config.json. Raises InputError for a method or a setting that is not computed here."""
    config = read_json(path)
    if config.get("peft_type") != "LORA":
        raise InputError(f"{path}: peft_type is {shown(config.get('peft_type'))}; only LORA is supported")
    if config.get("init_lora_weights") not in PLAIN_INIT:
        told = shown(config["init_lora_weights"])
        raise InputError(
            f"{path}: init_lora_weights is {told}: these adapters belong to base weights that it changed; save them "
            "with path_initial_model_for_weight_conversion"
        )
    for key, value in config.items():
        if key not in NEUTRAL and value not in (None, False, "", [], {}):
            raise InputError(f"{path}: {printable(key)} is {shown(value)}; it is not supported")
    for key, default, largest in (("lora_alpha", 8, 1e6), ("lora_dropout", 0.0, 0.99)):
        value = config.setdefault(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
            raise InputError(f"{path}: {key} is {shown(value)}, expected a number from 0 to {largest:g}")
    for key in ("use_rslora", "use_dora"):
        if not isinstance(config.get(key), bool | None):
            raise InputError(f"{path}: {key} is {shown(config[key])}, expected true or false")
    return config


def alpha_of(path: str, config: Mapping[str, Any], where: Path) -> float:
    """The alpha of a layer, by its published name: that of the first pattern that fits its end, else `lora_alpha`."""
    patterns = config.get("alpha_pattern") or {}
    if not isinstance(patterns, dict) or len(patterns) > MOST_PATTERNS:
        raise InputError(f"{where}: alpha_pattern is {shown(patterns)}, expected an object of up to {MOST_PATTERNS}")
    for pattern, alpha in patterns.items():
        # A pattern is a regular expression from a stranger: groups, or many repetitions, could take hours.
        if re.search(r"[(\[{]", pattern) or len(re.findall(r"[*+?]", pattern)) > 3 or len(pattern) > 200:
            raise InputError(f"{where}: alpha_pattern {shown(pattern)} is not supported; write layers out")
        try:
            fits = re.match(rf"(.*\.)?({pattern})$", path)
        except re.error:
            raise InputError(f"{where}: alpha_pattern {shown(pattern)} is no pattern") from None
        if fits:
            if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha <= 1e6:
                raise InputError(f"{where}: alpha_pattern: {shown(alpha)} is no number")
            return float(alpha)
    return float(config["lora_alpha"])


def read_peft(folder: Path, encoder: nn.Module, pretrained: Pretrained) -> PeftAdapter:
    """Read an adapter for an encoder. pretrained: what that was loaded from. Raises InputError for what is missing,
    misshapen, not finite, of a layer that is not there, or not supported."""
    family, file = pretrained.family, folder / WEIGHTS
    if not file.exists() and (folder / "adapter_model.bin").exists():
        raise InputError(f"{folder}: pickled adapters are not read; PEFT's save_pretrained writes safetensors")
    config = read_settings(folder / CONFIG)
    linears = {hugging_face_name(p, family): p for p, each in encoder.named_modules() if isinstance(each, nn.Linear)}
    parameters, (adapted, weights, head) = dict(encoder.named_parameters()), sort_tensors(file, encoder, family)
    layers: dict[str, LayerAdapter] = {}
    for full, tensors in adapted.items():
        path = full.removeprefix(f"{FAMILIES[family].prefix}.")
        of_head = {f"{path}.weight", f"{path}.bias"} <= pretrained.head.keys()
        weight = pretrained.head[f"{path}.weight"] if of_head else parameters.get(f"{linears.get(path)}.weight")
        if weight is None or weight.ndim != 2:
            raise InputError(f"{file}: adapts {printable(path)}, which is no linear layer of this {family} checkpoint")
        alpha = alpha_of(full, config, folder / CONFIG)
        own = layer_adapter(tensors, alpha, config, weight, f"{file}: {printable(path)}")
        if path in linears:
            layers[linears[path]] = own
        else:
            head |= adapted_head(path, own, pretrained)
    if not layers:
        raise InputError(f"{file}: holds no adapters for this {family} encoder")
    if config.get("task_type") == "TOKEN_CLS":  # a classifier of tokens has the names of one of texts
        head = {f"tokens.{name}": tensor for name, tensor in head.items()}
    digest = sha256_of(file) + sha256_of(folder / CONFIG)
    labels = head_labels(file, head, pretrained)
    return PeftAdapter(folder, Adapter(layers), float(config["lora_dropout"]), weights, head, labels, digest)


def sort_tensors(
    file: Path, encoder: nn.Module, family: str
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of an adapter's file: {full published path of a layer: its tensors}, the encoder's own parameters by
    our names, and those of a head by published names."""
    parameters, prefix = dict(encoder.named_parameters()), f"{FAMILIES[family].prefix}."
    ours = {published_parameter(name, family): name for name in parameters}
    adapted: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    there: set[tuple[str, str]] = set()
    for key, tensor in read_tensors(file).items():
        require_finite(tensor, printable(key), file)
        full = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
        part = TENSOR.fullmatch(full)
        path, _, leaf = (part["path"], "", part["own"]) if part else full.rpartition(".")
        name = full.removeprefix(prefix)
        if ".original_module." in name:  # PEFT's copy of what a module saved whole began as
            continue
        if (path.removeprefix(prefix), leaf) in there:
            raise InputError(f"{file}: {printable(key)} is there twice, by two names")
        there.add((path.removeprefix(prefix), leaf))
        if part:
            adapted.setdefault(path, {})[LORA_NAMES[leaf]] = tensor.float()
        elif "lora_" in name:
            raise InputError(f"{file}: {printable(key)} is nothing that LoRA adds to a linear layer")
        elif own := ours.get(name):
            if tensor.shape != (shape := parameters[own].shape):
                raise InputError(f"{file}: {own} is {tuple(tensor.shape)}, the encoder has {tuple(shape)}")
            weights[own] = tensor.float()
        elif full.startswith(prefix) and not name.startswith(HEAD_NAMES):
            raise InputError(f"{file}: {printable(key)} is no tensor of this {family} encoder")
        else:
            head[name] = tensor.float()
    return adapted, weights, head


def head_labels(file: Path, head: Mapping[str, Tensor], pretrained: Pretrained) -> tuple[str, ...] | None:
    """The labels of an adapter's head: what its file says, if it is one that we wrote, else those of the checkpoint,
    which PEFT leaves as they are where there are as many. None where neither names them."""
    with safe_open(file, "pt") as opened:
        told = (opened.metadata() or {}).get(LABELS)
    if told is not None:
        try:
            return tuple(map(str, parse_json(told)))
        except (ValueError, TypeError):
            raise InputError(f"{file}: its labels, {shown(told)}, are no list") from None
    weight, labels = head.get(f"{FAMILIES[pretrained.family].text_head[2]}.weight"), pretrained.labels
    if weight is None:
        return labels  # of the checkpoint's own last layer, if any
    nameless = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if nameless or weight.shape[:1] != (len(labels),) else labels


def adapted_head(path: str, own: LayerAdapter, pretrained: Pretrained) -> dict[str, Tensor]:
    """A linear layer of the checkpoint's head (such as BERT's pooler) with its adapter merged."""
    weight, bias = (pretrained.head[f"{path}.{leaf}"] for leaf in ("weight", "bias"))
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.load_state_dict({"weight": weight, "bias": bias})
    return {f"{path}.{name}": tensor.detach() for name, tensor in own.around(linear).to_linear().named_parameters()}


def layer_adapter(
    tensors: dict[str, Tensor], alpha: float, config: Mapping[str, Any], weight: Tensor, where: str
) -> LayerAdapter:
    """One layer's adapter, or InputError where its tensors are not those of that layer."""
    needed = {"lora_A", "lora_B"} | ({"lora_magnitude"} if config.get("use_dora") else set())
    if tensors.keys() != needed:
        raise InputError(f"{where} has {', '.join(sorted(tensors))}; needed: {', '.join(sorted(needed))}")
    A, B, magnitude = tensors["lora_A"], tensors["lora_B"], tensors.get("lora_magnitude")
    (C_out, C_in), R = weight.shape, len(A) if A.ndim else 0
    if (
        A.shape != (R, C_in)
        or B.shape != (C_out, R)
        or R == 0
        or (magnitude is not None and magnitude.shape != (C_out,))
    ):
        raise InputError(f"{where}: A {tuple(A.shape)} and B {tuple(B.shape)} do not fit a layer of {C_out}x{C_in}")
    return LayerAdapter(A, B, alpha, bool(config.get("use_rslora")), magnitude)


@torch.no_grad()
def apply_weights(encoder: nn.Module, adapter: PeftAdapter) -> None:
    """Copy the parameters that an adapter keeps whole into the encoder."""
    parameters = dict(encoder.named_parameters())
    for name, value in adapter.weights.items():
        parameters[name].copy_(value)
