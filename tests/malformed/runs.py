"""Run folders: what --resume and `eval.py summary` find there."""

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors.torch import load_file, save_file

from data.files import sha256_of
from tests.malformed.place import FILE_ANSWERS, Case, broken_json, drop_key, put, set_key, unusual_files

TINY = "finished/tiny"
LAST, DIARY = f"{TINY}/last", f"{TINY}/metrics.jsonl"
STATE = f"{LAST}/checkpoint.json"
RESUME, SUMMARY = ("resume",), ("summary",)

# ---- --resume --------------------------------------------------------------------------------------------------------

BAD_STATE = [
    ("format", 1, "format is 5, was 1"),
    ("format", "two", "(it has format 'two', this code 5); use the code that wrote it"),
    ("format", None, "(it has format None, this code 5); use the code that wrote it"),
    ("identity", [], "identity: expected an object, found []"),
    ("identity", {}, "belongs to another experiment"),
    ("identity.spec.seed", 7, "spec.seed is 0, was 7"),
    ("identity.spec", None, "belongs to another experiment: spec is"),
    ("identity.precision", "fp8", "was 'fp8'"),
    ("identity.pretrained", "0" * 64, "pretrained is"),
    ("identity.data", {}, "data.main is"),
    ("sha256", [], "sha256: expected an object"),
    ("sha256", {"head.safetensors": 7}, "sha256.head.safetensors: expected a text, found 7"),
    ("sha256", {"head.safetensors": "0" * 64}, "head.safetensors: is not what was saved"),
    ("sha256", {"none.safetensors": "0" * 64}, "'none.safetensors' is not the name of a checkpoint's file"),
    ("sha256", {"../../../exp.json": "0" * 64}, "'../../../exp.json' is not the name of a checkpoint's file"),
    ("sha256", {"/etc/passwd": "0" * 64}, "'/etc/passwd' is not the name of a checkpoint's file"),
    ("sha256", {"a\x00b": "0" * 64}, "a\\x00b"),
    ("metrics_sha256", "0" * 64, "metrics.jsonl: has been edited"),
    ("metrics_bytes", 0, "metrics.jsonl: is shorter than"),
    ("metrics_bytes", 100, "metrics.jsonl: has been edited before its byte 100"),
    ("identity.threads", 64, "threads is 1, was 64"),
    ("progress.step", -5, "it is of another run"),
    ("progress.phase_step", 10**9, "it is of another run"),
    ("metrics_bytes", -1, "metrics.jsonl: is shorter than"),
    ("metrics_bytes", 10**9, "metrics.jsonl: is shorter than the 1000000000 bytes"),
    ("metrics_bytes", 1.5, "metrics_bytes: expected a whole number"),
    ("metrics_bytes", 10**30, "metrics_bytes: 1000000"),
    ("seconds", "long", "seconds: expected a number"),
    ("progress.sums.since", None, "progress.sums.since: expected a number"),
    ("scaler", 3, "scaler: expected an object"),
    ("progress", None, "progress: expected an object, found None"),
    ("progress.position", -1, "says step -1 of"),
    ("progress.position", 10**6, "says step 1000000 of"),
    ("progress.position", "3", "progress.position: expected a whole number"),
    ("progress.phase", 7, "it is of another run"),
    ("progress.phase", -2, "it is of another run"),
    ("progress.step", True, "progress.step: expected a whole number, found True"),
    ("progress.nonfinite", [], "progress.nonfinite: expected a whole number"),
    ("progress.best", [], "progress.best: expected an object"),
    ("progress.best", {}, "progress.best.step: is required"),
    ("progress.best.metrics", {"f1": "good"}, "progress.best.metrics.f1: expected a number"),
    ("progress.best.metrics", {}, "no metric 'f1'"),
    ("progress.sums", {"loss": "x"}, "progress.sums.loss: expected a number"),
    ("progress.clock", {"lunch": 1}, "progress.clock.lunch: unknown key"),
    ("progress.extra", 1, "progress.extra: unknown key"),
    ("extra", 1, "extra: unknown key"),
]


def exchanged(file: str, content: bytes | Callable[[Path], None]) -> Callable[[Path], None]:
    """Replace a file of last/ and its sha256 with it: what an attacker does, and a careless hand cannot."""

    def damage(place: Path) -> None:
        path = place / LAST / file
        if callable(content):
            content(path)
        else:
            put(path, content)
        state = json.loads((place / STATE).read_bytes())
        state["sha256"][file] = sha256_of(path)
        put(place / STATE, state)

    return damage


