"""`eval.py export`: what it writes and refuses. tests/test_parity.py loads exports in transformers and peft."""

import ast
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.files import InputError
from experiments.config.metrics import METRICS
from experiments.inference import export as export_module
from experiments.inference import load
from experiments.inference.export import card, fill_adapter
from lora.adapter import WEIGHTS
from model.pretrained import load_encoder
from tests.experiments.inference import made
from tests.experiments.inference.made import FEW, MOOD, QA, STARS, train_run, write_experiment, write_texts
from tests.peft_folders import adapters_of, key_of, random, write_peft
from tests.test_resume import files_of
from tests.tiny import run_main
from tests.vocabularies import write_family

MERGED = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
ADAPTER = {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "tokenizer_config.json"}
QUESTION, CONTEXT = "Who led the trial?", "The trial was led by Ann Sole in 1952."


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a checkpoint, base/, and runs of every kind in runs/, which no test changes."""
    folder = tmp_path_factory.mktemp("export")
    base = write_family(folder / "base", "bert")
    train_run(folder, "qa", base, **QA)
    train_run(folder, "mood", base, **MOOD)
    train_run(folder, "stars", base, **STARS)
    train_run(folder, "several", base, tasks={"qa": QA, "mood": MOOD})
    train_run(folder, "mean", base, **MOOD | {"pooling": "mean"})
    train_run(folder, "cls", base, **MOOD | {"pooling": "cls"})
    train_run(folder, "whole", base, **QA, lora=None, phases=[{"name": "one", "epochs": 1, "train": ["all"]}])
    layer = [{"name": "one", "epochs": 1, "train": ["head", "lora", "layers.1"]}]
    train_run(folder, "layer", base, **QA, phases=layer)
    train_run(folder, "pissa", base, **QA, lora={"rank": 4, "alpha": 8, "init": "pissa"})
    return folder


def export(*arguments) -> int:
    return made.call("export", *arguments)


def refused(capsys, *arguments) -> str:
    """What is said, in one line, to an export that is refused."""
    return made.refused(capsys, "export", *arguments)


def logits_of(model):
    if model.kind == "span_qa":
        return model.logits(model.batch(QUESTION, CONTEXT))
    return model.logits(model.batch(["A film to treasure.", "Two hours of nothing."]))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() < 1e-5)


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qa", "mood", "stars", "whole", "layer", "pissa"])
def test_a_merged_export_is_a_checkpoint_that_begins_a_run_as_the_run_was(place, tmp_path, name):
    out = tmp_path / "out"
    assert export(place / "runs" / name, "--to", out) == 0
    assert {path.name for path in out.iterdir()} == MERGED
    task = {"mood": MOOD, "stars": STARS}.get(name, QA)
    still = [{"name": "one", "epochs": 1, "train": ["head"], "lr": {"head": 1e-12}}]
    again = train_run(tmp_path, "again", out, **task, lora=None, phases=still)
    assert same(logits_of(load(place / "runs" / name)), logits_of(load(again)))


@pytest.mark.parametrize("name", ["qa", "mood", "stars"])
def test_an_exported_adapter_takes_the_place_of_another_runs_with_its_head(place, tmp_path, name):
    out, run = tmp_path / "out", place / "runs" / name
    assert export(run, "--to", out, "--as", "adapter") == 0
    assert {path.name for path in out.iterdir()} == ADAPTER
    other = train_run(tmp_path, "other", place / "base", **{"mood": MOOD, "stars": STARS}.get(name, QA), seed=3)
    assert not same(logits_of(load(other)), logits_of(load(run)))
    assert same(logits_of(load(other, adapter=out)), logits_of(load(run)))


def test_a_regression_is_exported_in_its_unit(place, tmp_path):
    """Its head is trained on (stars - mean) / sd; what others read must give stars."""
    out, model = tmp_path / "out", load(place / "runs" / "stars")
    outputs = model.trained.outputs
    assert outputs.sd != 1.0 and outputs.mean != 0.0
    export(place / "runs" / "stars", "--to", out)
    head, tensors = model.trained.model.head_of("main"), load_file(out / "model.safetensors")
    assert torch.allclose(tensors["classifier.weight"], head.output.weight * outputs.sd)
    assert torch.allclose(tensors["classifier.bias"], head.output.bias * outputs.sd + outputs.mean)
    assert torch.equal(tensors["bert.pooler.dense.weight"], head.pool.dense.weight)
    config = json.loads((out / "config.json").read_text())
    assert config["problem_type"] == "regression" and config["id2label"] == {"0": "LABEL_0"}


def test_an_export_names_the_class_the_labels_and_the_tokenizer(place, tmp_path):
    export(place / "runs" / "mood", "--to", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    assert config["label2id"] == {"negative": 0, "positive": 1}
    assert config["problem_type"] == "single_label_classification" and config["dtype"] == "float32"
    tokenizer = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert tokenizer["tokenizer_class"] == "BertTokenizer" and tokenizer["model_max_length"] == 128


def test_an_adapter_names_its_base_its_layers_and_its_head(place, tmp_path):
    export(place / "runs" / "mood", "--to", tmp_path / "out", "--as", "adapter")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(place / "base") and config["revision"] is None
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "SEQ_CLS")
    assert config["modules_to_save"] == ["classifier", "pooler"]
    tensors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {key.rpartition(".lora_")[0].removeprefix("base_model.model.") for key in tensors if "lora" in key} == set(
        config["target_modules"]
    )
    assert {key for key in tensors if "lora" not in key} == {
        f"base_model.model.{name}.{leaf}" for name in ("bert.pooler.dense", "classifier") for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_several_tasks_give_a_folder_each(place, tmp_path, capsys, form):
    out, run = tmp_path / "new" / "out", place / "runs" / "several"
    assert export(run, "--to", out, "--as", form, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"run": str(run), "form": form, "written": [str(out / "qa"), str(out / "mood")]}
    assert {path.name for path in out.iterdir()} == {"qa", "mood"}
    for task in ("qa", "mood"):
        assert {path.name for path in (out / task).iterdir()} == (MERGED if form == "merged" else ADAPTER)
    assert export(run, "--to", tmp_path / "one", "--task", "mood") == 0
    assert (tmp_path / "one" / "config.json").is_file()
    assert "has no task 'cat'; choose one with --task: qa, mood" in refused(
        capsys, run, "--to", tmp_path / "x", "--task", "cat"
    )
    assert not (tmp_path / "x").exists()


def test_an_export_reads_the_run_and_changes_nothing_of_it(place, tmp_path, capsys):
    before = files_of(place / "runs" / "qa")
    assert export(place / "runs" / "qa", "--to", tmp_path / "out") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: merged; its README.md says how to load it\n"
    assert files_of(place / "runs" / "qa") == before


def test_the_files_of_an_export_have_the_mode_that_the_person_wants(place, tmp_path):
    before = os.umask(0o027)
    try:
        export(place / "runs" / "qa", "--to", tmp_path / "out")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out").iterdir()} == {"0o640"}


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,form,message",
    [
        ("mean", "merged", "no class that pools a text as pooling=mean does; train with pooling=cls_pooler to export"),
        ("mean", "adapter", "pooling=mean does"),
        ("cls", "merged", "pooling=cls does"),
        ("whole", "adapter", "was trained without adapters; export it with --as merged"),
        ("layer", "adapter", r"own weights changed as well \(layers.1\).*; export it with --as merged"),
        ("pissa", "adapter", r"own weights changed as well \(layers.0, layers.1\)"),
    ],
)
def test_a_model_that_has_no_such_form_is_refused(place, tmp_path, capsys, name, form, message):
    assert re.search(message, refused(capsys, place / "runs" / name, "--to", tmp_path / "out", "--as", form))
    assert not (tmp_path / "out").exists()


def test_where_something_is_already_nothing_is_written(place, tmp_path, capsys):
    run = place / "runs" / "qa"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = files_of(tmp_path)
    assert "full: is there already, and not empty; give a new folder" in refused(capsys, run, "--to", tmp_path / "full")
    assert "file: is a file" in refused(capsys, run, "--to", tmp_path / "file")
    assert "file: is a file" in refused(capsys, run, "--to", tmp_path / "file" / "out")
    assert "link: is a link" in refused(capsys, run, "--to", tmp_path / "link")
    assert "dangling: is a link" in refused(capsys, run, "--to", tmp_path / "dangling")
    assert "pipe: is a pipe" in refused(capsys, run, "--to", tmp_path / "pipe")
    assert "not empty" in refused(capsys, run, "--to", run)
    assert "not empty" in refused(capsys, run, "--to", run / "best")
    assert files_of(tmp_path) == before


def test_exporting_twice_is_refused_and_the_first_stays(place, tmp_path, capsys):
    export(place / "runs" / "qa", "--to", tmp_path / "out")
    before = files_of(tmp_path)
    assert "is there already, and not empty" in refused(capsys, place / "runs" / "mood", "--to", tmp_path / "out")
    assert files_of(tmp_path) == before


def test_an_empty_folder_may_be_filled(place, tmp_path):
    (tmp_path / "out").mkdir()
    assert export(place / "runs" / "qa", "--to", tmp_path / "out") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == MERGED


def test_what_a_newcomer_types_first_is_answered(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert "the following arguments are required: --to" in refused(capsys, "runs/qa")
    assert "invalid choice: 'lora'" in refused(capsys, "runs/qa", "--to", tmp_path / "x", "--as", "lora")
    assert "--to .: is there already, and not empty" in refused(capsys, "runs/qa", "--to", ".")
    assert "--to runs/qa: is there already" in refused(capsys, "runs/qa", "--to", "runs/qa")
    assert "runs/none" in refused(capsys, "runs/none", "--to", tmp_path / "x")
    assert "base" in refused(capsys, "base", "--to", tmp_path / "x")
    assert "qa.json" in refused(capsys, "qa.json", "--to", tmp_path / "x")
    assert "unrecognized arguments: --adapter" in refused(capsys, "runs/qa", "--to", tmp_path / "x", "--adapter", "a")
    assert not (tmp_path / "x").exists()


def test_what_is_no_run_folder_is_called_so_as_by_the_other_commands(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert "is not a run folder" in refused(capsys, "runs/qaa", "--to", tmp_path / "x")


def test_a_run_that_has_no_best_model_is_refused(place, tmp_path, capsys):
    shutil.copytree(place / "runs" / "qa", tmp_path / "qa")
    shutil.rmtree(tmp_path / "qa" / "best")
    assert "qa: has no best/" in refused(capsys, tmp_path / "qa", "--to", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_run_that_diverged_at_once_is_refused(place, tmp_path, capsys):
    path = write_experiment(tmp_path, "tiny", place / "base", **QA, optim={"lr": 1000.0, "clip": None})
    run_main(path, tmp_path, "--set", "lora.alpha=1e6", "optim.nonfinite_limit=1", 'phases.0.train=["head","lora"]')
    capsys.readouterr()
    code = export(tmp_path / "runs" / "tiny", "--to", tmp_path / "x")
    captured = capsys.readouterr()
    assert code in (0, 2) and len((captured.out + captured.err).splitlines()) == 1
    assert (code == 0) is (tmp_path / "x").exists() is (tmp_path / "runs" / "tiny" / "best").exists()


@pytest.mark.parametrize("inside", ["out", "best/out", "predictions/out"])
def test_an_export_into_its_own_run_folder_is_refused(place, tmp_path, capsys, inside):
    shutil.copytree(place / "runs" / "qa", tmp_path / "qa")
    before = files_of(tmp_path)
    assert "--to" in refused(capsys, tmp_path / "qa", "--to", tmp_path / "qa" / inside)
    assert files_of(tmp_path) == before


def test_the_working_folder_may_be_filled_if_it_is_empty(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = export(place / "runs" / "qa", "--to", ".")
    assert (code, {path.name for path in Path(".").iterdir()}) in ((0, MERGED), (2, set()))


def test_an_empty_working_folder_is_not_pulled_away(place, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    export(place / "runs" / "qa", "--to", tmp_path / "out")
    assert os.getcwd() == str(tmp_path / "out")


@pytest.mark.parametrize("form,function", [("merged", "write_tokenizer"), ("adapter", "card")])
@pytest.mark.parametrize("name", ["qa", "several"])
def test_an_interrupted_export_leaves_nothing_half_written(place, tmp_path, monkeypatch, form, function, name):
    """Ctrl-C, or a disk that is full, while the last task's folder is filled."""
    real, calls = getattr(export_module, function), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == (2 if name == "several" else 1):
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(export_module, function, dying)
    assert export(place / "runs" / name, "--to", tmp_path / "out", "--as", form) == 130
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_export_of_several_tasks_can_be_repeated(place, tmp_path, monkeypatch):
    real, calls = export_module.card, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "card", dying)
        assert export(place / "runs" / "several", "--to", tmp_path / "out") == 130
    assert export(place / "runs" / "several", "--to", tmp_path / "out") == 0


