"""A trained run in a Python program: `from experiments.inference import load`."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as eval_py
from data.synthetic.qa import qa_dataset
from experiments.inference import InputError, Labels, load
from tests import passwords
from tests.conftest import small_encoder, write_checkpoint
from tests.tiny import ROOT, run_main

TEXTS = ["number 1 is red", "number 2 is green and blue", "number 3 is grey " * 9, "red"]
PAIRS = ["green", "blue and red " * 5, "grey", "blue"]
KINDS = {  # the label's column, and what else the data section has
    "classification": {"label": "label", "pair": "pair"},
    "multi_label": {"label": "colours"},
    "regression": {"label": "n"},
}
CONTEXTS = [paragraph["context"] for paragraph in qa_dataset("dev", 12)["data"][0]["paragraphs"]]
QUESTIONS = ["Who made way?", "In what year did the oath of office come?", "Why?", "What is the password?"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def checkpoint_of(place, checkpoint):
    return write_checkpoint(place / "small", small_encoder(), checkpoint)


def experiment(folder: Path, checkpoint: Path, name: str, task: str, **changes) -> Path:
    raw = {
        "model": {"pretrained": str(checkpoint)},
        "task": task,
        "amp": "off",
        "phases": [{"name": "all", "epochs": 1, "train": ["all"]}],
        "runtime": {"device": "cpu", "threads": 1},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(raw | changes))
    return path


@pytest.fixture(scope="module")
def runs(place, checkpoint_of):
    """{kind: run folder} of tiny runs of every kind; "always" has seen no question without an answer."""
    rng, lines = random.Random(0), []
    for i in range(40):
        chosen = [colour for colour in ("red", "green", "blue") if rng.random() < 0.4]
        text = f"number {i} is {' and '.join(chosen) or 'grey'}"
        label = "warm" if "red" in chosen else "cold"
        lines.append(json.dumps({"text": text, "pair": text[::-1], "label": label, "colours": chosen, "n": i * 100}))
    for split in ("train", "dev"):
        (place / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    files = {"train": ["train.jsonl"], "dev": ["dev.jsonl"], "max_length": 64}
    questions = {"source": "synthetic_qa", "train_limit": 60, "dev_limit": 20}
    questions |= {"max_length": 64, "doc_stride": 24, "max_query_length": 16}
    for kind, columns in KINDS.items():
        path = experiment(place, checkpoint_of, kind, kind, data=files | columns)
        assert run_main(path, place, "--data-root", str(place)) == 0
    assert run_main(experiment(place, checkpoint_of, "span_qa", "span_qa", data=questions), place) == 0
    paragraphs = passwords.squad(40, 0)["data"][0]["paragraphs"]
    answered = [paragraph for paragraph in paragraphs if paragraph["qas"][0]["answers"]]
    (place / "answered.json").write_text(json.dumps({"data": [{"title": "", "paragraphs": answered}]}))
    questions |= {"source": "files", "train": ["answered.json"], "dev": ["answered.json"]}
    path = experiment(place, checkpoint_of, "always", "span_qa", data=questions)
    assert run_main(path, place, "--data-root", str(place)) == 0
    return {kind: place / "runs" / kind for kind in ("span_qa", "always", *KINDS)}


@pytest.fixture(scope="module")
def models(runs):
    return {kind: load(folder, device="cpu") for kind, folder in runs.items()}


def told(capsys, *words) -> list[dict]:
    capsys.readouterr()
    assert eval_py.main(["ask", *map(str, words), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def same(found, expected) -> None:
    """Equal in everything, numbers within 1e-5 of their size (of batches of other widths, the last bits differ)."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            same(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            same(a, b)
    else:
        assert found == (pytest.approx(expected, rel=1e-5, abs=1e-5) if isinstance(expected, float) else expected)


