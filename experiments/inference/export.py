"""Export: a trained run as a folder that transformers or peft loads.

    python eval.py export runs/squad_lora --to out                  one model, adapters merged into its weights
    python eval.py export runs/squad_lora --to out --as adapter     adapters and head, in PEFT's format

Both are read by AutoModelForQuestionAnswering or AutoModelForSequenceClassification, with the same logits
(tests/parity/exports.py).
"""

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from data.files import InputError, one_line, read_json
from data.labels import Outputs
from data.writing import plain_folder, require_plain, write_json, write_text, write_whole
from experiments.config.metrics import METRICS, RANKING, number
from experiments.inference.trained import Trained, load_run
from experiments.records import FILE, json_safe, look_up, read_records, run_folder
from experiments.training.phases import parts_of
from lora import adapter
from lora.inject import lora_layers, to_plain
from model.families import FAMILIES, published_parameter
from model.hub import published_id
from model.published_heads import published_paths, to_published
from model.tensors import write_tensors

# The kind of task -> the class of transformers, its task type in PEFT, and what its config.json calls the problem.
CLASSES = {
    "span_qa": ("QuestionAnswering", "QUESTION_ANS", None),
    "classification": ("SequenceClassification", "SEQ_CLS", "single_label_classification"),
    "multi_label": ("SequenceClassification", "SEQ_CLS", "multi_label_classification"),
    "regression": ("SequenceClassification", "SEQ_CLS", "regression"),
}
# What a base's config.json says of a head of its own, or of how its tensors were written.
OF_BASE = ("id2label", "label2id", "num_labels", "problem_type", "torch_dtype")


def export(run: Path, target: Path, form: str, task: str | None, download: bool) -> list[Path]:
    """Write a run's best model to the folder `target`, or, of a run with several tasks, to a folder for each in it.
    form: "merged" or "adapter". Returns the folders written. Raises InputError for a model that has no class there, and
    where there is something at `target` already."""
    require_free(run, target)
    first = load_run(run, "cpu", task or names_of(run)[0], download)
    names = [task] if task else list(first.spec.tasks)
    models = [first, *(load_run(run, "cpu", name, download) for name in names[1:])]
    fill = {"merged": fill_merged, "adapter": fill_adapter}[form]
    for trained in models:
        check(trained, form)

    def fill_all(folder: Path) -> None:
        for trained in models:
            write_whole(folder / trained.name, functools.partial(fill, trained))

    plain_folder(target.parent)
    write_whole(target, fill_all if len(models) > 1 else functools.partial(fill, first))
    return [target / trained.name for trained in models] if len(models) > 1 else [target]


def require_free(run: Path, target: Path) -> None:
    """Raise InputError where something is at `target` already, or where a folder there would be in somebody's way."""
    if target.exists() or target.is_symlink():
        require_plain(target, "folder")
        if any(target.iterdir()):
            raise InputError(f"--to {target}: is there already, and not empty; give a new folder")
        if target.resolve() == Path.cwd():  # it is replaced, and the shell would stand in one that is gone
            raise InputError(f"--to {target}: is the working folder; give a new folder, or go elsewhere first")
    for parent in target.resolve().parents:
        if parent == run.resolve() or (parent / FILE).exists():
            raise InputError(f"--to {target}: is inside the run folder {parent}; give a folder elsewhere")


def names_of(run: Path) -> list[str]:
    """The names of a run's tasks."""
    tasks = read_json(run_folder(run, "spec.json") / "spec.json").get("tasks")
    return list(tasks) if isinstance(tasks, dict) and tasks else ["main"]


def changed_weights(trained: Trained) -> list[str]:
    """The parts of the encoder whose own weights differ from the pretrained ones, adapters apart."""
    parts = parts_of(trained.model)
    names = sorted({*trained.trained, *(f"encoder.{name}" for name in trained.model.encoder.changed)})
    return list(dict.fromkeys(parts[name] for name in names if parts[name] not in ("head", "lora")))


