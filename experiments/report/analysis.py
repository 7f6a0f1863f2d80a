"""What a run's diary says: every figure of a summary, defined in one place, with its formula.

Losses come from `train` records: means over the examples since the record before, in training mode (dropout on, weights
moving). Metrics come from `eval` records, in evaluation mode. Stability and overfitting: experiments/report/health.py.
"""

import numpy as np

from data.files import InputError
from experiments.config.spec import direction
from experiments.records import VERSION
from experiments.report.diary import Diary
from experiments.report.health import coverage, generalisation, stability
from experiments.report.suggestions import suggest

# ---- training --------------------------------------------------------------------------------------------------------


def between(diary: Diary, after: float, until: float) -> np.ndarray:
    """Which train records are of steps after < step <= until; bool [N]"""
    step = diary.train["step"]
    return (step > after) & (step <= until)


def mean_loss(diary: Diary, chosen: np.ndarray) -> float | None:
    """Mean loss per example over some train records: sum of loss x examples / sum of examples."""
    loss, examples = diary.train["loss"][chosen], diary.train["examples"][chosen]
    known = np.isfinite(loss)
    return float(loss[known] @ examples[known] / examples[known].sum()) if examples[known].sum() else None


def first_loss(diary: Diary) -> float | None:
    """The training loss of the first record that has one."""
    known = diary.train["loss"][np.isfinite(diary.train["loss"])]
    return float(known[0]) if len(known) else None


def throughput(diary: Diary) -> dict:
    """tokens_per_second: real tokens (padding excluded) over the time spent in training steps, data included; low,
    median and high are the quartiles over the train records. stalled: how many records were more than ten times slower
    than the median, and the seconds in them. padding: share of padding in all tokens computed."""
    used = diary.train["tokens"] > 0
    tokens, rate, padding, examples = (
        diary.train[name][used] for name in ("tokens", "tokens_per_second", "padding", "examples")
    )
    if not used.any():
        names = ("tokens_per_second", "low", "median", "high", "stalled", "padding", "examples_per_second")
        return dict.fromkeys(names)
    seconds = (tokens / rate).sum()
    low, median, high = np.quantile(rate, (0.25, 0.5, 0.75))
    stalled = rate < median / 10
    return {
        "tokens_per_second": float(tokens.sum() / seconds),
        "low": float(low),
        "median": float(median),
        "high": float(high),
        "stalled": {"records": int(stalled.sum()), "seconds": float((tokens / rate)[stalled].sum())},
        "padding": float(1 - tokens.sum() / (tokens / (1 - padding)).sum()),
        "examples_per_second": float(examples.sum() / seconds),
    }


# ---- evaluations, epochs, phases -------------------------------------------------------------------------------------


def evaluation_table(diary: Diary, best: dict | None) -> list[dict]:
    """A row per evaluation of the development set: step, epoch, phase, seconds, train_loss and train_seconds (of steps)
    since the one before, the metrics, and whether it is the record `best`. on_train: the metrics of the sample of the
    training set at the same step, where the run evaluates one."""
    sampled = {r["step"]: r["metrics"] for r in diary.of_kind("eval") if r.get("split") == "train"}
    rows, before, clock = [], 0, 0.0
    for record in evaluations(diary):
        rows.append(
            {
                "step": record["step"],
                "epoch": record["epoch"],
                "phase": record.get("phase"),
                "seconds": record["seconds"],
                "train_loss": mean_loss(diary, between(diary, before, record["step"])),
                "train_seconds": record["clock"]["train"] - clock,
                **record["metrics"],
                "best": record is best,
                "on_train": sampled.get(record["step"]),
            }
        )
        before, clock = record["step"], record["clock"]["train"]
    return rows


def evaluations(diary: Diary) -> list[dict]:
    """The records of evaluations of the development set."""
    return [record for record in diary.of_kind("eval") if record.get("split", "dev") == "dev"]


