"""A run's folder on disk: complete from the moment it is there, and continued after any interruption.

runs/<name>/  spec.json      the resolved experiment
              metrics.jsonl  the diary, see experiments/runlog.py
              last/          checkpoint to resume from: what was trained, optimizer, random generators, progress
              best/          what was trained, as it was at the best evaluation
runs/.<name>.lock            while a process works on the run
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments import machine, runlog
from experiments.assemble import load_trained, save_trained
from experiments.parse import build
from experiments.run import Progress, Run
from experiments.spec import Spec
from inputs import InputError, read_json, shown
from model.checkpoint import (
    recover,
    restore_training,
    sha256_of,
    surviving,
    training_tensors,
    write_json,
    write_tensors,
    write_whole,
)

CHECKPOINT_FORMAT = 2  # raised whenever a checkpoint of before could not be continued to the same numbers
STATE, TRAINING = "checkpoint.json", "training.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """checkpoint.json: what a checkpoint holds beside tensors."""

    format: int
    identity: dict  # see `identity`
    sha256: dict[str, str]  # of each file beside it
    metrics_bytes: int  # how much of metrics.jsonl it goes with
    seconds: float  # how long the run had taken
    recorded_at: float
    scaler: dict  # of torch.amp.GradScaler; empty where it is not in use
    progress: Progress


# ---- one process at a time -------------------------------------------------------------------------------------------


def _lock(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the run folder against other processes. The system lets go of it however this one ends. Raises InputError
    where another holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = _lock(folder)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder removes the file; one that was opened just before that is no longer the lock.
            held = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except BlockingIOError:
            held = False
        except OSError:
            held = True  # a file system without locks: go on without
        if not held:
            raise InputError(f"{folder}: another process is working on this run; stop it first")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


# ---- create, or continue ---------------------------------------------------------------------------------------------


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
    if _lock(folder).exists():
        with claim(folder):
            pass


def open_folder(run: Run, resume: bool, overwrite: bool, anyway: bool = False) -> str | None:
    """Create the run folder, or continue the run that is in it. Returns a remark for the person, if there is one.
    `claim` it first.

    Raises InputError, and leaves everything as it was, for what `check_folder` names and for what cannot be continued.
    anyway: continue also where the checkpoint is of another experiment, as far as its tensors fit.
    """
    if not resume or not run.folder.is_dir() or not any(run.folder.iterdir()):
        _begin(run)
        return "nothing to resume: started from the beginning" if resume else None
    return _continue(run, anyway)


def _begin(run: Run) -> None:
    """A run folder with spec.json, the `run` record and a checkpoint of step 0, there as a whole or not at all; what
    an earlier run left is replaced."""

    def fill(folder: Path) -> None:
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
        _save(run, folder / "last", training=True)

    write_whole(run.folder.resolve(), fill)  # resolved: the folder itself may be a link to a larger disk


def _continue(run: Run, anyway: bool) -> str:
    """Put the run where its checkpoint was; what metrics.jsonl says beyond that is cut off and will be written anew."""
    folder, last, best = run.folder, surviving(run.folder / "last"), surviving(run.folder / "best")
    if last is None:
        raise InputError(f"{folder}: cannot be resumed, it has no checkpoint (last/); --overwrite starts over")
    state = read_checkpoint(last)
    changed = differences({"format": CHECKPOINT_FORMAT, **identity(run)}, {"format": state.format, **state.identity})
    if changed and not anyway:
        raise InputError(
            f"{last}: belongs to another experiment: {'; '.join(changed)}. Undo that, or continue with --resume-anyway"
        )
    progress, diary = state.progress, folder / runlog.FILE
    if not (0 <= progress.position <= len(run.order) and -1 <= progress.phase < len(run.spec.phases)):
        raise InputError(f"{last / STATE}: says step {progress.position} of {len(run.order)}; it is of another run")
    metric = run.spec.eval.metric
    if progress.best is not None and progress.best.metrics.get(metric) is None:
        raise InputError(f"{last / STATE}: its best evaluation has no metric {metric!r}; it is of another run")
    if progress.best is not None and best is None:
        raise InputError(f"{folder / 'best'}: is missing; restore it, or start over with --overwrite")
    extra, torn = runlog.beyond(diary, state.metrics_bytes)

    run.progress = progress
    load_trained(last, run.model, run.pretrained, run.trained())
    restore_training(last / TRAINING, run.optimizer, {p: name for name, p in run.model.named_parameters()})
    if state.scaler.keys() == run.scaler.state_dict().keys():
        run.scaler.load_state_dict(state.scaler)
    # All of it was readable: from here on, something is written.
    recover(folder / "last")
    recover(folder / "best")
    run.log = runlog.RunLog(folder, offset=state.metrics_bytes, seconds=state.seconds)
    run.recorded_at = state.recorded_at
    run.saved_at = (progress.position, run.log.seconds)
    cut = f"; {extra} later record(s) cut off, to be written again" if extra else ""
    message = f"at step {progress.step}, epoch {run.epoch:.2f}{cut}{'; a torn last line removed' if torn else ''}"
    run.record("event", event="resumed", message=message, **machine.git_state(Path(__file__).parent))
    if changed:
        run.record("event", event="resumed anyway", message="; ".join(changed))
    return f"resumed {message}"


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
        if isinstance(a, list) and isinstance(b, list):
            a, b = ({str(i): item for i, item in enumerate(items)} for items in (a, b))
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{path}{key}.")
        elif a != b:
            found.append(f"{path}{key} is {shown(a)}, was {shown(b)}")
    return found


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def read_checkpoint(folder: Path) -> Checkpoint:
    """checkpoint.json of a checkpoint whose files are, bit for bit, those that were saved. Raises InputError otherwise:
    a copy that broke off, a file of another checkpoint, a disk that forgets."""
    path = folder / STATE
    raw = read_json(path)
    try:
        state = build(Checkpoint, raw)
    except InputError as error:
        if raw.get("format") == CHECKPOINT_FORMAT:
            why = str(error)
        else:
            why = f"it has format {shown(raw.get('format'))}, this code {CHECKPOINT_FORMAT}"
        raise InputError(f"{path}: cannot be used ({why}); restore it, or start over with --overwrite") from None
    for name, digest in state.sha256.items():
        if Path(name).name != name:
            raise InputError(f"{path}: {name!r} is not the name of a file beside it")
        if sha256_of(folder / name) != digest:
            raise InputError(f"{folder / name}: is not what was saved (sha256 differs); restore it, or start over")
    return state


def _save(run: Run, target: Path, training: bool) -> None:
    """Write a checkpoint: what was trained and where the run is, and, with `training`, the rest of what it takes to
    continue bit for bit."""
    started = time.perf_counter()

    def fill(folder: Path) -> None:
        save_trained(folder, run.model, run.pretrained, run.trained())
        if training:
            names = {parameter: name for name, parameter in run.model.named_parameters()}
            write_tensors(folder / TRAINING, training_tensors(run.optimizer, names))
        state = Checkpoint(
            format=CHECKPOINT_FORMAT,
            identity=identity(run),
            sha256={file.name: sha256_of(file) for file in sorted(folder.iterdir())},
            metrics_bytes=run.log.offset,
            seconds=run.log.seconds,
            recorded_at=run.recorded_at,
            scaler=run.scaler.state_dict(),
            progress=run.progress,
        )
        write_json(folder / STATE, asdict(state))

    write_whole(target, fill)
    run.progress.clock.checkpoint += time.perf_counter() - started


def save_last(run: Run) -> None:
    """Write last/, to resume from."""
    _save(run, run.folder / "last", training=True)
    run.saved_at = (run.progress.position, run.log.seconds)


def save_best(run: Run) -> None:
    """Write best/, to use."""
    _save(run, run.folder / "best", training=False)


def checkpoint_due(run: Run) -> bool:
    """Whether the spec's number of steps or seconds has passed since the last checkpoint."""
    runtime, (position, seconds) = run.spec.runtime, run.saved_at
    if runtime.checkpoint_steps is not None and run.progress.position - position >= runtime.checkpoint_steps:
        return True
    return runtime.checkpoint_seconds is not None and run.log.seconds - seconds >= runtime.checkpoint_seconds
