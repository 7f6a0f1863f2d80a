"""config/spec.py and parse.py: what an experiment file may say, and what is said about one that is wrong."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

import pytest

from data.files import InputError
from experiments.config.check import as_options, read_spec
from experiments.config.parse import override, reference
from experiments.config.spec import Spec, TaskSpec
from experiments.tasks.several import KINDS
from experiments.training.sweep import expand

ROOT = Path(__file__).resolve().parents[3]
MINIMAL = {
    "task": "span_qa",
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


def test_one_text_may_stand_for_a_list_of_texts(tmp_path):
    """In the file and after --set, and in a list of objects; the resolved spec has the list."""
    for targets in ("all-linear", ["all-linear"]):
        assert read_spec(write(tmp_path, MINIMAL | {"lora": {"targets": targets}})).lora.targets == ("all-linear",)
    raw = MINIMAL | {"data": {"train": "a.json"}}
    given = ["lora.targets=all-linear", "phases.0.train=lora", "data.dev=b.json", "optim.l1_on=head"]
    spec = read_spec(write(tmp_path, raw), given)
    assert (spec.lora.targets, spec.phases[0].train, spec.optim.l1_on) == (("all-linear",), ("lora",), ("head",))
    data = spec.tasks["main"].data
    assert (data.train, data.dev) == (("a.json",), ("b.json",))


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
        ({"optim": {"speed": 1}}, r"optim.speed: unknown key; known: name, lr"),
        ({"optim": {"learning_rate": 1}}, r"optim.learning_rate: unknown key; did you mean 'lr'\?"),
        ({"epochs": 3}, r"epochs: unknown key; did you mean 'phases.0.epochs'\?"),
        ({"max_length": 128}, r"max_length: unknown key; did you mean 'data.max_length'\?"),
        ({"weight": 2}, r"weight: unknown key; did you mean 'optim.weight_decay'\?"),
        ({"optim": {"lrr": 1}}, r"optim.lrr: unknown key; did you mean 'lr'\?"),
        ({"lr": 1e-4}, r"lr: unknown key; did you mean 'optim.lr'\?"),
        ({"optim": {"lr": "fast"}}, r"optim.lr: expected a number, found 'fast'"),
        ({"optim": {"lr": True}}, r"optim.lr: expected a number, found True"),
        ({"optim": {"lr": 0}}, r"optim.lr: 0.0 is out of range \(above 0, at most 1,000\)"),
        ({"optim": {"lr": None}}, r"optim.lr: expected a number, found None"),
        ({"optim": {"lr": 10**400}}, r"optim.lr: expected a number"),
        ({"optim": {"name": "adan"}}, r"optim.name: 'adan' is not one of adamw, adam, sgd, rmsprop"),
        ({"model": {"dropout": 0.95}}, r"model.dropout: 0.95 is out of range \(0 to 0.9\)"),
        ({"model": []}, r"model: expected an object, found \[\]; its keys: pretrained, adapter"),
        ({"model": "bert-base"}, r'model: expected an object, found .bert-base.; write {"pretrained": "bert-base"}'),
        ({"amp": True}, r"amp: True is not one of auto, off, bf16, fp16"),
        ({"task": None}, r"task: None is not one of span_qa, classification"),
        ({"lora": {"targets": 3}}, r"lora.targets: expected a list, found 3"),
        ({"data": {"train": "", "dev": "b.json"}}, r"data.train: '' is not inside the data root"),
        ({"lora": {"targets": ["query", 3]}}, r"lora.targets.1: expected a text, found 3"),
        ({"lora": {"ranks": {"query": 0}}}, r"lora.ranks.query: 0 is out of range"),
        ({"lora": {"init": "olora"}}, r"lora.init: 'olora' is not one of default, pissa"),
        ({"lora": {"b_rate": 0}}, r"lora.b_rate: 0.0 is out of range \(above 0, at most 1,000\)"),
        ({"lora": {"dora": 1}}, r"lora.dora: expected true or false, found 1"),
        *(
            ({"lora": lora, "optim": {"l1": 0.1, "l1_on": ["head", "lora"]}}, r"optim.l1_on: 'lora' would shrink")
            for lora in ({"dora": True}, {"init": "pissa"})
        ),
        ({"phases": []}, r"phases: at least one"),
        ({"phases": {"name": "a"}}, r'phases: expected a list, found .*; write \[{"name": "a"}\]'),
        (
            {"phases": [MINIMAL["phases"][0] | {"lr": 1e-3}]},
            r'phases.0.lr: expected an object, found 0.001 .*{"head": 1e-3}',
        ),
        *(
            (
                {"phases": [{"name": "a", "epochs": 1, "train": [entry]}]},
                f"phases.0.train: '{entry}' is no part of the model; {said}",
            )
            for entry, said in (
                ("heads", "did you mean 'head'"),
                ("adapters", "did you mean 'lora'"),
                ("layer.3", "did you mean 'layers.3'"),
                ("encoder", "did you mean 'layers'"),
                ("query", "write head, lora, embeddings"),
            )
        ),
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
        ("", "cannot be read as JSON: line 1 column 1: it ends too early"),
        ('{"seed": 1', "line 1 column 11: it ends too early; a bracket is missing"),
        ('{\n  // mine\n  "seed": 1}', "line 2 column 3: JSON has no comments; remove this one"),
        ('{"seed": 1 # mine\n}', "line 1 column 12: JSON has no comments"),
        ('{\n  "seed": 1,\n}', "line . column .*: a comma with nothing after it; remove it"),
        ('{"a": [1, 2,]}', "line 1 column .*: a comma with nothing after it"),
        ('{"seed": 1\n"name": "x"}', "line 2 column 1: a comma is missing before this"),
        ('{"lora": None}', "line 1 column 10: JSON says true, false and null"),
        ("{seed: 1}", "line 1 column 2: a name stands in double quotes"),
        ("{\"name\": 'x'}", "line 1 column 10: a text stands in straight double quotes"),
        ('{"seed": 1}}', "line 1 column 12: Extra data: '}'"),
        ("[1]", "expected a JSON object, found \\[1\\]"),
        ('{"seed": 1, "seed": 2}', "the key 'seed' is there twice"),
        ('{"seed": NaN}', "NaN is not a number"),
        ('{"seed": ' + "[" * 100_000, "nested too deeply"),
        ("{'seed': 1}", "line 1 column 2: a text stands in straight double quotes"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_spec(write(tmp_path, text))


def test_an_experiment_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match=r"none.json: no such experiment; those .* experiments/: .*bert_phase1.json"):
        read_spec(tmp_path / "none.json")
    mine = write(tmp_path, MINIMAL)
    for near, meant in (("mien.json", mine), ("mine", mine), ("bert_phase2", "experiments/bert_phase2.json")):
        with pytest.raises(InputError, match=f"no such experiment; did you mean .*{Path(meant).name}"):
            read_spec(tmp_path / near)
    with pytest.raises(InputError, match="is a folder; a file is needed; those of the project"):
        read_spec(ROOT / "exp" / ".." / "exp")


def test_the_byte_order_mark_of_an_editor_is_no_fault(tmp_path):
    assert read_spec(write(tmp_path, "\ufeff" + json.dumps(MINIMAL))).name == "mine"


def test_an_experiment_without_a_task_is_asked_which_one(tmp_path):
    raw = {key: value for key, value in MINIMAL.items() if key != "task"}
    with pytest.raises(InputError, match=r"mine.json: task: is required; one of span_qa, classification, multi_label"):
        read_spec(write(tmp_path, raw | {"data": {"train": ["rows.csv"], "dev": ["rows.csv"]}}))


@pytest.mark.parametrize(
    "words,meant",
    [
        ("exp/bert_phase2.json", "--exp exp/bert_phase2.json"),
        ("--config a.json", "--exp a.json"),
        ("optim.lr=1e-3", "--set optim.lr=1e-3"),
        ("--optim.lr 1e-3", "--set optim.lr=1e-3"),
        ("--lr=1e-3", "--set optim.lr=1e-3"),
        ("--learning-rate 1e-3", "--set optim.lr=1e-3"),
        ("--seed 1", "--set seed=1"),
        ("--batch-size 8", "--set data.batch_size=8"),
        ("--epochs 3", "--set phases.0.epochs=3"),
        ("--model bert-base-uncased", "--set model.pretrained=bert-base-uncased"),
        ("--rseume", ""),
    ],
)
def test_words_that_are_no_options_are_said_to_be_settings(words, meant):
    assert as_options(words.split()) == meant


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
        ("phases.x.epochs=2", "'x' is not a position from 0 to 0; items of a list go by number: phases.0.epochs"),
        ("lora.targets=[query]", r"cannot be read as JSON.*put all of it in single ones: 'data.train=\[\"a.json\"\]'"),
        ("seed.x.y=2", "seed: expected a whole number"),
        ("data.source.x=2", "'synthetic_qa' has no field 'x'"),
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
    spec = read_spec(write(tmp_path, MINIMAL | {"lora": None, "phases": [phase]}))
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
