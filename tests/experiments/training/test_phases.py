"""experiments/training/phases.py: what trains and how fast, as functions of the spec and the position."""

import pytest
import torch

from data.files import InputError
from experiments.config.parse import build
from experiments.config.spec import OptimSpec, PhaseSpec
from experiments.training.phases import entry_for, parameter_groups, parts_of, rate_factor, selects, set_trainable
from lora.inject import inject, lora_layers
from model.heads import SpanHead, TaskModel
from tests.conftest import small_encoder

QUERY_1 = "encoder.layers.1.attention.query.weight"
LORA_1 = "encoder.layers.1.attention.query.lora_A"


def phase(**fields) -> PhaseSpec:
    return build(PhaseSpec, {"name": "p", "epochs": 1, "train": ["all"]} | fields)


def optim(lr: float = 1.0, weight_decay: float = 0.0) -> OptimSpec:
    return OptimSpec(lr=lr, weight_decay=weight_decay)


@pytest.fixture
def model() -> TaskModel:
    encoder = small_encoder(num_layers=3)
    inject(encoder, ["query", "value"], rank=2, alpha=4)
    return TaskModel(encoder, {"main": SpanHead(64)})


PARTS = {
    QUERY_1: "layers.1",
    LORA_1: "lora",
    "encoder.embeddings.word.weight": "embeddings",
    "head.main.output.bias": "head",
    "encoder.layers.1.mlp.norm.bias": "layers.1",
}


def test_every_parameter_belongs_to_one_part(model):
    parts = parts_of(model)
    assert parts.keys() == dict(model.named_parameters()).keys()
    assert {name: parts[name] for name in PARTS} == PARTS


def test_a_parameter_that_a_lora_variant_adds_is_lora_without_being_told(model, monkeypatch):
    """Trap 43: a magnitude, as DoRA has. Fails where adapters are known by the names lora_A and lora_B."""
    for _, layer in lora_layers(model):
        layer.magnitude = torch.nn.Parameter(torch.ones(64))
    parts = parts_of(model)
    magnitudes = [name for name in parts if name.endswith(".magnitude")]
    assert len(magnitudes) == 6 and {parts[name] for name in magnitudes} == {"lora"}
    set_trainable(model, phase(train=["lora"]))
    assert all(p.requires_grad is (parts[name] == "lora") for name, p in model.named_parameters())
    (group,) = [g for g in parameter_groups(model, [phase(train=["lora"])], optim()) if magnitudes[0] in g.names]
    assert group.label == "lora" and set(magnitudes) <= set(group.names)


@pytest.mark.parametrize(
    "pattern,name,fits",
    [
        ("layers.0-1", QUERY_1, True),
        ("layers.1-0", QUERY_1, True),
        ("layers.1", QUERY_1, True),
        ("layers.2-11", QUERY_1, False),
        ("layers", QUERY_1, True),
        ("layers", LORA_1, False),
        ("lora", LORA_1, True),
        ("all", LORA_1, True),
        ("*.norm.*", "encoder.layers.1.mlp.norm.bias", True),
        ("*.bias", QUERY_1, False),
        ("head", QUERY_1, False),
    ],
)
def test_an_entry_selects_parameters_by_part_range_or_glob(pattern, name, fits):
    assert selects(pattern, name, PARTS[name]) is fits


def test_what_trains_is_exactly_what_the_phase_names(model):
    set_trainable(model, phase(train=["head", "lora", "layers.2"]))
    trained = {parts_of(model)[name] for name, p in model.named_parameters() if p.requires_grad}
    frozen = {parts_of(model)[name] for name, p in model.named_parameters() if not p.requires_grad}
    assert trained == {"head", "lora", "layers.2"}
    assert frozen == {"embeddings", "layers.0", "layers.1"}


def test_freezing_again_removes_the_gradient(model):
    set_trainable(model, phase(train=["all"]))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_trainable(model, phase(train=["head"]))
    assert all(p.grad is None for p in model.parameters())


