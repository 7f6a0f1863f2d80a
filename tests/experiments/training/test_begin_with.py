"""`model.adapter`: runs that begin with adapters that PEFT wrote."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import eval as eval_py
from lora.inject import lora_layers
from model.pretrained import load_encoder
from tests.experiments.inference.made import MOOD, QA, train_run, write_experiment, write_questions
from tests.model.test_pretrained import rewrite
from tests.peft_folders import BEFORE, adapters_of, change_settings, change_tensors, key_of, random, read, write_peft
from tests.test_resume import files_of
from tests.tiny import assert_same_run, dying_at, run_main, set_up
from tests.vocabularies import write_family

HEAD = {f"{BEFORE}qa_outputs.weight": random(2, 32), f"{BEFORE}qa_outputs.bias": random(2)}


def phase(name: str, *train: str, epochs: int = 1) -> dict:
    return {"name": name, "epochs": epochs, "train": train}


ONE = [phase("one", "head", "lora")]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a checkpoint, base/, and an adapter for it, adapter/, with biases and a head for spans."""
    folder = tmp_path_factory.mktemp("begin")
    encoder, _ = load_encoder(str(write_family(folder / "base", "bert")))
    tensors = adapters_of(encoder, ("query", "down")) | {key_of("layers.0.mlp.up", "bias"): random(48)} | HEAD
    write_peft(folder / "adapter", tensors, lora_dropout=0.1, alpha_pattern={"query": 9})
    lengths = {key.replace("lora_A", "lora_magnitude_vector"): random(32) for key in tensors if "query.lora_A" in key}
    query = {key: tensor for key, tensor in tensors.items() if "query.lora" in key}
    write_peft(folder / "dora", query | lengths, use_dora=True)
    return folder


def experiment(place: Path, folder: Path, **changes) -> Path:
    model = {"pretrained": str(place / "base"), "adapter": str(place / "adapter")}
    return write_experiment(folder, "tiny", place / "base", **{**QA, "model": model, "lora": None, **changes})


def refusal(capsys) -> str:
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.isprintable()
    return line


# ---- how it begins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes,ranks",
    [
        ({"phases": ONE}, {4}),
        ({"phases": [phase("one", "head"), phase("two", "lora")]}, {4}),
        ({"phases": [phase("one", "head")]}, set()),
        ({"phases": [phase("one", "all")]}, set()),
        ({"phases": ONE, "lora": {"rank": 2, "alpha": 4}}, {2}),
    ],
)
def test_the_layers_stay_lora_layers_where_a_phase_trains_them_and_are_merged_elsewhere(
    place, tmp_path, changes, ranks
):
    run = set_up(experiment(place, tmp_path, **changes), tmp_path)
    encoder = run.model.encoder.eval()
    assert {layer.rank for _, layer in lora_layers(encoder)} == ranks
    plain, _ = load_encoder(str(place / "base"))
    for path, own in read(place / "adapter", plain, "bert").adapter.layers.items():
        assert own.alpha == (9.0 if path.endswith("query") else 6.0)
        plain.get_submodule(path).weight.data += own.alpha / 4 * own.B @ own.A
    dict(plain.named_parameters())["layers.0.mlp.up.bias"].data.copy_(random(48))
    tokens = torch.arange(5, 45)[None]
    assert (encoder(tokens) - plain.eval()(tokens)).abs().max() < 1e-5


def test_kept_layers_have_the_dropout_and_scaling_of_their_file(place, tmp_path):
    run = set_up(experiment(place, tmp_path, phases=ONE), tmp_path)
    layers = dict(lora_layers(run.model.encoder))
    assert {layer.lora_dropout.p for layer in layers.values()} == {0.1}
    assert {layer.alpha for path, layer in layers.items() if path.endswith("query")} == {9.0}


def test_its_head_is_taken_over(place, tmp_path):
    head = set_up(experiment(place, tmp_path, phases=ONE), tmp_path).model.head_of("main")
    assert torch.equal(head.output.weight, random(2, 32)) and head.taken == ("qa_outputs.weight", "qa_outputs.bias")


