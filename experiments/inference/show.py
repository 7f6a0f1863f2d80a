"""What `eval.py score` and `eval.py ask` print. Whatever comes from a file goes through `one_line`."""

import textwrap
from pathlib import Path

from data.files import one_line
from experiments.terminal import WIDTH, fitting, mean_sd, number, table

# ---- eval.py score: answers to questions -----------------------------------------------------------------------------

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


def score_table(results: list[dict], names: dict[str, str]) -> list[str]:
    """A row per run, in several tables where one would be too wide. names: {metric: column}; those that no run has are
    left out."""
    columns = [key for key in names if any(key in result for result in results)]
    rows = [
        {"run": short(result["run"]), **{names[key]: number(result.get(key), key) for key in columns}}
        for result in results
    ]
    return [line for part in fitting(rows, list(rows[0])) for line in table(rows, part)]


def seed_lines(groups: list[dict], names: dict[str, str]) -> list[str]:
    """Mean and standard deviation over repeated runs. groups: see comparison.over_seeds; names: as for score_table."""
    lines = []
    for found in groups:
        shown = ", ".join(f"{names[key]} {mean_sd(found[key], key)}" for key in names if key in found)
        runs = one_line(", ".join(Path(run).name for run in found["runs"]))
        text = f"{len(found['runs'])} runs ({runs}): {shown}"
        lines += ["", *textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
    return lines


def print_scores(data: dict) -> None:
    """What `eval.py score` found of span QA, a row per run, then where each fails. See answering.score_run."""
    misplaced = f", {data['misplaced']} answers not where they say" if data["misplaced"] else ""
    print(f"{one_line(data['data'])}: {data['questions']:,} questions{misplaced}\n")
    print("\n".join(score_table(data["runs"], SCORES) + seed_lines(data["over_seeds"], SCORES)))
    for result in data["runs"]:
        print(f"\n{one_line(result['run'])}")
        print_trained_on(result)
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


def print_trained_on(result: dict) -> None:
    """A warning where a run is scored on what it was trained on."""
    if result.get("trained_on"):
        count = result["trained_on"]
        print(f"  trained on    {count:,} of these, as they are or but for case, accents, punctuation and spaces")


def short(name: str) -> str:
    """The end of a path, to fit a column."""
    return one_line(name if len(name) <= 30 else f"...{name[-27:]}")


def print_miss(miss: dict) -> None:
    print(f"\n  {one_line(miss['question'])}  ({one_line(miss['id'])}, f1 {miss['f1']:.0f})")
    gold = " | ".join(miss["gold"]) or "(no answer)"
    print(f"    gold       {one_line(gold)}" + ("  (no window holds it whole)" if miss["cut_off"] else ""))
    print(f"    predicted  {one_line(miss['predicted']) or '(no answer)'}")
    print(f"    sentence   {one_line(miss['sentence'] or '(the gold answer is not where it says)')}")


# ---- eval.py score: labels -------------------------------------------------------------------------------------------

LABEL_SCORES = {
    key: key.replace("_", " ")
    for key in (
        *(
            "loss",
            "accuracy",
            "macro_f1",
            "macro_precision",
            "macro_recall",
            "weighted_f1",
            "precision",
            "recall",
            "f1",
        ),
        *("matthews", "roc_auc", "top_3_accuracy", "top_5_accuracy", "ece", "exact", "micro_f1"),
        *("mae", "mse", "rmse", "r2", "pearson", "spearman"),
    )
}
FEW_LABELS = 10  # as many as a confusion matrix has room for


def print_label_scores(data: dict) -> None:
    """What `eval.py score` found on labelled texts, a row per run, then where each fails. See labelling.score_rows."""
    print(f"{one_line(data['data'])}: {data['texts']:,} texts\n")
    print("\n".join(score_table(data["runs"], LABEL_SCORES) + seed_lines(data["over_seeds"], LABEL_SCORES)))
    for result in data["runs"]:
        print(f"\n{one_line(result['run'])}")
        print_trained_on(result)
        labels = result.get("labels", {})
        weakest = sorted(labels, key=lambda label: labels[label]["f1"])
        shown = list(labels) if len(labels) <= FEW_LABELS else weakest[:FEW_LABELS]
        if labels:
            print(
                "  labels"
                if shown == list(labels)
                else f"  the {FEW_LABELS} labels of {len(labels)} with the lowest f1"
            )
            rows = [
                {"": one_line(label), "n": f"{labels[label]['support']:.0f}"}
                | {key: f"{labels[label][key]:.1f}" for key in ("precision", "recall", "f1")}
                for label in shown
            ]
            print("    " + "\n    ".join(table(rows, list(rows[0]))))
        if "confusion" in result and len(labels) <= FEW_LABELS:
            print("  confusion: a row for each true label, a column for each predicted one")
            rows = [
                {"": one_line(label), **{one_line(other): str(n) for other, n in zip(labels, counts, strict=True)}}
                for label, counts in zip(labels, result["confusion"], strict=True)
            ]
            print("    " + "\n    ".join(table(rows, list(rows[0]))))
        elif result.get("confusions"):
            print("  most frequent confusions")
            for pair in result["confusions"]:
                gold, predicted = one_line(pair["gold"]), one_line(pair["predicted"])
                print(f"    {pair['count']:4} of {pair['of']}  {gold} taken for {predicted}")
        for miss in result["errors"]:
            print_label_miss(miss)
        if "written" in result:
            print(f"  written       {one_line(result['written'])}/predictions.jsonl")


def print_label_miss(miss: dict) -> None:
    print(f"\n  {one_line(miss['text'])}  ({one_line(miss['id'])}, loss {miss['loss']:.2f})")
    if miss["pair"] is not None:
        print(f"    pair       {one_line(miss['pair'])}")
    print(f"    gold       {label_text(miss['gold'])}")
    print(f"    predicted  {label_text(miss.get('label', miss.get('labels', miss.get('value'))))}")


def label_text(value: str | float | list[str]) -> str:
    """A label, labels, or a number, as text."""
    if isinstance(value, list):
        return one_line(", ".join(value)) or "(none)"
    return one_line(value) if isinstance(value, str) else f"{value:.4g}"


# ---- eval.py ask -----------------------------------------------------------------------------------------------------


def print_answers(results: list[dict]) -> None:
    """What `eval.py ask` found. results: see answering.ask."""
    for result in results:
        print(one_line(result["question"]))
        if result["question_cut"]:
            print("  (its end was not read: it is longer than data.max_query_length)")
        for found in result["answers"]:
            where = f"  [{one_line(found['text'])}]" if len(result["answers"]) > 1 else ""
            if found["answer"]:
                best, *others = found["candidates"]
                print(f"  {one_line(best['answer'])}  ({best['probability']:.0%}, score {best['score']:.1f}){where}")
                print(f"    {one_line(best['sentence'])}")
                for other in others:
                    print(
                        f"      or: {one_line(other['answer'])}  "
                        f"({other['probability']:.0%}, score {other['score']:.1f})"
                    )
            elif found["candidates"]:
                margin = found["null_odds"] - found["threshold"]
                print(f"  no answer  (by {margin:.1f} over the threshold of {found['threshold']:.1f}){where}")
                for other in found["candidates"]:  # no probabilities: they know nothing of the threshold
                    print(f"      or: {one_line(other['answer'])}  (score {other['score']:.1f})")
            else:
                print(f"  no answer  (there are no words in the text){where}")


def print_label_answers(results: list[dict], count: int = 5) -> None:
    """What `eval.py ask` found for texts. results: see labelling.ask_texts. count: probabilities shown of each."""
    for result in results:
        print(one_line(result["text"]))
        print(f"  {label_text(result.get('label', result.get('labels', result.get('value'))))}")
        for label, p in list(result.get("probabilities", {}).items())[:count]:
            needed = f"  (it takes {result['thresholds'][label]:.1%})" if "thresholds" in result else ""
            print(f"    {p:6.1%}  {one_line(label)}{needed}")
