"""`task: retrieval` through train.py, on a small random model."""

import json
import signal

import numpy as np
import pytest
import torch

import eval as eval_py
import train
from experiments.records import read_records
from tests.tiny import records_of, run_main, set_up

LORA = [{"name": "one", "epochs": 1, "train": ["lora"]}, {"name": "two", "epochs": 1, "train": ["lora", "layers.1"]}]


@pytest.fixture
def ranking(experiment):
    """Writes the tiny experiment as one of ranking; returns its path."""

    def write(**changes):
        data = {"source": "synthetic_qa", "train_limit": 60, "dev_limit": 24, "max_length": 96, "batch_size": 8}
        return experiment(**{"task": "retrieval", "data": data, "phases": LORA, "optim": {"lr": 3e-3}} | changes)

    return write


def write_squad(folder, count: int, name: str = "pairs.json") -> list[dict]:
    """Paragraphs with two questions each, and one paragraph whose question has no answer."""
    paragraphs = []
    for n in range(count):
        answer = {"text": f"thing{n}", "answer_start": 4}
        qas = [{"id": f"{n}-{i}", "question": f"What is {n} {'ab'[i]}?", "answers": [answer]} for i in range(2)]
        paragraphs.append({"context": f"The thing{n} is number {n}.", "qas": qas})
    nothing = [{"id": "none", "question": "Who?", "answers": [], "is_impossible": True}]
    paragraphs.append({"context": "Nobody is here.", "qas": nothing})
    (folder / name).write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return paragraphs


def test_it_trains_evaluates_and_is_scored(ranking, tmp_path, capsys):
    assert run_main(ranking(), tmp_path, "--set", "eval.train_sample=10", "data.mask_tokens=0.1") == 0
    assert "about 8 pairs a batch: each question learns from 7 other passages" in capsys.readouterr().out
    records = records_of(tmp_path / "runs" / "tiny", "eval")
    dev = [r for r in records if r["split"] == "dev"][-1]
    assert {"mrr", "recall_at_1", "recall_at_10", "ndcg_at_10", "map"} <= dev["metrics"].keys()
    assert dev["intervals"]["mrr"][0] <= dev["metrics"]["mrr"] <= dev["intervals"]["mrr"][1]
    assert read_records(tmp_path / "runs" / "tiny").finished
    write_squad(tmp_path, 5)
    assert (
        eval_py.main(["score", str(tmp_path / "runs/tiny"), "--data", str(tmp_path / "pairs.json"), "--errors", "2"])
        == 0
    )
    page = capsys.readouterr().out
    assert "10 questions, 6 passages" in page and "its own" in page and "mrr" in page and "predictions.jsonl" in page


def test_padding_is_a_share_of_what_the_encoder_reads(ranking, tmp_path):
    assert run_main(ranking(), tmp_path) == 0
    assert all(0 <= record["padding"] < 0.8 for record in records_of(tmp_path / "runs" / "tiny", "train"))


def test_the_same_passage_twice_is_no_negative(ranking, tmp_path):
    write_squad(tmp_path, 5)
    data = {"train": ["pairs.json"], "dev": ["pairs.json"], "batch_size": 10, "max_length": 96}
    run = set_up(ranking(data=data), tmp_path)
    task = run.tasks.tasks["main"]
    assert len(task.train) == 10  # the question without an answer has no passage
    batch = run.batch(np.arange(10), None)
    assert batch["passage"].tolist() == [n for n in range(5) for _ in range(2)]
    assert (run.model.eval()(batch) < -1e8).sum() == 10
    assert len(task.judged["dev passages"]) == 6  # but its passage is there to be confused with


def test_the_dev_loss_does_not_depend_on_batches(ranking, tmp_path, monkeypatch):
    run, found = set_up(ranking(), tmp_path, "amp=off"), []
    for tokens in (100, 4096):
        monkeypatch.setattr("experiments.tasks.base.EVAL_BATCH_TOKENS", tokens)
        found.append(run.tasks.evaluate(run.model, run.machine).metrics)
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_accumulate_adds_losses_and_shares_no_negatives(ranking, tmp_path):
    """The gradient of two batches is that of their mean loss; a question sees the passages of its own batch only."""
    run = set_up(ranking(), tmp_path, "optim.accumulate=2")
    first, second = run.plan.order[0][:2]
    losses = [run.tasks.losses(run.model, run.model(b), b) for b in (run.batch(first, None), run.batch(second, None))]
    assert [loss.shape for loss in losses] == [(8,), (8,)]
    whole = run.batch(np.concatenate([first, second]), None)
    assert run.tasks.losses(run.model, run.model(whole), whole)[:8].sum() > losses[0].sum()


