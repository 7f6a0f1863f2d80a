"""A trained encoder with its linear layers in int8, for answering on a CPU.

Dynamic quantisation: weights are rounded to 8 bits once, with a scale for each output, and inputs at each call, with
one scale for all of them. Embeddings, norms, attention and the head stay in fp32.
"""

import os
import warnings
from dataclasses import replace

import torch
from torch import Tensor, nn

from data.files import InputError
from lora.inject import put, to_plain
from model.heads import TaskModel
from model.machine import Machine


def narrow_inputs() -> bool:
    """Whether inputs get 7 bits: without VNNI, the sum of two products of 8 bits may overflow the 16 that it has. (With
    8 bits, the error of the logits is half as large; see README.md.)"""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return not capabilities.get("avx512_vnni") or "FBGEMM_ENABLE_INSTRUCTIONS" in os.environ


class Int8Linear(nn.Module):
    """A linear layer through PyTorch's own kernels. torch.ao.quantization, which wraps them, always takes 7 bits, is
    deprecated, and its successor is another package."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(1).clamp(min=1e-8) / 127  # [C_out]
        with warnings.catch_warnings():  # PyTorch means to drop quantised tensors one day
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            weight = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales).long(), 0, torch.qint8)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(weight, bias)
        self.narrow = narrow_inputs()

    def forward(self, x: Tensor) -> Tensor:
        """x float32 [..., C_in] -> [..., C_out]"""
        return torch.ops.quantized.linear_dynamic(x, self.packed, self.narrow)


def in_int8(model: TaskModel, machine: Machine) -> Machine:
    """Put the encoder's linear layers into int8, in place, adapters merged. Returns the machine to compute on: without
    autocast, because these layers take fp32. Raises InputError where PyTorch cannot do so."""
    if machine.device.type != "cpu":
        raise InputError(f"--int8: is for a CPU, and the device is {machine.device}; add --device cpu")
    to_plain(model.encoder)
    try:
        for name, module in list(model.encoder.named_modules()):
            if isinstance(module, nn.Linear):
                put(model.encoder, name, Int8Linear(module))
    except (AttributeError, RuntimeError) as error:  # a later version, or a build without an engine for it
        raise InputError(f"--int8: torch {torch.__version__} cannot do it here: {error}") from None
    return replace(machine, dtype=None, reason="int8")
