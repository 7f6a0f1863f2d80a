"""The command `eval.py summary`: reads run folders and reports on them."""

import os
import sys
import time
from pathlib import Path

from data.files import InputError, read_bytes
from data.writing import write_text
from experiments.records import json_safe, read_records
from experiments.report.charts import require_matplotlib
from experiments.report.comparison import compare
from experiments.report.figures import SCHEMA, summary_of
from experiments.report.page import BEGINNING, as_page
from experiments.report.render import comparison_report, markdown, run_report, terminal
from experiments.report.run import Run
from experiments.terminal import say, say_json


def read_summary(folder: Path, threshold: float = 0.01) -> dict:
    """The summary of the run in a folder. Raises InputError."""
    return summary_of(Run(read_records(folder), threshold))


def summarise(
    folders: list[Path],
    threshold: float = 0.01,
    as_json: bool = False,
    as_markdown: bool = False,
    html: Path | None = None,
    watch: float | None = None,
) -> None:
    """Print what one run did, or how several compare.

    threshold: the relative change of the loss that counts as an oscillation. html: also write a page there, whole or
    not at all. watch: seconds after which to look again, until no run is unfinished. Raises InputError for a person's
    mistake, OSError where the page cannot be written.
    """
    if not 0 < threshold < 10:
        raise InputError("--threshold: a relative change, above 0")
    if watch is not None and not 0 < watch < 1e6:
        raise InputError("--watch: seconds, above 0")
    if html:
        require_matplotlib()  # before reading a hundred runs
        if html.exists() and not read_bytes(html).startswith(BEGINNING.encode()):
            raise InputError(f"{html}: is there already and is no page of eval.py's; choose another name")
    folders = list({folder.resolve(): folder for folder in folders}.values())  # one run twice is no second seed
    heard = True
    while heard:
        runs = [Run(read_records(folder), threshold) for folder in folders]
        summaries = [summary_of(run) for run in runs]
        found = {"schema": SCHEMA, **compare(summaries)} if len(runs) > 1 else summaries[0]
        blocks = comparison_report(found) if len(runs) > 1 else run_report(found)
        if html:  # first: a reader of the text may stop early
            write_text(html, as_page(blocks, runs))
            say(f"written: {html}", sys.stderr)
        if as_json:
            heard = say_json(json_safe(found))
        elif as_markdown:
            heard = say(markdown(blocks).split("\n"))
        else:
            clear = "\033[2J\033[H" if watch and sys.stdout.isatty() else ""
            colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")  # no-color.org
            print(clear + terminal(blocks, colour), flush=True)
        if not watch or all(summary["status"] != "unfinished" for summary in summaries):
            return
        time.sleep(watch)
