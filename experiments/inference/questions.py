"""Scoring a trained span QA model on a file, finding where it fails, and asking it questions."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.decoding import Answers, Span
from data.files import read_bytes
from data.readers import Question, read_questions
from data.squad import Windows, token_span
from data.squad_metrics import Scores, average
from experiments.inference.trained import Scored, Trained, trained_on
from experiments.tasks.span_qa import answer, as_row, judge_answers, windows_of

# ---- answering -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """A model's answers to some questions."""

    questions: Sequence[Question]
    windows: Windows
    answers: list[Answers]
    threshold: float | None  # of the null odds; None for a model that has seen only questions with an answer

    @property
    def predictions(self) -> dict[str, str]:
        return {q.id: answer.text(self.threshold) for q, answer in zip(self.questions, self.answers, strict=True)}


def answer_all(trained: Trained, questions: Sequence[Question]) -> Answered:
    """Answer all questions in batches, with the run's own windows, decoding and threshold (the one with the best F1 on
    the development set of training)."""
    windows = windows_of(questions, trained.tokenizer, trained.task)
    answers, _ = answer(trained.model, trained.name, trained.task, questions, windows, trained.machine)
    return Answered(questions, windows, answers, trained.metrics.get("best_f1_thresh"))


# ---- scoring ---------------------------------------------------------------------------------------------------------


def prediction_files(answered: Answered) -> dict[str, str]:
    """{name: content} of predictions.json, nbest.json and null_odds.json, as run_squad.py writes them and the official
    script reads them. nbest.json has the character offsets besides."""
    nbest, odds = {}, {}
    for question, answers in zip(answered.questions, answered.answers, strict=True):
        odds[question.id] = answers.null_odds
        nbest[question.id] = [
            nbest_entry(span, probability) | {"start_logit": span.start_logit, "end_logit": span.end_logit}
            for span, probability in answers.ranked(with_null=answered.threshold is not None)
        ]
    contents = {"predictions.json": answered.predictions, "nbest.json": nbest, "null_odds.json": odds}
    return {name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in contents.items()}


def nbest_entry(span: Span, probability: float) -> dict:
    return {"text": span.text, "probability": probability, "start": span.start, "end": span.end}


QUESTION_WORDS = ("who", "what", "when", "where", "which", "why", "how")
LENGTHS = {1: "1 word", 2: "2 words", 4: "3-4 words", 8: "5-8 words", 10**9: "9 words or more"}  # by the most words


def question_word(text: str) -> str:
    """The first question word in a question: "In which year did ..." -> "which"; "other" without one."""
    return next((word for word in re.findall(r"[a-z]+", text.lower()) if word in QUESTION_WORDS), "other")


def answer_length(question: Question) -> str:
    """The bucket of the first gold answer's number of words."""
    if not question.answers:
        return "no answer"
    words = len(question.answers[0][0].split())
    return next(name for most, name in LENGTHS.items() if words <= most)


def buckets(questions: Sequence[Question], exact: Scores, overlap: Scores) -> dict[str, dict[str, dict[str, float]]]:
    """{"question_word" | "answer_length": {bucket: exact, f1 and total}}, without buckets that are empty."""
    orders = {"question_word": (*QUESTION_WORDS, "other"), "answer_length": (*LENGTHS.values(), "no answer")}
    keys = {"question_word": lambda q: question_word(q.question), "answer_length": answer_length}
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name, order in orders.items():
        groups = {bucket: [q for q in questions if keys[name](q) == bucket] for bucket in order}
        found = {bucket: average(members, exact, overlap) for bucket, members in groups.items() if members}
        result[name] = {bucket: {key: v[key] for key in ("exact", "f1", "total")} for bucket, v in found.items()}
    return result


def cut_off(answered: Answered, number: int) -> bool:
    """Whether a question has gold answers (where they say), and no window holds one of them whole."""
    question, windows = answered.questions[number], answered.windows
    rows, chars = np.flatnonzero(windows.question == number), windows.context_chars(number)
    begin = windows.context_from[rows]
    end = begin + windows.lengths[rows] - windows.context_at[rows] - 1
    found = (token_span(chars, start, start + len(text)) for text, start in question.placed)
    spans = [span for span in found if span is not None]
    return bool(spans) and not any(((begin <= first) & (last < end)).any() for first, last in spans)


def misses(answered: Answered, overlap: Scores, count: int) -> list[dict]:
    """The worst answers: lowest F1 first, of equals the one that the model was surest of. The sentence holds what it
    said, or after "no answer" the gold answer (None where that is not where it says)."""
    order = sorted(
        (i for i, q in enumerate(answered.questions) if overlap[q.id] < 1),
        key=lambda i: (overlap[answered.questions[i].id], _doubt(answered, i)),
    )
    rows = []
    for i in order[:count]:
        question, answers = answered.questions[i], answered.answers[i]
        text = answers.text(answered.threshold)
        # "No answer" is wrong only where there is a gold one.
        marked = [(text, answers.spans[0].start)] if text else question.placed
        sentence = sentence_around(question.context, marked[0][1], marked[0][1] + len(marked[0][0])) if marked else None
        rows.append(
            {
                "id": question.id,
                "question": question.question,
                "gold": list(dict.fromkeys(gold for gold, _ in question.answers)),
                "predicted": text,
                "sentence": sentence,
                "f1": 100 * overlap[question.id],
                "null_odds": answers.null_odds,
                "cut_off": cut_off(answered, i),
            }
        )
    return rows


