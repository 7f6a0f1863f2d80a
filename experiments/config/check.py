"""Reads an experiment file into a checked spec: overrides, short forms, combinations that make no sense."""

import contextlib
import dataclasses
import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from data.files import InputError, read_json, shown
from experiments.config.metrics import DEFAULTS, NUMBER, deciding
from experiments.config.parse import build, override, settings_called
from experiments.config.spec import (
    LAYER_RANGE,
    ONLY,
    ClassificationTask,
    PhaseSpec,
    RetrievalData,
    SpanQAData,
    SpanQATask,
    Spec,
    TaskSpec,
    TextData,
)

# A slip of the keyboard beyond these would only seem to hang.
MOST_PHASES, MOST_EPOCHS, MOST_GENERATED = 100, 1000, 200_000

# ---- short forms -----------------------------------------------------------------------------------------------------

TOP = ("task", "data", "loss", "decoding", "pooling", "temperature")  # of a single task, may stand at the file's top


def write_out_tasks(raw: dict) -> None:
    """Move the settings of a single task to where several tasks have theirs: {"task": "span_qa", "data": {}} becomes
    {"tasks": {"main": {"task": "span_qa", "data": {}}}}."""
    own = {key: raw.pop(key) for key in TOP if key in raw}
    if "tasks" not in raw:
        raw["tasks"] = {ONLY: own}
    elif own:
        raise InputError(f"{next(iter(own))}: with tasks, each task has its own; move it there")


def write_out_key(raw: dict, key: str) -> str:
    """The full name of a setting: data.text -> tasks.main.data.text, where the experiment has that one task."""
    single = isinstance(raw["tasks"], dict) and list(raw["tasks"]) == [ONLY]
    return f"tasks.{ONLY}.{key}" if single and key.partition("=")[0].split(".")[0] in TOP else key


def expand_gradual(phases: tuple[PhaseSpec, ...]) -> tuple[PhaseSpec, ...]:
    """Write gradual unfreezing out. {"name": "thaw", "epochs": 2, "train": ["head"], "gradual": "layers.5-4"} becomes
    thaw-layers.5 (1 epoch, head and layers.5) and thaw-layers.4 (1 epoch, head, layers.5 and layers.4).
    A rate listed for "layers" then holds for each of the added layers."""
    expanded = []
    for i, phase in enumerate(phases):
        if phase.gradual is None:
            expanded.append(phase)
            continue
        found = LAYER_RANGE.fullmatch(phase.gradual)
        if not found:
            raise InputError(f'phases.{i}.gradual: {shown(phase.gradual)} is not of the form "layers.5-2"')
        if "layers" in phase.train or "all" in phase.train:
            raise InputError(f"phases.{i}.gradual: would add layers that the phase trains from its beginning")
        first, last = int(found[1]), int(found[2] or found[1])
        step = -1 if first >= last else 1
        layers = [f"layers.{layer}" for layer in range(first, last + step, step)]
        for count, newest in enumerate(layers, 1):
            lr = {key: rate for key, rate in phase.lr.items() if key != "layers"}
            lr |= {layer: phase.lr["layers"] for layer in layers[:count] if "layers" in phase.lr}
            name, epochs, train = f"{phase.name}-{newest}", phase.epochs / len(layers), (*phase.train, *layers[:count])
            expanded.append(dataclasses.replace(phase, name=name, epochs=epochs, train=train, lr=lr, gradual=None))
    return tuple(expanded)


# ---- what makes no sense together ------------------------------------------------------------------------------------


def check(spec: Spec) -> None:
    """Raise InputError for settings that are fine alone and impossible together."""
    if not re.fullmatch(r"[\w.+-]+", spec.name) or spec.name.startswith(".") or len(spec.name.encode()) > 100:
        raise InputError(
            f"name: {shown(spec.name)} cannot be a run folder's name; "
            "choose one of up to 100 bytes, of letters, digits, . _ + -, with --set name=..."
        )
    check_phases(spec)
    for name, task in spec.tasks.items():
        if not re.fullmatch(r"[A-Za-z]\w{0,30}", name):
            raise InputError(f"tasks: {shown(name)} cannot be a task's name; letters, digits and _ can")
        if task.task == NUMBER and len(spec.tasks) > 1:
            raise InputError(f"tasks.{name}: a regression cannot share a mean with metrics in percent")
        check_task(task, f"tasks.{name}.")
        if spec.model.trunk_mb is not None and task.data.mask_tokens:
            raise InputError("model.trunk_mb: with data.mask_tokens, each step sees other tokens; set one of them")
    allowed = [spec.prefix(name) + metric for name, task in spec.tasks.items() for metric in deciding(task.task)]
    allowed += ["mean"] if len(spec.tasks) > 1 else []
    if spec.eval.metric not in allowed:
        raise InputError(f"eval.metric: {shown(spec.eval.metric)} is not one of {', '.join(allowed)}")
    pretrained = spec.lora is not None and (spec.lora.dora or spec.lora.init == "pissa")
    if spec.optim.l1 and pretrained and "lora" in spec.optim.l1_on:
        told = "'lora' would shrink pretrained weights: lora.dora and lora.init pissa keep such in the adapters"
        raise InputError(f"optim.l1_on: {told}")
    if spec.eval.every_steps is not None and spec.eval.every_epochs is not None:
        raise InputError("eval.every_steps, eval.every_epochs: set one of them, not both")


