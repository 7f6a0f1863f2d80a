"""The summary of one run (`analysis.summarise`) as blocks of text and tables: what `eval.py summary` says."""

from collections import Counter

from experiments.report.blocks import COLUMN, Block, shown_metrics
from experiments.terminal import amount, clock_line, duration, number


def run_report(s: dict) -> list[Block]:
    """The summary of one run (`analysis.summarise`) as blocks."""
    title = f"{s['name']}: {s['status']}, {s['steps']} of {s['steps_planned']} steps, seed {s['seed']}"
    if s["status"] == "unfinished":
        title += f", last written {s['last_written'][:16].replace('T', ' ')} UTC"
    data = ", ".join(f"{split}: {count}" for split, count in s["data"].items())
    head = Block(
        title, lines=[("", f"{s['task']} on {s['pretrained']}, {s['device']} in {s['precision']}"), ("", data)]
    )
    blocks = [head, evaluation_block(s), epoch_block(s), phase_block(s), health_block(s), cost_block(s)]
    if s["suggestions"]:
        blocks.append(Block("Suggestions", lines=[(str(i), text) for i, text in enumerate(s["suggestions"], 1)]))
    notes = event_lines(s["events"]) + [("note", remark) for remark in s["remarks"]]
    if notes:
        blocks.append(Block("Events and notes", lines=notes))
    return [block for block in blocks if block.rows or block.lines]


MOST_EVENTS = 5  # of one kind that are shown


def event_lines(events: list[str]) -> list[tuple[str, str]]:
    """The first few events of each kind ("overflow at step 3: ..."), and how many more there were."""
    lines, kinds = [], Counter()
    for event in events:
        kind = event.partition(" at step ")[0]
        kinds[kind] += 1
        if kinds[kind] <= MOST_EVENTS:
            lines.append(("event", event))
    return lines + [("event", f"{kind}: {n - MOST_EVENTS} more") for kind, n in kinds.items() if n > MOST_EVENTS]


def evaluation_block(s: dict) -> Block:
    if not s["evaluations"]:
        return Block("Evaluations", lines=[("", "no evaluation yet")])
    metric = s["metric"]
    metrics = shown_metrics(s["evaluations"][0], metric)
    rows = [
        {
            "": "best" if row["best"] else "",
            "step": str(row["step"]),
            "epoch": f"{row['epoch']:.2f}",
            "phase": str(row["phase"]),
            "training": duration(row["train_seconds"]),
            "train loss": number(row["train_loss"], "loss"),
            **{COLUMN.get(key, key): number(row.get(key), key) for key in metrics},
            **({f"{metric} on train": number(row["on_train"].get(metric), metric)} if row["on_train"] else {}),
        }
        for row in s["evaluations"]
    ]
    best = next((i for i, row in enumerate(s["evaluations"]) if row["best"]), None)
    return Block("Evaluations", rows, outcome_lines(s), best=best)


def outcome_lines(s: dict) -> list[tuple[str, str]]:
    """The best evaluation with the interval of its metric, and what the rest of the run cost against it."""
    best, final, metric, later = s["best"], s["final"], s["metric"], s["after_best"]
    if best is None:
        return []
    interval = s["coverage"]["intervals"].get(metric)
    low, high = (number(interval[end], metric) if interval else "" for end in ("low", "high"))
    sure = f", 95 % interval {low} to {high} ({interval['by']})" if interval else ""
    where = f"step {best['step']}, epoch {best['epoch']:.2f}, {best['phase']}"
    lines = [("best", f"{metric} {number(best[metric], metric)}{sure}, at {where}")]
    if best is not final and final["step"] > best["step"]:
        change = s["final_minus_best"]
        text = ", ".join(f"{key} {number(change[key], key, '+')}" for key in shown_metrics(change, metric))
        lines.append(("final - best", text))
        lines.append(
            (
                "after best",
                f"the best model is not the last: epoch {best['epoch']:.1f} of {final['epoch']:.1f}; stopping there "
                f"would have saved {duration(later['seconds'])} of training ({later['share']:.0%})",
            )
        )
    return lines


def epoch_block(s: dict) -> Block:
    rows = []
    for row in s["epochs"]:
        evaluation = row["evaluation"] or {}
        highest = max((rate["highest"] for rate in row["lr"].values()), default=None)
        rows.append(
            {
                "epoch": str(row["epoch"]),
                "train loss": number(row["train_loss"], "loss"),
                "fell by": number(row["improvement"], "loss"),
                "dev loss": number(evaluation.get("loss"), "loss"),
                s["metric"]: number(evaluation.get(s["metric"]), s["metric"]),
                "highest lr": "-" if highest is None else f"{highest:.2g}",
                "training": duration(row["seconds"]),
            }
        )
    note = "fell by: the training loss, from the first to the last tenth of the epoch"
    return Block("Epochs", rows, note=note) if rows else Block("Epochs")


