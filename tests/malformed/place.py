"""What people hand in by mistake or in malice: a corpus of inputs, each of which must be refused in one line.

`tests/test_malformed.py` tries them all. `python -m tests.malformed` counts them by category, `python -m tests.malformed
--all` prints what each said.

A case starts from a working place (an experiment, SQuAD files, a small checkpoint and tokenizer, a finished run), breaks
one thing in it, and runs train.py or eval.py.
"""

import contextlib
import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import eval as eval_py
import train
from model.hub import packaged_folder
from tests.conftest import small_encoder, write_checkpoint

CONTEXT = "the man went to the store and bought a gallon of milk"


@dataclass(frozen=True)
class Case:
    category: str
    name: str
    damage: Callable[[Path], None]  # breaks something in the place
    answer: str  # must be part of what is said
    arguments: tuple[str, ...] = ("train",)  # the program's part, and what is added to its command line


# ---- a place where everything works ----------------------------------------------------------------------------------


def question(number: int, **changes) -> dict:
    answer = {"text": "milk", "answer_start": CONTEXT.index("milk")}
    return {"id": f"q{number}", "question": "what did he buy ?", "answers": [answer], **changes}


def squad(*questions: dict) -> dict:
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}]}


def experiment() -> dict:
    return {
        "name": "tiny",
        "model": {"pretrained": "small"},
        "lora": {"rank": 2, "alpha": 4},
        "task": "span_qa",
        "data": {
            "train": ["train.json"],
            "dev": ["dev.json"],
            "max_length": 64,
            "doc_stride": 16,
            "max_query_length": 16,
        },
        "phases": [{"name": "one", "epochs": 2, "train": ["head", "lora"]}],
        "optim": {"lr": 1e-3},
        "runtime": {"device": "cpu", "threads": 1},
    }


def put(path: Path, content: bytes | str | dict | list) -> None:
    """Replace a file; never write into it, it may be a link to the template's."""
    if path.is_symlink() or path.exists():
        path.unlink()
    if isinstance(content, dict | list):
        content = json.dumps(content)
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)


def set_key(file: Path, path: str, value) -> None:
    """Set the value at a dotted path of a JSON file."""
    root = node = json.loads(file.read_bytes())
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        node = node[key]
    node[last] = value
    put(file, root)


def drop_key(file: Path, path: str) -> None:
    root = node = json.loads(file.read_bytes())
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    del node[last]
    put(file, root)


def working_place(place: Path) -> None:
    place.mkdir(exist_ok=True)
    write_checkpoint(place / "small", small_encoder(hidden_size=16, intermediate_size=16), packaged_folder())
    (place / "small/model.safetensors").chmod(0o644)  # safetensors writes files that only their owner can read
    put(place / "exp.json", experiment())
    put(place / "train.json", squad(*map(question, range(8))))
    put(place / "dev.json", squad(question(9)))
    put(place / "text.txt", CONTEXT)
    code, _, errors = run(place, ("train",))
    assert code == 0, errors
    (place / "runs").rename(place / "finished")


def command(arguments: tuple[str, ...]) -> tuple[Callable, list[str]]:
    program, *more = arguments
    if program == "train":
        return train.main, ["--exp", "exp.json", "--data-root", ".", *more]
    if program == "resume":
        return train.main, ["--exp", "exp.json", "--data-root", ".", "--runs", "finished", "--resume", *more]
    if program == "train alone":
        return train.main, list(more)
    if program == "eval alone":
        return eval_py.main, list(more)
    if program == "score":
        return eval_py.main, ["score", "--data", "dev.json", *more]
    if program == "ask":
        return eval_py.main, ["ask", "finished/tiny", "--question", "who ?", *more]
    return eval_py.main, ["summary", "finished/tiny", *more]


