"""Summaries of many runs, on all cores."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from experiments.records import FILE
from experiments.report.analysis import summarise
from experiments.report.charts import curves
from experiments.report.diary import read_diary

WORTH_A_PROCESS = 20_000_000  # bytes of diaries in all; below it, starting processes takes longer than reading


def read_summary(folder: Path, threshold: float = 0.01) -> dict:
    """The summary of the run in a folder. Raises InputError."""
    return summarise(read_diary(folder), threshold)


def read_with_curves(folder: Path, threshold: float = 0.01) -> tuple[dict, dict]:
    """The same, and what is drawn of it."""
    diary = read_diary(folder)
    return summarise(diary, threshold), curves(diary)


def read_all(folders: list[Path], threshold: float = 0.01, drawn: bool = False) -> list:
    """The summaries of several runs, in their order; with their curves where they are to be drawn. Raises InputError
    for the first that has none."""
    read = partial(read_with_curves if drawn else read_summary, threshold=threshold)
    size = sum((folder / FILE).stat().st_size for folder in folders if (folder / FILE).is_file())
    if len(folders) < 2 or size < WORTH_A_PROCESS:
        return [read(folder) for folder in folders]
    with ProcessPoolExecutor(min(len(folders), os.cpu_count() or 1)) as pool:
        return list(pool.map(read, folders))
