"""Printing, streams and interrupts, for both programs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import eval as eval_py
from experiments.terminal import say, say_json
from tests.experiments.report.made import records, write

ROOT = Path(__file__).resolve().parents[2]
ACTING = "\x1b[31m\x07a\nb\x9b0m\u202e\x7f\r"


def test_what_is_said_is_one_line_that_a_terminal_does_not_obey(capsys):
    say(ACTING)
    say([ACTING, "grün ± 漢字"])
    out = capsys.readouterr().out
    assert out.count("\n") == 3 and all(c.isprintable() for c in out.replace("\n", "")) and "grün ± 漢字" in out


def test_json_is_valid_readable_and_without_characters_that_act(capsys):
    value = {ACTING: ["grün ± 漢字", "\U000e0001", 1.5]}
    say_json(value)
    out = capsys.readouterr().out
    assert json.loads(out) == value and "grün ± 漢字" in out
    assert all(c.isprintable() for c in out.replace("\n", ""))


def test_json_is_valid_where_the_terminal_knows_ascii_only():
    code = "from experiments.terminal import begin, say_json; begin(); say_json({'a': 'grün\\x9b'})"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, env=environment, check=True)
    assert json.loads(done.stdout) == {"a": "grün\x9b"}


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("program", ["eval.py summary", "eval.py summary --json", "train.py --exp"])
def test_a_closed_stream_is_no_error_and_nothing_is_written_elsewhere(tmp_path, program, closed):
    folder = write(tmp_path / "r", records())
    before = (folder / "metrics.jsonl").read_bytes()
    command = f"{sys.executable} {program} {folder} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and "Error" not in done.stderr
    assert done.returncode == (2 if "train" in program else 0)  # a folder is no experiment
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_file_opened_after_stdout_was_closed_does_not_take_its_place():
    code = "from experiments.terminal import begin, sys; begin(); print(open('eval.py').fileno(), file=sys.stderr)"
    command = ["bash", "-c", f'{sys.executable} -c "{code}" >&- <&-']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert int(done.stderr) > 2


def test_ctrl_c_while_torch_is_imported_is_no_traceback():
    command = [sys.executable, "-X", "importtime", "train.py", "--help"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:  # a line for each module
            if line.rstrip().endswith("numpy.version"):
                break
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130 and "Traceback" not in said and "train.py: interrupted" in said


def test_importing_train_changes_no_signal_handler():
    code = "from signal import *; before = getsignal(SIGINT); import train; assert getsignal(SIGINT) is before"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("words", [["--watch", "-1"], ["--watch=-1"], ["--watch", "nan"], ["--watch", "x"]])
@pytest.mark.parametrize("first", [True, False])
def test_a_time_to_watch_below_zero_is_one_line(tmp_path, words, first):
    folder = str(write(tmp_path / "r", records()))
    arguments = [*words, folder] if first else [folder, *words]
    done = subprocess.run([sys.executable, "eval.py", "summary", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--watch" in done.stderr and not done.stdout


def test_a_folder_s_name_does_not_act_on_the_terminal(tmp_path, capsys):
    folder = tmp_path / "a\x1b[31m\nb"
    for run in (folder, write(folder.with_name("c\x07\nd"), [])):
        assert eval_py.main(["summary", str(run)]) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and all(c.isprintable() for c in said.rstrip("\n"))