def check_phases(spec: Spec) -> None:
    if not spec.phases:
        raise InputError("phases: at least one is needed")
    if sum(phase.epochs for phase in spec.phases) > MOST_EPOCHS:
        raise InputError(f"phases: more than {MOST_EPOCHS:,} epochs in all")
    names = [phase.name for phase in spec.phases]
    for i, phase in enumerate(spec.phases):
        if names.count(phase.name) > 1:
            raise InputError(f"phases.{i}.name: {shown(phase.name)} is there twice")
        if not phase.train:
            raise InputError(f"phases.{i}.train: nothing would train")
        for entry in phase.train:
            check_entry(entry, f"phases.{i}.train")
        none = spec.lora is None and spec.model.adapter is None and spec.model.start_from is None
        if "lora" in phase.train and none:
            raise InputError(f"phases.{i}.train: 'lora' cannot train, because the experiment has no lora group")
        for key in phase.lr:
            if key not in phase.train:
                raise InputError(f"phases.{i}.lr.{key}: not in this phase's train list ({', '.join(phase.train)})")


PARTS = ("head", "lora", "embeddings", "layers", "all")
MEANT = {"adapter": "lora", "adapters": "lora", "classifier": "head", "encoder": "layers"}  # by what others call parts


def check_entry(entry: str, where: str) -> None:
    """Raise InputError, before minutes of tokenizing, for an entry of a train list that is no part of any model.
    (training/phases.py knows which layers and names this one has.)"""
    if entry in PARTS or LAYER_RANGE.fullmatch(entry) or re.search(r"[*?[]|^(encoder|head)\.", entry):
        return
    layer = re.sub(r"\D*", "layers.", entry[:20], count=1)  # layer.3, layer3 -> layers.3
    near = [MEANT[entry]] if entry in MEANT else difflib.get_close_matches(entry, (layer, *PARTS), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"write {', '.join(PARTS)}, layers.4, layers.4-5, or a glob"
    raise InputError(f"{where}: {shown(entry)} is no part of the model; {hint}")


def check_task(task: TaskSpec, where: str) -> None:
    """One task's data and loss. where: "tasks.NAME.", for the messages."""
    check_files(task.data, where)
    if isinstance(task, SpanQATask):
        check_windows(task.data, where)
    elif isinstance(task.data, TextData):
        check_columns(task.data, where)
    if isinstance(task, ClassificationTask):
        loss = task.loss
        if loss.class_weights == "balanced" and loss.label_weights:
            raise InputError(f"{where}loss: class_weights balanced, or label_weights by hand, not both")
        if loss.class_weight_cap is not None and loss.class_weights != "balanced":
            raise InputError(f"{where}loss.class_weight_cap: caps balanced class_weights, which are not set")


def check_files(data: SpanQAData | TextData | RetrievalData, where: str) -> None:
    """Check the source of a task's examples and of its development set."""
    splits = [key for key in ("dev_fraction", "folds") if getattr(data, key, None) is not None]  # instead of dev
    if data.source != "files":
        used = [key for key in ("train", "dev", *splits) if getattr(data, key)]
        if used:
            raise InputError(f"{where}data.{used[0]}: not used with data.source {data.source!r}; remove it")
    elif not data.train or not (data.dev or splits):
        told = "name at least one file each, or set data.dev_fraction, or set data.source"
        raise InputError(f"{where}data.train, data.dev: {told}")
    elif len(splits) + bool(data.dev) > 1:
        raise InputError(f"{where}data: dev, dev_fraction and folds exclude each other")
    for key, limit in (("train_limit", data.train_limit), ("dev_limit", data.dev_limit)):
        if data.source != "files" and limit is not None and limit > MOST_GENERATED:
            raise InputError(f"{where}data.{key}: {limit:,}; at most {MOST_GENERATED:,} examples are generated")
    for key in ("train", "dev"):
        files = getattr(data, key)
        if len(set(files)) < len(files):
            raise InputError(f"{where}data.{key}: a file is listed twice")
        for name in files:
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(
                    f"{where}data.{key}: {name!r} is not inside the data root; point --data-root at its folder"
                )


def check_columns(data: TextData, where: str) -> None:
    columns = [column for column in (data.text, data.pair, data.label) if column is not None]
    if len(set(columns)) < len(columns):
        raise InputError(f"{where}data.text, pair, label: name one column twice")
    if not getattr(data, "label_separator", "|"):
        raise InputError(f"{where}data.label_separator: is empty")
    named = data.pair or getattr(data, "label_names", {}) or not data.header or data.text != "text"
    if data.source != "files" and named:
        raise InputError(f"{where}data: generated texts have no columns; remove text, pair, header and label_names")
    if data.fold is not None and (data.folds is None or data.fold >= data.folds):
        raise InputError(f"{where}data.fold: {data.fold}, with data.folds {shown(data.folds)}; it counts from 0")


def check_windows(data: SpanQAData, where: str) -> None:
    room = data.max_length - data.max_query_length - 3  # for context, beside the longest question and [CLS] [SEP] [SEP]
    if room < 1:
        raise InputError(
            f"{where}data.max_query_length: {data.max_query_length} fills a window of {data.max_length} tokens"
        )
    if data.doc_stride > room:
        raise InputError(
            f"{where}data.doc_stride: {data.doc_stride} could skip text: a window of {data.max_length} tokens holds "
            f"{room} of context beside a question of {data.max_query_length}"
        )


def open_folds(spec: Spec) -> dict[str, int]:
    """{setting: number of folds} of each task with folds and none chosen."""
    data = {name: task.data for name, task in spec.tasks.items() if isinstance(task.data, TextData)}
    return {f"tasks.{name}.data.fold": d.folds for name, d in data.items() if d.folds is not None and d.fold is None}


def check_sweep(spec: Spec, sweeping: bool) -> None:
    """A sweep lists values; one run has none of them, and only one fold."""
    for key, values in spec.sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"sweep.{key}: expected a list of values, found {shown(values)}")
        if key in ("name", "data.folds") or key.startswith(("sweep", "variant")):
            raise InputError(f"sweep.{key}: cannot be swept")
    for name, settings in spec.variants.items():
        if not re.fullmatch(r"[\w.+-]{1,40}", name) or not settings:
            raise InputError(f"variants.{name}: expected a short name and settings, found {shown(settings)}")
        for key in settings:
            if key.split(".")[0] in ("name", "variant", "variants", "sweep"):
                raise InputError(f"variants.{name}.{key}: cannot differ between variants")
    for key in ("sweep", "variants"):
        if getattr(spec, key) and not sweeping:
            raise InputError(
                f"{key}: is a set of runs; train them with --sweep, or one of them with --set {key}={{}} and more"
            )
    for key, folds in open_folds(spec).items():
        if not sweeping:
            raise InputError(f"{key}: which of the {folds} folds? Or train them all: --sweep")


