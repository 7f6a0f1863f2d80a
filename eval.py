"""Everything after training.

python eval.py summary runs/bert_phase2                       what a run did, from its metrics.jsonl alone
python eval.py score runs/squad_lora --data dev-v1.1.json     how good its best model is, and where it fails
python eval.py ask runs/squad_lora --question "Who ...?" --context-file notes.txt
python eval.py ask runs/sentiment --text "A film to treasure."
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

from data.files import InputError, decode_text, read_bytes, read_json, require_utf8, shown
from experiments.inference.show import print_answers, print_label_answers, print_label_scores, print_scores
from experiments.records import json_safe
from experiments.report.charts import matplotlib_figure
from experiments.report.comparison import compare, over_seeds
from experiments.report.one_run import run_report
from experiments.report.page import as_page
from experiments.report.reading import read_all
from experiments.report.render import as_markdown, as_text, use_colour
from experiments.report.schema import SCHEMA
from experiments.report.several_runs import comparison_report
from experiments.terminal import ArgumentParser, refuse, tolerate_any_text

# Commands that need a model import what builds on torch when they are called: the others should not wait for it.


def each_once(folders: list[Path]) -> list[Path]:
    """Folders without those that are named again: one run twice is no second seed."""
    return list({folder.resolve(): folder for folder in folders}.values())


# ---- summary ---------------------------------------------------------------------------------------------------------


def command_summary(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.threshold < 10:
        raise InputError("--threshold: a relative change, above 0")
    if arguments.html:
        matplotlib_figure()  # not there? Better said before reading a hundred runs
    while True:
        runs = read_all(each_once(arguments.runs), arguments.threshold, drawn=arguments.html is not None)
        summaries = [run[0] for run in runs] if arguments.html else runs
        alone = len(summaries) == 1
        found = summaries[0] if alone else compare(summaries)
        blocks = run_report(found) if alone else comparison_report(found)
        if arguments.json:
            print(json.dumps(json_safe({"schema": SCHEMA, **found}), indent=2))
        elif arguments.markdown:
            print(as_markdown(blocks))
        else:
            clear = "\033[2J\033[H" if arguments.watch and sys.stdout.isatty() else ""
            print(clear + as_text(blocks, use_colour(sys.stdout)), flush=True)
        if arguments.html:
            arguments.html.write_text(as_page(blocks, runs), encoding="utf-8")
            print(f"written: {arguments.html}", file=sys.stderr)
        if not arguments.watch or all(summary["status"] != "unfinished" for summary in summaries):
            return
        time.sleep(arguments.watch)


# ---- score -----------------------------------------------------------------------------------------------------------


def read_mapping(path: Path, kinds: tuple[type, ...], what: str) -> dict:
    """A JSON object {question id: value of one of the kinds}. Raises InputError naming the id of another value."""
    mapping = read_json(path)
    for key, value in mapping.items():
        if not isinstance(value, kinds) or isinstance(value, bool) or not (str in kinds or abs(value) < 1e300):
            raise InputError(f"{path}: question id {key}: expected {what}, found {shown(value)}")
    return mapping


def command_score(arguments: argparse.Namespace) -> None:
    check_score(arguments)
    data, trouble = (score_file(arguments), None) if arguments.predictions else score_runs(arguments)
    if data["runs"]:
        if arguments.json:
            print(json.dumps(json_safe(data), indent=2))
        elif data["kind"] == "span_qa":
            print_scores(data)
        else:
            print_label_scores(data)
    if trouble:
        raise trouble


MODELS_ONLY = ("errors", "out", "task", "device")


def check_score(arguments: argparse.Namespace) -> None:
    """Raise InputError for options that contradict each other or would do nothing."""
    if bool(arguments.runs) == bool(arguments.predictions):
        raise InputError("score: name run folders, or a file with --predictions")
    useless, needed = (("na_prob",), "--predictions") if arguments.runs else (MODELS_ONLY, "run folders")
    for name in useless:
        if getattr(arguments, name):
            raise InputError(f"--{name.replace('_', '-')}: goes with {needed}")
    if arguments.na_prob_thresh is not None and not arguments.na_prob:
        raise InputError("--na-prob-thresh: goes with --na-prob")
    if not math.isfinite(arguments.na_prob_thresh or 0.0):
        raise InputError("--na-prob-thresh: must be a finite number")
    if arguments.errors < 0:
        raise InputError("--errors: must not be negative")


def score_runs(arguments: argparse.Namespace) -> tuple[dict, InputError | OSError | None]:
    """The scores of each run, up to the first that cannot be scored (or whose predictions cannot be written): what
    took minutes is shown. Returns them, and what was wrong with that one."""
    from experiments.inference.load import load_run
    from experiments.training.checkpoint import as_json

    data, specs, trouble = {"data": str(arguments.data), "runs": []}, [], None
    runs = each_once(arguments.runs)
    if arguments.out and len({folder.resolve().name for folder in runs}) < len(runs):
        raise InputError("--out: two of the runs have the same name; score them apart")
    for folder in runs:
        try:
            trained = load_run(folder, arguments.device or "auto", arguments.task)
            kind = "span_qa" if trained.task.task == "span_qa" else "texts"
            if data.setdefault("kind", kind) != kind:
                raise InputError(f"{folder}: is of another kind than {runs[0]}; score them apart")
            out = arguments.out / folder.resolve().name if arguments.out else folder / "predictions"
            out = out / (arguments.task or "") / arguments.data.name
            specs.append(as_json(trained.spec))
            score = score_questions if kind == "span_qa" else score_labels
            score(trained, arguments, out, data)
        except (InputError, OSError) as error:
            trouble = error
            break
    data["over_seeds"] = over_seeds(data["runs"], specs[: len(data["runs"])])
    return data, trouble


def score_file(arguments: argparse.Namespace) -> dict:
    """Somebody's file of answers to questions."""
    from experiments.inference.questions import score_predictions

    questions, misplaced = squad_questions(arguments.data)
    predictions = read_mapping(arguments.predictions, (str,), "a text")
    odds = read_mapping(arguments.na_prob, (int, float), "a number") if arguments.na_prob else None
    threshold = 1.0 if arguments.na_prob_thresh is None else arguments.na_prob_thresh
    scores = score_predictions(questions, predictions, odds, threshold)
    counts = {"questions": len(questions), "misplaced": misplaced}
    return {
        "data": str(arguments.data),
        "kind": "span_qa",
        **counts,
        "runs": [{"run": str(arguments.predictions), **scores}],
        "over_seeds": [],
    }


