"""Several runs beside each other (`comparison.compare`), as blocks."""

from collections.abc import Callable

from experiments.report.blocks import COLUMN, Block, shown_metrics
from experiments.terminal import amount, duration, mean_sd, number

MOST_SETTINGS = 8  # columns of settings in a table; --json has all


def comparison_report(found: dict) -> list[Block]:
    """Several runs beside each other (`comparison.compare`) as blocks."""
    blocks = [
        outcome_comparison(found),
        epoch_comparison(found),
        stability_comparison(found),
        cost_comparison(found),
        difference_block(found),
        effect_block(found),
        note_block(found),
    ]
    return [block for block in blocks if block.rows or block.lines]


def row_name(found: dict, place: int) -> str:
    """ "1" and the name of a row's run, or of its first and how many more"""
    row = found["rows"][place]
    more = f" +{len(row['runs']) - 1}" if len(row["runs"]) > 1 else ""
    name = row["runs"][0]
    return f"{place + 1} {name if len(name) <= 28 else name[:12] + '...' + name[-13:]}{more}"


def table_block(title: str, found: dict, order: list[int], cells: Callable[[dict], dict], **more) -> Block:
    """A table of rows in an order. cells: {column: (text, name among the leaders)} of a row."""
    rows, leads = [], set()
    for i, place in enumerate(order):
        made = cells(found["rows"][place])
        rows.append({"run": row_name(found, place), **{column: text for column, (text, _) in made.items()}})
        leads |= {(i, column) for column, (_, name) in made.items() if found["leaders"].get(name) == place}
    return Block(title, rows, leads=leads, **more)


def outcome_comparison(found: dict) -> Block:
    def cells(row: dict) -> dict:
        metrics = shown_metrics(row["metrics"], row["metric"])
        settings = dict(list(row["settings"].items())[:MOST_SETTINGS])
        return (
            {"n": (str(len(row["runs"])), "")}
            | {COLUMN.get(name, name): (mean_sd(row["metrics"][name], name), name) for name in metrics}
            | {"since best": (mean_sd(row["final_minus_best"], row["metric"]), "")}
            | {key: (str(value), "") for key, value in settings.items()}
        )

    metric = found["metric"]
    order = f"ranked by {metric}" if metric else "not ranked, the runs have different eval.metric;"
    note = (
        f"{order} at each run's best evaluation; mean ± sd over the n runs that share all but seed and fold; * leads "
        "its column; since best: the last evaluation less the best"
    )
    if len(found["differing"]) > MOST_SETTINGS:
        note += f"; {len(found['differing']) - MOST_SETTINGS} more settings differ, see --json"
    return table_block("By outcome", found, list(range(len(found["rows"]))), cells, note=note)


def epoch_comparison(found: dict) -> Block:
    """The metric epoch by epoch, and where it got worse."""
    lines = []
    for place, row in enumerate(found["rows"]):
        if len(row["by_epoch"]) < 2:
            continue
        values = ", ".join(number(each["mean"], row["metric"]) for each in row["by_epoch"])
        falls = [fall_text(i, each, row["metric"]) for i, each in enumerate(row["by_epoch"], 1) if each["fell"]]
        text = f"{row_name(found, place)}: {row['metric']} {values}{''.join(falls) or '; never got worse'}"
        lines.append(("", text))
    return Block("Epoch by epoch", lines=lines)


def fall_text(epoch: int, each: dict, metric: str) -> str:
    """ "; worse by 0.4 in epoch 2 (within the 95 % interval of ± 1.8)" """
    sure = ""
    if each["interval"] is not None:
        inside = "within" if each["fell"] < each["interval"] else "beyond"
        sure = f" ({inside} the 95 % interval of ± {number(each['interval'], metric)})"
    return f"; worse by {number(each['fell'], metric)} in epoch {epoch}{sure}"


