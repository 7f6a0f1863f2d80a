"""Text to tokens, tokens to padded batches. Windows over passages (data/squad.py) and labelled texts share one store.

Axes:  N examples   B examples of a batch   T tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer

from data.batching import padded_width
from data.files import InputError, reason
from data.progress import progress

# ---- the store -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tokens:
    """N tokenized examples, stored flat: 100,000 of them are a few arrays, not a few million objects."""

    tokens: np.ndarray  # int32 [sum of lengths], with [CLS] and [SEP]
    begin: np.ndarray  # int64 [N + 1], example n is tokens[begin[n] : begin[n + 1]]
    second: np.ndarray  # int64 [N], the position where the second text begins; the length where there is none
    pad: int  # id of [PAD]
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # what else a batch has of each example [N, ...]

    def __len__(self) -> int:
        return len(self.second)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each example, int64 [N]"""
        return np.diff(self.begin)


def collate(store: Tokens, rows: np.ndarray) -> dict[str, torch.Tensor | None]:
    """The examples `rows` [B] as one padded batch: tokens, types int64 [B, T]; mask bool [B, T], None where nothing is
    padded; and the labels of the store, [B, ...] each."""
    pieces = [store.tokens[store.begin[n] : store.begin[n + 1]] for n in rows]
    tokens = np.full((len(rows), padded_width(max(map(len, pieces)))), store.pad, dtype=np.int64)
    for target, piece in zip(tokens, pieces, strict=True):
        target[: len(piece)] = piece
    position = np.arange(tokens.shape[1])[None, :]  # [1, T]
    mask = position < store.lengths[rows][:, None]  # [B, T]
    types = (position >= store.second[rows][:, None]) & mask
    return {
        "tokens": torch.from_numpy(tokens),
        "types": torch.from_numpy(types.astype(np.int64)),
        "mask": None if mask.all() else torch.from_numpy(mask),
        **{name: torch.from_numpy(values[rows]) for name, values in store.labels.items()},
    }


# ---- text to tokens --------------------------------------------------------------------------------------------------


def encode(texts: Sequence[str], tokenizer: Tokenizer) -> list[Encoding]:
    """Tokenize without special tokens, with a progress bar where it takes long."""
    encoded = []
    for begin in progress(range(0, len(texts), 1000), "tokenizing", delay=1):
        try:
            encoded += tokenizer.encode_batch(texts[begin : begin + 1000], add_special_tokens=False)
        except Exception as error:  # the tokenizers library raises plain Exception where its file is no good
            raise InputError(f"the tokenizer fails on these texts, its file is damaged: {reason(error)}") from None
    return encoded
