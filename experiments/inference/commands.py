"""The commands `score`, `predict`, `ask` and `export` of eval.py: arguments in, pages and files out."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.files import InputError, require_utf8
from data.readers import Row
from data.writing import plain_folder, replace_file, write_text
from experiments.config.metrics import RANKING
from experiments.inference import questions, ranking, texts
from experiments.inference.adapters import parse_adapters
from experiments.inference.contexts import read_contexts, read_standard_input
from experiments.inference.export import export as export_run
from experiments.inference.predict import predictions, read_inputs
from experiments.inference.ranking import Ranker, ranker_of
from experiments.inference.search import passages_of, search
from experiments.inference.show import print_answers, print_label_answers, print_scores
from experiments.inference.thresholds import parse_wanted, wanted_label
from experiments.inference.trained import Trained, load_run
from experiments.records import json_safe
from experiments.repetitions import average_repetitions
from experiments.terminal import json_lines, say, say_json
from model.machine import keep_freed_memory

MODULES: dict[str, Any] = {"span_qa": questions} | dict.fromkeys(("classification", "multi_label", "regression"), texts)

SHORT = 1000  # characters of a text that needs no division into passages


def module_for(trained: Trained) -> Any:
    """The module that scores and asks a run's kind of task. Raises InputError where there is none."""
    kind = trained.task.task
    if kind not in MODULES:
        hint = "; give it to --rank-with of a span_qa run" if kind == RANKING else " yet"
        raise InputError(f"{trained.folder}: a {kind} model answers nothing{hint}")
    return MODULES[kind]


def load(folder: Path, arguments: argparse.Namespace) -> Trained:
    """The run that a command is about, on the device and with the adapters that it asks for."""
    device, adapters = arguments.device or "auto", parse_adapters(arguments.adapter)
    download, int8 = arguments.allow_download, arguments.int8
    return load_run(folder, device, arguments.task, download, adapters=adapters, int8=int8)


# ---- score -----------------------------------------------------------------------------------------------------------


def score(arguments: argparse.Namespace) -> None:
    """Score run folders on a file. Scores are shown even if a later run has none."""
    if arguments.errors < 0:
        raise InputError("--errors: must not be negative")
    arguments.wanted = parse_wanted(arguments.at, arguments.label)
    data, trouble = score_runs(arguments)
    if data["runs"] and arguments.json:
        say_json(json_safe(data))
    elif data["runs"]:
        print_scores(data)
    if trouble:
        raise trouble


def score_runs(arguments: argparse.Namespace) -> tuple[dict, InputError | OSError | None]:
    """The scores of each run up to the first that cannot be scored or written, and what was wrong with that one."""
    runs = list({folder.resolve(): folder for folder in arguments.runs}.values())  # one run twice is no second seed
    if arguments.out and len({folder.resolve().name for folder in runs}) < len(runs):
        raise InputError("--out: two of the runs have the same name; score them apart")
    data: dict[str, Any] = {"data": str(arguments.data)} | ({"int8": True} if arguments.int8 else {})
    scores: list[tuple[dict, dict, dict]] = []  # each run's result, settings and origin
    trouble: InputError | OSError | None = None
    for folder in runs:
        try:
            trained = load(folder, arguments)
            if arguments.wanted:
                wanted_label(trained, arguments.wanted)  # before anything is computed, and for every kind of run
            ranks = arguments.retrieval or trained.task.task == RANKING
            given = (arguments.wanted,) if arguments.wanted and not ranks else ()
            score_one = ranking.score if ranks else module_for(trained).score
            scored = score_one(trained, arguments.data, arguments.errors, *given)
            if data.setdefault("kind", scored.kind) != scored.kind:
                raise InputError(f"{folder}: is of another kind than {runs[0]}; score them apart")
            data |= scored.counts
            result = {"run": str(folder), **scored.result}
            scores.append((result, json_safe(trained.spec), trained.origin))
            base, own = (arguments.out, folder.resolve().name) if arguments.out else (trained.folder, "predictions")
            out = plain_folder(base, own, *([arguments.task] if arguments.task else []), arguments.data.name)
            for name, content in scored.files.items():
                write_text(out / name, content)
            result["written"] = f"{out}: {', '.join(scored.files)}"
        except (InputError, OSError) as error:
            trouble = error
            break
    data["runs"] = [result for result, _, _ in scores]
    data["over_seeds"], data["remarks"] = average_repetitions(scores)
    return data, trouble