# ---- results ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_what_eval_ask_says(runs, models, capsys):
    answers = models["span_qa"].answer(QUESTIONS, CONTEXTS[0])
    for answer, expected in zip(answers, told(capsys, runs["span_qa"], "--question", *QUESTIONS, "--context", CONTEXTS[0]), strict=True):  # fmt: skip # noqa: E501
        (one,) = expected["answers"]
        candidates = [{"answer": c.pop("text"), **c} for c in map(asdict, answer.candidates)]
        found = {"answer": answer.text, "null_odds": answer.null_odds, "threshold": answer.threshold}
        same(found | {"text": "--context", "candidates": candidates}, one)
        assert answer.question_cut == expected["question_cut"]
        for span in answer.candidates:
            assert CONTEXTS[0][span.start : span.end] == span.text
    assert len(models["span_qa"].answer("Why?", CONTEXTS[0], candidates=7).candidates) == 7
    assert models["span_qa"].answer("Why " * 30, CONTEXTS[0]).question_cut


def test_labels_and_numbers_are_what_eval_ask_says(runs, models, capsys):
    (one,) = told(capsys, runs["classification"], "--text", TEXTS[0], "--pair", PAIRS[0])
    same({"text": TEXTS[0], **asdict(models["classification"].classify(TEXTS[0], PAIRS[0]))}, one)
    expected = told(capsys, runs["multi_label"], "--text", *TEXTS)
    for text, found, each in zip(TEXTS, models["multi_label"].tag(TEXTS), expected, strict=True):
        assert isinstance(found, Labels)
        same({"text": text, **asdict(found)}, each)
    numbers = [each["value"] for each in told(capsys, runs["regression"], "--text", *TEXTS)]
    assert models["regression"].estimate(TEXTS) == pytest.approx(numbers)
    assert max(numbers) > 100  # the unit of the targets


def test_many_in_one_call_equal_one_by_one(models):
    first, second = [q for q in QUESTIONS for _ in CONTEXTS], CONTEXTS * len(QUESTIONS)
    model = models["span_qa"]
    for one, q, c in zip(model.answer(first, second), first, second, strict=True):
        same(asdict(model.answer(q, c)), asdict(one))
    for text, pair, one in zip(TEXTS, PAIRS, models["classification"].classify(TEXTS, PAIRS), strict=True):
        same(asdict(models["classification"].classify(text, pair)), asdict(one))
    alone = [models["regression"].estimate(text) for text in TEXTS]
    same(alone, models["regression"].estimate(TEXTS))


def test_the_result_has_the_form_of_the_argument(models):
    qa, tags = models["span_qa"], models["multi_label"]
    assert [a.text for a in qa.answer("Why?", CONTEXTS[:3])] == [qa.answer("Why?", c).text for c in CONTEXTS[:3]]
    assert qa.answer([], CONTEXTS[0]) == qa.answer([], []) == tags.tag([]) == []
    for form in (tuple(TEXTS), np.array(TEXTS), (text for text in TEXTS)):  # as a column of a table is, too
        same([asdict(one) for one in tags.tag(form)], [asdict(one) for one in tags.tag(TEXTS)])
    assert tags.tag(np.array(TEXTS)[0]).probabilities  # a string of numpy's is one text


def test_a_great_many_texts_are_one_call(models):
    numbers = models["regression"].estimate(TEXTS * 1000)
    assert len(numbers) == 4000 and numbers[:4] == pytest.approx(numbers[-4:])


def test_logits_are_those_that_answers_come_from(models):
    texts, qa = models["multi_label"], models["span_qa"]
    logits = texts.logits(texts.batch(TEXTS))  # [4, 3]
    for row, found in zip(logits.double().sigmoid(), texts.tag(TEXTS), strict=True):
        assert sorted(found.probabilities.values()) == pytest.approx(sorted(row.tolist()), abs=1e-5)
    assert not logits.requires_grad and logits.dtype == torch.float32
    batch = qa.batch(QUESTIONS[:2], CONTEXTS[0])
    windows, width = batch["tokens"].shape
    assert windows > 2 and batch["types"].shape == (windows, width) and qa.logits(batch).shape == (windows, 2, width)
    best = qa.answer(QUESTIONS[0], "one two").candidates[0]
    start, end = qa.logits(qa.batch(QUESTIONS[0], "one two"))[0].max(1).values.tolist()
    assert best.score <= start + end + 1e-5


# ---- what a program expects ------------------------------------------------------------------------------------------


