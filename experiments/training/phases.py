"""Phases: what trains, how fast, and when. All of it depends on the spec, the model and the position alone. Nothing is
switched on or off by an event that a resumed run could have missed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from data.batching import Part, TrainingOrder
from data.files import InputError
from experiments.config.spec import LAYER_RANGE, OptimSpec, PhaseSpec, Spec
from lora.inject import adapter_parameters
from model.heads import TaskModel

# ---- what trains -----------------------------------------------------------------------------------------------------


def parts_of(model: nn.Module) -> dict[str, str]:
    """{parameter: the part of the model that it belongs to}: "head", "lora", "embeddings" or "layers.N". Which ones are
    "lora" is what the LoRA layers say."""
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


def phase_table(model: nn.Module, groups: Iterable["Group"], index: int) -> list[dict]:
    """A row for each part of the model that trains in a phase: tensors, parameters, highest learning rate."""
    parameters = dict(model.named_parameters())
    rows: dict[str, dict] = {}
    for group in groups:
        peak = group.peaks[index]
        if peak is not None:
            row = rows.setdefault(group.label, {"part": group.label, "tensors": 0, "parameters": 0, "lr": 0.0})
            row["tensors"] += len(group.names)
            row["parameters"] += sum(parameters[name].numel() for name in group.names)
            row["lr"] = max(row["lr"], peak)
    return list(rows.values())


def add_l1_gradient(optim: OptimSpec, model: nn.Module, scaler: torch.amp.GradScaler) -> None:
    """Add the gradient of optim.l1 times the sum of absolute values of what optim.l1_on names and trains now."""
    if not optim.l1:
        return
    parts, trained = parts_of(model), [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    sums = [p.abs().sum() for name, p in trained if any(selects(entry, name, parts[name]) for entry in optim.l1_on)]
    if sums:
        scaler.scale(optim.l1 * torch.stack(sums).sum()).backward()


# ---- how fast --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Parameters that share one learning rate in each phase, and one weight decay."""

    label: str  # the part they belong to, as records call it; "lora_B" where lora.b_rate sets B apart
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
    model: TaskModel, phases: Sequence[PhaseSpec], optim: OptimSpec, b_rate: float = 1.0
) -> list[Group]:
    """Every group of every phase, made before the first step. b_rate: what the rates of the adapters' B are multiplied
    by (LoRA+: Hayou et al. 2024, arXiv 2402.12354). Raises InputError for an entry that selects nothing."""
    parts, num_layers = parts_of(model), model.encoder.config.num_layers
    check_entries(phases, optim, parts)
    members: dict[tuple, list[str]] = {}
    for name, parameter in model.named_parameters():
        label, peaks = parts[name], [peak_rate(p, name, parts[name], optim.lr, num_layers) for p in phases]
        if b_rate != 1.0 and label == "lora" and name.endswith(".lora_B"):
            label, peaks = "lora_B", [peak and peak * b_rate for peak in peaks]
        if any(peak is not None for peak in peaks):
            decay = optim.weight_decay if parameter.ndim > 1 else 0.0
            members.setdefault((label, tuple(peaks), decay), []).append(name)
    if b_rate != 1.0 and not any(label == "lora_B" for label, _, _ in members):
        raise InputError("lora.b_rate: no phase trains the adapters' B, so it has no effect; remove it")
    return [Group(label, tuple(names), peaks, decay) for (label, peaks, decay), names in members.items()]


def check_entries(phases: Sequence[PhaseSpec], optim: OptimSpec, parts: dict[str, str]) -> None:
    """Raise InputError for an entry of a train list, or of optim.l1_on, that selects nothing or has no effect. parts:
    see `parts_of`."""
    top = max(int(part.split(".")[1]) for part in parts.values() if part.startswith("layers."))
    for i, phase in enumerate(phases):
        for entry in phase.train:
            layers = LAYER_RANGE.fullmatch(entry)
            if layers and max(int(layers[1]), int(layers[2] or 0)) > top:
                raise InputError(f"phases.{i}.train: {entry!r} goes beyond this model's last layer, layers.{top}")
            if not any(selects(entry, name, part) for name, part in parts.items()):
                known = ", ".join(dict.fromkeys(parts.values()))
                raise InputError(f"phases.{i}.train: {entry!r} selects no parameter; parts: {known}, all")
            if not any(entry_for(phase, name, part) == entry for name, part in parts.items()):
                raise InputError(f"phases.{i}.train: {entry!r} is wholly covered by a later entry; remove it")
    adapters = [name for name, part in parts.items() if part == "lora"]
    if adapters and not any(entry_for(phase, name, "lora") for phase in phases for name in adapters):
        raise InputError("lora: no phase trains the adapters; remove the lora group, or add 'lora' to a train list")
    if optim.l1 and not optim.l1_on:
        raise InputError("optim.l1_on: is empty, so optim.l1 has nothing to act on")
    for entry in optim.l1_on if optim.l1 else ():
        if not any(selects(entry, name, part) for name, part in parts.items()):
            raise InputError(f"optim.l1_on: {entry!r} selects no parameter")


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


# ---- when ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """The steps of a run. Positions count places in the data order, from 0."""

    order: TrainingOrder
    phase_ends: list[int]  # position after each phase
    evaluate_at: frozenset[int]  # positions after which an evaluation is due

    def phase_at(self, position: int) -> int:
        """The index of the phase that takes the step at this position."""
        return next(i for i, end in enumerate(self.phase_ends) if position < end)

    def span(self, phase: int) -> tuple[int, int]:
        """The positions where a phase begins and ends."""
        return self.phase_ends[phase - 1] if phase else 0, self.phase_ends[phase]

    def steps(self, phase: int) -> int:
        begin, end = self.span(phase)
        return end - begin


def make_plan(spec: Spec, parts: Sequence[Part]) -> Plan:
    """The positions of phases and evaluations. Raises InputError for a phase without a step."""
    ends = [sum(phase.epochs for phase in spec.phases[: i + 1]) for i in range(len(spec.phases))]  # in epochs
    order = TrainingOrder(parts, ends[-1], spec.seed, spec.optim.accumulate)
    phase_ends = [order.position(end) for end in ends]
    for phase, begin, end in zip(spec.phases, [0, *phase_ends], phase_ends, strict=False):
        if begin == end:
            raise InputError(f"phases: {phase.name!r}, {phase.epochs:g} epochs long, is shorter than one step")
    if spec.eval.every_steps:
        regular = list(range(spec.eval.every_steps, len(order) + 1, spec.eval.every_steps))
    else:
        every = spec.eval.every_epochs or 1.0
        regular = [order.position(k * every) for k in range(1, int(ends[-1] / every + 1e-9) + 1)]
    return Plan(order, phase_ends, frozenset({*regular, *phase_ends} - {0}))
