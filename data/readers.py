"""Files to examples: CSV, TSV and JSONL to labelled texts, SQuAD's JSON to questions.

.csv    as RFC 4180 has it: fields may be quoted, and quoted ones may hold commas and line breaks
.tsv    tabs between fields, and nothing is special in them: a quote is a quote
.jsonl  a JSON object a line
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data.files import InputError, decode_text, parse_json, parse_object, shown

TABLES = (".csv", ".tsv", ".jsonl")
csv.field_size_limit(2**31 - 1)  # a text may be long; what does not fit the model is cut there


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold the texts and labels; their numbers from 0 where there is no header."""

    text: str = "text"
    pair: str | None = None
    label: str | None = "label"  # None: the labels are not needed
    header: bool = True
    id: str | None = None  # kept, in a file that has such a column

    @property
    def names(self) -> list[str]:
        """The columns that are read."""
        return [name for name in (self.text, self.pair, self.label) if name]


@dataclass(frozen=True)
class Row:
    """One line of a file, or one generated example."""

    text: str
    pair: str | None
    label: object  # a text from CSV and TSV, any JSON value from JSONL, None where labels are not read
    where: str  # for messages and as an id: "train.csv line 12"
    id: object = None  # of the column for it, where one is read


def read_table(path: Path, data: bytes, columns: Columns) -> list[Row]:
    """The rows of one file, by its ending. data: the file's bytes.

    Raises InputError, naming file and line, for what is no such file: an unknown ending, bytes that are not UTF-8, a
    missing column, a line with another number of fields than the first, an empty text, no rows.
    """
    text = decode_text(data, path)
    kind = path.suffix.lower()
    if kind == ".jsonl":
        rows = list(_read_jsonl(path, text, columns))
    elif kind in (".csv", ".tsv"):
        rows = list(_read_fields(path, text, columns))
    else:
        raise InputError(f"{path}: ends in {path.suffix or 'nothing'!r}; .csv, .tsv and .jsonl can be read")
    if not rows:
        raise InputError(f"{path}: has no rows")
    return rows


