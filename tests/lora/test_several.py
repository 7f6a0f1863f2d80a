"""lora/several.py: adapters that share one base, side by side with layers that hold one adapter alone."""

import pytest
import torch
from torch import nn

from lora.inject import inject, lora_layers
from lora.several import Adapter, LayerAdapter, Several, weighted_sum
from model.families import hugging_face_name
from tests.conftest import small_encoder, write_checkpoint

TARGETS = {"a": ["query"], "b": ["query", "up"], "wide": ["all-linear"], "dora": ["value"]}
OPTIONS: dict[str, dict] = {
    "a": {"rank": 4, "alpha": 8},
    "b": {"rank": 2, "alpha": 3, "rslora": True},
    "wide": {"rank": 64, "alpha": 16},
    "dora": {"rank": 3, "alpha": 6, "dora": True},
}


def alone(name: str):
    """An encoder with one adapter, as training leaves it."""
    encoder = small_encoder(vocab_size=500).eval()
    torch.manual_seed(len(name))
    inject(encoder, TARGETS[name], **OPTIONS[name])
    with torch.no_grad():
        for _, layer in lora_layers(encoder):
            for parameter in layer.adapter_parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return encoder


def taken_from(encoder) -> Adapter:
    return Adapter(
        {
            name: LayerAdapter(
                layer.lora_A, layer.lora_B, layer.alpha, layer.rslora, getattr(layer, "lora_magnitude", None)
            )
            for name, layer in lora_layers(encoder)
        }
    )


ADAPTERS = {name: taken_from(alone(name)) for name in TARGETS}
TOKENS = torch.arange(40).view(2, 20) * 7


@pytest.fixture
def several() -> Several:
    return Several(small_encoder(vocab_size=500).eval(), ADAPTERS)


@torch.no_grad()
def test_each_adapter_computes_what_it_does_alone_and_none_is_the_base(several):
    base = several.model(TOKENS)
    for name in [*TARGETS, *reversed(TARGETS)]:
        several.use(name)
        assert torch.equal(several.model(TOKENS), alone(name)(TOKENS))
    several.use(None)
    assert torch.equal(several.model(TOKENS), base) and not any(lora_layers(several.model))


def test_switching_copies_and_draws_nothing(several):
    weights, state = dict(several.model.named_parameters()), torch.get_rng_state()
    several.use("b")
    layers = dict(lora_layers(several.model))
    assert layers.keys() == ADAPTERS["b"].layers.keys()
    assert all(layer.lora_A.data_ptr() == ADAPTERS["b"].layers[name].A.data_ptr() for name, layer in layers.items())
    assert all(p is weights[name] for name, p in several.model.named_parameters() if name in weights)
    assert not any(p.requires_grad for _, layer in layers.items() for p in layer.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@torch.no_grad()
def test_a_weighted_sum_adds_the_updates(several):
    weights = {"a": 0.7, "b": -0.3, "wide": 1.5}
    several.use(weights)
    summed = dict(lora_layers(several.model))
    parts = {name: dict(lora_layers(alone(name))) for name in weights}
    assert summed.keys() == ADAPTERS["wide"].layers.keys()
    for path, layer in summed.items():
        expected = sum(weight * parts[name][path].delta() for name, weight in weights.items() if path in parts[name])
        assert (layer.delta() - expected).abs().max() < 1e-5
    assert summed["layers.0.attention.query"].rank == 4 + 2 + 64  # more than the layer is wide


@torch.no_grad()
def test_one_with_a_weight_of_its_own_is_a_sum_too(several):
    several.use({"a": 0.5})
    half = {name: layer.delta() for name, layer in lora_layers(several.model)}
    assert all((half[n] - 0.5 * layer.delta()).abs().max() < 1e-6 for n, layer in lora_layers(alone("a")))
    several.use({"dora": 1})
    assert torch.equal(several.model(TOKENS), alone("dora")(TOKENS))


@pytest.mark.parametrize(
    "chosen,message",
    [
        ("c", "c: 1.0 is no weight of one of the adapters: a, b, wide, dora"),
        ({"a": float("nan")}, "a: nan is no weight"),
        ({"a": 0.5, "dora": 0.5}, "dora: has DoRA's magnitudes; it can be used alone"),
        ({"dora": 0.5}, "neither added nor weighted"),
    ],
)
def test_what_cannot_be_used_is_an_error_and_the_model_stays_as_it_was(several, chosen, message):
    several.use("a")
    before = several.model(TOKENS)
    with pytest.raises(ValueError, match=message):
        several.use(chosen)
    assert torch.equal(several.model(TOKENS), before)


def test_an_adapter_of_another_model_is_an_error():
    A, B = torch.zeros(2, 64), torch.zeros(64, 2)
    for path, own, message in (
        ("layers.7.attention.query", LayerAdapter(A, B, 4), "x: layers.7.attention.query is no linear layer"),
        ("layers.0.attention", LayerAdapter(A, B, 4), "x: layers.0.attention is no linear layer"),
        (
            "layers.0.mlp.up",
            LayerAdapter(A, B, 4),
            r"x: layers.0.mlp.up is 128x64, which tensors of \[\(2, 64\), \(64,",
        ),
        ("layers.0.attention.query", LayerAdapter(A, torch.zeros(64, 3), 4), "do not fit"),
        ("layers.0.attention.query", LayerAdapter(A, B, 4, magnitude=torch.ones(1)), "do not fit"),
    ):
        with pytest.raises(ValueError, match=message):
            Several(small_encoder(), {"x": Adapter({path: own})})
    with pytest.raises(ValueError, match="already has LoRA layers"):
        Several(alone("a"), ADAPTERS)


@pytest.mark.filterwarnings("ignore")
def test_sums_equal_those_of_peft(tmp_path, checkpoint):
    """add_weighted_adapter with combination_type "cat"."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    encoder = small_encoder(vocab_size=500).eval()
    base = write_checkpoint(tmp_path / "base", encoder, checkpoint)
    model, weights = transformers.BertModel.from_pretrained(base, add_pooling_layer=False), {"a": 0.7, "b": 0.4}
    for name in weights:
        options = OPTIONS[name]
        config = peft.LoraConfig(
            r=options["rank"],
            lora_alpha=options["alpha"],
            use_rslora=options.get("rslora", False),
            target_modules=[hugging_face_name(path, "bert") for path in ADAPTERS[name].layers],
        )
        if isinstance(model, peft.PeftModel):
            model.add_adapter(name, config)
        else:
            model = peft.get_peft_model(model, config, adapter_name=name)
        for path, own in ADAPTERS[name].layers.items():
            layer = model.base_model.model.get_submodule(hugging_face_name(path, "bert"))
            layer.lora_A[name].weight.data.copy_(own.A.detach())
            layer.lora_B[name].weight.data.copy_(own.B.detach())
    model.add_weighted_adapter(list(weights), list(weights.values()), "sum", combination_type="cat")
    several = Several(encoder, ADAPTERS)
    with torch.no_grad():
        for name in ("a", "b", "sum"):
            model.set_adapter(name)
            several.use(weights if name == "sum" else name)
            assert (several.model(TOKENS) - model.eval()(TOKENS).last_hidden_state).abs().max() < 1e-5
    for path, own in weighted_sum(ADAPTERS, weights).layers.items():
        layer = model.base_model.model.get_submodule(hugging_face_name(path, "bert"))
        ours = LayerAdapter(own.A, own.B, own.alpha).around(nn.Linear(*reversed(layer.base_layer.weight.shape)))
        assert (ours.delta() - layer.get_delta_weight("sum")).abs().max() < 1e-6
