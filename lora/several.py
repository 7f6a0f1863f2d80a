"""Several adapters for one base model in memory: use one of them, a weighted sum, or none.

    adapters = Several(encoder, {"law": law, "tax": tax})       an Adapter each, on the encoder's device
    adapters.use("law")
    adapters.use({"law": 0.7, "tax": 0.3})
    adapters.use(None)

Axes:  C_in, C_out widths of a linear layer   R rank of its adapter
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora.inject import lora_layers, put, unwrap
from lora.layer import LoRALinear, scaling_of
from lora.variants import wrap


@dataclass(frozen=True)
class LayerAdapter:
    """What one linear layer is adapted by."""

    A: Tensor  # [R, C_in]
    B: Tensor  # [C_out, R]
    alpha: float
    rslora: bool = False
    magnitude: Tensor | None = None  # [C_out], of DoRA

    def tensors(self) -> dict[str, Tensor]:
        """{its name in the layer: tensor}"""
        named = {"lora_A": self.A, "lora_B": self.B, "lora_magnitude": self.magnitude}
        return {name: tensor.detach() for name, tensor in named.items() if tensor is not None}

    def around(self, linear: nn.Linear) -> LoRALinear:
        """A LoRA layer around a linear one. It holds these tensors themselves, frozen, if device and type fit."""
        dora = self.magnitude is not None
        layer = wrap(linear, len(self.A), self.alpha, dora=dora, rslora=self.rslora, fresh=False)
        for name, tensor in self.tensors().items():
            tensor = tensor.to(linear.weight.device, torch.float32)
            setattr(layer, name, nn.Parameter(tensor, requires_grad=False))
        return layer


@dataclass(frozen=True)
class Adapter:
    """One trained adapter: {module path in the model: what that layer is adapted by}.

    Its base is the model as it is. One that began with PiSSA, or whose run trained encoder weights too, has another.
    """

    layers: Mapping[str, LayerAdapter]


def weighted_sum(adapters: Mapping[str, Adapter], weights: Mapping[str, float]) -> Adapter:
    """The adapter whose update is, layer by layer, the sum of weight times update. It is exact: A's and B's are laid
    side by side, so ranks add up. One adapter of weight 1 is itself. Raises ValueError for a sum with DoRA in it."""
    if list(weights.values()) == [1.0]:
        return adapters[next(iter(weights))]
    A: dict[str, list[Tensor]] = {}
    B: dict[str, list[Tensor]] = {}
    for name, weight in weights.items():
        for path, own in adapters[name].layers.items():
            if own.magnitude is not None:
                raise ValueError(f"{name}: has DoRA's magnitudes; it can be used alone, but neither added nor weighted")
            A.setdefault(path, []).append(own.A * (weight * scaling_of(len(own.A), own.alpha, own.rslora)))
            B.setdefault(path, []).append(own.B)
    stacked = {path: (torch.cat(A[path]), torch.cat(B[path], dim=1)) for path in A}
    return Adapter({path: LayerAdapter(a, b, alpha=float(len(a))) for path, (a, b) in stacked.items()})


class Several:
    """Adapters of one model; at first, none is in use. Raises ValueError for one that does not fit the model."""

    def __init__(self, model: nn.Module, adapters: Mapping[str, Adapter]):
        if any(lora_layers(model)):
            raise ValueError("the model already has LoRA layers")
        self.model, self.adapters = model, dict(adapters)
        linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        for name, path, own in ((n, p, own) for n, adapter in adapters.items() for p, own in adapter.layers.items()):
            if path not in linears:
                raise ValueError(f"{name}: {path} is no linear layer of the model")
            (C_out, C_in), found = linears[path].weight.shape, [tuple(t.shape) for t in own.tensors().values()]
            if found != [(len(own.A), C_in), (C_out, len(own.A)), (C_out,)][: len(found)]:
                raise ValueError(f"{name}: {path} is {C_out}x{C_in}, which tensors of {found} do not fit")

    def use(self, chosen: str | Mapping[str, float] | None) -> None:
        """Adapt the model by one of the adapters, by a weighted sum, {name: weight}, or by none. Raises ValueError for
        an unknown name or an impossible sum, and leaves the model as it was."""
        weights = {} if chosen is None else {chosen: 1.0} if isinstance(chosen, str) else chosen
        for name, weight in weights.items():
            if name not in self.adapters or not math.isfinite(weight):
                raise ValueError(f"{name}: {weight} is no weight of one of the adapters: {', '.join(self.adapters)}")
        adapter = weighted_sum(self.adapters, weights)
        unwrap(self.model)
        for path, own in adapter.layers.items():
            linear = self.model.get_submodule(path)
            assert isinstance(linear, nn.Linear)
            put(self.model, path, own.around(linear))
