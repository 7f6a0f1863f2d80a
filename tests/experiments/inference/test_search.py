"""`eval.py ask` about many texts, `score --retrieval`, and the file that keeps vectors."""

import json
import os
import random
from types import SimpleNamespace

import numpy as np
import pytest

import eval as eval_py
import train
from data.decoding import Answers, Span
from data.files import InputError
from experiments.inference.contexts import read_folder
from experiments.inference.ranking import ranker_of
from experiments.inference.search import passages_of, score_of, search
from experiments.inference.trained import load_run
from experiments.inference.vectors import cache_folder, kept_vectors, ranker_key, vectors_for
from tests import passwords

COLOURS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the trained run passwords/, and the run ranks/ of a retrieval task beside it."""
    folder = tmp_path_factory.mktemp("search")
    experiment = passwords.write(folder)
    shared = ["--data-root", str(folder), "--runs", str(folder)]
    assert train.main(["--exp", str(experiment), *shared]) == 0
    phases = [{"name": "one", "epochs": 1, "train": ["lora"]}]
    raw = {"lora": {"rank": 4}, "task": "retrieval", "phases": phases, "runtime": {"device": "cpu", "threads": 1}}
    raw["data"] = {"source": "synthetic_qa", "train_limit": 32, "dev_limit": 8, "max_length": 64, "batch_size": 8}
    (folder / "ranks.json").write_text(json.dumps(raw))
    assert train.main(["--exp", str(folder / "ranks.json"), *shared]) == 0
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Vectors are kept below the test's own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bert-by-hand" / "vectors"


@pytest.fixture(scope="module")
def trained(place):
    return load_run(place / "passwords")


@pytest.fixture
def texts(tmp_path):
    """Twenty texts about a colour each; two of them say a password."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for n in range(20):
        word = {7: "juniper", 13: "walnut"}.get(n)
        text = passwords.passage(random.Random(n), word, 6, 3)
        (folder / f"{n:02d}.txt").write_text(f"The door was {COLOURS[n % len(COLOURS)]}. {text}")
    return folder


