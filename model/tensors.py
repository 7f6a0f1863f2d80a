"""Safetensors files: reading, writing, and filling a model from one."""

import errno
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.files import InputError, open_file
from data.writing import replace_file


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file whole. Raises OSError where it cannot be written (a full disk, for one)."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace_file(path, lambda new: _write_new(kept, new, metadata))


def _write_new(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None) -> None:
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # "... I/O error: No space left on device (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file. Raises InputError for anything else, a pickle included."""
    try:
        with open_file(path):  # the library calls a file that it may not read missing, and waits for a pipe
            return load_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}; fetch or copy it again") from None


def require_finite(tensor: Tensor, name: str, where: Path) -> None:
    """Raise InputError for a tensor that holds no floating-point numbers, or one that is not finite."""
    if not tensor.is_floating_point():
        raise InputError(f"{where}: {name} holds {tensor.dtype}, floating-point numbers are needed")
    if not tensor.float().isfinite().all():
        raise InputError(f"{where}: {name} holds NaN or infinity; the file is damaged, or its training had failed")


def fill_parameters(parameters: dict[str, Tensor], saved: dict[str, Tensor], where: Path) -> None:
    """Copy saved tensors into parameters of the same names, or raise InputError naming one that is missing, extra,
    misshapen or not finite before anything is copied."""
    missing, unexpected = parameters.keys() - saved.keys(), saved.keys() - parameters.keys()
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            raise InputError(f"{where}: {len(names)} {what} tensor(s), the first is {min(names)}")
    for name, parameter in parameters.items():
        if saved[name].shape != parameter.shape:
            raise InputError(f"{where}: {name} is {tuple(saved[name].shape)}, the model has {tuple(parameter.shape)}")
        require_finite(saved[name], name, where)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
