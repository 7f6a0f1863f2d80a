"""Loading a trained run: its best model, its tokenizer, and what its training knew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from data.files import InputError, shown
from data.labels import Outputs
from data.readers import Row
from data.splits import mark
from data.writing import surviving
from experiments.config.check import read_spec
from experiments.config.spec import Spec
from experiments.inference.adapters import use_adapters
from experiments.inference.quantized import in_int8
from experiments.records import FILE, Records, read_records, run_folder
from experiments.training.base import load_base, prepare_machine
from experiments.training.checkpoint import STATE, TRAIN_TEXTS, Checkpoint, read_checkpoint
from experiments.training.identity import comparable, differences
from experiments.training.phases import parts_of
from experiments.training.start import load_best, settings_in
from experiments.training.writer import beyond
from model.heads import TaskModel
from model.machine import Machine, choose_machine
from model.pretrained import Pretrained
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
    step: int  # of that evaluation
    known: frozenset[int] | None  # fingerprints of its training texts (data.splits.mark), None where none are kept
    model: TaskModel  # in evaluation mode
    tokenizer: Tokenizer
    machine: Machine
    pretrained: Pretrained
    trained: frozenset[str]  # names of the parameters that trained before the best evaluation
    origin: dict  # what tells repetitions apart, beside settings: data and weights by their fingerprints; see origin_of

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


def settings_of(best: Path, checkpoint: Checkpoint, records: Records | None) -> Spec:
    """The settings that best/ was trained with, which it carries itself. Those of spec.json may be others: with
    --resume-anyway, the best model may be from before. Raises InputError where best/ belongs to another run, or where
    spec.json has been edited."""
    folder = best.parent
    spec = settings_in(checkpoint, best)
    if records:
        try:
            beyond(folder / FILE, checkpoint.metrics_bytes, checkpoint.metrics_sha256)
        except InputError as error:
            raise InputError(f"{best}: is not this run's, or its records are not; {error}") from None
    told = read_spec(folder / "spec.json")
    changed = differences(comparable(told), comparable(spec))
    if changed and not (records and records.resumed_anyway):
        raise InputError(
            f"{folder / 'spec.json'}: is not what best/ was trained with: {'; '.join(changed)}; restore it"
        )
    return spec


def origin_of(folder: Path, checkpoint: Checkpoint, records: Records | None) -> dict:
    """The data and weights that a run was trained on, and whether it has ended. One that was continued as something
    else repeats no other run."""
    found = {key: checkpoint.identity.get(key) for key in ("data", "pretrained", "start")}
    continued = str(folder) if records and records.resumed_anyway else None
    return found | {"ended": records is None or records.finished, "continued": continued}


def load_run(
    folder: Path,
    device: str = "auto",
    task: str | None = None,
    download: bool = False,
    own_process: bool = True,
    adapters: Mapping[str, float] | None = None,
    int8: bool = False,
) -> Trained:
    """The best model of a run folder. task: which one, of a run with several. download: ask a hub for pretrained
    weights that are not on this machine. own_process: set PyTorch up as in training (threads, determinism, memory),
    which a program that is not ours would not expect. adapters: {folder or hub id: weight}, to use instead of the run's
    own (see `use_adapters`). int8: the encoder's linear layers (see `in_int8`). Raises InputError for what is no run
    folder, has no best/ yet, is damaged, is put together from several runs, or was trained from other pretrained
    weights than are there now."""
    folder = run_folder(folder, "spec.json")
    best = surviving(folder / "best")
    if best is None:
        raise InputError(f"{folder}: has no best/; it is written at the first evaluation with a finite eval.metric")
    checkpoint = read_checkpoint(best)
    best_evaluation = checkpoint.progress.best
    if best_evaluation is None:
        raise InputError(f"{best}: is not the checkpoint of an evaluation")
    records = read_records(folder) if (folder / FILE).exists() else None
    spec = settings_of(best, checkpoint, records)
    name, outputs = choose_task(folder, spec, task), checkpoint.outputs
    if outputs.keys() != spec.tasks.keys():
        raise InputError(f"{best / STATE}: its tasks are not those of its settings")
    base = load_base(spec, download)
    pretrained = base.pretrained
    if pretrained.sha256 != checkpoint.identity.get("pretrained"):
        changed = "is not what it was trained from (other weights or tokenizer)"
        raise InputError(f"{folder}: {spec.model.pretrained} {changed}")
    model, names = load_best(spec, base, checkpoint, best)
    if adapters:
        parts = parts_of(model)
        own_weights = any(parts[name] not in ("head", "lora") for name in names)
        use_adapters(model, name, pretrained, own_weights, outputs[name], adapters, download)
    machine = prepare_machine(spec, device) if own_process else choose_machine(device, spec.amp)
    machine = in_int8(model, machine) if int8 else machine
    prefix = spec.prefix(name)
    model.to(machine.device).eval()
    found = best_evaluation.metrics.items()
    metrics = {key.removeprefix(prefix): value for key, value in found if key.startswith(prefix)}
    marks = read_tensors(folder / TRAIN_TEXTS) if (folder / TRAIN_TEXTS).is_file() else {}
    known = frozenset(marks[name].tolist()) if name in marks else None
    origin = origin_of(folder, checkpoint, records)
    built = (model, base.tokenizer, machine, pretrained, frozenset(names))
    return Trained(folder, spec, name, outputs[name], metrics, best_evaluation.step, known, *built, origin)


def trained_on(trained: Trained, rows: Sequence[Row]) -> int | None:
    """Count the rows that a run was trained on, as they are or nearly so; None where it has kept no fingerprints."""
    return None if trained.known is None else sum(mark(row) in trained.known for row in rows)