def edited(edit: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        edit(tensors)
        path.unlink()
        save_file(tensors, path)

    return damage


def first(tensors: dict, part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def resumptions() -> Iterator[Case]:
    yield from broken_json("checkpoint.json", STATE, RESUME)
    yield from unusual_files("checkpoint.json", STATE, FILE_ANSWERS | {"a link to itself": "symbolic links"}, RESUME)
    for key, value, answer in BAD_STATE:
        yield Case(
            "checkpoint.json", f"{key}: {value}", lambda p, k=key, v=value: set_key(p / STATE, k, v), answer, RESUME
        )
    for key in ("format", "identity", "outputs", "sha256", "metrics_bytes", "scaler", "progress"):
        yield Case("checkpoint.json", f"no {key}", lambda p, k=key: drop_key(p / STATE, k), "cannot be used", RESUME)
    files = ("head.safetensors", "adapter_model.safetensors", "adapter_config.json", "training.safetensors")
    for name in files:
        for way, damage in (
            ("missing", Path.unlink),
            ("cut off", lambda path: put(path, path.read_bytes()[:-1])),
            ("one bit flipped", lambda path: put(path, path.read_bytes()[:-3] + b"\x01" + path.read_bytes()[-2:])),
            ("a pickle", lambda path: put(path, pickle.dumps({}))),
        ):
            yield Case("checkpoint files", f"{name}: {way}", lambda p, n=name, d=damage: d(p / LAST / n), name, RESUME)
        yield Case(
            "checkpoint files", f"{name}: a pickle with its sha256", exchanged(name, pickle.dumps({})), name, RESUME
        )
    for name, file, edit, answer in (
        ("a head of another task", files[0], lambda t: t.clear(), "missing tensor(s)"),
        ("a wider head", files[0], lambda t: t.update({first(t, "weight"): t[first(t, "bias")].clone()}), "the model has"),
        ("an adapter too many", files[1], lambda t: t.update(x=t[first(t, "A")].clone()), "1 unexpected tensor(s)"),
        ("an adapter of another rank", files[1], lambda t: t.update({first(t, "A"): t[first(t, "A")][:1].clone()}), "the model has"),
        ("no random state", files[3], lambda t: t.pop("random/cpu"), "random generators"),
        ("a short random state", files[3], lambda t: t.update({"random/cpu": t["random/cpu"][:9].clone()}), "random generators"),
        ("half an optimizer", files[3], lambda t: t.pop(first(t, "exp_avg_sq")), "is not what this run's optimizer keeps"),
        ("momentum of another shape", files[3], lambda t: t.update({first(t, "exp_avg"): t["random/cpu"].float()}), "another shape"),
        ("momentum of nothing", files[3], lambda t: t.update({"optimizer/none/exp_avg": t["random/cpu"].clone()}), "of none is not"),
    ):  # fmt: skip
        yield Case("checkpoint files", name, exchanged(file, edited(edit)), answer, RESUME)
    for key, value in (
        ("lora_alpha", 99),
        ("use_rslora", True),
        ("alpha_pattern", {"query": 3}),
        ("lora_alpha", [[[[]]]]),
    ):
        change = exchanged(files[2], lambda path, k=key, v=value: set_key(path, k, v))
        yield Case("checkpoint files", f"adapter_config.json: {key} {value}", change, f"{key} is", RESUME)


def folders() -> Iterator[Case]:
    last, best = Path(LAST), Path(TINY) / "best"
    for name, damage, answer, arguments in (
        ("no last/", lambda p: shutil.rmtree(p / last), "it has no checkpoint (last/)", RESUME),
        ("last/ is a file", lambda p: (shutil.rmtree(p / last), put(p / last, "x")), "last: is a file, and a plain folder is to be written there", RESUME),
        ("best/ is missing", lambda p: shutil.rmtree(p / best), "best: is not the best evaluation", RESUME),
        ("last/ is empty", lambda p: (shutil.rmtree(p / last), (p / last).mkdir()), "checkpoint.json: no such file", RESUME),
        ("last/ links to itself", lambda p: (shutil.rmtree(p / last), (p / last).symlink_to("last")), "last: is a link", RESUME),
        ("a run is there", lambda p: None, "already holds a run", ("train", "--runs", "finished")),
        ("a run by another name", lambda p: (p / TINY).rename(p / "finished/other"), "name is 'other', was 'tiny'",
         ("resume", "--set", "name=other")),
        ("another seed", lambda p: None, "seed is 3, was 0", ("resume", "--set", "seed=3")),
        ("no spec.json", lambda p: (p / TINY / "spec.json").unlink(), "is not empty and not a run folder", RESUME),
        ("the folder is a file", lambda p: (shutil.rmtree(p / TINY), put(p / TINY, "x")), "is a file", RESUME),
        ("somebody's files", lambda p: (shutil.rmtree(p / TINY), (p / TINY).mkdir(), put(p / TINY / "thesis.tex", "x")),
         "is not empty and not a run folder", ("train", "--runs", "finished", "--overwrite")),
        ("--runs is a file", lambda p: put(p / "file", "x"), "file: is a file", ("train", "--runs", "file")),
        ("--runs is below a file", lambda p: put(p / "file", "x"), "Not a directory", ("train", "--runs", "file/runs")),
        ("--runs links to itself", lambda p: (p / "loop").symlink_to("loop"), "loop", ("train", "--runs", "loop")),
        ("--runs is not ours to write", lambda p: ((p / "no").mkdir(), (p / "no").chmod(0o555)), "Permission denied",
         ("train", "--runs", "no")),
        ("the run folder is not ours to read", lambda p: (p / TINY).chmod(0), "Permission denied", RESUME),
    ):  # fmt: skip
        yield Case("run folder", name, damage, answer, arguments)


# ---- metrics.jsonl ---------------------------------------------------------------------------------------------------


def lines(edit: Callable[[list[bytes]], object]) -> Callable[[Path], None]:
    def damage(place: Path) -> None:
        found = (place / DIARY).read_bytes().splitlines(keepends=True)
        edit(found)
        put(place / DIARY, b"".join(found))

    return damage


def run_record(path: str, value) -> Callable[[Path], None]:
    """Change a field of the first record."""

    def damage(place: Path) -> None:
        found = (place / DIARY).read_bytes().splitlines(keepends=True)
        put(place / DIARY, found[0])
        set_key(place / DIARY, path, value)
        put(place / DIARY, (place / DIARY).read_bytes() + b"\n" + b"".join(found[1:]))

    return damage


BROKEN_LINES = [
    ("empty", b""),
    ("prose", b"dear sir or madam\n"),
    ("NUL bytes", bytes(4096)),
    ("not UTF-8", b"\xff\xfe\n"),
    ("a list in each line", b"[1]\n[2]\n"),
    ("objects of no kind", b"{}\n{}\n"),
    ("deep lists", b"[" * 100_000 + b"\n"),
    ("a line of 100 MB", b"x" * 10**8 + b"\n"),
    ("a torn line", b'{"kind": "run", "step": 0'),
    ("a pickle", pickle.dumps({"kind": "run"})),
    ("CRLF and nothing else", b"\r\n" * 50),
]


def diaries() -> Iterator[Case]:
    missing = "kind 'run', is missing"
    yield from unusual_files(
        "metrics.jsonl",
        DIARY,
        {"missing": "is not a run folder (no metrics.jsonl)", "no permission": "Permission denied"},
        SUMMARY,
    )
    for name, content in BROKEN_LINES:
        yield Case("metrics.jsonl", name, lambda p, c=content: put(p / DIARY, c), missing, SUMMARY)
    for path, value in (
        ("spec", None), ("spec", []), ("spec.name", 7), ("spec.seed", "0"), ("spec.tasks", []), ("spec.tasks", {}), ("spec.tasks.main", 3), ("spec.tasks.main.task", 7), ("spec.eval", None),
        ("spec.eval.metric", 3), ("pretrained", "x"), ("pretrained.name", None), ("data", {}), ("data.splits", 8),
        ("data.splits.main", []),
        ("data.splits.main.train.examples", "8"), ("data.splits.main.dev.examples", -1), ("data.splits.main.dev.kind", 5),
        ("device", None), ("precision", 16), ("parameters", 0), ("parameters", 1.5), ("steps_planned", None), ("kind", 5), ("step", "first"), ("epoch", []),
        ("seconds", None),
    ):  # fmt: skip
        yield Case("metrics.jsonl", f"the first record's {path}: {value}", run_record(path, value), missing, SUMMARY)
    yield Case("metrics.jsonl", "without its first record", lines(lambda found: found.pop(0)), missing, SUMMARY)
    yield Case("metrics.jsonl", "the folder is a file", lambda p: (shutil.rmtree(p / TINY), put(p / TINY, "x")),
               "is not a run folder (no metrics.jsonl)", SUMMARY)  # fmt: skip
    for name, edit, answer in (
        ("cut off", lambda found: found.__delitem__(slice(2, None)), "is shorter than the"),
        ("CRLF", lambda found: found.__setitem__(slice(None), [x[:-1] + b"\r\n" for x in found]), "has been edited"),
        ("a note at its top", lambda found: found.insert(0, b"a note\n"), "has been edited"),
        ("emptied", lambda found: found.clear(), "is shorter than the"),
    ):
        yield Case("metrics.jsonl", f"{name}, then --resume", lines(edit), answer, RESUME)


def cases() -> Iterator[Case]:
    yield from resumptions()
    yield from folders()
    yield from diaries()