def _doubt(answered: Answered, number: int) -> float:
    """Distance of the null odds from the threshold as a negative number: the surest is the lowest."""
    answers = answered.answers[number]
    above = answers.null_odds - (answered.threshold or 0.0)
    return above if answers.text(answered.threshold) else -above


def threshold_remarks(answered: Answered, found: dict[str, float]) -> list[str]:
    """A remark where the run's threshold, which is that of training's development set, does not suit this file: more
    than a tenth of the questions have an answer and get none too many, and another threshold would help. found: what
    `judge_answers` says."""
    total = len(answered.questions)
    empty = sum(not text for text in answered.predictions.values())
    unanswerable = sum(not question.answers for question in answered.questions)
    if answered.threshold is None or empty - unanswerable <= 0.1 * total or found["best_f1"] - found["f1"] < 2:
        return []
    return [
        f'{empty:,} of {total:,} questions are answered "", and {unanswerable:,} have no answer: the threshold '
        f"{answered.threshold:.3f} is from training's development set and does not suit this file; the best one here "
        f"({found['best_f1_thresh']:.3f}, fitted to this file) would give f1 {found['best_f1']:.1f} instead of "
        f"{found['f1']:.1f}"
    ]


def score(trained: Trained, file: Path, errors: int) -> Scored:
    """Score a run on a SQuAD file: official figures at the checkpoint's threshold and at the best one for this file,
    buckets, and the worst misses."""
    questions, misplaced = read_questions({file: read_bytes(file)}, bad_answers="keep")
    answered = answer_all(trained, questions)
    found, scores = judge_answers(questions, answered.answers, answered.threshold)
    result = {
        "threshold": answered.threshold,
        "trained_on": trained_on(trained, [as_row(question) for question in questions]),
        "questions_cut": answered.windows.counts["questions_cut"],
        **found,
        "buckets": buckets(questions, scores["exact"], scores["f1"]),
        "errors": misses(answered, scores["f1"], errors),
        "remarks": threshold_remarks(answered, found),
    }
    counts = {"questions": len(questions), "misplaced": len(misplaced)}
    return Scored("span_qa", counts, result, prediction_files(answered))


# ---- asking ----------------------------------------------------------------------------------------------------------


def sentence_around(context: str, start: int, end: int) -> str:
    """The sentence of the context that holds characters [start, end), those marked: "He bought «milk» there." """
    before = max((m.end() for m in re.finditer(r"[.!?]\s+|\n+", context[:start])), default=0)
    after = re.search(r"[.!?](?=\s)|\n", context[end:])
    stop = end + after.end() if after else len(context)
    marked = f"{context[before:start]}«{context[start:end]}»{context[end:stop]}"
    return " ".join(marked.split())


def ask(trained: Trained, asked: Sequence[str], texts: dict[str, str], count: int = 3) -> list[dict]:
    """For each question the answers of each text {name: text}, the surest text first (lowest null odds). count: of
    each text's candidates."""
    asked = list(dict.fromkeys(asked))
    pairs = [(text, name) for text in asked for name in texts]
    answered = answer_all(trained, [Question(f"{n}", q, texts[name], ()) for n, (q, name) in enumerate(pairs)])
    found: dict[str, list[dict]] = {text: [] for text in asked}
    for (text, name), answers in zip(pairs, answered.answers, strict=True):
        entry = {"text": name, "answer": answers.text(answered.threshold), "null_odds": answers.null_odds}
        candidates = ranked_candidates(answers, texts[name], answered.threshold, count)
        found[text].append({**entry, "threshold": answered.threshold, "candidates": candidates})
    return [
        {
            "question": text,
            "question_cut": is_cut(trained, text),
            "answers": sorted(found[text], key=lambda entry: entry["null_odds"]),
        }
        for text in asked
    ]


def is_cut(trained: Trained, question: str) -> bool:
    """Whether the end of a question is not read."""
    return len(trained.tokenizer.encode(question, add_special_tokens=False).ids) > trained.task.data.max_query_length


def ranked_candidates(answers: Answers, context: str, threshold: float | None, count: int) -> list[dict]:
    """The best spans of one text, with their probabilities among all of its spans (and "no answer", if that counts)."""
    probability = {(span.start, span.end): p for span, p in answers.ranked(with_null=threshold is not None)}
    return [
        {
            "answer": span.text,
            "start": span.start,
            "end": span.end,
            "score": span.score,
            "probability": probability[span.start, span.end],
            "sentence": sentence_around(context, span.start, span.end),
        }
        for span in answers.spans[:count]
    ]
