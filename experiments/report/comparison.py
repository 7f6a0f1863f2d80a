"""Runs beside each other: rows of runs that share all but seed and fold, and which row is better."""

import statistics
from collections import Counter
from typing import Any

from experiments.config.metrics import direction, metric_of
from experiments.repetitions import flat, settings_of, spread
from experiments.report.declaration import look_up

ENDED = ("finished", "stopped early")

# ---- settings --------------------------------------------------------------------------------------------------------


def told_settings(summary: dict) -> dict:
    """The settings of a run by their dotted names, with its tasks, "qa (span_qa) + mood (classification)", the program
    that trained it, and its data's fingerprint."""
    spec = summary["spec"]
    tasks = " + ".join(f"{name} ({task['task']})" for name, task in spec["tasks"].items())
    told = {"tasks": tasks, "program": summary["program"], "data (fingerprint)": fingerprint(summary)}
    return settings_of(spec) | told


def with_lora_as_one(spec: dict) -> dict:
    """Settings with a run's adapters as one of them: "rank 16, alpha 32, query value"."""
    rest = {key: value for key, value in spec.items() if not key.startswith("lora")}
    lora = {key.removeprefix("lora."): value for key, value in spec.items() if key.startswith("lora.")}
    if not lora:
        return rest | {"lora": None}
    dropout = f", dropout {lora['dropout']}" if lora.get("dropout") else ""
    targets = " ".join(map(str, lora.get("targets") or ()))
    return rest | {"lora": f"rank {lora.get('rank')}, alpha {lora.get('alpha')}, {targets}{dropout}"}


def fingerprint(summary: dict) -> str:
    """The first digits of what the run's data is known by."""
    digests = flat(summary["fingerprints"])
    return " ".join(f"{split} {digest[:8]}" for split, digest in sorted(digests.items()))


def folds_of(spec: dict) -> list:
    """The folds that a run was judged on."""
    return [look_up(task, "data.fold") for task in spec["tasks"].values()]


# ---- rows ------------------------------------------------------------------------------------------------------------


class Row:
    """Runs that share all but seed and fold. Those that have not ended do not count beside some that have."""

    def __init__(self, settings: dict, summaries: list[dict]):
        self.settings = settings
        self.members = [each for each in summaries if each["status"] in ENDED] or summaries
        self.ended = self.members[0]["status"] in ENDED
        self.left_out = [each for each in summaries if self.ended and each["status"] not in ENDED]
        self.metric: str = self.members[0]["metric"]

    def each(self, path: str | list[str]) -> list:
        """A figure of each member."""
        return [look_up(member, path) for member in self.members]

    def over(self, path: str | list[str]) -> Any:
        """mean, sd and n of a figure; null where a member has none."""
        found = self.each(path)
        return None if None in found else spread(found)

    def most(self, path: str) -> int:
        return max(found or 0 for found in self.each(path))

    def total(self, path: str) -> int:
        return sum(found or 0 for found in self.each(path))

    def metrics(self) -> dict[str, dict]:
        """mean, sd and n of each metric at the runs' best evaluations."""
        found = {name: self.over(["best", "metrics", name]) for name in self.members[0]["best"]["metrics"]}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def mean(self) -> float:
        """The mean of the deciding metric."""
        return self.over(["best", "metrics", self.metric])["mean"]

    def verdicts(self) -> dict[str, int]:
        return dict(Counter(found for found in self.each("generalisation.verdict") if found))

    def trainable(self) -> int | None:
        """The parameters that train in the phase with the most."""
        return max((phase["parameters"] for member in self.members for phase in member["phases"]), default=None)

    def by_epoch(self) -> list[dict]:
        """The deciding metric at the last evaluation of each epoch, as far as all runs went. fell: how much worse the
        mean is than an epoch before, null where it is not. interval, to compare that with: half of the 95 % interval
        that the size of the development set leaves, null where it is not known."""
        found: list[dict] = []
        known = self.each(["coverage", "intervals", self.metric])
        half = statistics.fmean([(i["high"] - i["low"]) / 2 for i in known]) if all(known) else None
        for rows in zip(*self.each("epochs"), strict=False):
            scores = [look_up(row, ["evaluation", "metrics", self.metric]) for row in rows]
            if None in scores:
                break
            now = spread(scores)
            change = direction(self.metric) * (now["mean"] - found[-1]["mean"]) if found else 0.0
            found.append({**now, "fell": -change if change < 0 else None, "interval": half})
        return found


