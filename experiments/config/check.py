"""From an experiment file to a checked spec: overrides, short forms written out, combinations that make no sense."""

import dataclasses
import os
import re
from pathlib import Path

from data.files import InputError, read_json, shown
from experiments.config.parse import build, override
from experiments.config.spec import LAYER_RANGE, METRICS, DataSpec, LossSpec, ModelSpec, PhaseSpec, Spec, TaskSpec

# A slip of the keyboard beyond these would only seem to hang.
MOST_PHASES, MOST_EPOCHS, MOST_GENERATED = 100, 1000, 200_000


def expand_gradual(phases: tuple[PhaseSpec, ...]) -> tuple[PhaseSpec, ...]:
    """Write the short form out. {"name": "thaw", "epochs": 2, "train": ["head"], "gradual": "layers.5-4"} becomes
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
        order = range(first, last - 1, -1) if first >= last else range(first, last + 1)
        rate = phase.lr.get("layers")
        others = {key: value for key, value in phase.lr.items() if key != "layers"}
        for count in range(1, len(order) + 1):
            added = [f"layers.{layer}" for layer in order[:count]]
            expanded.append(
                dataclasses.replace(
                    phase,
                    name=f"{phase.name}-{added[-1]}",
                    epochs=phase.epochs / len(order),
                    train=(*phase.train, *added),
                    lr=others | ({name: rate for name in added} if rate is not None else {}),
                    gradual=None,
                )
            )
    return tuple(expanded)


def check(spec: Spec) -> None:
    """Raise InputError for settings that are fine alone and impossible together."""
    if not re.fullmatch(r"[\w.+-]+", spec.name) or spec.name.startswith(".") or len(spec.name.encode()) > 100:
        raise InputError(
            f"name: {shown(spec.name)} cannot be a run folder's name; "
            "choose one of up to 100 bytes, of letters, digits, . _ + -, with --set name=..."
        )
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
        if "lora" in phase.train and spec.lora is None:
            raise InputError(f"phases.{i}.train: 'lora' cannot train, because the experiment has no lora group")
        for key in phase.lr:
            if key not in phase.train:
                raise InputError(f"phases.{i}.lr.{key}: not in this phase's train list ({', '.join(phase.train)})")
    check_tasks(spec)
    for name, task in spec.task_specs().items():
        check_task(task, f"tasks.{name}." if spec.tasks else "")
    if spec.eval.every_steps is not None and spec.eval.every_epochs is not None:
        raise InputError("eval.every_steps, eval.every_epochs: set one of them, not both")


# What only span QA reads, and what only the other tasks do.
SPAN_QA_ONLY = ("bad_answers", "doc_stride", "max_query_length")
TEXTS_ONLY = ("text", "pair", "label", "header", "label_separator", "label_names", "dev_fraction", "folds", "fold")
SOURCES = {"synthetic_qa": "span_qa", "synthetic_sentiment": "classification", "synthetic_rating": "regression"}


def check_task(task: TaskSpec, where: str) -> None:
    """One task's data and loss. where: "tasks.NAME." or nothing, for the messages."""
    data, qa = task.data, task.task == "span_qa"
    fields = {field.name: field for field in dataclasses.fields(DataSpec)}
    for key in TEXTS_ONLY if qa else SPAN_QA_ONLY:
        default = fields[key].default
        if getattr(data, key) != (fields[key].default_factory() if default is dataclasses.MISSING else default):
            raise InputError(f"{where}data.{key}: {task.task} has no use for it; remove it")
    columns = [column for column in (data.text, data.pair, data.label) if column is not None]
    if len(set(columns)) < len(columns):
        raise InputError(f"{where}data.text, pair, label: name one column twice")
    if not data.label_separator:
        raise InputError(f"{where}data.label_separator: is empty")
    if qa and task.pooling != "mean":
        raise InputError(f"{where or 'model.'}pooling: span_qa has no use for it; remove it")
    if task.task == "regression" and data.label_names:
        raise InputError(f"{where}data.label_names: regression has no use for it; remove it")
    if data.source != "files" and (data.pair or data.label_names or not data.header or data.text != "text"):
        raise InputError(f"{where}data: generated texts have no columns; remove text, pair, header and label_names")
    check_sources(data, task.task, where)
    if qa:
        check_windows(data, where)
    loss = task.loss
    if task.task != "classification" and (loss.class_weights != "none" or loss.label_weights):
        raise InputError(f"{where}loss: weights of classes are for classification, not for {task.task}")
    if loss.class_weights == "balanced" and loss.label_weights:
        raise InputError(f"{where}loss: class_weights balanced, or label_weights by hand, not both")
    if loss.class_weight_cap is not None and loss.class_weights != "balanced":
        raise InputError(f"{where}loss.class_weight_cap: caps the weights of class_weights balanced, which is not set")
    if task.task == "regression" and loss.label_smoothing:
        raise InputError(f"{where}loss.label_smoothing: a regression has no labels")