def stability_comparison(found: dict) -> Block:
    """How steadily each row trained, the steadiest first."""

    def cells(row: dict) -> dict:
        verdicts = ", ".join(
            f"{count} {name}" if len(row["verdicts"]) > 1 else name for name, count in row["verdicts"].items()
        )
        return {
            "scatter": (mean_sd(row["scatter"], "loss"), "scatter"),
            "osc. per 100": (mean_sd(row["per_100_steps"], ""), "per_100_steps"),
            "volatility": (mean_sd(row["volatility"], "loss"), "volatility"),
            "spikes": (str(row["spikes"]), ""),
            **({"not finite": (str(row["nonfinite"]), "")} if any(r["nonfinite"] for r in found["rows"]) else {}),
            "verdict": (verdicts or "-", ""),
        }

    order = found["steady_order"]
    note = (
        "ranked by scatter: how far losses lie from their own trend; the number in front of a run is "
        "its place by outcome"
    )
    if order is None:
        order = list(range(len(found["rows"])))
        every = {row["records_every"]["mean"] for row in found["rows"] if row["scatter"]}
        steps = ", ".join(f"{each:g}" for each in sorted(every))
        note = f"not ranked: a loss in these diaries is the mean of {steps} steps, and more of them scatter less"
    return table_block("By stability", found, order, cells, note=note)


def cost_comparison(found: dict) -> Block:
    def cells(row: dict) -> dict:
        return {
            "trains": (amount(row["trainable"] or 0), ""),
            "training": (duration(row["train_seconds"]["mean"]), "train_seconds"),
            "tokens/s": (f"{row['tokens_per_second']['mean']:,.0f}", ""),
            "memory": (f"{row['peak_memory_mb']:,} MiB", "peak_memory_mb"),
            "checkpoint": (f"{row['best_bytes'] / 1e6:.1f} MB" if row["best_bytes"] else "-", ""),
        }

    return table_block("Cost", found, list(range(len(found["rows"]))), cells)


# ---- more than noise? ------------------------------------------------------------------------------------------------

TESTS_NOTE = (
    "distinguishable: every test has p < 0.05, one over the runs among them; as models: only the one over examples "
    "says so, and with fewer than three runs other seeds may come out the other way. Paired bootstrap: over the "
    "development examples, scores averaged over a row's seeds. Welch's t: over a row's runs. The first row was chosen "
    "as the best of these, so expect its lead to shrink on new data"
)


def difference_block(found: dict) -> Block:
    lines = [("", difference_text(found, entry)) for entry in found["differences"]]
    return Block("Against the first", lines=lines, note=TESTS_NOTE if lines else "")


def difference_text(found: dict, entry: dict) -> str:
    """ "2 b: -1.0 accuracy, 92 % more oscillations, 1.9 times the time; not distinguishable (p = 0.31, n = 600)" """
    metric = found["metric"]
    parts = [f"{number(entry['difference'], metric, '+')} {metric}"]
    ratio = entry["oscillations_ratio"]
    if ratio is not None and abs(ratio - 1) > 0.05:
        parts.append(f"{abs(ratio - 1):.0%} {'more' if ratio >= 1 else 'fewer'} oscillations")
    if entry["time_ratio"] is not None:
        parts.append(f"{entry['time_ratio']:.2f} times the time")
    return f"{row_name(found, entry['row'])}: {', '.join(parts)}; {verdict_text(entry)}"


def verdict_text(entry: dict) -> str:
    """Whether a difference is more than noise, and by which tests. entry: see pairing.against."""
    tests = ", ".join(f"{t['test']}: p {p_text(t['p'])}, n = {t['n']:,}" for t in entry["tests"])
    known = [each for each in (entry["settings_differ"], entry["models_differ"]) if each is not None]
    why = f"no test over examples: {entry['untested']}" if entry["untested"] else ""
    if not known:
        verdict = "too few runs to say more"
    elif not known[0]:
        verdict = "not distinguishable"
    else:
        few = " as models, too few runs to say so of the settings"
        verdict = "distinguishable" + ("" if entry["settings_differ"] else few)
    return verdict + (f" ({', '.join(filter(None, (tests, why)))})" if tests or why else "")


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def effect_block(found: dict) -> Block:
    metric, lines = found["metric"], []
    for e in found["effects"]:
        text = f"from {e['from']} to {e['to']}: {metric} {number(e['change'], metric, '+')}; {verdict_text(e)}"
        lines.append((e["setting"], text))
    return Block("One setting apart", lines=lines)


def note_block(found: dict) -> Block:
    notes = []
    for place, row in enumerate(found["rows"]):
        if not row["ended"]:
            notes.append(f"row {place + 1} is of runs that have not ended: it leads in nothing and is not tested")
        notes += [f"{each['run']} is {each['status']} and does not count" for each in row["left_out"]]
    notes += [f"{name} has no evaluation yet" for name in found["without"]] + found["remarks"]
    return Block("Notes", lines=[("note", text) for text in notes])
