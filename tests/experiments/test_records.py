import json

import pytest

from data.files import InputError
from experiments.records import FILE, read_records
from experiments.training.writer import Writer


def test_a_record_says_what_it_is_and_when(tmp_path):
    log = Writer(tmp_path, seconds=100.0)
    log.write("event", 5, 0.25, event="overflow", loss=1.5)
    found = read_records(tmp_path)
    (record,), remarks = found.records, found.remarks
    assert (record["kind"], record["step"], record["epoch"], record["loss"]) == ("event", 5, 0.25, 1.5)
    assert record["seconds"] >= 100.0 and record["time"].endswith("+00:00") and not remarks


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    Writer(tmp_path).write("event", 1, 0, loss=float("nan"), nested={"a": [float("inf"), 2.0]})
    line = (tmp_path / FILE).read_text()
    assert "NaN" not in line and "Infinity" not in line
    assert json.loads(line)["nested"] == {"a": [None, 2.0]}


def test_a_line_with_a_number_that_is_none_is_a_remark(tmp_path):
    good = b'{"kind": "event", "event": "a", "step": 1, "epoch": 0.5, "seconds": 2.0}\n'
    (tmp_path / FILE).write_bytes(good + good.replace(b"2.0", b'2.0, "loss": NaN'))
    found = read_records(tmp_path)
    records, remarks = found.records, found.remarks
    assert len(records) == len(remarks) == 1 and "line 2" in remarks[0]


def test_continuing_cuts_what_came_after_the_offset(tmp_path):
    log = Writer(tmp_path)
    log.write("event", 1, 0.1, event="a")
    offset = log.offset
    log.write("event", 2, 0.2, event="b")
    log.close()
    Writer(tmp_path, offset=offset).write("event", 3, 0.3, event="c")
    assert [r["step"] for r in read_records(tmp_path).records] == [1, 3]


def test_a_torn_last_line_is_a_remark_and_other_nonsense_too(tmp_path):
    good = b'{"kind": "event", "event": "a", "step": 1, "epoch": 0.5, "seconds": 2.0}\n'
    (tmp_path / FILE).write_bytes(good + b"\xff\xfe\n" + b"[1]\n" + good + b'{"kind": "tr')
    found = read_records(tmp_path)
    records, remarks = found.records, found.remarks
    assert len(records) == 2
    assert [remark.partition(": ")[2][:14] for remark in remarks] == [
        "line 2 is not ",
        "line 3 is not ",
        "line 5 is torn",
    ]


@pytest.mark.parametrize(
    "change,field",
    [({"step": None}, "step"), ({"seconds": "2"}, "seconds"), ({"metrics": {"f1": "x"}}, "metrics"),
     ({"clock": {}}, "clock"), ({"epoch": 10**400}, "epoch"), ({"phase": 3}, "phase")],
)  # fmt: skip
def test_a_record_that_lacks_what_readers_count_on_is_a_remark(tmp_path, change, field):
    clock = dict.fromkeys(("train", "data", "eval", "checkpoint"), 1.0)
    good = {
        "kind": "eval",
        "step": 1,
        "epoch": 0.5,
        "seconds": 2.0,
        "phase": "p",
        "metrics": {"f1": None},
        "clock": clock,
    }
    (tmp_path / FILE).write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    found = read_records(tmp_path)
    records, (remark,) = found.records, found.remarks
    assert records == [good] and remark.endswith(
        f"line 2 is a record of kind 'eval' without a usable {field!r}; ignored"
    )


def test_a_folder_without_records_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"is .* a run folder"):
        read_records(tmp_path)
