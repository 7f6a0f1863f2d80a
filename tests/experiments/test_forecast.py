"""How long a run still takes."""

import pytest

from experiments.training.forecast import Forecast, flops_per_token
from experiments.training.phases import trained_names
from model.machine import busy_cores, cores
from tests.tiny import started


def test_the_work_of_a_token_is_that_of_its_products(experiment, tmp_path):
    """Counted by hand, for 2 layers of width C and MLPs of width M: 4 C C + 2 C M weights a layer."""
    run = started(experiment(), tmp_path)
    config = run.model.encoder.config
    C, M, L = config.hidden_size, config.intermediate_size, config.num_layers
    layer, head, rank = 4 * C * C + 2 * C * M, 2 * C, 4
    adapters = 2 * 2 * C * rank  # A and B of query and value
    attention = 4 * 10 * C
    forward = 2 * (L * (layer + adapters) + head) + L * attention
    assert flops_per_token(run.model, (), 10) == forward
    adapted = trained_names(run.model, run.spec.phases[:1])
    backward = 2 * (L * (layer + adapters) + head) + 2 * L * attention
    assert flops_per_token(run.model, adapted, 10) == forward + backward + 2 * (L * adapters + head)
    head_alone = {name for name in adapted if name.startswith("head.")}
    assert flops_per_token(run.model, head_alone, 10) == forward + 2 * head + 2 * head


def test_the_time_left_counts_work_instead_of_steps(experiment, tmp_path):
    """At a steady speed, and with evaluations that take what was planned, it is exact."""
    run = started(experiment(), tmp_path)
    forecast, clock, plan = Forecast(run), run.progress.clock, run.plan
    assert forecast.remaining() is None
    speed, total = 1e9, forecast.flops
    for position in range(1, len(plan.order) + 1):
        phase = plan.phase_at(position - 1)
        clock.train += forecast._steps[phase] / speed
        run.progress.position = position
        left = forecast.remaining()
        assert (left is None) == (position <= 2)
        if left is not None:
            assert left == pytest.approx(total / speed - clock.train - clock.eval, abs=1e-9)
        if position in plan.evaluate_at:
            clock.eval += forecast._evaluation / speed


def test_busy_cores_are_some_of_those_there_are():
    busy = busy_cores(0.05)
    assert busy is None or 0 <= busy <= cores()
