"""Heads as transformers' own classes have them, both ways: the names of their tensors, and what fits.

Span QA is AutoModelForQuestionAnswering's linear layer. A head for texts is AutoModelForSequenceClassification's where
it pools as that one does (pooling "cls_pooler"); no class there pools by the mean, or has no layer on [CLS].
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from data.labels import Outputs
from model.families import FAMILIES
from model.heads import Head, SpanHead
from model.text_heads import Pooler, TextHead


def published_paths(head: Head, family: str) -> dict[str, str] | None:
    """{our module path below the head: the published one}, lowest layer first; None where transformers has no class for
    such a head."""
    if isinstance(head, SpanHead):
        return {"output": "qa_outputs"}
    if isinstance(head, TextHead) and isinstance(head.pool, Pooler):
        dense, _, output = FAMILIES[family].text_head
        return {"pool.dense": dense, "output": output}
    return None


def to_published(head: Head, family: str, outputs: Outputs) -> dict[str, Tensor]:
    """{published name: tensor} of a head that has a class there. A regression's standardised output becomes its unit:
    y = sd (w h + b) + mean is (sd w) h + (sd b + mean)."""
    paths = published_paths(head, family)
    assert paths is not None
    tensors = {}
    for ours, parameter in head.named_parameters():
        module, _, leaf = ours.rpartition(".")
        value = parameter.detach().float()
        if module == "output":
            value = value * outputs.sd + (outputs.mean if leaf == "bias" else 0.0)
        tensors[f"{paths[module]}.{leaf}"] = value
    return tensors


def label_order(outputs: Outputs, labels: Sequence[str] | None) -> list[int] | None:
    """Which output of a published head each of ours is, or None where their labels are not the same. labels: the
    published head's, None where nothing is known of them: taken to be in our order."""
    if labels is None or not outputs.labels:
        return list(range(max(1, len(outputs.labels))))
    return [labels.index(label) for label in outputs.labels] if sorted(labels) == sorted(outputs.labels) else None


def fitting(
    head: Head, family: str, found: Mapping[str, Tensor], outputs: Outputs, labels: Sequence[str] | None
) -> dict[str, dict[str, Tensor]]:
    """{published path: its tensors, as ours} of a published head's layers, from the lowest up to the first that is
    absent, of another shape, not finite, or made for other labels."""
    layers: dict[str, dict[str, Tensor]] = {}
    for module, path in (published_paths(head, family) or {}).items():
        path = path.removeprefix(f"{FAMILIES[family].prefix}.")
        own = head.get_submodule(module).state_dict()
        new = {leaf: found[f"{path}.{leaf}"] for leaf in own if f"{path}.{leaf}" in found}
        if not all(leaf in new and new[leaf].shape == value.shape for leaf, value in own.items()):
            break
        if not all(value.isfinite().all() for value in new.values()):
            break
        if module == "output" and isinstance(head, TextHead):
            order = label_order(outputs, labels)
            if order is None:
                break
            new = {leaf: value[order] / outputs.sd for leaf, value in new.items()}
            new["bias"] -= outputs.mean / outputs.sd
        layers[path] = new
    return layers


def take_over(
    head: Head,
    family: str,
    found: Mapping[str, Tensor],
    outputs: Outputs,
    labels: Sequence[str] | None,
    whole: Collection[str] = (),
) -> bool:
    """Begin with the layers of a published head that fit. found: {published name without the family's prefix: tensor}.
    whole: names among them, of one head; all of these are used, and every layer is found, or nothing is. `head.taken`
    says which were used. Returns whether that is as `whole` wants it."""
    layers, paths = fitting(head, family, found, outputs, labels), published_paths(head, family) or {}
    names = [f"{path}.{leaf}" for path, new in layers.items() for leaf in new]
    if whole and (len(layers) < len(paths) or not set(whole) <= set(names)):
        return False
    with torch.no_grad():
        for new, module in zip(layers.values(), paths, strict=False):
            for leaf, value in head.get_submodule(module).state_dict().items():
                value.copy_(new[leaf])
    head.taken = tuple(dict.fromkeys([*head.taken, *names]))
    return True


def inherit(head: Head, outputs: Outputs, other: Head, theirs: Outputs) -> None:
    """Begin with the head of another run, if it is of the same kind and shape and has the same labels, in any order. A
    regression's is put into our unit."""
    own, found = head.state_dict(), other.state_dict()
    order = label_order(outputs, theirs.labels)
    if type(head) is not type(other) or own.keys() != found.keys() or order is None:
        return
    if any(own[name].shape != value.shape for name, value in found.items()):
        return
    if isinstance(head, TextHead):
        scale = theirs.sd / outputs.sd
        found |= {name: value[order] * scale for name, value in found.items() if name.startswith("output.")}
        found["output.bias"] = found["output.bias"] + (theirs.mean - outputs.mean) / outputs.sd
    head.load_state_dict(found)
    head.taken = ("the other run's head",)
