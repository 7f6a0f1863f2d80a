"""What a tokenizer puts around texts."""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from data.files import InputError


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of what a tokenizer puts around texts. BERT: [CLS] a [SEP] b [SEP]. RoBERTa: <s> a </s> </s> b </s>."""

    cls: int
    between: tuple[int, ...]  # two texts
    sep: int  # after the last text
    pad: int
    mask: int | None


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """Ask a tokenizer for its special tokens, by an example. Raises InputError where it frames texts otherwise."""
    pair = tokenizer.encode("a", "a")
    first, second = (np.flatnonzero([s == which for s in pair.sequence_ids]) for which in (0, 1))
    if not len(first) or not len(second) or first[0] != 1 or second[-1] != len(pair.ids) - 2:
        raise InputError(f"the tokenizer puts {' '.join(pair.tokens)} around two texts, not one token at each end")
    between = tuple(pair.ids[first[-1] + 1 : second[0]])
    bracketed = pair.tokens[0].startswith("[")
    pad, mask = (tokenizer.token_to_id(t) for t in (("[PAD]", "[MASK]") if bracketed else ("<pad>", "<mask>")))
    if pad is None or not between:
        raise InputError("the tokenizer has no token for padding, or none between two texts")
    return SpecialTokens(pair.ids[0], between, pair.ids[-1], pad, mask)