def settings() -> tuple:
    """What a program would not expect an import or a model to change."""
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        torch.random.get_rng_state().tolist(),
        repr(np.random.get_state()),
        random.getstate(),
        torch.is_grad_enabled(),
        threading.active_count(),
    )


def test_the_settings_of_the_program_stay_and_nothing_is_printed(runs, capfd, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)  # where a bar would be drawn
    try:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(3)  # the runs have 1
        before = settings()
        load(runs["span_qa"]).answer(QUESTIONS * 300, CONTEXTS[0])
        load(runs["regression"]).estimate(TEXTS)
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(strict)
        torch.set_num_threads(threads)
    assert capfd.readouterr() == ("", "")


def test_two_models_do_not_disturb_each_other_and_threads_may_share_one(models, runs):
    expected = {kind: load(runs[kind], device="cpu") for kind in ("span_qa", "regression")}
    qa, numbers = expected["span_qa"].answer(QUESTIONS, CONTEXTS[1]), expected["regression"].estimate(TEXTS)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(5):
            if models["span_qa"].answer(QUESTIONS, CONTEXTS[1]) != qa:
                wrong.append("answer")
            if models["regression"].estimate(TEXTS) != numbers:
                wrong.append("estimate")

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# ---- what is wrong is one line ---------------------------------------------------------------------------------------


WRONG = {
    "span_qa": [
        (lambda m: m.classify("red"), r"is a span_qa model; call answer\(question, context\)"),
        (lambda m: m.answer("Who?", ""), "^context: is empty"),
        (lambda m: m.answer(["Who?", " "], "Ann."), r"^question\[1\]: is empty"),
        (lambda m: m.answer(None, "Ann."), "^question: None is neither a text nor a list of texts"),
        (lambda m: m.answer("Who?", None), "^context: None is neither"),
        (lambda m: m.answer("Who?", b"Ann."), "^context: b'Ann.' is neither"),
        (lambda m: m.answer("Who?", Path("a.txt")), "is neither a text"),
        (lambda m: m.answer("Who?", {"a": "b"}), "is neither a text"),
        (lambda m: m.answer(["Who?"] * 2, ["Ann."] * 3), "^context: there are 3, for 2 of question; give one for all"),
        (lambda m: m.answer("Who?", "\ud800"), "^context: is not UTF-8"),
        (lambda m: m.answer("Who?", "Ann.", candidates=-1), "^candidates: -1 is not"),
        (lambda m: m.batch("Who?"), "reads pairs of texts; give pairs"),
    ],
    "classification": [
        (lambda m: m.answer("Who?", "Ann."), r"is a classification model; call classify\(texts\)"),
        (lambda m: m.classify("red"), "reads pairs of texts; give pairs"),
    ],
    "multi_label": [
        (lambda m: m.classify("red"), r"is a multi_label model; call tag\(texts\)"),
        (lambda m: m.tag("red", "blue"), "reads single texts; give no pairs"),
        (lambda m: m.tag(["red", float("nan")]), r"^texts\[1\]: nan is not a text"),
        (lambda m: m.tag(np.array([["red"], ["blue"]])), "^texts: array.* is neither a text nor a list of texts"),
        (lambda m: m.tag(np.array("red")), "^texts: array.* is neither a text nor a list of texts"),
        (lambda m: m.tag(open), "^texts: .* is neither a text nor a list of texts"),
        (lambda m: m.batch([]), "^texts: there are none"),
        (lambda m: m.logits(TEXTS), r"^batch: .* model.batch\(texts\) makes one"),
        (lambda m: m.logits({"input_ids": torch.zeros(1, 1)}), "^batch: is no dict with the tensors"),
        (lambda m: m.logits(batch_of(torch.zeros(3))), r"^batch: .* one shape \[B, T\]"),
        (lambda m: m.logits(batch_of(torch.zeros(1, 4))), "^batch: tokens must be whole numbers from 0 to 30521"),
        (lambda m: m.logits(batch_of(torch.full((1, 4), 30522))), "^batch: tokens must be whole numbers"),
        (lambda m: m.logits(batch_of(torch.zeros(1, 999).long())), "^batch: is 999 tokens wide, .* 128 positions"),
    ],
    "regression": [(lambda m: m.tag("red"), r"is a regression model; call estimate\(texts\)")],
}  # fmt: skip


