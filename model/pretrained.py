"""Pretrained weights: from a name to an encoder whose every tensor is accounted for.

Only safetensors and JSON are read, never pickle.
"""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from data.files import InputError, one_line, printable, read_json, reason, sha256_of
from data.labels import Outputs
from model.bert import BertEncoder
from model.families import (
    FAMILIES,
    HEAD_NAMES,
    UNUSED,
    Family,
    hugging_face_name,
    published_parameter,
    read_config,
    read_labels,
)
from model.heads import Head
from model.hub import locate
from model.tensors import read_tensors
from model.tokenizer import load_tokenizer

# What else an encoder and its tokenizer are made from.
BESIDE = (
    *("config.json", "tokenizer.json", "tokenizer_config.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"),
)
CONVERT = (
    'convert it: python -c "import torch, safetensors.torch as s; s.save_file({k: v.clone().contiguous() for k, v in '
    "torch.load('pytorch_model.bin', weights_only=True).items()}, 'model.safetensors')\""
)


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that model.safetensors.index.json lists (plain names in the same folder)."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        pickled = f"; the pickled file is not read; {CONVERT}" if (folder / "pytorch_model.bin").exists() else ""
        raise InputError(f"{folder}: no model.safetensors{pickled}")
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise InputError(f"{index}: weight_map must map tensor names to file names")
    names = sorted(set(shards.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{index}: shard {name!r} is not the name of a .safetensors file in this folder")
        if not (folder / name).is_file():
            raise InputError(f"{index}: shard {name} is missing from {folder}")
    return [folder / name for name in names]


@dataclass(frozen=True)
class Weights:
    """The tensors of a checkpoint, sorted into what an encoder needs and what else is there."""

    state: dict[str, Tensor]  # of the encoder, by our names, fp32
    head: dict[str, Tensor]  # of a head for a task of ours, by published names
    unused: tuple[str, ...]  # names of what belongs to heads, pretraining's included
    missing: tuple[str, ...]  # names of what the encoder needs and the checkpoint lacks
    unexpected: tuple[str, ...]  # names of what belongs to no head that is known


def checkpoint_tensors(files: list[Path], family: Family) -> Iterator[tuple[str, bool, Tensor]]:
    """(name, whether it is a head's, tensor) for each tensor in the files.

    Names are those of an encoder alone: without the family's prefix, with modern LayerNorm names. If some tensors have
    the prefix, those without it are a head's, whatever they are called.
    """
    tensors = [item for file in files for item in read_tensors(file).items()]
    prefix = f"{family.prefix}."
    prefixed = any(name.startswith(prefix) for name, _ in tensors)
    for full_name, tensor in tensors:
        name = full_name.removeprefix(prefix)
        # The first BERT checkpoints call LayerNorm's parameters gamma and beta. Only there: another tensor that happens
        # to contain "beta" keeps its name.
        parent, _, last = name.rpartition(".")
        if parent.endswith("LayerNorm"):
            last = {"gamma": "weight", "beta": "bias"}.get(last, last)
        name = f"{parent}.{last}" if parent else last
        if not name.endswith("position_ids"):  # 0, 1, 2, ...: a buffer, not a weight
            outside = prefixed and not full_name.startswith(prefix)
            yield name, outside or bool(UNUSED.match(name)), tensor


def read_weights(folder: Path, files: list[Path], family: str, encoder: BertEncoder) -> Weights:
    """Sort a checkpoint's tensors. encoder: whose names and shapes count. Raises InputError for a tensor of the encoder
    that is of the wrong shape, not floating point, not finite, or there twice."""
    expected, shapes = {}, {}
    for ours, parameter in encoder.state_dict().items():
        expected[published_parameter(ours, family)] = ours
        shapes[ours] = tuple(parameter.shape)
    state: dict[str, Tensor] = {}
    head: dict[str, Tensor] = {}
    unused: list[str] = []
    unexpected: list[str] = []
    for name, of_head, tensor in checkpoint_tensors(files, FAMILIES[family]):
        own = expected.get(name)
        if own is None:
            (unused if of_head else unexpected).append(name)
            if name.startswith(HEAD_NAMES) and tensor.is_floating_point():
                head[name] = tensor.float()
        elif own in state:
            raise InputError(f"{folder}: tensor {name} is there twice")
        elif tuple(tensor.shape) != shapes[own] or not tensor.is_floating_point():
            raise InputError(
                f"{folder}: tensor {name} is {tensor.dtype} {tuple(tensor.shape)}, config.json asks for a "
                f"floating-point {shapes[own]}"
            )
        else:
            state[own] = tensor.float()
            if not state[own].isfinite().all():
                raise InputError(f"{folder}: tensor {name} holds NaN or infinity; the file is damaged")
    missing = tuple(name for name, ours in expected.items() if ours not in state)
    return Weights(state, head, tuple(sorted(unused)), missing, tuple(sorted(unexpected)))


@dataclass(frozen=True)
class Pretrained:
    """Origin of an encoder."""

    name: str
    folder: Path
    family: str  # which record of model.families applies
    unused: tuple[str, ...]  # tensors of the checkpoint that the encoder has no use for
    head: dict[str, Tensor]  # among them those of a head for a task of ours, by published names
    labels: tuple[str, ...]  # of that head, in order; empty where config.json has no names for them
    sha256: str  # over the files that the encoder and the tokenizer are made from

    def hugging_face_name(self, module_path: str) -> str:
        return hugging_face_name(module_path, self.family)


def load_encoder(name: str, download: bool = True, **overrides) -> tuple[BertEncoder, Pretrained]:
    """Build the encoder that `name` describes and fill all its tensors from the checkpoint, in fp32.

    download: ask a hub for what is not on this machine.
    overrides: BertConfig fields that are free to choose (dropout, attention_dropout, attention).
    Raises InputError naming the tensors for: missing, unexpected, and what `read_weights` refuses.
    """
    folder = locate(name, download)
    family, config = read_config(folder)
    with torch.device("meta"):  # shapes only: every value comes from the file
        encoder = BertEncoder(dataclasses.replace(config, **overrides))
    files = weight_files(folder)
    weights = read_weights(folder, files, family, encoder)
    for what, names in (("missing", weights.missing), ("unexpected", weights.unexpected)):
        if names:
            raise InputError(f"{folder}: {len(names)} {what} tensor(s) for a {family} encoder: {some(names)}")
    encoder.load_state_dict(weights.state, assign=True)
    labels = read_labels(folder / "config.json")
    files += [folder / name for name in BESIDE if (folder / name).is_file()]
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
    return encoder, Pretrained(name, folder, family, weights.unused, weights.head, labels, digest)


@dataclass(frozen=True)
class Base:
    """A pretrained encoder with its tokenizer."""

    encoder: BertEncoder
    pretrained: Pretrained
    tokenizer: Tokenizer
    head: dict[str, Tensor] = field(default_factory=dict)  # of an adapter's head, by published names
    labels: tuple[str, ...] | None = None  # of that head, in order; None where nothing is known of them
    heads: tuple[tuple[str, Head, Outputs], ...] = ()  # of the run that it begins with, by their tasks' names
    start: str | None = None  # fingerprint of the adapter or run that it begins with


def some(names: Sequence[str]) -> str:
    """The first few of many names, from a file that somebody wrote."""
    return ", ".join(map(printable, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


# ---- python -m model.pretrained NAME ---------------------------------------------------------------------------------


def describe(name: str) -> list[str]:
    """Lines about a checkpoint: family, sizes, tokenizer, and what of it would be missing or unused."""
    folder = locate(name)
    family, config = read_config(folder)
    with torch.device("meta"):
        encoder = BertEncoder(config)
    weights = read_weights(folder, weight_files(folder), family, encoder)
    try:
        words = load_tokenizer(folder, family).get_vocab_size()
        tokenizer = f"{FAMILIES[family].tokens.kind}, {words:,} tokens" + (
            "" if words <= config.vocab_size else f"; but the encoder has {config.vocab_size:,}"
        )
    except InputError as error:
        tokenizer = f"cannot be used: {one_line(str(error))}"
    lines = {
        "folder": printable(str(folder)),
        "family": family,
        "encoder": f"{config.num_layers} layers, {config.hidden_size} wide, {config.num_heads} heads, "
        f"{config.intermediate_size:,} inside the MLP; {config.max_positions} positions",
        "parameters": f"{sum(parameter.numel() for parameter in encoder.parameters()):,}",
        "tokenizer": tokenizer,
        "heads": some(weights.unused) or "none",
        "missing": some(weights.missing) or "nothing",
        "unexpected": some(weights.unexpected) or "nothing",
    }
    return [f"{key:12}{value}" for key, value in lines.items()]


def main(argv: Sequence[str]) -> int:
    if len(argv) != 1 or argv[0].startswith("-"):
        print(
            "usage: python -m model.pretrained NAME   (a folder, a known name, or hub id[@revision])", file=sys.stderr
        )
        return 2
    try:
        print("\n".join(describe(argv[0])))
    except (InputError, OSError) as error:
        print(f"model.pretrained: {one_line(reason(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
