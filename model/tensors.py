"""Folders and files that are written whole or not at all, and what is in them: safetensors and JSON.

Writing `last/`: everything goes to `.last.new/` first and is forced to disk; then `last/` steps aside as `.last.old/`,
`.last.new/` takes its name, and `.last.old/` goes. Whenever the process dies, either `last/` is complete or, for an
instant between the two renames, `.last.old/` is: `surviving` finds it, `recover` gives it back its name.
"""

import errno
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.files import InputError

# ---- folders ---------------------------------------------------------------------------------------------------------


# ---- files -----------------------------------------------------------------------------------------------------------


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file. Raises OSError where it cannot be written (a full disk, for one)."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # "... I/O error: No space left on device (os error 28)"
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError for anything else, a pickle included."""
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
    for what, names in (
        ("missing", parameters.keys() - saved.keys()),
        ("unexpected", saved.keys() - parameters.keys()),
    ):
        if names:
            raise InputError(f"{where}: {len(names)} {what} tensor(s), the first is {min(names)}")
    for name, parameter in parameters.items():
        if saved[name].shape != parameter.shape:
            raise InputError(f"{where}: {name} is {tuple(saved[name].shape)}, the model has {tuple(parameter.shape)}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])


# ---- the state of training: what a resumed run needs beside the model ------------------------------------------------
