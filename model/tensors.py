"""Safetensors files: reading, writing, and filling a model from one."""

import errno
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.files import InputError


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file. Raises OSError where it cannot be written (a full disk, for one)."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # "... I/O error: No space left on device (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises InputError for anything else, a pickle included."""
    try:
        with path.open("rb"):  # the library calls a file that it may not read missing
            return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}; fetch or copy it again") from None


def fill_parameters(parameters: dict[str, Tensor], saved: dict[str, Tensor], where: Path) -> None:
    """Copy saved tensors into parameters of the same names, or raise InputError naming a missing, extra or misshapen
    one before anything is copied."""
    missing, unexpected = parameters.keys() - saved.keys(), saved.keys() - parameters.keys()
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise InputError(f"{where}: {len(names)} {what} tensor(s), the first is {min(names)}")
    for name, parameter in parameters.items():
        if saved[name].shape != parameter.shape:
            raise InputError(f"{where}: {name} is {tuple(saved[name].shape)}, the model has {tuple(parameter.shape)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
