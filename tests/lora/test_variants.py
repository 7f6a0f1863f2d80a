"""DoRA, PiSSA, rank-stabilised LoRA and all-linear: by themselves, and beside peft (extra `peers`)."""

import copy

import pytest
import torch
from torch import nn

from data.files import InputError
from experiments.config.spec import OptimSpec, PhaseSpec
from experiments.training.phases import parameter_groups, phase_table, set_trainable
from lora.adapter import CONFIG, WEIGHTS, load_adapter, save_adapter
from lora.inject import inject, lora_layers, merge, to_plain, unmerge, unwrap
from lora.layer import LoRALinear
from lora.variants import DoRALinear, wrap
from model.heads import SpanHead, TaskModel
from tests.conftest import small_encoder, write_checkpoint
from tests.lora.test_adapter import names

VARIANTS: dict[str, dict] = {
    "plain": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "dora and rslora": {"dora": True, "rslora": True},
    "pissa": {"init": "pissa"},
    "pissa and rslora": {"init": "pissa", "rslora": True},
    "dora and pissa": {"dora": True, "init": "pissa"},
}
OWN = ("lora_A", "lora_B", "lora_magnitude")
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def make(trained=True, seed=0, rank=4, **options) -> LoRALinear:
    """A 48 -> 32 layer that has been trained for a while, as it were."""
    torch.manual_seed(seed)
    layer = wrap(nn.Linear(48, 32), rank, alpha=6, **options)
    with torch.no_grad():
        for parameter in layer.adapter_parameters().values() if trained else ():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return layer


def adapted(variant: dict, seed: int = 0, trained: bool = True, **options):
    encoder = small_encoder(vocab_size=500).eval()
    torch.manual_seed(seed)
    inject(encoder, ["query", "up"], **{"rank": 4, "alpha": 8, **options, **variant})
    with torch.no_grad():
        for _, layer in lora_layers(encoder) if trained else ():
            for parameter in layer.adapter_parameters().values():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return encoder


# ---- by themselves ---------------------------------------------------------------------------------------------------


@every_variant
def test_at_the_start_a_layer_computes_what_the_wrapped_one_did(variant):
    torch.manual_seed(0)
    plain, x = nn.Linear(48, 32), torch.randn(5, 48)
    layer, expected = make(trained=False, **variant), plain(x)
    if "init" in variant:
        assert (layer(x) - expected).abs().max() < 1e-6
    else:
        assert torch.equal(layer(x), expected)


@every_variant
def test_merged_plain_and_unmerged_layers_agree_and_the_weight_comes_back_to_the_bit(variant):
    layer, x = make(**variant).eval(), torch.randn(5, 48)
    before, pristine, plain = layer(x), layer.weight.detach().clone(), layer.to_linear()
    for _ in range(50):
        layer.merge()
        assert (layer(x) - before).abs().max() < 1e-5
        assert (layer.to_linear()(x) - before).abs().max() < 1e-5
        layer.unmerge()
    assert torch.equal(layer.weight, pristine) and torch.equal(layer(x), before)
    assert (plain(x) - before).abs().max() < 1e-5


def test_dora_trains_its_magnitude_and_holds_the_norm_for_a_constant():
    """Section 4.3. Fails where the gradient also flows through |V|."""
    layer, x = make(dora=True), torch.randn(5, 48)
    layer(x).square().sum().backward()
    norm = torch.linalg.vector_norm(layer.weight + layer.low_rank(), dim=1)  # a number, not a function of A and B
    A, B, m = (getattr(layer, name).detach().clone().requires_grad_() for name in OWN)
    y = x @ ((m / norm)[:, None] * (layer.weight + layer.scaling * B @ A)).T + layer.bias
    y.square().sum().backward()
    for name, expected in zip(OWN, (A, B, m), strict=True):
        torch.testing.assert_close(getattr(layer, name).grad, expected.grad, rtol=1e-5, atol=1e-4)


def test_a_row_of_zeros_gives_zeros_and_no_nan():
    torch.manual_seed(0)
    linear, x = nn.Linear(48, 32), torch.randn(5, 48)
    with torch.no_grad():
        linear.weight[3] = 0
    layer = DoRALinear(linear, rank=4, alpha=8, dropout=nn.Dropout(0.5)).train()
    layer(x).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.adapter_parameters().values())
    with torch.no_grad():
        layer.lora_B.normal_()
    assert torch.equal(layer(x)[:, 3], layer.bias[3].expand(5))
    layer.merge()
    assert layer.weight.isfinite().all() and not layer.weight[3].any()


