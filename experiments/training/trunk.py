"""The frozen trunk, computed once. Where nothing at or below some layer trains, the output of that layer for a training
example is the same at every step, so it can be kept (model.trunk_mb) instead of being computed anew.

With heads alone, that is the whole encoder: from the second epoch on, a step costs what the head costs. Adapters in the
top third leave two thirds to keep. The price is memory, and that dropout is off in what is kept: 4 bytes for each of
an example's tokens times the hidden width, 1 GB for 5,000 examples of 133 tokens and a width of 384.

Axes:  B examples of a batch   T tokens   C hidden width
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data.batching import eval_batches
from data.files import InputError
from experiments.config.metrics import RANKING
from experiments.config.spec import PhaseSpec, Spec
from experiments.tasks.base import EVAL_BATCH_TOKENS
from experiments.tasks.several import Tasks
from experiments.training.phases import trained_names
from model.heads import TaskModel
from model.machine import Machine


@dataclass(frozen=True)
class Trunk:
    """The output of the encoder's first `depth` layers for every training example, one after the other."""

    depth: int
    hidden: Tensor  # float32 [tokens of all examples, C], in the CPU's memory
    begin: np.ndarray  # int64 [N + 1], example n is hidden[begin[n] : begin[n + 1]]

    def of(self, rows: np.ndarray, width: int) -> Tensor:
        """The output for the examples `rows` [B], padded with zeros to a width -> [B, T, C]. (Padding is masked out of
        attention, and no head looks at it.)"""
        padded = self.hidden.new_zeros(len(rows), width, self.hidden.shape[1])
        for target, n in zip(padded, rows, strict=True):
            target[: self.begin[n + 1] - self.begin[n]] = self.hidden[self.begin[n] : self.begin[n + 1]]
        return padded


def frozen_layers(model: TaskModel, trained: Collection[str]) -> int:
    """The number of layers, counted from the bottom, in and below which nothing trains; 0 where embeddings do. trained:
    names of the parameters that train."""
    if any(name.startswith("encoder.embeddings.") for name in trained):
        return 0
    layers = [int(name.split(".")[2]) for name in trained if name.startswith("encoder.layers.")]
    return min(layers, default=len(model.encoder.layers))


def kept_layers(spec: Spec, model: TaskModel, phase: PhaseSpec) -> int:
    """The number of layers whose output is kept in a phase."""
    return 0 if spec.model.trunk_mb is None else frozen_layers(model, trained_names(model, [phase]))


def check_memory(spec: Spec, model: TaskModel, tasks: Tasks) -> None:
    """Raise InputError where what is to be kept does not fit into model.trunk_mb, or where nothing can be kept."""
    limit = spec.model.trunk_mb
    if limit is None:
        return
    if any(task.task == RANKING for task in spec.tasks.values()):
        raise InputError("model.trunk_mb: a retrieval task reads two texts of an example apart; leave the setting out")
    needed = int(tasks.lengths.sum()) * model.encoder.config.hidden_size * 4 / 2**20
    if needed > limit:
        raise InputError(
            f"model.trunk_mb: {limit}, but the frozen trunk's output for {len(tasks.lengths):,} training examples "
            f"takes {needed:,.0f} MiB; allow as much, or leave the setting out"
        )
    if not any(kept_layers(spec, model, phase) for phase in spec.phases):
        raise InputError("model.trunk_mb: in every phase something trains in the lowest layer, so nothing is frozen")


@torch.no_grad()
def compute_trunk(model: TaskModel, tasks: Tasks, machine: Machine, depth: int) -> Trunk:
    """The output of the first `depth` layers for all training examples.

    Batches are those of an evaluation, whatever the training order is: a resumed run computes the same bits.
    """
    begin = np.concatenate([[0], np.cumsum(tasks.lengths)])
    hidden = torch.empty(int(begin[-1]), model.encoder.config.hidden_size)
    random = np.random.default_rng(0)  # draws nothing: with data.mask_tokens, no trunk is kept
    model.eval()
    first = 0
    for part in tasks.parts:
        for rows in tqdm(eval_batches(part.lengths, EVAL_BATCH_TOKENS), "frozen trunk", leave=False, disable=None):
            batch = machine.place(tasks.batch(rows + first, random))
            with machine.autocast():
                found = model.encoder(batch["tokens"], batch["types"], batch["mask"], depth=depth).float().cpu()
            for n, own in zip(rows + first, found, strict=True):
                hidden[begin[n] : begin[n + 1]] = own[: begin[n + 1] - begin[n]]
        first += len(part.lengths)
    model.train()
    return Trunk(depth, hidden, begin)
