"""Runs of every family: a small random checkpoint with a tokenizer of its own, real everything else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import eval as eval_py
import train
from data.files import InputError
from data.labels import tokenize
from data.readers import Question, Row
from data.special_tokens import special_tokens
from data.squad import make_windows
from data.tokens import collate
from experiments.inference import load
from model.families import FAMILIES
from model.tokenizer import load_tokenizer
from tests.experiments.inference.made import QA, train_run, write_experiment, write_questions
from tests.tiny import assert_same_run, dying_at, run_main
from tests.vocabularies import SHAPES, write_family, write_vocabulary

PAIRS = [
    {"text": f"number {i} is {('single', 'quoted')[i % 2]}", "pair": "Hello, World! " * (i % 7 + 1), "label": i % 2}
    for i in range(32)
]
TASKS: dict[str, dict] = {
    "qa": {**QA, "data": QA["data"] | {"mask_tokens": 0.1, "max_length": 72, "train_limit": 5, "dev_limit": 4}},
    "texts": {
        "task": "classification",
        "pooling": "cls_pooler",
        "data": {"train": ["pairs.jsonl"], "dev": ["pairs.jsonl"], "max_length": 32, "batch_size": 8},
    },
}
TASKS["pairs"] = TASKS["texts"] | {"data": TASKS["texts"]["data"] | {"pair": "pair", "mask_tokens": 0.1}}
PHASES = [
    {"name": "one", "epochs": 1, "train": ["head", "lora"]},
    {"name": "two", "epochs": 1, "train": ["head", "lora", "layers.1"]},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a checkpoint of every family."""
    folder = tmp_path_factory.mktemp("families")
    for family in SHAPES:
        write_family(folder / family, family)
    return folder


def write_pairs(folder: Path) -> Path:
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    return folder / "pairs.jsonl"


