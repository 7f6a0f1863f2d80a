"""Folders and files that are written whole or not at all, and what is in them: safetensors and JSON.

Writing `last/`: everything goes to `.last.new/` first and is forced to disk; then `last/` steps aside as `.last.old/`,
`.last.new/` takes its name, and `.last.old/` goes. Whenever the process dies, either `last/` is complete or, for an
instant between the two renames, `.last.old/` is: `surviving` finds it, `recover` gives it back its name.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inputs import InputError

# ---- folders ---------------------------------------------------------------------------------------------------------


def _sync(path: Path) -> None:
    """Force a file's or folder's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _beside(target: Path, which: str) -> Path:
    """A hidden neighbour. The target may be a link to another disk: its neighbours are there."""
    real = Path(os.path.realpath(target))
    return real.with_name(f".{real.name}.{which}")


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Replace the folder `target` by what `fill(folder)` writes, atomically. If `fill` raises, `target` stays."""
    new, old = _beside(target, "new"), _beside(target, "old")
    recover(target)
    new.mkdir()
    try:
        fill(new)
        for file in new.iterdir():
            _sync(file)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    real = Path(os.path.realpath(target))
    if real.exists():
        real.rename(old)
    new.rename(real)
    _sync(real.parent)
    shutil.rmtree(old, ignore_errors=True)


def surviving(target: Path) -> Path | None:
    """Where the last complete version of `target` is: in its place, or aside if the process died between the two
    renames. None where there has never been one. Changes nothing."""
    return next((folder for folder in (target, _beside(target, "old")) if folder.is_dir()), None)


def recover(target: Path) -> None:
    """Put `surviving(target)` in its place, and remove what a process that died has left beside it."""
    survivor = surviving(target)
    if survivor and survivor != target:
        survivor.rename(os.path.realpath(target))
    for which in ("new", "old"):
        shutil.rmtree(_beside(target, which), ignore_errors=True)


# ---- files -----------------------------------------------------------------------------------------------------------


def sha256_of(path: Path) -> str:
    """Of a file's contents. Raises InputError where there is no such file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


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


def replace_file(path: Path, text: str) -> None:
    """Write a file whole, or leave what was there. Raises OSError, naming the file, where it cannot be written."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


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


def training_tensors(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """Optimizer state by parameter name ("optimizer/<parameter>/<key>") and the random generators' states."""
    tensors = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            if value is not None:  # SGD without momentum keeps a None
                tensors[f"optimizer/{names[parameter]}/{key}"] = torch.as_tensor(value)
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"random/cuda/{i}"] = state
    return tensors


# What each optimizer keeps for a parameter it has stepped on.
OPTIMIZER_STATE = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"},
    torch.optim.SGD: {"momentum_buffer"},
    torch.optim.RMSprop: {"step", "square_avg"},
}


def restore_training(path: Path, optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> None:
    """Read `training_tensors` back from a file. Raises InputError for the state of another model or optimizer."""
    saved: dict[str, dict[str, Tensor]] = {}
    tensors = read_tensors(path)
    for full_key, value in tensors.items():
        if full_key.startswith("optimizer/"):
            name, _, key = full_key.removeprefix("optimizer/").rpartition("/")
            saved.setdefault(name, {})[key] = value
    parameters = {name: parameter for parameter, name in names.items()}
    fused = {parameter for group in optimizer.param_groups if group.get("fused") for parameter in group["params"]}
    for name, state in saved.items():
        parameter = parameters.get(name)
        if parameter is None or state.keys() != OPTIMIZER_STATE[type(optimizer)]:
            raise InputError(f"{path}: {', '.join(sorted(state))} of {name} is not what this run's optimizer keeps")
        for key, value in state.items():
            if value.shape != (() if key == "step" else parameter.shape):
                raise InputError(f"{path}: {key} of {name} is {tuple(value.shape)}, the model's is another shape")
            # Where the optimizer itself keeps it: beside the parameter, but for the step count of an unfused one.
            place = torch.device("cpu") if key == "step" and parameter not in fused else parameter.device
            optimizer.state[parameter][key] = value.to(place)
    try:
        torch.set_rng_state(tensors["random/cpu"])
        if torch.cuda.is_available():
            states = [value for key, value in sorted(tensors.items()) if key.startswith("random/cuda/")]
            torch.cuda.set_rng_state_all(states[: torch.cuda.device_count()])
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(f"{path}: holds no usable state of the random generators ({error})") from None
