"""Damage the records of real runs at random, and read them in every way that `eval.py summary` has.

    python -m tests.mutated_records 2000

Each mutation replaces leaves, keys and lines of a metrics file by what nobody expects there. Whatever a file says, the
answer is a report or one line that says what is wrong, within seconds, and no character of it acts on a terminal.
"""

import contextlib
import copy
import io
import json
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eval as eval_py
import train
from experiments.records import FIELDS, FILE
from model.hub import packaged_folder
from tests.conftest import small_encoder, write_checkpoint

SLOWEST = 10.0  # seconds
FORMS: list[list[str]] = [[], ["--markdown"], ["--json"]]
PAGES = 40  # one mutation in so many is drawn as a page and a picture, too
TEXTS = ["", "\x1b[31m\x07\x9b", "a\nb\r\u2028\u202e\x00\x7f", "$\\frac{$", "x" * 200_000, "é漢字😀",
         "![a](http://a.b) www.a.b a@b.cd @someone #12 <b>|`*_", "loss", "eval"]  # fmt: skip
NUMBERS = [0, -1, 0.5, 1e7, 1e-320, -1e300, 1.7e308, float("inf"), float("nan"), 2**53, 2**63, 10**4400]


def nested(depth: int) -> Any:
    value: Any = "inside"
    for i in range(depth):
        value = {"a": value} if i % 2 else [value]
    return value


def nasty(rng: random.Random) -> Any:
    """A value of any kind that is meant to do harm."""
    if rng.random() < 0.1:
        return [nasty(rng) for _ in range(rng.randrange(4))]
    others = [None, True, [], {}, [None], [1, "a"], {"": ""}, {"a": {}}, {"\x1b": {"b": "c"}}]
    harmful = ["\ud800", {"\ud800": 1}, 10**400, 1e-320, 1e7, "cost $_$ 5", nested(30), nested(900)]  # did harm once
    return rng.choice(rng.choice([TEXTS, NUMBERS, others, harmful, harmful]))


def path_in(record: dict, rng: random.Random) -> list:
    """The keys that lead to something in a record, which may be a whole object or list. Half of the time it is in one
    of the fields that readers look at."""
    path: list[Any] = rng.choice(list(FIELDS[record["kind"]])).split(".") if rng.random() < 0.5 else []
    value: Any = record
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    while isinstance(value, dict | list) and value and not (path and rng.random() < 0.2):
        path.append(rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value)))
        value = value[path[-1]]
    return path


def change(record: dict, path: list, way: str, value: Any, name: str) -> None:
    """Replace, drop or rename what stands at a path of a record, if it has one, or add something beside it."""
    holder: Any = record
    with contextlib.suppress(AttributeError, IndexError, KeyError, TypeError):  # another record of the kind may lack it
        for key in path[:-1]:
            holder = holder[key]
        if way == "replace":
            holder[path[-1]] = value
        elif way == "drop":
            del holder[path[-1]]
        else:
            holder[name] = holder.pop(path[-1]) if way == "rename" else value


JUNK = [b"", b"\xff", b"{}", b"[" * 100_000, b"1", b"null", b'{"kind": "eval"', b'"\xed\xa0\x80"', b"x" * 10**6]


def mutate(records: list[dict], rng: random.Random) -> bytes:
    """The lines of a metrics file with one to eight things wrong, in one record or in all of its kind."""
    kinds = [record["kind"] for record in records]
    untouched, records = records, copy.deepcopy(records)
    lines: list[Any] = list(records)
    for _ in range(rng.choice([1, 2, 4, 8])):
        kind = rng.choice(sorted(set(kinds)))
        alike = [i for i, each in enumerate(kinds) if each == kind]
        at, other = rng.choice(alike), rng.randrange(len(lines))
        way = rng.choice(["replace"] * 6 + ["drop", "rename", "add", "junk", "twice", "swap"])
        if way == "junk":
            lines[at] = rng.choice(JUNK)
        elif way == "twice":
            lines.insert(other, records[at])
        elif way == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        else:
            path = path_in(untouched[at], rng)
            value, name = nasty(rng), rng.choice(TEXTS)
            for i in alike if rng.random() < 0.6 else [at]:
                change(records[i], path, way, value, name)
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # 10**4400 is to be written, though it will not be read
    try:
        made = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    finally:
        sys.set_int_max_str_digits(before)
    return b"\n".join(made) + rng.choice([b"\n", b"\n", b"\n", b""])


# ---- reading ---------------------------------------------------------------------------------------------------------


