"""Batches of examples, and their order: a pure function of (lengths, seed, epoch).

There is no state to save. A resumed run asks for the same epoch again and skips the batches it has done.
"""

import bisect
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# (widest batch, multiple): batches up to 64 tokens wide are padded to a multiple of 4, wider ones to one of 8. The
# kernels of a CPU are faster on such widths, and a larger multiple pads too much (experiments/LOG.md, "The first
# hour" and "Padding of short texts").
PAD_MULTIPLES = ((64, 4), (math.inf, 8))
# Examples are sorted by length within pools of this many batches: small enough that batches stay random, large enough
# that little padding remains.
BATCHES_PER_POOL = 50


def padded_width(longest: int) -> int:
    """The width of a batch whose longest example has `longest` tokens: 13 -> 16, 17 -> 20, 65 -> 72."""
    multiple = next(multiple for limit, multiple in PAD_MULTIPLES if longest <= limit)
    return -(-longest // multiple) * multiple


def cut_batches(order: np.ndarray, lengths: np.ndarray, batch_size: int | None, batch_tokens: int) -> list[np.ndarray]:
    """Cut `order` (examples of neighbouring lengths) into batches, in order.

    batch_size examples each, or, where that is None, as many as fit into batch_tokens once padded to the longest
    (at least one).
    """
    batches, begin, longest = [], 0, 0
    for end, example in enumerate(order):
        longest = max(longest, int(lengths[example]))
        count = end - begin + 1
        full = count > batch_size if batch_size else count > 1 and count * padded_width(longest) > batch_tokens
        if full:
            batches.append(order[begin:end])
            begin, longest = end, int(lengths[example])
    return [*batches, order[begin:]] if begin < len(order) else batches


@dataclass(frozen=True)
class Part:
    """The training examples of one task, and how they are batched."""

    lengths: np.ndarray  # tokens of each example [N]
    batch_tokens: int
    batch_size: int | None = None


def epoch_batches(part: Part, seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one training epoch: each example exactly once, neighbours of similar length, anew each epoch.

    Shuffle everything; within each pool of about 50 batches sort by length and cut; shuffle the batches of all pools.
    Example lengths 9 3 8 2 7 4, batches of two, one pool: sorted 2 3 4 7 8 9 -> [2 3] [4 7] [8 9] -> shuffled.
    """
    random, lengths = np.random.default_rng([seed, epoch]), part.lengths
    order = random.permutation(len(lengths))
    per_batch = part.batch_size or max(1, part.batch_tokens // max(1, int(lengths.mean())))
    pool = per_batch * BATCHES_PER_POOL
    batches = []
    for begin in range(0, len(order), pool):
        members = order[begin : begin + pool]
        members = members[np.argsort(lengths[members], kind="stable")]
        batches += cut_batches(members, lengths, part.batch_size, part.batch_tokens)
    return [batches[i] for i in random.permutation(len(batches))]


def mixed_batches(parts: Sequence[Part], seed: int, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch over several tasks, in one random order. Each batch holds examples of one task.

    Examples are numbered through: parts of 100 and 50 examples are 0 to 99 and 100 to 149.
    """
    if len(parts) == 1:
        return epoch_batches(parts[0], seed, epoch)
    batches, first = [], 0
    for part in parts:
        batches += [rows + first for rows in epoch_batches(part, seed, epoch)]
        first += len(part.lengths)
    order = np.random.default_rng([seed, epoch, len(parts)]).permutation(len(batches))
    return [batches[i] for i in order]


def eval_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Every example once, sorted by length: the least padding. Results are put back in place by index."""
    return cut_batches(np.argsort(lengths, kind="stable"), lengths, None, batch_tokens)


class TrainingOrder:
    """All optimizer steps of a run, as a sequence: `order[position]` is the list of batches of that step.

    A step takes `accumulate` consecutive batches of one epoch; the last step of an epoch may take fewer. Positions
    count across epochs: with 10 batches an epoch and accumulate 4, position 2 is the short step of batches 8 and 9,
    position 3 opens the second epoch.
    """

    def __init__(self, parts: Sequence[Part], epochs: float, seed: int, accumulate: int = 1):
        self._accumulate = accumulate
        self._epoch = functools.lru_cache(maxsize=1)(functools.partial(mixed_batches, parts, seed))
        # A whole number may come out of 3 x 0.1 + 2.7 as 3.0000000000000004; that is no fourth epoch.
        whole = math.ceil(round(epochs, 9))
        steps = [math.ceil(len(self._epoch(epoch)) / accumulate) for epoch in range(whole)]
        # Position where each epoch begins; one more epoch, of one step, follows, so that the end too lies in an epoch.
        self._first = [0, *itertools.accumulate([*steps, 1])]
        self._length = self.position(epochs)

    def position(self, epochs: float) -> int:
        """The position after this many epochs: 1.5 -> in the middle of the second epoch."""
        whole = min(int(round(epochs, 9)), len(self._first) - 2)
        return self._first[whole] + round((epochs - whole) * (self._first[whole + 1] - self._first[whole]))

    def epochs_at(self, position: int) -> float:
        """The (fractional) epochs done when `position` steps are."""
        epoch = bisect.bisect_right(self._first, position) - 1
        return epoch + (position - self._first[epoch]) / (self._first[epoch + 1] - self._first[epoch])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> list[np.ndarray]:
        if not 0 <= position < self._length:
            raise IndexError(position)
        epoch = bisect.bisect_right(self._first, position) - 1
        begin = (position - self._first[epoch]) * self._accumulate
        return self._epoch(epoch)[begin : begin + self._accumulate]
