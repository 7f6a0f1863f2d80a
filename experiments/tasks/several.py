"""Which task an experiment trains: its examples and losses, and the head that goes with it.

A task (SpanQA, TextTask, or several as MultiTask) has
    parts, lengths       training examples by length, for the order of batches
    batch(rows, random)  their tensors; losses(head, logits, batch), one per example
    evaluate(model, ...) metrics on the development set
    outputs              what the outputs of its head mean, kept with every checkpoint
    splits, fingerprints, remarks, example_ids(rows)   for the log and the person
    train_marks          by which the training texts are known again, see data.splits.mark
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from data.files import InputError
from data.labels import Outputs
from experiments.config.spec import METRICS, Spec, TaskSpec
from experiments.tasks.base import Evaluated
from experiments.tasks.span_qa import SpanQA
from experiments.tasks.texts import TextTask
from model.heads import Heads, SpanHead, TaskModel, TextHead, binary_cross_entropy, cross_entropy, squared_error
from model.machine import Precision
from model.pretrained import Base

LOSSES = {"classification": cross_entropy, "multi_label": binary_cross_entropy, "regression": squared_error}


def make_task(spec: Spec, tokenizer: Tokenizer, root: Path) -> "SpanQA | TextTask | MultiTask":
    """The spec's task, or tasks. Raises InputError for whatever is wrong with their data."""
    made = {}
    for name, task in spec.task_specs().items():
        if task.task == "span_qa":
            made[name] = SpanQA(task, spec.eval, name, tokenizer, root)
        else:
            made[name] = TextTask(task, spec.eval, name, tokenizer, root)
    return MultiTask(made, spec) if spec.tasks else next(iter(made.values()))


def make_head(spec: Spec, outputs: Mapping[str, Outputs], base: Base) -> nn.Module:
    """A new head for the spec's task, or one for each of its tasks."""
    heads = {name: _head(spec, task, outputs[name], base) for name, task in spec.task_specs().items()}
    taken = next((name for name in heads if spec.tasks and hasattr(nn.ModuleDict(), name)), None)
    if taken is not None:
        raise InputError(f"tasks.{taken}: cannot be a task's name, PyTorch's modules have something called so")
    return Heads(heads) if spec.tasks else next(iter(heads.values()))


def _head(spec: Spec, task: TaskSpec, outputs: Outputs, base: Base) -> nn.Module:
    width, dropout = base.encoder.config.hidden_size, spec.model.head_dropout
    if task.task == "span_qa":
        return SpanHead(width, dropout)
    head = TextHead(width, max(1, len(outputs.labels)), LOSSES[task.task], task.pooling, dropout)
    if task.pooling == "cls_pooler":
        if base.pretrained.pooler is None:
            raise InputError(f"model.pooling: {base.pretrained.name} has no pretrained pooler; use mean or cls")
        head.pool.load_state_dict(base.pretrained.pooler)
    return head


class MultiTask:
    """Several tasks over one encoder. Each batch is of one task; see data.batching.mixed_batches for their order."""

    def __init__(self, tasks: dict[str, SpanQA | TextTask], spec: Spec):
        self.tasks, self.spec = tasks, spec
        self.parts = [part for task in tasks.values() for part in task.parts]
        self.lengths = np.concatenate([part.lengths for part in self.parts])
        self._first = np.cumsum([0, *(len(part.lengths) for part in self.parts)])
        self.outputs = {name: outputs for task in tasks.values() for name, outputs in task.outputs.items()}
        self.splits = {f"{name} {split}": c for name, task in tasks.items() for split, c in task.splits.items()}
        self.fingerprints = {f"{name} {split}": f for name, t in tasks.items() for split, f in t.fingerprints.items()}
        self.train_marks = {name: marks for task in tasks.values() for name, marks in task.train_marks.items()}
        self.remarks = [remark for task in tasks.values() for remark in task.remarks]

    def _own(self, rows: np.ndarray) -> tuple[str, np.ndarray]:
        """The task that a batch is of, and its rows by that task's numbers."""
        which = int(np.searchsorted(self._first, rows[0], side="right")) - 1
        return list(self.tasks)[which], rows - self._first[which]

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict[str, Tensor | str | None]:
        name, own = self._own(rows)
        return {**self.tasks[name].batch(own, random), "task": name}

    def losses(self, head: Heads, logits: Tensor, batch: dict) -> Tensor:
        name = batch["task"]
        return self.spec.tasks[name].weight * self.tasks[name].losses(head[name], logits, batch)

    def parameters_of(self, model: TaskModel, batches: list[np.ndarray]) -> dict[str, nn.Parameter]:
        """What a step over these batches can reach: the encoder, and the heads of the tasks that they are of."""
        heads = tuple(f"head.{self._own(rows)[0]}." for rows in batches)
        return {name: p for name, p in model.named_parameters() if name.startswith(("encoder.", *heads))}

    def example_ids(self, rows: np.ndarray) -> list[str]:
        name, own = self._own(rows)
        return [f"{name} {identifier}" for identifier in self.tasks[name].example_ids(own)]

    def evaluate(self, model: TaskModel, device: torch.device, precision: Precision, split: str = "dev") -> Evaluated:
        """The metrics of each task as NAME.metric; loss, the mean of theirs as training mixes them (by the tasks'
        weights and numbers of training examples); mean, the mean of each task's first metric."""
        metrics, scores, loss, first = {}, {}, 0.0, []
        for name, task in self.tasks.items():
            found = task.evaluate(one_of(model, name), device, precision, split)
            metrics |= found.named(name).metrics
            scores |= found.named(name).scores
            loss += self.spec.tasks[name].weight * len(task.lengths) / len(self.lengths) * found.metrics["loss"]
            first.append(found.metrics[METRICS[self.spec.tasks[name].task][0]])
        return Evaluated({"loss": loss, "mean": float(np.mean(first)), **metrics}, scores)


def one_of(model: TaskModel, name: str) -> TaskModel:
    """The model as one of its tasks sees it: the shared encoder under that task's head."""
    return TaskModel(model.encoder, model.head[name]).train(model.training)