@pytest.mark.parametrize(
    "family,task", [*((family, task) for family in SHAPES for task in ("qa", "pairs")), ("roberta", "texts")]
)
def test_a_run_of_any_family_trains_resumes_exactly_scores_and_answers(
    place, tmp_path, monkeypatch, capsys, family, task
):
    """Killed as SIGKILL would, in the second phase, after a checkpoint."""
    write_pairs(tmp_path)
    changes = {
        "phases": PHASES,
        "lora": {"rank": 4, "alpha": 8, "targets": "all-linear", "dropout": 0.1},
        "runtime": {"device": "cpu", "threads": 1, "checkpoint_steps": 4},
    }
    path = write_experiment(tmp_path, "tiny", place / family, **TASKS[task] | changes)
    more = ["--data-root", str(tmp_path)]
    assert run_main(path, tmp_path, *more, "--set", "name=whole") == 0
    steps = json.loads((tmp_path / "runs/whole/last/checkpoint.json").read_text())["progress"]["position"]
    with dying_at(steps - 2, monkeypatch):
        run_main(path, tmp_path, *more)
    assert run_main(path, tmp_path, *more, "--resume") == 0
    folder = tmp_path / "runs" / "tiny"
    assert_same_run(tmp_path / "runs" / "whole", folder)

    capsys.readouterr()
    data = write_questions(tmp_path) if task == "qa" else tmp_path / "pairs.jsonl"
    assert eval_py.main(["score", str(folder), "--data", str(data), "--json"]) == 0
    (scored,) = json.loads(capsys.readouterr().out)["runs"]
    assert np.isfinite(scored["f1"] if task == "qa" else scored["loss"])
    asked = {
        "qa": ["--question", "Who led the trial?", "--context", "The trial was led by Ann Sole in 1952."],
        "texts": ["--text", "number 3 is quoted"],
        "pairs": ["--text", "number 3 is quoted", "--pair", "Hello, World!"],
    }[task]
    assert eval_py.main(["ask", str(folder), *asked, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1


@pytest.mark.parametrize("family", SHAPES)
def test_a_model_computes_the_same_alone_and_in_a_padded_batch(place, tmp_path, family):
    """MPNet adds a term for distances to every attention score, padding included."""
    write_pairs(tmp_path)
    model = load(train_run(tmp_path, "run", place / family, **TASKS["pairs"]))
    texts, pairs = ["number 3", "number 4 is single", "it's"], ["Hello", "Hello, World! it's quoted, or not", "a" * 9]
    together = model.logits(model.batch(texts, pairs))
    alone = [model.logits(model.batch(text, pair)) for text, pair in zip(texts, pairs, strict=True)]
    assert model.batch(texts, pairs)["mask"] is not None
    assert (together - torch.cat(alone)).abs().max() < 1e-5


@pytest.mark.parametrize("family", SHAPES)
def test_both_texts_stand_between_the_familys_own_tokens(place, family):
    tokenizer, tokens = load_tokenizer(place / family, family), FAMILIES[family].tokens
    words = [tokenizer.encode(text, add_special_tokens=False).tokens for text in ("Hello", "it's")]
    found, cut = tokenize([Row("Hello", "it's", None, ""), Row("it's", None, None, "")], tokenizer, 32)
    ids, second = found.tokens[: found.begin[1]], int(found.second[0])
    framed = [tokenizer.id_to_token(i) for i in ids]
    assert framed == [tokens.cls, *words[0], *[tokens.sep] * tokens.separators, *words[1], tokens.sep] and not cut
    assert framed[second:] == [*words[1], tokens.sep]
    assert framed == tokenizer.encode("Hello", "it's").tokens
    batch = collate(found, np.array([0, 1]))
    assert tokenizer.id_to_token(int(batch["tokens"][1, -1])) == tokens.pad
    assert batch["types"][0, : len(ids)].tolist() == [0] * second + [1] * (len(ids) - second)


@pytest.mark.parametrize("family", SHAPES)
def test_windows_are_as_wide_as_they_may_be_and_their_answers_are_where_they_stand(place, family):
    tokenizer = load_tokenizer(place / family, family)
    context = "Hello, World! it's single, and “quoted” twice: resumé, naïve. " * 6
    answers = [("quoted", context.index("quoted", 200)), ("Hello", 0), ("World", 7)]
    questions = [Question(f"{n}", "Who is it?", context, (answer,)) for n, answer in enumerate(answers)]
    windows = make_windows(questions, tokenizer, 40, 10, 12)
    special = special_tokens(tokenizer)
    assert windows.lengths.max() == 40
    for number, (text, start) in enumerate(answers):
        found = 0
        for row in np.flatnonzero(windows.question == number):
            ids = windows.tokens[windows.begin[row] : windows.begin[row + 1]]
            at = int(windows.second[row])
            assert ids[0] == special.cls and ids[-1] == special.sep
            assert tuple(ids[at - len(special.between) : at]) == special.between
            first, last = windows.span[row]
            if last:
                found += 1
                chars = windows.context_chars(number)[windows.context_from[row] + np.array([first, last]) - at]
                assert chars[0, 0] <= start and start + len(text) <= chars[1, 1]
                assert context[chars[0, 0]] != " "
        assert found


@pytest.mark.parametrize("family", SHAPES)
def test_the_widest_window_that_a_family_allows_trains(place, tmp_path, family):
    task = {**QA, "data": QA["data"] | {"max_length": 128, "batch_size": 2, "train_limit": 4, "dev_limit": 2}}
    run = train_run(tmp_path, "run", place / family, **task)
    longest = "Hello, World! it's quoted. " * 40
    assert load(run).answer("Who?", longest).candidates
    path = write_experiment(tmp_path, "wider", place / family, **task | {"data": task["data"] | {"max_length": 129}})
    with pytest.raises(InputError, match=r"data.max_length: 129, but .* has only 128 positions"):
        train.set_up(train.read_spec(path), tmp_path / "runs" / "wider", tmp_path)


@pytest.mark.parametrize("family", ["bert", "distilbert", "electra"])
def test_the_longest_step_between_windows_that_skips_nothing_is_allowed(place, tmp_path, family):
    longest_step(place, tmp_path, family)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_with_two_separators_the_longest_step_is_one_less(place, tmp_path, family):
    longest_step(place, tmp_path, family)


def longest_step(place: Path, tmp_path: Path, family: str) -> None:
    data = QA["data"] | {"max_length": 64, "max_query_length": 24, "doc_stride": 64 - 24 - 3}
    path = write_experiment(tmp_path, "tiny", place / family, **QA | {"data": data})
    assert run_main(path, tmp_path) in (0, 2)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_a_tokenizer_of_another_family_does_not_go_with_an_encoder(place, tmp_path, capsys, family):
    """Its ids may go beyond the encoder's vocabulary, or it has no <s>."""
    base = write_family(tmp_path / "base", family)
    for file in ("vocab.txt", "vocab.json", "merges.txt"):
        (base / file).unlink(missing_ok=True)
    write_vocabulary(base, "bert")
    path = write_experiment(tmp_path, "tiny", base, **QA)
    assert run_main(path, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(base) in line and "token" in line