def phase_block(s: dict) -> Block:
    rows = []
    for row in s["phases"]:
        change = (row["change"] or {}).get(s["metric"])
        rows.append(
            {
                "phase": row["phase"],
                "steps": str(row["planned"]),
                "trains": f"{amount(row['parameters'])} ({row['share']:.2%})",
                "train loss": number(row["train_loss"], "loss"),
                "fell by": number(row["improvement"], "loss"),
                "dev loss": number((row["evaluation"] or {}).get("loss"), "loss"),
                f"{s['metric']}": number((row["evaluation"] or {}).get(s["metric"]), s["metric"]),
                "change": number(change, s["metric"], "+"),
                "training": duration(row["seconds"]),
            }
        )
    note = f"change: of {s['metric']}, against the last evaluation before the phase"
    return Block("Phases", rows, note=note) if rows else Block("Phases")


def health_block(s: dict) -> Block:
    """Generalisation, stability, and how sure the figures are."""
    lines, found, stable, sure = [], s["generalisation"], s["stability"], s["coverage"]
    if found:
        since = f" since step {found['since']}" if found["since"] is not None else ""
        change, gap = found["change"], found["gap"]
        sofar = " so far" if s["status"] == "unfinished" else ""
        lines.append(("verdict", f"{found['verdict']}{since}{sofar}"))
        footing = "evaluated alike" if found["footing"] == "same" else "in training mode"
        gaps = f"dev loss - training loss ({footing}): {gap['first']:+.3f} first, {gap['last']:+.3f} last"
        lines.append(("gap", gaps))
        if found["metric_gap"]:
            metric, ahead = s["metric"], found["metric_gap"]
            first, last = (number(ahead[key], metric, "+") for key in ("first", "last"))
            lines.append(("metric gap", f"{metric} better on a sample of training, by {first} first, {last} last"))
        if change["loss"]:
            text = f"dev loss {change['loss']:+.3f}, training loss {change['train_loss']:+.3f}"
            lines.append(("since lowest", text))
        lines += [("mind", remark) for remark in found["remarks"]]
    lines += stability_lines(stable)
    if sure:
        examples = ", ".join(f"{count:,} ({name})" for name, count in sure["examples"].items())
        lines.append(
            ("coverage", f"{sure['evaluations']} evaluations, {sure['every_steps']:.0f} steps apart, on {examples}")
        )
    note = (
        f"oscillation: the loss of a record differs from the one before by more than {100 * stable['threshold']:g} %; "
        "volatility: mean of the standard deviations of 20 losses in a row; scatter: the same around their trend; "
        "spike: above the mean of the 20 before by more than 3 of their standard deviations and 10 %; "
        "overfitting: the dev loss rose by more than 2 % while the training loss fell and the metric got no better; "
        "underfitting: the training loss fell by less than half, or in the last interval the dev loss fell by more "
        "than 5 % and the metric got better by more than its 95 % interval"
    )
    return Block("Health", lines=lines, note=note)


def stability_lines(stable: dict) -> list[tuple[str, str]]:
    lines = []
    if stable["oscillations"] is not None:
        scatter = "" if stable["scatter"] is None else f", scatter {stable['scatter']:.3f}"
        lines.append(
            (
                "stability",
                f"{stable['oscillations']} oscillations in {stable['losses'] - 1} changes, "
                f"{stable['per_100_steps']:.1f} per 100 steps; volatility {stable['volatility']:.3f}{scatter}; "
                f"{stable['spikes']} spikes",
            )
        )
    if stable["gradient"]:
        *percentiles, (_, largest) = stable["gradient"].items()
        names = ", ".join(f"{key} {value:.2f}" for key, value in percentiles)
        bit = "" if stable["clipped"] is None else f"; clipping bit in {stable['clipped']:.0%} of the steps"
        lines.append(("gradient", f"norm {names} (of records' means), largest of all {largest:.2f}{bit}"))
    if stable["nonfinite"] or stable["overflows"]:
        text = f"{stable['nonfinite']} steps without a finite loss or gradient, {stable['overflows']} fp16 overflows"
        lines.append(("not finite", text))
    return lines


def cost_block(s: dict) -> Block:
    seconds, speed = dict(s["seconds"]), s["throughput"]
    lines = [("time", f"{duration(seconds.pop('total'))}: {clock_line(seconds)}")]
    if speed["tokens_per_second"]:
        what = "windows" if s["task"] == "span_qa" else "examples"
        lines.append(
            (
                "speed",
                f"{speed['median']:,.0f} real tokens/s in training (median; quartiles {speed['low']:,.0f} to "
                f"{speed['high']:,.0f}), {speed['examples_per_second']:,.0f} {what}/s, {speed['padding']:.1%} padding",
            )
        )
        if speed["stalled"]["records"]:
            stalled = speed["stalled"]
            records = f"{stalled['records']} records over 10 times slower than the median"
            lines.append(("stalls", f"{duration(stalled['seconds'])} of it in {records}"))
    if s["peak_memory_mb"]:
        size = f", best checkpoint {s['best_bytes'] / 1e6:.1f} MB" if s["best_bytes"] else ""
        lines.append(("memory", f"{s['peak_memory_mb']:,} MiB at its peak{size}"))
    return Block("Cost", lines=lines)
