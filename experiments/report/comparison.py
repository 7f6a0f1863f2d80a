"""Runs beside each other: in what they differ, which is better, and whether that is more than noise."""

import json
import re
import statistics

from experiments.config.spec import METRICS, direction
from experiments.report.pairing import against

REPEATED = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one another
ENDED = ("finished", "stopped early")


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
    """The settings of a run by their dotted names, without those that only tell repetitions apart, name the run and its
    phases, or say how and where it was run (runtime). tasks: what it trains."""
    found = {
        key: value
        for key, value in flat(spec).items()
        if key not in REPEATED
        and not re.fullmatch(r"(phases\.\d+\.)?name", key)
        and not key.startswith("runtime.")
        and not key.endswith(".data.fold")
    }
    names = [f"{name} ({task['task']})" for name, task in (spec.get("tasks") or {}).items()]
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


def counted(members: list[dict]) -> list[dict]:
    """Runs that have not come to their end do not count beside some that have."""
    return [m for m in members if m["status"] in ENDED] or members


def group(members: list[dict], settings: dict, left_out: list[dict]) -> dict:
    """One row: runs that share everything but seed and fold. members: the summaries (analysis.summarise) of those that
    count. left_out: of those that do not. ended: whether the former have come to their end."""
    metric = members[0]["metric"]
    names = [name for name in members[0]["final_minus_best"] if all(m["best"].get(name) is not None for m in members)]
    lost = [m["final_minus_best"][metric] for m in members]
    verdicts = [m["generalisation"]["verdict"] for m in members if m["generalisation"]]

    def steadiness(key: str) -> dict | None:
        values = [m["stability"][key] for m in members]
        return None if any(value is None for value in values) else spread(values)

    return {
        "settings": settings,
        "runs": [m["name"] for m in members],
        "seeds": [m["seed"] for m in members],
        "ended": all(m["status"] in ENDED for m in members),
        "left_out": [{"run": m["name"], "status": m["status"]} for m in left_out],
        "metric": metric,
        "metrics": {name: spread([m["best"][name] for m in members]) for name in names},
        "final_minus_best": None if None in lost else spread(lost),
        "best_epoch": spread([m["best"]["epoch"] for m in members]),
        "by_epoch": by_epoch(members, metric),
        "verdicts": dict.fromkeys(verdicts, 0) | {v: verdicts.count(v) for v in verdicts},
        "per_100_steps": steadiness("per_100_steps"),
        "volatility": steadiness("volatility"),
        "scatter": steadiness("scatter"),
        "records_every": steadiness("records_every"),
        "spikes": sum(m["stability"]["spikes"] or 0 for m in members),
        "nonfinite": sum(m["stability"]["nonfinite"] for m in members),
        "train_seconds": spread([m["seconds"].get("train", 0.0) for m in members]),
        "tokens_per_second": spread([m["throughput"]["tokens_per_second"] or 0.0 for m in members]),
        "trainable": max((p["parameters"] for m in members for p in m["phases"]), default=None),
        "peak_memory_mb": max(m["peak_memory_mb"] or 0 for m in members),
        "best_bytes": max((m["best_bytes"] or 0 for m in members), default=0),
    }


def name_alike(pairs: list[tuple[dict, list[dict]]]) -> None:
    """Rename the metrics of rows with one task as they are called in rows with several, where exactly one task of those
    is of its kind and judged on the same data: f1 of a span_qa run becomes qa.f1 beside runs whose task "qa" is
    span_qa. In place."""
    known: dict[tuple, set[str]] = {}  # {(kind, fingerprint of its development set): its names}
    for _, members in pairs:
        for name, task in (members[0]["spec"].get("tasks") or {}).items():
            judged = members[0]["fingerprints"].get(f"{name} dev")
            known.setdefault((task["task"], judged), set()).add(name)
    for row, members in pairs:
        spec, judged = members[0]["spec"], members[0]["fingerprints"].get("dev")
        names = set() if spec.get("tasks") else known.get((spec["model"]["task"], judged), set())
        if len(names) == 1:
            (name,) = names
            row["metrics"] = {f"{name}.{metric}": values for metric, values in row["metrics"].items()}


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


