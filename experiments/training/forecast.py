"""How long a run still takes: its work, counted in FLOPs before it begins, at the speed measured so far.

A step of a later phase may cost half as much again, and an evaluation costs no gradient. Counting work instead of steps
gives the whole run's time from its first ten steps, evaluations included.
"""

import bisect
from collections.abc import Collection

from experiments.training.phases import trained_names
from experiments.training.state import Run
from experiments.training.trunk import kept_layers
from model.heads import TaskModel

FIRST = 2  # steps that are left out of the measurement: the first ones also allocate memory


def flops_per_token(model: TaskModel, trained: Collection[str], length: float, kept: int = 0) -> float:
    """FLOPs of one token in one training step, in the products of matrices: 2 for each weight on the way forward, 2 for
    the gradient of a layer's input wherever something at or below that layer trains, 2 for each weight that trains.

    trained: names of the parameters that train; none in an evaluation. length: tokens of an example, for attention:
    4 x length x width on the way forward, twice that on the way back. kept: lower layers whose output is kept.

    6 layers of 12 x 384^2 weights forward: 2 x 10.6 M = 21 M. With adapters in all of them 21 M more for the gradients
    of inputs, and 21 M more again if the layers train themselves.
    """
    width, total, reached = model.encoder.config.hidden_size, 0.0, False
    layers = [f"encoder.layers.{i}." for i in range(len(model.encoder.layers))]
    for place in ["encoder.embeddings.", *layers[kept:], "head."]:
        inside = {name: p for name, p in model.named_parameters() if name.startswith(place)}
        reached = reached or any(name in trained for name in inside)
        # A product of matrices for each matrix, LoRA's small ones included; but embeddings are looked up.
        weights = {name: p.numel() for name, p in inside.items() if p.ndim == 2 and "embeddings" not in place}
        attention = 4 * length * width if place in layers else 0
        total += 2 * sum(weights.values()) * (1 + reached) + attention * (1 + 2 * reached)
        total += 2 * sum(size for name, size in weights.items() if name in trained)
    return total


class Forecast:
    """The time that a run still takes, from this process's own steps."""

    def __init__(self, run: Run):
        lengths = run.tasks.lengths
        tokens, length = float(lengths.sum()), float(lengths.mean())
        self._run = run
        forward = flops_per_token(run.model, (), length)
        self._evaluation = run.tasks.tokens_judged * forward
        self._steps, self._trunks = [], []  # of each phase, work of a step, and of computing the trunk that it keeps
        before = 0
        for i, phase in enumerate(run.spec.phases):
            kept = kept_layers(run.spec, run.model, phase)
            each = flops_per_token(run.model, trained_names(run.model, [phase]), length, kept)
            self._steps.append(tokens * phase.epochs / run.plan.steps(i) * each)
            trunk = 0.0 if kept == before else forward - flops_per_token(run.model, (), length, kept)
            self._trunks.append(tokens * trunk)
            before = kept
        self._evaluate_at = sorted(run.plan.evaluate_at)
        self._begun = run.progress.position
        self._measured_from: tuple[int, float] | None = None  # position, and the clock of training there
        self._evaluated_before = run.progress.clock.eval
        self._saved_before = run.progress.clock.checkpoint

    @property
    def flops(self) -> float:
        """Work of the whole run, evaluations included."""
        return self._work(0, len(self._run.plan.order)) + len(self._run.plan.evaluate_at) * self._evaluation

    def _work(self, begin: int, end: int) -> float:
        """Work of the steps from position `begin` to `end`, and of the trunks of phases that begin there."""
        found = 0.0
        for phase, (step, trunk) in enumerate(zip(self._steps, self._trunks, strict=True)):
            low, high = self._run.plan.span(phase)
            found += step * max(0, min(high, end) - max(low, begin)) + trunk * (begin <= low < end)
        return found

    def remaining(self) -> float | None:
        """Seconds that are left; None before enough steps have been measured."""
        position, clock = self._run.progress.position, self._run.progress.clock
        if position - self._begun >= FIRST and self._measured_from is None:
            self._measured_from = (position, clock.train)
        if self._measured_from is None or position == self._measured_from[0]:
            return None
        begin, began = self._measured_from
        rate = (clock.train - began) / self._work(begin, position)  # seconds for each unit of work
        before = bisect.bisect_left(self._evaluate_at, position)  # evaluations due at earlier positions
        done = before - bisect.bisect_right(self._evaluate_at, self._begun)
        each = (clock.eval - self._evaluated_before) / done if done else rate * self._evaluation
        left = len(self._evaluate_at) - before
        training = rate * self._work(position, len(self._run.plan.order))
        saving = (clock.checkpoint - self._saved_before) / (clock.train - began)
        return training * (1 + saving) + left * each
