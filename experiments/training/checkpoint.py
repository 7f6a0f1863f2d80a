"""Checkpoints of a run: what is in one, when one is due, how it is written, read and checked.

A checkpoint is a folder: checkpoint.json, the heads, the adapters in PEFT's format, encoder weights that changed, the
scores of the development examples at the best evaluation, and, in last/, the state of optimizer and random generators.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.files import InputError, read_json, sha256_of, shown
from data.labels import Outputs
from data.writing import surviving, write_json, write_whole
from experiments.config.optimizers import OPTIMIZERS
from experiments.config.parse import build
from experiments.records import SCORES
from experiments.training.identity import identity
from experiments.training.state import Progress, Run
from lora import adapter
from lora.inject import adapter_parameters, lora_layers
from model.families import published_parameter
from model.heads import TaskModel
from model.pretrained import Pretrained
from model.tensors import fill_parameters, read_tensors, require_finite, write_tensors

CHECKPOINT_FORMAT = 5  # raised whenever a checkpoint of before could not be continued to the same numbers
STATE, TRAINING, HEADS, ENCODER = "checkpoint.json", "training.safetensors", "head.safetensors", "encoder.safetensors"
CHECKPOINT_FILES = (STATE, TRAINING, HEADS, ENCODER, SCORES, adapter.WEIGHTS, adapter.CONFIG)
TRAIN_TEXTS = "train_texts.safetensors"  # in the run folder itself


@dataclass(frozen=True)
class Checkpoint:
    """checkpoint.json: what a checkpoint holds beside tensors."""

    format: int
    identity: dict  # see `identity`
    outputs: dict[str, Outputs]  # what those of each task's head mean
    sha256: dict[str, str]  # of each file beside it
    metrics_bytes: int  # how much of metrics.jsonl it goes with
    metrics_sha256: str  # of that much
    seconds: float  # how long the run had taken
    scaler: dict  # of torch.amp.GradScaler; empty where it is not in use
    progress: Progress


# ---- what it must agree with ----------------------------------------------------------------------------------------


def validate(run: Run, state: Checkpoint, where: Path) -> None:
    """Raise InputError for a checkpoint whose numbers cannot be those of this run."""
    progress, metric = state.progress, run.spec.eval.metric
    phases = len(run.spec.phases)
    if not (
        0 <= progress.phase_step <= progress.step <= progress.position <= len(run.plan.order)
        and -1 <= progress.phase <= progress.furthest
        and progress.phase < phases
    ):
        raise InputError(f"{where}: says step {progress.position} of {len(run.plan.order)}; it is of another run")
    if progress.best is not None and progress.best.metrics.get(metric) is None:
        raise InputError(f"{where}: its best evaluation has no metric {metric!r}; it is of another run")
    if not all(isinstance(value, int | float) for value in state.scaler.values()):
        raise InputError(f"{where}: its scaler holds {shown(state.scaler)}, which is not what was saved")
    if state.outputs != run.tasks.outputs:
        raise InputError(f"{where}: its labels (or a regression's scale) are not those of the data; start over")


def best_is_saved(folder: Path, state: Checkpoint) -> bool:
    """Whether best/ holds the evaluation that last/ calls the best. It is written right after last/: a process that
    died between the two has left the best model in last/ only. Raises InputError where it is nowhere."""
    expected, best = state.progress.best, surviving(folder / "best")
    if expected is None:
        return True
    if best is not None and read_checkpoint(best).progress.best == expected:
        return True
    if expected.step == state.progress.step:
        return False
    raise InputError(
        f"{folder / 'best'}: is not the best evaluation, of step {expected.step}; restore it, or start over"
    )


# ---- what was trained ------------------------------------------------------------------------------------------------


def _encoder_parameters(model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> dict[str, Tensor]:
    """{Hugging Face name: parameter} of the encoder's own weights that differ from the pretrained ones: those that
    trained, and those that were others from the beginning. Adapters are saved elsewhere."""
    adapters = adapter_parameters(model.encoder)
    chosen: dict[str, Tensor] = {}
    for name, parameter in model.encoder.named_parameters():
        if name not in adapters and (f"encoder.{name}" in trained or name in model.encoder.changed):
            chosen[published_parameter(name, pretrained.family)] = parameter
    return chosen


def save_trained(folder: Path, model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> None:
    """Write what differs from the pretrained checkpoint: heads, adapters (PEFT's format), and the encoder parameters
    among the names in `trained`, with those that were others from the beginning."""
    write_tensors(folder / HEADS, dict(model.head.named_parameters()))
    if any(lora_layers(model.encoder)):
        adapter.save_adapter(model.encoder, folder, pretrained.hugging_face_name, pretrained.name)
    encoder = _encoder_parameters(model, pretrained, trained)
    if encoder:
        write_tensors(folder / ENCODER, encoder)


def saved_weights(folder: Path, model: TaskModel, pretrained: Pretrained) -> set[str]:
    """Names of the encoder parameters that a checkpoint holds."""
    if not (folder / ENCODER).exists():
        return set()
    ours = {published_parameter(name, pretrained.family): name for name, _ in model.encoder.named_parameters()}
    return {ours[name] for name in read_tensors(folder / ENCODER) if name in ours}


def load_trained(folder: Path, model: TaskModel, pretrained: Pretrained, trained: Collection[str]) -> None:
    """The inverse of `save_trained`. Raises InputError naming what is missing, unexpected, misshapen or not finite."""
    fill_parameters(dict(model.head.named_parameters()), read_tensors(folder / HEADS), folder / HEADS)
    if any(lora_layers(model.encoder)):
        adapter.load_adapter(model.encoder, folder, pretrained.hugging_face_name)
    elif (folder / adapter.WEIGHTS).exists():
        raise InputError(f"{folder / adapter.WEIGHTS}: holds adapters; the experiment needs its lora group for them")
    encoder = _encoder_parameters(model, pretrained, trained)
    if encoder:
        fill_parameters(encoder, read_tensors(folder / ENCODER), folder / ENCODER)
    elif (folder / ENCODER).exists():
        raise InputError(f"{folder / ENCODER}: holds encoder weights; no phase of the experiment so far trains them")


# ---- reading and writing --------------------------------------------------------------------------------------------


def read_checkpoint(folder: Path) -> Checkpoint:
    """checkpoint.json of a checkpoint whose files are, bit for bit, those that were saved. Raises InputError otherwise:
    a copy that broke off, a file of another checkpoint, a disk that forgets."""
    path = folder / STATE
    raw = read_json(path)
    try:
        state = build(Checkpoint, raw)
    except InputError as error:
        if raw.get("format") == CHECKPOINT_FORMAT:
            raise InputError(f"{path}: cannot be used ({error}); restore it, or start over with --overwrite") from None
        found = shown(raw.get("format"))
        raise InputError(
            f"{path}: cannot be used (it has format {found}, this code {CHECKPOINT_FORMAT}); use the code that wrote it"
        ) from None
    for name, digest in state.sha256.items():
        if name not in CHECKPOINT_FILES:
            raise InputError(f"{path}: {shown(name)} is not the name of a checkpoint's file")
        if sha256_of(folder / name) != digest:
            raise InputError(f"{folder / name}: is not what was saved (sha256 differs); restore it, or start over")
    there = {name for name in CHECKPOINT_FILES if (folder / name).exists()} - {STATE}
    if HEADS not in state.sha256 or not there <= state.sha256.keys():
        unlisted = min(there - state.sha256.keys(), default=HEADS)
        raise InputError(f"{path}: does not list {unlisted}; restore it, or start over with --overwrite")
    return state


def save(run: Run, target: Path, training: bool) -> None:
    """Write a checkpoint: what was trained and where the run is, and, with `training`, the rest of what it takes to
    continue bit for bit."""

    def fill(folder: Path) -> None:
        save_trained(folder, run.model, run.pretrained, run.trained())
        if run.best_scores:
            write_tensors(folder / SCORES, run.best_scores)
        if training:
            names = {parameter: name for name, parameter in run.model.named_parameters()}
            write_tensors(folder / TRAINING, training_tensors(run.optimizer, names))
        state = Checkpoint(
            format=CHECKPOINT_FORMAT,
            identity=identity(run),
            outputs=run.tasks.outputs,
            sha256={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
            metrics_bytes=run.writer.offset,
            metrics_sha256=run.writer.sha256,
            seconds=run.writer.seconds,
            scaler=run.scaler.state_dict(),
            progress=run.progress,
        )
        write_json(folder / STATE, asdict(state))

    with run.progress.clock.timing("checkpoint"):
        write_whole(target, fill)


def restore(run: Run, state: Checkpoint, folder: Path) -> None:
    """Put the run where a checkpoint was: weights, optimizer, random generators, progress. Writes nothing."""
    run.progress = state.progress
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    load_trained(folder, run.model, run.pretrained, run.trained())
    restore_training(folder / TRAINING, run.optimizer, run.spec.optim.name, names)
    if (folder / SCORES).is_file():
        run.best_scores = read_tensors(folder / SCORES)
    if state.scaler.keys() == run.scaler.state_dict().keys():
        run.scaler.load_state_dict(state.scaler)


def save_last(run: Run) -> None:
    """Write last/, to resume from."""
    save(run, run.folder / "last", training=True)
    run.saved = (run.progress.position, run.progress.step, run.writer.seconds)


def save_best(run: Run) -> None:
    """Write best/, to use."""
    save(run, run.folder / "best", training=False)


def checkpoint_due(run: Run) -> bool:
    """Whether the spec's number of steps or seconds has passed since the last checkpoint."""
    runtime, (position, _, seconds) = run.spec.runtime, run.saved
    if runtime.checkpoint_steps is not None and run.progress.position - position >= runtime.checkpoint_steps:
        return True
    return runtime.checkpoint_seconds is not None and run.writer.seconds - seconds >= runtime.checkpoint_seconds


def training_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Any, str]) -> dict[str, Tensor]:
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


def restore_training(path: Path, optimizer: torch.optim.Optimizer, kind: str, names: Mapping[Any, str]) -> None:
    """Read `training_tensors` back from a file. kind: the optimizer's name in the spec. Raises InputError for the state
    of another model or optimizer."""
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
        if parameter is None or state.keys() != OPTIMIZERS[kind].state:
            raise InputError(f"{path}: {', '.join(sorted(state))} of {name} is not what this run's optimizer keeps")
        for key, value in state.items():
            if value.shape != (() if key == "step" else parameter.shape):
                raise InputError(f"{path}: {key} of {name} is {tuple(value.shape)}, the model's is another shape")
            require_finite(value, f"{key} of {name}", path)
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
