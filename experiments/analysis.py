"""What a run's records say: every figure of a summary, defined in one place."""

import statistics

from inputs import InputError

LOWER_IS_BETTER = ("loss",)


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
    """A row per evaluation: step, epoch, phase, seconds, train_loss since the one before, the metrics, and whether it
    is the record `best`."""
    train, rows, before = of_kind(records, "train"), [], 0
    for record in of_kind(records, "eval"):
        rows.append(
            {
                "step": record["step"],
                "epoch": record["epoch"],
                "phase": record.get("phase"),
                "seconds": record["seconds"],
                "train_loss": training_loss(train, before, record["step"]),
                **record["metrics"],
                "best": record is best,
            }
        )
        before = record["step"]
    return rows


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
    sign = -1 if metric in LOWER_IS_BETTER else 1
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
        "status": end["reason"] if end else "unfinished",
        "seed": spec["seed"],
        "task": spec["model"]["task"],
        "pretrained": start["pretrained"]["name"],
        "metric": metric,
        "questions": {split: start["data"][split]["questions"] for split in ("train", "dev")},
        "device": start["device"],
        "precision": start["precision"],
        "steps": records[-1]["step"],
        "steps_planned": start["steps_planned"],
        "evaluations": table,
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
