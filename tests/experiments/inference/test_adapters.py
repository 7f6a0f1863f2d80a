"""Adapters of PEFT's in the place of a run's own: --adapter of `eval.py score` and `ask`, and load(..., adapter=)."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from data.files import InputError
from experiments.inference import load
from lora.inject import unwrap
from model.pretrained import load_encoder
from tests.experiments.inference.made import MOOD, QA, call, refused, train_run, write_texts
from tests.model.test_pretrained import rewrite
from tests.peft_folders import BEFORE, adapters_of, begin, change_settings, key_of, random, read, write_peft
from tests.test_resume import files_of
from tests.vocabularies import write_family

TEXT = "A film to treasure."


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a checkpoint, base/, runs of it, and PEFT's adapters for it: a, b, biased, headed and wrong."""
    folder = tmp_path_factory.mktemp("adapters")
    base = write_family(folder / "base", "bert")
    train_run(folder, "mood", base, **MOOD)
    train_run(folder, "plain", base, **MOOD, lora=None, phases=[{"name": "one", "epochs": 1, "train": ["head"]}])
    layer = [{"name": "one", "epochs": 1, "train": ["head", "lora", "layers.1"]}]
    train_run(folder, "layer", base, **MOOD, phases=layer)
    train_run(folder, "pissa", base, **MOOD, lora={"rank": 4, "alpha": 8, "init": "pissa"})
    train_run(folder, "qa", base, **QA)
    encoder, _ = load_encoder(str(base))
    query, value = (adapters_of(encoder, (which,), seed=seed) for which, seed in (("query", 1), ("value", 100)))
    write_peft(folder / "a", query)
    write_peft(folder / "b", value | adapters_of(encoder, ("layers.0.attention.query",), rank=2, seed=200))
    write_peft(folder / "biased", query | {key_of("layers.0.mlp.up", "bias"): random(48, size=2.0)})
    head = {f"{BEFORE}classifier.weight": random(2, 32, size=2.0), f"{BEFORE}classifier.bias": random(2)}
    pooler = {f"{BEFORE}bert.pooler.dense.weight": random(32, 32), f"{BEFORE}bert.pooler.dense.bias": random(32)}
    write_peft(folder / "headed", query | head | pooler)
    five = {f"{BEFORE}classifier.weight": random(5, 32), f"{BEFORE}classifier.bias": random(5)}
    write_peft(folder / "wrong", query | pooler | five)
    lengths = {key.replace("lora_A", "lora_magnitude_vector"): random(32) for key in query if "lora_A" in key}
    write_peft(folder / "dora", query | lengths, use_dora=True)
    for name in ("a", "biased"):
        model = {"pretrained": str(base), "adapter": str(folder / name)}
        train_run(folder, f"upon_{name}", base, **MOOD, lora=None, model=model)
    return folder


def ask(capsys, run: Path, *adapters) -> dict[str, float]:
    capsys.readouterr()
    assert call("ask", run, "--text", TEXT, "--json", *(["--adapter", *adapters] if adapters else [])) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    return answer["probabilities"]


def expected(place: Path, name: str, weights: dict[str, float]) -> torch.Tensor:
    """The logits of a run with its adapter taken out and others added to the weights by hand."""
    model = load(place / "runs" / name)
    encoder = model.trained.model.encoder
    unwrap(encoder)
    bare = {path: p.detach().clone() for path, p in encoder.named_parameters()}
    for folder, weight in weights.items():
        for path, own in read(place / folder, encoder, "bert").adapter.layers.items():
            encoder.get_submodule(path).weight.data += weight * own.alpha / len(own.A) * own.B @ own.A
    assert any(not torch.equal(bare[path], p) for path, p in encoder.named_parameters())
    return model.logits(model.batch(TEXT))


def logits(place: Path, name: str, adapter) -> torch.Tensor:
    model = load(place / "runs" / name, adapter=adapter)
    return model.logits(model.batch(TEXT))


