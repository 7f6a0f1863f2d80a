"""Everything after training.

python eval.py summary runs/bert_phase2                       what a run did, from its metrics.jsonl alone
python eval.py score runs/squad_lora --data dev-v1.1.json     how good its best model is, and where it fails
python eval.py ask runs/squad_lora --question "Who ...?" --context-file notes.txt
"""

import argparse
import json
import os
import sys
from pathlib import Path

from experiments.analysis import summarise
from experiments.report import print_answers, print_scores, print_summary
from experiments.runlog import read_records
from inputs import ArgumentParser, InputError, decode_text, read_bytes, read_json, refuse, shown, tolerate_any_text

# Commands that need a model import what builds on torch when they are called: the others should not wait for it.

# ---- summary ---------------------------------------------------------------------------------------------------------


def command_summary(arguments: argparse.Namespace) -> None:
    records, remarks = read_records(arguments.run)
    summary = summarise(records)
    if arguments.json:
        print(json.dumps({**summary, "remarks": remarks}, indent=2))
    else:
        print_summary(summary, remarks)


# ---- score -----------------------------------------------------------------------------------------------------------


def read_mapping(path: Path, kinds: tuple[type, ...], what: str) -> dict:
    """A JSON object {question id: value of one of the kinds}. Raises InputError naming the id of another value."""
    mapping = read_json(path)
    for key, value in mapping.items():
        if not isinstance(value, kinds) or isinstance(value, bool) or value != value:
            raise InputError(f"{path}: question id {key}: expected {what}, found {shown(value)}")
    return mapping


def command_score(arguments: argparse.Namespace) -> None:
    from data.squad import read_questions
    from experiments.answering import score_predictions, score_run, write_predictions
    from experiments.trained import load_run

    if bool(arguments.runs) == bool(arguments.predictions):
        raise InputError("score: name run folders, or a file with --predictions")
    if arguments.na_prob and not arguments.predictions:
        raise InputError("--na-prob: goes with --predictions")
    questions, misplaced = read_questions({arguments.data: read_bytes(arguments.data)}, bad_answers="keep")
    results = []
    if arguments.predictions:
        predictions = read_mapping(arguments.predictions, (str,), "a text")
        odds = read_mapping(arguments.na_prob, (int, float), "a number") if arguments.na_prob else None
        scores = score_predictions(questions, predictions, odds, arguments.na_prob_thresh)
        results.append({"run": str(arguments.predictions), **scores})
    for folder in arguments.runs:
        scores, answered = score_run(load_run(folder, arguments.device), questions, arguments.errors)
        out = (arguments.out / folder.name if arguments.out else folder / "predictions") / arguments.data.stem
        write_predictions(out, answered)
        results.append({**scores, "written": str(out)})
    if arguments.json:
        print(json.dumps({"data": str(arguments.data), "questions": len(questions), "runs": results}, indent=2))
    else:
        print_scores(str(arguments.data), len(questions), len(misplaced), results)


# ---- ask -------------------------------------------------------------------------------------------------------------


def read_texts(arguments: argparse.Namespace) -> dict[str, str]:
    """{name: text} of what is to be asked: --context, --context-file (a folder: its .txt and .md files), or stdin."""
    if arguments.context is not None:
        texts = {"--context": arguments.context}
    elif arguments.context_file is None:
        texts = {"standard input": decode_text(sys.stdin.buffer.read(), Path("standard input"))}
    elif arguments.context_file.is_dir():
        files = sorted(file for file in arguments.context_file.iterdir() if file.suffix in (".txt", ".md"))
        if not files:
            raise InputError(f"{arguments.context_file}: has no .txt or .md files")
        texts = {file.name: decode_text(read_bytes(file), file) for file in files}
    else:
        file = arguments.context_file
        texts = {file.name: decode_text(read_bytes(file), file)}
    empty = next((name for name, text in texts.items() if not text.strip()), None)
    if empty is not None:
        raise InputError(f"{empty}: there is no text in it")
    return texts


def command_ask(arguments: argparse.Namespace) -> None:
    from experiments.answering import ask
    from experiments.trained import load_run

    if not all(question.strip() for question in arguments.question):
        raise InputError("--question: is empty")
    texts = read_texts(arguments)
    answers = ask(load_run(arguments.run, arguments.device), arguments.question, texts)
    if arguments.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    else:
        print_answers(answers)


# ---- the command line ------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="eval.py", description="Everything after training.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    summary = commands.add_parser("summary", help="what a run did, from its metrics.jsonl alone")
    summary.add_argument("run", type=Path, help="a run folder, for example runs/bert_phase2")
    summary.set_defaults(command=command_summary)

    score = commands.add_parser("score", help="how good a run's best model is on a SQuAD file, and where it fails")
    score.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    score.add_argument("--data", type=Path, required=True, metavar="FILE", help="a SQuAD file, version 1.1 or 2.0")
    score.add_argument("--errors", type=int, default=0, metavar="N", help="show the N worst misses")
    score.add_argument("--out", type=Path, metavar="DIR", help="where predictions go (default: RUN/predictions/)")
    score.add_argument("--predictions", type=Path, metavar="FILE", help="score this {id: text} file, without a model")
    score.add_argument("--na-prob", type=Path, metavar="FILE", help="and its {id: no-answer probability or odds}")
    score.add_argument("--na-prob-thresh", type=float, default=1.0, metavar="X", help='answer "" above it (default: 1)')
    score.set_defaults(command=command_score)

    ask = commands.add_parser("ask", help="put questions about a text to a run's best model")
    ask.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    ask.add_argument("--question", nargs="+", action="extend", required=True, metavar="TEXT", help="one or more")
    given = ask.add_mutually_exclusive_group()
    given.add_argument("--context", metavar="TEXT", help="the text itself")
    given.add_argument("--context-file", type=Path, metavar="PATH", help="a file, or a folder of .txt and .md files")
    ask.set_defaults(command=command_ask)

    for command in (summary, score, ask):
        command.add_argument("--json", action="store_true", help="for machines")
    for command in (score, ask):
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        arguments.command(arguments)
    except BrokenPipeError:  # `eval.py ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, OSError) as error:
        return refuse("eval.py", error)
    return 0


if __name__ == "__main__":
    tolerate_any_text()
    sys.exit(main())
