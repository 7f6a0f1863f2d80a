"""Low-rank adaptation of one linear layer (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    y = x W^T + b  +  scaling * dropout(x) A^T B^T        W frozen, A and B trained

Axes:  C_in, C_out widths of the linear layer   R LoRA rank
"""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def scaling_of(rank: int, alpha: float, rslora: bool = False) -> float:
    """What the low-rank term is multiplied by. alpha / R keeps the size of the update comparable across ranks;
    rank-stabilised LoRA (arXiv 2312.03732) finds that alpha / sqrt(R) is the power that really does."""
    return alpha / math.sqrt(rank) if rslora else alpha / rank


class LoRALinear(nn.Linear):
    """An `nn.Linear` with a low-rank term beside it.

    It holds the wrapped layer's own `weight` and `bias` Parameters, so nothing is copied and no parameter of the model
    changes its name. `lora_A` [R, C_in] is Kaiming-uniform (a = sqrt 5) and `lora_B` [C_out, R] zero, as in the
    reference implementations: at the start the layer computes exactly what the wrapped one did.

    init: how A and B began, for whoever saves them (see `wrap` in variants.py). fresh False: nothing is drawn, for
    whoever fills in saved tensors.

    Merging is explicit; train() and eval() leave it alone. It is done in fp32 and undone from a kept copy of the
    weight, so that any number of rounds leaves the weight bit for bit what it was.
    """

    def __init__(
        self,
        linear: nn.Linear,
        rank: int,
        alpha: float,
        dropout: nn.Module | None = None,
        rslora: bool = False,
        init: str = "default",
        fresh: bool = True,
    ):
        nn.Module.__init__(self)  # not nn.Linear's: that would allocate and initialise a second weight
        # Saved tensors may be a sum of adapters, whose ranks add up to more than the layer has.
        if rank < 1 or (fresh and rank > min(linear.in_features, linear.out_features)):
            raise ValueError(f"rank {rank} for a {linear.out_features}x{linear.in_features} layer")
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.rank, self.alpha, self.rslora, self.init = rank, alpha, rslora, init
        self.scaling = scaling_of(rank, alpha, rslora)
        self.lora_A = nn.Parameter(linear.weight.new_zeros(rank, linear.in_features, dtype=torch.float32))
        self.lora_B = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank, dtype=torch.float32))
        self.lora_dropout = dropout if dropout is not None else nn.Identity()
        self.unmerged_weight: Tensor | None = None  # the pristine weight, while merged
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.train(linear.training)
        if fresh:
            nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    # What PEFT's file format calls each adapter parameter, below the module's name.
    PEFT_KEYS: ClassVar = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}

    def peft_settings(self) -> dict:
        """The settings of PEFT's LoraConfig that tell this variant from plain LoRA."""
        return {"use_rslora": self.rslora, "use_dora": False}

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that were added to the wrapped layer, by name. Training and saving ask here, so a variant's
        additional parameter cannot be forgotten."""
        return {name: p for name, p in self.named_parameters(recurse=False) if name not in ("weight", "bias")}

    @property
    def merged(self) -> bool:
        return self.unmerged_weight is not None

    @property
    def base_weight(self) -> Tensor:
        """The weight without the update [C_out, C_in], merged or not."""
        return (self.weight if self.unmerged_weight is None else self.unmerged_weight).detach()

    def low_rank(self) -> Tensor:
        """scaling * B A [C_out, C_in], in fp32."""
        return (self.lora_B.detach().float() @ self.lora_A.detach().float()) * self.scaling

    def delta(self) -> Tensor:
        """Update that merging adds to the weight [C_out, C_in], in fp32."""
        return self.low_rank()

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the low-rank term into the weight. A second call changes nothing."""
        if self.merged:
            return
        self.unmerged_weight = self.weight.detach().clone()
        self.weight.copy_(self.unmerged_weight.float() + self.delta())

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the kept weight back, bit for bit. A second call changes nothing."""
        if self.unmerged_weight is not None:
            self.weight.copy_(self.unmerged_weight)
            self.unmerged_weight = None

    def to_linear(self) -> nn.Linear:
        """A plain linear layer that computes the same, with a weight of its own; this layer is left as it is."""
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter((self.base_weight.float() + self.delta()).to(self.weight.dtype))
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone())
        return linear.train(self.training)

    def unwrap(self) -> nn.Linear:
        """A plain linear layer without the update, around the same `weight` and `bias` Parameters, which stay frozen.
        Where this layer is merged, it is unmerged first. With init "pissa", that weight is the residual."""
        self.unmerge()
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight, linear.bias = self.weight, self.bias
        return linear.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C_in] -> [..., C_out]"""
        y = F.linear(x, self.weight, self.bias)
        if self.merged:
            return y
        return y + F.linear(F.linear(self.lora_dropout(x), self.lora_A), self.lora_B) * self.scaling

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha}, merged={self.merged}"
