"""Loading a trained run: its best model, its tokenizer, and what its training knew."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data.files import InputError, shown, surviving
from data.labels import Outputs
from data.readers import Row
from data.splits import mark
from experiments.config.check import read_spec
from experiments.config.spec import Spec
from experiments.training.build import build_model, load_base
from experiments.training.checkpoint import STATE, TRAIN_TEXTS, load_trained, read_checkpoint
from experiments.training.phases import trained_names
from model.heads import TaskModel
from model.machine import Machine, choose_machine
from model.tensors import read_tensors


@dataclass(frozen=True)
class Scored:
    """Result of scoring a run on a file."""

    kind: str  # span_qa or texts: runs of one kind stand in one table
    counts: dict[str, int]  # of the file
    result: dict  # of the run
    files: dict[str, str]  # {name: content} of its predictions


@dataclass(frozen=True)
class Trained:
    folder: Path
    spec: Spec
    name: str  # of the task that is asked; of several, the chosen one
    outputs: Outputs  # the meaning of its head's outputs
    metrics: dict[str, float | None]  # of this task, at the best evaluation
    known: frozenset[int] | None  # fingerprints of its training texts (data.splits.mark), None where none are kept
    model: TaskModel  # in evaluation mode
    tokenizer: Tokenizer
    machine: Machine
    data: dict  # fingerprints of what it was trained on, {task: {split: sha256}}

    @property
    def task(self) -> Any:
        """The spec of the task: a SpanQATask, ClassificationTask, ..."""
        return self.spec.tasks[self.name]


def choose_task(folder: Path, spec: Spec, name: str | None) -> str:
    """The name of the task that is meant. Raises InputError where that is not clear."""
    names = list(spec.tasks)
    if name is None and len(names) == 1:
        return names[0]
    if name is None or name not in names:
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
    if outputs.keys() != spec.tasks.keys():
        raise InputError(f"{best / STATE}: its tasks are not those of {folder / 'spec.json'}")
    base = load_base(spec)
    model, pretrained = build_model(spec, base, outputs), base.pretrained
    if pretrained.sha256 != checkpoint.identity.get("pretrained"):
        changed = "is not what it was trained from (other weights or tokenizer)"
        raise InputError(f"{folder}: {spec.model.pretrained} {changed}")
    load_trained(best, model, pretrained, trained_names(model, spec.phases[: checkpoint.progress.furthest + 1]))
    machine, prefix = choose_machine(device, spec.amp), spec.prefix(name)
    model.to(machine.device).eval()
    found = checkpoint.progress.best.metrics.items()
    metrics = {key.removeprefix(prefix): value for key, value in found if key.startswith(prefix)}
    marks = read_tensors(folder / TRAIN_TEXTS) if (folder / TRAIN_TEXTS).is_file() else {}
    data = checkpoint.identity.get("data") or {}
    known = frozenset(marks[name].tolist()) if name in marks else None
    return Trained(folder, spec, name, outputs[name], metrics, known, model, base.tokenizer, machine, data)


def trained_on(trained: Trained, rows: Sequence[Row]) -> int | None:
    """Count the rows that a run was trained on, as they are or nearly so; None where it has kept no fingerprints."""
    return None if trained.known is None else sum(mark(row) in trained.known for row in rows)
