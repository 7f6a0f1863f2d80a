"""Ranking passages as a task: pairs of a question and its passage, in-batch negatives, an evaluation over all passages.

A batch of B pairs is 2B texts, the questions and their passages, each padded by itself and read by the same encoder.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from data.batching import Part
from data.files import InputError
from data.labels import Outputs, tokenize
from data.pairs import PairSet, pair_set
from data.ranking import judge_vectors
from data.readers import Row
from data.sources import sample
from data.splits import duplicates, mark
from data.tokens import Tokens, collate
from experiments.config.spec import EvalSpec, RetrievalTask
from experiments.tasks.base import Evaluated, Task, predict
from model.families import Family
from model.heads import Head, TaskModel
from model.machine import Machine
from model.retrieval_head import RetrievalHead


class Retrieval(Task):
    """Passages ranked for questions by the cosine of their vectors."""

    spec: RetrievalTask

    def __init__(self, name: str, spec: RetrievalTask, evaluation: EvalSpec, tokenizer: Tokenizer, root: Path):
        super().__init__(name, spec, evaluation, tokenizer, root)
        train, dev = pair_set(spec.data, "train", root), pair_set(spec.data, "dev", root)
        self.outputs = Outputs()  # coordinates mean nothing by themselves
        questions, cut = tokenize_texts([row.text for row in train.rows], tokenizer, spec.data.max_length)
        self._passages, passages_cut = tokenize_texts(train.passages, tokenizer, spec.data.max_length)
        number = {text: n for n, text in enumerate(train.passages)}
        asked = {text: n for n, text in enumerate(train.relevant())}
        self._passage = np.array([number[row.pair or ""] for row in train.rows])
        self._question = np.array([asked[row.text] for row in train.rows])
        self.train = questions
        self.ids = [row.where for row in train.rows]
        sets = {"dev": dev}
        if evaluation.train_sample:
            rows = sample(train.rows, evaluation.train_sample)
            sets["train"] = PairSet(rows, list(dict.fromkeys(row.pair or "" for row in rows)))
        self._relevant = {split: each.relevant() for split, each in sets.items()}
        texts = {split: list(self._relevant[split]) for split in sets}
        texts |= {f"{split} passages": each.passages for split, each in sets.items()}
        made = {key: tokenize_texts(each, tokenizer, spec.data.max_length) for key, each in texts.items()}
        self.judged = {key: tokens for key, (tokens, _) in made.items()}
        self.marks = torch.tensor(sorted({mark(row) for row in train.rows}))
        self.fingerprints = {"train": train.fingerprint, "dev": dev.fingerprint}
        dev_cut = made["dev"][1] + made["dev passages"][1]
        self.splits = {
            "train": counts_of(train, len(train.rows), cut + passages_cut),
            "dev": counts_of(dev, len(self._relevant["dev"]), dev_cut) | duplicates(train.rows, dev.rows),
        }
        if len(asked) < 2 or len(set(self._passage.tolist())) < 2:
            raise InputError("data.train: all pairs have the same question, or passage; nothing to tell apart")
        pairs = batch_pairs(self.part)
        if pairs < 2:
            raise InputError("data.batch_size, batch_tokens: a batch of one pair has no other passage to learn from")
        self.remarks = [f"about {pairs} pairs a batch: each question learns from {pairs - 1} other passages"]

    @staticmethod
    def make_head(spec: Any, outputs: Outputs, width: int, dropout: float, family: Family) -> Head:
        return RetrievalHead(spec.temperature, dropout)

    @property
    def part(self) -> Part:
        """The pairs as batching sees them: the length of one is that of both texts."""
        lengths = self.train.lengths + self._passages.lengths[self._passage]
        return Part(lengths, self.spec.data.batch_tokens, self.spec.data.batch_size)

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict:
        """The questions of the training pairs `rows`, and under "pair" their passages, a batch of its own."""
        sides = [collate(self.train, rows), collate(self._passages, self._passage[rows])]
        if self._masking:
            for side in sides:
                self._masking.apply(side, random)
        numbers = {"question": self._question[rows], "passage": self._passage[rows]}
        tensors = {key: torch.from_numpy(values) for key, values in numbers.items()}
        return {"task": self.name, **sides[0], **tensors, "pair": {"task": self.name, **sides[1]}}

    def evaluate(self, model: TaskModel, machine: Machine, split: str = "dev") -> Evaluated:
        """loss is that of a question among all passages, not of a batch: the same whatever the batches are."""
        sides = [vectors_of(model, self.name, self.judged[key], machine) for key in (split, f"{split} passages")]
        relevant = list(self._relevant[split].values())
        scores, losses = judge_vectors(sides[0], sides[1], relevant, self.spec.temperature)
        means = {key: float(values.mean()) for key, values in scores.items()}
        return Evaluated({"loss": float(losses.mean()), **means}, scores)


def counts_of(pairs: PairSet, examples: int, cut: int) -> dict:
    return {"examples": examples, "kind": "questions", "passages": len(pairs.passages), "texts_cut": cut}


def batch_pairs(part: Part) -> int:
    """The mean number of pairs in a batch, about."""
    return min(len(part.lengths), part.batch_size or int(part.batch_tokens / part.lengths.mean()))


def tokenize_texts(texts: list[str], tokenizer: Tokenizer, max_length: int) -> tuple[Tokens, int]:
    """Single texts as tokens, and how many of them had to be cut."""
    return tokenize([Row(text, None, None, "") for text in texts], tokenizer, max_length)


def vectors_of(model: TaskModel, name: str, texts: Tokens, machine: Machine) -> np.ndarray:
    """The unit vector of each text, float32 [N, C]. name: of a task of the model with a RetrievalHead."""
    found, _ = predict(model, name, texts, machine)
    return np.stack(found)