# ---- bases that are not plain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}])
def test_an_adapter_upon_another_adapter_is_exported_whole_or_not_at_all(place, tmp_path, capsys, lora):
    """lora None: the first goes on as LoRA layers, but its biases are the base's; else it is merged into the base."""
    base, run_of_qa = place / "base", place / "runs" / "qa"
    tensors = adapters_of(load_encoder(str(base))[0], ("query", "value"))
    tensors[key_of("layers.0.attention.query", "base_layer.bias")] = random(32, size=3.0)
    first = write_peft(tmp_path / "first", tensors)
    run = train_run(tmp_path, "upon", base, **QA, lora=lora, model={"pretrained": str(base), "adapter": str(first)})
    capsys.readouterr()
    if export(run, "--to", tmp_path / "out", "--as", "adapter") == 0:
        assert same(logits_of(load(run_of_qa, adapter=tmp_path / "out")), logits_of(load(run)))
    else:
        assert "--as merged" in capsys.readouterr().err


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}])
def test_a_run_that_began_with_an_adapter_is_exported_merged(place, tmp_path, lora):
    base = place / "base"
    tensors = adapters_of(load_encoder(str(base))[0], ("query", "value"))
    tensors[key_of("layers.0.attention.query", "base_layer.bias")] = random(32, size=3.0)
    first = write_peft(tmp_path / "first", tensors)
    run = train_run(tmp_path, "upon", base, **QA, lora=lora, model={"pretrained": str(base), "adapter": str(first)})
    assert export(run, "--to", tmp_path / "out") == 0
    still = [{"name": "one", "epochs": 1, "train": ["head"], "lr": {"head": 1e-12}}]
    again = train_run(tmp_path, "again", tmp_path / "out", **QA, lora=None, phases=still)
    assert same(logits_of(load(run)), logits_of(load(again)))


