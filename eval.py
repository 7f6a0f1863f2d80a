"""Everything after training.

python eval.py summary runs/bert_phase2          what a run did, from its metrics.jsonl alone
python eval.py summary runs/bert_phase2 --json   the same for machines
"""

import argparse
import json
import os
import sys
from pathlib import Path

from experiments.analysis import summarise
from experiments.report import print_summary
from experiments.runlog import read_records
from inputs import InputError


def command_summary(arguments: argparse.Namespace) -> None:
    records, remarks = read_records(arguments.run)
    summary = summarise(records)
    if arguments.json:
        print(json.dumps({**summary, "remarks": remarks}, indent=2))
    else:
        print_summary(summary, remarks)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Everything after training.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    summary = commands.add_parser("summary", help="what a run did, from its metrics.jsonl alone")
    summary.add_argument("run", type=Path, help="a run folder, for example runs/bert_phase2")
    summary.add_argument("--json", action="store_true", help="for machines")
    summary.set_defaults(command=command_summary)
    arguments = parser.parse_args(argv)
    try:
        arguments.command(arguments)
    except InputError as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `eval.py ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