def grouped(summaries: list[dict]) -> tuple[list[str], list[tuple[dict, list[dict]]], list[str]]:
    """(the settings in which the runs differ, (row, its runs' summaries) for each set of equal settings and data,
    remarks)"""
    specs = [settings_of(s["spec"]) | {"data (fingerprint)": fingerprint(s)} for s in summaries]
    if any("lora" in spec for spec in specs):  # null: some have no adapters, and so no settings for them
        specs = [with_lora_as_one(spec) for spec in specs]
    keys = dict.fromkeys(key for spec in specs for key in spec)
    kinds = dict.fromkeys(spec["tasks"] for spec in specs)
    # Other tasks have other settings altogether: of those that differ only between tasks, the tasks' names must do.
    differing = ["tasks"] if len(kinds) > 1 else []
    for key in keys:
        values = [{repr(spec.get(key)) for spec in specs if spec["tasks"] == kind} for kind in kinds]
        if key != "tasks" and any(len(each) > 1 for each in values):
            differing.append(key)
    groups: dict[str, tuple[dict, list[dict]]] = {}
    for summary, spec in zip(summaries, specs, strict=True):
        if summary["best"]:
            settings = {key: spec.get(key) for key in differing}
            groups.setdefault(repr(settings), (settings, []))[1].append(summary)
    remarks = []
    for _, members in groups.values():
        seen: dict[str, str] = {}
        for member in members:
            first = seen.setdefault(repr((member["seed"], folds_of(member["spec"]))), member["name"])
            if first != member["name"]:
                remarks.append(f"{member['name']} has the seed of {first}: it is no independent repetition")
    pairs = []
    for settings, members in groups.values():
        kept = counted(members)
        pairs.append((group(kept, settings, [m for m in members if m not in kept]), kept))
    return differing, pairs, remarks


def with_lora_as_one(spec: dict) -> dict:
    """Settings with a run's adapters as one of them: "rank 16, alpha 32, query value"."""
    rest = {key: value for key, value in spec.items() if not key.startswith("lora")}
    lora = {key.removeprefix("lora."): value for key, value in spec.items() if key.startswith("lora.")}
    if not lora:
        return rest | {"lora": None}
    dropout = f", dropout {lora['dropout']:g}" if lora.get("dropout") else ""
    targets = " ".join(lora.get("targets") or ())
    return rest | {"lora": f"rank {lora.get('rank')}, alpha {lora.get('alpha')}, {targets}{dropout}"}


def fingerprint(summary: dict) -> str:
    """The first digits of what the run's files are known by."""
    return " ".join(f"{split} {digest[:8]}" for split, digest in sorted(summary["fingerprints"].items()))


def folds_of(spec: dict) -> list:
    """The folds that a run was judged on."""
    return [value for key, value in flat(spec).items() if key == "data.fold" or key.endswith(".data.fold")]


def compare(summaries: list[dict]) -> dict:
    """Runs beside each other, a row for each set of settings over its seeds and folds, ranked by the mean of
    eval.metric at the runs' best evaluations, the best first, rows without a run that has ended last. With different
    metrics, in the order given.

    differing: the settings in which the runs differ. leaders: the row that is best in each column. steady_order: the
    rows by scatter of the loss, null where they log at different intervals. differences: each row against the first,
    see `pairing.against`. effects: where two rows differ in exactly one setting. without: runs that have no evaluation
    yet.
    """
    differing, pairs, remarks = grouped(summaries)
    name_alike(pairs)
    metrics = {row["metric"] for row, _ in pairs}
    comparable = len(metrics) == 1
    if comparable:
        (metric,) = metrics
        pairs.sort(key=lambda pair: (not pair[0]["ended"], -direction(metric) * pair[0]["metrics"][metric]["mean"]))
    rows = [row for row, _ in pairs]
    ended = [pair for pair in pairs if pair[0]["ended"]]
    return {
        "metric": next(iter(metrics)) if comparable else None,
        "differing": differing,
        "rows": rows,
        "leaders": leaders(rows),
        "steady_order": steady_order(rows),
        "differences": [{"row": rows.index(other[0]), **against(ended[0], other)} for other in ended[1:]]
        if comparable
        else [],
        "effects": effects(ended) if comparable else [],
        "remarks": remarks,
        "without": [s["name"] for s in summaries if not s["best"]],
    }