def test_a_span_model_upon_a_classifiers_checkpoint_has_two_outputs(place, tmp_path):
    base = shutil.copytree(place / "base", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    three = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}
    (base / "config.json").write_text(json.dumps(config | three | {"problem_type": "single_label_classification"}))
    run = train_run(tmp_path, "qa", base, **QA)
    export(run, "--to", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert len(written.get("id2label", {"0": "", "1": ""})) == 2 and "problem_type" not in written
    export(run, "--to", tmp_path / "adapter", "--as", "adapter")
    assert "num_labels=2" in (tmp_path / "adapter" / "README.md").read_text()


def test_the_settings_of_an_old_checkpoint_are_written_in_full(place, tmp_path):
    """The first BERTs name neither their type nor their epsilon."""
    base = shutil.copytree(place / "base", tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    del config["model_type"], config["layer_norm_eps"]
    (base / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}))
    run = train_run(tmp_path, "qa", base, **QA)
    export(run, "--to", tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["model_type"] == "bert" and "torch_dtype" not in written and written["dtype"] == "float32"
    assert load_encoder(str(tmp_path / "out"))[0].config.norm_eps == 1e-12


# ---- the card --------------------------------------------------------------------------------------------------------


def card_of(run: Path, out: Path, form: str = "merged") -> str:
    assert export(run, "--to", out, "--as", form) == 0
    return (out / "README.md").read_text(encoding="utf-8")


def front_matter(card: str) -> dict:
    """The lines of YAML, whose values are JSON or a word. A folder is no base that others could find."""
    first, *lines, last = card.split("\n\n")[0].splitlines()
    assert first == last == "---" and len(lines) in (1, 2)
    pairs = dict(line.split(": ", 1) for line in lines)
    return {key: value if key == "library_name" else json.loads(value) for key, value in pairs.items()}


def fences(card: str) -> list[str]:
    """What stands in the card's code blocks."""
    parts = re.split(r"^```.*$", card, flags=re.MULTILINE)
    assert len(parts) == 5  # one of Python, one of JSON
    return parts[1::2]


@pytest.mark.parametrize("form", ["merged", "adapter"])
def test_the_card_has_base_data_metrics_and_settings(place, tmp_path, form):
    card = card_of(place / "runs" / "mood", tmp_path / "out", form)
    library = {"merged": "transformers", "adapter": "peft"}[form]
    assert front_matter(card) == {"library_name": library}
    assert f"A classification model on {place / 'base'}, trained on generated (synthetic_sentiment)." in card
    assert "The labels: negative, positive\n" in card
    python, settings = fences(card)
    ast.parse(python)
    assert json.loads(settings) == json.loads((place / "runs" / "mood" / "spec.json").read_text()) | {
        "runtime": json.loads(settings)["runtime"]
    }
    metrics = load(place / "runs" / "mood").trained.metrics
    assert re.search(rf"^\| accuracy \| {metrics['accuracy']:.1f} \|", card, flags=re.MULTILINE)
    assert all(f"| {name} |" in card for name, value in metrics.items() if value is not None and name in METRICS)


@pytest.mark.parametrize("name,metric", [("mood", "accuracy"), ("several", "exact")])
def test_the_card_has_the_intervals_of_the_best_evaluation(place, tmp_path, name, metric):
    arguments = ["--task", "qa"] if name == "several" else []
    assert export(place / "runs" / name, "--to", tmp_path / "out", *arguments) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(rf"^\| {metric} \| [\d.]+ \| [\d.]+ to [\d.]+ \|$", card, flags=re.MULTILINE)


HOSTILE = [
    "<!--",
    "# Heading",
    "a|b",
    "```",
    "\x1b[2J",
    "two\nlines",
    "---",
    "\u202eright to left",
    "a\u2028b",
    "x" * 3000,
]


def test_labels_cannot_break_the_card(place, tmp_path):
    name = write_texts(tmp_path, HOSTILE, 40)
    data = {"train": [name], "dev": [name], "max_length": 16, "batch_size": 8}
    names = {"```": "```\n# Owned", "a|b": "---\n"}
    run = train_run(tmp_path, "labels", place / "base", **MOOD | {"data": data | {"label_names": names}})
    card = card_of(run, tmp_path / "out")
    assert all(character.isprintable() for character in card.replace("\n", ""))
    assert len([line for line in card.splitlines() if line.startswith("The labels: ")]) == 1
    assert front_matter(card)["library_name"] == "transformers"
    python, settings = fences(card)
    ast.parse(python)
    assert json.loads(settings)["tasks"]["main"]["data"]["label_names"] == names
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert len(config["label2id"]) == len(HOSTILE) and "```\n# Owned" in config["label2id"]


def test_settings_cannot_write_control_characters_into_the_card(place, tmp_path):
    name = write_texts(tmp_path, ["a", "b"])
    data = {"train": [name], "dev": [name], "max_length": 16, "label_names": {"a": "\x9b2J", "b": "\u202eb"}}
    card = card_of(train_run(tmp_path, "labels", place / "base", **MOOD | {"data": data}), tmp_path / "out")
    assert card.replace("\n", "").isprintable()


def test_names_of_files_cannot_break_the_card(place, tmp_path):
    write_texts(tmp_path, ["a", "b"])
    name = "x\n```\n# Owned\n---.jsonl"
    (tmp_path / "texts.jsonl").rename(tmp_path / name)
    data = {"train": [name], "dev": [name], "max_length": 16, "batch_size": 8}
    card = card_of(train_run(tmp_path, "files", place / "base", **MOOD | {"data": data}), tmp_path / "out")
    assert len(fences(card)) == 2 and "\n# Owned" not in card and len(re.findall(r"^---$", card, re.MULTILINE)) == 2


@pytest.mark.parametrize("name", ['a "FOLDER" base', "x\n```\n# Owned\n", "back\\slash", "em😀ji"])
def test_the_name_of_the_base_cannot_break_a_merged_card(place, tmp_path, name):
    base = shutil.copytree(place / "base", tmp_path / name)
    card = card_of(train_run(tmp_path, "qa", base, **QA), tmp_path / "out")
    assert "base_model" not in front_matter(card) and len(fences(card)) == 2


@pytest.mark.parametrize("name", ['a "quoted" base', "my FOLDER", "x\n```\n# Owned\n", "back\\nslash"])
def test_the_name_of_the_base_cannot_break_an_adapters_card(place, tmp_path, name):
    base = shutil.copytree(place / "base", tmp_path / name)
    card = card_of(train_run(tmp_path, "qa", base, **QA), tmp_path / "out", "adapter")
    python, _ = fences(card)
    assert str(base) in [node.value for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Constant)]