def run(place: Path, arguments: tuple[str, ...]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a program run in the place."""
    out, errors, before = io.StringIO(), io.StringIO(), os.getcwd()
    program, words = command(arguments)
    os.chdir(place)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = program(words)
    except SystemExit as stopped:  # by argparse
        code = stopped.code
    finally:
        os.chdir(before)
    return code, out.getvalue(), errors.getvalue()


# ---- ways to break a file --------------------------------------------------------------------------------------------

DEEP = 100_000
# (name, content, what the answer contains), for any file that must be a JSON object.
BROKEN_JSON = [
    ("empty", b"", "cannot be read as JSON"),
    ("only spaces", b" \n\t ", "cannot be read as JSON"),
    ("prose", b"dear sir or madam", "line 1 column 1"),
    ("cut off", b'{"a": [1, 2', "it ends too early; a bracket is missing"),
    ("unclosed text", b'{"a": "bc', "Unterminated string"),
    ("a trailing comma", b'{"a": 1,}', "a comma with nothing after it; remove it"),
    ("single quotes", b"{'a': 1}", "line 1 column 2: a text stands in straight double quotes"),
    ("a comment", b'{"a": 1} // one', "line 1 column 10: JSON has no comments; remove this one"),
    ("two objects", b'{"a": 1}\n{"b": 2}\n', "line 2 column 1"),
    ("a list", b"[1, 2]", "expected a JSON object, found [1, 2]"),
    ("a number", b"17", "expected a JSON object, found 17"),
    ("a text", b'"x"', "expected a JSON object, found 'x'"),
    ("null", b"null", "expected a JSON object, found None"),
    ("NaN", b'{"a": NaN}', "NaN is not a number that JSON knows"),
    ("Infinity", b'{"a": -Infinity}', "-Infinity is not a number that JSON knows"),
    ("a key twice", b'{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice"),
    ("deep lists", b"[" * DEEP, "nested too deeply"),
    ("deep objects", b'{"a":' * DEEP, "nested too deeply"),
    ("a number of 5,000 digits", b'{"a": ' + b"9" * 5000 + b"}", "cannot be read as JSON"),
    ("UTF-16", '{"a": 1}'.encode("utf-16"), "is not UTF-8"),
    ("Latin-1", '{"\n\u00e9": 1}'.encode("latin-1"), "line 2 is not UTF-8"),
    ("half a UTF-8 character", b'{"a": "\xf0\x9f"}', "is not UTF-8"),
    ("half a surrogate pair", b'{"a": "\\ud83d"}', "it is half of a character"),
    ("a NUL byte", b'{"a": "\x00"}', "Invalid control character"),
    ("nothing but NUL bytes", bytes(4096), "cannot be read as JSON"),
    ("a newline in a text", b'{"a": "b\nc"}', "Invalid control character"),
    ("a pickle", pickle.dumps({"a": 1}), "is not UTF-8"),
    ("a PNG", b"\x89PNG\r\n\x1a\n" + bytes(20), "is not UTF-8"),
]


def broken_json(category: str, file: str, arguments: tuple[str, ...] = ("train",)) -> Iterator[Case]:
    for name, content, answer in BROKEN_JSON:
        yield Case(category, name, lambda p, c=content: put(p / file, c), answer, arguments)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(target: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return damage


def unusual_files(category: str, file: str, answers: dict[str, str], arguments: tuple[str, ...] = ("train",)):
    """A file that is missing, a folder, a link to itself or to nowhere, a device, not ours to read."""
    ways = {
        "missing": Path.unlink,
        "a folder": _folder,
        "a link to itself": _link(Path(file).name),
        "a link to nowhere": _link("nowhere"),
        "an endless device": _link("/dev/zero"),
        "a pipe": lambda path: (path.unlink(missing_ok=True), os.mkfifo(path)),
        "no permission": lambda path: (put(path, path.read_bytes()), path.chmod(0)),
    }
    for name, way in ways.items():
        yield Case(category, name, lambda p, w=way: w(p / file), answers.get(name, answers["missing"]), arguments)


FILE_ANSWERS = {
    "missing": "no such",
    "a folder": "is a folder; a file is needed",
    "an endless device": "is a device; a file is needed",
    "a pipe": "is a pipe; a file is needed",
    "no permission": "Permission denied",
}
