"""config/spec.py and parse.py: what an experiment file may say, and what is said about one that is wrong."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

import pytest

from data.files import InputError
from experiments.config.check import read_spec
from experiments.config.parse import override, reference
from experiments.config.spec import Spec, TaskSpec
from experiments.tasks.several import KINDS
from experiments.training.sweep import expand

ROOT = Path(__file__).resolve().parents[3]
MINIMAL = {
    "data": {"source": "synthetic_qa"},
    "lora": {},
    "phases": [{"name": "a", "epochs": 1, "train": ["head", "lora"]}],
}


def write(tmp_path, raw) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(raw if isinstance(raw, str) else json.dumps(raw))
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "exp").glob("*.json")), ids=lambda path: path.stem)
def test_every_experiment_of_the_project_is_valid(path):
    spec = read_spec(path, sweeping=True)
    assert spec.name == path.stem and (not spec.sweep or len(expand(path, [])) > 1)


def test_exp_is_a_link_to_experiments():
    assert (ROOT / "exp").resolve() == ROOT / "experiments"


def test_defaults_fill_what_is_not_said(tmp_path):
    spec = read_spec(write(tmp_path, MINIMAL))
    assert (spec.name, spec.optim.name, spec.lora.rank, spec.lora.targets) == ("mine", "adamw", 8, ("query", "value"))


def test_the_resolved_spec_reads_back_as_itself(tmp_path):
    phase = {"name": "thaw", "epochs": 2, "train": ["head"], "gradual": "layers.5-4", "lr": {"layers": 1e-4}}
    spec = read_spec(write(tmp_path, MINIMAL | {"phases": [*MINIMAL["phases"], phase]}))
    again = write(tmp_path, json.dumps(asdict(spec)))
    assert read_spec(again) == spec


def test_a_whole_number_is_a_number_but_not_the_other_way_round(tmp_path):
    assert read_spec(write(tmp_path, MINIMAL | {"optim": {"lr": 1}})).optim.lr == 1.0
    with pytest.raises(InputError, match=r"optim.accumulate: expected a whole number, found 2.0"):
        read_spec(write(tmp_path, MINIMAL | {"optim": {"accumulate": 2.0}}))


@pytest.mark.parametrize(
    "change,message",
    [
        ({"optim": {"learning_rate": 1}}, r"optim.learning_rate: unknown key; known: name, lr"),
        ({"optim": {"lrr": 1}}, r"optim.lrr: unknown key; did you mean 'lr'\?"),
        ({"lr": 1e-4}, r"lr: unknown key; did you mean 'optim.lr'\?"),
        ({"optim": {"lr": "fast"}}, r"optim.lr: expected a number, found 'fast'"),
        ({"optim": {"lr": True}}, r"optim.lr: expected a number, found True"),
        ({"optim": {"lr": 0}}, r"optim.lr: 0.0 is out of range \(above 0, at most 1,000\)"),
        ({"optim": {"lr": None}}, r"optim.lr: expected a number, found None"),
        ({"optim": {"lr": 10**400}}, r"optim.lr: expected a number"),
        ({"optim": {"name": "adan"}}, r"optim.name: 'adan' is not one of adamw, adam, sgd, rmsprop"),
        ({"model": {"dropout": 0.95}}, r"model.dropout: 0.95 is out of range \(0 to 0.9\)"),
        ({"model": []}, r"model: expected an object, found \[\]"),
        ({"lora": {"targets": "query"}}, r"lora.targets: expected a list, found 'query'"),
        ({"lora": {"targets": ["query", 3]}}, r"lora.targets.1: expected a text, found 3"),
        ({"lora": {"ranks": {"query": 0}}}, r"lora.ranks.query: 0 is out of range"),
        ({"phases": []}, r"phases: at least one"),
        ({"phases": [{"name": "a", "epochs": 1}]}, r"phases.0.train: is required"),
        ({"phases": MINIMAL["phases"] * 2}, r"phases.0.name: 'a' is there twice"),
        ({"lora": None}, r"phases.0.train: 'lora' cannot train, because the experiment has no lora group"),
        ({"phases": [{"name": "a", "epochs": 0, "train": ["head"]}]}, r"phases.0.epochs: 0.0 is out of range"),
        (
            {"phases": [{"name": "a", "epochs": 1, "train": ["head", "lora"], "lr": {"layers": 1}}]},
            r"phases.0.lr.layers: not in this phase's train list \(head, lora\)",
        ),
        (
            {"phases": [{"name": "a", "epochs": 1, "train": ["lora"], "gradual": "5-2"}]},
            r'phases.0.gradual: \'5-2\' is not of the form "layers.5-2"',
        ),
        ({"data": {}}, r"data.train, data.dev: name at least one file each"),
        (
            {"data": {"source": "synthetic_qa", "dev": ["a"]}},
            r"data.dev: not used with data.source 'synthetic_qa'",
        ),
        ({"data": {"train": ["../a"], "dev": ["b"]}}, r"data.train: '../a' is not inside the data root"),
        ({"data": {"train": ["a"], "dev": ["/etc/b"]}}, r"data.dev: '/etc/b' is not inside the data root"),
        ({"data": {"source": "synthetic_qa", "max_length": 128}}, r"data.doc_stride: 128 could skip text"),
        ({"data": {"source": "synthetic_qa", "max_length": 64}}, r"data.max_query_length: 64 fills a window of 64"),
        (
            {"phases": [{"name": "a", "epochs": 1, "train": ["layers"], "gradual": "layers.5-2"}]},
            r"phases.0.gradual: would add layers that the phase trains",
        ),
        ({"eval": {"every_steps": 5, "every_epochs": 1}}, r"eval.every_steps, eval.every_epochs: set one"),
        ({"name": "../x"}, r"name: '../x' cannot be a run folder's name"),
        ({"seed": -1}, r"seed: -1 is out of range"),
    ],
)
def test_what_is_wrong_is_named_with_key_value_and_what_is_allowed(tmp_path, change, message):
    with pytest.raises(InputError, match=r"mine.json: " + message):
        read_spec(write(tmp_path, MINIMAL | change))


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "cannot be read as JSON"),
        ("[1]", "expected a JSON object, found \\[1\\]"),
        ('{"seed": 1, "seed": 2}', "the key 'seed' is there twice"),
        ('{"seed": NaN}', "NaN is not a number"),
        ('{"seed": ' + "[" * 100_000, "nested too deeply"),
        ("{'seed': 1}", "line 1 column 2"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_spec(write(tmp_path, text))


def test_an_experiment_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"none.json: no such experiment; .*experiments/bert_phase1.json"):
        read_spec(tmp_path / "none.json")


# ---- --set -----------------------------------------------------------------------------------------------------------


def test_set_reaches_every_field(tmp_path):
    path = write(tmp_path, MINIMAL)
    spec = read_spec(
        path, ["optim.lr=3e-4", "phases.0.epochs=0.5", "name=try2", 'lora.ranks={"up": 2}', "model.dropout=0"]
    )
    assert (spec.optim.lr, spec.phases[0].epochs, spec.name) == (3e-4, 0.5, "try2")
    assert (spec.lora.ranks, spec.model.dropout) == ({"up": 2}, 0.0)


def test_set_null_removes_a_group(tmp_path):
    spec = read_spec(write(tmp_path, MINIMAL), ["lora=null", 'phases.0.train=["head"]'])
    assert spec.lora is None


@pytest.mark.parametrize(
    "assignment,message",
    [
        ("optim.lr", "expected key=value"),
        ("=3", "expected key=value"),
        ("optim.lrr=3", "optim.lrr: unknown key; did you mean 'lr'"),
        ("optim.lr=-1", "optim.lr: -1.0 is out of range"),
        ("phases.1.epochs=2", "'1' is not a position from 0 to 0"),
        ("phases.x.epochs=2", "'x' is not a position"),
        ("seed.x.y=2", "seed: expected a whole number"),
        ("data.source.x=2", "data.source is 'synthetic_qa', which has no fields"),
    ],
)
def test_set_is_checked_like_the_file(tmp_path, assignment, message):
    with pytest.raises(InputError, match=message):
        read_spec(write(tmp_path, MINIMAL), [assignment])


def test_override_keeps_the_other_fields():
    raw = {"optim": {"lr": 1, "clip": 2}}
    override(raw, "optim.lr=3")
    assert raw == {"optim": {"lr": 3, "clip": 2}}


# ---- the short form of gradual unfreezing, and the reference ---------------------------------------------------------


def test_gradual_unfreezing_is_a_longer_list(tmp_path):
    phase = {
        "name": "thaw",
        "epochs": 3,
        "train": ["head"],
        "gradual": "layers.5-3",
        "lr": {"layers": 1e-4, "head": 1e-3},
    }
    spec = read_spec(write(tmp_path, {"data": {"source": "synthetic_qa"}, "phases": [phase]}))
    assert [p.name for p in spec.phases] == ["thaw-layers.5", "thaw-layers.4", "thaw-layers.3"]
    assert [p.epochs for p in spec.phases] == [1, 1, 1]
    assert spec.phases[2].train == ("head", "layers.5", "layers.4", "layers.3")
    assert spec.phases[2].lr == {"head": 1e-3, "layers.5": 1e-4, "layers.4": 1e-4, "layers.3": 1e-4}


def test_every_kind_of_task_has_a_class_of_settings_and_one_of_code():
    assert KINDS.keys() == {fields(kind)[0].default for kind in get_args(TaskSpec)}


def test_the_reference_documents_every_setting():
    rows = list(reference(Spec))
    assert len(rows) > 50
    assert all(meaning for _, _, meaning in rows)
    assert {"optim.lr", "phases.N.layer_decay", "runtime.threads"} <= {key for key, _, _ in rows}


def test_a_spec_is_immutable(tmp_path):
    spec = read_spec(write(tmp_path, MINIMAL))
    with pytest.raises(AttributeError):
        spec.seed = 3
