"""Several runs beside each other, from their figures: rows of runs that repeat one another, their ranking, and tests of
whether a row is better than the first or whether that is noise."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data.statistics import paired_bootstrap, welch
from experiments.config.metrics import direction, metric_of
from experiments.records import SCORES, look_up
from experiments.repetitions import distinct, flat, identity_of, settings_of, spread
from experiments.report.headline import confounders, labels, of_runs
from experiments.report.texts import shown_metrics

ENDED = ("finished", "stopped early")
LIKELY = 0.05  # a p below it is called a difference
ENOUGH_RUNS = 3  # in each row, to say that settings do not differ, and not only models
SPLITTING = ("dev", "dev_fraction", "folds", "fold", "dev_limit", "text", "pair", "label")  # choose dev examples


def compare(summaries: list[dict]) -> dict:
    """The figures of several runs, given those of each: a row for each set of settings and data, ranked by the mean of
    eval.metric at the runs' best evaluations, rows that may not lead last. With different metrics, as given."""
    names, groups = grouped(summaries)
    metrics = {members[0]["metric"] for _, members in groups}
    metric = metrics.pop() if len(metrics) == 1 else None
    if metric:
        sign = direction(metric)
        groups.sort(key=lambda group: (not may_lead(counted(group[1])), -sign * score(counted(group[1]))))
    members = [counted(found) for _, found in groups]
    rows = [{"row": i, **row_of(settings, members[i])} for i, (settings, _) in enumerate(groups)]
    rows = [row | {"label": label} for row, label in zip(rows, labels(rows), strict=True)]
    tested = [i for i, each in enumerate(members) if may_lead(each) and metric]
    found = {
        "metric": metric,
        "differing": names,
        "rows": rows,
        "leaders": leaders(rows, metric),
        "differences": [{"row": i, **against(members[tested[0]], members[i])} for i in tested[1:]],
        "remarks": [*confounders(rows), *remarks(summaries, groups, rows)],
    }
    return {"headline": of_runs(found), **found}


def counted(members: list[dict]) -> list[dict]:
    """The runs of a row that count: those that have ended; all, where none has. One that is there twice counts once."""
    return told_apart(members)[0]


def told_apart(members: list[dict]) -> tuple[list[dict], list[str]]:
    """The runs of a row that count, and a remark on each that is one of them again."""
    found = [each for each in members if each["status"] in ENDED] or members
    identities = [
        identity_of(each["spec"], [each["fingerprints"], each["pretrained_sha256"], each["start_sha256"]])
        for each in found
    ]
    return distinct(found, identities, [each["folder"] for each in found])


def is_sound(summary: dict) -> bool:
    return look_up(summary, "generalisation.unsound") is None


def may_lead(members: list[dict]) -> bool:
    """Whether a row may lead in something: its runs have ended, and one of them is sound. (One of several seeds that
    has learnt nothing is in the row's mean.)"""
    return members[0]["status"] in ENDED and any(map(is_sound, members))


def remarks(summaries: list[dict], groups: list[tuple[dict, list[dict]]], rows: list[dict]) -> Iterator[str]:
    """Lines on what is odd about the set of runs."""
    for row, (_, members) in zip(rows, groups, strict=True):
        if not row["ended"]:
            yield f"row {row['row'] + 1} is of runs that have not ended: it leads in nothing and is not tested"
        elif not row["sound"]:
            yield f"row {row['row'] + 1} has no sound run: it leads in nothing and is not tested"
        yield from (f"{each['name']}: {each['generalisation']['unsound']}" for each in members if not is_sound(each))
        for each in members if row["ended"] else ():
            if each["status"] not in ENDED:
                yield f"{each['name']} is {each['status']} and does not count"
        yield from told_apart(members)[1]
    for each in summaries:
        if not each["best"]:
            yield f"{each['name']} has no evaluation " + ("with a finite loss" if each["evaluations"] else "yet")


# ---- settings --------------------------------------------------------------------------------------------------------