def test_doras_dropout_is_on_what_is_added_to_the_base():
    layer, x = make(dora=True, dropout=nn.Dropout(0.99999)).train(), torch.randn(5, 48)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("dora", [False, True])
def test_outputs_keep_their_type_under_autocast(dora):
    layer = make(dora=dora)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(5, 48)).dtype == torch.bfloat16


@pytest.mark.parametrize("rank", [1, 32])
@every_variant
def test_ranks_go_from_one_to_the_full_width(variant, rank):
    layer, x = make(rank=rank, trained=False, **variant), torch.randn(5, 48)
    layer(x).square().sum().backward()
    assert layer.lora_B.grad.abs().sum() > 0
    if rank == 32 and "init" in variant:
        assert layer.weight.abs().max() < 1e-6  # nothing is left over


def test_pissa_moves_the_largest_singular_values_into_the_adapter():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(nn.Linear(48, 32).weight)
    layer = make(init="pissa", trained=False)
    assert (torch.linalg.svdvals(layer.low_rank())[:4] - values[:4]).abs().max() < 1e-5
    assert (torch.linalg.svdvals(layer.weight)[:28] - values[4:]).abs().max() < 1e-5
    assert (layer.lora_A.norm(dim=1) - layer.lora_B.norm(dim=0)).abs().max() < 1e-5  # in equal shares


def test_a_layer_whose_tensors_will_be_filled_in_is_not_decomposed_and_draws_nothing(monkeypatch):
    monkeypatch.setattr(torch.linalg, "svd", lambda *a, **k: pytest.fail("decomposed"))
    before = torch.get_rng_state()
    encoder = small_encoder(vocab_size=500)
    torch.set_rng_state(before)
    inject(encoder, ["all-linear"], rank=4, alpha=8, init="pissa", fresh=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_start_is_an_error():
    with pytest.raises(ValueError, match="init 'olora'; it is default or pissa"):
        make(init="olora")


def test_all_linear_is_every_linear_layer():
    one, other = small_encoder(), small_encoder()
    assert inject(one, ["all-linear"], rank=2, alpha=4) == inject(other, ["*"], rank=2, alpha=4)
    assert {type(layer) for _, layer in lora_layers(one)} == {LoRALinear}


@every_variant
def test_an_encoder_is_merged_unmerged_and_made_plain(variant):
    encoder, tokens = adapted(variant), torch.randint(0, 500, (2, 20))
    with torch.no_grad():
        before = encoder(tokens)
        merge(encoder)
        assert (encoder(tokens) - before).abs().max() < 1e-5
        unmerge(encoder)
        assert torch.equal(encoder(tokens), before)
        assert (to_plain(encoder)(tokens) - before).abs().max() < 1e-5


@pytest.mark.parametrize("merged", [False, True])
def test_unwrapping_leaves_the_model_as_it_was_before(merged):
    encoder, tokens = small_encoder(vocab_size=500).eval(), torch.randint(0, 500, (2, 20))
    own, before = dict(encoder.named_parameters()), encoder(tokens)
    inject(encoder, ["all-linear"], rank=4, alpha=8, dora=True)
    with torch.no_grad():
        for _, layer in lora_layers(encoder):
            layer.lora_B.normal_()
    if merged:
        merge(encoder)
    unwrap(encoder)
    found = dict(encoder.named_parameters())
    assert found.keys() == own.keys() and all(found[name] is own[name] for name in own)
    assert not any(lora_layers(encoder)) and torch.equal(encoder(tokens), before)


@every_variant
def test_what_is_saved_is_what_is_loaded(tmp_path, variant):
    ours, other = adapted(variant, seed=0), adapted(variant, seed=1)
    save_adapter(ours, tmp_path, names, "base")
    load_adapter(other, tmp_path, names)
    tokens = torch.randint(0, 500, (2, 20))
    assert torch.equal(ours(tokens), other(tokens))


@pytest.mark.parametrize(
    "saved,model,message",
    [
        ("dora", "plain", "use_dora is True, the model has False"),
        ("plain", "dora", "use_dora is False, the model has True"),
        ("pissa", "plain", "init_lora_weights is 'pissa', the model has lora.init 'default'"),
        ("plain", "pissa", "init_lora_weights is True, the model has lora.init 'pissa'"),
    ],
)
def test_adapters_of_another_variant_are_refused(tmp_path, saved, model, message):
    save_adapter(adapted(VARIANTS[saved]), tmp_path, names, "base")
    with pytest.raises(InputError, match=message):
        load_adapter(adapted(VARIANTS[model]), tmp_path, names)


# ---- beside peft -----------------------------------------------------------------------------------------------------


def theirs_like(layer: LoRALinear, dora: bool = False, init: str = "default", rslora: bool = False, p: float = 0.0):
    """peft's layer around the same 48 -> 32 weights. Its adapters are copied from ours, but for its own PiSSA."""
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    start = "pissa" if init == "pissa" else True
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["0"],
        lora_dropout=p,
        use_rslora=rslora,
        use_dora=dora,
        init_lora_weights=start,
    )
    model = peft.get_peft_model(nn.Sequential(nn.Linear(48, 32)), config).base_model.model[0]
    return model, peft_parameters(model)


