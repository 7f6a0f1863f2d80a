"""Dropout whose masks come from random bytes on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ByteMask(torch.autograd.Function):
    """x times a mask of bytes, 0 or 1, times a scale. Autograd alone would keep the mask in x's dtype, four times as
    large in fp32."""

    @staticmethod
    def forward(ctx, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        # The scale is applied last, in the kernel's own precision: rounded to bf16 on its own it would be 0.3 % too
        # small. A multiply by the mask, not masked_fill, because that is the vectorised kernel on a CPU.
        return (x * keep.to(x.dtype)).mul_(scale)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return (gradient * keep.to(gradient.dtype)).mul_(ctx.scale), None, None


def random_byte_dropout(x: Tensor, p: float) -> Tensor:
    """Dropout whose mask comes from one random byte per element. x: any shape -> same shape.

    `F.dropout` draws a double-precision uniform per element, which on a CPU makes a whole training step 1.3 times as
    long (experiments/LOG.md, "What each choice for speed is worth"). A byte is enough: an element is dropped when its
    byte is below t = round(256 p), and survivors are scaled by 256 / (256 - t), which keeps the expectation. p itself
    is rounded to a multiple of 1/256: p = 0.1 -> t = 26 -> 10.16 % dropped, survivors times 256/230.
    """
    threshold = max(1, round(256 * p))
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)  # 8 bytes per draw
    random_bytes = words.view(torch.uint8)[: x.numel()].view(x.shape)
    # uint8 instead of bool: the vectorised kernel on a CPU.
    keep = torch.ge(random_bytes, threshold, out=torch.empty(x.shape, dtype=torch.uint8))
    return ByteMask.apply(x, keep, 256 / (256 - threshold))


class Dropout(nn.Module):
    """Dropout with probability p in training mode, the identity in evaluation mode. p in [0, 0.99]."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        return random_byte_dropout(x, self.p) if x.device.type == "cpu" else F.dropout(x, self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"
