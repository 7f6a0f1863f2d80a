import contextlib
import copy
import json
import os
import tracemalloc

import pytest

from data.files import InputError
from experiments.records import FILE, read_records
from experiments.training.writer import Writer
from tests.experiments.report import made
from tests.mutated_records import nested


def test_a_record_says_what_it_is_and_when(tmp_path):
    log = Writer(tmp_path, seconds=100.0)
    log.write("event", 5, 0.25, event="overflow", loss=1.5)
    record = json.loads((tmp_path / FILE).read_text())
    assert (record["kind"], record["step"], record["epoch"], record["loss"]) == ("event", 5, 0.25, 1.5)
    assert record["seconds"] >= 100.0 and record["time"].endswith("+00:00")


def test_a_reader_sees_of_a_record_what_has_been_checked_and_no_more(tmp_path):
    Writer(tmp_path).write("event", 5, 0.25, event="overflow", loss=1.5, examples=["a"] * 1000)
    found = read_records(tmp_path)
    assert [sorted(record) for record in found.records] == [["epoch", "event", "kind", "seconds", "step"]]
    assert not found.remarks


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


EVAL = {"kind": "eval", "step": 1, "epoch": 0.5, "seconds": 2.0, "phase": "p", "metrics": {"f1": None},
        "clock": dict.fromkeys(("train", "data", "eval", "checkpoint"), 1.0)}  # fmt: skip
TRAIN = {"kind": "train", "step": 1, "epoch": 0.5, "seconds": 2.0, "loss": None, "examples": 8, "tokens": 9,
         "tokens_per_second": 5.0, "padding": 0.0, "peak_memory_mb": 3}  # fmt: skip


@pytest.mark.parametrize(
    "good,change,field",
    [(EVAL, {"step": None}, "step"), (EVAL, {"seconds": "2"}, "seconds"), (EVAL, {"metrics": {"f1": "x"}}, "metrics"),
     (EVAL, {"clock": {}}, "clock"), (EVAL, {"clock": EVAL["clock"] | {"x": {}}}, "clock"),
     (EVAL, {"epoch": 10**400}, "epoch"), (EVAL, {"phase": 3}, "phase"),
     (EVAL, {"epoch": -1}, "epoch"), (EVAL, {"split": []}, "split"), (EVAL, {"phase": "x" * 10**5}, "phase"),
     (EVAL, {"intervals": [1]}, "intervals"), (EVAL, {"intervals": {"f1": [1, 10**400]}}, "intervals"),
     (TRAIN, {"tokens_per_second": 1e-320}, "tokens_per_second"), (TRAIN, {"lr": 0.1}, "lr"),
     (TRAIN, {"grad_norm": "x"}, "grad_norm"), (TRAIN, {"clipped": 2}, "clipped")],
)  # fmt: skip
def test_a_record_that_lacks_what_readers_count_on_is_a_remark(tmp_path, good, change, field):
    (tmp_path / FILE).write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    found = read_records(tmp_path)
    records, (remark,) = found.records, found.remarks
    assert records == [good] and remark.endswith(
        f"line 2 is a record of kind {good['kind']!r} without a usable {field!r}; ignored"
    )


@pytest.mark.parametrize(
    "path,value",
    [("spec.optim", "\ud800"), ("version", []), ("program", {}), ("spec.tasks", {"qa": {"task": "\ud800"}}),
     ("spec.optim", nested(30)), ("spec.optim", nested(900)), ("spec.optim", {"lr": 10**400}),
     ("data.fingerprints", {"qa": "0"}),
     ("data.splits", {"qa": {"dev": {"examples": 1, "kind": "x", "baseline": [1]}}})],
)  # fmt: skip
def test_a_run_record_that_cannot_be_shown_is_none(tmp_path, path, value):
    given = copy.deepcopy(made.records()[0])
    parent, _, key = path.rpartition(".")
    (given[parent] if parent else given)[key] = value
    (tmp_path / FILE).write_text(json.dumps(given) + "\n")
    assert not read_records(tmp_path).records and len(read_records(tmp_path).remarks) == 1


@pytest.mark.parametrize("seconds", [1e15, 2**62, -(2**62)])
def test_a_file_may_say_that_it_was_written_at_any_time(tmp_path, seconds):
    Writer(tmp_path).close()
    with contextlib.suppress(OSError, OverflowError):  # not every disk can
        os.utime(tmp_path / FILE, (0, seconds))
    assert "T" in read_records(tmp_path).written


def test_many_records_take_little_memory(tmp_path):
    """Some 500 bytes each, beside the file: what no reader looks at is not kept."""
    event = {
        "kind": "event",
        "step": 1,
        "epoch": 0.1,
        "seconds": 1.0,
        "event": "nonfinite",
        "examples": ["x" * 70] * 16,
    }
    (tmp_path / FILE).write_text((json.dumps(event) + "\n") * 5000)
    tracemalloc.start()
    found = read_records(tmp_path)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(found.records) == 5000 and kept < 5000 * 600


def test_a_folder_without_records_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"is .* a run folder"):
        read_records(tmp_path)
