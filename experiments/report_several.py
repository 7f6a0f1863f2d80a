"""Several runs beside each other (`comparison.compare`), as blocks."""

from experiments.report import COLUMN, Block, amount, duration, mean_sd, number, shown_metrics
from inputs import one_line


def comparison_report(found: dict) -> list[Block]:
    """Several runs beside each other (`comparison.compare`) as blocks."""
    blocks = [
        outcome_comparison(found),
        epoch_comparison(found),
        stability_comparison(found),
        cost_comparison(found),
    ]
    if found["differences"]:
        lines = [("", difference_text(entry, found["metric"])) for entry in found["differences"]]
        blocks.append(Block("Against the first", lines=lines, note=DIFFERENCE_NOTE))
    if found["effects"]:
        metric = found["metric"]
        lines = [
            (
                e["setting"],
                f"from {one_line(e['from'])} to {one_line(e['to'])}: {metric} {number(e['change'], metric, '+')}",
            )
            for e in found["effects"]
        ]
        blocks.append(Block("One setting apart", lines=lines))
    notes = [("note", f"{one_line(n)} is not finished") for row in found["rows"] for n in row["unfinished"]]
    notes += [("note", f"{one_line(name)} has no evaluation yet") for name in found["without"]]
    if notes:
        blocks.append(Block("Notes", lines=notes))
    return [block for block in blocks if block.rows or block.lines]


DIFFERENCE_NOTE = (
    "not distinguishable: a test that could be made has p of 0.05 or more. Paired bootstrap: over the development "
    "examples, scores averaged over a row's runs. Welch's t: over a row's runs (seeds, folds)"
)


def row_name(row: dict, number: int) -> str:
    """ "1" and the name of a row's run, or of its first and how many more"""
    more = f" +{len(row['runs']) - 1}" if len(row["runs"]) > 1 else ""
    name = one_line(row["runs"][0])
    return f"{number} {name if len(name) <= 28 else name[:12] + '...' + name[-13:]}{more}"


def cell(found: dict, place: int, column: str, text: str) -> str:
    """A cell, marked where its row leads the column."""
    return f"*{text}" if found["leaders"].get(column) == place else text


def outcome_comparison(found: dict) -> Block:
    rows = []
    for place, row in enumerate(found["rows"]):
        metrics = shown_metrics(row["metrics"])
        rows.append(
            {
                "run": row_name(row, place + 1),
                "n": str(len(row["runs"])),
                **{COLUMN.get(k, k): cell(found, place, k, mean_sd(row["metrics"][k], k)) for k in metrics},
                "since best": mean_sd(row["final_minus_best"], row["metric"]),
                **{key: one_line(str(value)) for key, value in row["settings"].items()},
            }
        )
    metric = found["metric"] or "each its own metric"
    note = (
        f"ranked by {metric} at each run's best evaluation; mean ± sd over the n runs that share all but seed and "
        "fold; * leads its column; since best: the last evaluation less the best"
    )
    return Block("By outcome", rows, note=note)


def epoch_comparison(found: dict) -> Block:
    """The metric epoch by epoch, and where it fell."""
    lines = []
    for place, row in enumerate(found["rows"]):
        if len(row["by_epoch"]) < 2:
            continue
        values = ", ".join(number(each["mean"], row["metric"]) for each in row["by_epoch"])
        falls = [fall_text(i, each, row["metric"]) for i, each in enumerate(row["by_epoch"], 1) if each["fell"]]
        lines.append(("", f"{row_name(row, place + 1)}: {row['metric']} {values}{''.join(falls) or '; never fell'}"))
    return Block("Epoch by epoch", lines=lines)


def fall_text(epoch: int, each: dict, metric: str) -> str:
    """ "; fell by 0.4 in epoch 2 (within the 95 % interval of ± 1.8)" """
    sure = ""
    if each["interval"] is not None:
        inside = "within" if each["fell"] < each["interval"] else "beyond"
        sure = f" ({inside} the 95 % interval of ± {number(each['interval'], metric)})"
    return f"; fell by {number(each['fell'], metric)} in epoch {epoch}{sure}"


def stability_comparison(found: dict) -> Block:
    """How steadily each row trained, the steadiest first."""
    rows = []
    known = [(place, row) for place, row in enumerate(found["rows"]) if row["per_100_steps"]]
    for place, row in sorted(known, key=lambda pair: pair[1]["per_100_steps"]["mean"]):
        verdicts = ", ".join(
            f"{count} {name}" if len(row["verdicts"]) > 1 else name for name, count in row["verdicts"].items()
        )
        rows.append(
            {
                "run": row_name(row, place + 1),
                "osc. per 100": cell(found, place, "per_100_steps", mean_sd(row["per_100_steps"], "")),
                "volatility": cell(found, place, "volatility", mean_sd(row["volatility"], "loss")),
                "spikes": str(row["spikes"]),
                "not finite": str(row["nonfinite"]),
                "verdict": verdicts or "-",
            }
        )
    note = "ranked by oscillations in 100 steps; the number in front of a run is its place by outcome"
    return Block("By stability", rows, note=note) if rows else Block("By stability")


def cost_comparison(found: dict) -> Block:
    rows = []
    for place, row in enumerate(found["rows"]):
        rows.append(
            {
                "run": row_name(row, place + 1),
                "trains": amount(row["trainable"] or 0),
                "training": cell(found, place, "train_seconds", duration(row["train_seconds"]["mean"])),
                "tokens/s": f"{row['tokens_per_second']['mean']:,.0f}",
                "memory": cell(found, place, "peak_memory_mb", f"{row['peak_memory_mb']:,} MiB"),
                "checkpoint": f"{row['best_bytes'] / 1e6:.1f} MB" if row["best_bytes"] else "-",
            }
        )
    return Block("Cost", rows)


def difference_text(entry: dict, metric: str) -> str:
    """ "b: -1.0 accuracy, 92 % more oscillations, 1.9 times the time; not distinguishable (p = 0.31, n = 600)" """
    parts = [f"{number(entry['difference'], metric, '+')} {metric}"]
    ratio = entry["oscillations_ratio"]
    if ratio is not None:
        parts.append(f"{abs(ratio - 1):.0%} {'more' if ratio >= 1 else 'fewer'} oscillations")
    if entry["time_ratio"] is not None:
        parts.append(f"{entry['time_ratio']:.2g} times the time")
    tests = ", ".join(f"{t['test']}: p = {t['p']:.3f}, n = {t['n']:,}" for t in entry["tests"])
    verdict = {True: "distinguishable", False: "not distinguishable", None: "one run each, no scores kept: no test"}
    name = one_line(entry["other"][0])
    return f"{name}: {', '.join(parts)}; {verdict[entry['distinguishable']]}" + (f" ({tests})" if tests else "")