def test_its_head_comes_before_that_of_the_checkpoint(place, tmp_path):
    base = shutil.copytree(place / "base", tmp_path / "base")
    change = {"qa_outputs.weight": torch.ones(2, 32), "qa_outputs.bias": torch.ones(2)}
    rewrite(base, lambda t: t.update(change))
    model = {"pretrained": str(base), "adapter": str(place / "adapter")}
    head = set_up(experiment(place, tmp_path, phases=ONE, model=model), tmp_path).model.head_of("main")
    assert torch.equal(head.output.weight, random(2, 32))


@pytest.mark.parametrize(
    "labels,pooler,taken",
    [
        (2, True, ("pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias")),
        (5, True, ()),  # a pooler that was trained for other labels
        (0, True, ("pooler.dense.weight", "pooler.dense.bias")),
        (2, False, ()),  # the base has no pooler to go below it
    ],
)
def test_a_head_is_taken_as_a_whole_or_not_but_a_pooler_may_be_alone(place, tmp_path, labels, pooler, taken):
    dense = f"{BEFORE}bert.pooler.dense"
    head = (
        {f"{BEFORE}classifier.weight": random(labels, 32), f"{BEFORE}classifier.bias": random(labels)} if labels else {}
    )
    head |= {f"{dense}.weight": random(32, 32), f"{dense}.bias": random(32)} if pooler else {}
    write_peft(tmp_path / "a", adapters_of(load_encoder(str(place / "base"))[0], ("query",)) | head)
    model = {"pretrained": str(place / "base"), "adapter": str(tmp_path / "a")}
    path = write_experiment(tmp_path, "tiny", place / "base", **{**MOOD, "model": model, "lora": None, "phases": ONE})
    assert set_up(path, tmp_path).model.head_of("main").taken == taken


def test_a_phase_may_train_lora_without_a_lora_group_only_with_an_adapter(place, tmp_path, capsys):
    path = experiment(place, tmp_path, phases=ONE, model={"pretrained": str(place / "base")})
    assert run_main(path, tmp_path) == 2
    assert "phases.0.train: 'lora' cannot train, because the experiment has no lora group" in refusal(capsys)