def grouped(summaries: list[dict]) -> tuple[list[str], list[tuple[dict, list[dict]]]]:
    """The settings in which runs differ, and the runs with an evaluation that share them: [(settings, runs)]."""
    specs = [told_settings(each) for each in summaries]
    names = differing(specs)
    groups: dict[str, tuple[dict, list[dict]]] = {}
    for summary, spec in zip(summaries, specs, strict=True):
        if summary["best"]:
            settings = {key: spec.get(key) for key in names}
            groups.setdefault(repr(settings), (settings, []))[1].append(summary)
    return names, list(groups.values())


def told_settings(summary: dict) -> dict:
    """The settings of a run by their dotted names, with its tasks, "qa (span_qa) + mood (classification)", the program
    that trained it, and the first digits of its data's fingerprints."""
    spec = summary["spec"]
    tasks = " + ".join(f"{name} ({task['task']})" for name, task in spec["tasks"].items())
    digests = sorted(flat(summary["fingerprints"]).items())
    fingerprint = " ".join(f"{split} {digest[:8]}" for split, digest in digests if digest)
    told = settings_of(spec) | {"tasks": tasks, "program": summary["program"], "data (fingerprint)": fingerprint}
    told["pretrained (fingerprint)"] = (summary["pretrained_sha256"] or "")[:8]
    # What a run was before it was continued as something else still shows in its numbers: it repeats no other run.
    anyway = any(event.startswith("resumed anyway") for event in summary["events"])
    return told | ({"resumed anyway": summary["folder"]} if anyway else {})


def differing(specs: list[dict]) -> list[str]:
    """The settings in which runs differ. Other tasks have other settings altogether: of those that differ only between
    tasks, the tasks' names must do, and of those of adapters, that a run has no rank."""
    kinds = dict.fromkeys(spec["tasks"] for spec in specs)
    found = ["tasks"] if len(kinds) > 1 else []
    for key in dict.fromkeys(key for spec in specs for key in spec if key != "tasks"):
        among = [spec for spec in specs if spec.get("lora.rank") or not key.startswith("lora.") or key == "lora.rank"]
        known = [{repr(spec.get(key)) for spec in among if spec["tasks"] == kind} for kind in kinds]
        if any(len(each) > 1 for each in known):
            found.append(key)
    return found


# ---- rows ------------------------------------------------------------------------------------------------------------


def over(members: list[dict], path: str | list[str]) -> Any:
    """mean, sd and n of a figure; None where a run has none."""
    found = [look_up(member, path) for member in members]
    return None if None in found else spread(found)


def score(members: list[dict]) -> float:
    """The mean of the deciding metric."""
    return over(members, ["best", "metrics", members[0]["metric"]])["mean"]


def row_of(settings: dict, members: list[dict]) -> dict:
    """The figures of one row of runs."""
    first, metric = members[0], members[0]["metric"]
    metrics = {name: over(members, ["best", "metrics", name]) for name in first["best"]["metrics"]}
    verdicts = Counter(look_up(member, "generalisation.verdict") or "unknown" for member in members)
    row = {
        "runs": [member["name"] for member in members],
        "folders": [member["folder"] for member in members],
        "seeds": [member["seed"] for member in members],
        "ended": first["status"] in ENDED,
        "sound": any(map(is_sound, members)),
        "metric": metric,
        "metrics": {name: value for name, value in metrics.items() if value is not None},
        "settings": settings,
        "scaling": scaling(first["spec"]),
        "epochs": sum(phase["epochs"] for phase in first["spec"].get("phases") or []),
        "steps": first["steps_planned"],
        "by_epoch": by_epoch(members),
        "verdicts": dict(verdicts),
        "trainable": max((phase["parameters"] for each in members for phase in each["phases"]), default=None),
        "train_seconds": over(members, "seconds.train"),
        "tokens_per_second": over(members, "throughput.tokens_per_second"),
    }
    row |= {name: over(members, f"stability.{name}") for name in ("scatter", "records_every")}
    row |= {name: sum(look_up(each, f"stability.{name}") or 0 for each in members) for name in ("spikes", "nonfinite")}
    return row | {name: max(each[name] or 0 for each in members) for name in ("peak_memory_mb", "best_bytes")}


def scaling(spec: dict) -> float | None:
    """What LoRA multiplies its product by; None without adapters."""
    rank, alpha = look_up(spec, "lora.rank"), look_up(spec, "lora.alpha")
    if not rank or not alpha:
        return None
    return alpha / (rank**0.5 if look_up(spec, "lora.rslora") else rank)