def ask(capsys, place, folder, *words) -> dict:
    command = ["ask", str(place / "passwords"), "--question", passwords.QUESTION, "--context-file", str(folder)]
    assert eval_py.main([*command, "--json", *map(str, words)]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return found


# ---- asking ----------------------------------------------------------------------------------------------------------


def test_the_answers_of_all_texts_are_one_list_by_one_score(place, texts, capsys):
    found = ask(capsys, place, texts, "--top", 5, "--passages", 8)
    assert (found["texts"], found["passages"], found["read"]) == (20, 20, 8)
    assert {"juniper", "walnut"} <= {answer["answer"] for answer in found["answers"]}
    scores = [answer["score"] for answer in found["answers"]]
    assert scores == sorted(scores, reverse=True) and found["nearest"] is None
    for answer in found["answers"]:
        text = (texts / answer["text"]).read_text()
        assert text[answer["start"] : answer["end"]] == answer["answer"]
        assert f"«{answer['answer']}»" in answer["sentence"]
        assert answer["score"] == pytest.approx(answer["cosine"] / 0.05 - answer["null_odds"])
        assert answer["null_odds"] <= found["threshold"]


def test_a_passage_is_found_in_a_long_text_and_its_characters_are_the_texts(place, tmp_path, capsys):
    parts = [passwords.passage(random.Random(n), "juniper" if n == 20 else None, 14, 7) for n in range(30)]
    (tmp_path / "long.txt").write_text("\n\n".join(parts))
    found = ask(capsys, place, tmp_path / "long.txt", "--passages", 5)
    best = found["answers"][0]
    assert found["texts"] == 1 and found["read"] == 5 < found["passages"]
    assert best["answer"] == "juniper" == (tmp_path / "long.txt").read_text()[best["start"] : best["end"]]


def test_where_no_text_has_the_answer_the_nearest_is_told(place, texts, capsys):
    for name in ("07.txt", "13.txt"):
        (texts / name).unlink()
    found = ask(capsys, place, texts)
    assert found["answers"] == [] and found["nearest"]["null_odds"] > found["threshold"]
    assert (
        eval_py.main(["ask", str(place / "passwords"), "--question", passwords.QUESTION, "--context-file", str(texts)])
        == 0
    )
    page = capsys.readouterr().out
    assert "  no answer  (by " in page and "      or: " in page and "read 10 of 18 passages of 18 texts" in page


def test_one_short_text_is_read_as_before(place, tmp_path, capsys, cache):
    (tmp_path / "one.txt").write_text(passwords.passage(random.Random(7), "juniper", 4, 2))
    found = ask(capsys, place, tmp_path / "one.txt", "--top", 2)
    assert found["answers"][0]["answer"] == "juniper" and len(found["answers"][0]["candidates"]) == 2
    assert not cache.exists()


def test_a_retrieval_run_can_choose_the_passages(place, texts, capsys):
    shared = ("--passages", 20, "--top", 20)
    found = ask(capsys, place, texts, "--rank-with", place / "ranks", *shared)
    other = ask(capsys, place, texts, *shared)
    cosines = [{a["text"]: a["cosine"] for a in each["answers"]} for each in (found, other)]
    assert cosines[0].keys() == cosines[1].keys() >= {"07.txt"}
    assert cosines[0]["07.txt"] != pytest.approx(cosines[1]["07.txt"], abs=1e-4)


def test_scores_of_different_passages_compare():
    """Not as probabilities within a passage, which are 1 where there is one span only."""
    low, high = (Answers([Span("a", 0, 1, s, s)], Span("", 0, 0, 1.0, 1.0)) for s in (0.5, 3.0))
    assert score_of(high, None, 0.0) == 6 > score_of(low, None, 0.0) == 1
    assert score_of(high, 0.0, 0.0) == 4 > 0 > score_of(low, 0.0, 0.0) == -1
    assert (
        score_of(low, None, 9.0) == 10 and score_of(low, 0.0, 9.0) == 8
    )  # what ranking says of the passage counts too
    assert [p for answers in (low, high) for _, p in answers.ranked(False)] == [1.0, 1.0]


@pytest.mark.parametrize(
    "words,message",
    [
        (["--top", "0"], "--top: 0; a number from 1"),
        (["--top", "-1"], "--top: -1; a number from 1"),
        (["--passages", "0"], "--passages: 0; a number from 1"),
        (["--rank-with", "nowhere"], "nowhere: is not a run folder"),
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_a_line(place, texts, capsys, words, message):
    command = ["ask", str(place / "passwords"), "--question", "x?", "--context-file", str(texts), *words]
    assert eval_py.main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_run_that_ranks_answers_nothing(place, texts, capsys):
    assert eval_py.main(["ask", str(place / "ranks"), "--question", "x?", "--context-file", str(texts)]) == 2
    assert "answers nothing; give it to --rank-with of a span_qa run" in capsys.readouterr().err


# ---- the texts -------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_named_and_left_out(place, texts, capsys):
    (texts / "03.txt").write_bytes("naïve".encode("latin-1"))
    (texts / "04.txt").write_text(" \n")
    command = ["ask", str(place / "passwords"), "--question", passwords.QUESTION, "--context-file", str(texts)]
    assert eval_py.main(command) == 0
    shown = capsys.readouterr()
    assert "of 18 texts" in shown.out
    assert (
        "left out: " in shown.err and "03.txt: line 1 is not UTF-8" in shown.err and "04.txt: there is no" in shown.err
    )


def test_folders_in_the_folder_are_read_and_hidden_ones_are_not(tmp_path):
    for name in ("a.txt", "b/c.md", "b/d/e.TXT", ".git/f.txt", "b/.g.txt", "b/h.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Some words.")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert list(read_folder(tmp_path)) == ["a.txt", "b/c.md", "b/d/e.TXT"]


def test_a_folder_without_a_text_that_can_be_read_is_refused(tmp_path, trained):
    with pytest.raises(InputError, match=r"has no \.txt or \.md files"):
        read_folder(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"none of its 1 texts can be read; the first: .*a\.txt: line 1 is not UTF-8"):
        read_folder(tmp_path)
    with pytest.raises(InputError, match="there are no words"):
        passages_of(trained, {"a": "\u200b", "b": "\u200b"})


def test_of_many_faults_three_are_named(tmp_path, capsys):
    (tmp_path / "good.txt").write_text("Some words.")
    for n in range(9):
        (tmp_path / f"{n}.txt").write_bytes(b"\xff")
    assert list(read_folder(tmp_path)) == ["good.txt"]
    assert capsys.readouterr().err.count("\n") == 4


# ---- kept vectors ----------------------------------------------------------------------------------------------------


@pytest.fixture
def ranker(trained):
    return ranker_of(trained)


TEXTS = [f"Passage number {n} is about {colour}." for n, colour in enumerate(COLOURS)]


def test_vectors_are_computed_once_and_after_a_change_only_those_that_changed(ranker, cache):
    first, computed = vectors_for(ranker, TEXTS, "here")
    again, later = vectors_for(ranker, TEXTS, "here")
    assert (computed, later) == (8, 0) and (first == again).all()
    changed, count = vectors_for(ranker, [*TEXTS[1:], "Something else.", TEXTS[1]], "here")
    assert count == 1 and np.allclose(changed[:7], first[1:]) and (changed[8] == first[1]).all()
    assert len(list(cache.iterdir())) == 1 and cache.stat().st_mode & 0o077 == 0


def test_other_weights_have_other_vectors(ranker, place, cache):
    vectors_for(ranker, TEXTS, "here")
    assert vectors_for(ranker_of(load_run(place / "ranks")), TEXTS, "here")[1] == 8
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(
    "damage", ["a bit", "cut short", "empty", "a pickle", "a folder", "other weights", "other shape"]
)
def test_a_damaged_file_is_never_believed(ranker, cache, damage):
    expected, _ = vectors_for(ranker, TEXTS, "here")
    (file,) = cache.iterdir()
    raw = bytearray(file.read_bytes())
    if damage == "a bit":
        raw[-20] ^= 1
        file.write_bytes(raw)
    elif damage == "a folder":
        file.unlink()
        file.mkdir()
    elif damage in ("other weights", "other shape"):
        own, width = (b"x" * 32, 384) if damage == "other weights" else (ranker_key(ranker), 385)
        assert kept_vectors(file, own, width) == {}
        return
    else:
        file.write_bytes({"cut short": bytes(raw[:-1]), "empty": b"", "a pickle": b"\x80\x04N."}[damage])
    found, computed = vectors_for(ranker, TEXTS, "here")
    assert computed == 8 and np.allclose(found, expected, atol=1e-6)
    assert damage == "a folder" or vectors_for(ranker, TEXTS, "here")[1] == 0  # it was written anew


def test_where_nothing_can_be_written_it_goes_on(ranker, monkeypatch, tmp_path):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert vectors_for(ranker, TEXTS, "here")[1] == vectors_for(ranker, TEXTS, "here")[1] == 8
    assert os.fspath(cache_folder()).startswith(str(tmp_path / "a file"))


def test_passages_are_ranked_alike_with_and_without_kept_vectors(trained, ranker, texts):
    contexts = read_folder(texts)
    found = [search(trained, ranker, [passwords.QUESTION], contexts, passages_of(trained, contexts)) for _ in range(2)]
    assert found[0] == found[1]


# ---- scoring ---------------------------------------------------------------------------------------------------------


def test_a_span_qa_run_is_scored_on_ranking_with_the_pretrained_encoder(place, capsys, tmp_path):
    command = ["score", str(place / "passwords"), "--data", str(place / "dev.json"), "--retrieval", "--json"]
    assert eval_py.main([*command, "--out", str(tmp_path)]) == 0
    data = json.loads(capsys.readouterr().out)
    (result,) = data["runs"]
    assert data["kind"] == "retrieval" and data["passages"] == 40 and result["encoder"] == "the pretrained one"
    assert 0 < result["mrr"] <= 100 and result["recall_at_1"] <= result["recall_at_5"] <= result["recall_at_10"]
    rows = [json.loads(line) for line in (tmp_path / "passwords/dev.json/predictions.jsonl").read_text().splitlines()]
    assert len(rows) == data["questions"] and len(rows[0]["ranked"]) == 10


def test_a_retrieval_run_is_scored_with_its_own_encoder(place, capsys):
    assert eval_py.main(["score", str(place / "ranks"), "--data", str(place / "dev.json"), "--errors", "1"]) == 0
    page = capsys.readouterr().out
    assert "its own" in page and "recall_at_10" in page


def test_a_classifier_ranks_nothing():
    mood = SimpleNamespace(task=SimpleNamespace(task="classification"), folder="runs/mood")
    with pytest.raises(InputError, match="a classification model ranks no passages"):
        ranker_of(mood)