def check(trained: Trained, form: str) -> None:
    """Raise InputError for a model that cannot be exported in this form."""
    head, family = trained.model.head_of(trained.name), trained.pretrained.family
    if trained.task.task == RANKING:
        raise InputError(f"{trained.folder}: transformers has no class for ranking by vectors")
    if published_paths(head, family) is None:
        raise InputError(
            f"{trained.folder}: transformers has no class that pools a text as pooling={trained.task.pooling} does; "
            "train with pooling=cls_pooler to export"
        )
    if form == "merged":
        return
    if not any(lora_layers(trained.model.encoder)):
        raise InputError(f"{trained.folder}: was trained without adapters; export it with --as merged")
    changed = changed_weights(trained)
    if changed:
        raise InputError(
            f"{trained.folder}: the encoder's own weights changed as well ({', '.join(changed)}), and adapters for the "
            "pretrained ones cannot hold that; export it with --as merged"
        )


# ---- the two forms ---------------------------------------------------------------------------------------------------


def published_names(trained: Trained) -> Callable[[str], str]:
    """Our module path below the encoder -> the name in a model of transformers that has a head."""
    family = trained.pretrained.family
    return lambda path: f"{FAMILIES[family].prefix}.{trained.pretrained.hugging_face_name(path)}"


def fill_merged(trained: Trained, folder: Path) -> None:
    """Write a model of its own: weights with the adapters merged, head, config.json, tokenizer, card."""
    pretrained, family = trained.pretrained, FAMILIES[trained.pretrained.family]
    encoder = to_plain(copy.deepcopy(trained.model.encoder)).named_parameters()
    tensors: dict[str, Tensor] = {
        f"{family.prefix}.{published_parameter(name, pretrained.family)}": parameter for name, parameter in encoder
    }
    tensors |= to_published(trained.model.head_of(trained.name), pretrained.family, trained.outputs)
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    class_name, _, problem = CLASSES[trained.task.task]
    config = {key: value for key, value in read_json(pretrained.folder / "config.json").items() if key not in OF_BASE}
    if "layer_norm_eps" in family.keys:  # the first BERTs leave it out, but only with model_type
        config["layer_norm_eps"] = trained.model.encoder.config.norm_eps
    config |= {
        "model_type": pretrained.family,
        "architectures": [f"{family.class_name}For{class_name}"],
        "dtype": "float32",
        **label_names(trained.task.task, trained.outputs),
        **({"problem_type": problem} if problem else {}),
    }
    write_json(folder / "config.json", config)
    write_tokenizer(trained, folder)
    write_text(folder / "README.md", card(trained, f'AutoModelFor{class_name}.from_pretrained(".")'))


def fill_adapter(trained: Trained, folder: Path) -> None:
    """Write adapters and head in PEFT's format."""
    family, head = trained.pretrained.family, trained.model.head_of(trained.name)
    class_name, task_type, _ = CLASSES[trained.task.task]
    base, revision = published_id(trained.pretrained.name)
    paths = published_paths(head, family) or {}
    saved = sorted({path.removeprefix(f"{FAMILIES[family].prefix}.").split(".")[0] for path in paths.values()})
    names = published_names(trained)
    tensors = adapter.adapter_tensors(trained.model.encoder, names)
    head_tensors = to_published(head, family, trained.outputs)
    tensors |= {f"base_model.model.{name}": tensor for name, tensor in head_tensors.items()}
    metadata = {"format": "pt", adapter.LABELS: json.dumps(trained.outputs.labels)}
    write_tensors(folder / adapter.WEIGHTS, tensors, metadata)
    config = adapter.adapter_config(trained.model.encoder, names, base)
    config |= {"task_type": task_type, "modules_to_save": saved, "revision": revision}
    write_json(folder / adapter.CONFIG, config)
    write_tokenizer(trained, folder)
    call = f"AutoModelFor{class_name}.from_pretrained({base_arguments(trained, base, revision)})"
    write_text(folder / "README.md", card(trained, f'PeftModel.from_pretrained({call}, ".")'))


