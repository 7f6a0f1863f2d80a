"""A trained run, ready to be used: its best model, tokenizer, and what its training knew."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from data.files import InputError, shown, surviving
from data.labels import Outputs
from experiments.config.check import read_spec
from experiments.config.spec import Spec, TaskSpec
from experiments.tasks.several import make_head, one_of
from experiments.training.build import build_model, load_base, load_trained
from experiments.training.checkpoint import STATE, TRAIN_TEXTS, read_checkpoint
from experiments.training.phases import trained_names
from model.heads import TaskModel
from model.machine import Precision, choose_device, choose_precision
from model.tensors import read_tensors


@dataclass(frozen=True)
class Trained:
    folder: Path
    spec: Spec
    task: TaskSpec  # what it does; of a run with several tasks, the chosen one
    outputs: Outputs  # what those of its head mean
    metrics: dict[str, float | None]  # of this task, at the evaluation that this model was the best at
    known: frozenset[int] | None  # the marks of its training texts (data.splits.mark), None where none are kept
    model: TaskModel  # in evaluation mode
    tokenizer: Tokenizer
    device: torch.device
    precision: Precision


def choose_task(folder: Path, spec: Spec, name: str | None) -> str:
    """The name of the task that is meant. Raises InputError where that is not clear."""
    names = list(spec.task_specs())
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        asked = "has several tasks" if name is None else f"has no task {shown(name)}"
        raise InputError(f"{folder}: {asked}; choose one with --task: {', '.join(names)}")
    return name


def load_run(folder: Path, device: str = "auto", task: str | None = None) -> Trained:
    """The best model of a run folder. task: which one, of a run with several. Raises InputError for what is no run
    folder, has no best/ yet, is damaged, or was trained from other pretrained weights than are there now."""
    if not (folder / "spec.json").is_file():
        raise InputError(f"{folder}: is not a run folder (no spec.json)")
    best = surviving(folder / "best")
    if best is None:
        raise InputError(f"{folder}: has no best/; it is written at the first evaluation with a finite eval.metric")
    checkpoint = read_checkpoint(best)
    if checkpoint.progress.best is None:
        raise InputError(f"{best}: is not the checkpoint of an evaluation")
    spec = read_spec(folder / "spec.json")
    name, outputs = choose_task(folder, spec, task), checkpoint.outputs
    if outputs.keys() != spec.task_specs().keys():
        raise InputError(f"{best / STATE}: its tasks are not those of {folder / 'spec.json'}")
    base = load_base(spec)
    model, pretrained = build_model(spec, base, lambda base: make_head(spec, outputs, base)), base.pretrained
    if pretrained.sha256 != checkpoint.identity.get("pretrained"):
        raise InputError(
            f"{folder}: {spec.model.pretrained} is not what it was trained from (other weights or tokenizer)"
        )
    until = checkpoint.progress.furthest + 1
    load_trained(best, model, pretrained, trained_names(model, spec.phases[:until]))
    place = choose_device(device)
    model.to(place).eval()
    metrics = checkpoint.progress.best.metrics
    if spec.tasks:
        metrics = {key.removeprefix(f"{name}."): v for key, v in metrics.items() if key.startswith(f"{name}.")}
        model = one_of(model, name)
    marks = read_tensors(folder / TRAIN_TEXTS) if (folder / TRAIN_TEXTS).is_file() else {}
    known = frozenset(marks[name].tolist()) if name in marks else None
    precision, kind = choose_precision(spec.amp, place), spec.task_specs()[name]
    return Trained(folder, spec, kind, outputs[name], metrics, known, model, base.tokenizer, place, precision)
