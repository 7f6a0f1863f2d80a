"""Is one row of runs better than another, or is that noise? Tests over development examples, and over runs."""

from pathlib import Path

import numpy as np

from data.statistics import paired_bootstrap, welch
from experiments.records import SCORES

LIKELY = 0.05  # a p below it is called a difference
ENOUGH_RUNS = 3  # in each row, to say that settings do not differ, and not only models
# What tells development sets of the same files apart.
SPLITTING = ("dev", "dev_fraction", "folds", "fold", "dev_limit", "text", "pair", "label")


def against(first: tuple[dict, list[dict]], other: tuple[dict, list[dict]]) -> dict:
    """What another row gains and costs against the first: the difference of the metric, the ratios of oscillations and
    of time, and whether the difference is more than noise. Each row with its runs' summaries.

    tests: a paired bootstrap over the development examples, of each row's scores averaged over its seeds (do these
    models differ on such examples?); Welch's t over the runs, where both rows have two or more (would other seeds
    differ as well?).

    models_differ    the bootstrap's p < 0.05; null where it cannot be made. untested says why.
    settings_differ  whether every test has p < 0.05, Welch's among them. null where that fails with fewer than three
                     runs in a row: they say too little of other seeds to deny a difference, too.
    """
    (a, members_a), (b, members_b) = first, other
    metric, tests, untested = a["metric"], [], None
    scores = paired_scores(members_a, members_b, metric)
    if isinstance(scores, str):
        untested = scores
    else:
        tests.append({"test": "paired bootstrap", "p": paired_bootstrap(*scores), "n": len(scores[0])})
    samples = [[m["best"][metric] for m in members] for members in (members_a, members_b)]
    runs = min(map(len, samples))
    if runs > 1:
        tests.append({"test": "Welch's t", "p": welch(*samples), "n": runs})
    differ = all(test["p"] < LIKELY for test in tests)
    alike = a["records_every"] and b["records_every"] and a["records_every"]["mean"] == b["records_every"]["mean"]
    steady = alike and a["per_100_steps"]["mean"]
    seconds = a["train_seconds"]["mean"]
    return {
        "first": a["runs"],
        "other": b["runs"],
        "difference": b["metrics"][metric]["mean"] - a["metrics"][metric]["mean"],
        "tests": tests,
        "models_differ": None if untested else tests[0]["p"] < LIKELY,
        "settings_differ": differ if runs >= ENOUGH_RUNS or (runs > 1 and differ) else None,
        "untested": untested,
        "oscillations_ratio": b["per_100_steps"]["mean"] / steady if steady else None,
        "time_ratio": b["train_seconds"]["mean"] / seconds if seconds else None,
    }


def paired_scores(ours: list[dict], theirs: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray] | str:
    """The score of each development example in two rows of runs, averaged over the runs that were judged on it (folds
    have different ones, and follow one another). Or why there are none."""
    rows, kept = [], metric.rpartition(".")[2] in KEPT
    for members in (ours, theirs):
        by_set: dict[str, list[np.ndarray]] = {}
        for member in members:
            scores = example_scores(member, metric)
            if scores is None:
                return "its scores of the examples are not there" if kept else f"{metric} is no mean over examples"
            by_set.setdefault(development_set(member), []).append(scores)
        rows.append({key: by_set[key] for key in sorted(by_set)})
    sizes = [[(key, len(scores)) for key, each in row.items() for scores in each] for row in rows]
    if len({frozenset(each) for each in sizes}) > 1:
        return "other development sets"
    first, second = (np.concatenate([np.mean(each, axis=0) for each in row.values()]) for row in rows)
    return first, second


# The metrics that are means over examples, whose scores train.py keeps.
KEPT = ("exact", "f1", "best_exact", "best_f1", "accuracy", "mae")


def development_set(summary: dict) -> str:
    """By what two development sets are known to be the same examples in the same order."""
    spec = summary["spec"]
    tasks = spec.get("tasks") or {"": spec}
    parts = {name: {key: task.get("data", {}).get(key) for key in SPLITTING} for name, task in tasks.items()}
    files = {split: digest for split, digest in summary["fingerprints"].items() if split.endswith("dev")}
    return repr((sorted(files.items()), sorted(parts.items())))


def example_scores(summary: dict, metric: str) -> np.ndarray | None:
    """The score of each development example at a run's best evaluation, None where there are none, or not those of the
    evaluation that the diary tells of."""
    from safetensors.numpy import load_file

    path = Path(summary["folder"]) / "best" / SCORES
    try:
        scores = load_file(path).get(metric) if path.is_file() else None
    except Exception:  # safetensors raises its own kinds; a file that cannot be read is as good as none
        return None
    told = summary["best"].get(metric)
    return scores if scores is not None and told is not None and abs(scores.mean() - told) < 1e-3 else None
