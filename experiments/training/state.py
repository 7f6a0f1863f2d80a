"""A run in memory: everything `train.py` works on, and `Progress`, which says where it is."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from data.batching import TrainingOrder
from experiments import records as runlog
from experiments.config.spec import Spec
from experiments.tasks.several import MultiTask
from experiments.tasks.span_qa import SpanQA
from experiments.tasks.texts import TextTask
from experiments.training.phases import Group, trained_names
from model import machine
from model.heads import TaskModel
from model.pretrained import Pretrained


@dataclass
class Sums:
    """What has added up since the last train record."""

    loss: float = 0.0  # of examples, not of batches
    examples: int = 0
    tokens: int = 0  # real ones
    padded_tokens: int = 0  # real ones and padding
    steps: int = 0
    norm: float = 0.0
    norm_max: float = 0.0
    clipped: int = 0  # steps whose gradient was longer than optim.clip


@dataclass
class Clock:
    """Seconds spent in each activity, over all processes that worked on the run."""

    train: float = 0.0  # steps, with their data
    data: float = 0.0
    eval: float = 0.0
    checkpoint: float = 0.0


@dataclass
class Best:
    """The best evaluation so far."""

    step: int
    epoch: float
    phase: str
    metrics: dict[str, float | None]


@dataclass
class Progress:
    """Where a run is: everything beside tensors that decides what it will write next."""

    position: int = 0  # places of the data order done, skipped ones included
    step: int = 0  # optimizer steps taken
    phase: int = -1  # index into spec.phases; -1: not begun
    furthest: int = -1  # the highest such index so far: what has trained is saved, also if an earlier phase is entered
    phase_step: int = 0  # optimizer steps when the phase began
    best: Best | None = None
    since_best: int = 0  # evaluations since the best
    nonfinite: int = 0  # steps in a row that were skipped because the loss or the gradient was not finite
    stopped_early: bool = False
    sums: Sums = field(default_factory=Sums)
    clock: Clock = field(default_factory=Clock)


@dataclass
class Run:
    """Everything `train.py` works on."""

    spec: Spec
    folder: Path
    device: torch.device
    precision: machine.Precision
    model: TaskModel
    pretrained: Pretrained
    task: SpanQA | TextTask | MultiTask
    order: TrainingOrder
    phase_ends: list[int]  # position after each phase
    evaluate_at: set[int]  # positions after which an evaluation is due
    groups: list[Group]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    l1: list[nn.Parameter]  # what optim.l1 penalises
    best_scores: dict[str, torch.Tensor] = field(default_factory=dict)  # of each dev example, at the best evaluation
    progress: Progress = field(default_factory=Progress)
    log: runlog.RunLog | None = None  # open once the folder is
    saved_at: tuple[int, int, float] = (0, 0, 0.0)  # position, step and seconds of the last checkpoint
    recorded_at: float = 0.0  # progress.clock.train at the last train record

    @property
    def epoch(self) -> float:
        return self.order.epochs_at(self.progress.position)

    def phase_span(self, index: int) -> tuple[int, int]:
        """The positions where a phase begins and ends."""
        return self.phase_ends[index - 1] if index else 0, self.phase_ends[index]

    def phase_steps(self, index: int) -> int:
        begin, end = self.phase_span(index)
        return end - begin

    def record(self, kind: str, **fields) -> dict:
        return self.log.write(kind, self.progress.step, self.epoch, **fields)

    def trained(self) -> set[str]:
        """Names of the parameters that have trained so far."""
        return trained_names(self.model, self.spec.phases[: self.progress.furthest + 1])
