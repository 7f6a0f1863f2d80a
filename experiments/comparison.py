"""Runs beside each other: in what they differ, which is better, and whether that is more than noise."""

import json
import statistics
from pathlib import Path

import numpy as np

from experiments.significance import paired_bootstrap, welch
from experiments.spec import direction

REPEATED = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one another
NOT_SETTINGS = (*REPEATED, "name", "runtime.checkpoint_seconds", "runtime.checkpoint_steps")
SCORES = "dev_scores.safetensors"  # in best/: the score of each development example, by metric
LIKELY = 0.05  # a p below it is called a difference


def flat(spec: dict, path: str = "") -> dict:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}; lists of objects by position, "phases.0.epochs"; other lists stay."""
    found = {}
    for key, value in spec.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            value = {str(i): item for i, item in enumerate(value)}
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found


def settings_of(spec: dict) -> dict:
    """The settings of a run by their dotted names, without those that only tell repetitions apart. tasks: what it
    trains."""
    found = {
        key: value for key, value in flat(spec).items() if key not in NOT_SETTINGS and not key.endswith(".data.fold")
    }
    names = [f"{name} ({task['task']})" for name, task in spec.get("tasks", {}).items()]
    return found | {"tasks": " + ".join(names) or spec["model"]["task"]}


def spread(values: list[float]) -> dict:
    """mean, sd (of the sample; null for one value) and n"""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def over_seeds(results: list[dict], specs: list[dict]) -> list[dict]:
    """What `eval.py score` found, averaged over runs that share all but seed and fold: for each such set of two or more
    {"runs": their names, metric: {"mean", "sd", "n"}, ...}. specs: that of each result's run."""
    groups: dict[str, list[dict]] = {}
    for result, spec in zip(results, specs, strict=True):
        groups.setdefault(repr(settings_of(spec)), []).append(result)
    repeated = [members for members in groups.values() if len(members) > 1]
    return [
        {"runs": [m["run"] for m in members]}
        | {
            key: spread([m[key] for m in members])
            for key in members[0]
            if all(isinstance(m.get(key), float) for m in members)
        }
        for members in repeated
    ]


# ---- groups of repetitions -------------------------------------------------------------------------------------------


def group(members: list[dict], settings: dict) -> dict:
    """One row: runs that share everything but seed and fold. members: their summaries (analysis.summarise)."""
    metric = members[0]["metric"]
    names = [name for name in members[0]["final_minus_best"] if all(m["best"].get(name) is not None for m in members)]
    stable = [m["stability"] for m in members if m["stability"]]
    verdicts = [m["generalisation"]["verdict"] for m in members if m["generalisation"]]
    return {
        "settings": settings,
        "runs": [m["name"] for m in members],
        "seeds": [m["seed"] for m in members],
        "unfinished": [m["name"] for m in members if m["status"] not in ("finished", "stopped early")],
        "metric": metric,
        "metrics": {name: spread([m["best"][name] for m in members]) for name in names},
        "final_minus_best": spread([m["final_minus_best"][metric] or 0.0 for m in members]),
        "best_epoch": spread([m["best"]["epoch"] for m in members]),
        "by_epoch": by_epoch(members, metric),
        "verdicts": dict.fromkeys(verdicts, 0) | {v: verdicts.count(v) for v in verdicts},
        "per_100_steps": spread([s["per_100_steps"] for s in stable]) if stable else None,
        "volatility": spread([s["volatility"] for s in stable]) if stable else None,
        "spikes": sum(s["spikes"] for s in stable) if stable else None,
        "nonfinite": sum(s["nonfinite"] for s in stable) if stable else None,
        "train_seconds": spread([m["seconds"].get("train", 0.0) for m in members]),
        "tokens_per_second": spread([m["throughput"]["tokens_per_second"] or 0.0 for m in members]),
        "trainable": max((p["parameters"] for m in members for p in m["phases"]), default=None),
        "peak_memory_mb": max(m["peak_memory_mb"] or 0 for m in members),
        "best_bytes": max((m["best_bytes"] or 0 for m in members), default=0),
    }


def by_epoch(members: list[dict], metric: str) -> list[dict]:
    """The metric at the last evaluation of each epoch: mean, sd and n over the runs, as far as all of them went. fell:
    how much worse the mean is than an epoch before, null where it is not. interval, to compare that with: half of the
    95 % interval that the size of the development set leaves, null where it is not known."""
    found: list[dict] = []
    known = [m["coverage"] and m["coverage"]["intervals"].get(metric) for m in members]
    half = statistics.fmean([(i["high"] - i["low"]) / 2 for i in known]) if all(known) else None
    for rows in zip(*(m["epochs"] for m in members), strict=False):
        values = [row["evaluation"] and row["evaluation"].get(metric) for row in rows]
        if any(value is None for value in values):
            break
        now = spread(values)
        change = direction(metric) * (now["mean"] - found[-1]["mean"]) if found else 0.0
        found.append({**now, "fell": -change if change < 0 else None, "interval": half})
    return found