def refuse_constant(literal: str) -> None:
    raise ValueError(f"{literal} is not JSON")


def too_slow(*_: object) -> None:
    raise TimeoutError(f"took more than {SLOWEST:g} s")


def read(arguments: list[str]) -> str | None:
    """What is wrong with how `eval.py summary` answers, None where nothing is."""
    out, errors, began = io.StringIO(), io.StringIO(), time.perf_counter()
    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(int(SLOWEST) + 1)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
            warnings.simplefilter("error")  # they would be printed
            code = eval_py.main(["summary", *arguments])
        if code == 0 and "--json" in arguments:
            found = json.loads(out.getvalue(), parse_constant=refuse_constant)
            json.dumps(found, ensure_ascii=False).encode()  # UnicodeEncodeError: half of a character
    except Exception:
        return traceback.format_exc(limit=-3)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    seconds, said = time.perf_counter() - began, out.getvalue() + errors.getvalue()
    if seconds > SLOWEST or code not in (0, 2):
        return f"exit code {code}, {seconds:.1f} s: {said[-300:]}"
    acting = next((i for i, c in enumerate(said) if not (c.isprintable() or c == "\n")), None)
    return None if acting is None else f"{said[acting]!r} in {said[max(0, acting - 60) : acting + 60]!r}"


def real_runs(place: Path) -> list[list[dict]]:
    """The records of two small runs: a question task that also evaluates a training sample; two tasks in one."""
    small = write_checkpoint(place / "small", small_encoder(hidden_size=16, intermediate_size=16), packaged_folder())
    short = {"train_limit": 24, "dev_limit": 8, "max_length": 64}
    qa = {"task": "span_qa", "data": {"source": "synthetic_qa", "doc_stride": 16, "max_query_length": 16, **short}}
    mood = {"task": "classification", "data": {"source": "synthetic_sentiment", **short}}
    parts = {
        "phases": [
            {"name": "one", "epochs": 1, "train": ["head", "lora"]},
            {"name": "two", "epochs": 1, "train": ["all"]},
        ],
        "lora": {"rank": 2, "alpha": 4},
        "model": {"pretrained": str(small)},
        "runtime": {"device": "cpu", "threads": 1, "log_every": 2},
    }
    found = []
    for name, tasks in (("asked", {"qa": qa}), ("both", {"qa": qa, "mood": mood})):
        evaluation = {"every_epochs": 0.5, "train_sample": 4} if name == "asked" else {"every_epochs": 0.5}
        (place / f"{name}.json").write_text(json.dumps(parts | {"tasks": tasks, "eval": evaluation}))
        with contextlib.redirect_stdout(io.StringIO()):
            assert train.main(["--exp", str(place / f"{name}.json"), "--runs", str(place / "runs")]) == 0
        found.append([json.loads(line) for line in (place / "runs" / name / FILE).read_text().splitlines()])
        for counts in found[-1][0]["data"]["splits"].values():
            counts["dev"].setdefault("baseline", {"f1": 50.0, "accuracy": 50.0})
    return found


def attempts(count: int, place: Path) -> Iterator[tuple[int, list[str], str]]:
    """(number of the mutation, arguments, what is wrong) for whatever goes wrong in `count` mutations."""
    runs = real_runs(place)
    folders = [place / name for name in ("mutated", "other", "sound")]
    for folder in folders:
        folder.mkdir()
    (folders[2] / FILE).write_text("".join(json.dumps(record) + "\n" for record in runs[0]))
    for number in range(count):
        rng = random.Random(number)
        for folder in folders[:2]:
            (folder / FILE).write_bytes(mutate(rng.choice(runs), rng))
        pair = [folders[0], folders[1 + rng.randrange(2)]]
        ways = [(folders[:1], form) for form in FORMS] + [(pair, rng.choice(FORMS))]
        if number % PAGES == 0:
            drawn = ["--html", str(place / "page.html"), "--png", str(place / "charts.png")]
            ways += [(names, drawn) for names in (folders[:1], pair)]
        for names, form in ways:
            arguments = [*map(str, names), *form]
            wrong = read(arguments)
            if wrong:
                yield number, arguments, wrong


def main() -> int:
    count, seen = int(sys.argv[1]) if len(sys.argv) > 1 else 2000, 0
    with tempfile.TemporaryDirectory() as place:
        for number, arguments, wrong in attempts(count, Path(place)):
            seen += 1
            print(f"mutation {number}, {' '.join(arguments)}\n{wrong}", flush=True)
    print(f"{count} mutations, {seen} answers wrong")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
