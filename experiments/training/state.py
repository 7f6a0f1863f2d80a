"""A run in memory, and `Progress`, which says where it is."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from experiments.config.metrics import direction
from experiments.config.spec import PhaseSpec, Spec
from experiments.tasks.base import Evaluated
from experiments.tasks.several import Tasks
from experiments.terminal import say
from experiments.training.phases import Group, Plan, rate_factor, trained_names
from experiments.training.trunk import Trunk, compute_trunk, kept_layers
from experiments.training.writer import Writer
from model.heads import TaskModel
from model.machine import Machine, peak_memory_mb
from model.pretrained import Pretrained


@dataclass
class Clock:
    """Seconds spent in each activity, over all processes that worked on the run."""

    train: float = 0.0  # steps, with their data
    data: float = 0.0
    eval: float = 0.0
    checkpoint: float = 0.0

    @contextlib.contextmanager
    def timing(self, activity: str) -> Iterator[None]:
        """Count the time that the block takes."""
        started = time.perf_counter()
        yield
        setattr(self, activity, getattr(self, activity) + time.perf_counter() - started)


@dataclass
class Sums:
    """Sums over the steps since the last train record."""

    since: float = 0.0  # the clock of training when these sums began
    loss: float = 0.0  # of examples, not of batches
    examples: int = 0
    tokens: int = 0  # real ones
    padded_tokens: int = 0  # real ones and padding
    steps: int = 0
    norm: float = 0.0
    norm_max: float = 0.0
    clipped: int = 0  # steps whose gradient was longer than optim.clip

    def add_step(self, examples: int, loss: float, norm: float, clip: float | None) -> None:
        """Count a step that was taken."""
        self.loss += loss * examples
        self.examples += examples
        self.steps += 1
        self.norm += norm
        self.norm_max = max(self.norm_max, norm)
        self.clipped += clip is not None and norm > clip

    def means(self, now: float) -> dict:
        """The fields of a train record. now: the clock of training."""
        seconds = max(1e-9, now - self.since)
        return {
            "loss": self.loss / self.examples if self.examples else None,
            "examples": self.examples,
            "tokens": self.tokens,
            "grad_norm": self.norm / self.steps if self.steps else None,
            "grad_norm_max": self.norm_max,
            "clipped": self.clipped / self.steps if self.steps else None,
            "examples_per_second": self.examples / seconds,
            "tokens_per_second": self.tokens / seconds,
            "padding": 1 - self.tokens / self.padded_tokens,
        }


@dataclass
class Best:
    """The best evaluation so far."""

    step: int
    epoch: float
    phase: str
    metrics: dict[str, float | None]


@dataclass
class Progress:
    """The place where a run is: everything beside tensors that decides what it will write next. Checkpoints hold it."""

    position: int = 0  # places of the data order done, skipped ones included
    step: int = 0  # optimizer steps taken
    phase: int = -1  # index into spec.phases; -1: not begun
    furthest: int = -1  # the highest such index so far: what has trained is saved, even if an earlier phase comes again
    phase_step: int = 0  # optimizer steps when the phase began
    best: Best | None = None
    since_best: int = 0  # evaluations since the best
    nonfinite: int = 0  # steps in a row that were skipped because the loss or the gradient was not finite
    sums: Sums = field(default_factory=Sums)
    clock: Clock = field(default_factory=Clock)


@dataclass
class Run:
    """Everything `train.py` works on."""

    spec: Spec
    folder: Path
    machine: Machine
    model: TaskModel
    pretrained: Pretrained
    start: str | None  # fingerprint of the adapter or run that it begins with
    tasks: Tasks
    plan: Plan
    groups: list[Group]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    writer: Writer = field(init=False)  # of metrics.jsonl, open once the folder is
    progress: Progress = field(default_factory=Progress)
    trunk: Trunk | None = None  # of this phase, where it is kept
    best_scores: dict[str, torch.Tensor] = field(default_factory=dict)  # of each dev example, at the best evaluation
    program: str = "train.py"  # what trains: for the run record
    saved: tuple[int, int, float] = (0, 0, 0.0)  # position, step and seconds of the last checkpoint

    @property
    def epoch(self) -> float:
        return self.plan.order.epochs_at(self.progress.position)

    @property
    def phase_name(self) -> str:
        return self.spec.phases[self.progress.phase].name

    @property
    def out_of_patience(self) -> bool:
        """Whether eval.patience evaluations in a row were no new best."""
        patience = self.spec.eval.patience
        return patience is not None and self.progress.since_best >= patience

    def trained(self) -> set[str]:
        """Names of the parameters that have trained so far."""
        return trained_names(self.model, self.spec.phases[: self.progress.furthest + 1])

    def set_rates(self) -> dict[str, float]:
        """Give every group its learning rate for the coming step. Returns {part: rate} of what trains."""
        progress, index = self.progress, self.progress.phase
        # Counted in steps taken: one that was skipped leaves the schedule where it was.
        step = progress.step - progress.phase_step
        factor = rate_factor(self.spec.phases[index], step, self.plan.steps(index))
        rates: dict[str, float] = {}
        for group, settings in zip(self.groups, self.optimizer.param_groups, strict=True):
            peak = group.peaks[index]
            settings["lr"] = 0.0 if peak is None else peak * factor
            if peak is not None:
                rates[group.label] = max(rates.get(group.label, 0.0), settings["lr"])
        return rates

    def keep_trunk(self, phase: PhaseSpec) -> None:
        """Compute the frozen trunk of a phase that begins, unless the phase before kept the same layers."""
        depth, before = kept_layers(self.spec, self.model, phase), self.progress.clock.train
        if self.trunk and self.trunk.depth == depth:
            return
        self.trunk = None  # before the new one is made: there is room for one
        if depth:
            with self.progress.clock.timing("train"):
                self.trunk = compute_trunk(self.model, self.tasks, self.machine, depth)
            say(f"  trunk    the output of {depth} frozen layers is kept: {self.trunk.hidden.nbytes >> 20:,} MiB")
            self.progress.sums.since += self.progress.clock.train - before  # the speed of steps is that of steps

    def batch(self, rows: np.ndarray, random: np.random.Generator) -> dict:
        """The training examples `rows` as a batch on the device, with the output of the frozen trunk if it is kept."""
        batch = self.machine.place(self.tasks.batch(rows, random))
        if self.trunk:
            output = self.trunk.of(rows, batch["tokens"].shape[1]).to(self.machine.device)
            batch["below"] = (self.trunk.depth, output)
        return batch

    def check_gradients(self, batches: list[np.ndarray]) -> None:
        """Raise RuntimeError where something that trains got no gradient from a step over these batches: it would never
        learn, and nobody would notice."""
        reached = self.tasks.reached(self.model, batches)
        silent = [name for name, p in reached.items() if p.requires_grad and p.grad is None]
        if silent:
            raise RuntimeError(f"no gradient reached {', '.join(silent)}: they would never train")

    def record(self, kind: str, **fields) -> dict:
        """Write a record of this moment. Returns it."""
        return self.writer.write(kind, self.progress.step, self.epoch, **fields)

    def record_training(self, rates: dict[str, float]) -> dict:
        """Write a train record: means over everything since the last one. rates: {part: learning rate} now."""
        progress, peak = self.progress, peak_memory_mb(self.machine.device)
        means = progress.sums.means(progress.clock.train)
        progress.sums = Sums(since=progress.clock.train)
        return self.record("train", **means, lr=rates, peak_memory_mb=peak)

    def record_evaluation(self, found: Evaluated, split: str, seconds: float) -> bool:
        """Write an eval record. Returns whether this evaluation is the best so far. Only one of the development set
        with a finite metric can be; its scores are remembered. Where the loss is not finite, no metric is."""
        if not found.finite:
            found = Evaluated(dict.fromkeys(found.metrics, math.nan))
        progress, metric = self.progress, self.spec.eval.metric
        best = split == "dev" and self._is_best(found.metrics)
        record = self.record(
            "eval",
            split=split,
            phase=self.phase_name,
            metrics=found.metrics,
            intervals=found.intervals() if split == "dev" else {},
            best=best,
            eval_seconds=seconds,
            clock=progress.clock,
        )
        if best:
            self.best_scores = {key: torch.from_numpy(scores).float() for key, scores in found.scores.items()}
            progress.best = Best(progress.step, record["epoch"], self.phase_name, record["metrics"])
            progress.since_best = 0
        elif split == "dev":
            progress.since_best += 1
            if self.out_of_patience:
                message = f"{progress.since_best} evaluations without a better {metric}"
                self.record("event", event="early_stop", message=message)
        return best

    def _is_best(self, metrics: dict[str, float]) -> bool:
        metric, best = self.spec.eval.metric, self.progress.best
        if metric not in metrics:
            raise RuntimeError(f"the evaluation gave no {metric!r}; it gives {', '.join(metrics)}")
        value, sign = metrics[metric], direction(metric)
        return math.isfinite(value) and (best is None or sign * value > sign * (best.metrics[metric] or 0.0))
