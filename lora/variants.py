"""Variants of LoRA: DoRA, a layer of its own, and PiSSA, another beginning.

Axes:  C_in, C_out widths of the linear layer   R LoRA rank
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora.layer import LoRALinear


class DoRALinear(LoRALinear):
    """Weight-decomposed adaptation (Liu et al. 2024, arXiv 2402.09353, equation 5): the direction of each row of the
    weight is adapted by LoRA, its length is a parameter of its own.

        V = W + scaling * B A        y = x (m / |V| * V)^T + b        m, A and B trained

    `lora_magnitude` m [C_out] begins as the lengths of the rows of W. |V| is taken for a constant in the backward pass
    (section 4.3). A row of zeros has no direction; it stays zero.

    Dropout is on the input of what is added to x W^T, as in PEFT: of x (m / |V| * V - W)^T.
    """

    PEFT_KEYS: ClassVar = {**LoRALinear.PEFT_KEYS, "lora_magnitude": "lora_magnitude_vector"}

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.lora_magnitude = nn.Parameter(self.norms())

    def peft_settings(self) -> dict:
        return super().peft_settings() | {"use_dora": True}

    @torch.no_grad()
    def norms(self) -> Tensor:
        """|V|, the lengths of its rows [C_out], in fp32 even under autocast."""
        with torch.autocast(self.weight.device.type, enabled=False):
            return torch.linalg.vector_norm(self.base_weight.float() + self.low_rank(), dim=1)

    def factor(self) -> Tensor:
        """m / |V| [C_out]"""
        norms = self.norms()
        return self.lora_magnitude / norms.masked_fill(norms == 0.0, 1.0)

    def delta(self) -> Tensor:
        weight = self.base_weight.float()
        return self.factor().detach()[:, None] * (weight + self.low_rank()) - weight

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C_in] -> [..., C_out]"""
        y = F.linear(x, self.weight, self.bias)
        if self.merged:
            return y
        dropped, factor = self.lora_dropout(x), self.factor()
        if dropped is not x:
            base = F.linear(dropped, self.weight)
        else:
            base = y if self.bias is None else y - self.bias
        update = F.linear(F.linear(dropped, self.lora_A), self.lora_B) * self.scaling
        return y + ((factor - 1.0) * base + factor * update).to(y.dtype)


@torch.no_grad()
def split_weight(layer: LoRALinear) -> None:
    """Move the R largest singular directions of a layer's weight into A and B (PiSSA: Meng et al. 2024, arXiv
    2404.02948, section 3), so that scaling * B A plus the residual that stays in `weight` is what the weight was, but
    for rounding. The residual is part of the result: another machine's decomposition gives other bits."""
    weight, R = layer.weight.float(), layer.rank
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    root = (S[:R] / layer.scaling).sqrt()  # half of each singular value on either side
    layer.lora_A.copy_(root[:, None] * Vh[:R])
    layer.lora_B.copy_(U[:, :R] * root)
    layer.weight.copy_(weight - layer.low_rank())


def wrap(
    linear: nn.Linear,
    rank: int,
    alpha: float,
    dropout: nn.Module | None = None,
    rslora: bool = False,
    dora: bool = False,
    init: str = "default",
    fresh: bool = True,
) -> LoRALinear:
    """A linear layer with an adapter of the asked kind. dora: a DoRALinear. init "pissa": A and B begin as the largest
    singular directions of the weight, and the weight becomes the rest of it. fresh False: without any beginning."""
    if init not in ("default", "pissa"):
        raise ValueError(f"init {init!r}; it is default or pissa")
    layer = (DoRALinear if dora else LoRALinear)(linear, rank, alpha, dropout, rslora, init, fresh)
    if fresh and init == "pissa":
        split_weight(layer)
    return layer
