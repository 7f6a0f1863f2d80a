"""Small runs for tests of export and of adapters: three seconds for all of them."""

import json
from pathlib import Path

import eval as eval_py
import train
from data.synthetic.qa import qa_dataset

FEW = {"train_limit": 24, "dev_limit": 12, "max_length": 64, "batch_size": 8}
QA = {
    "task": "span_qa",
    "data": {**FEW, "source": "synthetic_qa", "doc_stride": 20, "max_query_length": 24},
}
MOOD = {"task": "classification", "pooling": "cls_pooler", "data": {**FEW, "source": "synthetic_sentiment"}}
STARS = {"task": "regression", "pooling": "cls_pooler", "data": {**FEW, "source": "synthetic_rating"}}


def call(*arguments) -> int:
    """The exit code of eval.py."""
    try:
        return eval_py.main([*map(str, arguments)])
    except SystemExit as stopped:  # by argparse
        return stopped.code


def refused(capsys, *arguments) -> str:
    """What eval.py says, in one line, to arguments that it refuses."""
    capsys.readouterr()
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == "" and line.isprintable()
    return line


def write_experiment(folder: Path, name: str, base: Path, **changes) -> Path:
    raw = {
        "model": {"pretrained": str(base)},
        "lora": {"rank": 4, "alpha": 8},
        "optim": {"lr": 0.01},
        "phases": [{"name": "one", "epochs": 1, "train": ["head", "lora"]}],
        "amp": "off",
        "runtime": {"device": "cpu", "threads": 1},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(raw | changes))
    return path


def train_run(folder: Path, name: str, base: Path, **changes) -> Path:
    """A run in folder/runs. changes: of the experiment."""
    path = write_experiment(folder, name, base, **changes)
    assert train.main(["--exp", str(path), "--runs", str(folder / "runs"), "--data-root", str(folder)]) == 0
    return folder / "runs" / name


def write_texts(folder: Path, labels: list[str], count: int = 24) -> str:
    """A file of texts with labels. Returns its name."""
    lines = [{"text": f"number {i}", "label": labels[i % len(labels)]} for i in range(count)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return "texts.jsonl"


def write_questions(folder: Path) -> Path:
    path = folder / "asked.json"
    path.write_text(json.dumps(qa_dataset("dev", 4)))
    return path