def test_the_base_in_the_yaml_is_not_in_json_escapes(place, tmp_path):
    trained = load(place / "runs" / "qa").trained
    trained = dataclasses.replace(trained, pretrained=dataclasses.replace(trained.pretrained, name="org/em😀ji"))
    assert front_matter(card_of_base := card(trained, "load()"))["base_model"] == "org/em😀ji"
    assert "\\ud83d" not in card_of_base.split("---")[1]


def test_a_run_without_records_is_exported_without_intervals(place, tmp_path):
    shutil.copytree(place / "runs" / "mood", tmp_path / "mood")
    (tmp_path / "mood" / "metrics.jsonl").unlink()
    assert "| accuracy |" in card_of(tmp_path / "mood", tmp_path / "out")


def test_the_limits_of_the_first_task_are_not_those_of_the_second(place, tmp_path):
    """Each folder's card is of its own task."""
    assert export(place / "runs" / "several", "--to", tmp_path / "out") == 0
    cards = {task: (tmp_path / "out" / task / "README.md").read_text() for task in ("qa", "mood")}
    assert "A span_qa model" in cards["qa"] and "The labels" not in cards["qa"] and "| accuracy |" not in cards["qa"]
    assert "A classification model" in cards["mood"] and "| exact |" not in cards["mood"]
    assert FEW["train_limit"] == json.loads(fences(cards["qa"])[1])["tasks"]["qa"]["data"]["train_limit"]


