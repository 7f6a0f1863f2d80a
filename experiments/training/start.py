"""Beginning with more than pretrained weights: with PEFT's adapters (model.adapter), or with another run's best model
(model.start_from).

Adapters stay LoRA layers where a phase trains `lora`; otherwise, or where a `lora` group adds new ones, they are merged
into the weights. Checkpoints hold every weight that is not the pretrained one, so the run can be used when the adapter
or the other run is gone. Only to resume it, they must still be there.
"""

import copy
import dataclasses
import hashlib
import json
from pathlib import Path

from torch import nn

from data.files import InputError
from data.writing import surviving
from experiments.config.check import resolve
from experiments.config.spec import Spec
from experiments.records import run_folder
from experiments.training.base import load_base
from experiments.training.build import build_model
from experiments.training.checkpoint import ENCODER, STATE, Checkpoint, load_trained, read_checkpoint, saved_weights
from experiments.training.phases import trained_names
from lora.inject import adapter_parameters, lora_layers, put, to_plain
from lora.peft import PeftAdapter, apply_weights, read_peft
from model.bert import BertEncoder
from model.dropout import Dropout
from model.heads import TaskModel
from model.hub import locate
from model.pretrained import Base, Pretrained


def settings_in(checkpoint: Checkpoint, folder: Path) -> Spec:
    """The settings that a checkpoint carries. Raises InputError where they are none."""
    try:
        return resolve(copy.deepcopy(checkpoint.identity["spec"]), [], sweeping=False)
    except (InputError, KeyError, TypeError) as error:
        raise InputError(f"{folder / STATE}: its settings cannot be used: {error}") from None


def begins_elsewhere(spec: Spec) -> bool:
    return spec.model.adapter is not None or spec.model.start_from is not None


def keeps_adapters(spec: Spec) -> bool:
    """Whether the adapters that a run begins with stay LoRA layers."""
    return begins_elsewhere(spec) and spec.lora is None and any("lora" in phase.train for phase in spec.phases)


def load_start(spec: Spec, folder: Path) -> Base:
    """What a new run begins with. folder: its own. Raises InputError for what is not there or does not fit."""
    if spec.model.adapter is not None and spec.model.start_from is not None:
        raise InputError("model.adapter, model.start_from: a run begins with one of them, not both")
    base = load_base(spec)
    if spec.model.adapter is not None:
        found = read_others(spec.model.adapter, "model.adapter", base.encoder, base.pretrained)
        begin_with_adapter(base.encoder, found, keeps_adapters(spec))
        return dataclasses.replace(base, head=found.head, labels=found.labels, start=found.sha256)
    if spec.model.start_from is not None:
        return begin_with_run(spec, base, folder)
    return base


def read_others(
    name: str, setting: str, encoder: BertEncoder, pretrained: Pretrained, download: bool = True
) -> PeftAdapter:
    """An adapter that a setting names, a folder or hub id. Raises InputError for what cannot be read, and for best/ of
    a run whose encoder has weights of its own as well, which an adapter alone does not bring along."""
    folder = locate(name, download, setting)
    found = read_peft(folder, encoder, pretrained)
    if (folder / ENCODER).exists():
        raise InputError(
            f"{setting}: {folder} goes with encoder weights of its own ({ENCODER}); use model.start_from, or eval.py "
            "export --as merged"
        )
    return found


def load_best(spec: Spec, base: Base, checkpoint: Checkpoint, best: Path) -> tuple[TaskModel, set[str]]:
    """The model of a checkpoint, best/ of a run with these settings, and the names of what had trained."""
    if keeps_adapters(spec):
        begin_with_adapter(base.encoder, read_peft(best, base.encoder, base.pretrained), keep=True)
    model = build_model(spec, base, checkpoint.outputs, fresh=False)
    names = trained_names(model, spec.phases[: checkpoint.progress.furthest + 1])
    if begins_elsewhere(spec):
        model.encoder.changed |= saved_weights(best, model, base.pretrained)
    load_trained(best, model, base.pretrained, names)
    return model, names


def begin_with_adapter(encoder: BertEncoder, found: PeftAdapter, keep: bool) -> None:
    """Put an adapter into an encoder, as LoRA layers, or (keep False) merged into its weights."""
    apply_weights(encoder, found)
    encoder.changed |= found.weights.keys()
    for path, own in found.adapter.layers.items():
        linear = encoder.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        layer = own.around(linear)
        layer.lora_dropout = Dropout(found.dropout)
        put(encoder, path, layer)
    if not keep:
        merge_adapters(encoder)


def merge_adapters(encoder: BertEncoder) -> None:
    """Replace LoRA layers by plain ones with the merged weights."""
    encoder.changed |= {f"{path}.weight" for path, _ in lora_layers(encoder)}
    to_plain(encoder)


def begin_with_run(spec: Spec, base: Base, folder: Path) -> Base:
    """The encoder and heads of another run's best model."""
    assert spec.model.start_from is not None
    parent = run_folder(Path(spec.model.start_from).expanduser(), "spec.json")
    best = surviving(parent / "best")
    if parent.resolve() == folder.resolve():
        raise InputError(f"model.start_from: {parent} is this run's own folder; give the run another name")
    if best is None:
        raise InputError(f"model.start_from: {parent} has no best/ yet")
    checkpoint = read_checkpoint(best)
    theirs = settings_in(checkpoint, best)
    if checkpoint.identity.get("pretrained") != base.pretrained.sha256:
        told = f"was trained from {theirs.model.pretrained}, this run from {spec.model.pretrained}"
        raise InputError(f"model.start_from: {parent} {told}; set model.pretrained to what it was trained from")
    if keeps_adapters(spec) and theirs.lora is not None and theirs.lora.init == "pissa":
        told = "began with pissa; merge them, by phases that do not train 'lora', or a lora group of your own"
        raise InputError(f"model.start_from: the adapters of {parent} {told}")
    model, names = load_best(theirs, base, checkpoint, best)
    encoder = model.encoder
    trained = {name.removeprefix("encoder.") for name in names if name.startswith("encoder.")}
    encoder.changed |= trained - adapter_parameters(encoder).keys()
    if not keeps_adapters(spec):
        merge_adapters(encoder)
    heads = tuple((name, model.head_of(name), outputs) for name, outputs in checkpoint.outputs.items())
    digest = hashlib.sha256(json.dumps(checkpoint.sha256, sort_keys=True).encode()).hexdigest()
    return dataclasses.replace(base, encoder=encoder, heads=heads, start=digest)