def compare(summaries: list[dict]) -> dict:
    """Runs beside each other, a row for each set of settings over its seeds and folds, ranked by the mean of
    eval.metric at the runs' best evaluations, the best first. With different metrics, in the order given.

    differing: the settings in which the runs differ. leaders: the row that is best in each column. differences: each
    row against the first, see `against`. effects: where two rows differ in exactly one setting. without: runs that
    have no evaluation yet.
    """
    specs = [settings_of(s["spec"]) for s in summaries]
    if (
        len({spec.get("tasks") for spec in specs}) > 1
    ):  # other tasks have other settings altogether: their names must do
        apart = ("tasks.", "data.", "loss.", "model.task", "model.pooling", "eval.metric")
        specs = [{key: value for key, value in spec.items() if not key.startswith(apart)} for spec in specs]
    keys = dict.fromkeys(key for spec in specs for key in spec)
    differing = [key for key in keys if len({repr(spec.get(key)) for spec in specs}) > 1]
    groups: dict[str, tuple[dict, list[dict]]] = {}
    for summary, spec in zip(summaries, specs, strict=True):
        if summary["best"]:
            settings = {key: spec.get(key) for key in differing}
            groups.setdefault(repr(settings), (settings, []))[1].append(summary)
    pairs = [(group(members, settings), members) for settings, members in groups.values()]
    metrics = {row["metric"] for row, _ in pairs}
    if len(metrics) == 1:
        (metric,) = metrics
        pairs.sort(key=lambda pair: -direction(metric) * pair[0]["metrics"][metric]["mean"])
    rows = [row for row, _ in pairs]
    comparable = len(metrics) == 1
    return {
        "metric": next(iter(metrics)) if comparable else None,
        "differing": differing,
        "rows": rows,
        "leaders": leaders(rows),
        "differences": [against(pairs[0], pair) for pair in pairs[1:]] if comparable else [],
        "effects": effects(rows) if comparable else [],
        "without": [s["name"] for s in summaries if not s["best"]],
    }


def leaders(rows: list[dict]) -> dict[str, int]:
    """{column: the number of the row that is best in it}; not for columns in which all are equal."""
    values = {
        "per_100_steps": [row["per_100_steps"] and -row["per_100_steps"]["mean"] for row in rows],
        "volatility": [row["volatility"] and -row["volatility"]["mean"] for row in rows],
        "train_seconds": [-row["train_seconds"]["mean"] for row in rows],
        "peak_memory_mb": [-row["peak_memory_mb"] for row in rows],
    }
    for name in {name for row in rows for name in row["metrics"]}:
        values[name] = [name in r["metrics"] and direction(name) * r["metrics"][name]["mean"] for r in rows]
    found = {}
    for name, column in values.items():
        known = {i: value for i, value in enumerate(column) if value is not None and value is not False}
        if len(set(known.values())) > 1:
            found[name] = max(known, key=known.get)
    return found


# ---- two rows against each other -------------------------------------------------------------------------------------


def against(first: tuple[dict, list[dict]], other: tuple[dict, list[dict]]) -> dict:
    """What another row gains and costs against the first: the difference of the metric, the ratios of oscillations and
    of time, and whether the difference is more than noise.

    tests: a paired bootstrap over the development examples, of each row's scores averaged over its runs, where all of
    them kept theirs (noise of the examples); Welch's t over the runs, where both rows have two or more (noise of the
    seeds). distinguishable: all that could be made have p < 0.05; null where none could.
    """
    (a, members_a), (b, members_b) = first, other
    metric = a["metric"]
    tests = []
    scores = [mean_scores(members, metric) for members in (members_a, members_b)]
    if all(s is not None for s in scores) and len(scores[0]) == len(scores[1]):
        tests.append({"test": "paired bootstrap", "p": paired_bootstrap(*scores), "n": len(scores[0])})
    samples = [[m["best"][metric] for m in members] for members in (members_a, members_b)]
    if all(len(values) > 1 for values in samples):
        tests.append({"test": "Welch's t", "p": welch(*samples), "n": min(map(len, samples))})
    steady = a["per_100_steps"] and b["per_100_steps"] and a["per_100_steps"]["mean"]
    seconds = a["train_seconds"]["mean"]
    return {
        "first": a["runs"],
        "other": b["runs"],
        "difference": b["metrics"][metric]["mean"] - a["metrics"][metric]["mean"],
        "tests": tests,
        "distinguishable": all(test["p"] < LIKELY for test in tests) if tests else None,
        "oscillations_ratio": b["per_100_steps"]["mean"] / steady if steady else None,
        "time_ratio": b["train_seconds"]["mean"] / seconds if seconds else None,
    }


def mean_scores(members: list[dict], metric: str) -> np.ndarray | None:
    """The score of each development example at the best evaluation, averaged over runs; None where one of them has not
    kept its scores, or has judged other examples."""
    kept = [example_scores(member, metric) for member in members]
    if any(scores is None or len(scores) != len(kept[0]) for scores in kept):
        return None
    return np.mean(kept, axis=0)


def example_scores(summary: dict, metric: str) -> np.ndarray | None:
    """The score of each development example at a run's best evaluation, None where it has not kept them."""
    from safetensors.numpy import load_file

    path = Path(summary["folder"]) / "best" / SCORES
    try:
        return load_file(path).get(metric) if path.is_file() else None
    except Exception:  # safetensors raises its own kinds; a file that cannot be read is as good as none
        return None


def effects(rows: list[dict]) -> list[dict]:
    """Where two rows differ in exactly one setting: that setting, both values, and what changed with it."""
    found = []
    for i, a in enumerate(rows):
        for b in rows[i + 1 :]:
            keys = [key for key in a["settings"] if repr(a["settings"][key]) != repr(b["settings"][key])]
            if len(keys) == 1:
                metric = a["metric"]
                change = a["metrics"][metric]["mean"] - b["metrics"][metric]["mean"]
                values = [json.dumps(row["settings"][keys[0]]) for row in (b, a)]
                found.append({"setting": keys[0], "from": values[0], "to": values[1], "change": change})
    return found
