"""A run's folder on disk: complete from the moment it is there, and continued after any interruption.

runs/<name>/  spec.json      the resolved experiment
              metrics.jsonl  the records, see experiments/records.py
              last/          checkpoint to resume from: what was trained, optimizer, random generators, progress
              best/          what was trained, as it was at the best evaluation
              train_texts.safetensors   fingerprints of the training texts (data.splits.mark), for `eval.py score`
runs/.<name>.lock            while a process works on the run
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from data.files import InputError, open_file, parse_json, read_json
from data.writing import is_aside, is_folder, recover, require_plain, surviving, write_json, write_whole
from experiments.records import FILE, VERSION
from experiments.training.base import unused_tensors
from experiments.training.checkpoint import (
    CHECKPOINT_FILES,
    CHECKPOINT_FORMAT,
    STATE,
    TRAIN_TEXTS,
    best_is_saved,
    read_checkpoint,
    restore,
    save,
    save_best,
    validate,
)
from experiments.training.identity import differences, identity, with_defaults
from experiments.training.state import Run
from experiments.training.writer import Writer, beyond
from model import machine
from model.tensors import read_tensors, write_tensors

# ---- one process at a time -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the run folder against other processes. The system releases it however this one ends. Raises InputError
    where another holds it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    require_plain(path)
    with path.open("a") as file:
        if os.fstat(file.fileno()).st_size:
            raise InputError(f"{path}: is a file of somebody's, and its name is needed for a lock; move it away")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
        except BlockingIOError:
            held = False
        except OSError:
            held = True  # a file system without locks: go on without
        try:
            # Its last holder removes the file; one that was opened just before that is no longer the lock.
            held = held and os.path.samestat(os.fstat(file.fileno()), path.stat())
        except FileNotFoundError:
            held = False
        if not held:
            raise InputError(f"{folder}: another process is working on this run; stop it first")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


# ---- create, or continue ---------------------------------------------------------------------------------------------


def check_folder(folder: Path, resume: bool, overwrite: bool) -> bool:
    """Whether there is a run to continue. Raises InputError where the folder cannot be used as asked: it is no folder,
    or not a run's, or what is in it would be lost. Reads only."""
    runs = folder.parent
    if (runs.exists() or runs.is_symlink()) and not runs.is_dir():
        raise InputError(f"{runs}: is a file; choose another --runs")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        found = "link" if folder.is_symlink() else "file"
        raise InputError(f"{folder}: is a {found}; choose another name with --set name=..., or another --runs")
    there = surviving(folder)
    if there is None or not any(there.iterdir()):
        return False
    if not ((there / "spec.json").is_file() if resume else is_run(there)):
        raise InputError(f"{folder}: is not empty and not a run folder; choose another name with --set name=...")
    if not resume and not overwrite:
        raise InputError(f"{folder}: already holds a run; continue it with --resume, or replace it with --overwrite")
    check_contents(there, overwrite)
    return resume


def check_free(folder: Path, resume: bool, overwrite: bool) -> None:
    """`check_folder`, and raise InputError where another process works on the run: better than after minutes of
    tokenizing."""
    check_folder(folder, resume, overwrite)
    if folder.exists():
        with claim(folder):
            pass


def is_run(folder: Path) -> bool:
    """Whether a folder holds the experiment and the records of a run."""
    try:
        with open_file(folder / FILE) as file:
            first = parse_json(file.readline(MOST_BYTES).decode())
        return first["kind"] == "run" and "name" in read_json(folder / "spec.json")
    except (InputError, OSError, ValueError, TypeError, KeyError):
        return False


MOST_BYTES = 2**24  # of a run record: one that is longer is none
FILES = ("spec.json", FILE, TRAIN_TEXTS)
CHECKPOINTS, PREDICTIONS = ("last", "best"), "predictions"
SCORED = ("predictions.json", "nbest.json", "null_odds.json", "predictions.jsonl")  # what `eval.py score` writes there
LITTER = (".DS_Store", "Thumbs.db")  # that file managers leave everywhere


def check_contents(folder: Path, replaced: bool) -> None:
    """Raise InputError naming the first thing in a run folder that writing to it would harm: a link or a pipe in place
    of one of our files, a file of somebody's in a checkpoint; where the whole folder is replaced, anything else too."""
    for entry in sorted(folder.iterdir()):
        if entry.name in FILES:
            require_plain(entry)
        elif entry.name == PREDICTIONS or entry.name in CHECKPOINTS:
            require_plain(entry, "folder")
            for file in sorted(entry.iterdir()) if entry.name in CHECKPOINTS else ():
                if file.name not in (*CHECKPOINT_FILES, *LITTER):
                    raise InputError(f"{file}: is not a checkpoint's, and would go with the next one; move it away")
        elif replaced and not is_aside(entry.name) and entry.name not in LITTER:
            raise InputError(f"{entry}: is not a run's, and would go with the run; move it away")
    for file in sorted((folder / PREDICTIONS).rglob("*")) if replaced else ():
        if file.name not in (*SCORED, *LITTER) and not is_folder(file):
            raise InputError(f"{file}: is not what `eval.py score` wrote, and would go with the run; move it away")


