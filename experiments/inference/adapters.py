"""Other adapters on a run's base: one that peft trained on, or several in a weighted sum."""

from collections.abc import Mapping
from pathlib import Path

from data.files import InputError
from data.labels import Outputs
from lora.inject import unwrap
from lora.peft import apply_weights, read_peft
from lora.several import Several
from model.heads import TaskModel
from model.hub import locate
from model.pretrained import Pretrained
from model.published_heads import take_over


def parse_adapters(given: list[str]) -> dict[str, float]:
    """["a", "b=0.5"] -> {"a": 1.0, "b": 0.5}; a and b are folders or hub ids. Raises InputError for a weight that is no
    number."""
    found: dict[str, float] = {}
    for text in given:
        name, equals, weight = text.rpartition("=")
        if not equals or Path(text).exists():
            name, weight = text, "1"
        try:
            found[name] = float(weight)
        except ValueError:
            raise InputError(f"--adapter {text}: {weight!r} is no weight; write FOLDER=0.5") from None
    return found


def use_adapters(
    model: TaskModel,
    pretrained: Pretrained,
    own_weights: bool,
    outputs: Mapping[str, Outputs],
    adapters: Mapping[str, float],
    download: bool,
) -> None:
    """Put adapters in the place of a run's own: one, with its head where it brings one that fits, or the sum of several
    times their weights, with the run's head. own_weights: whether the run has changed the encoder's own weights.
    Raises InputError for adapters that cannot go with this run."""
    encoder = model.encoder
    if own_weights or encoder.changed:
        raise InputError(
            "--adapter: the run has changed the encoder's own weights, other adapters do not belong to them"
        )
    unwrap(encoder)
    found = {name: read_peft(locate(name, download, "--adapter"), encoder, pretrained) for name in adapters}
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
        for task, meaning in outputs.items():
            take_over(model.head_of(task), pretrained.family, only.head, meaning, None)