# ---- rows ------------------------------------------------------------------------------------------------------------


class Comparison:
    """Runs beside each other, a row for each set of settings and data, ranked by the mean of eval.metric at the runs'
    best evaluations, rows of runs that have not ended last. With different metrics, in the order given."""

    def __init__(self, summaries: list[dict]):
        """summaries: of runs, see figures.summary_of."""
        self.summaries = summaries
        specs = [told_settings(each) for each in summaries]
        if any("lora" in spec for spec in specs):  # null: some have no adapters, and so no settings for them
            specs = [with_lora_as_one(spec) for spec in specs]
        self.differing = differing(specs)
        groups: dict[str, tuple[dict, list[dict]]] = {}
        for summary, spec in zip(summaries, specs, strict=True):
            if summary["best"]:
                settings = {key: spec.get(key) for key in self.differing}
                groups.setdefault(repr(settings), (settings, []))[1].append(summary)
        self.remarks = [remark for _, members in groups.values() for remark in duplicates(members)]
        self.rows = [Row(settings, members) for settings, members in groups.values()]
        metrics = {row.metric for row in self.rows}
        self.metric = metrics.pop() if len(metrics) == 1 else None
        if self.metric:
            sign = direction(self.metric)
            self.rows.sort(key=lambda row: (not row.ended, -sign * row.mean))


def differing(specs: list[dict]) -> list[str]:
    """The settings in which runs differ. Other tasks have other settings altogether: of those that differ only between
    tasks, the tasks' names must do."""
    kinds = dict.fromkeys(spec["tasks"] for spec in specs)
    found = ["tasks"] if len(kinds) > 1 else []
    for key in dict.fromkeys(key for spec in specs for key in spec if key != "tasks"):
        known = [{repr(spec.get(key)) for spec in specs if spec["tasks"] == kind} for kind in kinds]
        if any(len(each) > 1 for each in known):
            found.append(key)
    return found


def duplicates(members: list[dict]) -> list[str]:
    """A remark for each run that has the seed and the folds of another one."""
    seen: dict[str, str] = {}
    pairs = [(member["name"], repr((member["seed"], folds_of(member["spec"])))) for member in members]
    firsts = [(name, seen.setdefault(key, name)) for name, key in pairs]
    return [
        f"{name} has the seed of {first}: it is no independent repetition" for name, first in firsts if name != first
    ]


LESS_IS_BETTER = {"train_seconds": "seconds.train", "peak_memory_mb": "peak_memory_mb"}
STEADINESS = {name: f"stability.{name}" for name in ("scatter", "per_100_steps", "volatility")}


def leaders(comparison: Comparison) -> dict[str, int]:
    """{column: the number of the row that is best in it}, among those that have ended; not for columns in which all are
    equal, nor for those of which more is not known to be better."""
    rows = comparison.rows
    less = LESS_IS_BETTER | (STEADINESS if steady_order(comparison) is not None else {})
    columns = {name: [(row.over(path) or {}).get("mean") for row in rows] for name, path in less.items()}
    columns = {name: [None if mean is None else -mean for mean in column] for name, column in columns.items()}
    columns["peak_memory_mb"] = [-row.most("peak_memory_mb") for row in rows]
    for name in {name for row in rows for name in row.metrics()} if comparison.metric else ():
        metric = metric_of(name)
        if metric.decides or metric.shown in ("line", "table") or name == comparison.metric:
            found = [row.metrics().get(name) for row in rows]
            columns[name] = [each and direction(name) * each["mean"] for each in found]
    best = {}
    for name, column in columns.items():
        known = {i: value for i, value in enumerate(column) if value is not None and rows[i].ended}
        if len(set(known.values())) > 1:
            best[name] = max(known, key=lambda i: known[i])
    return best


def steady_order(comparison: Comparison) -> list[int] | None:
    """The numbers of the rows, the steadiest first: by how far losses scatter around their trend. None where that says
    nothing, because a loss stands for more steps in one row than in another."""
    known = {i: row for i, row in enumerate(comparison.rows) if row.over("stability.scatter")}
    if len({row.over("stability.records_every")["mean"] for row in known.values()}) > 1:
        return None
    return sorted(known, key=lambda i: known[i].over("stability.scatter")["mean"])