def open_folder(run: Run, resume: bool, overwrite: bool, anyway: bool = False) -> str | None:
    """Create the run folder, or continue the run that is in it. Returns a remark for the person, if there is one.
    `claim` it first.

    Raises InputError, and leaves everything as it was, for what `check_folder` names and for what cannot be continued.
    anyway: continue even if the checkpoint is of another experiment, provided that its tensors fit.
    """
    if check_folder(run.folder, resume or anyway, overwrite):  # again: much may have happened since set_up began
        return _continue(run, anyway)
    _begin(run)
    return "nothing to resume: started from the beginning" if resume or anyway else None


def _begin(run: Run) -> None:
    """Make a run folder with spec.json, the `run` record and a checkpoint of step 0, whole or not at all. It replaces
    an earlier run."""

    def fill(folder: Path) -> None:
        write_json(folder / "spec.json", asdict(run.spec))
        write_tensors(folder / TRAIN_TEXTS, _marks(run))
        run.writer = Writer(folder)
        _record_run(run)
        save(run, folder / "last", training=True)

    run.folder.parent.mkdir(parents=True, exist_ok=True)
    write_whole(run.folder, fill)


def _marks(run: Run) -> dict[str, Tensor]:
    """{task: fingerprints of its training texts}"""
    return {name: task.marks for name, task in run.tasks.tasks.items()}


def _record_run(run: Run) -> None:
    """Write the `run` record: which experiment, with what, on what."""
    unused = unused_tensors(run.model, run.pretrained)
    run.record(
        "run",
        version=VERSION,
        program=run.program,
        spec=asdict(run.spec),
        seed=run.spec.seed,
        **machine.git_state(Path(__file__).parent),
        **machine.describe(run.machine.device),
        precision=run.machine.precision,
        precision_reason=run.machine.reason,
        data={"fingerprints": run.tasks.fingerprints, "splits": run.tasks.splits},
        pretrained={"name": run.pretrained.name, "sha256": run.pretrained.sha256, "unused": unused},
        start={"from": run.spec.model.start_from or run.spec.model.adapter, "sha256": run.start},
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        steps_planned=len(run.plan.order),
    )


def _continue(run: Run, anyway: bool) -> str:
    """Put the run where its checkpoint was. Later records are cut off, to be written again."""
    folder = surviving(run.folder) or run.folder
    last = surviving(folder / "last")
    if last is None:
        raise InputError(f"{folder}: cannot be resumed, it has no checkpoint (last/); --overwrite starts over")
    state = read_checkpoint(last)
    saved = {"format": state.format, **with_defaults(state.identity)}
    changed = differences({"format": CHECKPOINT_FORMAT, **identity(run)}, saved)
    if changed and not anyway:
        begun = run.spec.model.start_from or run.spec.model.adapter
        told = [f"{each} (of {begun})" if each.startswith("start is ") else each for each in changed]
        raise InputError(
            f"{last}: belongs to another experiment: {'; '.join(told)}. Undo that, or continue with --resume-anyway"
        )
    validate(run, state, last / STATE)
    best_is_there = best_is_saved(folder, state)
    extra, torn = beyond(folder / FILE, state.metrics_bytes, state.metrics_sha256)
    known = read_tensors(folder / TRAIN_TEXTS) if (folder / TRAIN_TEXTS).exists() else {}  # it has trained on those too
    restore(run, state, last)

    # All of it was readable: from here on, something is written.
    for place in (run.folder, run.folder / "last", run.folder / "best"):
        recover(place)
    run.writer = Writer(run.folder, offset=state.metrics_bytes, seconds=state.seconds)
    run.saved = (run.progress.position, run.progress.step, run.writer.seconds)
    cut = f"; {extra} later record(s) cut off, to be written again" if extra else ""
    message = f"at step {run.progress.step}, epoch {run.epoch:.2f}{cut}{'; a torn last line removed' if torn else ''}"
    run.record("event", event="resumed", message=message, **machine.git_state(Path(__file__).parent))
    if changed:
        run.record("event", event="resumed anyway", message="; ".join(changed))
        _record_run(run)
        write_json(run.folder / "spec.json", asdict(run.spec))
        marks = {name: torch.cat([own, known.get(name, own)]).unique() for name, own in _marks(run).items()}
        write_tensors(run.folder / TRAIN_TEXTS, marks)
    if not best_is_there:
        save_best(run)
    return f"resumed {message}"
