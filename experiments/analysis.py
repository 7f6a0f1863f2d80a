"""What a run's records say: every figure of a summary, defined in one place."""

import statistics

from experiments.spec import direction
from inputs import InputError


def of_kind(records: list[dict], kind: str) -> list[dict]:
    return [record for record in records if record["kind"] == kind]


def training_loss(train: list[dict], after: int, until: int) -> float | None:
    """Mean training loss per example over the records of steps after < step <= until.

    In training mode (dropout on, weights moving), so it is an upper view of the loss on the training set.
    """
    chosen = [r for r in train if after < r["step"] <= until and r.get("loss") is not None and r.get("examples")]
    examples = sum(r["examples"] for r in chosen)
    return sum(r["loss"] * r["examples"] for r in chosen) / examples if examples else None


def evaluation_table(records: list[dict], best: dict | None) -> list[dict]:
    """A row per evaluation: step, epoch, phase, seconds, train_loss and train_seconds (of steps) since the one before,
    the metrics, and whether it is the record `best`."""
    train, rows, before, clock = of_kind(records, "train"), [], 0, 0.0
    for record in of_kind(records, "eval"):
        rows.append(
            {
                "step": record["step"],
                "epoch": record["epoch"],
                "phase": record.get("phase"),
                "seconds": record["seconds"],
                "train_loss": training_loss(train, before, record["step"]),
                "train_seconds": record["clock"]["train"] - clock,
                **record["metrics"],
                "best": record is best,
            }
        )
        before, clock = record["step"], record["clock"]["train"]
    return rows


def overfitting(table: list[dict]) -> dict | None:
    """Whether the run went on after it had stopped to generalise: {"step", "train_loss", "loss"}, the evaluation with
    the lowest dev loss and how both losses changed from there to the last one. None where the dev loss rose by less
    than 2 % of itself, or the training loss did not fall."""
    rows = [row for row in table if row.get("loss") is not None and row["train_loss"] is not None]
    if not rows:
        return None
    lowest, last = min(rows, key=lambda row: row["loss"]), rows[-1]
    change = {"step": lowest["step"]} | {key: last[key] - lowest[key] for key in ("train_loss", "loss")}
    return change if change["train_loss"] < 0 and change["loss"] > 0.02 * lowest["loss"] else None


def phase_shares(records: list[dict], parameters: int) -> list[dict]:
    """What each phase trained: name, steps, trainable parameters and their share of all."""
    rows = []
    for record in of_kind(records, "phase"):
        trained = sum(row["parameters"] for row in record["trains"])
        rows.append(
            {"phase": record["name"], "steps": record["steps"], "parameters": trained, "share": trained / parameters}
        )
    return rows


def throughput(records: list[dict]) -> dict:
    """tokens_per_second: real tokens (padding excluded) over the time spent in training steps, data included;
    low and high are the quartiles over the train records. padding: share of padding in all tokens computed."""
    train = [r for r in of_kind(records, "train") if r.get("tokens")]
    if not train:
        return {"tokens_per_second": None, "low": None, "high": None, "padding": None}
    seconds = sum(r["tokens"] / r["tokens_per_second"] for r in train)
    tokens = sum(r["tokens"] for r in train)
    rates = [r["tokens_per_second"] for r in train]
    low, _, high = statistics.quantiles(rates, n=4) if len(rates) > 1 else (rates[0],) * 3
    computed = sum(r["tokens"] / (1 - r["padding"]) for r in train)
    return {"tokens_per_second": tokens / seconds, "low": low, "high": high, "padding": 1 - tokens / computed}


def difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def task_kinds(spec: dict) -> list[str]:
    """What an experiment trains: one kind of task, or those of its several tasks."""
    return list(dict.fromkeys(task["task"] for task in spec.get("tasks", {}).values())) or [spec["model"]["task"]]