def batch_of(tokens: torch.Tensor) -> dict:
    return {"tokens": tokens, "types": torch.zeros_like(tokens), "mask": None}


@pytest.mark.parametrize("kind,number", [(kind, n) for kind, each in WRONG.items() for n in range(len(each))])
def test_what_is_no_text_of_this_model_is_one_line(models, kind, number):
    call, message = WRONG[kind][number]
    with pytest.raises(InputError, match=message) as caught:
        call(models[kind])
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_that_cannot_be_loaded_is_one_line(runs, tmp_path, monkeypatch):
    run = runs["span_qa"]
    monkeypatch.setenv("HOME", str(run.parent))
    assert repr(load(f"~/{run.name}", device=torch.device("cpu"))) == f"Model({str(run)!r}, span_qa, cpu)"
    for given, message in (
        ({"run": None}, "^run: None is not the path of a run folder"),
        ({"run": str(tmp_path)}, "is not a run folder"),
        ({"run": run, "device": "gpu"}, "^device: 'gpu' is not one of auto"),
        ({"run": run, "task": "mood"}, r"has no task 'mood'; choose one with task=\.\.\.: main"),
    ):
        with pytest.raises(InputError, match=message):
            load(**given)


# ---- from another folder ---------------------------------------------------------------------------------------------


def script(folder: Path, code: str, **environment) -> subprocess.CompletedProcess:
    """Run a script that lies in another folder, there, with the project on PYTHONPATH."""
    (folder / "script.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "script.py"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_the_example_of_the_front_page_runs_as_it_stands_there(runs, tmp_path):
    """On a tiny run, which answers something, in the place of the one that `make run` trains."""
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert 4 <= len(code.splitlines()) <= 6
    shutil.copytree(runs["always"], tmp_path / "runs" / "bert_phase2")
    done = script(tmp_path, code)
    context, question = re.findall(r'"([^"]{20,})"', code)
    expected = load(runs["always"], device="cpu").answer(question, context)
    assert expected.text and expected.threshold is None
    assert (done.stdout, done.stderr, done.returncode) == (f"{expected.text}\n", "", 0)


FOREIGN = "def mine(): return 1\n"


@pytest.mark.parametrize("form", ["module", "package", "imported before", "of no file"])
def test_a_neighbour_of_the_same_name_is_refused_in_one_line(tmp_path, form):
    code, found = "import experiments", tmp_path / "data.py"
    if form == "package":
        (tmp_path / "model").mkdir()
        found = tmp_path / "model" / "__init__.py"
    if form == "imported before":
        code = "import sys\nfrom data import mine\nsys.path.pop(0)\nimport experiments"
    if form == "of no file":
        code = "import sys, types\nsys.modules['lora'] = types.ModuleType('lora')\nimport experiments"
    else:
        found.write_text(FOREIGN)
    done = script(tmp_path, code)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ImportError: ")]
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == line
    assert (str(found) if form != "of no file" else "something without a file") in line and str(ROOT) in line


def test_a_plain_folder_of_data_beside_a_script_is_no_neighbour(tmp_path):
    """A folder without __init__.py: Python takes it only where no package of the name lies anywhere on sys.path."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("text,label\n")
    done = script(tmp_path, "import experiments, data\nprint(data.__file__)")
    assert (done.stdout, done.stderr) == (f"{ROOT / 'data' / '__init__.py'}\n", "")


def test_what_is_installed_is_every_package_with_its_data():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = [file for top in ("data", "model", "lora", "experiments") for file in (ROOT / top).rglob("*.py")]
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    patterns = settings["packages"]["find"]["include"]
    assert all((ROOT / name.replace(".", "/") / "__init__.py").exists() for name in packages)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in packages)
    read = {match for file in files for match in re.findall(r'with_name\("([\w.]+)"\)', file.read_text())}
    assert read and settings["package-data"] == {"data.synthetic": ["*.json"]}
    assert {file.name for file in (ROOT / "data" / "synthetic").glob("*.json")} == read
