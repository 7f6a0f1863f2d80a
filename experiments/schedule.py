"""What trains, and how fast: pure functions of the spec and of where the run is. Nothing is switched on or off by an
event that a resumed run could have missed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from experiments.spec import LAYER_RANGE, OptimSpec, PhaseSpec
from inputs import InputError

# ---- what trains -----------------------------------------------------------------------------------------------------


def part_of(name: str) -> str:
    """Which part of the model a parameter belongs to: "head", "lora", "embeddings" or "layers.N"."""
    pieces = name.split(".")
    if pieces[-1] in ("lora_A", "lora_B"):
        return "lora"
    if pieces[0] == "head":
        return "head"
    return (
        f"layers.{pieces[2]}" if pieces[1] == "layers" else pieces[1]
    )  # encoder.layers.3.mlp... encoder.embeddings...


def selects(pattern: str, name: str) -> bool:
    """Whether an entry of a phase's `train` list names this parameter."""
    part = part_of(name)
    if pattern in ("all", part):
        return True
    if pattern == "layers":
        return part.startswith("layers.")
    layers = LAYER_RANGE.fullmatch(pattern)
    if layers:
        first, last = sorted((int(layers[1]), int(layers[2] or layers[1])))
        return part.startswith("layers.") and first <= int(part.split(".")[1]) <= last
    return fnmatchcase(name, pattern)


def entry_for(phase: PhaseSpec, name: str) -> str | None:
    """The entry of `phase.train` that a parameter trains under: the last that selects it, None where it is frozen."""
    return next((entry for entry in reversed(phase.train) if selects(entry, name)), None)


def trained_names(model: nn.Module, phases: Iterable[PhaseSpec]) -> set[str]:
    """Names of the parameters that train in any of the phases."""
    return {name for name, _ in model.named_parameters() if any(entry_for(phase, name) for phase in phases)}


def set_trainable(model: nn.Module, phase: PhaseSpec) -> None:
    """Freeze and unfreeze the model's parameters for a phase. A frozen one has no gradient at all (None, not zero), so
    no optimizer touches it, not even with weight decay or momentum left over from an earlier phase."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(entry_for(phase, name) is not None)
        parameter.grad = None


def phase_table(model: nn.Module, groups: Iterable["Group"], phase: PhaseSpec, index: int) -> list[dict]:
    """What trains in a phase, a row per part of the model: tensors, parameters, highest learning rate."""
    rows: dict[str, dict] = {}
    for name, parameter in model.named_parameters():
        if entry_for(phase, name) is not None:
            row = rows.setdefault(part_of(name), {"part": part_of(name), "tensors": 0, "parameters": 0, "lr": 0.0})
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
    for entry in spec.l1_on:
        if not any(selects(entry, name) for name, _ in model.named_parameters()):
            raise InputError(f"optim.l1_on: {entry!r} selects no parameter")
    return [p for name, p in model.named_parameters() if any(selects(entry, name) for entry in spec.l1_on)]


# ---- how fast --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Parameters that share one learning rate in each phase, and one weight decay."""

    label: str  # the part they belong to, as it appears in the log
    names: tuple[str, ...]
    peaks: tuple[float | None, ...]  # peak learning rate in each phase, None where frozen
    weight_decay: float


def peak_rate(phase: PhaseSpec, name: str, default: float, num_layers: int) -> float | None:
    """The highest learning rate of a parameter in a phase; None where it is frozen.

    Layer-wise decay holds for the encoder's own weights, not for adapters and head. With 6 layers and layer_decay 0.9:
    layer 5 trains at the full rate, layer 4 at 0.9 of it, layer 0 at 0.9^5, the embeddings at 0.9^6.
    """
    entry = entry_for(phase, name)
    if entry is None:
        return None
    part = part_of(name)
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
    parameters = dict(model.named_parameters())
    for i, phase in enumerate(phases):
        for entry in phase.train:
            if not any(selects(entry, name) for name in parameters):
                parts = dict.fromkeys(part_of(name) for name in parameters)
                raise InputError(f"phases.{i}.train: {entry!r} selects no parameter; parts: {', '.join(parts)}, all")
            if not any(entry_for(phase, name) == entry for name in parameters):
                raise InputError(f"phases.{i}.train: {entry!r} is wholly covered by a later entry; remove it")
    adapters = [name for name in parameters if part_of(name) == "lora"]
    if adapters and not any(entry_for(phase, name) for phase in phases for name in adapters):
        raise InputError("lora: no phase trains the adapters; remove the lora group, or add 'lora' to a train list")
    members: dict[tuple, list[str]] = {}
    for name, parameter in parameters.items():
        peaks = tuple(peak_rate(phase, name, default_lr, num_layers) for phase in phases)
        if any(peak is not None for peak in peaks):
            decay = weight_decay if parameter.ndim > 1 else 0.0
            members.setdefault((part_of(name), peaks, decay), []).append(name)
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
