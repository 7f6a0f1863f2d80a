"""The tasks of a run, by name: often one, or several over one encoder. Each batch is of one task."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from torch import Tensor, nn

from data.files import InputError
from data.labels import Outputs
from experiments.config.metrics import DEFAULTS
from experiments.config.spec import Spec
from experiments.tasks.base import Evaluated, Task
from experiments.tasks.retrieval import Retrieval
from experiments.tasks.span_qa import SpanQA
from experiments.tasks.texts import Texts
from model.families import FAMILIES
from model.heads import Head, TaskModel
from model.machine import Machine
from model.pretrained import Base
from model.published_heads import inherit, take_over

KINDS: dict[str, type[Task]] = {
    "span_qa": SpanQA,
    "classification": Texts,
    "multi_label": Texts,
    "regression": Texts,
    "retrieval": Retrieval,
}


def make_heads(spec: Spec, outputs: Mapping[str, Outputs], base: Base) -> dict[str, Head]:
    """A head for each task: new, but for what the checkpoint has of one that fits. Draws from torch's generator, in the
    tasks' order."""
    heads: dict[str, Head] = {}
    pretrained, width = base.pretrained, base.encoder.config.hidden_size
    for name, task in spec.tasks.items():
        if hasattr(nn.ModuleDict(), name):
            raise InputError(f"tasks.{name}: cannot be a task's name, PyTorch's modules have something called so")
        family, dropout = FAMILIES[pretrained.family], spec.model.head_dropout
        heads[name] = KINDS[task.task].make_head(task, outputs[name], width, dropout, family)
        take_over(heads[name], pretrained.family, pretrained.head, outputs[name], pretrained.labels)
        # An adapter's head is taken whole, over what of it is the checkpoint's own; but BERT's pooler may be alone.
        whole = () if all(key.startswith("pooler.") for key in base.head) else base.head
        if base.head:
            take_over(heads[name], pretrained.family, pretrained.head | base.head, outputs[name], base.labels, whole)
        for theirs, other, meaning in base.heads:
            if theirs == name or len(base.heads) == len(spec.tasks) == 1:
                inherit(heads[name], outputs[name], other, meaning)
    return heads


class Tasks:
    """All tasks of a run. Training examples are numbered through: of tasks with 100 and 50 examples, those of the
    second are 100 to 149."""

    def __init__(self, spec: Spec, tokenizer: Tokenizer, root: Path):
        """Raises InputError for whatever is wrong with a task's data."""
        self.spec = spec
        self.tasks = {
            name: KINDS[task.task](name, task, spec.eval, tokenizer, root) for name, task in spec.tasks.items()
        }
        self.parts = [task.part for task in self.tasks.values()]
        self.lengths = np.concatenate([part.lengths for part in self.parts])  # tokens of each training example
        self._first = np.cumsum([0, *(len(part.lengths) for part in self.parts)])

    @property
    def outputs(self) -> dict[str, Outputs]:
        return {name: task.outputs for name, task in self.tasks.items()}

    @property
    def fingerprints(self) -> dict[str, dict[str, str]]:
        """{task: {split: sha256}} of the data"""
        return {name: task.fingerprints for name, task in self.tasks.items()}

    @property
    def splits(self) -> dict[str, dict[str, dict]]:
        """{task: {split: counts}}"""
        return {name: task.splits for name, task in self.tasks.items()}

    @property
    def tokens_judged(self) -> int:
        """How many tokens an evaluation computes."""
        return sum(int(tokens.lengths.sum()) for task in self.tasks.values() for tokens in task.judged.values())

    def task_of(self, rows: np.ndarray) -> tuple[Task, np.ndarray]:
        """The task that a batch is of, and its rows by that task's own numbers."""
        which = int(np.searchsorted(self._first, rows[0], side="right")) - 1
        return list(self.tasks.values())[which], rows - self._first[which]

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict:
        """The training examples `rows`, all of one task, as tensors; see `Task.batch`."""
        task, own = self.task_of(rows)
        return task.batch(own, random)

    @staticmethod
    def padded_tokens(batch: dict) -> int:
        """How many tokens the encoder reads of a batch, padding included."""
        return batch["tokens"].numel() + (batch["pair"]["tokens"].numel() if "pair" in batch else 0)

    def losses(self, model: TaskModel, logits: Tensor, batch: dict) -> Tensor:
        """The loss to minimise, for each example of a batch [B]."""
        return self.tasks[batch["task"]].losses(model.head_of(batch["task"]), logits, batch)

    def names_of(self, rows: np.ndarray) -> list[str]:
        """The names of a batch's training examples: "q17", or "qa.q17" in a run with several tasks."""
        task, own = self.task_of(rows)
        return [self.spec.prefix(task.name) + task.ids[i] for i in own]

    def reached(self, model: TaskModel, batches: list[np.ndarray]) -> dict[str, nn.Parameter]:
        """The parameters that a step over these batches can reach: all but those of the heads of other tasks."""
        active = {self.task_of(rows)[0].name for rows in batches}
        resting = tuple(f"head.{name}." for name in self.tasks if name not in active)
        return {name: p for name, p in model.named_parameters() if not name.startswith(resting)}

    def evaluate(self, model: TaskModel, machine: Machine, split: str = "dev") -> Evaluated:
        """The metrics of the task. In a run with several tasks they are called TASK.metric, and there are

        loss  the mean of theirs as training mixes them, by the tasks' weights and numbers of training examples
        mean  the mean of each task's default metric
        """
        found = {name: task.evaluate(model, machine, split) for name, task in self.tasks.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        loss = sum(
            task.spec.weight * len(task.train) / len(self.lengths) * found[name].metrics["loss"]
            for name, task in self.tasks.items()
        )
        defaults = [found[name].metrics[DEFAULTS.get(task.spec.task, "loss")] for name, task in self.tasks.items()]
        metrics = {"loss": loss, "mean": float(np.mean(defaults))}
        scores: dict[str, np.ndarray] = {}
        for name, own in found.items():
            metrics |= {f"{name}.{key}": value for key, value in own.metrics.items()}
            scores |= {f"{name}.{key}": value for key, value in own.scores.items()}
        return Evaluated(metrics, scores)  # tasks have different examples, so there are no joint statistics
