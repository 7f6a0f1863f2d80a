"""Labelled texts as numbers: for classification (a label each), multi-label (any number) and regression (a number).

Axes:  N texts   K labels
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from data.files import InputError, shown
from data.readers import Row
from data.special_tokens import special_tokens
from data.tokens import Tokens, encode

MOST_LABELS = 10_000  # beyond it, the label column is probably the wrong one


@dataclass(frozen=True)
class Outputs:
    """Meaning of a head's outputs; kept with every checkpoint."""

    labels: tuple[str, ...] = ()  # one per output, in order; none for a regression
    mean: float = 0.0  # of the training targets of a regression, which is trained on (target - mean) / sd
    sd: float = 1.0


@dataclass(frozen=True)
class Labelling:
    """Spelling of the labels in the files."""

    separator: str = "|"  # between several of them in CSV and TSV; JSONL has lists
    names: Mapping[str, str] | None = None  # {as written: as shown}


def _label(value: object, row: Row, labelling: Labelling) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    elif isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{row.where}: the label is {shown(value)}, expected a text or a whole number")
    return (labelling.names or {}).get(value.strip(), value.strip())


def labels_of(row: Row, task: str, labelling: Labelling) -> tuple[str, ...]:
    """The labels of one text: one for classification, any number for multi_label."""
    if task == "classification":
        return (_label(row.label, row, labelling),)
    values = row.label
    if isinstance(values, str):
        values = [value for value in values.split(labelling.separator) if value.strip()]
    if not isinstance(values, list):
        raise InputError(f"{row.where}: the label is {shown(values)}, expected a list of labels")
    return tuple(dict.fromkeys(_label(value, row, labelling) for value in values))


