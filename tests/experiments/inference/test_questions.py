"""eval.py score and ask, on a run that the real checkpoint has learned a small task in."""

import io
import json
import random
import re
import sys
from types import SimpleNamespace

import pytest

import eval as eval_py
import train
from data.decoding import Answers, Span
from data.readers import Question, parse_questions
from data.squad import make_windows
from data.squad_metrics import judge, score_each
from experiments.inference.questions import (
    Answered,
    answer_length,
    ask,
    buckets,
    cut_off,
    misses,
    question_word,
    sentence_around,
    threshold_remarks,
)
from experiments.inference.show import print_question_details
from experiments.inference.trained import load_run
from experiments.tasks.span_qa import judge_answers
from tests import passwords


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with train.json, dev.json and the trained run passwords/."""
    folder = tmp_path_factory.mktemp("passwords")
    experiment = passwords.write(folder)
    assert train.main(["--exp", str(experiment), "--data-root", str(folder), "--runs", str(folder)]) == 0
    return folder


def run(capsys, *words) -> str:
    assert eval_py.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


# ---- score -----------------------------------------------------------------------------------------------------------


def test_a_scored_run_writes_the_files_that_the_official_script_reads(place, tmp_path, capsys):
    """And what that script says of them is what was shown."""
    shown = json.loads(
        run(capsys, "score", place / "passwords", "--data", place / "dev.json", "--out", tmp_path, "--json")
    )
    (result,) = shown["runs"]
    assert result["trained_on"] == 0
    assert result["exact"] >= 90 and result["NoAns_f1"] >= 80
    written = tmp_path / "passwords" / "dev.json"
    predictions, nbest, odds = (
        json.loads((written / f"{name}.json").read_text()) for name in ("predictions", "nbest", "null_odds")
    )
    questions = {q.id: q for q in parse_questions(json.loads((place / "dev.json").read_text()), "dev")}
    assert predictions.keys() == nbest.keys() == odds.keys() == questions.keys()
    for identifier, entries in nbest.items():
        assert sum(entry["probability"] for entry in entries) == pytest.approx(1)
        assert [e["probability"] for e in entries] == sorted((e["probability"] for e in entries), reverse=True)
        for entry in entries:
            assert questions[identifier].context[entry["start"] : entry["end"]] == entry["text"]
    official, _ = judge(list(questions.values()), predictions, {}, threshold=None)  # "" stands there already
    assert official.items() <= result.items()


def test_the_threshold_comes_from_the_checkpoint(place, capsys):
    checkpoint = json.loads((place / "passwords" / "best" / "checkpoint.json").read_text())
    stored = checkpoint["progress"]["best"]["metrics"]["best_f1_thresh"]
    result = json.loads(run(capsys, "score", place / "passwords", "--data", place / "dev.json", "--json"))["runs"][0]
    assert result["threshold"] == stored == result["best_f1_thresh"] != 0.0  # the same data: the sweep finds it again
    assert result["exact"] == result["best_exact"] and result["remarks"] == []


def test_the_worst_misses_are_shown_with_their_sentence(place, tmp_path, capsys):
    """Two gold answers are made wrong: one has another text, one says that there is none."""
    data = json.loads((place / "dev.json").read_text())
    first, second = (data["data"][0]["paragraphs"][i]["qas"][0] for i in (1, 2))
    context = data["data"][0]["paragraphs"][1]["context"]
    first["answers"] = [{"text": context[:2], "answer_start": 0}]
    second.update(answers=[], is_impossible=True)
    (tmp_path / "changed.json").write_text(json.dumps(data))
    page = run(capsys, "score", place / "passwords", "--data", tmp_path / "changed.json", "--errors", 5)
    assert f"({first['id']}, f1 0)" in page and f"({second['id']}, f1 0)" in page
    assert "gold       (no answer)" in page and re.search(r"sentence   The password of the day is «\w+»\.", page)
    assert "predictions.json, nbest.json, null_odds.json" in page
    assert max(len(line) for line in page.splitlines() if "written" not in line) <= 120


def test_questions_that_are_too_long_are_cut_and_counted(place, tmp_path, capsys):
    data = json.loads((place / "dev.json").read_text())
    data["data"][0]["paragraphs"][1]["qas"][0]["question"] += " please" * 20
    (tmp_path / "long.json").write_text(json.dumps(data))
    page = run(capsys, "score", place / "passwords", "--data", tmp_path / "long.json", "--out", tmp_path)
    assert "cut           1 questions are longer than data.max_query_length" in page


def test_buckets_say_where_a_model_fails():
    assert [question_word(q) for q in ("In WHICH year?", "Who?", "Name it", "Somehow, why?")] == [
        "which", "who", "other", "why",
    ]  # fmt: skip
    questions = [
        Question("a", "who?", "red house", (("red house", 0),)),
        Question("b", "who?", "red house", ()),
        Question("c", "how?", "red house", (("red", 0),)),
    ]
    assert [answer_length(q) for q in questions] == ["2 words", "no answer", "1 word"]
    result = buckets(questions, *score_each(questions, {"a": "house", "b": "", "c": "red"}))
    assert result["question_word"]["who"] == pytest.approx({"exact": 50.0, "f1": 100 * (2 / 3 + 1) / 2, "total": 2})
    assert list(result["answer_length"]) == ["1 word", "2 words", "no answer"]


def test_an_answer_that_no_window_holds_whole_is_called_cut_off(tokenizer):
    context = " ".join(f"w{i}" for i in range(60))
    start = context.index("w2 ")
    questions = [
        Question("long", "who?", context, ((context[start : context.index("w30")].strip(), start),)),
        Question("short", "who?", context, (("w5", context.index("w5")),)),
        Question("none", "who?", context, ()),
        Question("elsewhere", "who?", context, (("w5", 1),)),
    ]
    questions.append(Question("one of two", "who?", context, questions[0].answers + questions[1].answers))
    answered = SimpleNamespace(questions=questions, windows=make_windows(questions, tokenizer, 32, 16, 8))
    assert [cut_off(answered, number) for number in range(5)] == [True, False, False, False, False]


def test_the_surest_misses_come_first_whatever_was_said(tokenizer):
    """Sure is what is far from the threshold, on either side; without a place for the gold answer, no sentence."""
    context, threshold = "He bought milk. She sold bread.", -4.0
    span = Span("milk", context.index("milk"), context.index("milk") + 4, 0.0, 0.0)
    cases = {"span, sure": -9.0, "nothing, surer": 3.0, "span, unsure": -4.5, "nothing, unsure": -3.0}
    questions, answers = [], []
    for name, odds in cases.items():
        place = 1 if name == "nothing, unsure" else context.index("bread")
        questions.append(Question(name, "what?", context, (("bread", place),)))
        answers.append(Answers([span], Span("", 0, 0, odds, 0.0)))
    answered = Answered(questions, make_windows(questions, tokenizer, 32, 16, 8), answers, threshold)
    found = misses(answered, score_each(questions, answered.predictions)[1], 4)
    assert [miss["id"] for miss in found] == ["nothing, surer", "span, sure", "nothing, unsure", "span, unsure"]
    assert [miss["sentence"] for miss in found] == [
        "She sold «bread».", "He bought «milk».", None, "He bought «milk».",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "threshold,unanswerable,remarks",
    [
        (-4.0, 0, 1),  # all ten are answered "", and none should be
        (-4.0, 9, 0),  # one too many
        (0.0, 0, 0),  # all are answered
        (None, 0, 0),  # and could not be otherwise
    ],
)
def test_a_threshold_that_empties_the_answers_is_remarked_upon(tokenizer, capsys, threshold, unanswerable, remarks):
    context = "He bought milk."
    gold = [()] * unanswerable + [(("milk", 10),)] * (10 - unanswerable)
    questions = [Question(str(n), "what?", context, answers) for n, answers in enumerate(gold)]
    answers = [Answers([Span("milk", 10, 14, 0.0, 0.0)], Span("", 0, 0, -2.0, 0.0)) for _ in questions]
    answered = Answered(questions, make_windows(questions, tokenizer, 32, 16, 8), answers, threshold)
    found, _ = judge_answers(questions, answers, threshold)
    told = threshold_remarks(answered, found)
    assert len(told) == remarks
    if told:
        assert told[0].startswith('10 of 10 questions are answered "", and 0 have no answer: the threshold -4.000 is')
        assert told[0].endswith("(-2.000, fitted to this file) would give f1 100.0 instead of 0.0")
        print_question_details({"threshold": None, "remarks": told, "buckets": {}})
        assert capsys.readouterr().out.startswith("  note          10 of 10 questions are answered")


def test_a_run_is_scored_once_and_what_was_scored_is_shown_although_the_next_run_is_none(place, tmp_path, capsys):
    runs = [place / "passwords", place / "passwords" / ".." / "passwords", tmp_path / "nothing"]
    shared = ("--data", str(place / "dev.json"))
    assert eval_py.main(["score", *map(str, runs), *shared]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("predictions.json") == 1 and "2 runs" not in shown.out
    assert shown.err.startswith(f"eval.py: {tmp_path / 'nothing'}: is not a run folder")
    (tmp_path / "a file").write_text("mine")
    assert eval_py.main(["score", str(runs[0]), *shared, "--out", str(tmp_path / "a file")]) == 2
    shown = capsys.readouterr()
    assert (
        "exact" in shown.out
        and "written" not in shown.out
        and "a file: is a file, and a plain folder is to be" in shown.err
    )
    assert (tmp_path / "a file").read_text() == "mine"


def test_ctrl_c_is_a_line_and_no_traceback(place, capsys, monkeypatch):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.inference.commands.load_run", interrupted)
    assert eval_py.main(["score", str(place / "passwords"), "--data", str(place / "dev.json")]) == 130
    assert capsys.readouterr().err == "eval.py: interrupted\n"


# ---- ask -------------------------------------------------------------------------------------------------------------


def test_an_answer_is_found_in_whichever_window_of_a_long_passage_it_lies(place):
    """A passage of more than three windows; the sentence with the answer is moved through it from end to end."""
    sentences, windows = 24, set()
    texts = {
        f"{at}": passwords.passage(random.Random(5), "juniper", sentences, at) for at in range(0, sentences + 1, 2)
    }
    (asked,) = ask(load_run(place / "passwords"), [passwords.QUESTION], texts)
    assert len(asked["answers"]) == sentences // 2 + 1
    for found in asked["answers"]:
        text, best = texts[found["text"]], found["candidates"][0]
        assert found["answer"] == "juniper" == text[best["start"] : best["end"]], found["text"]
        windows.add(best["start"] // (len(text) // 4))
    assert windows == {0, 1, 2, 3}  # it was in every quarter


def test_a_passage_without_the_answer_gets_no_answer_and_says_how_close_it_was(place, capsys):
    text = passwords.passage(random.Random(6), None, 5, 0)
    page = run(capsys, "ask", place / "passwords", "--question", passwords.QUESTION, "--context", text)
    assert re.search(r"no answer  \(by \d+\.\d over the threshold of -?\d+\.\d\)", page) and "or: " in page


def test_a_question_whose_end_is_not_read_says_so(place, capsys):
    long = passwords.QUESTION + " please" * 20
    page = run(capsys, "ask", place / "passwords", "--question", passwords.QUESTION, long, "--context",
               "The password of the day is juniper.")  # fmt: skip
    assert page.count("(its end was not read: it is longer than data.max_query_length)") == 1


def test_a_text_without_words_has_no_answer(place, capsys):
    page = run(capsys, "ask", place / "passwords", "--question", passwords.QUESTION, "--context", "\u200b")
    assert "no answer  (there are no words in the text)" in page


def test_the_answer_is_marked_in_its_sentence(place, capsys, monkeypatch):
    text = "It rained. The password of the day is juniper. The bread was warm."
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False))
    page = run(capsys, "ask", place / "passwords", "--question", passwords.QUESTION, "What is the password today?")
    assert page.count("    The password of the day is «juniper».\n") == 2
    assert page.startswith(passwords.QUESTION + "\n  juniper  (") and "What is the password today?\n" in page


def test_a_sentence_is_cut_out_of_its_passage():
    text = "One. Two is\nhere! The grand army came. End"
    assert sentence_around(text, text.index("army"), text.index("army") + 4) == "The grand «army» came."
    assert sentence_around("no full stop", 3, 7) == "no «full» stop"
