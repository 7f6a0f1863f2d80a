"""Cost of a run: time, speed, memory, size."""

import numpy as np

from experiments.report.declaration import Figure, Section, unless_zero
from experiments.report.run import Run
from experiments.terminal import duration


def seconds(run: Run) -> dict[str, float]:
    """Seconds in each part of the run, by the clock of its last evaluation or its end. After the last evaluation of a
    run that goes on there are train records only, so its training is the sum of tokens / tokens per second."""
    clocks = [record["clock"] for record in (*run.records.of_kind("eval"), run.end) if record]
    found = {"total": run.records.seconds, **(clocks[-1] if clocks else {})}
    if not run.end:
        found["train"] = float((run.train["tokens"] / run.train["tokens_per_second"]).sum())
    return found


def throughput(run: Run) -> dict | None:
    """Speed over the train records with tokens, None where there are none.

    tokens_per_second: sum of tokens / sum of seconds, the making of batches included. low, median, high: the quartiles
    over the records. padding: 1 - real tokens / all tokens computed; 80 real tokens of 100: 0.2. stalled: the records
    that are more than ten times slower than the median.
    """
    used = run.train["tokens"] > 0
    if not used.any():
        return None
    columns = ("tokens", "tokens_per_second", "padding", "examples")
    tokens, rate, padding, examples = (run.train[name][used] for name in columns)
    spent = tokens / rate
    low, median, high = np.quantile(rate, (0.25, 0.5, 0.75)).tolist()
    stalled = rate < median / 10
    return {
        "tokens_per_second": float(tokens.sum() / spent.sum()),
        **{"low": low, "median": median, "high": high},
        "examples_per_second": float(examples.sum() / spent.sum()),
        "padding": float(1 - tokens.sum() / (tokens / (1 - padding)).sum()),
        "stalled": {"records": int(stalled.sum()), "seconds": float(spent[stalled].sum())},
    }


def quartiles_text(low: float, report: dict) -> str:
    return f"quartiles {low:,.0f} to {report['throughput']['high']:,.0f}"


def time(name: str, meaning: str, word: str) -> Figure:
    return Figure(name, meaning, None, lambda value, _: f"{word}{duration(value)}", "time")


COST = Section("Cost", (
    Figure("seconds", "time of the run so far", seconds, parts=(
        time("total", "seconds in all", ""),
        time("train", "seconds in training steps, the making of batches included", "training "),
        time("data", "seconds in making batches", "data "),
        time("eval", "seconds in evaluation", "evaluation "),
        time("checkpoint", "seconds in writing checkpoints", "checkpoints "),
    )),
    Figure("throughput", "speed of training, null before the first train record", throughput, parts=(
        Figure("tokens_per_second", "real tokens (no padding) / seconds of training"),
        Figure("median", "real tokens a second, median over the records", None, "{:,.0f} real tokens/s", "speed"),
        Figure("low", "its lower quartile", None, quartiles_text, "speed"),
        Figure("high", "its upper quartile"),
        Figure("examples_per_second", "examples (windows of questions) / seconds of training", None,
               "{:,.0f} examples/s", "speed"),
        Figure("padding", "share of padding in all tokens computed", None, "{:.1%} padding", "speed"),
        Figure("stalled.records", "records over ten times slower than the median", None,
               unless_zero("{} records over ten times slower"), "stalls"),
        Figure("stalled.seconds", "the time in them", None, lambda s, _: duration(s) if s else "", "stalls"),
    )),
    Figure("peak_memory_mb", "MiB, of the process or of the accelerator",
           lambda run: int(run.train["peak_memory_mb"].max()) if len(run.train["step"]) else None,
           unless_zero("{:,} MiB at its peak"), "memory"),
    Figure("best_bytes", "size of the best checkpoint, once the run has ended",
           lambda run: run.end.get("best_bytes") if run.end else None,
           lambda size, _: f"best checkpoint {size / 1e6:.1f} MB" if size else "", "memory"),
))  # fmt: skip
