"""What trains, and how fast: pure functions of the spec and of where the run is. Nothing is switched on or off by an
event that a resumed run could have missed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from data.files import InputError
from experiments.config.spec import LAYER_RANGE, OptimSpec, PhaseSpec
from lora.inject import adapter_parameters

# ---- what trains -----------------------------------------------------------------------------------------------------


def parts_of(model: nn.Module) -> dict[str, str]:
    """{parameter: the part of the model that it belongs to}: "head", "lora", "embeddings" or "layers.N". Which ones are
    "lora", the LoRA layers say."""
    adapters, parts = adapter_parameters(model), {}
    for name, _ in model.named_parameters():
        whose, *pieces = name.split(".")  # encoder.layers.3.mlp..., encoder.embeddings..., head...
        if name in adapters:
            parts[name] = "lora"
        elif whose == "head":
            parts[name] = "head"
        else:
            parts[name] = f"layers.{pieces[1]}" if pieces[0] == "layers" else pieces[0]
    return parts


def selects(pattern: str, name: str, part: str) -> bool:
    """Whether an entry of a phase's `train` list names this parameter, of this part of the model."""
    if pattern in ("all", part):
        return True
    if pattern == "layers":
        return part.startswith("layers.")
    layers = LAYER_RANGE.fullmatch(pattern)
    if layers:
        first, last = sorted((int(layers[1]), int(layers[2] or layers[1])))
        return part.startswith("layers.") and first <= int(part.split(".")[1]) <= last
    return fnmatchcase(name, pattern)


def entry_for(phase: PhaseSpec, name: str, part: str) -> str | None:
    """The entry of `phase.train` that a parameter trains under: the last that selects it, None where it is frozen."""
    return next((entry for entry in reversed(phase.train) if selects(entry, name, part)), None)


def trained_names(model: nn.Module, phases: Iterable[PhaseSpec]) -> set[str]:
    """Names of the parameters that train in any of the phases."""
    phases = tuple(phases)
    return {name for name, part in parts_of(model).items() if any(entry_for(phase, name, part) for phase in phases)}


def set_trainable(model: nn.Module, phase: PhaseSpec) -> None:
    """Freeze and unfreeze the model's parameters for a phase. A frozen one has no gradient at all (None, not zero), so
    no optimizer touches it, not even with weight decay or momentum left over from an earlier phase."""
    parts = parts_of(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(entry_for(phase, name, parts[name]) is not None)
        parameter.grad = None


def phase_table(model: nn.Module, groups: Iterable["Group"], phase: PhaseSpec, index: int) -> list[dict]:
    """What trains in a phase, a row per part of the model: tensors, parameters, highest learning rate."""
    parts, rows = parts_of(model), {}
    for name, parameter in model.named_parameters():
        if entry_for(phase, name, parts[name]) is not None:
            row = rows.setdefault(parts[name], {"part": parts[name], "tensors": 0, "parameters": 0, "lr": 0.0})
            row["tensors"] += 1
            row["parameters"] += parameter.numel()
    for group in groups:
        if group.peaks[index] is not None:
            rows[group.label]["lr"] = max(rows[group.label]["lr"], group.peaks[index])
    return list(rows.values())


def l1_parameters(spec: OptimSpec, model: nn.Module) -> list[nn.Parameter]:
    """What optim.l1_on names; empty where there is no penalty."""
    if not spec.l1:
        return []
    if not spec.l1_on:
        raise InputError("optim.l1_on: is empty, so optim.l1 has nothing to act on")
    parts = parts_of(model)
    for entry in spec.l1_on:
        if not any(selects(entry, name, part) for name, part in parts.items()):
            raise InputError(f"optim.l1_on: {entry!r} selects no parameter")
    return [p for name, p in model.named_parameters() if any(selects(e, name, parts[name]) for e in spec.l1_on)]


# ---- how fast --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Parameters that share one learning rate in each phase, and one weight decay."""

    label: str  # the part they belong to, as it appears in the log
    names: tuple[str, ...]
    peaks: tuple[float | None, ...]  # peak learning rate in each phase, None where frozen
    weight_decay: float


def peak_rate(phase: PhaseSpec, name: str, part: str, default: float, num_layers: int) -> float | None:
    """The highest learning rate of a parameter in a phase; None where it is frozen.

    Layer-wise decay holds for the encoder's own weights, not for adapters and head. With 6 layers and layer_decay 0.9:
    layer 5 trains at the full rate, layer 4 at 0.9 of it, layer 0 at 0.9^5, the embeddings at 0.9^6.
    """
    entry = entry_for(phase, name, part)
    if entry is None:
        return None
    depth = 0
    if part.startswith("layers."):
        depth = num_layers - 1 - int(part.split(".")[1])
    elif part == "embeddings":
        depth = num_layers
    return phase.lr.get(entry, default) * phase.layer_decay**depth


def parameter_groups(
    model: nn.Module, phases: Iterable[PhaseSpec], default_lr: float, weight_decay: float, num_layers: int
) -> list[Group]:
    """Every group of every phase, made before the first step. Raises InputError for an entry that selects nothing."""
    phases = tuple(phases)
    parts = parts_of(model)
    for i, phase in enumerate(phases):
        for entry in phase.train:
            if not any(selects(entry, name, part) for name, part in parts.items()):
                known = ", ".join(dict.fromkeys(parts.values()))
                raise InputError(f"phases.{i}.train: {entry!r} selects no parameter; parts: {known}, all")
            if not any(entry_for(phase, name, part) == entry for name, part in parts.items()):
                raise InputError(f"phases.{i}.train: {entry!r} is wholly covered by a later entry; remove it")
    adapters = adapter_parameters(model)
    if adapters and not any(entry_for(phase, name, "lora") for phase in phases for name in adapters):
        raise InputError("lora: no phase trains the adapters; remove the lora group, or add 'lora' to a train list")
    members: dict[tuple, list[str]] = {}
    for name, parameter in model.named_parameters():
        peaks = tuple(peak_rate(phase, name, parts[name], default_lr, num_layers) for phase in phases)
        if any(peak is not None for peak in peaks):
            decay = weight_decay if parameter.ndim > 1 else 0.0
            members.setdefault((parts[name], peaks, decay), []).append(name)
    return [Group(part, tuple(names), peaks, decay) for (part, peaks, decay), names in members.items()]


def rate_factor(phase: PhaseSpec, step: int, steps: int) -> float:
    """The learning rate of step 0, 1, ... of a phase of `steps`, as a share of its peak.

    Ten steps, warmup_ratio 0.2, linear, floor 0:  0.5 1 | 1 .875 .75 .625 .5 .375 .25 .125
    No step is wasted at rate 0, neither the first nor the last.
    """
    warmup = round(phase.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)  # 0 <= done < 1
    shape = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[phase.schedule]
    return phase.floor + (1.0 - phase.floor) * shape
