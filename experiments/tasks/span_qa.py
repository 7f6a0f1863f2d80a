"""Span QA as a task: its examples, its head, its evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from data.decoding import Answers, decode, max_context
from data.files import InputError
from data.labels import Outputs
from data.readers import Question, Row
from data.sources import question_sets, sample
from data.splits import duplicates, mark
from data.squad import Windows, make_windows
from data.squad_metrics import Scores, judge
from experiments.config.spec import EvalSpec, SpanQATask
from experiments.tasks.base import Evaluated, Task, predict
from model.families import Family
from model.heads import Head, SpanHead, TaskModel
from model.machine import Machine


def as_row(question: Question) -> Row:
    """A question and its context as a pair of texts."""
    return Row(question.question, question.context, None, question.id)


class SpanQA(Task):
    """Questions about passages, answered by spans of them or by nothing."""

    spec: SpanQATask
    judged: dict[str, Windows]

    def __init__(self, name: str, spec: SpanQATask, evaluation: EvalSpec, tokenizer: Tokenizer, root: Path):
        super().__init__(name, spec, evaluation, tokenizer, root)
        train, dev = question_sets(spec.data, root)
        self.outputs = Outputs()  # a start and an end, nothing to remember
        self.train = windows_of(train.questions, tokenizer, spec)
        self.ids = [train.questions[number].id for number in self.train.question]
        self._questions = {"dev": dev.questions}
        if evaluation.train_sample:
            self._questions["train"] = sample(train.questions, evaluation.train_sample)
        self.judged = {split: windows_of(questions, tokenizer, spec) for split, questions in self._questions.items()}
        self._usable = {split: max_context(windows) for split, windows in self.judged.items()}
        rows = [[as_row(question) for question in each.questions] for each in (train, dev)]
        self.marks = torch.tensor(sorted({mark(row) for row in rows[0]}))
        self.fingerprints = {"train": train.fingerprint, "dev": dev.fingerprint}
        self.splits = {
            split: {
                "examples": len(each.questions),
                "kind": "questions",
                **made.counts,
                **each.counts,
            }
            for split, each, made in (("train", train, self.train), ("dev", dev, self.judged["dev"]))
        }
        unanswerable = 100 * sum(not question.answers for question in dev.questions) / len(dev.questions)
        self.splits["dev"]["baseline"] = dict.fromkeys(("exact", "f1"), unanswerable)  # of "" to every question
        self.splits["dev"] |= duplicates(*rows)
        self.remarks = [f"for example: {each.remark}" for each in (*train.misplaced, *dev.misplaced)][:3]
        # A model that is shown unanswerable questions may answer "no answer"; another must not.
        always = all(question.answers for question in train.questions)
        if always and evaluation.metric.rpartition(".")[2].startswith("best_"):
            raise InputError(f"eval.metric: {evaluation.metric!r} needs training questions without an answer")
        self.null_threshold = None if always else spec.decoding.null_threshold

    @staticmethod
    def make_head(spec: Any, outputs: Outputs, width: int, dropout: float, family: Family) -> Head:
        return SpanHead(width, dropout)

    def evaluate(self, model: TaskModel, machine: Machine, split: str = "dev") -> Evaluated:
        questions, usable = self._questions[split], self._usable[split]
        answers, losses = answer(model, self.name, self.spec, questions, self.judged[split], machine, usable)
        found, scores = judge_answers(questions, answers, self.null_threshold)
        each = {key: 100 * np.array([values[q.id] for q in questions]) for key, values in scores.items()}
        return Evaluated({"loss": float(losses.mean()), **found}, each)


def windows_of(questions: Sequence[Question], tokenizer: Tokenizer, spec: SpanQATask) -> Windows:
    """The windows of some questions as the spec has them."""
    return make_windows(questions, tokenizer, spec.data.max_length, spec.data.doc_stride, spec.data.max_query_length)


def answer(
    model: TaskModel,
    name: str,
    spec: SpanQATask,
    questions: Sequence[Question],
    windows: Windows,
    machine: Machine,
    usable: np.ndarray | None = None,
) -> tuple[list[Answers], np.ndarray]:
    """The model's answers to each question, and the loss of each window [N]. usable: `max_context(windows)`, if it is
    at hand."""
    logits, losses = predict(model, name, windows, machine)
    start, end = (
        np.concatenate([own[which, :length] for own, length in zip(logits, windows.lengths, strict=True)])
        for which in (0, 1)
    )
    decoding = spec.decoding
    answers = decode(windows, questions, start, end, decoding.n_best, decoding.max_answer_length, usable)
    return answers, losses


def judge_answers(
    questions: Sequence[Question], answers: Sequence[Answers], threshold: float | None
) -> tuple[dict[str, float], dict[str, Scores]]:
    """What `judge` says of a model's answers. threshold: None for a model that always answers."""
    texts = {question.id: answer.best for question, answer in zip(questions, answers, strict=True)}
    odds = {question.id: answer.null_odds for question, answer in zip(questions, answers, strict=True)}
    return judge(questions, texts, odds, threshold)