def test_a_table_of_questions_and_passages_and_a_question_with_two_passages(ranking, tmp_path):
    lines = ["question,passage", "who?,Ann did.", "who?,Ben did.", "what?,A cat.", "when?,Today."]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    run = set_up(
        ranking(data={"train": ["pairs.csv"], "dev": ["pairs.csv"], "batch_size": 4, "max_length": 96}), tmp_path
    )
    task = run.tasks.tasks["main"]
    assert task._relevant["dev"] == {"who?": [0, 1], "what?": [2], "when?": [3]}
    batch = run.batch(np.arange(4), None)
    assert (run.model.eval()(batch) < -1e8).nonzero().tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    "settings,message",
    [
        (["model.trunk_mb=100"], "model.trunk_mb: a retrieval task reads two texts of an example apart"),
        (["data.batch_size=1"], "a batch of one pair has no other passage to learn from"),
        (["data.batch_size=null", "data.batch_tokens=20"], "a batch of one pair has no other passage"),
        (["temperature=0"], "temperature"),
        (["eval.metric=f1"], "eval.metric: 'f1' is not one of loss, mrr, recall_at_1"),
        (["data.source=files"], "name at least one file each"),
        (["data.doc_stride=3"], "doc_stride"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(ranking, tmp_path, capsys, settings, message):
    assert run_main(ranking(), tmp_path, "--set", *settings) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_file_whose_questions_have_no_answers_is_refused(ranking, tmp_path, capsys):
    write_squad(tmp_path, 0)
    path = ranking(data={"train": ["pairs.json"], "dev": ["pairs.json"], "max_length": 96})
    assert run_main(path, tmp_path, "--data-root", str(tmp_path)) == 2
    assert "no question has an answer, so no passage is to be found" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [["who?,Ann.", "who?,Ben."], ["who?,Ann.", "what?,Ann."]])
def test_pairs_without_a_wrong_passage_are_refused(ranking, tmp_path, capsys, lines):
    (tmp_path / "pairs.csv").write_text("\n".join(["question,passage", *lines]))
    path = ranking(data={"train": ["pairs.csv"], "dev": ["pairs.csv"], "batch_size": 4, "max_length": 96})
    assert run_main(path, tmp_path, "--data-root", str(tmp_path)) == 2
    assert "all pairs have the same question, or passage; nothing to tell apart" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(ranking, tmp_path, monkeypatch):
    path = ranking(lora={"rank": 4, "alpha": 8, "dora": True})
    assert run_main(path, tmp_path, "--set", "name=whole") == 0
    steps = iter(range(1000))
    real = train.take_step

    def step(run, batches):
        real(run, batches)
        if next(steps) == 4:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(train, "take_step", step)
    assert run_main(path, tmp_path, "--set", "name=parts") == 143
    monkeypatch.setattr(train, "take_step", real)
    assert run_main(path, tmp_path, "--set", "name=parts", "--resume") == 0
    whole, parts = (records_of(tmp_path / "runs" / name, "train", "eval") for name in ("whole", "parts"))
    assert whole == parts


def test_beside_another_task_its_mrr_is_part_of_the_mean(ranking, tmp_path):
    raw = json.loads(ranking().read_text())
    own = {key: raw.pop(key) for key in ("task", "data")}
    mood = {"task": "classification", "data": {"source": "synthetic_sentiment", "train_limit": 40, "dev_limit": 20}}
    mood["data"]["max_length"] = 96
    raw["tasks"] = {"rank": own, "mood": mood}
    raw["phases"] = [{"name": "all", "epochs": 1, "train": ["all"]}]
    del raw["lora"]
    (tmp_path / "tiny.json").write_text(json.dumps(raw))
    assert run_main(tmp_path / "tiny.json", tmp_path) == 0
    metrics = records_of(tmp_path / "runs" / "tiny", "eval")[-1]["metrics"]
    assert metrics["mean"] == pytest.approx((metrics["rank.mrr"] + metrics["mood.accuracy"]) / 2)


def test_a_loss_that_falls_ranks_better(ranking, tmp_path):
    """On data it has seen: 40 pairs, a random encoder, every layer."""
    write_squad(tmp_path, 20)
    data = {"train": ["pairs.json"], "dev": ["pairs.json"], "batch_size": 20, "max_length": 32}
    phases = [{"name": "all", "epochs": 12, "train": ["all"]}]
    path = ranking(data=data, phases=phases, lora=None, optim={"lr": 1e-3}, eval={"every_epochs": 6})
    assert run_main(path, tmp_path, "--data-root", str(tmp_path)) == 0
    first, last = (r["metrics"] for r in records_of(tmp_path / "runs" / "tiny", "eval"))
    assert last["mrr"] > first["mrr"] > 0 and last["loss"] < first["loss"]
    assert torch.isfinite(torch.tensor(last["loss"]))
