"""eval.py summary: what is printed of a hand-made run."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import eval as eval_py
from experiments.report.render import safe
from experiments.terminal import amount, duration
from tests.experiments.report.made import SPEC, read_summary, records, write

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_shows_what_a_person_asks_first(tmp_path, capsys):
    assert eval_py.main(["summary", str(write(tmp_path / "r", records(), torn=b'{"ki'))]) == 0
    page = capsys.readouterr().out
    assert max(len(line) for line in page.splitlines() if not line.startswith("note")) <= 100  # notes name a path
    for text in (
        "made: finished, 20 of 20 steps, seed 3",
        "data of qa    train 7 questions, dev 5 questions",
        "best          f1 40.0, at step 15, epoch 1.50, p",
        "final - best  loss +0.300, f1 -5.0",
        "50 (5.00%)",
        "after best    1 evaluations, 5 steps, 5.0 s of training, 25% of it all, saved by stopping there",
        "speed         100 real tokens/s, 3 examples/s",
        "120 MiB",
        "line 14 is torn",
        "verdict       overfitting, since step 15",
    ):
        assert " ".join(text.split()) in " ".join(page.split()), text
    best = next(line for line in page.splitlines() if line.startswith("best"))
    assert best.split() == ["best", "15", "1.50", "p", "5.0", "s", "-", "1.500", "40.0"]


def test_markdown_has_the_same_figures_and_escapes_what_it_must(tmp_path, capsys):
    given = records()
    given[0]["spec"] = SPEC | {"name": "a|b<i>*"}
    assert eval_py.main(["summary", str(write(tmp_path / "r", given)), "--markdown"]) == 0
    page = capsys.readouterr().out
    assert (
        page.startswith("## a\\|b&lt;i>\\*: finished") and "| best | 15 | 1.50 | p | 5.0 s | - | 1.500 | 40.0 |" in page
    )


@pytest.mark.parametrize(
    "text,live",
    [("![a](http://a.b)", r"[^\\]\[|://"), ("www.a.b and HTTPS://a.b", r"www\.|://"), ("a@b.cd, ping @someone", r"@\w"),
     ("see #12, a/b#12 or GH-12", r"#\w|GH-\d"), ("<img src=x>", r"<"), ("&#64;a &lt;b>", r"&(#64|lt;b)"),
     ("`x` ~y~ $z$ _i_ __b__ *c*", r"(?<!\\)[`~$*]|(?<!\\)_"), ("a|b\\", r"[^\\]\|")],
)  # fmt: skip
def test_in_markdown_nothing_of_a_run_becomes_a_link_an_image_or_a_mention(text, live):
    assert re.search(live, text) and not re.search(live, safe(text))
    assert unescaped(safe(text)) == text


def unescaped(markdown: str) -> str:
    """What a reader of the rendered Markdown sees."""
    return html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", lambda found: f"&#{ord(found[1])};", markdown)).replace(
        "\u200b", ""
    )


def test_names_of_metrics_stay_readable_in_markdown():
    assert safe("HasAns_f1 ± 0.3 (paired bootstrap), n = 600") == "HasAns_f1 ± 0.3 (paired bootstrap), n = 600"


def test_several_runs_are_beside_each_other(tmp_path, capsys):
    folders = []
    for name, seed, lr, change in (
        ("a0", 0, 1e-3, 0.0),
        ("a1", 1, 1e-3, 2.0),
        ("b0", 0, 1e-2, 30.0),
        ("b1", 1, 1e-2, 31.0),
    ):
        given = records()
        given[0]["spec"] = SPEC | {"name": name, "seed": seed, "optim": {"lr": lr}}
        given[8]["metrics"]["f1"] += change
        folders.append(str(write(tmp_path / name, given)))
    assert eval_py.main(["summary", *folders, "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("## In short\n\nlr 0.01 is best: f1 70.5")
    assert eval_py.main(["summary", *folders]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 100
    for text in (
        "1 lr 0.01  2",
        "*70.5 ± 0.7",
        "41.0 ± 1.4",
        "Runs, ranked by f1",
        "lr 0.01 is best: f1 70.5 ± 0.7 (n = 2); lr 0.001 is 29.5 behind (p = 0.006, 2 runs each)",
        "2 lr 0.001 -29.5 distinguishable p = 0.006, n = 2 its scores of the examples are not there",
    ):
        assert " ".join(text.split()) in " ".join(page.split()), text


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    folder = write(tmp_path / "r", records())
    command = f"{sys.executable} eval.py summary {folder} | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == ""


def test_json_is_the_same_figures(tmp_path, capsys):
    folder = write(tmp_path / "r", records())
    eval_py.main(["summary", str(folder), "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(read_summary(folder)))


def test_an_unfinished_run_without_evaluations_is_summarised(tmp_path, capsys):
    assert eval_py.main(["summary", str(write(tmp_path / "r", records()[:3]))]) == 0
    page = capsys.readouterr().out
    assert "made: unfinished, 3 of 20 steps" in page and "no evaluation yet" in page


def test_watching_ends_with_the_run(tmp_path, capsys):
    assert eval_py.main(["summary", str(write(tmp_path / "r", records())), "--watch", "0.1"]) == 0


@pytest.mark.parametrize("given,message", [([], "kind 'run', is missing"), (None, "is .* a run folder")])
def test_what_is_not_a_run_is_one_line(tmp_path, capsys, given, message):
    folder = tmp_path / "r" if given is None else write(tmp_path / "r", given)
    assert eval_py.main(["summary", str(folder)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and len(error.splitlines()) == 1


def test_the_summary_does_not_wait_for_torch():
    code = "import eval, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "value,text", [(7, "7"), (1000, "1 k"), (147_456, "147 k"), (22_713_602, "22.7 M"), (1.1e9, "1.1 G")]
)
def test_amounts_have_three_digits(value, text):
    assert amount(value) == text


@pytest.mark.parametrize(
    "value,text", [(9.44, "9.4 s"), (95, "1 min 35 s"), (3725, "1 h 02 min"), (59.97, "1 min 00 s")]
)
def test_durations_are_readable(value, text):
    assert duration(value) == text


HOSTILE = "\x1b[31m<b>$\\frac{$\nx\u202e"


def hostile() -> list[dict]:
    """Records in which every name is meant to do harm."""
    given = records()
    given[0]["spec"] = SPEC | {"name": HOSTILE, "tasks": {HOSTILE: {"task": HOSTILE}}, "optim": {HOSTILE: HOSTILE}}
    for record in given:
        if record["kind"] == "phase":
            record["name"] = HOSTILE
        if record["kind"] == "train":
            record["lr"] = {HOSTILE: 1e-3, "layers.0": 1e-4}
        if record["kind"] == "eval":
            record |= {"phase": HOSTILE, "metrics": record["metrics"] | {HOSTILE: 1.0}}
        if record["kind"] == "event":
            record |= {"event": HOSTILE, "message": HOSTILE}
    return given


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_what_comes_from_a_run_reaches_no_terminal_and_no_page_as_it_is(tmp_path, capsys, form):
    folders = [str(write(tmp_path / name, hostile())) for name in "ab"]
    page = tmp_path / "page.html"
    more = {"text": [], "markdown": ["--markdown"], "html": ["--html", str(page)]}[form]
    for runs in (folders, folders[:1]):
        assert eval_py.main(["summary", *runs, *more]) == 0
        text = capsys.readouterr().out + (page.read_text() if form == "html" else "")
        assert "\x1b" not in text and "\u202e" not in text
        assert form != "markdown" or "<b>" not in text
    if form == "html":
        assert "<b>" not in page.read_text() and "$\\frac{$" in page.read_text()  # drawn letter by letter


@pytest.mark.parametrize("form", ["--json", "--markdown"])
def test_watching_ends_when_the_reader_has_gone(tmp_path, form):
    folder = write(tmp_path / "r", records()[:-1])
    command = f"{sys.executable} eval.py summary {folder} --watch 0.1 {form} | head -1"
    subprocess.run(["bash", "-c", command], cwd=ROOT, stdout=subprocess.DEVNULL, timeout=30, check=True)


@pytest.mark.parametrize("given,option", [(["--threshold", "0"], "--threshold"), (["--watch", "-1"], "--watch")])
def test_an_option_out_of_range_is_one_line(tmp_path, capsys, given, option):
    assert eval_py.main(["summary", str(write(tmp_path / "r", records())), *given]) == 2
    assert capsys.readouterr().err.startswith(f"eval.py: {option}: ")