def squad_questions(file: Path) -> tuple[list, int]:
    """The questions of a SQuAD file, and how many answers are not where they say."""
    from data.readers import read_questions

    questions, misplaced = read_questions({file: read_bytes(file)}, bad_answers="keep")
    return questions, len(misplaced)


def score_questions(trained, arguments: argparse.Namespace, out: Path, data: dict) -> None:
    """Add a span QA run's scores to data["runs"], then write its predictions."""
    from experiments.inference.questions import score_run, write_predictions

    questions, misplaced = squad_questions(arguments.data)
    scores, answered = score_run(trained, questions, arguments.errors)
    data.update(questions=len(questions), misplaced=misplaced)
    data["runs"].append(scores)
    write_predictions(out, answered)
    scores["written"] = str(out)


def score_labels(trained, arguments: argparse.Namespace, out: Path, data: dict) -> None:
    """The same for a run over labelled texts."""
    from data.readers import read_table
    from experiments.inference.texts import score_rows, write_rows
    from experiments.tasks.texts import columns_of

    rows = read_table(arguments.data, read_bytes(arguments.data), columns_of(trained.task.data))
    scores, predictions = score_rows(trained, rows, arguments.errors)
    data["texts"] = len(rows)
    data["runs"].append(scores)
    write_rows(out, predictions)
    scores["written"] = str(out)


# ---- ask -------------------------------------------------------------------------------------------------------------


def read_texts(arguments: argparse.Namespace) -> dict[str, str]:
    """{name: text} of what is to be asked: --context, --context-file (a folder: its .txt and .md files), or stdin."""
    if arguments.context is not None:
        texts = {"--context": require_utf8(arguments.context, "--context")}
    elif arguments.context_file is None:
        texts = {"standard input": decode_text(sys.stdin.buffer.read(), Path("standard input"))}
    elif arguments.context_file.is_dir():
        suffixes = (".txt", ".md")
        found = (f for f in arguments.context_file.iterdir() if f.suffix.lower() in suffixes and not f.is_fifo())
        files = sorted(found)
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
    from experiments.inference.load import load_run

    trained = load_run(arguments.run, arguments.device or "auto", arguments.task)
    if trained.task.task == "span_qa":
        answers = ask_questions(trained, arguments)
    else:
        answers = ask_labels(trained, arguments)
    if arguments.json:
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    elif trained.task.task == "span_qa":
        print_answers(answers)
    else:
        print_label_answers(answers)


