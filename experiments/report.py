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
    """Losses with three decimals, percentages with one, "-" where there is no value. sign: "+" shows it always."""
    if value is None:
        return "-"
    return f"{value:{sign}.3f}" if "loss" in name else f"{value:{sign}.1f}"


COLUMN = {"train_loss": "train loss", "loss": "dev loss"}
# Columns of their own, or of little use beside the others (--json has them): a "no answer" is right or wrong, so its
# exact match and its F1 are one number.
NOT_SHOWN = (
    *("step", "epoch", "phase", "seconds", "best", "HasAns_exact", "NoAns_exact"),
    *("total", "HasAns_total", "NoAns_total", "best_exact", "best_exact_thresh", "best_f1_thresh"),
)


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
    for remark in remarks:
        print(f"note          {one_line(remark)}")


# ---- eval.py score ---------------------------------------------------------------------------------------------------

SCORES = {
    "exact": "exact",
    "f1": "f1",
    "HasAns_exact": "HasAns exact",
    "HasAns_f1": "HasAns f1",
    "NoAns_f1": "NoAns",
    "best_exact": "best exact",
    "best_f1": "best f1",
    "start_accuracy": "start",
    "end_accuracy": "end",
    "span_accuracy": "both",
}


def print_scores(data: str, questions: int, misplaced: int, results: list[dict]) -> None:
    """What `eval.py score` found, a row per run, then where each fails. results: see answering.score_run."""
    print(
        f"{data}: {questions:,} questions" + (f", {misplaced} answers not where they say" if misplaced else "") + "\n"
    )
    columns = [key for key in SCORES if any(key in result for result in results)]
    rows = []
    for result in results:
        values = {SCORES[key]: number(result.get(key), key) for key in columns}
        rows.append({"": short(result["run"]), **values})
    print("\n".join(table(rows, ["", *(SCORES[key] for key in columns)])))
    for result in results:
        print(f"\n{one_line(result['run'])}")
        if result["threshold"] is not None:
            best = ", ".join(f"{result[f'best_{key}_thresh']:.3f} for {key}" for key in ("exact", "f1"))
            print(f"  threshold     {result['threshold']:.3f} of the null odds was used; best here: {best}")
        if result.get("questions_cut"):
            print(f"  cut           {result['questions_cut']} questions are longer than data.max_query_length")
        if result.get("missing"):
            first = one_line(", ".join(result["missing"][:3]))
            print(
                f"  missing       {len(result['missing'])} questions have no prediction and score 0; the first: {first}"
            )
        for name, buckets in result["buckets"].items():
            shown = [
                {"": bucket, "n": str(s["total"]), "exact": f"{s['exact']:.1f}", "f1": f"{s['f1']:.1f}"}
                for bucket, s in buckets.items()
            ]
            lines = table(shown, ["", "n", "exact", "f1"])
            print(f"  {name.replace('_', ' ')}\n    " + "\n    ".join(lines))
        for miss in result.get("errors", []):
            print_miss(miss)
        if "written" in result:
            print(f"  written       {one_line(result['written'])}: predictions.json, nbest.json, null_odds.json")


def short(name: str) -> str:
    """The end of a path, to fit a column."""
    return one_line(name if len(name) <= 30 else f"...{name[-27:]}")


def print_miss(miss: dict) -> None:
    print(f"\n  {one_line(miss['question'])}  ({one_line(miss['id'])}, f1 {100 * miss['f1']:.0f})")
    gold = " | ".join(miss["gold"]) or "(no answer)"
    print(f"    gold       {one_line(gold)}" + ("  (no window holds it whole)" if miss["cut_off"] else ""))
    print(f"    predicted  {one_line(miss['predicted']) or '(no answer)'}")
    print(f"    sentence   {one_line(miss['sentence'])}")


# ---- eval.py ask -----------------------------------------------------------------------------------------------------


def print_answers(results: list[dict]) -> None:
    """What `eval.py ask` found. results: see answering.ask."""
    for result in results:
        print(one_line(result["question"]))
        for found in result["answers"]:
            where = f"  [{one_line(found['text'])}]" if len(result["answers"]) > 1 else ""
            if found["answer"]:
                best, *others = found["candidates"]
                print(f"  {one_line(best['answer'])}  ({best['probability']:.0%}, score {best['score']:.1f}){where}")
                print(f"    {one_line(best['sentence'])}")
            else:
                others = found["candidates"]
                margin = found["null_odds"] - (found["threshold"] or 0.0)
                print(f"  no answer  (by {margin:.1f} over the threshold of {found['threshold'] or 0.0:.1f}){where}")
            for other in others:
                print(
                    f"      or: {one_line(other['answer'])}  ({other['probability']:.0%}, score {other['score']:.1f})"
                )
