"""The parts that all tasks share: what a task has, the result of an evaluation, the loop over examples.

Axes:  N examples   B examples of a batch   T tokens
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from data.batching import Part, eval_batches
from data.labels import Outputs
from data.masking import make_masking
from data.progress import progress
from data.statistics import bootstrap, bootstrap_mean
from data.tokens import Tokens, collate
from experiments.config.spec import EvalSpec
from model.families import Family
from model.heads import Head, TaskModel
from model.machine import Machine

EVAL_BATCH_TOKENS = 4096  # on 2 cores a little faster than 2,048 or 8,192


@dataclass(frozen=True)
class Evaluated:
    """The result of an evaluation.

    scores: of metrics that are means over examples, the score of each example in the metric's unit [N].
    statistics: behind metrics that are no such means (macro F1), functions of the numbers of chosen examples.
    """

    metrics: dict[str, float]
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    statistics: dict[str, Callable[[np.ndarray], float]] = field(default_factory=dict)

    @property
    def finite(self) -> bool:
        """Whether the outputs were numbers. Of NaN, the largest is class 0, and its accuracy would look like one."""
        return math.isfinite(self.metrics["loss"])

    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % bootstrap interval of each metric that has scores or a statistic."""
        count = max((len(scores) for scores in self.scores.values()), default=0)
        found = {name: bootstrap_mean(scores) for name, scores in self.scores.items()}
        return found | {name: bootstrap(count, statistic) for name, statistic in self.statistics.items()}


class Task:
    """One task of a run. A subclass reads its data when it is built, and sets

    outputs       the meaning of its head's outputs, kept with every checkpoint
    train         the training examples as tokens, with their labels
    judged        {split: the examples that an evaluation judges}, the development set and perhaps a sample of training
    ids           the training examples' names, for messages [N]
    marks         fingerprints of the training texts, by which scoring knows them again, int64 [M]
    fingerprints  {split: sha256 of what it was made from}
    splits        {split: counts}, for the run record and the banner
    remarks       lines for the banner
    """

    outputs: Outputs
    train: Tokens
    judged: Mapping[str, Tokens]
    ids: list[str]
    marks: Tensor
    fingerprints: dict[str, str]
    splits: dict[str, dict]
    remarks: list[str]

    def __init__(self, name: str, spec: Any, evaluation: EvalSpec, tokenizer: Tokenizer, root: Path):
        """spec: of this kind of task. root: the folder that data files are relative to. Raises InputError for whatever
        is wrong with the data."""
        self.name, self.spec = name, spec
        self.smoothing = spec.loss.label_smoothing if hasattr(spec, "loss") else 0.0
        self._masking = make_masking(tokenizer, spec.data.mask_tokens)

    @staticmethod
    def make_head(spec: Any, outputs: Outputs, width: int, dropout: float, family: Family) -> Head:
        """A new head on hidden states of this width."""
        raise NotImplementedError

    def evaluate(self, model: TaskModel, machine: Machine, split: str = "dev") -> Evaluated:
        """Metrics on the development set, or on a sample of the training set (split "train"). loss is the mean over the
        examples, without weights and smoothing. Leaves the model's mode as it was."""
        raise NotImplementedError

    @property
    def part(self) -> Part:
        """The training examples as batching sees them."""
        return Part(self.train.lengths, self.spec.data.batch_tokens, self.spec.data.batch_size)

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict:
        """The training examples `rows` as tensors. random: draws what differs from time to time."""
        batch = {"task": self.name, **collate(self.train, rows)}
        if self._masking:
            self._masking.apply(batch, random)
        return batch

    def losses(self, head: Head, logits: Tensor, batch: dict) -> Tensor:
        """The loss to minimise, for each example of a batch [B]."""
        losses = self.spec.weight * head.loss(logits, batch, self.smoothing)
        return losses * batch["weight"] if "weight" in batch else losses


@torch.no_grad()
def predict(model: TaskModel, task: str, examples: Tokens, machine: Machine) -> tuple[list[np.ndarray], np.ndarray]:
    """The logits of each example, float32 (of a span head padded to its batch's width), and, where the examples have
    labels, its loss [N]. Leaves the model's mode as it was."""
    was_training = model.training
    model.eval()
    logits: list[np.ndarray] = [np.empty(0)] * len(examples)
    losses = np.zeros(len(examples))
    for rows in progress(eval_batches(examples.lengths, EVAL_BATCH_TOKENS), "evaluating"):
        batch = machine.place({"task": task, **collate(examples, rows)})
        with machine.autocast():
            out = model(batch)
        if examples.labels:
            losses[rows] = model.head_of(task).loss(out, batch).cpu().numpy()
        for row, own in zip(rows, out.cpu().numpy(), strict=True):
            logits[row] = own
    model.train(was_training)
    return logits, losses