# ---- the whole -------------------------------------------------------------------------------------------------------


def resolve(raw: dict, assignments: list[str], sweeping: bool) -> Spec:
    write_out_tasks(raw)
    for assignment in assignments:
        override(raw, write_out_key(raw, assignment))
    spec = build(Spec, raw)
    if len(spec.phases) > MOST_PHASES:
        raise InputError(f"phases: {len(spec.phases):,} of them; at most {MOST_PHASES}")
    if not spec.tasks:
        raise InputError("tasks: at least one is needed")
    first = next(iter(spec.tasks.values()))
    metric = spec.eval.metric or ("mean" if len(spec.tasks) > 1 else DEFAULTS.get(first.task, "loss"))
    phases, evaluation = expand_gradual(spec.phases), dataclasses.replace(spec.eval, metric=metric)
    spec = dataclasses.replace(spec, phases=phases, eval=evaluation)
    check(spec)
    check_sweep(spec, sweeping)
    return spec


def read_spec(path: Path, assignments: list[str] | None = None, sweeping: bool = False) -> Spec:
    """An experiment file with `--set` assignments applied -> the resolved spec. sweeping: it may be a set of runs.
    Raises InputError naming the file and the setting as it stands there."""
    if path.is_dir() or not path.exists():
        own = sorted(Path(__file__).parents[1].glob("*.json"))
        known = {file.stem: file for file in (*own, *path.glob("*.json"), *path.parent.glob("*.json"))}
        near = difflib.get_close_matches(path.stem, known, n=1)
        listed = f"those of the project are in experiments/: {', '.join(file.name for file in own)}"
        hint = f"did you mean {os.path.relpath(known[near[0]])}?" if near else listed
        fault = "is a folder; a file is needed" if path.is_dir() else "no such experiment"
        raise InputError(f"{path}: {fault}; {hint}")
    raw = read_json(path)
    raw.setdefault("name", path.stem)
    with naming(path):
        return resolve(raw, assignments or [], sweeping)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add to an InputError which experiment file it is about. It names settings as they stand there."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {str(error).replace(f'tasks.{ONLY}.', '')}") from None


def as_options(words: list[str]) -> str:
    """How to write words that are no options of train.py: "" where nobody knows.

    ["exp/a.json"] -> --exp exp/a.json; ["optim.lr=1e-3"], ["--lr", "1e-3"], ["--lr=1e-3"] -> --set optim.lr=1e-3
    """
    for word in words:
        if word.endswith(".json") and "=" not in word:
            return f"--exp {word}"
    key, equals, value = words[0].lstrip("-").partition("=")
    key = key.replace("-", "_")
    names = [key] if "." in key else settings_called(Spec, key)
    value = value if equals else " ".join(words[1:2]) or "..."
    return f"--set {names[0]}={value}" if names else ""
