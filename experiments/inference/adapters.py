"""Other adapters on a run's base: one that peft trained on, or several in a weighted sum."""

import os
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from data.files import InputError, shown
from data.labels import Outputs
from experiments.training.start import read_others
from lora.inject import unwrap
from lora.peft import PeftAdapter, apply_weights
from lora.several import Several
from model.heads import Head, TaskModel
from model.pretrained import Pretrained, some
from model.published_heads import take_over
from model.text_heads import Pooler


def parse_adapters(given: list[str]) -> dict[str, float]:
    """["a", "b=0.5"] -> {"a": 1.0, "b": 0.5}; a and b are folders or hub ids. Raises InputError for a weight that is no
    number."""
    found: dict[str, float] = {}
    for text in given:
        name, equals, weight = text.rpartition("=")
        if not equals or Path(text).exists():
            name, weight = text, "1"
        if Path(name).resolve() in map(Path.resolve, map(Path, found)):
            raise InputError(f"--adapter {text}: {name} is there twice; give it once, with the sum of the weights")
        try:
            found[name] = float(weight)
        except ValueError:
            raise InputError(f"--adapter {text}: {weight!r} is no weight; write FOLDER=0.5") from None
    return found


def adapters_of(given: Any) -> dict[str, float] | None:
    """What a program calls an adapter, a path or {path: weight}, as `use_adapters` has it; None for none. Raises
    InputError for anything else, and for what is empty: it would count as none."""
    if given is None:
        return None
    pairs = list(given.items()) if isinstance(given, Mapping) else [(given, 1.0)]
    for name, weight in pairs:
        if not isinstance(name, str | os.PathLike) or not os.fspath(name) or not isinstance(weight, Real):
            raise InputError(f"adapter: {shown(given)} is neither a folder, nor a hub id, nor weights by these")
    if not pairs:
        raise InputError("adapter: is empty; give None for the run's own")
    return {os.fspath(name): float(weight) for name, weight in pairs}


def use_adapters(
    model: TaskModel,
    task: str,
    pretrained: Pretrained,
    own_weights: bool,
    outputs: Outputs,
    adapters: Mapping[str, float],
    download: bool,
) -> None:
    """Put adapters in the place of a run's own: one, with its head if it brings one, or the sum of several times their
    weights, with the run's head. task, outputs: which head is asked, and what its outputs mean. own_weights: whether
    the run has changed the encoder's own weights. Raises InputError for adapters that cannot go with this run."""
    encoder = model.encoder
    if own_weights or encoder.changed:
        raise InputError(
            "--adapter: the run has changed the encoder's own weights, other adapters do not belong to them"
        )
    unwrap(encoder)
    found = {name: read_others(name, "--adapter", encoder, pretrained, download) for name in adapters}
    whole = [name for name, each in found.items() if each.weights]
    if len(found) > 1 and whole:
        raise InputError(f"--adapter: {whole[0]} keeps weights of its own beside adapters; it can only be used alone")
    try:
        Several(encoder, {name: each.adapter for name, each in found.items()}).use(adapters)
    except ValueError as error:
        raise InputError(f"--adapter: {error}") from None
    if len(found) == 1:
        (only,) = found.values()
        apply_weights(encoder, only)
        use_head(model.head_of(task), pretrained, outputs, only)


def use_head(head: Head, pretrained: Pretrained, outputs: Outputs, adapter: PeftAdapter) -> None:
    """Replace a trained head by an adapter's, if it brings one: whole, with what of it is the checkpoint's own, as
    BERT's pooler is under a classifier that PEFT trained. Raises InputError for one that does not fit, because layers
    of two heads would give answers that neither has learnt."""
    unused = {"pooler.dense.weight", "pooler.dense.bias"} if not isinstance(getattr(head, "pool", None), Pooler) else ()
    names = adapter.head.keys() - unused
    found = pretrained.head | adapter.head
    if names and not take_over(head, pretrained.family, found, outputs, adapter.labels, whole=names):
        raise InputError(
            f"--adapter: the head in {adapter.folder} ({some(sorted(names))}) does not fit the run's in names, shapes "
            "or labels; ask a run of its own task, with pooling=cls_pooler for texts"
        )