def check_sources(data: DataSpec, task: str, where: str) -> None:
    """Where a task's examples come from, and what its development set is."""
    generated = data.source != "files"
    splits = [key for key in ("dev_fraction", "folds") if getattr(data, key) is not None]
    if generated:
        if SOURCES[data.source] != task:
            raise InputError(f"{where}data.source: {data.source} is for {SOURCES[data.source]}, not for {task}")
        if data.train or data.dev or splits:
            key = "train" if data.train else "dev" if data.dev else splits[0]
            raise InputError(f"{where}data.{key}: not used with data.source {data.source!r}; remove it")
    elif not data.train or not (data.dev or splits):
        other = "" if task == "span_qa" else ", or set data.dev_fraction"
        raise InputError(f"{where}data.train, data.dev: name at least one file each{other}, or set data.source")
    elif len(splits) + bool(data.dev) > 1:
        raise InputError(f"{where}data: dev, dev_fraction and folds exclude each other")
    if data.fold is not None and (data.folds is None or data.fold >= data.folds):
        raise InputError(f"{where}data.fold: {data.fold}, with data.folds {shown(data.folds)}; it counts from 0")
    for key, limit in (("train_limit", data.train_limit), ("dev_limit", data.dev_limit)):
        if generated and limit is not None and limit > MOST_GENERATED:
            raise InputError(f"{where}data.{key}: {limit:,}; at most {MOST_GENERATED:,} examples are generated")
    for key in ("train", "dev"):
        if len(set(getattr(data, key))) < len(getattr(data, key)):
            raise InputError(f"{where}data.{key}: a file is listed twice")
        for name in getattr(data, key):
            if not name or Path(name).is_absolute() or ".." in Path(name).parts:
                raise InputError(
                    f"{where}data.{key}: {name!r} is not inside the data root; point --data-root at its folder"
                )


def check_windows(data: DataSpec, where: str) -> None:
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


def check_tasks(spec: Spec) -> None:
    """Several tasks together, and the metric that decides."""
    metric, allowed = spec.eval.metric, METRICS[spec.model.task]
    if spec.tasks:
        for key, default in (("model", ModelSpec()), ("data", DataSpec()), ("loss", LossSpec())):
            fields = ("task", "pooling") if key == "model" else [field.name for field in dataclasses.fields(default)]
            for field in fields:
                if getattr(getattr(spec, key), field) != getattr(default, field):
                    raise InputError(f"{key}.{field}: with tasks, each task has its own; move it there")
        for name, task in spec.tasks.items():
            if not re.fullmatch(r"[A-Za-z]\w{0,30}", name):
                raise InputError(f"tasks: {shown(name)} cannot be a task's name; letters, digits and _ can")
            if task.task == "regression":
                raise InputError(f"tasks.{name}: a regression cannot share a mean with metrics in percent")
        allowed = ("mean", *(f"{name}.{metric}" for name, task in spec.tasks.items() for metric in METRICS[task.task]))
    if metric not in allowed:
        raise InputError(f"eval.metric: {shown(metric)} is not one of {', '.join(allowed)}")


def check_sweep(spec: Spec, sweeping: bool) -> None:
    """A sweep lists values; one run has none of them, and only one fold."""
    for key, values in spec.sweep.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"sweep.{key}: expected a list of values, found {shown(values)}")
        if key in ("name", "data.folds") or key.startswith("sweep"):
            raise InputError(f"sweep.{key}: cannot be swept")
    if spec.sweep and not sweeping:
        raise InputError(
            "sweep: is a set of runs; train them with --sweep, or one of them with --set sweep={} and more"
        )
    for name, task in spec.task_specs().items():
        if task.data.folds is not None and task.data.fold is None and not sweeping:
            where = f"tasks.{name}." if spec.tasks else ""
            raise InputError(f"{where}data.fold: which of the {task.data.folds} folds? Or train them all: --sweep")


def read_spec(path: Path, assignments: list[str] | None = None, sweeping: bool = False) -> Spec:
    """An experiment file with `--set` assignments applied -> the resolved spec. sweeping: it may be a set of runs.
    Raises InputError naming the file."""
    if not path.exists():
        own = ", ".join(sorted(os.path.relpath(file) for file in Path(__file__).parents[1].glob("*.json")))
        raise InputError(f"{path}: no such experiment; the project's own are {own}")
    raw = read_json(path)
    raw.setdefault("name", path.stem)
    for assignment in assignments or []:
        override(raw, assignment)
    try:
        spec = build(Spec, raw)
        if len(spec.phases) > MOST_PHASES:
            raise InputError(f"phases: {len(spec.phases):,} of them; at most {MOST_PHASES}")
        metric = spec.eval.metric or ("mean" if spec.tasks else METRICS[spec.model.task][0])
        spec = dataclasses.replace(
            spec, phases=expand_gradual(spec.phases), eval=dataclasses.replace(spec.eval, metric=metric)
        )
        check(spec)
        check_sweep(spec, sweeping)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return spec