def summarise(records: list[dict]) -> dict:
    """The summary of one run as plain JSON values. Raises InputError where there is nothing to summarise.

    best: the evaluation with the highest eval.metric of the spec (the lowest, for loss), the first of equals.
    final_minus_best: each metric's last value minus its value at that best evaluation.
    status: how the run ended, or "unfinished".
    """
    start = next(reversed(of_kind(records, "run")), None)  # a run that was resumed anyway has begun another one
    if start is None:
        raise InputError("the first record, kind 'run', is missing: nothing can be said about this run")
    spec = start["spec"]
    metric = spec["eval"]["metric"]
    sign = direction(metric)
    evaluations = [r for r in of_kind(records, "eval") if r["metrics"].get(metric) is not None]
    best = max(evaluations, key=lambda r: sign * r["metrics"][metric], default=None)
    table = evaluation_table(records, best)
    end = next(iter(reversed(of_kind(records, "end"))), None)
    clocks = [r["clock"] for r in records if r["kind"] in ("eval", "end")]
    peaks = [r["peak_memory_mb"] for r in of_kind(records, "train")]
    final = table[-1] if table else None
    best_row = next((row for row in table if row["best"]), None)
    names = evaluations[0]["metrics"] if evaluations else ()
    return {
        "name": spec["name"],
        "spec": spec,
        "status": end["reason"] if end else "unfinished",
        "seed": spec["seed"],
        "task": " and ".join(task_kinds(spec)),
        "pretrained": start["pretrained"]["name"],
        "metric": metric,
        "data": {
            split: f"{counts['examples']:,} {counts['kind']}" for split, counts in start["data"]["splits"].items()
        },
        "device": start["device"],
        "precision": start["precision"],
        "steps": records[-1]["step"],
        "steps_planned": start["steps_planned"],
        "evaluations": table,
        "overfitting": overfitting(table),
        "best": best_row,
        "final": final,
        "final_minus_best": {n: difference(final.get(n), best_row.get(n)) for n in names} if best_row else None,
        "parameters": start["parameters"],
        "phases": phase_shares(records, start["parameters"]),
        "seconds": {"total": records[-1]["seconds"], **(clocks[-1] if clocks else {})},
        "throughput": throughput(records),
        "peak_memory_mb": max(peaks, default=None),
        "best_bytes": end.get("best_bytes") if end else None,
        "events": [
            f"{r['event']} at step {r['step']}: {r.get('message', '')}".rstrip(": ") for r in of_kind(records, "event")
        ],
    }


# ---- several runs ----------------------------------------------------------------------------------------------------

REPEATED = ("seed", "data.fold")  # runs that differ in these alone are repetitions of one another


def flat(spec: dict, path: str = "") -> dict:
    """{"optim": {"lr": 1}} -> {"optim.lr": 1}; lists by position, "phases.0.epochs"; an empty one as itself."""
    items = spec.items() if isinstance(spec, dict) else ((str(i), item) for i, item in enumerate(spec))
    found = {}
    for key, value in items:
        inner = flat(value, f"{path}{key}.") if isinstance(value, dict | list) else {}
        found |= inner or {f"{path}{key}": value}
    return found


def spread(values: list[float]) -> dict:
    """mean, sd (of the sample; null for one value) and n"""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def compare(summaries: list[dict]) -> dict:
    """Runs beside each other, the best first: a row for each set of settings, over its seeds and folds.

    differing: the settings in which the runs differ (name, seed and fold apart). Each row has the values of those
    (`settings`), the runs, mean and sd of each metric at the runs' best evaluations, of the training seconds, and the
    largest memory. Runs without an evaluation are left out and named in `without`.
    """
    specs = [{k: v for k, v in flat(s["spec"]).items() if k not in (*REPEATED, "name")} for s in summaries]
    keys = dict.fromkeys(key for spec in specs for key in spec)
    differing = [key for key in keys if len({repr(spec.get(key)) for spec in specs}) > 1]
    groups: dict[str, list[dict]] = {}
    for summary, spec in zip(summaries, specs, strict=True):
        if summary["best"]:
            groups.setdefault(repr([spec.get(key) for key in differing]), []).append(summary)
    rows = []
    for members in groups.values():
        spec = flat(members[0]["spec"])
        names = [n for n in members[0]["final_minus_best"] if all(m["best"].get(n) is not None for m in members)]
        rows.append(
            {
                "settings": {key: spec.get(key) for key in differing},
                "runs": [m["name"] for m in members],
                "unfinished": [m["name"] for m in members if m["status"] not in ("finished", "stopped early")],
                "metric": members[0]["metric"],
                "metrics": {name: spread([m["best"][name] for m in members]) for name in names},
                "train_seconds": spread([m["seconds"]["train"] for m in members]),
                "peak_memory_mb": max(m["peak_memory_mb"] or 0 for m in members),
            }
        )
    if len({row["metric"] for row in rows}) == 1:
        rows.sort(key=lambda row: -direction(row["metric"]) * row["metrics"][row["metric"]]["mean"])
    return {"differing": differing, "rows": rows, "without": [s["name"] for s in summaries if not s["best"]]}
