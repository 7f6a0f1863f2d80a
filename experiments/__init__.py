"""Experiments: their settings, tasks, training, reports, and trained runs at work."""

import sys
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]


def check_neighbours() -> None:
    """Raise ImportError where Python finds another package of the name of one of ours: a script's own data.py, for
    example, which lies before ours on sys.path, or has been imported already. Its functions would fail far from here,
    or do something else."""
    for name in ("data", "model", "lora"):
        module = sys.modules.get(name)
        spec = getattr(module, "__spec__", None) if module else find_spec(name)
        file = getattr(module, "__file__", None) or (spec and spec.origin)
        if not file or Path(file).resolve() != HOME / name / "__init__.py":
            there = file or next(iter(spec.submodule_search_locations or ()), None) if spec else None
            raise ImportError(
                f"experiments needs the package {name!r} beside it, {HOME / name}, but Python finds "
                f"{there or 'something without a file'} in its place; give that another name, or start where it is not",
                name=name,
            )


check_neighbours()
