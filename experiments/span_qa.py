"""The span QA task: its examples, its batches, its evaluation."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from data.batching import eval_batches
from data.decoding import Answers, decode, max_context
from data.scoring import apply_threshold, average, score_each, thresholds
from data.sources import question_set
from data.squad import Question, Windows, collate, make_windows
from experiments.machine import Precision
from experiments.spec import Spec
from inputs import InputError
from model.heads import TaskModel

EVAL_BATCH_TOKENS = 4096  # on 2 cores a little faster than 2,048 or 8,192


class SpanQA:
    """Training and development windows of an experiment. Building it reads, tokenizes and labels everything."""

    def __init__(self, spec: Spec, tokenizer: Tokenizer, root: Path):
        data = spec.data
        window = {
            "max_length": data.max_length,
            "doc_stride": data.doc_stride,
            "max_query_length": data.max_query_length,
        }
        train = question_set(data.source, "train", data.train, data.train_limit, root, data.bad_answers)
        dev = question_set(data.source, "dev", data.dev, data.dev_limit, root, data.bad_answers)
        self.dev_questions = dev.questions
        self.train = make_windows(train.questions, tokenizer, **window)
        self.dev = make_windows(dev.questions, tokenizer, **window)
        self.fingerprints = {"train": train.fingerprint, "dev": dev.fingerprint}
        self.counts = {
            "train": {**self.train.counts, "answers_misplaced": len(train.misplaced)},
            "dev": {**self.dev.counts, "answers_misplaced": len(dev.misplaced)},
        }
        self.misplaced = [*train.misplaced, *dev.misplaced]
        self._train_ids = [question.id for question in train.questions]
        # A model that is shown unanswerable questions may answer "no answer"; another must not.
        always = all(question.answers for question in train.questions)
        if always and spec.eval.metric.startswith("best_"):
            raise InputError(f"eval.metric: {spec.eval.metric!r} needs training questions without an answer")
        self.null_threshold = None if always else spec.eval.null_threshold
        self._usable = max_context(self.dev)
        self._decoding = {"n_best": spec.eval.n_best, "max_answer_length": spec.eval.max_answer_length}

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each training window [N]"""
        return self.train.lengths

    def batch(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor | None]:
        return _to(collate(self.train, rows), device)

    def example_ids(self, rows: np.ndarray) -> list[str]:
        return [self._train_ids[i] for i in self.train.question[rows]]

    def evaluate(self, model: TaskModel, device: torch.device, precision: Precision) -> dict[str, float]:
        """Loss (mean over windows) and the task's metrics on the development set. Leaves the model's mode as it was."""
        start, end, losses = window_logits(model, self.dev, device, precision)
        answers = decode(self.dev, self.dev_questions, start, end, usable=self._usable, **self._decoding)
        return {"loss": float(losses.mean()), **metrics(self.dev_questions, answers, self.null_threshold)}


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
        batch = _to(collate(windows, rows), device)
        with precision.autocast(device):
            logits = model(batch)  # [B, 2, T]
        losses[rows] = model.head.loss(logits, batch).cpu().numpy()
        for row, (start_logits, end_logits) in zip(rows, logits.cpu().numpy(), strict=True):
            span = slice(windows.begin[row], windows.begin[row + 1])
            start[span] = start_logits[: span.stop - span.start]
            end[span] = end_logits[: span.stop - span.start]
    model.train(was_training)
    return start, end, losses


def metrics(questions: list[Question], answers: list[Answers], threshold: float | None) -> dict[str, float]:
    """The official figures for answers at a null threshold. Where "no answer" is one (threshold is not None), also the
    best that any threshold would give, and which."""
    texts = {question.id: answer.best for question, answer in zip(questions, answers, strict=True)}
    exact, overlap = score_each(questions, texts)
    if threshold is None:
        return average(questions, exact, overlap)
    odds = {question.id: answer.null_odds for question, answer in zip(questions, answers, strict=True)}
    at_threshold = (apply_threshold(questions, scores, odds, threshold) for scores in (exact, overlap))
    return average(questions, *at_threshold) | thresholds(questions, texts, exact, overlap, odds)


def _to(batch: dict[str, Tensor | None], device: torch.device) -> dict[str, Tensor | None]:
    return {key: None if value is None else value.to(device) for key, value in batch.items()}
