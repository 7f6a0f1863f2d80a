"""eval.py predict, and what score says beside the scores: baselines and thresholds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eval as eval_py
from data.files import InputError
from data.labels import Outputs
from experiments.inference.texts import blind
from experiments.inference.thresholds import Wanted, operating_point, parse_wanted
from tests import passwords
from tests.conftest import small_encoder, write_checkpoint
from tests.tiny import run_main

ROOT = Path(__file__).resolve().parents[3]
NASTY = "co\x1b[31mld"  # a label that would turn a terminal red


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoint):
    """A folder with rows.jsonl, train.json and a small random model's run of every kind of task; pairs is of pairs."""
    folder = tmp_path_factory.mktemp("predict")
    small = write_checkpoint(folder / "small", small_encoder(), checkpoint)
    rows = [
        {"text": f"number {i} is {colour}", "other": f"and {i}", "label": label, "colours": colours, "n": i / 7}
        for i in range(24)
        for colour, label, colours in [("red", NASTY, ["red"]) if i % 3 else ("blue", "warm", [])]
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.json").write_text(json.dumps(passwords.squad(12, 0)))
    for name, task, more in (
        ("mood", "classification", {}),
        ("pairs", "classification", {"pair": "other"}),
        ("tags", "multi_label", {"label": "colours"}),
        ("size", "regression", {"label": "n"}),
        ("qa", "span_qa", {"train": "train.json", "dev": "train.json", "max_query_length": 16, "doc_stride": 24}),
    ):
        raw = {
            "model": {"pretrained": str(small)},
            "task": task,
            "data": {"train": "rows.jsonl", "dev": "rows.jsonl", "max_length": 64, "batch_size": 8} | more,
            "phases": [{"name": "all", "epochs": 1, "train": "all"}],
            "runtime": {"device": "cpu", "threads": 1},
        }
        if task == "span_qa":
            raw["eval"] = {"metric": "best_f1"}
        (folder / f"{name}.json").write_text(json.dumps(raw))
        assert run_main(folder / f"{name}.json", folder, "--data-root", str(folder)) == 0
    return folder


def predict(capsys, place, run, file, *more) -> list[dict]:
    capsys.readouterr()
    assert eval_py.main(["predict", str(place / "runs" / run), "--data", str(file), *more]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def refused(capsys, *words) -> str:
    capsys.readouterr()
    assert eval_py.main([str(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert not shown.out and len(shown.err.splitlines()) == 1 and "\x1b" not in shown.err
    return shown.err


def scored(capsys, place, run, file, *more) -> dict:
    capsys.readouterr()
    arguments = ["score", str(place / "runs" / run), "--data", str(file), "--json", *more]
    assert eval_py.main(arguments) == 0
    return json.loads(capsys.readouterr().out)["runs"][0]


# ---- predict ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["new.csv", "new.tsv", "new.jsonl"])
def test_texts_without_labels_get_a_line_each_with_every_probability(place, tmp_path, capsys, name):
    rows = [{"text": "number 1 is red", "id": "a"}, {"text": "number 2", "id": "b"}]
    between = "," if name.endswith("csv") else "\t"
    table = ["text" + between + "id", *(row["text"] + between + row["id"] for row in rows)]
    lines = [json.dumps(row) for row in rows] if name.endswith("jsonl") else table
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    found = predict(capsys, place, "mood", tmp_path / name)
    assert [(each["line"], each["id"]) for each in found] == [(len(lines) - 1, "a"), (len(lines), "b")]
    for each in found:
        assert set(each["probabilities"]) == {"warm", NASTY} and sum(each["probabilities"].values()) == pytest.approx(1)
        assert each["probability"] == each["probabilities"][each["label"]] == max(each["probabilities"].values())


def test_predictions_are_those_that_score_writes(place, tmp_path, capsys):
    """In the file's order, although batches are sorted by length, and over more than one part."""
    rows = [json.dumps({"text": "word " * (1 + i * 7 % 11), "label": "warm"}) for i in range(600)]
    (tmp_path / "long.jsonl").write_text("\n".join(rows))
    found = predict(capsys, place, "mood", tmp_path / "long.jsonl")
    scored(capsys, place, "mood", tmp_path / "long.jsonl", "--out", str(tmp_path))
    written = [json.loads(line) for line in (tmp_path / "mood/long.jsonl/predictions.jsonl").read_text().splitlines()]
    assert [each["line"] for each in found] == list(range(1, 601))
    assert [each["label"] for each in found] == [each["label"] for each in written]
    assert [each["probability"] for each in found] == pytest.approx([e["probability"] for e in written], abs=1e-4)


def test_every_kind_of_task_predicts(place, capsys):
    rows = place / "rows.jsonl"
    assert predict(capsys, place, "pairs", rows)[0]["label"] in ("warm", NASTY)
    tags = predict(capsys, place, "tags", rows)[0]
    assert list(tags) == ["line", "labels", "probabilities"] and set(tags["probabilities"]) == {"red"}
    sizes = predict(capsys, place, "size", rows)
    assert len(sizes) == 24 and all(isinstance(each["value"], float) for each in sizes)


def test_questions_without_answers_have_candidates_offsets_and_null_odds(place, tmp_path, capsys):
    data = passwords.squad(6, 5)
    contexts = [p["context"] for p in data["data"][0]["paragraphs"]]
    for paragraph in data["data"][0]["paragraphs"]:
        del paragraph["qas"][0]["answers"], paragraph["qas"][0]["is_impossible"]
    (tmp_path / "new.json").write_text(json.dumps(data))
    lines = [json.dumps({"question": passwords.QUESTION, "context": text}) for text in contexts]
    (tmp_path / "new.jsonl").write_text("\n".join(lines))
    found = predict(capsys, place, "qa", tmp_path / "new.json", "--nbest", "4")
    assert [each["id"] for each in found] == [f"s5-{i}" for i in range(6)]
    for each, context in zip(found, contexts, strict=True):
        assert len(each["nbest"]) == 4 and {"null_odds", "threshold", "answer"} < each.keys()
        assert all(context[span["start"] : span["end"]] == span["text"] for span in each["nbest"])
        odds = [span["probability"] for span in each["nbest"]]
        assert odds == sorted(odds, reverse=True) and sum(odds) <= 1.001
        assert (each["answer"] == "") is (each["null_odds"] > each["threshold"])
    plain = predict(capsys, place, "qa", tmp_path / "new.jsonl", "--nbest", "4")
    assert [each.pop("line") for each in plain] == list(range(1, 7))
    assert plain == [{key: value for key, value in each.items() if key != "id"} for each in found]


def test_a_file_is_written_whole_and_never_over_what_is_read(place, tmp_path, capsys):
    out, rows = tmp_path / "out.jsonl", place / "rows.jsonl"
    before, run = rows.read_bytes(), place / "runs" / "mood"
    assert eval_py.main(["predict", str(run), "--data", str(rows), "--out", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"{out}: 24 predictions\n")
    assert [json.loads(line)["line"] for line in out.read_text().splitlines()] == list(range(1, 25))
    (tmp_path / "link.jsonl").hardlink_to(rows)
    for name in (rows, tmp_path / "link.jsonl"):
        assert "is the file that is read; choose another" in refused(
            capsys, "predict", run, "--data", rows, "--out", name
        )
    assert "is a folder" in refused(capsys, "predict", run, "--data", rows, "--out", tmp_path)
    assert "No such file" in refused(capsys, "predict", run, "--data", rows, "--out", tmp_path / "no" / "x")
    assert rows.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["link.jsonl", "out.jsonl"]


def test_a_label_reaches_no_terminal_as_it_is(place, capsys):
    eval_py.main(["predict", str(place / "runs" / "mood"), "--data", str(place / "rows.jsonl")])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and NASTY in {json.loads(line)["label"] for line in shown.splitlines()} | {NASTY}
    eval_py.main(["score", str(place / "runs" / "mood"), "--data", str(place / "rows.jsonl"), "--at", "recall=50"])
    assert "\x1b" not in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error(place):
    command = f"{sys.executable} eval.py predict {place / 'runs/mood'} --data {place / 'rows.jsonl'} | head -n 2"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, env=dict(os.environ)
    )
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 2)


@pytest.mark.parametrize(
    "run,name,content,told",
    [
        ("mood", "x.csv", "", "has no rows"),
        ("mood", "x.csv", "text,label\n", "has no rows"),
        ("mood", "x.csv", "body\nhello\n", "column 'text' is missing; the columns are 'body'"),
        ("mood", "x.csv", "a\x1b[31m\nhello\n", "column 'text' is missing; the columns are 'a\\x1b[31m'"),
        ("mood", "x.jsonl", '{"text": "x"}\n{"text": " "}\n', "line 2: 'text' is empty"),
        ("mood", "x.jsonl", '{"text": 5}', "line 1: 'text' is 5, expected a text"),
        ("mood", "x.txt", "hello", "ends in '.txt'; .csv, .tsv and .jsonl can be read"),
        ("mood", "x.json", '{"data": []}', "ends in '.json'"),
        ("pairs", "x.csv", "text\nhello\n", "column 'other' is missing"),
        ("qa", "x.jsonl", '{"question": "who?"}', "line 1: no 'context'; its keys are 'question'"),
        ("qa", "x.csv", "question,context\nwho?,\n", "line 2: 'context' is empty"),
        ("qa", "x.json", "[]", "expected a JSON object, found []"),
        ("qa", "x.json", '{"data": []}', "no questions"),
        ("qa", "x.txt", "who?", "is neither SQuAD's JSON, nor a .csv, .tsv or .jsonl with question and context"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_nothing_is_written(place, tmp_path, capsys, run, name, content, told):
    (tmp_path / name).write_text(content)
    given = ("predict", place / "runs" / run, "--data", tmp_path / name, "--out", tmp_path / "out")
    assert told in refused(capsys, *given)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_a_missing_file_and_a_line_of_200_kb(place, tmp_path, capsys):
    run = place / "runs" / "mood"
    assert "is a folder; a file is needed" in refused(capsys, "predict", run, "--data", tmp_path)
    assert "no such file" in refused(capsys, "predict", run, "--data", tmp_path / "x.csv")
    assert "--nbest: must not be negative" in refused(capsys, "predict", run, "--data", tmp_path, "--nbest", "-1")
    (tmp_path / "x.jsonl").write_text(json.dumps({"text": "word " * 40_000, "id": {"any": ["thing"]}}))
    assert predict(capsys, place, "mood", tmp_path / "x.jsonl")[0]["id"] == {"any": ["thing"]}


# ---- what score says besides -----------------------------------------------------------------------------------------


def test_a_baseline_is_what_is_reached_without_looking():
    two = Outputs(labels=("a", "b"))
    assert blind("classification", two, np.array([0, 1, 1, 1])) == {"answer": "b", "accuracy": 75.0}
    has = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
    assert blind("multi_label", two, has) == {"answer": ["a"], "exact": 50.0, "micro_f1": pytest.approx(75)}
    found = blind("regression", Outputs(mean=10.0, sd=2.0), np.array([1.0, -1.0, 2.0]))
    assert found == {"answer": 10.0, "mae": pytest.approx(8 / 3), "rmse": pytest.approx(np.sqrt(8))}


def test_a_score_names_the_baseline_and_shows_the_confusions(place, tmp_path, capsys):
    """A model that is no better than the commonest label is called so."""
    found = scored(capsys, place, "mood", place / "rows.jsonl")
    assert found["baseline"] == {"answer": NASTY, "accuracy": pytest.approx(200 / 3)}
    (tmp_path / "warm.jsonl").write_text('{"text": "blue", "label": "warm"}\n')
    eval_py.main(["score", str(place / "runs" / "mood"), "--data", str(tmp_path / "warm.jsonl")])
    page = capsys.readouterr().out
    assert "baseline      always warm, this file's commonest label: accuracy 100.0" in page
    assert "; it is no better" in page and "confusion: a row for each true label" in page
    for run, told in (
        ("tags", "always red, this file's commonest set"),
        ("size", "the mean of the training targets: rmse"),
    ):
        assert eval_py.main(["score", str(place / "runs" / run), "--data", str(place / "rows.jsonl")]) == 0
        assert told in capsys.readouterr().out


P, HAS = np.array([0.6, 0.9, 0.7, 0.8, 0.7]), np.array([True, True, True, False, True])


@pytest.mark.parametrize(
    "metric,least,threshold,precision,recall,said",
    [
        ("precision", 75, 0.6, 80, 100, 5),
        ("precision", 81, 0.9, 100, 25, 1),
        ("recall", 75, 0.6, 80, 100, 5),  # 0.7 would do, with a precision of 75
        ("recall", 20, 0.9, 100, 25, 1),
        ("recall", 100, 0.6, 80, 100, 5),
    ],
)
def test_the_threshold_serves_what_is_wanted_and_costs_least_of_the_other(
    metric, least, threshold, precision, recall, said
):
    found = operating_point(P, HAS, Wanted(metric, least, None))
    assert found == {"wanted": {metric: least}, "reached": True, "threshold": threshold, "precision": precision,
                     "recall": recall, "said": said, "have_it": 4}  # fmt: skip


def test_texts_of_one_probability_are_on_one_side_of_a_threshold():
    found = operating_point(np.array([0.9, 0.7, 0.7]), np.array([True, True, False]), Wanted("precision", 100, None))
    assert (found["threshold"], found["recall"]) == (0.9, 50)


def test_a_precision_that_no_threshold_gives_is_said_to_be_out_of_reach():
    found = operating_point(np.array([0.9, 0.8]), np.array([False, True]), Wanted("precision", 90, None))
    assert (found["reached"], found["precision"], found["threshold"]) == (False, 50, 0.8)
    with pytest.raises(InputError, match="no text of the file has that label"):
        operating_point(np.array([0.9]), np.array([False]), Wanted("recall", 90, None))


def test_score_tells_the_threshold_of_either_label(place, capsys):
    rows = place / "rows.jsonl"
    found = scored(capsys, place, "mood", rows, "--at", "recall=95")["at"]
    assert found["label"] == "warm" and found["recall"] >= 95 and found["have_it"] == 8  # the second label
    assert scored(capsys, place, "mood", rows, "--at", "recall=95", "--label", NASTY)["at"]["have_it"] == 16
    eval_py.main(["score", str(place / "runs" / "mood"), "--data", str(rows), "--at", "recall=95"])
    page = capsys.readouterr().out
    assert "at recall 95  warm from a probability of" in page and "fitted to this file" in page


@pytest.mark.parametrize("at", ["precision=0.9", "f1=90", "precision", "recall=101", "precision=nan", ""])
def test_what_is_no_point_is_refused(at):
    with pytest.raises(InputError, match="expected precision or recall in percent, above 1"):
        parse_wanted(at, None)


def test_a_point_is_for_two_labels_and_a_label_for_a_point(place, capsys):
    rows, runs = place / "rows.jsonl", place / "runs"
    for run in ("qa", "tags", "size"):
        told = refused(capsys, "score", runs / run, "--data", rows, "--at", "recall=9")
        assert "--at: is for a classification with two labels" in told
    given = ("score", runs / "mood", "--data", rows, "--label", "x")
    assert "--label: is for --at" in refused(capsys, *given)
    assert "'x' is not one of 'co\\x1b[31mld', 'warm'" in refused(capsys, *given, "--at", "recall=9")
