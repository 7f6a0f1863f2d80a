"""The threshold of one of two labels that serves a wanted precision or recall, and what becomes of the other."""

from dataclasses import dataclass

import numpy as np

from data.files import InputError, shown
from experiments.inference.trained import Trained


@dataclass(frozen=True)
class Wanted:
    """What --at asks for."""

    metric: str  # precision or recall
    least: float  # in percent
    label: str | None  # None: the second of the two


def parse_wanted(at: str | None, label: str | None) -> Wanted | None:
    """ "precision=90" -> at least 90 percent of it. Raises InputError for anything else."""
    if at is None:
        if label is not None:
            raise InputError("--label: is for --at; give that too, for example --at precision=90")
        return None
    metric, _, value = at.partition("=")
    try:
        least = float(value)
    except ValueError:
        least = 0.0
    if metric not in ("precision", "recall") or not 1 < least <= 100:
        raise InputError(f"--at {at}: expected precision or recall in percent, above 1: --at precision=90")
    return Wanted(metric, least, label)


def wanted_label(trained: Trained, wanted: Wanted) -> int:
    """The number of the label that is meant. Raises InputError where the run has not two, or none of that name."""
    labels = trained.outputs.labels
    if trained.task.task != "classification" or len(labels) != 2:
        found = f"has {len(labels)} labels" if trained.task.task == "classification" else f"is {trained.task.task}"
        raise InputError(f"--at: is for a classification with two labels; {trained.folder} {found}")
    if wanted.label is not None and wanted.label not in labels:
        raise InputError(f"--label: {shown(wanted.label)} is not one of {', '.join(map(shown, labels))}")
    return 1 if wanted.label is None else labels.index(wanted.label)


def operating_point(p: np.ndarray, has: np.ndarray, wanted: Wanted) -> dict:
    """Of all thresholds at which the wanted metric is high enough, the one with the most of the other. Where none is,
    that with the most of the wanted one, and "reached" is false. p: the label's probability in each text [N], which has
    it or not [N].

    Probabilities 0.9 0.8 0.7 0.6, of which the second text has not the label: a precision of 75 is best served by the
    threshold 0.6, where recall is 100; one of 80 by 0.9, where recall is 33.
    """
    if not has.any():
        raise InputError("--at: no text of the file has that label")
    order = np.argsort(-p, kind="stable")
    last = np.append(np.diff(p[order]) != 0, True)  # of several texts with one probability
    said = np.flatnonzero(last) + 1
    hits = np.cumsum(has[order])[last]
    found = {"precision": 100 * hits / said, "recall": 100 * hits / has.sum()}
    first, other = found[wanted.metric], found["recall" if wanted.metric == "precision" else "precision"]
    enough = np.flatnonzero(first >= wanted.least - 1e-9)
    best = max(enough, key=lambda i: (other[i], first[i]), default=int(np.lexsort((other, first))[-1]))
    return {
        "wanted": {wanted.metric: wanted.least},
        "reached": len(enough) > 0,
        "threshold": float(p[order][last][best]),
        **{name: float(values[best]) for name, values in found.items()},
        "said": int(said[best]),
        "have_it": int(has.sum()),
    }
