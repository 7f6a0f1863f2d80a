"""An augmentation of the input: some tokens are shown as [MASK]."""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from data.files import InputError
from data.special_tokens import special_tokens


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
    special = special_tokens(tokenizer)
    if special.mask is None:
        raise InputError("data.mask_tokens: the tokenizer has no [MASK]")
    return Masking(share, special.mask, (special.cls, special.sep, special.pad))
