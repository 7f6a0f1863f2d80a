"""Runs that repeat one another: the same settings, but for seed and fold. Their figures are averaged."""

import re
import statistics

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


def spread(values: list[float]) -> dict:
    """mean, sd (of the sample; null for one value) and n"""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def average_repetitions(results: list[dict], specs: list[dict]) -> list[dict]:
    """Scores averaged over repetitions: {"runs": their names, metric: {"mean", "sd", "n"}, ...} for each set of two or
    more. results: of `eval.py score`; specs: that of each result's run."""
    groups: dict[str, list[dict]] = {}
    for result, spec in zip(results, specs, strict=True):
        groups.setdefault(repr(settings_of(spec)), []).append(result)
    averaged = []
    for members in groups.values():
        if len(members) > 1:
            shared = [key for key in members[0] if all(isinstance(m.get(key), float) for m in members)]
            figures = {key: spread([m[key] for m in members]) for key in shared}
            averaged.append({"runs": [m["run"] for m in members], **figures})
    return averaged
