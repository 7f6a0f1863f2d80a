"""Figures as text: what `eval.py` prints. Whatever comes from a file goes through `one_line`."""

from inputs import one_line


def amount(count: float) -> str:
    """1234567 -> "1.23 M" """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


def duration(seconds: float) -> str:
    """3725 -> "1 h 02 min", 95 -> "1 min 35 s", 9.4 -> "9.4 s" """
    if seconds < 59.95:  # which would be shown as 60.0
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock_line(clock: dict[str, float]) -> str:
    """ "training 2 min 09 s (data 0.2 s), evaluation 13.4 s, checkpoints 0.3 s" """
    if not clock:
        return "not known yet"
    return (
        f"training {duration(clock['train'])} (data {duration(clock['data'])}), "
        f"evaluation {duration(clock['eval'])}, checkpoints {duration(clock['checkpoint'])}"
    )


def number(value: float | None, name: str, sign: str = "") -> str:
    """Percentages with one decimal, all else with three, "-" where there is no value. sign: "+" shows it always."""
    if value is None:
        return "-"
    three = name.rpartition(".")[2] in ("loss", "train_loss", "rmse", "mae", "mse", "r2", "pearson", "spearman")
    return f"{value:{sign}.3f}" if three else f"{value:{sign}.1f}"


COLUMN = {"train_loss": "train loss", "loss": "dev loss", "train_seconds": "training"}
# The metrics that a table of evaluations has room for; --json has all. Of a run with several tasks: NAME.metric.
SHOWN = (
    *("loss", "mean", "accuracy", "precision", "recall", "exact", "f1", "HasAns_f1", "NoAns_f1", "best_f1"),
    *("macro_f1", "micro_f1", "best_micro_f1"),
    *("rmse", "mae", "r2", "pearson", "spearman"),
)


def shown_metrics(metrics: dict) -> list[str]:
    """The metrics of one evaluation that are shown, in the order of SHOWN."""
    names = [key for key in metrics if key.rpartition(".")[2] in SHOWN and not key.endswith(".loss")]
    return sorted(names, key=lambda key: (key.rpartition(".")[0], SHOWN.index(key.rpartition(".")[2])))


def table(rows: list[dict], columns: list[str]) -> list[str]:
    """Lines of a text table, columns aligned to the right."""
    cells = [columns] + [[row[column] for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def print_summary(summary: dict) -> None:
    """The summary of one run (`analysis.summarise`) as text."""
    s, best, final = summary, summary["best"], summary["final"]
    print(f"{s['name']}: {s['status']}, {s['steps']} of {s['steps_planned']} steps, seed {s['seed']}")
    print(f"{s['task']} on {s['pretrained']}, {s['device']} in {s['precision']}")
    print(", ".join(f"{split}: {count}" for split, count in s["data"].items()) + "\n")
    if s["evaluations"]:
        metrics = shown_metrics(s["evaluations"][0])
        rows = [
            {
                "": "best" if row["best"] else "",
                "step": str(row["step"]),
                "epoch": f"{row['epoch']:.2f}",
                "phase": str(row["phase"]),
                "training": duration(row["train_seconds"]),
                "train loss": number(row["train_loss"], "loss"),
                **{COLUMN.get(key, key): number(row.get(key), key) for key in metrics},
            }
            for row in s["evaluations"]
        ]
        print("\n".join(table(rows, list(rows[0]))))
    else:
        print("no evaluation yet")
    print()
    if best and best is not final:
        change = s["final_minus_best"]
        change = ", ".join(f"{key} {number(change[key], key, '+')}" for key in shown_metrics(change))
        print(f"final - best  {change}")
    if final and final["train_loss"] is not None and final.get("loss") is not None:
        print(
            f"train vs dev  final loss {final['train_loss']:.3f} in training mode, {final['loss']:.3f} on dev "
            f"({final['loss'] - final['train_loss']:+.3f})"
        )
    if s["overfitting"]:
        since = s["overfitting"]
        print(
            f"overfitting   since step {since['step']}: train loss {since['train_loss']:+.3f}, dev loss "
            f"{since['loss']:+.3f}"
        )
    for phase in s["phases"]:
        print(
            f"trainable     {phase['phase']}: {amount(phase['parameters'])} of {amount(s['parameters'])} "
            f"({phase['share']:.2%}), {phase['steps']} steps"
        )
    seconds = dict(s["seconds"])
    print(f"time          {duration(seconds.pop('total'))}: {clock_line(seconds)}")
    speed = s["throughput"]
    if speed["tokens_per_second"]:
        print(
            f"speed         {speed['tokens_per_second']:,.0f} real tokens/s in training "
            f"(quartiles {speed['low']:,.0f} to {speed['high']:,.0f}), {speed['padding']:.1%} padding"
        )
    if s["peak_memory_mb"]:
        size = f", best checkpoint {s['best_bytes'] / 1e6:.1f} MB" if s["best_bytes"] else ""
        print(f"memory        {s['peak_memory_mb']:,} MiB at its peak{size}")
    for event in s["events"]:
        print(f"event         {one_line(event)}")
    for remark in s["remarks"]:
        print(f"note          {one_line(remark)}")


def mean_sd(values: dict, name: str) -> str:
    """ "92.3 ± 0.4", "92.3" for one run"""
    if values["sd"] is None:
        return number(values["mean"], name)
    return f"{number(values['mean'], name)} ± {number(values['sd'], name)}"


def print_comparison(found: dict) -> None:
    """Several runs beside each other (`analysis.compare`) as text."""
    rows = []
    for row in found["rows"]:
        time = duration(row["train_seconds"]["mean"])
        metrics = {COLUMN.get(key, key): mean_sd(row["metrics"][key], key) for key in shown_metrics(row["metrics"])}
        settings = {key: one_line(str(value)) for key, value in row["settings"].items()}
        rows.append({**settings, "n": str(len(row["runs"])), **metrics, "training": time})
        rows[-1]["memory"] = f"{row['peak_memory_mb']:,} MiB"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if rows:
        print("\n".join(table([{key: row.get(key, "-") for key in columns} for row in rows], columns)))
        metrics = dict.fromkeys(row["metric"] for row in found["rows"])
        print(f"\nat each run's best evaluation by {' or '.join(metrics)}; mean ± sd over seeds and folds")
    for row in found["rows"]:
        for name in row["unfinished"]:
            print(f"note          {one_line(name)} is not finished")
    for name in found["without"]:
        print(f"note          {one_line(name)} has no evaluation yet")