def _read_fields(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    quoting = {"quoting": csv.QUOTE_NONE, "delimiter": "\t"} if path.suffix.lower() == ".tsv" else {"strict": True}
    reader = csv.reader(io.StringIO(text, newline=""), **quoting)
    at: dict[str, int] = {}
    count = line = 0
    try:
        for fields in reader:
            line += 1  # where the row begins; reader.line_num is where it ends
            where, line = f"{path} line {line}", reader.line_num
            if not fields:
                continue
            if not at:
                names = fields if columns.header else [str(number) for number in range(len(fields))]
                at, count = _positions(where, names, columns), len(names)
                if columns.header:
                    continue
            if len(fields) != count:
                raise InputError(f"{where}: has {len(fields)} fields, the first line {count}")
            yield _row(where, {name: fields[place] for name, place in at.items()}, columns)
    except csv.Error as error:  # at the file's end: of a quote that was opened in the last row it began
        unclosed = "a quote that is opened here is never closed" if "unexpected end" in str(error) else error
        raise InputError(f"{path} line {line + 1}: {unclosed}") from None


def _positions(where: str, names: list[str], columns: Columns) -> dict[str, int]:
    """{column: its place} of the columns that are read."""
    found = {}
    for name in columns.names:
        if names.count(name) != 1:
            problem = "is there twice" if name in names else "is missing"
            hint = "" if columns.header else " (data.header is false: columns are numbers)"
            listed = ", ".join(map(shown, names[:10]))
            raise InputError(f"{where}: column {name!r} {problem}; the columns are {listed}{hint}")
        found[name] = names.index(name)
    if columns.id in names:
        found[columns.id] = names.index(columns.id)
    return found


def _read_jsonl(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            record = _checked(parse_json(line), dict, where)
        except ValueError as error:
            raise InputError(f"{where}: cannot be read as JSON: {error}") from None
        for name in columns.names:
            if name not in record:
                raise InputError(f"{where}: no {name!r}; its keys are {', '.join(map(shown, list(record)[:10]))}")
        yield _row(where, record, columns)


def _row(where: str, record: dict, columns: Columns) -> Row:
    pair, label = (None if name is None else record[name] for name in (columns.pair, columns.label))
    for name in filter(None, (columns.text, columns.pair)):
        value = record[name]
        if not isinstance(value, str) or not value.strip():
            problem = "is empty" if isinstance(value, str) else f"is {shown(value)}, expected a text"
            raise InputError(f"{where}: {name!r} {problem}")
    return Row(record[columns.text], pair, label, where, record.get(columns.id))


@dataclass(frozen=True)
class Question:
    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]  # (text, character offset into the context), empty where unanswerable

    @property
    def placed(self) -> tuple[tuple[str, int], ...]:
        """The answers that are where they say."""
        return tuple((t, at) for t, at in self.answers if at >= 0 and t and self.context.startswith(t, at))


KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def _checked(value: Any, kind: type, where: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise InputError(f"{where}: expected {KINDS[kind]}, found {shown(value)}")
    return value


def _field(record: object, key: str, kind: type, where: str) -> Any:
    fields = _checked(record, dict, where)
    if key not in fields:
        raise InputError(f"{where}: no {key!r}")
    return _checked(fields[key], kind, f"{where}: {key!r}")


def _read_question(qa: dict, context: str, where: str, strict: bool, labelled: bool) -> Question:
    identifier = _field(qa, "id", str, where)
    where = f"{where}, question id {identifier}"
    text = _field(qa, "question", str, where)
    if not labelled:
        return Question(identifier, text, context, ())
    impossible = _checked(qa.get("is_impossible", False), bool, f"{where}: 'is_impossible'")
    given = _field(qa, "answers", list, where)
    answers = tuple((_field(a, "text", str, where), _field(a, "answer_start", int, where)) for a in given)
    if strict and impossible != (not answers):
        found = "has answers but is_impossible is true" if impossible else "has no answers and is not is_impossible"
        raise InputError(f"{where}: {found}")
    return Question(identifier, text, context, answers)


def parse_questions(root: object, where: str, strict: bool = True, labelled: bool = True) -> list[Question]:
    """The questions of a SQuAD 1.1 or 2.0 object. Raises InputError naming article, paragraph and question id. strict:
    raise where is_impossible contradicts the answers. (The official script looks at the answers only.) labelled: False
    does not look for answers."""
    questions = []
    for a, article in enumerate(_field(root, "data", list, where)):
        for p, paragraph in enumerate(_field(article, "paragraphs", list, f"{where}: article {a}")):
            here = f"{where}: article {a}, paragraph {p}"
            context = _field(paragraph, "context", str, here)
            given = _field(paragraph, "qas", list, here)
            questions += [_read_question(qa, context, here, strict, labelled) for qa in given]
    return questions


@dataclass(frozen=True)
class Misplaced:
    """An answer that is not where it says."""

    remark: str  # which one, and where its text is
    moved: bool  # to the one place where its text is


def places_of(text: str, context: str) -> list[int]:
    """Where a text occurs [count]: as whole words, or, where it nowhere does, inside of words. "art" is at 6 in "party
    art", and at 1 in "party"."""
    found, at = [], context.find(text) if text else -1
    while at >= 0:
        found.append(at)
        at = context.find(text, at + 1)
    whole = [at for at in found if not _inside(context, at) and not _inside(context, at + len(text))]
    return whole or found


def _inside(context: str, at: int) -> bool:
    """Whether a word goes on across this place."""
    return context[at - 1 : at].isalnum() and context[at : at + 1].isalnum()


def told_places(text: str, places: Sequence[int], context: str) -> str:
    """ "it is at 12", "it is at 3, 40 and 7 more places", "its text is nowhere in the passage"."""
    if len(places) > 2:
        rest = len(places) - 2
        return f"it is at {places[0]}, {places[1]} and {rest} more place{'s' * (rest > 1)}"
    if places:
        return f"it is at {' and '.join(map(str, places))}"
    loose = re.compile(r"\s+".join(map(re.escape, text.split())), re.IGNORECASE) if len(text) < 200 else None
    near = loose.search(context) if loose and text.strip() else None
    hint = f"; did you mean {shown(near[0])} at {near.start()}?" if near else ""
    return f"its text is nowhere in the passage{hint}"


def place_answers(question: Question, where: str, bad_answers: str) -> tuple[Question | None, list[Misplaced]]:
    """A question with its misplaced answers moved or left out, as `read_questions` says (None: it has lost all of its
    answers), and what there is to say about them."""
    answers, misplaced = [], []
    for text, start in question.answers:
        if (text, start) in question.placed:
            answers.append((text, start))
            continue
        places = places_of(text, question.context)
        moved = bad_answers == "fix" and len(places) == 1
        told = f"{where}: question id {question.id}: answer {shown(text)} is not at {shown(start)}; "
        misplaced.append(Misplaced(told + told_places(text, places, question.context), moved))
        answers += [(text, places[0])] if moved else []
    if bad_answers in ("skip", "fix") and misplaced:
        return (replace(question, answers=tuple(answers)) if answers else None), misplaced
    return question, misplaced


def read_questions(files: Mapping[Path, bytes], bad_answers: str = "error") -> tuple[list[Question], list[Misplaced]]:
    """All questions of several files, and each answer that is not where it says.

    files: the contents by path.
    bad_answers: "error" raises InputError for such answers. "skip" leaves them out, and with them every question that
        loses all its answers. "fix" moves an answer to where its text is, if that is one place only, and leaves out the
        others. "keep" keeps them and ignores is_impossible too: the official script looks at neither.
    Raises InputError too for a duplicate id, for no questions at all, and for whatever `parse_questions` names.
    """
    questions: list[Question] = []
    seen: dict[str, Path] = {}
    misplaced: list[Misplaced] = []
    for path, data in files.items():
        if path.suffix.lower() in TABLES:
            raise InputError(f"{path}: is a table of labelled texts; span_qa reads SQuAD's JSON")
        for question in parse_questions(parse_object(data, path), str(path), strict=bad_answers != "keep"):
            if question.id in seen:
                raise InputError(f"{path}: question id {question.id} is already in {seen[question.id]}")
            seen[question.id] = path
            kept, wrong = place_answers(question, str(path), bad_answers)
            questions += [kept] if kept else []
            misplaced += wrong
    if misplaced and bad_answers == "error":
        raise InputError(
            f"{len(misplaced)} answer(s) are not where they say; correct them, move what is in one place only with "
            "--set data.bad_answers=fix, or leave them out with data.bad_answers=skip; the first: "
            + "; ".join(each.remark for each in misplaced[:3])
        )
    if not questions:
        raise InputError(f"{', '.join(map(str, files))}: no questions")
    return questions, misplaced
