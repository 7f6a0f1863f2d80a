"""Training and development split: stratified, and no text on both sides."""

import functools
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from data.readers import Row


def normalised(row: Row) -> tuple[str, ...]:
    """A text (and its pair) without what makes no difference: case, accents, punctuation and spaces.

    "Where is my card?" and "where is my  card" are the same text, and so are "Café!" and "cafe". Letters, digits, emoji
    and the vowel signs of other scripts do make one; signs of currency and arithmetic count as punctuation.
    """
    return tuple(_plain(text) for text in (row.text, row.pair) if text is not None)


KEPT = ("Mn", "Mc", "So")  # beside letters and digits: marks of other scripts, and symbols such as emoji


@functools.lru_cache(maxsize=1024)  # the questions about one context come one after the other
def _plain(text: str) -> str:
    if text.isascii():  # the same, several times as fast
        return " ".join(re.findall(r"[a-z0-9]+", text.lower())) or text
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    without_accents = (c for c in decomposed if not "\u0300" <= c <= "\u036f")  # of Latin, Greek and Cyrillic
    words = "".join(c if c.isalnum() or unicodedata.category(c) in KEPT else " " for c in without_accents).split()
    return " ".join(words) or text  # "?!" and "..." are two texts


def duplicates(train: Sequence[Row], dev: Sequence[Row]) -> dict[str, int]:
    """Count the dev texts that are in the training set too: as they are, and normalised (which includes the former)."""
    exact = {(row.text, row.pair) for row in train}
    near = {normalised(row) for row in train}
    return {
        "duplicates": sum((row.text, row.pair) in exact for row in dev),
        "near_duplicates": sum(normalised(row) in near for row in dev),
    }


def contradictions(rows: Sequence[Row], labels: Sequence) -> int:
    """Count the normalised texts that have more than one label."""
    kinds: dict[tuple[str, ...], set] = {}
    for row, label in zip(rows, labels, strict=True):
        kinds.setdefault(normalised(row), set()).add(label)
    return sum(len(found) > 1 for found in kinds.values())


def mark(row: Row) -> int:
    """64-bit fingerprint of the normalised text."""
    return int.from_bytes(hashlib.sha256(repr(normalised(row)).encode()).digest()[:8], "little", signed=True)


def partition(rows: Sequence[Row], strata: Sequence[Hashable], shares: Sequence[float], seed: int = 0) -> np.ndarray:
    """Assign each row to a part [N]: each part has its share of every stratum, and no normalised text is in two.

    strata: a label or a number for each row. shares: they sum to 1.

    Groups of equal texts are put in order of their strata, at random within one, and dealt out one after the other to
    the part that is furthest behind its share. Shares 0.8 and 0.2, classes a a a a a b b b b b: 0 0 1 0 0  0 0 1 0 0.
    A debt to the next strata is at most one text: a text that is there 60 times fills its part with its own label, but
    must not keep the other labels out of it.
    The draw does not depend on a run's seed: runs that differ in their seed are compared on the same split.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(normalised(row), []).append(index)
    members = list(groups.values())
    # A text that is labelled in two ways counts under the more frequent label.
    stratum = [Counter(strata[i] for i in group).most_common(1)[0][0] for group in members]
    shuffled = np.random.default_rng(seed).permutation(len(members))
    part, behind, target = np.zeros(len(rows), dtype=np.int64), np.zeros(len(shares)), np.asarray(shares)
    previous = None
    for number in sorted(shuffled, key=lambda number: stratum[number]):
        if stratum[number] != previous and np.abs(behind).max() > 1:
            behind = behind.clip(-1, 1)
            behind -= target * behind.sum()  # what is owed to all parts together is nothing
        previous = stratum[number]
        behind += target * len(members[number])
        chosen = int(np.argmax(behind))
        behind[chosen] -= len(members[number])
        part[members[number]] = chosen
    return part