# ---- others' labels and revisions ------------------------------------------------------------------------------------


def with_labels(base: Path, folder: Path, labels: list[str]) -> Path:
    """A copy of a checkpoint whose config.json names labels, as one that was fine-tuned for them does."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    (folder / "config.json").write_text(json.dumps(config | names))
    return folder


def test_a_merged_export_has_its_own_labels_not_those_of_its_base(place, tmp_path):
    base = with_labels(place / "base", tmp_path / "base", ["positive", "negative", "neutral"])
    assert export(train_run(tmp_path, "mood", base, **MOOD), "--to", tmp_path / "out") == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "negative", "1": "positive"}


def test_an_adapter_upon_a_base_with_the_labels_in_another_order_does_not_swap_them(place, tmp_path):
    base = with_labels(place / "base", tmp_path / "base", ["positive", "negative"])
    card = card_of(train_run(tmp_path, "mood", base, **MOOD), tmp_path / "out", "adapter")
    python, _ = fences(card)
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    given = {keyword.arg: ast.literal_eval(keyword.value) for call in calls for keyword in call.keywords}
    assert given.get("id2label") == {0: "negative", 1: "positive"}


def test_an_adapters_head_is_in_the_order_of_its_base_where_that_has_these_labels(place, tmp_path):
    """As PEFT trains one: the model keeps the names that its config.json has."""
    base = with_labels(place / "base", tmp_path / "base", ["positive", "negative"])
    head = {"base_model.model.classifier.weight": random(2, 32), "base_model.model.classifier.bias": random(2)}
    pooler = {f"base_model.model.bert.pooler.dense.{k}": random(*s) for k, s in (("weight", (32, 32)), ("bias", (32,)))}
    write_peft(tmp_path / "a", adapters_of(load_encoder(str(base))[0], ("query",)) | head | pooler)
    run = load(train_run(tmp_path, "mood", base, **MOOD), adapter=tmp_path / "a")
    assert run.trained.outputs.labels == ("negative", "positive")
    assert torch.equal(run.trained.model.head_of("main").output.bias, random(2).flip(0))


@pytest.mark.parametrize("labels", [["positive", "negative"], ["cat", "dog"], ["LABEL_0", "LABEL_1"], ["a", "b", "c"]])
def test_an_adapter_of_our_own_says_itself_which_labels_it_has(place, tmp_path, labels):
    """Whatever the names are that its base has."""
    base = with_labels(place / "base", tmp_path / "base", labels)
    run = train_run(tmp_path, "mood", base, **MOOD)
    assert export(run, "--to", tmp_path / "out", "--as", "adapter") == 0
    other = train_run(tmp_path, "other", base, **MOOD, seed=3)
    assert same(logits_of(load(other, adapter=tmp_path / "out")), logits_of(load(run)))


def test_an_adapters_head_for_other_labels_is_refused(place, tmp_path):
    for number, labels in enumerate((["cat", "dog"], ["LABEL_0", "LABEL_1"])):
        base = with_labels(place / "base", tmp_path / f"base{number}", labels)
        head = {f"base_model.model.classifier.{k}": random(*s) for k, s in (("weight", (2, 32)), ("bias", (2,)))}
        pooler = {
            f"base_model.model.bert.pooler.dense.{k}": random(32, *s) for k, s in (("weight", (32,)), ("bias", ()))
        }
        write_peft(tmp_path / "a", adapters_of(load_encoder(str(base))[0], ("query",)) | head | pooler)
        run = train_run(tmp_path, f"mood{number}", base, **MOOD)
        if number == 0:
            with pytest.raises(InputError, match="does not fit the run's in names, shapes or labels"):
                load(run, adapter=tmp_path / "a")
        else:  # those are transformers' names for labels that have none
            assert torch.equal(load(run, adapter=tmp_path / "a").trained.model.head_of("main").output.bias, random(2))


@pytest.mark.parametrize("told", ["7", "[", '{"a": 1', "null"])
def test_labels_that_are_none_in_an_adapters_file_are_refused(place, tmp_path, told):
    write_peft(tmp_path, adapters_of(load_encoder(str(place / "base"))[0], ("query",)))
    save_file(load_file(tmp_path / WEIGHTS), tmp_path / WEIGHTS, {"labels": told})
    with pytest.raises(InputError, match=rf"{WEIGHTS}: its labels, .* are no list"):
        load(place / "runs" / "mood", adapter=tmp_path)


def test_the_card_of_an_adapter_upon_a_revision_loads_that_revision(place, tmp_path):
    trained = load(place / "runs" / "mood").trained
    trained = dataclasses.replace(trained, pretrained=dataclasses.replace(trained.pretrained, name="org/base@v2"))
    fill_adapter(trained, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["revision"] == "v2"
    assert 'revision="v2"' in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    "lora",
    [
        {"rank": 4, "alpha": 8, "rslora": True, "ranks": {"layers.1.*query": 2}},
        {"rank": 4, "alpha": 3, "dora": True, "targets": "all-linear", "dropout": 0.1},
    ],
)
def test_every_variant_of_lora_comes_back_from_its_export(place, tmp_path, lora):
    run = train_run(tmp_path, "run", place / "base", **MOOD, lora=lora)
    assert export(run, "--to", tmp_path / "adapter", "--as", "adapter") == 0
    assert same(logits_of(load(place / "runs" / "mood", adapter=tmp_path / "adapter")), logits_of(load(run)))
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["lora_dropout"] == lora.get("dropout", 0.0) and config["use_dora"] is ("dora" in lora)
