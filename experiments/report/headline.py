"""One sentence for a reader in a hurry: what a run reached and how sure that is, or what a comparison comes to."""

from experiments.config.metrics import mean_sd, number
from experiments.records import look_up

MOST_SETTINGS = 3  # in the name of a row; a row that differs in more goes by its first run's name

# ---- one run ---------------------------------------------------------------------------------------------------------


def of_run(s: dict) -> str:
    """The sentence about one run, given its figures (figures.summary_of):

    exact 78.0 (95 % interval 74.5 to 81.1, 600 examples, one seed), still improving when it ended. Next: more epochs
    """
    best, metric = s["best"], s["metric"]
    if best is None:
        return f"{s['status']} at step {s['steps']}, without an evaluation that could be the best"
    interval, counts = look_up(s, "coverage.interval"), look_up(s, "coverage.examples") or {}
    ends = [number(interval[end], metric) for end in ("low", "high")] if interval else []
    sure = [f"95 % interval {ends[0]} to {ends[1]}"] if ends else []
    sure += [f"{sum(counts.values()):,} examples"] if counts else []
    reached = f"{metric} {number(best['metrics'][metric], metric)} ({', '.join([*sure, 'one seed'])})"
    unsound = look_up(s, "generalisation.unsound")
    if unsound:
        return f"worth nothing: {unsound}"
    if s["status"] == "diverged":
        reached = f"diverged at step {s['steps']}; before that, {reached}"
    elif s["status"] == "unfinished":
        reached = f"not finished, step {s['steps']} of {s['steps_planned']}; so far {reached}"
    else:
        reached += CLAUSES.get(look_up(s, "generalisation.verdict") or "", "")
    return f"{reached}. Next: {s['suggestions'][0]}" if s["suggestions"] else reached


CLAUSES = {  # {verdict: how it is said in a sentence}
    "still improving": ", still improving when it ended",
    "overfitting": ", overfitting at the end",
    "underfitting": ", underfitting",
}


# ---- several runs ----------------------------------------------------------------------------------------------------


def in_words(value: object) -> str:
    """A setting as a person writes it: ["head", "lora"] is "head+lora", null "-", 2000.0 "2000"."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "+".join(map(in_words, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def labels(rows: list[dict]) -> list[str]:
    """The name of each row, by what tells it apart: its variant, where rows have different ones; else its settings
    that differ ("rank 16", "rank 4"), where they are few; else the name of its first run."""
    variants = [row["settings"].get("variant") for row in rows]
    if None not in variants and len(set(variants)) == len(rows):
        return [str(variant) for variant in variants]
    keys = list(dict.fromkeys(key for row in rows for key in row["settings"]))
    if not 0 < len(keys) <= MOST_SETTINGS or any(isinstance(v, dict) for row in rows for v in row["settings"].values()):
        return [row["runs"][0] for row in rows]
    return [", ".join(f"{key.rpartition('.')[2]} {in_words(row['settings'].get(key))}" for key in keys) for row in rows]


def of_runs(found: dict) -> str:
    """The sentence about several runs, given comparison.compare's figures: which rows cannot be told from the first,
    and by how much the others are behind.

    r16 and full are not distinguishable: f1 92.8 ± 0.9 and 92.7 ± 0.4 (p = 0.71, 3 runs each); r4 is 2.1 behind (...)
    """
    rows, metric = found["rows"], found["metric"]
    if metric is None:
        return "the runs were judged by different metrics, so they are not ranked"
    able = [row for row in rows if row["ended"] and row["sound"]]
    if len(able) < 2:
        return "there are no two settings to compare" if able else "none of these runs has ended with a sound model"
    first, tests = able[0], {each["row"]: each for each in found["differences"]}
    alike = [row for row in able[1:] if tests[row["row"]]["verdict"] == "not distinguishable"]
    unsure = [row for row in able[1:] if tests[row["row"]]["verdict"] in ("too few runs", "distinguishable as models")]
    reached = f"{metric} {mean_sd(first['metrics'][metric], metric)}"
    if alike:
        names = " and ".join(row["label"] for row in (first, *alike))
        values = [mean_sd(row["metrics"][metric], metric) for row in alike]
        said = [f"{names} are not distinguishable: {' and '.join([reached, *values])} ({sure(alike, tests, -1)})"]
    else:
        said = [f"{first['label']} is best: {reached} (n = {len(first['runs'])})"]
    for row in [row for row in able[1:] if row not in alike]:
        behind = f"{row['label']} is {number(abs(tests[row['row']]['difference']), metric)} behind"
        doubt = ", too few runs to be sure of other seeds" if row in unsure else ""
        said.append(f"{behind} ({sure([row], tests, 0 if doubt else -1)}){doubt}")
    return "; ".join(said)


def sure(rows: list[dict], tests: dict[int, dict], which: int) -> str:
    """ "p = 0.71, 3 runs each": the largest p. which: 0 for the bootstrap, -1 for Welch's test, if there are both."""
    found = [tests[row["row"]]["tests"][which] for row in rows if tests[row["row"]]["tests"]]
    if not found:
        return "no test"
    worst = max(found, key=lambda test: test["p"])
    p = "p < 0.001" if worst["p"] < 0.001 else f"p = {worst['p']:.2g}"
    return f"{p}, {worst['n']:,} {'examples' if worst['test'] == 'paired bootstrap' else 'runs each'}"


# ---- what else differs -----------------------------------------------------------------------------------------------


def confounders(rows: list[dict]) -> list[str]:
    """Remarks on what moves along with a setting that seems to be compared alone."""
    found = []
    ranks = [(row["settings"].get("lora.rank"), row["scaling"]) for row in rows]
    scalings = {round(scaling, 6) for _, scaling in ranks if scaling is not None}
    if len({rank for rank, scaling in ranks if scaling is not None}) > 1 and len(scalings) > 1:
        told = ", ".join(f"{scaling:g} at rank {rank}" for rank, scaling in ranks if scaling is not None)
        found.append(f"the scaling of the adapters (alpha / rank) moves with lora.rank: {told}")
    for name in ("epochs", "steps"):
        if len({row[name] for row in rows}) > 1:
            told = ", ".join(f"{row[name]:g} in row {row['row'] + 1}" for row in rows)
            found.append(f"the rows were given different numbers of {name}: {told}")
            break  # epochs explain steps
    return found
