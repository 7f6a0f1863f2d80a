"""A trained encoder with its linear layers in int8, for answering on a CPU.

Dynamic quantisation: weights are rounded to 8 bits once, with a scale for each output channel, and inputs at each call,
with one scale for all of them. Embeddings, norms, attention and the head stay in fp32.
"""

import warnings
from dataclasses import replace

import torch
from torch import nn

from data.files import InputError
from lora.inject import to_plain
from model.heads import TaskModel
from model.machine import Machine


def in_int8(model: TaskModel, machine: Machine) -> Machine:
    """Put the encoder's linear layers into int8, in place, adapters merged. Returns the machine to compute on: without
    autocast, because these layers take fp32. Raises InputError where PyTorch cannot do so."""
    if machine.device.type != "cpu":
        raise InputError(f"--int8: is for a CPU, and the device is {machine.device}; add --device cpu")
    to_plain(model.encoder)
    try:
        # torch 2.13 calls torch.ao.quantization deprecated in favour of torchao, another package, but has nothing else.
        # These two warnings alone are silenced.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.ao.quantization is deprecated", DeprecationWarning)
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

            quantize_dynamic(model.encoder, {nn.Linear: per_channel_dynamic_qconfig}, inplace=True)
    except (ImportError, RuntimeError) as error:  # a later version, or a build without an int8 engine
        raise InputError(f"--int8: torch {torch.__version__} cannot do it here: {error}") from None
    return replace(machine, dtype=None, reason="int8")
