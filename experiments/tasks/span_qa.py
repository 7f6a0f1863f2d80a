"""The span QA task: its examples, its batches, its evaluation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from tqdm import tqdm

from data.batching import Part, eval_batches
from data.decoding import Answers, decode, max_context
from data.files import InputError
from data.labels import Outputs
from data.readers import Question, Row
from data.sources import question_set, sample
from data.splits import duplicates, mark
from data.squad import Windows, collate, make_windows
from data.squad_metrics import Scores, apply_threshold, average, score_each, thresholds
from data.tokens import make_masking
from experiments.config.spec import EvalSpec, TaskSpec
from experiments.tasks.base import Evaluated
from model.heads import TaskModel
from model.machine import Precision, to_device

EVAL_BATCH_TOKENS = 4096  # on 2 cores a little faster than 2,048 or 8,192


def as_row(question: Question) -> Row:
    """A question and its context as a pair of texts."""
    return Row(question.question, question.context, None, question.id)


class SpanQA:
    """Training and development windows of an experiment. Building it reads, tokenizes and labels everything."""

    def __init__(self, spec: TaskSpec, evaluation: EvalSpec, name: str, tokenizer: Tokenizer, root: Path):
        data, self.spec = spec.data, spec
        window = {
            "max_length": data.max_length,
            "doc_stride": data.doc_stride,
            "max_query_length": data.max_query_length,
        }
        train = question_set(data.source, "train", data.train, data.train_limit, root, data.bad_answers)
        dev = question_set(data.source, "dev", data.dev, data.dev_limit, root, data.bad_answers)
        self.train = make_windows(train.questions, tokenizer, **window)
        judged = {"dev": dev.questions}
        if evaluation.train_sample:
            judged["train"] = sample(train.questions, evaluation.train_sample)
        windows = {split: make_windows(questions, tokenizer, **window) for split, questions in judged.items()}
        self._judged = {split: (judged[split], w, max_context(w)) for split, w in windows.items()}
        rows = [[as_row(question) for question in each.questions] for each in (train, dev)]
        self.train_marks = {name: torch.tensor(sorted({mark(row) for row in rows[0]}))}
        self.fingerprints = {"train": train.fingerprint, "dev": dev.fingerprint}
        self.outputs = {name: Outputs()}  # a start and an end, nothing to remember
        self.splits = {
            split: {
                "examples": len(each.questions),
                "kind": "questions",
                **windows.counts,
                "answers_misplaced": len(each.misplaced),
            }
            for split, each, windows in (("train", train, self.train), ("dev", dev, windows["dev"]))
        }
        self.splits["dev"] |= duplicates(*rows)
        self.remarks = [f"left out, for example: {remark}" for remark in (*train.misplaced, *dev.misplaced)][:3]
        self.parts = [Part(self.train.lengths, data.batch_tokens, data.batch_size)]
        self.lengths = self.train.lengths  # tokens of each training window [N]
        self._masking = make_masking(tokenizer, data.mask_tokens)
        self._train_ids = [question.id for question in train.questions]
        # A model that is shown unanswerable questions may answer "no answer"; another must not.
        always = all(question.answers for question in train.questions)
        if always and evaluation.metric.rpartition(".")[2].startswith("best_"):
            raise InputError(f"eval.metric: {evaluation.metric!r} needs training questions without an answer")
        self.null_threshold = None if always else evaluation.null_threshold
        self._decoding = {"n_best": evaluation.n_best, "max_answer_length": evaluation.max_answer_length}

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict[str, Tensor | None]:
        """The training windows `rows`. random: for what is drawn anew each time."""
        batch = collate(self.train, rows)
        if self._masking:
            self._masking.apply(batch, random)
        return batch

    def losses(self, head: nn.Module, logits: Tensor, batch: dict) -> Tensor:
        """What is minimised, for each window [B]."""
        return head.loss(logits, batch, self.spec.loss.label_smoothing)

    def parameters_of(self, model: TaskModel, batches: list[np.ndarray]) -> dict[str, nn.Parameter]:
        """What a step over these batches can reach: all of the model."""
        return dict(model.named_parameters())

    def example_ids(self, rows: np.ndarray) -> list[str]:
        return [self._train_ids[i] for i in self.train.question[rows]]

    def evaluate(self, model: TaskModel, device: torch.device, precision: Precision, split: str = "dev") -> Evaluated:
        """Loss (mean over windows) and the task's metrics on the development set, or on a sample of the training set
        (split "train"). Leaves the model's mode as it was."""
        questions, windows, usable = self._judged[split]
        start, end, losses = window_logits(model, windows, device, precision)
        answers = decode(windows, questions, start, end, usable=usable, **self._decoding)
        found, scores = judge(questions, answers, self.null_threshold)
        per_question = {key: 100 * np.array([each[q.id] for q in questions]) for key, each in scores.items()}
        return Evaluated({"loss": float(losses.mean()), **found}, per_question)


@torch.no_grad()
def window_logits(
    model: TaskModel, windows: Windows, device: torch.device, precision: Precision
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end logits, float32 [sum of lengths], and the loss of each window [N]. Leaves the model's mode as it
    was."""
    was_training = model.training
    model.eval()
    start, end = (np.zeros(len(windows.tokens), dtype=np.float32) for _ in range(2))
    losses = np.zeros(len(windows))
    batches = eval_batches(windows.lengths, EVAL_BATCH_TOKENS)
    for rows in tqdm(batches, desc="evaluating", leave=False, disable=None):
        batch = to_device(collate(windows, rows), device)
        with precision.autocast(device):
            logits = model(batch)  # [B, 2, T]
        losses[rows] = model.head.loss(logits, batch).cpu().numpy()
        for row, (start_logits, end_logits) in zip(rows, logits.cpu().numpy(), strict=True):
            span = slice(windows.begin[row], windows.begin[row + 1])
            start[span] = start_logits[: span.stop - span.start]
            end[span] = end_logits[: span.stop - span.start]
    model.train(was_training)
    return start, end, losses


def judge(
    questions: Sequence[Question], answers: Sequence[Answers], threshold: float | None
) -> tuple[dict[str, float], dict[str, Scores]]:
    """The official figures for answers at a null threshold, and the scores of each question by its id, 0 to 1.

    threshold: "" is answered where the null odds exceed it. None, for a model that always answers, leaves out the best
    figures that any threshold would give, and which threshold that is.
    """
    texts = {question.id: answer.best for question, answer in zip(questions, answers, strict=True)}
    each = score_each(questions, texts)
    if threshold is None:
        return average(questions, *each), dict(zip(("exact", "f1"), each, strict=True))
    odds = {question.id: answer.null_odds for question, answer in zip(questions, answers, strict=True)}
    best = thresholds(questions, texts, *each, odds)
    scores = {}
    for key, of_best_texts in zip(("exact", "f1"), each, strict=True):
        scores[key] = apply_threshold(questions, of_best_texts, odds, threshold)
        scores[f"best_{key}"] = apply_threshold(questions, of_best_texts, odds, best[f"best_{key}_thresh"])
    return average(questions, scores["exact"], scores["f1"]) | best, scores
