import json

import pytest

from experiments.runlog import FILE, RunLog, read_records
from inputs import InputError


def test_a_record_says_what_it_is_and_when(tmp_path):
    log = RunLog(tmp_path, seconds=100.0)
    log.write("train", 5, 0.25, loss=1.5)
    (record,), remarks = read_records(tmp_path)
    assert (record["kind"], record["step"], record["epoch"], record["loss"]) == ("train", 5, 0.25, 1.5)
    assert record["seconds"] >= 100.0 and record["time"].endswith("+00:00") and not remarks


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    RunLog(tmp_path).write("event", 1, 0, loss=float("nan"), nested={"a": [float("inf"), 2.0]})
    line = (tmp_path / FILE).read_text()
    assert "NaN" not in line and "Infinity" not in line
    assert json.loads(line)["nested"] == {"a": [None, 2.0]}


def test_continuing_cuts_what_came_after_the_offset(tmp_path):
    log = RunLog(tmp_path)
    log.write("train", 1, 0.1)
    offset = log.offset
    log.write("train", 2, 0.2)
    log.close()
    RunLog(tmp_path, offset=offset).write("train", 3, 0.3)
    assert [r["step"] for r in read_records(tmp_path)[0]] == [1, 3]


def test_a_torn_last_line_is_a_remark_and_other_nonsense_too(tmp_path):
    good = b'{"kind": "train", "step": 1}\n'
    (tmp_path / FILE).write_bytes(good + b"\xff\xfe\n" + b"[1]\n" + good + b'{"kind": "tr')
    records, remarks = read_records(tmp_path)
    assert len(records) == 2
    assert [remark.partition(": ")[2][:14] for remark in remarks] == [
        "line 2 is not ",
        "line 3 is not ",
        "line 5 is torn",
    ]


def test_a_folder_without_records_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"is .* a run folder"):
        read_records(tmp_path)