# ---- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["mood", "plain"])
@pytest.mark.parametrize(
    "weights", [{"a": 1.0}, {"a": 0.5}, {"a": 0.7, "b": -0.3}, {"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 2.0}]
)
def test_adapters_are_added_to_the_pretrained_weights_times_their_weights(place, run, weights):
    given = {str(place / name): weight for name, weight in weights.items()}
    assert (logits(place, run, given) - expected(place, run, weights)).abs().max() < 1e-5


def test_adapters_that_a_run_began_with_and_trained_are_its_own(place):
    given = {str(place / "b"): 1.0}
    assert (logits(place, "upon_a", given) - expected(place, "upon_a", {"b": 1.0})).abs().max() < 1e-5


def test_the_commands_do_what_load_does(place, capsys, tmp_path):
    run, a, b = place / "runs" / "mood", place / "a", place / "b"
    own = ask(capsys, run)
    for adapters, weights in (
        ([a], {a: 1.0}),
        ([f"{a}=0.5"], {a: 0.5}),
        ([f"{a}=0.7", f"{b}=-3e-1"], {a: 0.7, b: -0.3}),
    ):
        found, model = ask(capsys, run, *adapters), load(run, adapter={str(k): v for k, v in weights.items()})
        assert found == pytest.approx(model.classify(TEXT).probabilities, abs=1e-6) and found != own
    data = tmp_path / write_texts(tmp_path, ["negative", "positive"])
    losses = []
    for more in ([], ["--adapter", a], ["--adapter", a, "--adapter", b]):
        assert call("score", run, "--data", data, "--json", "--out", tmp_path / "out", *more) == 0
        losses.append(json.loads(capsys.readouterr().out)["runs"][0]["loss"])
    assert len(set(losses)) == 3


def test_what_an_adapter_keeps_whole_comes_along(place):
    model = load(place / "runs" / "mood", adapter=place / "biased")
    bias = dict(model.trained.model.encoder.named_parameters())["layers.0.mlp.up.bias"]
    assert torch.equal(bias, random(48, size=2.0))


def test_a_head_that_fits_is_taken_over(place):
    head = load(place / "runs" / "mood", adapter=place / "headed").trained.model.head_of("main")
    assert torch.equal(head.output.weight, random(2, 32, size=2.0))
    assert torch.equal(head.pool.dense.weight, random(32, 32))


def with_head(place: Path, folder: Path, *names: str, **settings) -> Path:
    """Adapters with some tensors of a head for two labels, and of BERT's pooler."""
    shapes = {"classifier.weight": (2, 32), "bert.pooler.dense.weight": (32, 32), "bert.pooler.dense.bias": (32,)}
    shapes |= {"classifier.bias": (2,), "qa_outputs.weight": (2, 32), "qa_outputs.bias": (2,)}
    head = {f"{BEFORE}{name}": random(*shape) for name, shape in shapes.items() if name.startswith(names)}
    return write_peft(folder, adapters_of(load_encoder(str(place / "base"))[0], ("query",)) | head, **settings)


WHOLE = ("classifier", "bert.pooler")


@pytest.mark.parametrize(
    "run,names,settings",
    [
        ("mood", None, {}),  # a classifier for five labels
        ("mood", ("qa_outputs",), {}),
        ("qa", WHOLE, {}),
        ("mood", (*WHOLE, "qa_outputs"), {}),
        ("mood", ("bert.pooler",), {}),  # under a classifier that has never seen it
        ("mood", ("classifier",), {}),  # the base has no pooler to go below it
        ("mood", WHOLE, {"task_type": "TOKEN_CLS"}),
    ],
)
def test_a_head_that_does_not_fit_as_a_whole_is_refused(place, tmp_path, capsys, run, names, settings):
    """At the beginning of a run a pretrained pooler is welcome; here nothing trains any more."""
    adapter = place / "wrong" if names is None else with_head(place, tmp_path / "a", *names, **settings)
    asked = ["--question", "Who?", "--context", "Ann."] if run == "qa" else ["--text", TEXT]
    line = refused(capsys, "ask", place / "runs" / run, *asked, "--adapter", adapter)
    assert f"--adapter: the head in {adapter} (" in line and "does not fit the run's in names, shapes or labels" in line


def test_a_pooler_that_the_run_does_not_have_changes_nothing(place, tmp_path):
    """Adapters of all linear layers of an encoder bring one, and a model for spans has none."""
    model = load(place / "runs" / "qa", adapter=with_head(place, tmp_path / "a", "bert.pooler"))
    own = load(place / "runs" / "qa").trained.model.head_of("main")
    assert torch.equal(model.trained.model.head_of("main").output.weight, own.output.weight)


def test_a_classifier_that_peft_trained_goes_upon_the_pooler_of_its_base(place, tmp_path):
    base = shutil.copytree(place / "base", tmp_path / "base")
    change = {"bert.pooler.dense.weight": random(32, 32, seed=5), "bert.pooler.dense.bias": random(32, seed=6)}
    rewrite(base, lambda t: t.update(change))
    adapter = with_head(place, tmp_path / "a", "classifier")
    head = load(train_run(tmp_path, "mood", base, **MOOD), adapter=adapter).trained.model.head_of("main")
    assert torch.equal(head.pool.dense.weight, change["bert.pooler.dense.weight"])
    assert torch.equal(head.output.weight, random(2, 32))


def test_the_run_is_left_as_it_was(place, capsys):
    before = files_of(place / "runs" / "mood")
    own = ask(capsys, place / "runs" / "mood")
    ask(capsys, place / "runs" / "mood", place / "headed")
    assert ask(capsys, place / "runs" / "mood") == own and files_of(place / "runs" / "mood") == before


def test_the_best_folder_of_a_run_is_an_adapter_too(place, capsys):
    """Its head is in a file of ours, so the run's own answers; of the run itself, nothing changes."""
    run = place / "runs" / "mood"
    assert ask(capsys, run, run / "best") == pytest.approx(ask(capsys, run), abs=1e-6)
    assert ask(capsys, run, place / "runs" / "qa" / "best") != pytest.approx(ask(capsys, run), abs=1e-6)


def test_dora_can_be_used_alone(place, capsys):
    run, dora = place / "runs" / "mood", place / "dora"
    ask(capsys, run, dora)
    for adapters in ([dora, place / "a"], [f"{dora}=0.5"]):
        assert "can be used alone, but neither added nor weighted" in refused(
            capsys, "ask", run, "--text", TEXT, "--adapter", *adapters
        )


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer", "pissa", "upon_biased"])
def test_a_run_with_encoder_weights_of_its_own_takes_no_other_adapters(place, capsys, name):
    line = refused(capsys, "ask", place / "runs" / name, "--text", TEXT, "--adapter", place / "a")
    assert "--adapter: the run has changed the encoder's own weights, other adapters do not belong to them" in line


@pytest.mark.parametrize(
    "given,message",
    [
        (["nowhere/at/all"], "--adapter: 'nowhere/at/all' is not a folder"),
        (["a=x"], "--adapter a=x: 'x' is no weight; write FOLDER=0.5"),
        (["a="], "--adapter a=: '' is no weight"),
        (["a=0,5"], "'0,5' is no weight"),
        (["a=nan"], "a: nan is no weight"),
        (["a=inf", "b"], "a: inf is no weight"),
        (["a=-1e999"], "a: -inf is no weight"),
        (["=1"], "--adapter: '' is not a folder"),
        (["a/adapter_config.json"], "is a file; give the folder that it is in"),
        (["base"], "base/adapter_config.json: no such file"),
        (["runs/mood"], "runs/mood/adapter_config.json: no such file"),
        (["runs/pissa/best"], "init_lora_weights is 'pissa'"),
        (["a", "biased"], "biased keeps weights of its own beside adapters; it can only be used alone"),
        ([], "argument --adapter: expected at least one argument"),
    ],
)
def test_what_is_no_adapter_or_no_weight_is_one_line(place, capsys, monkeypatch, given, message):
    monkeypatch.chdir(place)
    assert message in refused(capsys, "ask", "runs/mood", "--text", TEXT, "--adapter", *given)


def test_a_hub_id_is_not_asked_for_without_being_allowed(place, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "ask", place / "runs" / "mood", "--text", TEXT, "--adapter", "somebody/adapter=0.5")
    assert "--adapter: 'somebody/adapter' is not a folder seen from" in line and "--allow-download" in line


def test_a_folder_whose_name_has_an_equals_sign_is_a_folder(place, capsys, tmp_path):
    other = shutil.copytree(place / "a", tmp_path / "alpha=8")
    run = place / "runs" / "mood"
    assert ask(capsys, run, other) == ask(capsys, run, place / "a")
    assert ask(capsys, run, f"{other}=0.5") == ask(capsys, run, f"{place / 'a'}=0.5")


def test_a_damaged_adapter_is_named(place, capsys, tmp_path):
    broken = shutil.copytree(place / "a", tmp_path / "a")
    change_settings(broken, lora_alpha="\x1b[2J")
    line = refused(capsys, "ask", place / "runs" / "mood", "--text", TEXT, "--adapter", broken)
    assert rf"{broken}/adapter_config.json: lora_alpha is '\x1b[2J', expected a number" in line


@pytest.mark.parametrize("given", [["a", "a"], ["a=0.3", "a=0.9"]])
def test_one_adapter_twice_is_refused_or_added(place, capsys, monkeypatch, given):
    monkeypatch.chdir(place)
    assert "twice" in refused(capsys, "ask", "runs/mood", "--text", TEXT, "--adapter", *given)


def test_the_best_folder_of_a_run_that_trained_layers_is_refused(place, capsys):
    assert "encoder" in refused(
        capsys, "ask", place / "runs" / "mood", "--text", TEXT, "--adapter", place / "runs" / "layer" / "best"
    )


def test_the_runs_own_predictions_are_not_replaced_by_those_of_other_adapters(place, capsys, tmp_path):
    run = shutil.copytree(place / "runs" / "mood", tmp_path / "mood")
    data = tmp_path / write_texts(tmp_path, ["negative", "positive"])
    assert call("score", run, "--data", data) == 0
    before = files_of(run / "predictions")
    capsys.readouterr()
    call("score", run, "--data", data, "--adapter", f"{place / 'a'}=40", "--json")
    told = capsys.readouterr()
    after = files_of(run / "predictions")
    assert all(after[path] == content for path, content in before.items())
    assert str(place / "a") in told.out + told.err


@pytest.mark.parametrize(
    "adapter", [3, ["a"], b"a", float("nan"), {"a": "x"}, {"a": None}, {3: 1.0}, {"a": [1.0]}, {"a": 1 + 2j}], ids=repr
)
def test_load_refuses_what_is_no_adapter(place, monkeypatch, adapter):
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match="adapter"):
        load("runs/mood", adapter=adapter)


@pytest.mark.parametrize("adapter", ["", {}, 0, False, []], ids=repr)
def test_load_refuses_an_adapter_that_is_empty(place, monkeypatch, adapter):
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match="adapter"):
        load("runs/mood", adapter=adapter)


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_load_refuses_a_weight_that_is_no_number(place, weight):
    with pytest.raises(InputError, match=r"^adapter: .* is no weight of one of the adapters"):
        load(place / "runs" / "mood", adapter={str(place / "a"): weight})


def test_adapters_in_use_are_what_begin_with_merges(place):
    """Three ways to one model: beside the weights, merged, and through load."""
    results = []
    for keep in (True, False):
        encoder, info = load_encoder(str(place / "base"))
        begin(encoder.eval(), read(place / "biased", encoder, info.family), keep)
        results.append(encoder(torch.arange(5, 25)[None]))
    model = load(place / "runs" / "mood", adapter=place / "biased").trained.model.encoder
    results.append(model(torch.arange(5, 25)[None]))
    assert all((result - results[0]).abs().max() < 1e-5 for result in results)