def by_epoch(members: list[dict]) -> list[dict]:
    """The deciding metric at the last evaluation of each epoch, as far as all runs went."""
    found = []
    for epochs in zip(*(member["epochs"] for member in members), strict=False):
        now = over(list(epochs), ["evaluation", "metrics", members[0]["metric"]])
        if now is None:
            break
        found.append(now)
    return found


def leaders(rows: list[dict], metric: str | None) -> dict[str, int]:
    """{metric: the number of the row that is best in it}, among those that may lead; not for metrics in which all are
    equal, nor for those of which more is not known to be better."""
    best = {}
    for name in {name for row in rows for name in shown_metrics(row["metrics"], metric)} if metric else ():
        known = [row for row in rows if row["ended"] and row["sound"] and name in row["metrics"]]
        ranked = {row["row"]: direction(name) * row["metrics"][name]["mean"] for row in known}
        if len(set(ranked.values())) > 1:
            best[name] = max(ranked, key=ranked.__getitem__)
    return best


# ---- against the first row -------------------------------------------------------------------------------------------


def against(first: list[dict], other: list[dict]) -> dict:
    """Another row against the first: by how much it differs, and whether that is more than noise.

    tests: a paired bootstrap over the development examples, of each row's scores averaged over its seeds (do these
    models differ on such examples?); Welch's t over the runs, where both rows have two or more (would other seeds
    differ as well?). untested: why there is no bootstrap.
    """
    metric, tests, untested = first[0]["metric"], [], None
    scores = paired_scores(first, other, metric)
    if isinstance(scores, str):
        untested = scores
    else:
        tests.append({"test": "paired bootstrap", "p": paired_bootstrap(*scores), "n": len(scores[0])})
    samples = [[member["best"]["metrics"][metric] for member in members] for members in (first, other)]
    runs = min(map(len, samples))
    if runs > 1 and any(len(set(values)) > 1 for values in samples):  # without any spread, nothing is known about it
        tests.append({"test": "Welch's t", "p": welch(*samples), "n": runs})
    difference, verdict = score(other) - score(first), verdict_of(tests, runs)
    return {"difference": difference, "verdict": verdict, "tests": tests, "untested": untested}


def verdict_of(tests: list[dict], runs: int) -> str:
    """distinguishable             every test has p < 0.05, Welch's among them
    not distinguishable         else, with three runs or more in each row: other seeds would not differ
    distinguishable as models   else, with fewer: by the bootstrap, though other seeds may come out the other way
    too few runs                there is no bootstrap either
    """
    likely = {test["test"]: test["p"] < LIKELY for test in tests}
    if runs > 1 and all(likely.values()):
        return "distinguishable"
    if runs < ENOUGH_RUNS and "paired bootstrap" not in likely:
        return "too few runs"
    models = runs < ENOUGH_RUNS and likely["paired bootstrap"]
    return "distinguishable as models" if models else "not distinguishable"


def paired_scores(ours: list[dict], theirs: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray] | str:
    """The score of each development example in two rows of runs, averaged over the runs that were judged on it (folds
    have different ones, and follow one another). Or why there are none."""
    rows, kept = [], bool(metric_of(metric).mean_of)
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


def development_set(summary: dict) -> str:
    """The name by which two development sets are known to be the same examples in the same order."""
    tasks = summary["spec"]["tasks"].items()
    parts = {name: {key: look_up(task, ["data", key]) for key in SPLITTING} for name, task in tasks}
    digests = {name: splits.get("dev") for name, splits in summary["fingerprints"].items()}
    return repr((sorted(digests.items()), sorted(parts.items())))


def example_scores(summary: dict, metric: str) -> np.ndarray | None:
    """The score of each development example at a run's best evaluation, None where there are none, or not those of the
    evaluation that the records tell of."""
    from safetensors.numpy import load_file

    path = Path(summary["folder"]) / "best" / SCORES
    try:
        scores = load_file(path).get(metric) if path.is_file() else None
    except Exception:  # safetensors raises its own kinds; a file that cannot be read is as good as none
        return None
    told = summary["best"]["metrics"].get(metric)
    return scores if scores is not None and told is not None and abs(scores.mean() - told) < 1e-3 else None
