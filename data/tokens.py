"""Text to tokens, tokens to padded batches. Windows over passages (data/squad.py) and labelled texts share one store.

Axes:  N examples   B examples of a batch   T tokens
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from tqdm import tqdm

from data.batching import padded_width
from data.files import InputError, reason
from data.readers import Row

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
    for begin in tqdm(range(0, len(texts), 1000), desc="tokenizing", leave=False, disable=None, delay=1):
        try:
            encoded += tokenizer.encode_batch(texts[begin : begin + 1000], add_special_tokens=False)
        except Exception as error:  # the tokenizers library raises plain Exception where its file is no good
            raise InputError(f"the tokenizer fails on these texts, its file is damaged: {reason(error)}") from None
    return encoded


def special_tokens(tokenizer: Tokenizer) -> tuple[int, int, int]:
    """The ids of [CLS], [SEP] and [PAD]. (model.pretrained.load_tokenizer has seen to it that they are there.)"""
    cls, sep, pad = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]", "[PAD]"))
    if cls is None or sep is None or pad is None:
        raise ValueError("the tokenizer has no [CLS], [SEP] or [PAD]")
    return cls, sep, pad


def cut_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """Numbers of tokens that are kept of each text of a pair: the longer one loses its end first, as in the original
    BERT. 10 and 4 in a room of 12: 8 and 4; 10 and 9 in one of 13: 7 and 6."""
    kept = min(first, max(room - second, room - room // 2))
    return kept, min(second, room - kept)


def tokenize(
    rows: Sequence[Row], tokenizer: Tokenizer, max_length: int, labels: dict[str, np.ndarray] | None = None
) -> tuple[Tokens, int]:
    """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP], cut to max_length; and how many had to be cut."""
    cls, sep, pad = special_tokens(tokenizer)
    firsts = [e.ids for e in encode([row.text for row in rows], tokenizer)]
    seconds = [e.ids for e in encode([row.pair or "" for row in rows], tokenizer)]
    pieces, second, cut = [], [], 0
    for row, a, b in zip(rows, firsts, seconds, strict=True):
        paired = row.pair is not None
        kept_a, kept_b = cut_pair(len(a), len(b), max_length - (3 if paired else 2))
        cut += kept_a + kept_b < len(a) + len(b)
        pieces.append([cls, *a[:kept_a], sep, *([*b[:kept_b], sep] if paired else [])])
        second.append(kept_a + 2)
    tokens, begin = np.concatenate(pieces).astype(np.int32), np.cumsum([0, *map(len, pieces)])
    return Tokens(tokens, begin, np.array(second), pad, labels or {}), cut


# ---- augmentation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Masking:
    """An augmentation of the input: some tokens are shown as [MASK], different ones each time. Nothing is predicted at
    those places, unlike in BERT's pretraining."""

    share: float
    mask: int  # id of [MASK]
    special: tuple[int, ...]  # ids that stay

    def apply(self, batch: dict, random: np.random.Generator) -> None:
        """Change batch["tokens"] in place."""
        tokens = batch["tokens"].numpy()
        chosen = (random.random(tokens.shape) < self.share) & ~np.isin(tokens, self.special)
        tokens[chosen] = self.mask


def make_masking(tokenizer: Tokenizer, share: float) -> Masking | None:
    """Mask a share of the tokens; None for a share of 0. Raises InputError for a tokenizer without [MASK]."""
    if share == 0:
        return None
    mask = tokenizer.token_to_id("[MASK]")
    if mask is None:
        raise InputError("data.mask_tokens: the tokenizer has no [MASK]")
    return Masking(share, mask, special_tokens(tokenizer))
