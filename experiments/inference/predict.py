"""Predicting: a run's best model on a file that has no labels, or whose labels do not matter. One record for each
input, in the file's order."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from data.files import InputError, parse_object, read_bytes
from data.progress import progress, quiet
from data.readers import TABLES, Columns, Question, Row, parse_questions, read_table
from experiments.inference.questions import answer_all, nbest_entry
from experiments.inference.texts import answers_of, predict_rows
from experiments.inference.trained import Trained
from experiments.tasks.texts import columns_of

AT_ONCE = 512  # inputs: enough to sort them by length, and little to hold
ASKED = Columns(text="question", pair="context", label=None, id="id")


def read_inputs(trained: Trained, file: Path) -> list[Row]:
    """The inputs of a file: its texts, by the names of the columns in training, or its questions with their contexts as
    pairs. Questions are SQuAD's JSON, with answers or without, or a table with the columns question and context. A
    column id is kept. Raises InputError for what cannot be read, so that nothing is wrong after an hour."""
    data = read_bytes(file)
    if trained.task.task != "span_qa":
        columns = columns_of(trained.task.data)
        return read_table(file, data, Columns(columns.text, columns.pair, None, columns.header, "id"))
    if file.suffix.lower() in TABLES:
        return read_table(file, data, ASKED)
    if file.suffix.lower() != ".json":
        raise InputError(f"{file}: is neither SQuAD's JSON, nor a .csv, .tsv or .jsonl with question and context")
    found = parse_questions(parse_object(data, file), str(file), labelled=False)
    if not found:
        raise InputError(f"{file}: no questions")
    return [Row(question.question, question.context, None, "", question.id) for question in found]


def predictions(trained: Trained, rows: Sequence[Row], count: int) -> Iterator[dict]:
    """The record of each input: its line in the file and its id, where it has such, and what `answers_of` or
    `span_answers` says. count: of each question's candidates. Has a progress bar on a terminal."""
    predict = label_answers if trained.task.task != "span_qa" else span_answers
    for begin in progress(range(0, len(rows), AT_ONCE), f"predicting, {AT_ONCE} at once"):
        part = rows[begin : begin + AT_ONCE]
        with quiet():
            answers = predict(trained, part, count)
        for row, answer in zip(part, answers, strict=True):
            line = row.where.rpartition(" line ")[2]
            place = {"line": int(line)} if line else {}
            yield place | ({} if row.id is None else {"id": row.id}) | answer


def label_answers(trained: Trained, rows: Sequence[Row], count: int) -> list[dict]:
    """The answers to texts, without the thresholds, which are the same for all."""
    answers = answers_of(trained, predict_rows(trained, rows)[0])
    for answer in answers:
        answer.pop("thresholds", None)
        for key in {"probability", "value"} & answer.keys():
            answer[key] = _short(answer[key])
        if "probabilities" in answer:
            answer["probabilities"] = {label: _short(p) for label, p in answer["probabilities"].items()}
    return answers


def span_answers(trained: Trained, rows: Sequence[Row], count: int) -> list[dict]:
    """The answers to questions: {"answer", "null_odds", "threshold", "nbest"}. The answer is "" where the null odds
    exceed the threshold (null: it never is). nbest has the `count` best spans, and "" among them where that may be
    said."""
    answered = answer_all(trained, [Question(str(n), row.text, row.pair or "", ()) for n, row in enumerate(rows)])
    threshold = answered.threshold
    return [
        {
            "answer": answers.text(threshold),
            "null_odds": _short(answers.null_odds),
            "threshold": threshold,
            "nbest": [
                {key: _short(value) if isinstance(value, float) else value for key, value in nbest_entry(*each).items()}
                for each in answers.ranked(with_null=threshold is not None)[:count]
            ],
        }
        for answers in answered.answers
    ]


def _short(value: float) -> float:
    """Six digits: a hundred thousand rows of 77 probabilities are long enough."""
    return float(f"{value:.6g}")
