"""A run: what it is in memory, and its folder on disk, which can be continued after any interruption.

runs/<name>/  spec.json      the resolved experiment
              metrics.jsonl  the diary, see experiments/runlog.py
              last/          checkpoint to resume from: what was trained, optimizer, random generators, progress
              best/          what was trained, as it was at the best evaluation
"""

import json
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from data.batching import TrainingOrder
from experiments import machine, runlog
from experiments.assemble import load_trained, save_trained
from experiments.schedule import Group
from experiments.span_qa import SpanQA
from experiments.spec import Spec
from inputs import InputError, read_json
from model.checkpoint import (
    read_tensors,
    recover,
    restore_training,
    training_tensors,
    write_json,
    write_tensors,
    write_whole,
)
from model.heads import TaskModel
from model.pretrained import Pretrained

CHECKPOINT_FORMAT = 1  # raised whenever a checkpoint of before could not be continued to the same numbers


# ---- in memory -------------------------------------------------------------------------------------------------------


@dataclass
class Sums:
    """What has added up since the last train record."""

    loss: float = 0.0  # of examples, not of batches
    examples: int = 0
    tokens: int = 0  # real ones
    padded_tokens: int = 0  # real ones and padding
    steps: int = 0
    norm: float = 0.0
    norm_max: float = 0.0
    clipped: int = 0  # steps whose gradient was longer than optim.clip


@dataclass
class Progress:
    """Where a run is: everything beside tensors that decides what it will write next."""

    position: int = 0  # places of the data order done, skipped ones included
    step: int = 0  # optimizer steps taken
    phase: int = -1  # index into spec.phases; -1: not begun
    phase_step: int = 0  # optimizer steps when the phase began
    best: dict | None = None  # step, epoch, phase and metrics of the best evaluation so far
    since_best: int = 0  # evaluations since then
    nonfinite: int = 0  # steps in a row that were skipped because the loss or the gradient was not finite
    stopped_early: bool = False
    sums: Sums = field(default_factory=Sums)
    # Seconds spent in each activity, over all processes that worked on the run.
    clock: dict = field(default_factory=lambda: dict.fromkeys(("train", "data", "eval", "checkpoint"), 0.0))


@dataclass
class Run:
    """Everything `train.py` works on."""

    spec: Spec
    folder: Path
    device: torch.device
    precision: machine.Precision
    model: TaskModel
    pretrained: Pretrained
    task: SpanQA
    order: TrainingOrder
    phase_ends: list[int]  # position after each phase
    evaluate_at: set[int]  # positions after which an evaluation is due
    groups: list[Group]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress = field(default_factory=Progress)
    log: runlog.RunLog | None = None  # open once the folder is
    saved_at: tuple[int, float] = (0, 0.0)  # position and seconds of the last checkpoint
    recorded_at: float = 0.0  # progress.clock["train"] at the last train record

    @property
    def epoch(self) -> float:
        return self.order.epochs_at(self.progress.position)

    def phase_span(self, index: int) -> tuple[int, int]:
        """The positions where a phase begins and ends."""
        return self.phase_ends[index - 1] if index else 0, self.phase_ends[index]

    def phase_steps(self, index: int) -> int:
        begin, end = self.phase_span(index)
        return end - begin

    def record(self, kind: str, **fields) -> dict:
        return self.log.write(kind, self.progress.step, self.epoch, **fields)

    def trained(self) -> set[str]:
        """Names of the parameters that have trained in this phase or an earlier one."""
        until = self.progress.phase + 1
        return {name for group in self.groups if any(group.peaks[:until]) for name in group.names}


# ---- on disk: create, or continue ------------------------------------------------------------------------------------


