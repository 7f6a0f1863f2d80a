"""Everything after training. Each command is one call into a room of experiments/.

python eval.py summary runs/bert_phase2                       what a run did, from its metrics.jsonl alone
python eval.py score runs/squad_lora --data dev-v1.1.json     how good its best model is, and where it fails
python eval.py predict runs/sentiment --data new.csv          its answers to a file without labels, a line of JSON each
python eval.py ask runs/squad_lora --question "Who ...?" --context-file notes.txt
python eval.py ask runs/sentiment --text "A film to treasure."
python eval.py export runs/squad_lora --to out                for transformers, or with --as adapter for peft
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from data.files import InputError
from experiments.terminal import ArgumentParser, begin, refuse


def add_commands(commands: Any) -> None:
    """Declare each command with the options that are its own."""
    one = commands.add_parser("summary", help="what a run did, from its metrics.jsonl alone, or how several compare")
    one.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, for example runs/bert_phase2")
    one.add_argument("--markdown", action="store_true", help="for a pull request")
    one.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts (needs matplotlib)")
    one.add_argument("--png", type=Path, metavar="FILE", help="write the charts as a picture, for Markdown")
    one.add_argument("--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help="repeat until the run ends")
    one.add_argument("--threshold", type=float, default=0.01, metavar="X", help="change of the loss that counts")

    one = commands.add_parser("score", help="how good a run's best model is on a file, and where it fails")
    one.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders")
    one.add_argument("--data", type=Path, required=True, metavar="FILE", help="SQuAD's JSON, or CSV, TSV or JSONL")
    one.add_argument("--errors", type=int, default=0, metavar="N", help="show the N worst misses")
    one.add_argument(
        "--retrieval", action="store_true", help="how well it finds a question's passage, of all in the file"
    )
    one.add_argument("--out", type=Path, metavar="DIR", help="where predictions go (default: RUN/predictions/)")
    one.add_argument("--at", metavar="METRIC=N", help="of two labels: the threshold for precision=90, or recall=95")
    one.add_argument("--label", metavar="NAME", help="whose precision or recall (default: the second label's)")

    one = commands.add_parser("predict", help="the answers of a run's best model to a file, a line of JSON each")
    one.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    one.add_argument("--data", type=Path, required=True, metavar="FILE", help="texts or questions, without labels")
    one.add_argument("--out", type=Path, metavar="FILE", help="where they go (default: standard output)")
    one.add_argument("--nbest", type=int, default=3, metavar="N", help="span QA: candidates of each (default: 3)")

    one = commands.add_parser("ask", help="put questions about a text, or texts, to a run's best model")
    one.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    several: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "TEXT"}
    one.add_argument("--question", help="span QA: one or more questions", **several)
    given = one.add_mutually_exclusive_group()
    given.add_argument("--context", metavar="TEXT", help="the text itself")
    given.add_argument("--context-file", type=Path, metavar="PATH", help="a file, or a folder of .txt and .md files")
    one.add_argument("--top", type=int, default=3, metavar="N", help="answers over all texts (default: 3)")
    one.add_argument("--passages", type=int, default=10, metavar="N", help="of many, how many are read (default: 10)")
    one.add_argument("--rank-with", type=Path, metavar="RUN", help="choose those with another run, of task retrieval")
    one.add_argument("--text", help="other tasks: one or more texts", **several)
    one.add_argument("--pair", help="the second text of each", **several)

    one = commands.add_parser("export", help="write a run's best model so that transformers or peft loads it")
    one.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    one.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
    one.add_argument("--as", dest="form", choices=("merged", "adapter"), default="merged", help="default: merged")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="eval.py", description="Everything after training.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_commands(commands)
    for name, command in commands.choices.items():
        if name != "predict":  # which says nothing else
            command.add_argument("--json", action="store_true", help="for machines")
        if name != "summary":
            command.add_argument("--task", metavar="NAME", help="which one, of a run with several tasks")
            command.add_argument("--allow-download", action="store_true", help="fetch pretrained weights from the hub")
        if name in ("score", "predict", "ask"):
            adapters: dict[str, Any] = {"nargs": "+", "action": "extend", "default": [], "metavar": "FOLDER[=WEIGHT]"}
            command.add_argument("--adapter", help="PEFT's, instead of the run's own; several are added", **adapters)
            command.add_argument("--device", help="auto (the default), cpu, cuda, cuda:1, mps")
            command.add_argument("--int8", action="store_true", help="on a CPU: linear layers with 8-bit weights")
    word = next(iter(sys.argv[1:] if argv is None else argv), "")
    if not word.startswith("-") and word not in commands.choices:
        run = word if os.path.exists(word) else "runs/bert_phase2"
        parser.error(f"a command comes first: {', '.join(commands.choices)}; for example eval.py summary {run}")
    arguments = parser.parse_args(argv)
    if arguments.command == "score" and arguments.adapter and not arguments.out:  # the run's own predictions stay
        parser.error(f"score: --adapter {' '.join(arguments.adapter)} needs --out DIR for its predictions")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """Call a command. Its room is imported only then, because a summary should not wait for torch."""
    if arguments.command == "summary":
        from experiments.report.summary import summarise

        summarise(arguments)
        return
    from experiments.inference import commands

    getattr(commands, arguments.command)(arguments)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the disk is full, 2 something handed in is wrong, 130 interrupted."""
    arguments = parse_arguments(argv)
    try:
        run(arguments)
    except BrokenPipeError:  # `eval.py ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, OSError) as error:
        return refuse("eval.py", error)
    except KeyboardInterrupt:
        print("eval.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    begin()
    sys.exit(main())
