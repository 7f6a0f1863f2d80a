"""Figures as text: what `eval.py summary` prints."""


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
    """Losses with three decimals, percentages with one, "-" where there is no value. sign: "+" shows it always."""
    if value is None:
        return "-"
    return f"{value:{sign}.3f}" if "loss" in name else f"{value:{sign}.1f}"


COLUMN = {"train_loss": "train loss", "loss": "dev loss"}
# Columns of their own, or of little use beside the others (--json has them): a "no answer" is right or wrong, so its
# exact match and its F1 are one number.
NOT_SHOWN = ("step", "epoch", "phase", "seconds", "best", "HasAns_exact", "NoAns_exact")


def table(rows: list[dict], columns: list[str]) -> list[str]:
    """Lines of a text table, columns aligned to the right."""
    cells = [columns] + [[row[column] for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def print_summary(summary: dict, remarks: list[str]) -> None:
    """The summary of one run (`analysis.summarise`) as text."""
    s, best, final = summary, summary["best"], summary["final"]
    print(f"{s['name']}: {s['status']}, {s['steps']} of {s['steps_planned']} steps, seed {s['seed']}")
    print(f"{s['task']} on {s['pretrained']}, {s['device']} in {s['precision']}")
    print(", ".join(f"{split}: {count:,} questions" for split, count in s["questions"].items()) + "\n")
    if s["evaluations"]:
        metrics = [key for key in s["evaluations"][0] if key not in NOT_SHOWN]
        rows = [
            {
                "": "best" if row["best"] else "",
                "step": str(row["step"]),
                "epoch": f"{row['epoch']:.2f}",
                "phase": str(row["phase"]),
                **{COLUMN.get(key, key): number(row.get(key), key) for key in metrics},
            }
            for row in s["evaluations"]
        ]
        print("\n".join(table(rows, list(rows[0]))))
    else:
        print("no evaluation yet")
    print()
    if best and best is not final:
        change = ", ".join(f"{key} {number(value, key, '+')}" for key, value in s["final_minus_best"].items())
        print(f"final - best  {change}")
    if final and final["train_loss"] is not None and final.get("loss") is not None:
        print(
            f"train vs dev  final loss {final['train_loss']:.3f} in training mode, {final['loss']:.3f} on dev "
            f"({final['loss'] - final['train_loss']:+.3f})"
        )
    for phase in s["phases"]:
        print(
            f"trainable     {phase['phase']}: {amount(phase['parameters'])} of {amount(s['parameters'])} "
            f"({phase['share']:.2%}), {phase['steps']} steps"
        )
    seconds = dict(s["seconds"])
    print(f"time          total {duration(seconds.pop('total'))}: {clock_line(seconds)}")
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
        print(f"event         {event}")
    for remark in remarks:
        print(f"note          {remark}")