# ---- predict ---------------------------------------------------------------------------------------------------------


def predict(arguments: argparse.Namespace) -> None:
    """Answer a file without labels: a line of JSON for each input, to standard output, or to a file that is written
    whole or not at all."""
    if arguments.nbest < 0:
        raise InputError("--nbest: must not be negative")
    out = arguments.out
    if out is not None and out.exists() and out.samefile(arguments.data):
        raise InputError(f"--out {out}: is the file that is read; choose another")
    trained = load(arguments.run, arguments)
    keep_freed_memory(False)  # of 100,000 texts, freed memory kept in pieces comes to a gigabyte
    rows = read_inputs(trained, arguments.data)
    lines = (json_lines(json_safe(each))[0] for each in predictions(trained, rows, arguments.nbest))
    if out is None:
        for line in lines:
            if not say(line):  # `| head` has seen enough
                break
        return
    replace_file(out, lambda new: write_lines(new, lines))
    say(f"{out}: {len(rows):,} predictions")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


# ---- export ----------------------------------------------------------------------------------------------------------


def export(arguments: argparse.Namespace) -> None:
    """Write a run's best model as a folder for other libraries."""
    folders = export_run(arguments.run, arguments.to, arguments.form, arguments.task, arguments.allow_download)
    if arguments.json:
        say_json({"run": str(arguments.run), "form": arguments.form, "written": [str(folder) for folder in folders]})
    else:
        say([f"{folder}: {arguments.form}; its README.md says how to load it" for folder in folders])


# ---- ask -------------------------------------------------------------------------------------------------------------


def ask(arguments: argparse.Namespace) -> None:
    """Put questions about texts, or texts alone, to a run's best model."""
    for option in ("top", "passages"):
        if getattr(arguments, option) < 1:
            raise InputError(f"--{option}: {getattr(arguments, option)}; a number from 1")
    trained = load(arguments.run, arguments)
    spans = module_for(trained) is questions
    answers = ask_questions(trained, arguments) if spans else ask_texts(trained, arguments)
    if arguments.json:
        say_json(json_safe(answers))
    elif spans:
        print_answers(answers)
    else:
        print_label_answers(answers)


def ask_questions(trained: Trained, arguments: argparse.Namespace) -> list[dict]:
    if not arguments.question or arguments.text or arguments.pair:
        raise InputError(f"{arguments.run}: answers questions about a text; give --question, and no --text or --pair")
    if not all(require_utf8(question, "--question").strip() for question in arguments.question):
        raise InputError("--question: is empty")
    contexts, top, most = read_contexts(arguments), arguments.top, arguments.passages
    if len(contexts) == 1 and len(next(iter(contexts.values()))) <= SHORT:
        return questions.ask(trained, arguments.question, contexts, top)
    passages = passages_of(trained, contexts)
    if len(contexts) == 1 and len(passages) <= most:  # nothing to choose from
        return questions.ask(trained, arguments.question, contexts, top)
    ranker = ranker_for(trained, arguments)
    place = str(arguments.context_file.resolve()) if arguments.context_file else ""
    return search(trained, ranker, arguments.question, contexts, passages, top=top, most=most, place=place)


def ranker_for(trained: Trained, arguments: argparse.Namespace) -> Ranker:
    """What ranks the passages: the run of --rank-with, or the run that answers."""
    folder, device = arguments.rank_with, arguments.device or "auto"
    return ranker_of(load_run(folder, device, download=arguments.allow_download) if folder else trained)


def ask_texts(trained: Trained, arguments: argparse.Namespace) -> list[dict]:
    paired = trained.task.data.pair is not None
    if arguments.question or arguments.context or arguments.context_file:
        raise InputError(f"{arguments.run}: is a {trained.task.task} model; give --text")
    given = arguments.text
    if not given:
        lines = read_standard_input().split("\n")
        given = [line for line in lines if line.strip()]
    if not given or not all(require_utf8(text, "--text").strip() for text in (*given, *arguments.pair)):
        raise InputError("--text: is empty")
    pairs = arguments.pair or [None] * len(given)
    if len(pairs) != len(given) or paired is (pairs[:1] == [None]):
        kind, expected = ("pairs of texts", "one --pair for each --text") if paired else ("single texts", "no --pair")
        raise InputError(f"{arguments.run}: was trained on {kind}; give {expected}")
    return texts.ask(trained, [Row(text, pair, None, "--text") for text, pair in zip(given, pairs, strict=True)])
