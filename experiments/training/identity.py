"""Identity of an experiment: the facts that must be the same for a checkpoint to be continued to the same numbers."""

import torch

from data.files import InputError, shown
from experiments.config.parse import build
from experiments.config.spec import Spec
from experiments.records import json_safe
from experiments.training.state import Run

# Of the device, what "auto" came to counts.
FREE = ("checkpoint_seconds", "checkpoint_steps", "save_memory", "device")


def comparable(spec: Spec) -> dict:
    """The settings that must be the same for a checkpoint to be continued to the same numbers."""
    told = json_safe(spec)
    told["runtime"] = {key: value for key, value in told["runtime"].items() if key not in FREE}
    return told


def with_defaults(identity: dict) -> dict:
    """A saved identity with the defaults of settings that did not exist when it was saved."""
    try:
        return identity | {"spec": comparable(build(Spec, identity.get("spec")))}
    except InputError:  # it has settings that no longer exist: compared as it is
        return identity


def identity(run: Run) -> dict:
    """The facts that must be the same for a checkpoint to be continued to the same numbers."""
    return {
        "spec": comparable(run.spec),
        "device": run.machine.device.type,
        "precision": run.machine.precision,
        "pretrained": run.pretrained.sha256,
        "start": run.start,
        "data": run.tasks.fingerprints,
        # Sums come out in the order that the threads make them.
        "threads": torch.get_num_threads() if run.machine.device.type == "cpu" else None,
    }


def differences(now: dict, then: dict, path: str = "") -> list[str]:
    """The dotted keys in which two nested objects differ, with both values."""
    found = []
    for key in sorted(now.keys() | then.keys()):
        a, b = now.get(key), then.get(key)
        if isinstance(a, list) and isinstance(b, list):
            a, b = ({str(i): item for i, item in enumerate(items)} for items in (a, b))
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} is {shown(a)}, was {shown(b)}")
    return found