def ask_questions(trained, arguments: argparse.Namespace) -> list[dict]:
    from experiments.inference.questions import ask

    if not arguments.question or arguments.text or arguments.pair:
        raise InputError(f"{arguments.run}: answers questions about a text; give --question, and no --text or --pair")
    if not all(require_utf8(question, "--question").strip() for question in arguments.question):
        raise InputError("--question: is empty")
    return ask(trained, arguments.question, read_texts(arguments))


def ask_labels(trained, arguments: argparse.Namespace) -> list[dict]:
    from data.readers import Row
    from experiments.inference.texts import ask_texts

    paired, kind = trained.task.data.pair is not None, trained.task.task
    if arguments.question or arguments.context or arguments.context_file:
        raise InputError(f"{arguments.run}: is a {kind} model; give --text")
    texts = arguments.text
    if not texts:
        given = decode_text(sys.stdin.buffer.read(), Path("standard input"))
        texts = [line for line in given.split("\n") if line.strip()]
    if not texts or not all(require_utf8(text, "--text").strip() for text in (*texts, *arguments.pair)):
        raise InputError("--text: is empty")
    pairs = arguments.pair or [None] * len(texts)
    if len(pairs) != len(texts) or paired is (pairs[:1] == [None]):
        expected = "one --pair for each --text" if paired else "no --pair"
        raise InputError(
            f"{arguments.run}: was trained on {'pairs of texts' if paired else 'single texts'}; give {expected}"
        )
    return ask_texts(trained, [Row(text, pair, None, "--text") for text, pair in zip(texts, pairs, strict=True)])


# ---- the command line ------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(prog="eval.py", description="Everything after training.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    summary = commands.add_parser(
        "summary", help="what a run did, from its metrics.jsonl alone, or how several compare"
    )
    summary.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folders, for example runs/bert_phase2")
    add = summary.add_argument
    add("--markdown", action="store_true", help="for a pull request")
    add("--html", type=Path, metavar="FILE", help="write a page with charts (needs matplotlib)")
    add("--watch", type=float, nargs="?", const=5.0, metavar="SECONDS", help="again every few seconds, until it ends")
    add("--threshold", type=float, default=0.01, metavar="X", help="change of the loss that counts (default: 0.01)")
    summary.set_defaults(command=command_summary)

    score = commands.add_parser("score", help="how good a run's best model is on a file, and where it fails")
    score.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="run folders")
    score.add_argument("--data", type=Path, required=True, metavar="FILE", help="SQuAD's JSON, or CSV, TSV or JSONL")
    score.add_argument("--errors", type=int, default=0, metavar="N", help="show the N worst misses")
    score.add_argument("--out", type=Path, metavar="DIR", help="where predictions go (default: RUN/predictions/)")
    score.add_argument("--predictions", type=Path, metavar="FILE", help="score this {id: text} file, without a model")
    score.add_argument("--na-prob", type=Path, metavar="FILE", help="and its {id: no-answer probability or odds}")
    score.add_argument("--na-prob-thresh", type=float, metavar="X", help='answer "" above it (default: 1)')
    score.set_defaults(command=command_score)

    ask = commands.add_parser("ask", help="put questions about a text, or texts, to a run's best model")
    ask.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    ask.add_argument("--question", nargs="+", action="extend", default=[], metavar="TEXT", help="span QA: one or more")
    given = ask.add_mutually_exclusive_group()
    given.add_argument("--context", metavar="TEXT", help="the text itself")
    given.add_argument("--context-file", type=Path, metavar="PATH", help="a file, or a folder of .txt and .md files")
    add = ask.add_argument
    add("--text", nargs="+", action="extend", default=[], metavar="TEXT", help="other tasks: one or more texts")
    add("--pair", nargs="+", action="extend", default=[], metavar="TEXT", help="the second text of each")
    ask.set_defaults(command=command_ask)

    for command in (summary, score, ask):
        command.add_argument("--json", action="store_true", help="for machines")
    for command in (score, ask):
        command.add_argument("--task", metavar="NAME", help="which one, of a run with several tasks")
        command.add_argument("--device", help="auto (the default), cpu, cuda, cuda:1, mps")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        arguments.command(arguments)
    except BrokenPipeError:  # `eval.py ... | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (InputError, OSError) as error:
        return refuse("eval.py", error)
    except KeyboardInterrupt:
        print("eval.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    tolerate_any_text()
    sys.exit(main())