def peft_parameters(layer) -> dict[str, nn.Parameter]:
    found = {"lora_A": layer.lora_A["default"].weight, "lora_B": layer.lora_B["default"].weight}
    if layer.lora_magnitude_vector:
        found["lora_magnitude"] = layer.lora_magnitude_vector["default"].weight
    return found


@pytest.mark.parametrize("p", [0.0, 0.5])
@every_variant
def test_outputs_and_gradients_equal_pefts(variant, p):
    """Dropout included: both draw from one generator, one mask for each layer and step."""
    layer = make(trained=False, dropout=nn.Dropout(p) if p else nn.Identity(), **variant).train()
    theirs, parameters = theirs_like(layer, p=p, **variant)
    own = layer.adapter_parameters()
    assert own.keys() == parameters.keys()
    if "init" in variant:
        assert (layer.weight - theirs.base_layer.weight).abs().max() < 1e-6
        assert all((own[name] - parameters[name]).abs().max() < 1e-6 for name in own)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.add_(torch.randn_like(parameter) * 0.2)
            parameters[name].copy_(parameter)
    x = torch.randn(5, 48)
    inputs, outputs = [x.clone().requires_grad_() for _ in range(2)], []
    for module, leaf in zip((layer, theirs), inputs, strict=True):
        torch.manual_seed(7)
        outputs.append(module(leaf))
        outputs[-1].square().mean().backward()
    assert (outputs[0] - outputs[1]).abs().max() < 1e-6
    assert (inputs[0].grad - inputs[1].grad).abs().max() < 1e-6
    for name, parameter in own.items():
        assert (parameter.grad - parameters[name].grad).abs().max() < 1e-6, name
    theirs.eval().merge()
    layer.eval().merge()
    assert (layer.weight - theirs.base_layer.weight).abs().max() < 1e-6


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", ["dora", "dora and rslora", "pissa", "plain"])
def test_peft_loads_what_we_save_and_we_load_what_peft_saves(tmp_path, checkpoint, which):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    ours, tokens = adapted(VARIANTS[which]), torch.randint(0, 500, (2, 20))
    base = write_checkpoint(tmp_path / "base", small_encoder(vocab_size=500), checkpoint)
    save_adapter(ours, tmp_path, names, str(base))
    reference = transformers.BertModel.from_pretrained(base, add_pooling_layer=False)
    theirs = peft.PeftModel.from_pretrained(reference, tmp_path).eval()
    assert (ours(tokens) - theirs(tokens).last_hidden_state).abs().max() < 1e-5
    theirs.save_pretrained(tmp_path / "theirs")
    other = adapted(VARIANTS[which], seed=5)
    load_adapter(other, tmp_path / "theirs", names)
    assert torch.equal(other(tokens), ours(tokens))
    assert (tmp_path / "theirs" / WEIGHTS).is_file() and (tmp_path / "theirs" / CONFIG).is_file()


def test_all_linear_selects_what_peft_selects(tmp_path, checkpoint):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    encoder = small_encoder(vocab_size=500)
    base = write_checkpoint(tmp_path / "base", encoder, checkpoint)
    reference = transformers.BertModel.from_pretrained(base, add_pooling_layer=False)
    theirs = peft.get_peft_model(reference, peft.LoraConfig(r=2, target_modules="all-linear"))
    chosen = {name.removeprefix("base_model.model.") for name, m in theirs.named_modules() if hasattr(m, "base_layer")}
    assert {names(name) for name in inject(encoder, ["all-linear"], rank=2, alpha=4)} == chosen