def improvement(diary: Diary, chosen: np.ndarray) -> float | None:
    """By how much the training loss fell within some steps: its mean over their first tenth less that over their last
    tenth (of the records, at least one)."""
    places = np.flatnonzero(chosen)
    if len(places) < 2:
        return None
    tenth = max(1, len(places) // 10)
    first, last = (mean_loss(diary, part) for part in (places[:tenth], places[-tenth:]))
    return None if first is None or last is None else first - last


def stretch(diary: Diary, table: list[dict], chosen: np.ndarray, after: int, until: int) -> dict:
    """What happened in the steps after < step <= until: training loss and its improvement within, seconds of training
    (by tokens over tokens per second), the highest and the last learning rates by part, and the last evaluation."""
    tokens, rate = diary.train["tokens"][chosen], diary.train["tokens_per_second"][chosen]
    rates = {part: values[chosen] for part, values in diary.rates.items() if np.isfinite(values[chosen]).any()}
    rows = [row for row in table if after < row["step"] <= until]
    return {
        "steps": [after, until],
        "train_loss": mean_loss(diary, chosen),
        "improvement": improvement(diary, chosen),
        "seconds": float((tokens / rate).sum()),
        "lr": {
            part: {"highest": float(np.nanmax(v)), "last": float(v[np.isfinite(v)][-1])} for part, v in rates.items()
        },
        "evaluation": rows[-1] if rows else None,
    }


def epochs(diary: Diary, table: list[dict]) -> list[dict]:
    """A row per epoch, see `stretch`; the last one may be part of one."""
    epoch, step, rows, after = diary.train["epoch"], diary.train["step"], [], 0
    for number in range(1, int(np.ceil(epoch[-1] - 1e-6)) + 1 if len(epoch) else 1):
        chosen = (epoch > number - 1 + 1e-6) & (epoch <= number + 1e-6)
        if chosen.any():
            until = int(step[chosen][-1])
            rows.append({"epoch": number, **stretch(diary, table, chosen, after, until)})
            after = until
    return rows


def phases(diary: Diary, table: list[dict], parameters: int) -> list[dict]:
    """A row per phase, see `stretch`, with what trained and the share that it is; `change`: each metric at the phase's
    last evaluation less that at the last one before the phase."""
    records, rows = diary.of_kind("phase"), []
    for number, record in enumerate(records):
        after = record["step"]
        until = records[number + 1]["step"] if number + 1 < len(records) else diary.step
        found = stretch(diary, table, between(diary, after, until), after, until)
        trained = sum(row["parameters"] for row in record["trains"])
        before = [row for row in table if row["step"] <= after]
        change = difference(found["evaluation"], before[-1]) if before and found["evaluation"] else None
        share = {"parameters": trained, "share": trained / parameters}
        rows.append({"phase": record["name"], "planned": record["steps"], **share, **found, "change": change})
    return rows


NOT_METRICS = ("step", "epoch", "phase", "seconds", "train_loss", "train_seconds", "best", "on_train")


def difference(row: dict, other: dict) -> dict[str, float | None]:
    """Each metric of one evaluation less that of another."""
    names = [name for name in row if name not in NOT_METRICS]
    known = {name: row[name] is not None and other.get(name) is not None for name in names}
    return {name: row[name] - other[name] if known[name] else None for name in names}


# ---- one run ---------------------------------------------------------------------------------------------------------


def task_kinds(spec: dict) -> list[str]:
    """What an experiment trains: one kind of task, or those of its several tasks."""
    return list(dict.fromkeys(task["task"] for task in (spec.get("tasks") or {}).values())) or [spec["model"]["task"]]


def after_best(table: list[dict], best: dict | None) -> dict | None:
    """What came after the best evaluation: evaluations, steps and seconds of training, and the share of the training
    that they were. That much a run that had stopped at its best would have saved."""
    if best is None:
        return None
    later = [row for row in table if row["step"] > best["step"]]
    seconds, total = sum(row["train_seconds"] for row in later), sum(row["train_seconds"] for row in table)
    steps = table[-1]["step"] - best["step"]
    return {"evaluations": len(later), "steps": steps, "seconds": seconds, "share": seconds / total if total else 0.0}


def summarise(diary: Diary, threshold: float = 0.01) -> dict:
    """The summary of one run as plain JSON values. Raises InputError where there is nothing to summarise.

    best: the evaluation with the highest eval.metric of the spec (the lowest, for losses and errors), the first of
    equals. final_minus_best: each metric's last value minus its value there. status: how the run ended, or
    "unfinished". threshold: the relative change of the loss that counts as an oscillation.
    """
    start = next(reversed(diary.of_kind("run")), None)  # a run that was resumed anyway has begun another one
    if start is None:
        raise InputError(
            f"{diary.folder}: the first record, kind 'run', is missing: nothing can be said about this run"
        )
    spec, metric = start["spec"], start["spec"]["eval"]["metric"]
    known = [record for record in evaluations(diary) if record["metrics"].get(metric) is not None]
    best = max(known, key=lambda record: direction(metric) * record["metrics"][metric], default=None)
    table = evaluation_table(diary, best)
    final, best_row = table[-1] if table else None, next((row for row in table if row["best"]), None)
    end = next(iter(reversed(diary.of_kind("end"))), None)
    clocks = [record["clock"] for record in diary.records if record["kind"] in ("eval", "end")]
    peaks = diary.train["peak_memory_mb"]
    remarks = list(diary.remarks)
    if start.get("version", 1) < VERSION:
        remarks.append("an older version of the records: the counts of the data are all it says of them")
    sure = coverage(best, evaluations(diary), start["data"]["splits"])
    interval = sure and sure["intervals"].get(metric)
    half = (interval["high"] - interval["low"]) / 2 if interval else None
    status = end["reason"] if end else "unfinished"
    clock = dict(clocks[-1]) if clocks else {}
    if not end:  # since the last evaluation there are train records only
        clock["train"] = float((diary.train["tokens"] / diary.train["tokens_per_second"]).sum())
    found = {
        "name": spec["name"],
        "folder": str(diary.folder),
        "spec": spec,
        "status": status,
        "last_written": diary.written,
        "seed": spec["seed"],
        "task": " and ".join(task_kinds(spec)),
        "pretrained": start["pretrained"]["name"],
        "metric": metric,
        "data": {
            split: f"{counts['examples']:,} {counts['kind']}" for split, counts in start["data"]["splits"].items()
        },
        "fingerprints": start["data"].get("fingerprints") or {},
        "device": start["device"],
        "precision": start["precision"],
        "steps": diary.step,
        "steps_planned": start["steps_planned"],
        "evaluations": table,
        "best": best_row,
        "final": final,
        "final_minus_best": difference(final, best_row) if best_row else None,
        "after_best": after_best(table, best_row),
        "epochs": epochs(diary, table),
        "parameters": start["parameters"],
        "phases": phases(diary, table, start["parameters"]),
        "generalisation": generalisation(table, spec, status, half, first_loss(diary)),
        "stability": stability(diary, threshold),
        "coverage": sure,
        "seconds": {"total": diary.seconds, **clock},
        "throughput": throughput(diary),
        "peak_memory_mb": int(peaks.max()) if len(peaks) else None,
        "best_bytes": end.get("best_bytes") if end else None,
        "events": [
            f"{r['event']} at step {r['step']}: {r.get('message', '')}".rstrip(": ") for r in diary.of_kind("event")
        ],
        "remarks": remarks,
    }
    return {**found, "suggestions": suggest(found)}
