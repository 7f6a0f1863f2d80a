"""Vectors of passages, kept in a file between two commands, so that a thousand texts are encoded once.

The file's name is a hash of the weights (and whatever else the vectors depend on) and of where the texts come from; the
file has a hash of each passage. So other weights find another file, and of an edited text only what changed is encoded
anew. A file is used only if it is whole: the right shapes, unit vectors, and the sha256 of its own contents. Anything
else is made anew. Where nothing can be written, nothing is kept, and that is all that happens.

Axes:  N passages   C width
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.files import InputError
from experiments.inference.ranking import Ranker
from model.tensors import read_tensors, write_tensors

FORMAT = 1  # raised whenever the same weights and text give other vectors


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/bert-by-hand, or below ~/.cache. Whoever deletes it loses seconds."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "bert-by-hand" / "vectors"


def ranker_key(ranker: Ranker) -> bytes:
    """sha256 of everything that a text's vector depends on."""
    machine, found = ranker.machine, hashlib.sha256()
    about = (FORMAT, ranker.max_length, machine.device.type, machine.precision, vars(ranker.model.encoder.config))
    found.update(repr(about).encode())
    found.update(ranker.tokenizer.to_str().encode())
    for name, parameter in ranker.model.encoder.named_parameters():
        found.update(name.encode())
        found.update(np.ascontiguousarray(parameter.detach().float().cpu().numpy()).data)
    return found.digest()


def passage_keys(passages: Sequence[str]) -> np.ndarray:
    """sha256 of each passage, uint8 [N, 32]"""
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in passages)
    return np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)


def contents_key(ranker: bytes, keys: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """sha256 of a file's contents, uint8 [32]"""
    digest = hashlib.sha256(ranker + keys.tobytes() + vectors.tobytes()).digest()
    return np.frombuffer(digest, dtype=np.uint8)


def kept_vectors(path: Path, ranker: bytes, width: int) -> dict[bytes, np.ndarray]:
    """{sha256 of a passage: its vector [C]} of a file; {} for one that is missing or not what was written."""
    try:
        found = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    except (InputError, TypeError):  # TypeError: a dtype that numpy has not
        return {}
    if found.keys() != {"keys", "vectors", "sha256"}:
        return {}
    keys, vectors = found["keys"], found["vectors"]
    if vectors.dtype != np.float32 or vectors.shape != (len(keys), width) or keys.shape != (len(keys), 32):
        return {}
    if found["sha256"].tobytes() != contents_key(ranker, keys, vectors).tobytes():
        return {}
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3):
        return {}
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def vectors_for(ranker: Ranker, passages: Sequence[str], place: str) -> tuple[np.ndarray, int]:
    """The unit vectors of passages [N, C], and how many had to be computed. place: where they come from."""
    own, keys = ranker_key(ranker), passage_keys(passages)
    name = hashlib.sha256(own + os.fsencode(place)).hexdigest()[:32]
    path, width = cache_folder() / f"{name}.safetensors", ranker.model.encoder.config.hidden_size
    known = kept_vectors(path, own, width)
    new = {key.tobytes(): text for key, text in zip(keys, passages, strict=True) if key.tobytes() not in known}
    if new:
        computed, _ = ranker.vectors(list(new.values()))
        known |= dict(zip(new, computed, strict=True))
    vectors = np.stack([known[key.tobytes()] for key in keys])
    if new:
        tensors = {"keys": keys, "vectors": vectors, "sha256": contents_key(own, keys, vectors)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_tensors(path, {name: torch.from_numpy(array.copy()) for name, array in tensors.items()})
        except (InputError, OSError):
            pass  # a full disk, a folder of somebody else's: the next command computes them again
    return vectors, len(new)
