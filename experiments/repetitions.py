"""Runs that repeat one another: the same settings and data, but for seed and fold. Their figures are averaged.

Settings and data are a run's identity. The same identity twice is one run, whatever its folders are called.
"""

import re
import statistics
from typing import Any

REPEATED = re.compile(r"seed|(.*\.)?data\.fold")  # settings in which repetitions differ
UNTOLD = re.compile(r"(phases\.\d+\.)?name|runtime\..*")  # names, and how and where a run was run


def flat(spec: dict, path: str = "") -> dict:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}; lists of objects by position, "phases.0.epochs"; other lists stay."""
    found: dict[str, object] = {}
    for key, value in spec.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def settings_of(spec: dict) -> dict:
    """The settings of a run by their dotted names, without those that tell repetitions apart, name the run and its
    phases, or say how and where it was run."""
    return {key: v for key, v in flat(spec).items() if not (REPEATED.fullmatch(key) or UNTOLD.fullmatch(key))}


def identity_of(spec: dict, origin: object) -> str:
    """Text that is equal for two runs of the same settings, seed and fold on the same data and weights. origin: their
    fingerprints."""
    told = {key: value for key, value in flat(spec).items() if not UNTOLD.fullmatch(key)}
    return repr((sorted(told.items()), origin))


def distinct(runs: list, identities: list[str], names: list[str]) -> tuple[list, list[str]]:
    """The first run of each identity, and a remark on each of the others."""
    first: dict[str, int] = {}
    remarks = []
    for i, identity in enumerate(identities):
        if first.setdefault(identity, i) != i:
            remarks.append(f"{names[i]} repeats {names[first[identity]]} (settings, seed and data) and does not count")
    return [runs[i] for i in first.values()], remarks


def spread(values: list[float]) -> dict:
    """mean, sd (of the sample; null for one value) and n"""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def average_repetitions(scores: list[tuple[dict, dict, dict]]) -> tuple[list[dict], list[str]]:
    """Scores averaged over repetitions: {"runs": their names, metric: {"mean", "sd", "n"}, ...} for each set of two or
    more; and a remark on each run that does not count: it is there twice, or has not ended. scores: of each run, the
    result of `eval.py score`, its settings, and its data and weights by their fingerprints."""
    remarks = [f"{result['run']} has not ended; it is in no average" for result, _, run in scores if not run["ended"]]
    ended = [each for each in scores if each[2]["ended"]]
    identities = [identity_of(spec, origin) for _, spec, origin in ended]
    runs, repeated = distinct(ended, identities, [result["run"] for result, _, _ in ended])
    groups: dict[str, list[dict]] = {}
    for result, spec, origin in runs:
        groups.setdefault(repr((settings_of(spec), origin)), []).append(result)
    averaged: list[dict[str, Any]] = []
    for members in groups.values():
        if len(members) > 1:
            shared = [key for key in members[0] if all(isinstance(m.get(key), float) for m in members)]
            figures = {key: spread([m[key] for m in members]) for key in shared}
            averaged.append({"runs": [m["run"] for m in members], **figures})
    return averaged, repeated + remarks