# ---- interrupted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"phases": [*ONE, phase("two", "head", "lora", "layers.1")]},
        {"phases": [*ONE, phase("two", "lora")], "model": "dora"},
        {"phases": [phase("one", "all", epochs=2)]},
        {"phases": [phase("one", "head", "lora", epochs=2)], "lora": {"rank": 2, "alpha": 4, "dora": True}},
    ],
    ids=["kept", "kept, DoRA", "merged, all trains", "merged, new adapters"],
)
def test_a_killed_run_continues_to_the_same_numbers_and_answers(place, tmp_path, monkeypatch, capsys, changes):
    data = QA["data"] | {"train_limit": 8, "dev_limit": 4}
    runtime = {"device": "cpu", "threads": 1, "checkpoint_steps": 3}
    if "model" in changes:
        changes = changes | {"model": {"pretrained": str(place / "base"), "adapter": str(place / changes["model"])}}
    path = experiment(place, tmp_path, **changes, data=data, runtime=runtime)
    assert run_main(path, tmp_path, "--set", "name=whole") == 0
    with dying_at(7, monkeypatch):
        run_main(path, tmp_path)
    assert run_main(path, tmp_path, "--resume") == 0
    whole, folder = tmp_path / "runs" / "whole", tmp_path / "runs" / "tiny"
    assert_same_run(whole, folder)
    capsys.readouterr()
    assert eval_py.main(["score", str(folder), "--data", str(write_questions(tmp_path)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"]
    assert eval_py.main(["summary", str(folder), str(whole), "--json"]) == 0


@pytest.mark.parametrize("change", ["settings", "tensors", "gone", "half gone", "a file"])
def test_where_the_adapter_has_changed_since_a_run_is_used_as_before_and_not_resumed(place, tmp_path, capsys, change):
    adapter = shutil.copytree(place / "adapter", tmp_path / "adapter")
    model = {"pretrained": str(place / "base"), "adapter": str(adapter)}
    path = experiment(place, tmp_path, phases=ONE, model=model)
    assert run_main(path, tmp_path) == 0
    run = tmp_path / "runs" / "tiny"
    ask = ["ask", str(run), "--question", "Who?", "--context", "Ann.", "--json"]
    capsys.readouterr()
    assert eval_py.main(ask) == 0
    answers = capsys.readouterr().out
    if change == "settings":
        change_settings(adapter, lora_alpha=7)
    elif change == "tensors":
        change_tensors(adapter, lambda t: t.update({key: tensor + 1 for key, tensor in t.items()}))
    elif change == "half gone":
        (adapter / "adapter_model.safetensors").unlink()
    else:
        shutil.rmtree(adapter)
        if change == "a file":
            adapter.write_text("x")
    before = files_of(tmp_path / "runs")
    capsys.readouterr()
    assert run_main(path, tmp_path, "--resume", "--set", "phases.0.epochs=1") == 2
    message = {
        "settings": f"(of {adapter})",
        "tensors": f"(of {adapter})",
        "half gone": "adapter_model.safetensors: no such file",
        "gone": "model.adapter: ",
        "a file": "adapter is a file; give the folder that it is in",
    }[change]
    assert message in refusal(capsys)
    assert eval_py.main(ask) == 0
    assert capsys.readouterr().out == answers
    assert eval_py.main(["export", str(run), "--to", str(tmp_path / "x")]) == 0
    assert files_of(tmp_path / "runs") == before


# ---- what is no adapter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given,message",
    [
        ("runs/run", "runs/run/adapter_config.json: no such file"),
        ("base", "base/adapter_config.json: no such file"),
        ("merged", "merged/adapter_config.json: no such file"),
        ("adapter/adapter_config.json", "is a file; give the folder that it is in"),
        ("", "model.adapter: '' is not a folder"),
        ("../no where", "model.adapter: '../no where' is not a folder"),
        (7, "model.adapter: "),
        (["adapter"], "model.adapter: "),
        ({"adapter": 0.5}, "model.adapter"),
    ],
    ids=repr,
)
def test_what_is_no_adapter_is_refused_in_one_line(place, tmp_path, capsys, monkeypatch, given, message):
    for name in ("base", "adapter"):
        (tmp_path / name).symlink_to(place / name)
    if given in ("runs/run", "merged"):
        run = train_run(tmp_path, "run", place / "base", **QA)
        eval_py.main(["export", str(run), "--to", str(tmp_path / "merged")])
    monkeypatch.chdir(tmp_path)
    path = experiment(place, tmp_path, phases=ONE, model={"pretrained": "base", "adapter": given})
    capsys.readouterr()
    assert run_main(path, tmp_path) == 2
    assert message in refusal(capsys) and not (tmp_path / "runs" / "tiny").exists()


def test_the_exported_adapter_of_a_run_begins_another(place, tmp_path):
    run = train_run(tmp_path, "run", place / "base", **MOOD)
    assert eval_py.main(["export", str(run), "--to", str(tmp_path / "out"), "--as", "adapter"]) == 0
    model = {"pretrained": str(place / "base"), "adapter": str(tmp_path / "out")}
    path = write_experiment(tmp_path, "tiny", place / "base", **{**MOOD, "model": model, "lora": None, "phases": ONE})
    started = set_up(path, tmp_path)
    assert len(list(lora_layers(started.model.encoder))) == 4
    assert len(started.model.head_of("main").taken) == 4


def test_where_the_checkpoint_is_an_adapter_the_message_names_what_is_missing(place, tmp_path, capsys):
    path = experiment(place, tmp_path, phases=ONE, model={"pretrained": str(place / "adapter")}, lora={"rank": 2})
    assert run_main(path, tmp_path) == 2
    assert "adapter/config.json: no such file" in refusal(capsys)


def with_full_dropout(folder: Path) -> None:
    change_settings(folder, lora_dropout=1.0)


def with_an_embedding(folder: Path) -> None:
    shapes = {"lora_A.weight": (4, 32), "lora_B.weight": (4000, 4)}
    tensors = {key_of("embeddings.word", own): torch.ones(shape) for own, shape in shapes.items()}
    change_tensors(folder, lambda t: t.update(tensors))


@pytest.mark.parametrize("change", [with_full_dropout, with_an_embedding])
def test_an_adapter_that_cannot_be_trained_is_refused(place, tmp_path, capsys, change):
    adapter = shutil.copytree(place / "adapter", tmp_path / "adapter")
    change(adapter)
    model = {"pretrained": str(place / "base"), "adapter": str(adapter)}
    code = run_main(experiment(place, tmp_path, phases=ONE, model=model), tmp_path)
    if code != 2:
        pytest.fail("it trained")
    refusal(capsys)