def leaders(rows: list[dict]) -> dict[str, int]:
    """{column: the number of the row that is best in it}, among those that have ended; not for columns in which all are
    equal, nor for those of which more is not known to be better."""
    steady = steady_order(rows) is not None
    values: dict[str, list] = {
        "train_seconds": [-row["train_seconds"]["mean"] for row in rows],
        "peak_memory_mb": [-row["peak_memory_mb"] for row in rows],
    }
    for name in ("per_100_steps", "volatility", "scatter") if steady else ():
        values[name] = [row[name] and -row[name]["mean"] for row in rows]
    if len({row["metric"] for row in rows}) == 1:
        for name in {name for row in rows for name in row["metrics"]}:
            if name.rpartition(".")[2] in RANKED or name == rows[0]["metric"]:
                values[name] = [name in r["metrics"] and direction(name) * r["metrics"][name]["mean"] for r in rows]
    found = {}
    for name, column in values.items():
        known = {i: v for i, v in enumerate(column) if v is not None and v is not False and rows[i]["ended"]}
        if len(set(known.values())) > 1:
            found[name] = max(known, key=known.get)
    return found


RANKED = {name for names in METRICS.values() for name in names} | {"HasAns_f1", "NoAns_f1", "best_micro_f1", "mean"}


def steady_order(rows: list[dict]) -> list[int] | None:
    """The numbers of the rows, the steadiest first: by how far losses scatter around their trend. None where that says
    nothing, because a loss stands for more steps in one row than in another."""
    known = [i for i, row in enumerate(rows) if row["scatter"]]
    if len({rows[i]["records_every"]["mean"] for i in known}) > 1:
        return None
    return sorted(known, key=lambda i: rows[i]["scatter"]["mean"])


def effects(pairs: list[tuple[dict, list[dict]]]) -> list[dict]:
    """Where two rows differ in exactly one setting: that setting, both values, what changed with it, and whether that
    is more than noise (see `pairing.against`). Of numbers, neighbouring ones: 1e-4 and 2e-4, 2e-4 and 4e-4."""
    found = []
    for i, a in enumerate(pairs):
        for b in pairs[i + 1 :]:
            keys = [key for key in a[0]["settings"] if repr(a[0]["settings"][key]) != repr(b[0]["settings"][key])]
            if len(keys) == 1 and not between(pairs, a[0]["settings"], b[0]["settings"], keys[0]):
                tested = against(a, b)
                values = [json.dumps(row["settings"][keys[0]]) for row, _ in (b, a)]
                verdicts = {key: tested[key] for key in ("tests", "models_differ", "settings_differ", "untested")}
                change = -tested["difference"]
                found.append({"setting": keys[0], "from": values[0], "to": values[1], "change": change, **verdicts})
    return found


def between(pairs: list[tuple[dict, list[dict]]], a: dict, b: dict, key: str) -> bool:
    """Whether a third row, with the same settings otherwise, has a number between theirs."""
    numbers = (int, float)
    values = [row["settings"][key] for row, _ in pairs if row["settings"] | {key: None} == a | {key: None}]
    if not all(isinstance(value, numbers) and not isinstance(value, bool) for value in values):
        return False
    low, high = sorted((a[key], b[key]))
    return any(low < value < high for value in values)
