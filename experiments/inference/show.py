"""Printing of `eval.py score` and `eval.py ask`. Long texts from a file go through `one_line`."""

import textwrap
from pathlib import Path

from data.files import one_line
from experiments.config.metrics import direction, mean_sd, number, shown_in
from experiments.terminal import WIDTH, fitting, say, table

FEW_LABELS = 10  # as many as a confusion matrix has room for

# ---- eval.py score ---------------------------------------------------------------------------------------------------


def print_scores(data: dict) -> None:
    """The scores of one or more runs (`commands.score`): a row each, means over repetitions, then where each fails."""
    print_details = DETAILS.get(data["kind"], print_label_details)
    count = ", ".join(f"{data[key]:,} {key}" for key in ("questions", "passages", "texts") if key in data)
    misplaced = f", {data['misplaced']} answers not where they say" if data.get("misplaced") else ""
    say([f"{one_line(data['data'])}: {count}{misplaced}", ""])
    notes = [line for remark in data["remarks"] for line in ("", *textwrap.wrap(f"note: {one_line(remark)}", WIDTH))]
    say(score_table(data["runs"]) + repetition_lines(data["over_seeds"]) + notes)
    for result in data["runs"]:
        say(["", f"{one_line(result['run'])}"])
        if result.get("trained_on"):
            count = result["trained_on"]
            say(f"  trained on    {count:,} of these, as they are or but for case, accents, punctuation and spaces")
        print_details(result)
        if "written" in result:
            say(f"  written       {one_line(result['written'])}")


def score_table(results: list[dict]) -> list[str]:
    """A row per run, in several tables where one would be too wide."""
    names = shown_in({key: None for result in results for key in result}, "line", "table", "score")
    rows = [{"run": short(r["run"]), **{name: number(r.get(name), name) for name in names}} for r in results]
    return [line for part in fitting(rows, ["run", *names]) for line in table(rows, part)]


