"""A tiny experiment (the `experiment` fixture writes its file): how tests run it, and how they compare runs."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import train
from experiments.config.check import read_spec
from experiments.records import read_records
from experiments.training.folder import open_folder

ROOT = Path(__file__).resolve().parents[1]
FILES = ["best", "last", "metrics.jsonl", "spec.json", "train_texts.safetensors"]  # of a run folder
TIMING = {"seconds", "time", "examples_per_second", "tokens_per_second", "peak_memory_mb", "clock", "eval_seconds"}


def set_up(path: Path, tmp_path: Path, *assignments: str) -> train.Run:
    return train.set_up(read_spec(path, list(assignments)), tmp_path / "runs" / "tiny", tmp_path)


def run_main(path: Path, tmp_path: Path, *more: str) -> int:
    return train.main(["--exp", str(path), "--runs", str(tmp_path / "runs"), *more])


def started(path: Path, tmp_path: Path, *assignments: str) -> train.Run:
    """A run with its folder open and its first phase entered."""
    run = set_up(path, tmp_path, *assignments)
    open_folder(run, resume=False, overwrite=True)
    train.enter_phase(run, 0)
    return run


def records_of(folder: Path, *kinds: str) -> list[dict]:
    """The whole records without the fields that hold times, resumptions apart."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    wanted = [
        r for r in records if r.get("event") not in ("resumed", "interrupted") and (not kinds or r["kind"] in kinds)
    ]
    return [{key: value for key, value in r.items() if key not in TIMING} for r in wanted]


@contextmanager
def dying_at(position: int, monkeypatch) -> Iterator[None]:
    """Within it, training is killed before the step at a position, and has to be."""
    take_step = train.take_step

    def dying(run, batches):
        if run.progress.position == position:
            raise SystemError("killed")
        take_step(run, batches)

    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(train, "take_step", dying)
        yield


def start_process(path: Path, tmp_path: Path, *more: str, **how) -> subprocess.Popen:
    command = [sys.executable, "train.py", "--exp", str(path), "--runs", str(tmp_path / "runs"), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def wait_for_step(folder: Path, step: int) -> None:
    for _ in range(600):
        if (folder / "metrics.jsonl").exists() and any(r["step"] >= step for r in read_records(folder).records):
            return
        time.sleep(0.05)
    raise TimeoutError("the run did not get there")


def assert_same_run(whole: Path, resumed: Path) -> None:
    """The same records but for times, and the same tensors bit for bit."""
    kinds = ("train", "eval", "phase", "end")
    assert records_of(whole, *kinds) == records_of(resumed, *kinds)
    files = sorted(p.relative_to(whole) for p in whole.glob("*/*.safetensors"))
    assert len(files) >= 5
    for file in files:
        assert (whole / file).read_bytes() == (resumed / file).read_bytes(), file