def base_arguments(trained: Trained, base: str, revision: str | None) -> str:
    """The Python that loads the base of an adapter: by the name and revision, with as many outputs as the head has, and
    their labels, because the base's own would come out in their places."""
    labels = list(enumerate(map(quoted, trained.outputs.labels)))
    numbered = ", ".join(f"{number}: {label}" for number, label in labels)
    back = ", ".join(f"{label}: {number}" for number, label in labels)
    count = 2 if trained.task.task == "span_qa" else 1
    at = f", revision={quoted(revision)}" if revision else ""
    named = f", id2label={{{numbered}}}, label2id={{{back}}}" if labels else f", num_labels={count}"
    return quoted(base) + at + named


def quoted(value: Any, indent: int | None = None) -> str:
    """A value as JSON, of which a text is one of Python and YAML too. Only what a terminal might obey is escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(c if c == "\n" or c.isprintable() else json.dumps(c)[1:-1] for c in text)


def label_names(kind: str, outputs: Outputs) -> dict[str, Any]:
    """What config.json says of the outputs: the labels by number, or one number."""
    if kind == "span_qa":
        return {}
    labels = outputs.labels or ("LABEL_0",)
    numbers = {label: i for i, label in enumerate(labels)}
    return {"id2label": {str(i): label for label, i in numbers.items()}, "label2id": numbers}


def write_tokenizer(trained: Trained, folder: Path) -> None:
    """Write tokenizer.json, and a tokenizer_config.json that names its class and special tokens."""
    pretrained, family = trained.pretrained, FAMILIES[trained.pretrained.family]
    tokens = family.tokens
    write_text(folder / "tokenizer.json", trained.tokenizer.to_str(pretty=True))
    path = pretrained.folder / "tokenizer_config.json"
    config = (read_json(path) if path.exists() else {}) | {
        "tokenizer_class": f"{family.class_name}Tokenizer",
        "model_max_length": trained.model.encoder.config.max_positions,
        "cls_token": tokens.cls,
        "sep_token": tokens.sep,
        "pad_token": tokens.pad,
        "mask_token": tokens.mask,
        "unk_token": tokens.unk,
    }
    write_json(folder / "tokenizer_config.json", config)


# ---- the card --------------------------------------------------------------------------------------------------------


def metric_lines(trained: Trained) -> list[str]:
    """Rows of a Markdown table: each metric at the best evaluation, with its interval."""
    path = trained.folder / FILE
    evaluations = read_records(trained.folder).of_kind("eval") if path.exists() else []
    best = [r for r in evaluations if r["step"] == trained.step and r.get("split") == "dev"]
    intervals = look_up(best[-1], "intervals") or {} if best else {}
    prefix, rows = trained.spec.prefix(trained.name), []
    for name, value in trained.metrics.items():
        if value is not None and name in METRICS:
            interval = intervals.get(prefix + name)
            span = " to ".join(number(end, name) for end in interval) if interval else ""
            rows.append(f"| {one_line(name)} | {number(value, name)} | {span} |")
    return rows


def card(trained: Trained, call: str) -> str:
    """The README.md of an exported model. call: the Python that loads it."""
    base, _ = published_id(trained.pretrained.name)
    data = trained.task.data
    files = ", ".join((*data.train, *data.dev)) or f"generated ({data.source})"
    lines = [
        "---",
        *([] if Path(base).is_absolute() else [f"base_model: {quoted(base)}"]),
        f"library_name: {'peft' if call.startswith('Peft') else 'transformers'}",
        "---",
        "",
        f"# {one_line(trained.spec.name)}",
        "",
        f"A {trained.task.task} model on {one_line(base)}, trained on {one_line(files)}.",
        "",
        "```python",
        call,
        "```",
        "",
        "| metric, on the development set | value | 95 % interval |",
        "|---|---|---|",
        *metric_lines(trained),
        "",
        "It is the best of the run's evaluations, chosen on the same development set, and of one seed.",
        "",
        *(["The labels: " + ", ".join(map(one_line, trained.outputs.labels)), ""] if trained.outputs.labels else []),
        "## Settings",
        "",
        "```json",
        quoted(json_safe(trained.spec), indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)
