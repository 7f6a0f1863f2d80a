"""The command `eval.py summary`: reads run folders and reports on them."""

import argparse
import os
import sys
import time
from importlib.util import find_spec

from data.files import InputError, read_bytes
from data.writing import write_text
from experiments.records import json_safe, read_records
from experiments.report.charts import PNG, Settings, write_png
from experiments.report.comparison import compare
from experiments.report.figures import SCHEMA, summary_of
from experiments.report.page import PAGE, as_page
from experiments.report.render import comparison_report, markdown, run_report, terminal
from experiments.report.run import Run
from experiments.terminal import say, say_json


def summarise(given: argparse.Namespace) -> None:
    """Print what one run did, or how several compare; eval.py explains what is given. Raises InputError for a person's
    mistake, OSError where a page or picture cannot be written."""
    if not 0 < given.threshold < 10:
        raise InputError("--threshold: a relative change, above 0")
    if given.watch is not None and not 0 < given.watch < 1e6:
        raise InputError("--watch: seconds, above 0")
    if (given.html or given.png) and not find_spec("matplotlib"):
        raise InputError("charts are drawn with matplotlib, which is not installed; pip install matplotlib")
    for path, ours, kind in ((given.html, PAGE, "page"), (given.png, PNG, "picture")):
        if path and path.exists() and not ours.match(read_bytes(path)):
            raise InputError(f"{path}: is there already and is no {kind} of eval.py's; choose another name")
    folders = list({folder.resolve(): folder for folder in given.runs}.values())  # one run twice is no second seed
    heard = True
    while heard:
        runs = [Run(read_records(folder), given.threshold) for folder in folders]
        summaries = [summary_of(run) for run in runs]
        found = {"schema": SCHEMA, **compare(summaries)} if len(runs) > 1 else summaries[0]
        blocks = comparison_report(found) if len(runs) > 1 else run_report(found)
        if given.html:  # first: a reader of the text may stop early
            write_text(given.html, as_page(blocks, drawn(found, runs)))
        if given.png:
            write_png(given.png, drawn(found, runs))
        for path in filter(None, (given.html, given.png)):
            say(f"written: {path}", sys.stderr)
        if given.json:
            heard = say_json(json_safe(found))
        elif given.markdown:
            heard = say(markdown(blocks).split("\n"))
        else:
            clear = "\033[2J\033[H" if given.watch and sys.stdout.isatty() else ""
            colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
            print(clear + terminal(blocks, colour), flush=True)
        if not given.watch or all(summary["status"] != "unfinished" for summary in summaries):
            return
        time.sleep(given.watch)


def drawn(found: dict, runs: list[Run]) -> Settings:
    """What charts.py draws: the runs of each row, by the row's name, and by itself each run that counts in none."""
    others = {str(run.records.folder): run for run in runs}
    rows = {f"{row['row'] + 1} {row['label']}": row["folders"] for row in found.get("rows", [])}
    settings = {label: [others.pop(folder) for folder in folders] for label, folders in rows.items()}
    return settings | {f"not counted: {folder}": [run] for folder, run in others.items()}
