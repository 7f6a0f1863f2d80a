"""Folders that are written whole or not at all, and what is in them: safetensors and JSON.

Writing `last/`: everything goes to `last.new/` first and is forced to disk; then `last/` steps aside as `last.old/`,
`last.new/` takes its name, and `last.old/` goes. Whenever the process dies, either `last/` is complete or, for an
instant between the two renames, `last.old/` is: `recover` gives it back its name.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from inputs import InputError


def _sync(path: Path) -> None:
    """Force a file's or folder's contents to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(target: Path, fill: Callable[[Path], None]) -> None:
    """Replace the folder `target` by what `fill(folder)` writes, atomically. If `fill` raises, `target` stays."""
    new, old = target.with_name(target.name + ".new"), target.with_name(target.name + ".old")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    try:
        fill(new)
        for file in new.iterdir():
            _sync(file)
        _sync(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    new.rename(target)
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(target: Path) -> None:
    """Give `last.old/` its name back where the process died between the two renames."""
    old = target.with_name(target.name + ".old")
    if old.is_dir() and not target.exists():
        old.rename(target)


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises InputError for anything else, a pickle included."""
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from None


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


def restore_training(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> None:
    """The inverse of `training_tensors`."""
    parameters = {name: parameter for parameter, name in names.items()}
    fused = {parameter for group in optimizer.param_groups if group.get("fused") for parameter in group["params"]}
    for full_key, value in tensors.items():
        kind, _, rest = full_key.partition("/")
        if kind == "optimizer":
            name, _, key = rest.rpartition("/")
            # Where the optimizer itself keeps it: beside the parameter, but for the step count of an unfused one.
            parameter = parameters[name]
            place = torch.device("cpu") if key == "step" and parameter not in fused else parameter.device
            optimizer.state[parameter][key] = value.to(place)
    torch.set_rng_state(tensors["random/cpu"])
    if torch.cuda.is_available():
        states = [value for key, value in sorted(tensors.items()) if key.startswith("random/cuda/")]
        torch.cuda.set_rng_state_all(states[: torch.cuda.device_count()])
