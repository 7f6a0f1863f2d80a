"""What `eval.py score` and `eval.py ask` are given: data, runs, questions and texts."""

import shutil
from collections.abc import Iterator

from tests.malformed.place import Case, broken_json, put, question, set_key, squad, unusual_files

RUN = ("score", "finished/tiny")
TEXT = ("ask", "--context-file", "text.txt")
SPEC, BEST = "finished/tiny/spec.json", "finished/tiny/best"


def data() -> Iterator[Case]:
    yield from broken_json("data to score", "dev.json", RUN)
    for name, content, answer in (
        ("no questions", squad(), "dev.json: no questions"),
        ("an id twice", squad(question(9), question(9)), "question id q9 is already in"),
        ("a question without answers key", squad({"id": "q9", "question": "x"}), "no 'answers'"),
    ):
        yield Case("data to score", name, lambda p, c=content: put(p / "dev.json", c), answer, RUN)


def runs() -> Iterator[Case]:
    for name, damage, answer in (
        ("is not there", lambda p: shutil.rmtree(p / "finished/tiny"), "is not a run folder (no spec.json)"),
        ("has no best/", lambda p: shutil.rmtree(p / BEST), "has no best/; it is written"),
        ("best/ is empty", lambda p: (shutil.rmtree(p / BEST), (p / BEST).mkdir()), "checkpoint.json: no such file"),
        ("a bit of its head is flipped", lambda p: put(p / BEST / "head.safetensors",
         (p / BEST / "head.safetensors").read_bytes()[:-1] + b"\x7f"), "head.safetensors: is not what was saved"),
        ("its spec is broken", lambda p: put(p / SPEC, "{"), "spec.json: cannot be read as JSON"),
        ("its spec has another model", lambda p: set_key(p / SPEC, "model.pretrained", "exp.json"), "model.pretrained is 'exp.json', was 'small'; restore it"),
        ("its spec has another rank", lambda p: set_key(p / SPEC, "lora.rank", 4), "lora.rank is 4, was 2; restore it"),
        ("its weights have changed", lambda p: set_key(p / "small/config.json", "layer_norm_eps", 0.1),
         "is not what it was trained from"),
        ("its weights have gone", lambda p: shutil.rmtree(p / "small"), "small"),
        ("its best is of step 0", lambda p: set_key(p / BEST / "checkpoint.json", "progress.best", None),
         "is not the checkpoint of an evaluation"),
    ):  # fmt: skip
        yield Case("run to score", name, damage, answer, RUN)
        yield Case("run to ask", name, damage, answer, TEXT)
    yield Case("run to score", "no runs", lambda p: None, "the following arguments are required: RUN", ("score",))
    yield Case("run to score", "-1 errors", lambda p: None, "--errors: must not", (*RUN, "--errors", "-1"))
    yield Case("run to score", "no such device", lambda p: None, "'tpu' is not one of", (*RUN, "--device", "tpu"))


def texts() -> Iterator[Case]:
    answers = {
        "missing": "text.txt: no such file",
        "an endless device": "is a device",
        "a pipe": "is a pipe",
        "no permission": "Permission denied",
    }
    for case in unusual_files("text", "text.txt", answers | {"a link to itself": "symbolic"}, TEXT):
        if case.name != "a folder":
            yield case
    for name, content, answer in (
        ("empty", b"", "text.txt: there is no text in it"),
        ("only spaces", b" \n\t", "text.txt: there is no text in it"),
        ("UTF-16", "some text".encode("utf-16"), "text.txt: line 1 is not UTF-8"),
        ("Latin-1", "a line\nna\u00efve".encode("latin-1"), "text.txt: line 2 is not UTF-8"),
        ("a PNG", b"\x89PNG\r\n\x1a\n", "is not UTF-8"),
    ):
        yield Case("text", name, lambda p, c=content: put(p / "text.txt", c), answer, TEXT)
    yield Case("text", "a folder without texts", lambda p: None, "small: has no .txt or .md files",
               ("ask", "--context-file", "small"))  # fmt: skip
    yield Case("text", "an empty --context", lambda p: None, "there is no text in it", ("ask", "--context", " "))
    yield Case("text", "--context is not UTF-8", lambda p: None, "--context: is not UTF-8",
               ("ask", "--context", "milk \udcff"))  # fmt: skip
    yield Case("text", "a question that is not UTF-8", lambda p: None, "--question: is not UTF-8",
               (*TEXT, "--question", "\udcff?"))  # fmt: skip
    for option, value in (("--top", "0"), ("--top", "-1"), ("--passages", "0")):
        yield Case("text", f"{option} {value}", lambda p: None, f"{option}: {value}; a number", (*TEXT, option, value))
    yield Case("text", "--rank-with no run", lambda p: put(p / "text.txt", b"A word. " * 4000), "none: is not a run folder",
               (*TEXT, "--rank-with", "none"))  # fmt: skip
    yield Case("text", "an empty question", lambda p: None, "--question: is empty", (*TEXT, "--question", " "))


def cases() -> Iterator[Case]:
    yield from data()
    yield from runs()
    yield from texts()