def test_the_last_entry_that_selects_a_parameter_gives_its_rate(model):
    p = phase(train=["all", "head"], lr={"all": 1e-4, "head": 1e-2})
    assert entry_for(p, "head.main.output.weight", "head") == "head"
    groups = {g.label: g for g in parameter_groups(model, [p], optim())}
    assert groups["head"].peaks == (1e-2,) and groups["lora"].peaks == (1e-4,)


def test_layer_decay_falls_from_the_top_and_spares_adapters_and_head(model):
    groups = {g.label: g.peaks[0] for g in parameter_groups(model, [phase(layer_decay=0.5)], optim())}
    assert groups == {"embeddings": 0.125, "layers.0": 0.25, "layers.1": 0.5, "layers.2": 1.0, "lora": 1.0, "head": 1.0}


def test_weight_decay_spares_biases_and_layernorm(model):
    groups = parameter_groups(model, [phase()], optim(weight_decay=0.01))
    names = {name: g.weight_decay for g in groups for name in g.names}
    assert set(names) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        assert names[name] == (0.01 if parameter.ndim == 2 else 0.0), name


def test_adapters_that_no_phase_trains_are_an_error_however_they_are_named(model):
    with pytest.raises(InputError, match="lora: no phase trains the adapters"):
        parameter_groups(model, [phase(train=["head"])], optim())
    assert parameter_groups(model, [phase(train=["*.lora_?"])], optim())


def test_all_groups_of_all_phases_exist_from_the_start(model):
    phases = [
        phase(name="one", train=["head"]),
        phase(name="two", train=["head", "layers.2", "lora"], lr={"layers.2": 1e-5}),
    ]
    peaks = {g.label: g.peaks for g in parameter_groups(model, phases, optim(lr=1e-3))}
    assert peaks == {"head": (1e-3, 1e-3), "layers.2": (None, 1e-5), "lora": (None, 1e-3)}


@pytest.mark.parametrize(
    "train,message",
    [
        (["head", "layers.7"], r"phases.0.train: 'layers.7' goes beyond this model's last layer, layers.2"),
        (["head", "layers.0-3"], r"'layers.0-3' goes beyond this model's last layer, layers.2"),
        (["*.nothing"], r"'\*.nothing' selects no parameter; parts: embeddings, layers.0, lora"),
        (["head", "all"], r"'head' is wholly covered by a later entry"),
    ],
)
def test_an_entry_that_trains_nothing_is_an_error(model, train, message):
    with pytest.raises(InputError, match=message):
        parameter_groups(model, [phase(train=train)], optim())


# ---- rates -----------------------------------------------------------------------------------------------------------


def factors(steps: int = 10, **fields) -> list[float]:
    p = phase(**fields)
    return [round(rate_factor(p, step, steps), 4) for step in range(steps)]


def test_linear_with_warmup_is_the_worked_example():
    assert factors(warmup_ratio=0.2) == [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]


def test_constant_stays_and_a_floor_holds():
    assert factors(schedule="constant", warmup_ratio=0) == [1] * 10
    assert factors(steps=4, warmup_ratio=0, floor=0.2) == [1, 0.8, 0.6, 0.4]


def test_cosine_falls_slowly_then_fast_then_slowly():
    values = factors(steps=4, schedule="cosine", warmup_ratio=0)
    assert values == [1, 0.8536, 0.5, 0.1464]


def test_a_rate_is_never_zero_whatever_the_length():
    for steps in (1, 2, 3, 7):
        for ratio in (0, 0.06, 0.5, 1):
            assert all(0 < rate_factor(phase(warmup_ratio=ratio), step, steps) <= 1 for step in range(steps))


def test_linear_equals_transformers_one_step_later():
    """transformers begins at rate 0 (a step that changes nothing); ours begins where its second step is."""
    transformers = pytest.importorskip("transformers")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, 4, 20)
    theirs = []
    for _ in range(20):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    p = phase(warmup_ratio=0.2)
    ours = [rate_factor(p, step, 20) for step in range(20)]
    assert ours[:4] == pytest.approx(theirs[1:5])
    assert ours[4:] == pytest.approx(theirs[4:])
