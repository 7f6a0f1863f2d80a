"""The house: imports run down one staircase, and what must stay light does not import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Each room, and the rooms that it may import. A room is a folder, or a module beside folders.
STAIRCASE = {
    "data": set(),
    "model": {"data"},
    "lora": {"data", "model"},
    "experiments.repetitions": set(),
    "experiments.config": {"data"},
    "experiments.terminal": {"data"},
    "experiments.records": {"data"},
}
READING = {"data", *(f"experiments.{room}" for room in ("config", "records", "repetitions", "terminal"))}
STAIRCASE["experiments.report"] = READING
STAIRCASE["experiments.tasks"] = {"data", "model", "experiments.config"}
STAIRCASE["experiments.training"] = READING - {"experiments.repetitions"} | {"model", "lora", "experiments.tasks"}
STAIRCASE["train"] = STAIRCASE["experiments.training"] | {"experiments.training"}
STAIRCASE["experiments.inference"] = STAIRCASE["train"] | {"experiments.repetitions"}
STAIRCASE["experiments.bench"] = STAIRCASE["train"] | {"train"}
STAIRCASE["eval"] = STAIRCASE["experiments.inference"] | {"experiments.inference", "experiments.report"}


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "experiments" else 1])


def imports() -> list[tuple[str, str]]:
    """(module, module that it imports), both of the project, imports inside functions included."""
    files = [path.relative_to(ROOT) for path in ROOT.glob("**/*.py")]
    files = [path for path in files if not path.parts[0].startswith((".", "tests", "runs", "exp/"))]
    files = [path for path in files if path.parts[0] not in ("exp", "build")]  # a link to experiments/; pip's copies
    modules = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in files}
    found = []
    for name, path in modules.items():
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(name, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                found += [(name, f"{node.module}.{alias.name}") for alias in node.names]
    return [(a, b) for a, b in found if b.split(".")[0] in {m.split(".")[0] for m in modules}]


def test_imports_run_down_one_staircase():
    found = imports()
    assert {room_of(name) for name, _ in found} <= STAIRCASE.keys()
    upwards = [
        f"{a} imports {b}" for a, b in found if room_of(a) != room_of(b) and room_of(b) not in STAIRCASE[room_of(a)]
    ]
    assert not upwards


def test_of_the_data_only_reading_and_statistics_are_in_a_report():
    used = {b for a, b in imports() if room_of(a) == "experiments.report" and room_of(b) == "data"}
    assert {name.split(".")[1] for name in used} <= {"files", "statistics", "writing"}


@pytest.mark.parametrize("module", ["lora.layer", "lora.variants", "lora.inject", "lora.several"])
def test_lora_can_be_copied_out(module):
    """It needs torch, and nothing of the project but itself."""
    assert {b.split(".")[0] for a, b in imports() if a == module} <= {"lora"}


@pytest.mark.parametrize("rooms", ["experiments.report", "experiments.config", "experiments.records", "eval"])
def test_what_reads_runs_does_not_wait_for_torch(rooms):
    folder = ROOT / rooms.replace(".", "/")
    names = [f"{rooms}.{file.stem}" for file in sorted(folder.glob("*.py"))] if folder.is_dir() else [rooms]
    code = f"import {', '.join(names)}, sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