def number_of(row: Row) -> float:
    """The target of a regression."""
    try:
        number = float(row.label) if isinstance(row.label, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(row.label, bool) or "_" in str(row.label) or not abs(number) < 1e15:
        raise InputError(f"{row.where}: the target is {shown(row.label)}, expected a number (below 1e15)")
    return number


def learn_labels(task: str, rows: Sequence[Row], labelling: Labelling) -> Outputs:
    """Collect the labels of the rows in alphabetical order, or in numerical order if all are whole numbers.

    The order is that of the labels in the files; names to show do not change it. So of "0" and "1" the second is always
    "1". Raises InputError where there is nothing to tell apart.
    """
    plain = Labelling(labelling.separator)
    labels = {label for row in rows for label in labels_of(row, task, plain)}
    if not labels:
        raise InputError(f"{rows[0].where}: no training text has a label")
    if len(labels) < 2 and task == "classification":
        raise InputError(f"{rows[0].where}: every training text has the label {shown(next(iter(labels)))}")
    if len(labels) > MOST_LABELS:
        raise InputError(f"{rows[0].where}: {len(labels):,} different labels; is data.label the right column?")
    whole = all(label.isdecimal() and len(label) < 16 for label in labels)
    ordered = sorted(labels, key=(lambda label: (int(label), label)) if whole else None)
    names = labelling.names or {}
    for label in names:
        if label not in labels:
            raise InputError(f"data.label_names: no text has the label {shown(label)}")
    shown_as: dict[str, str] = {}
    for label in ordered:
        name = names.get(label, label)
        if not name.strip() or name in shown_as:
            problem = f"is that of {shown(shown_as[name])} too" if name in shown_as else "is empty"
            raise InputError(f"data.label_names: the name {shown(name)} of {shown(label)} {problem}")
        shown_as[name] = label
    return Outputs(labels=tuple(shown_as))


def learn_scale(rows: Sequence[Row]) -> Outputs:
    """Mean and standard deviation of a regression's training targets. Raises InputError where fp32 could not tell them
    apart."""
    numbers = np.array([number_of(row) for row in rows])
    if numbers.min() == numbers.max():
        raise InputError(f"{rows[0].where}: every training target is {numbers[0]:g}; there is nothing to learn")
    if numbers.std() < 1e-30:
        raise InputError(f"{rows[0].where}: the training targets differ by less than 1e-30; use a larger unit")
    return Outputs(mean=float(numbers.mean()), sd=float(numbers.std()))


def targets(task: str, rows: Sequence[Row], outputs: Outputs, labelling: Labelling) -> np.ndarray:
    """classification: int64 [N], the label's number; multi_label: float32 [N, K], 1 where it has the label; regression:
    float32 [N], standardised. Raises InputError naming the line of a label that training did not have."""
    if task == "regression":
        standardised = (np.array([number_of(row) for row in rows]) - outputs.mean) / outputs.sd
        far = int(np.abs(standardised).argmax())
        if abs(standardised[far]) > 1e15:  # its square must fit fp32
            given = shown(rows[far].label)
            raise InputError(f"{rows[far].where}: the target {given} is far beyond all training targets")
        return standardised.astype(np.float32)
    number = {label: i for i, label in enumerate(outputs.labels)}
    result = np.zeros((len(rows), len(number)), dtype=np.float32)
    for i, row in enumerate(rows):
        for label in labels_of(row, task, labelling):
            if label not in number:
                known = ", ".join(map(shown, outputs.labels[:5])) + (", ..." if len(number) > 5 else "")
                raise InputError(f"{row.where}: the label {shown(label)} is not one of the training files' ({known})")
            result[i, number[label]] = 1
    return result.argmax(1) if task == "classification" else result


def balanced_weights(target: np.ndarray, classes: int, cap: float | None = None) -> np.ndarray:
    """The weight of each class [K], n / (classes x n of the class), but at most `cap`: as scikit-learn's "balanced", so
    that all classes count alike and the mean over the examples is 1 (less with a cap).

    80 and 20 examples: 0.625 and 2.5; with a cap of 2: 0.625 and 2.
    """
    counts = np.maximum(1, np.bincount(target, minlength=classes))  # a class may be in the development set only
    return np.minimum(len(target) / (classes * counts), math.inf if cap is None else cap)


# ---- texts -----------------------------------------------------------------------------------------------------------


def cut_pair(first: int, second: int, room: int) -> tuple[int, int]:
    """Numbers of tokens that are kept of each text of a pair: the longer one loses its end first, as in the original
    BERT. 10 and 4 in a room of 12: 8 and 4; 10 and 9 in one of 13: 7 and 6."""
    kept = min(first, max(room - second, room - room // 2))
    return kept, min(second, room - kept)


def tokenize(
    rows: Sequence[Row], tokenizer: Tokenizer, max_length: int, labels: dict[str, np.ndarray] | None = None
) -> tuple[Tokens, int]:
    """[CLS] text [SEP], or [CLS] text [SEP] pair [SEP], cut to max_length; and how many had to be cut. (Or with the
    special tokens that the tokenizer has instead.)"""
    special = special_tokens(tokenizer)
    cls, between, sep = special.cls, special.between, special.sep
    firsts = [e.ids for e in encode([row.text for row in rows], tokenizer)]
    seconds = [e.ids for e in encode([row.pair or "" for row in rows], tokenizer)]
    pieces, second, cut = [], [], 0
    for row, a, b in zip(rows, firsts, seconds, strict=True):
        paired = row.pair is not None
        kept_a, kept_b = cut_pair(len(a), len(b), max_length - 2 - paired * len(between))
        cut += kept_a + kept_b < len(a) + len(b)
        pieces.append([cls, *a[:kept_a], *([*between, *b[:kept_b]] if paired else []), sep])
        second.append(kept_a + 1 + (len(between) if paired else 1))
    tokens, begin = np.concatenate(pieces).astype(np.int32), np.cumsum([0, *map(len, pieces)])
    return Tokens(tokens, begin, np.array(second), special.pad, labels or {}), cut
