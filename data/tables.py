"""CSV, TSV and JSONL files to labelled texts.

.csv    as RFC 4180 has it: fields may be quoted, and quoted ones may hold commas and line breaks
.tsv    tabs between fields, and nothing is special in them: a quote is a quote
.jsonl  a JSON object a line
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inputs import InputError, decode_text, parse_json, shown

csv.field_size_limit(2**31 - 1)  # a text may be long; what does not fit the model is cut there


@dataclass(frozen=True)
class Columns:
    """Where in a file things are: names of columns, or their numbers from 0 where there is no header."""

    text: str = "text"
    pair: str | None = None
    label: str | None = "label"  # None: the labels are not needed
    header: bool = True


@dataclass(frozen=True)
class Row:
    """One line of a file, or one generated example."""

    text: str
    pair: str | None
    label: object  # a text from CSV and TSV, any JSON value from JSONL, None where labels are not read
    where: str  # for messages and as an id: "train.csv line 12"


def read_table(path: Path, data: bytes, columns: Columns) -> list[Row]:
    """The rows of one file, by its ending. data: the file's bytes.

    Raises InputError, naming file and line, for what is no such file: an unknown ending, bytes that are not UTF-8, a
    missing column, a line with another number of fields than the first, an empty text, no rows.
    """
    text = decode_text(data, path)
    if path.suffix == ".jsonl":
        rows = list(_read_jsonl(path, text, columns))
    elif path.suffix in (".csv", ".tsv"):
        rows = list(_read_fields(path, text, columns))
    else:
        raise InputError(f"{path}: ends in {path.suffix or 'nothing'!r}; .csv, .tsv and .jsonl can be read")
    if not rows:
        raise InputError(f"{path}: has no rows")
    return rows


def _read_fields(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    quoting = {"quoting": csv.QUOTE_NONE, "delimiter": "\t"} if path.suffix == ".tsv" else {"strict": True}
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
    for name in filter(None, (columns.text, columns.pair, columns.label)):
        if names.count(name) != 1:
            problem = "is there twice" if name in names else "is missing"
            hint = "" if columns.header else " (data.header is false: columns are numbers)"
            listed = ", ".join(map(shown, names[:10]))
            raise InputError(f"{where}: column {name!r} {problem}; the columns are {listed}{hint}")
        found[name] = names.index(name)
    return found


def _read_jsonl(path: Path, text: str, columns: Columns) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            record = parse_json(line)
        except ValueError as error:
            raise InputError(f"{where}: cannot be read as JSON: {error}") from None
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected an object, found {shown(record)}")
        for name in filter(None, (columns.text, columns.pair, columns.label)):
            if name not in record:
                raise InputError(f"{where}: no {name!r}; its keys are {', '.join(map(shown, list(record)[:10]))}")
        yield _row(where, record, columns)


def _row(where: str, record: dict, columns: Columns) -> Row:
    texts = [record[name] for name in (columns.text, columns.pair) if name is not None]
    for name, value in zip((columns.text, columns.pair), texts, strict=False):
        if not isinstance(value, str) or not value.strip():
            problem = "is empty" if isinstance(value, str) else f"is {shown(value)}, expected a text"
            raise InputError(f"{where}: {name!r} {problem}")
    pair = texts[1] if len(texts) > 1 else None
    return Row(texts[0], pair, None if columns.label is None else record[columns.label], where)