# ---- LoRA+ -----------------------------------------------------------------------------------------------------------


def phase(*train: str, **options) -> PhaseSpec:
    return PhaseSpec(name="one", epochs=1, train=train, **options)


@pytest.fixture
def model() -> TaskModel:
    encoder = small_encoder(vocab_size=500)
    inject(encoder, ["query"], rank=2, alpha=4)
    return TaskModel(encoder, {"main": SpanHead(64)})


def test_b_trains_at_its_own_rate_and_is_told_apart(model):
    phases = [phase("head", "lora", lr={"lora": 1e-4}), phase("*.lora_A"), phase("head", "lora", "layers")]
    groups = parameter_groups(model, phases, OptimSpec(lr=1e-3), b_rate=16.0)
    peaks = {g.label: g.peaks for g in groups if not g.label.startswith("layers")}
    assert peaks["lora"] == (1e-4, 1e-3, 1e-3)
    assert peaks["lora_B"] == (16 * 1e-4, None, 16 * 1e-3)
    assert peaks["head"] == (1e-3, None, 1e-3)
    (B,) = (g for g in groups if g.label == "lora_B")
    assert set(B.names) == {f"encoder.layers.{i}.attention.query.lora_B" for i in range(2)}
    assert [(row["part"], row["tensors"], row["parameters"], row["lr"]) for row in phase_table(model, groups, 0)] == [
        ("lora", 2, 2 * 2 * 64, 1e-4),
        ("lora_B", 2, 2 * 2 * 64, 16 * 1e-4),
        ("head", 2, 2 * 64 + 2, 1e-3),
    ]
    assert [row["part"] for row in phase_table(model, groups, 1)] == ["lora"]


def test_without_it_b_is_no_part_of_its_own(model):
    groups = parameter_groups(model, [phase("head", "lora")], OptimSpec())
    assert [row["part"] for row in phase_table(model, groups, 0)] == ["lora", "head"]


def test_a_rate_of_b_where_no_b_trains_is_an_error(model):
    with pytest.raises(InputError, match=r"lora.b_rate: no phase trains the adapters' B"):
        parameter_groups(model, [phase("head", "*.lora_A")], OptimSpec(), b_rate=4.0)


def test_five_steps_equal_those_of_pefts_loraplus_optimizer(model):
    peft = pytest.importorskip("peft")
    from peft.optimizers import create_loraplus_optimizer

    ours = make()
    linear = nn.Linear(48, 32)
    with torch.no_grad():
        linear.weight.copy_(ours.weight)
        linear.bias.copy_(ours.bias)
    theirs = peft.get_peft_model(nn.Sequential(linear), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["0"]))
    parameters = peft_parameters(theirs.base_model.model[0])
    with torch.no_grad():
        for name, parameter in ours.adapter_parameters().items():
            parameters[name].copy_(parameter)
    settings = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}
    other = create_loraplus_optimizer(
        theirs, torch.optim.AdamW, loraplus_lr_ratio=16.0, loraplus_weight_decay=0.01, **settings
    )

    model.encoder.layers[0].attention.query = ours  # the groups of a whole model, of which this layer trains
    one = phase("encoder.layers.0.attention.query.lora_?")
    set_trainable(model, one)
    groups = parameter_groups(model, [one], OptimSpec(lr=1e-2, weight_decay=0.01), b_rate=16.0)
    named = dict(model.named_parameters())
    own = torch.optim.AdamW(
        [{"params": [named[n] for n in g.names], "lr": g.peaks[0], "weight_decay": g.weight_decay} for g in groups],
        **settings,
    )
    x, target = torch.randn(20, 48), torch.randn(20, 32)
    for _ in range(5):
        for net, optimizer in ((ours, own), (theirs, other)):
            optimizer.zero_grad()
            (net(x) - target).square().mean().backward()
            optimizer.step()
    start = make()
    for name, parameter in ours.adapter_parameters().items():
        assert (parameter - parameters[name]).abs().max() < 1e-6
        assert (parameter - getattr(start, name)).abs().max() > (0.3 if name == "lora_B" else 0.02)


def test_a_copy_of_a_model_is_its_own():
    encoder = adapted(VARIANTS["dora"])
    other = copy.deepcopy(encoder)
    merge(other)
    assert not any(layer.merged for _, layer in lora_layers(encoder))
