"""Records of a run, made by hand."""

import copy
import json
from pathlib import Path

from experiments.records import read_records
from experiments.report.figures import summary_of
from experiments.report.run import Run

SPEC = {"name": "made", "seed": 3, "tasks": {"qa": {"task": "span_qa"}}, "eval": {"metric": "f1"}}


def records() -> list[dict]:
    """Two phases of ten steps; four evaluations, the third is the best."""

    def record(kind, step, seconds, **fields):
        return {"kind": kind, "step": step, "epoch": step / 10, "seconds": seconds, **fields}

    def training(step, loss, examples, tokens, rate):
        return record(
            "train", step, step, loss=loss, examples=examples, tokens=tokens, tokens_per_second=rate, padding=0.2,
            peak_memory_mb=100 + step,
        )  # fmt: skip

    def evaluation(step, loss, score):
        clock = {"train": float(step), "data": 0.1, "eval": 1.0, "checkpoint": 0.2}
        return record("eval", step, step + 0.5, phase="p", metrics={"loss": loss, "f1": score}, clock=clock)

    splits = {"train": 7, "dev": 5}
    return [
        record("run", 0, 0.0, program="train.py", spec=SPEC,
               device="cpu", precision="fp32", parameters=1000, steps_planned=20,
               pretrained={"name": "m"},
               data={"splits": {"qa": {key: {"examples": n, "kind": "questions"} for key, n in splits.items()}}}),
        record("phase", 0, 0.0, name="one", steps=10, trains=[{"parameters": 20}, {"parameters": 30}]),
        training(3, 4.0, 30, 1000, 100.0),
        training(5, 2.0, 10, 500, 50.0),
        evaluation(5, 2.5, 10.0),
        training(10, 1.0, 40, 1000, 100.0),
        evaluation(10, 2.0, 20.0),
        record("phase", 10, 10.0, name="two", steps=10, trains=[{"parameters": 250}]),
        evaluation(15, 1.5, 40.0),
        record("event", 17, 17.0, event="nonfinite", loss=None),
        training(20, 0.5, 40, 1000, 100.0),
        evaluation(20, 1.8, 35.0),
        record("end", 20, 21.0, reason="finished", best_bytes=5_000_000,
               clock={"train": 20.0, "data": 0.1, "eval": 4.0, "checkpoint": 0.2}),
    ]  # fmt: skip


def write(folder: Path, records: list[dict], torn: bytes = b"") -> Path:
    folder.mkdir(exist_ok=True)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_bytes(lines.encode() + torn)
    return folder


def read_summary(folder: Path) -> dict:
    return summary_of(Run(read_records(folder)))


def training(losses, every: int = 1, **fields) -> list[dict]:
    """Train records with these losses."""
    base = {
        "kind": "train",
        "examples": 4,
        "tokens": 100,
        "tokens_per_second": 50.0,
        "padding": 0.0,
        "peak_memory_mb": 9,
    }
    return [
        {**base, "step": i * every, "epoch": i / 10, "seconds": 1.0 * i, "loss": loss, **fields}
        for i, loss in enumerate(losses, 1)
    ]


def summary(tmp_path: Path, found: list[dict], **spec) -> dict:
    found = copy.deepcopy(found)
    found[0]["spec"] = SPEC | spec
    return read_summary(write(tmp_path / str(len(list(tmp_path.iterdir()))), found))