def repetition_lines(groups: list[dict]) -> list[str]:
    """Mean and standard deviation over repeated runs. groups: see repetitions.average_repetitions."""
    lines = []
    for found in groups:
        figures = [f"{name} {mean_sd(found[name], name)}" for name in shown_in(found, "line", "table", "score")]
        runs = one_line(", ".join(Path(run).name for run in found["runs"]))
        text = f"{len(found['runs'])} runs ({runs}): {', '.join(figures)}"
        lines += ["", *textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
    return lines


def short(name: str) -> str:
    """The end of a path, to fit a column."""
    return one_line(name if len(name) <= 30 else f"...{name[-27:]}")


def print_question_details(result: dict) -> None:
    """Threshold, buckets and misses of one run. See questions.score."""
    if result["threshold"] is not None:
        best = ", ".join(f"{result[f'best_{key}_thresh']:.3f} for {key}" for key in ("exact", "f1"))
        say(f"  threshold     {result['threshold']:.3f} of the null odds was used; best here: {best}")
    if result.get("questions_cut"):
        say(f"  cut           {result['questions_cut']} questions are longer than data.max_query_length")
    for remark in result["remarks"]:
        say_note(remark)
    for name, buckets in result["buckets"].items():
        rows = [
            {"": bucket, "n": str(s["total"]), "exact": f"{s['exact']:.1f}", "f1": f"{s['f1']:.1f}"}
            for bucket, s in buckets.items()
        ]
        print_table(name.replace("_", " "), rows)
    for miss in result.get("errors", []):
        say(["", f"  {one_line(miss['question'])}  ({one_line(miss['id'])}, f1 {miss['f1']:.0f})"])
        gold = " | ".join(miss["gold"]) or "(no answer)"
        say(f"    gold       {one_line(gold)}" + ("  (no window holds it whole)" if miss["cut_off"] else ""))
        say(f"    predicted  {one_line(miss['predicted']) or '(no answer)'}")
        say(f"    sentence   {one_line(miss['sentence'] or '(the gold answer is not where it says)')}")


def print_label_details(result: dict) -> None:
    """Scores of each label, confusions and misses of one run. See texts.score."""
    print_baseline(result)
    if "at" in result:
        print_point(result["at"])
    labels = result.get("labels", {})
    title, chosen = "labels", list(labels)
    if len(labels) > FEW_LABELS:
        title = f"the {FEW_LABELS} labels of {len(labels)} with the lowest f1"
        chosen = sorted(labels, key=lambda label: labels[label]["f1"])[:FEW_LABELS]
    if labels:
        rows = [
            {"": one_line(label), "n": f"{labels[label]['support']:.0f}"}
            | {key: f"{labels[label][key]:.1f}" for key in ("precision", "recall", "f1")}
            for label in chosen
        ]
        print_table(title, rows)
    if "confusion" in result and len(labels) <= FEW_LABELS:
        rows = [
            {"": one_line(label), **{one_line(other): str(n) for other, n in zip(labels, counts, strict=True)}}
            for label, counts in zip(labels, result["confusion"], strict=True)
        ]
        print_table("confusion: a row for each true label, a column for each predicted one", rows)
    elif result.get("confusions"):
        say("  most frequent confusions")
        for pair in result["confusions"]:
            gold, predicted = one_line(pair["gold"]), one_line(pair["predicted"])
            say(f"    {pair['count']:4} of {pair['of']}  {gold} taken for {predicted}")
    for miss in result["errors"]:
        say(["", f"  {one_line(miss['text'])}  ({one_line(miss['id'])}, loss {miss['loss']:.2f})"])
        if miss["pair"] is not None:
            say(f"    pair       {one_line(miss['pair'])}")
        say(f"    gold       {label_text(miss['gold'])}")
        say(f"    predicted  {predicted_text(miss)}")


ALWAYS = {
    "classification": "this file's commonest label",
    "multi_label": "this file's commonest set of labels",
    "regression": "the mean of the training targets",
}


def print_baseline(result: dict) -> None:
    """What an answer that looks at no text reaches, see texts.blind, beside what the model does."""
    names = [name for name in result["baseline"] if name != "answer"]
    blind, model = (
        ", ".join(f"{name} {number(found[name], name)}" for name in names) for found in (result["baseline"], result)
    )
    first = names[0]
    better = direction(first) * (result[first] - result["baseline"][first]) > 0
    say(f"  baseline      always {label_text(result['baseline']['answer'])}, {ALWAYS[result['task']]}: {blind}")
    say(f"                the model: {model}" + ("" if better else "; it is no better"))


def print_point(point: dict) -> None:
    """The threshold that --at asks for, see thresholds.operating_point."""
    ((metric, least),) = point["wanted"].items()
    begin = "" if point["reached"] else f"no threshold gives {metric} {least:g}; the nearest: "
    reached = f"precision {point['precision']:.1f}, recall {point['recall']:.1f}"
    say(f"  at {metric} {least:g}  {begin}{one_line(point['label'])} from a probability of {point['threshold']:.4g} on")
    say(f"                {reached}; said of {point['said']:,} texts, {point['have_it']:,} have it")
    say("                fitted to this file: judge it on another")


def say_note(text: str) -> None:
    say(textwrap.wrap(f"  note          {text}", WIDTH, subsequent_indent=" " * 16))


def print_ranking_details(result: dict) -> None:
    """The encoder and the misses of one run. See ranking.score."""
    cut = f"; {result['texts_cut']} passages are cut" if result["texts_cut"] else ""
    say(f"  encoder       {result['encoder']}{cut}")
    for miss in result["errors"]:
        say(["", f"  {one_line(miss['question'])}  ({one_line(miss['id'])}, place {miss['place']})"])
        for key in ("gold", "first"):
            say(f"    {key:10} {one_line(textwrap.shorten(miss[key], WIDTH, placeholder=' ...'))}")


DETAILS = {"span_qa": print_question_details, "retrieval": print_ranking_details}


def print_table(title: str, rows: list[dict]) -> None:
    say([f"  {title}", *(f"    {line}" for line in table(rows, list(rows[0])))])


def label_text(value: str | float | list[str]) -> str:
    """A label, labels, or a number, as text."""
    if isinstance(value, list):
        return one_line(", ".join(value)) or "(none)"
    return one_line(value) if isinstance(value, str) else f"{value:.4g}"


def predicted_text(answer: dict) -> str:
    """A model's answer to a text, see texts.answers_of."""
    return label_text(next(answer[key] for key in ("label", "labels", "value") if key in answer))


# ---- eval.py ask -----------------------------------------------------------------------------------------------------


def print_answers(results: list[dict]) -> None:
    """The answers to questions, see questions.ask and search.search."""
    for result in results:
        say(one_line(result["question"]))
        if result["question_cut"]:
            say("  (its end was not read: it is longer than data.max_query_length)")
        if "passages" in result:
            print_found(result)
            continue
        for found in result["answers"]:
            print_answer(found, f"  [{one_line(found['text'])}]" if len(result["answers"]) > 1 else "")


def print_answer(found: dict, where: str) -> None:
    """The answer of one text. where: its name, if there are several."""
    best, *others = found["candidates"] or [None]
    if found["answer"]:
        say(f"  {one_line(best['answer'])}  ({best['probability']:.0%}, score {best['score']:.1f}){where}")
        say(f"    {one_line(best['sentence'])}")
        for other in others:
            p, score = other["probability"], other["score"]
            say(f"      or: {one_line(other['answer'])}  ({p:.0%}, score {score:.1f})")
    elif best:
        margin = found["null_odds"] - found["threshold"]
        say(f"  no answer  (by {margin:.1f} over the threshold of {found['threshold']:.1f}){where}")
        for other in found["candidates"]:  # no probabilities: they know nothing of the threshold
            say(f"      or: {one_line(other['answer'])}  (score {other['score']:.1f})")
    else:
        say(f"  no answer  (there are no words in the text){where}")


def print_found(result: dict) -> None:
    """The best answers to a question over many texts, see search.search."""
    for found in result["answers"]:
        say(f"  {one_line(found['answer'])}  (score {found['score']:.1f})  [{one_line(found['text'])}]")
        say(f"    {one_line(found['sentence'])}")
    nearest = result["nearest"]
    if nearest:
        over = nearest["null_odds"] - result["threshold"]
        say(f"  no answer  (by {over:.1f} over the threshold of {result['threshold']:.1f})")
        say(f"      or: {one_line(nearest['answer'])}  [{one_line(nearest['text'])}]")
    read, passages, texts = (f"{result[key]:,}" for key in ("read", "passages", "texts"))
    say(f"    read {read} of {passages} passages of {texts} texts")


def print_label_answers(results: list[dict], count: int = 5) -> None:
    """The answers to texts, see texts.ask. count: probabilities shown of each."""
    for result in results:
        say(one_line(result["text"]))
        say(f"  {predicted_text(result)}")
        for label, p in list(result.get("probabilities", {}).items())[:count]:
            needed = f"  (it takes {result['thresholds'][label]:.1%})" if "thresholds" in result else ""
            say(f"    {p:6.1%}  {one_line(label)}{needed}")
