"""A trained run, ready to be used: its best model, tokenizer, and what its training knew."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from experiments.assemble import build_model, load_trained
from experiments.checkpoints import Checkpoint, read_checkpoint
from experiments.machine import Precision, choose_device, choose_precision
from experiments.schedule import trained_names
from experiments.spec import Spec, read_spec
from inputs import InputError
from model.checkpoint import surviving
from model.heads import TaskModel


@dataclass(frozen=True)
class Trained:
    folder: Path
    spec: Spec
    model: TaskModel  # in evaluation mode
    tokenizer: Tokenizer
    device: torch.device
    precision: Precision
    checkpoint: Checkpoint

    @property
    def metrics(self) -> dict[str, float | None]:
        """Of the evaluation that this model was the best at."""
        return self.checkpoint.progress.best.metrics


def load_run(folder: Path, device: str = "auto") -> Trained:
    """The best model of a run folder. Raises InputError for what is no run folder, has no best/ yet, is damaged, or was
    trained from other pretrained weights than are there now."""
    if not (folder / "spec.json").is_file():
        raise InputError(f"{folder}: is not a run folder (no spec.json)")
    best = surviving(folder / "best")
    if best is None:
        raise InputError(f"{folder}: has no best/ yet; it is written after the first evaluation")
    checkpoint = read_checkpoint(best)
    if checkpoint.progress.best is None:
        raise InputError(f"{best}: is not the checkpoint of an evaluation")
    spec = read_spec(folder / "spec.json")
    model, pretrained, tokenizer = build_model(spec)
    if pretrained.sha256 != checkpoint.identity.get("pretrained"):
        raise InputError(
            f"{folder}: {spec.model.pretrained} is not what it was trained from (other weights or tokenizer)"
        )
    until = checkpoint.progress.furthest + 1
    load_trained(best, model, pretrained, trained_names(model, spec.phases[:until]))
    place = choose_device(device)
    model.to(place).eval()
    return Trained(folder, spec, model, tokenizer, place, choose_precision(spec.amp, place), checkpoint)