def check_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Raise InputError where the run folder cannot be used as asked. Called before anything slow; writes nothing."""
    for place in (folder, folder.parent):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file; choose another name with --set name=..., or another --runs")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / "spec.json").is_file():
        raise InputError(f"{folder}: is not empty and not a run folder; choose another name with --set name=...")
    if not resume and not overwrite:
        raise InputError(f"{folder}: already holds a run; continue it with --resume, or replace it with --overwrite")


def open_folder(run: Run, resume: bool, overwrite: bool) -> str | None:
    """Create the run folder, or continue the run that is in it. Returns a remark for the person, if there is one.

    Raises InputError, and leaves everything as it was, for what `check_folder` names, a checkpoint of another
    experiment, or results to resume from without a checkpoint.
    """
    folder = run.folder
    check_folder(folder, resume, overwrite)
    if not resume or not folder.is_dir() or not any(folder.iterdir()):
        _begin(run)
        return "nothing to resume: started from the beginning" if resume else None
    recover(folder / "last")
    recover(folder / "best")
    if (folder / "last").is_dir():
        _continue(run, folder / "last")
        return f"resumed at step {run.progress.step}, epoch {run.epoch:.2f}"
    # Stopped before its first checkpoint: nothing is lost by starting over, if it is the same run.
    changed = differences(as_json(run.spec), read_json(folder / "spec.json"))
    if changed or (folder / "best").exists():
        why = f"belongs to another experiment: {'; '.join(changed)}" if changed else "has a best/ but no last/"
        raise InputError(f"{folder}: cannot be resumed, it {why}. --overwrite replaces it")
    _begin(run)
    return "stopped before its first checkpoint: started from the beginning"


def _begin(run: Run) -> None:
    """A run folder with spec.json, the `run` record and a first checkpoint; what an earlier run left is removed."""
    folder = run.folder
    for name in ("last", "best", "last.old", "best.old"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "spec.json", asdict(run.spec))
    run.log = runlog.RunLog(folder)
    run.record(
        "run",
        spec=asdict(run.spec),
        seed=run.spec.seed,
        **machine.git_state(Path(__file__).parent),
        **machine.describe(run.device),
        precision=run.precision.name,
        precision_reason=run.precision.reason,
        data={"fingerprints": run.task.fingerprints, **run.task.counts},
        pretrained={"name": run.pretrained.name, "sha256": run.pretrained.sha256, "unused": run.pretrained.unused},
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        steps_planned=len(run.order),
    )
    save_last(run)  # of step 0: from here on there is always a checkpoint, whenever the process dies


def _continue(run: Run, checkpoint: Path) -> None:
    """Put the run where the checkpoint was; what metrics.jsonl says beyond that is cut off and will be written anew."""
    state = read_json(checkpoint / "checkpoint.json")
    if state.get("format") != CHECKPOINT_FORMAT:
        raise InputError(f"{checkpoint}: has checkpoint format {state.get('format')!r}, this code {CHECKPOINT_FORMAT}")
    now, then = identity(run), state["identity"]
    if now != then:
        lines = "; ".join(differences(now, then))
        raise InputError(f"{checkpoint}: belongs to another experiment. {lines}")
    diary, size = run.folder / runlog.FILE, state["metrics_bytes"]
    if not diary.is_file() or diary.stat().st_size < size:
        raise InputError(f"{diary}: is shorter than the {size} bytes that {checkpoint} goes with; restore it")
    progress = dict(state["progress"])
    run.progress = Progress(**progress | {"sums": Sums(**progress["sums"])})
    load_trained(checkpoint, run.model, run.pretrained, run.trained())
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    restore_training(read_tensors(checkpoint / "training.safetensors"), run.optimizer, names)
    run.scaler.load_state_dict(state["scaler"])
    run.log = runlog.RunLog(run.folder, offset=size, seconds=state["seconds"])
    run.recorded_at = state["recorded_at"]
    run.saved_at = (run.progress.position, run.log.seconds)
    run.record("event", event="resumed", message=f"from {checkpoint.name}/ at step {run.progress.step}")


def as_json(spec: Spec) -> dict:
    """The spec as its spec.json reads back: lists for tuples."""
    return json.loads(json.dumps(asdict(spec)))


def identity(run: Run) -> dict:
    """What must be the same for a checkpoint to be continued to the same numbers."""
    spec = as_json(run.spec)
    for key in ("checkpoint_seconds", "checkpoint_steps", "device"):  # of the device, what "auto" came to counts
        del spec["runtime"][key]
    return {
        "spec": spec,
        "device": run.device.type,
        "precision": run.precision.name,
        "pretrained": run.pretrained.sha256,
        "data": run.task.fingerprints,
    }


def differences(now: dict, then: dict, path: str = "") -> list[str]:
    """The dotted keys in which two nested objects differ, with both values."""
    found = []
    for key in sorted(now.keys() | then.keys()):
        a, b = now.get(key), then.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} is {a!r}, was {b!r}")
    return found


# ---- on disk: checkpoints --------------------------------------------------------------------------------------------


def save_last(run: Run) -> None:
    """Write last/: what was trained, and everything needed to continue bit for bit."""
    started = time.perf_counter()
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    state = {
        "format": CHECKPOINT_FORMAT,
        "identity": identity(run),
        "metrics_bytes": run.log.offset,
        "seconds": run.log.seconds,
        "recorded_at": run.recorded_at,
        "scaler": run.scaler.state_dict(),
        "progress": asdict(run.progress),
    }

    def fill(folder: Path) -> None:
        save_trained(folder, run.model, run.pretrained, run.trained())
        write_tensors(folder / "training.safetensors", training_tensors(run.optimizer, names))
        write_json(folder / "checkpoint.json", state)

    write_whole(run.folder / "last", fill)
    run.progress.clock["checkpoint"] += time.perf_counter() - started
    run.saved_at = (run.progress.position, run.log.seconds)


def save_best(run: Run) -> None:
    """Write best/: what was trained, and which evaluation it belongs to."""
    started = time.perf_counter()

    def fill(folder: Path) -> None:
        save_trained(folder, run.model, run.pretrained, run.trained())
        write_json(
            folder / "checkpoint.json",
            {"format": CHECKPOINT_FORMAT, "identity": identity(run), "best": run.progress.best},
        )

    write_whole(run.folder / "best", fill)
    run.progress.clock["checkpoint"] += time.perf_counter() - started


def checkpoint_due(run: Run) -> bool:
    """Whether the spec's number of steps or seconds has passed since the last checkpoint."""
    runtime, (position, seconds) = run.spec.runtime, run.saved_at
    if runtime.checkpoint_steps is not None and run.progress.position - position >= runtime.checkpoint_steps:
        return True
    return runtime.checkpoint_seconds is not None and run.log.seconds - seconds >= runtime.checkpoint_seconds
