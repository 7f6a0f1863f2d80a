"""Summaries of many runs, on all cores."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from experiments.analysis import summarise
from experiments.diary import read_diary
from experiments.runlog import FILE

WORTH_A_PROCESS = 20_000_000  # bytes of diaries in all; below it, starting processes takes longer than reading


def read_summary(folder: Path, threshold: float = 0.01) -> dict:
    """The summary of the run in a folder. Raises InputError."""
    return summarise(read_diary(folder), threshold)


def read_summaries(folders: list[Path], threshold: float = 0.01) -> list[dict]:
    """The summaries of several runs, in their order. Raises InputError for the first that has none."""
    read = partial(read_summary, threshold=threshold)
    size = sum((folder / FILE).stat().st_size for folder in folders if (folder / FILE).is_file())
    if len(folders) < 2 or size < WORTH_A_PROCESS:
        return [read(folder) for folder in folders]
    with ProcessPoolExecutor(min(len(folders), os.cpu_count() or 1)) as pool:
        return list(pool.map(read, folders))
