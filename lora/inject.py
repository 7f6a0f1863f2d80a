"""Put LoRA into a model, by patterns over module names, and find it there again."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from lora.layer import LoRALinear
from lora.variants import wrap

ALL_LINEAR = "all-linear"  # the pattern that fits every layer


class PatternError(ValueError):
    """A pattern matches no layer, or a rank does not fit one; the message names both and what would."""


def matches(name: str, pattern: str) -> bool:
    """Whether a dotted module name fits a pattern: a glob over the whole name or over its last parts.

    For layers.3.attention.query:  "query", "attention.query", "layers.3.*" and "*query" fit; "quer" and "3" do not.
    "all-linear" fits every name.
    """
    return pattern == ALL_LINEAR or fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """(name, layer) for each LoRA layer, in the model's order."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear))


def adapter_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """{full name: parameter} of every adapter in the model."""
    return {
        f"{name}.{own}": parameter
        for name, layer in lora_layers(model)
        for own, parameter in layer.adapter_parameters().items()
    }


def _unmatched(setting: str, pattern: str, names: Sequence[str]) -> PatternError:
    """Error for a pattern that fits no linear layer, with the nearest names that would."""
    suffixes = {".".join(name.split(".")[start:]) for name in names for start in range(name.count(".") + 1)}
    suffixes.add(ALL_LINEAR)
    near = difflib.get_close_matches(pattern, sorted(suffixes, key=len), n=3, cutoff=0.4) or sorted(
        {name.rpartition(".")[2] for name in names}
    )
    return PatternError(f"{setting}: {pattern[:60]!r} matches no linear layer; near: {', '.join(near)}")


def inject(
    model: nn.Module,
    targets: Sequence[str],
    rank: int,
    alpha: float,
    dropout: Callable[[], nn.Module] = nn.Identity,
    ranks: Mapping[str, int] | None = None,
    **variant,
) -> list[str]:
    """Freeze `model` and replace each linear layer that a target pattern matches by a LoRALinear around it, in place.

    model: the encoder without its head; a new head has nothing to adapt and must be trained whole.
    ranks: {pattern: rank} for layers whose rank differs; the last pattern that matches wins.
    dropout: makes the module that each adapter's input passes through, one for each.
    variant: further arguments of `wrap` (rslora, dora, init, fresh).
    Returns the names of the wrapped layers. Raises PatternError for a pattern that matches nothing (a typo would
    otherwise train less than was asked, silently), or a rank that does not fit, before the model is touched.
    """
    ranks = ranks or {}
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if any(isinstance(module, LoRALinear) for module in linears.values()):
        raise ValueError("the model already has LoRA layers")
    for pattern in targets:
        if not any(matches(name, pattern) for name in linears):
            raise _unmatched("lora.targets", pattern, list(linears))
    chosen = [name for name in linears if any(matches(name, pattern) for pattern in targets)]
    for pattern in ranks:
        if not any(matches(name, pattern) for name in chosen):
            raise _unmatched("lora.ranks", pattern, chosen)
    rank_of = {name: next((r for p, r in reversed(list(ranks.items())) if matches(name, p)), rank) for name in chosen}
    for name in chosen:
        largest = min(linears[name].weight.shape)
        if not 1 <= rank_of[name] <= largest:
            raise PatternError(f"lora.rank: {rank_of[name]} for {name}; its weight allows 1 to {largest}")

    model.requires_grad_(False)
    for name in chosen:
        put(model, name, wrap(linears[name], rank_of[name], alpha, dropout=dropout(), **variant))
    return chosen


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the module of a dotted name."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def merge(model: nn.Module) -> None:
    """Merge every LoRA layer of the model; see `LoRALinear.merge`."""
    for _, layer in lora_layers(model):
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Undo `merge`."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def to_plain(model: nn.Module) -> nn.Module:
    """Replace every LoRA layer by a plain linear layer that computes the same, in place. For export."""
    for name, layer in list(lora_layers(model)):
        put(model, name, layer.to_linear())
    return model


def unwrap(model: nn.Module) -> None:
    """Take every LoRA layer out again, in place; see `LoRALinear.unwrap`."""
    for name, layer in list(lora_layers(model)):
        put(model, name, layer.unwrap())
