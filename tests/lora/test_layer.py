"""lora/layer.py: one linear layer with a low-rank term."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from lora.layer import LoRALinear


def make_layer(dtype=torch.float32, seed=0, **options) -> LoRALinear:
    """A 48 -> 32 layer whose B is no longer zero."""
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(48, 32).to(dtype), rank=4, alpha=8, **options)
    nn.init.normal_(layer.lora_B, std=0.3)
    return layer


def test_a_fresh_layer_computes_exactly_what_the_wrapped_one_does():
    linear, x = nn.Linear(48, 32), torch.randn(5, 48)
    expected = linear(x)
    assert torch.equal(LoRALinear(linear, rank=4, alpha=8)(x), expected)


def test_the_layer_shares_the_wrapped_weights_and_their_names():
    linear = nn.Linear(48, 32)
    layer = LoRALinear(linear, rank=4, alpha=8)
    assert layer.weight is linear.weight and layer.bias is linear.bias
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias", "lora_A", "lora_B"]


def test_the_base_is_frozen_and_the_adapter_is_not():
    layer, x = make_layer(), torch.randn(5, 48)
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert layer.lora_A.grad.abs().sum() > 0 and layer.lora_B.grad.abs().sum() > 0


def test_the_update_is_scaled_by_alpha_over_rank():
    layer = make_layer()
    assert layer.scaling == 2.0
    torch.testing.assert_close(layer.delta(), 2.0 * layer.lora_B @ layer.lora_A)


def test_rank_stabilised_scaling_is_alpha_over_the_root_of_the_rank():
    assert make_layer(rslora=True).scaling == 4.0


def test_merged_unmerged_and_plain_outputs_agree():
    layer, x = make_layer().eval(), torch.randn(5, 48)
    before = layer(x)
    plain = layer.to_linear()
    assert type(plain) is nn.Linear
    layer.merge()
    assert (layer(x) - before).abs().max() < 1e-5
    assert (plain(x) - before).abs().max() < 1e-5
    assert (layer.to_linear()(x) - before).abs().max() < 1e-5  # also from the merged state
    layer.unmerge()
    assert torch.equal(layer(x), before)


def test_merging_twice_changes_nothing_more():
    layer = make_layer()
    layer.merge()
    once = layer.weight.detach().clone()
    layer.merge()
    assert torch.equal(layer.weight, once)
    layer.unmerge()
    layer.unmerge()
    assert not layer.merged


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hundred_rounds_of_merging_leave_the_weight_bit_for_bit(dtype):
    layer = make_layer(dtype)
    pristine = layer.weight.detach().clone()
    for _ in range(100):
        layer.merge()
        layer.unmerge()
    assert torch.equal(layer.weight, pristine)


def test_train_and_eval_mode_neither_merge_nor_unmerge():
    layer = make_layer()
    layer.eval()
    assert not layer.merged
    layer.merge()
    layer.train()
    assert layer.merged


def test_adapter_dropout_touches_the_adapter_only():
    layer, x = make_layer(dropout=nn.Dropout(1.0)).train(), torch.randn(5, 48)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("rank", [0, 33])
def test_a_rank_that_does_not_fit_is_an_error(rank):
    with pytest.raises(ValueError, match="rank"):
        LoRALinear(nn.Linear(48, 32), rank=rank, alpha=1)


def test_outputs_and_gradients_equal_the_recorded_ones_of_peft():
    recorded = json.loads((Path(__file__).parents[1] / "fixtures" / "lora.json").read_text())
    number = {name: torch.tensor(values) for name, values in recorded.items() if name != "how"}
    linear = nn.Linear(5, 4)
    linear.load_state_dict({"weight": number["weight"], "bias": number["bias"]})
    layer = LoRALinear(linear, rank=2, alpha=6)
    with torch.no_grad():
        layer.lora_A.copy_(number["A"])
        layer.lora_B.copy_(number["B"])
    y = layer(number["x"])
    y.square().mean().backward()
    assert (y - number["y"]).abs().max() < 1e-6
    assert (layer.lora_A.grad - number["A.grad"]).abs().max() < 1e-6
    assert (layer.lora_B.grad - number["B.grad"]).abs().max() < 1e-6


def test_outputs_and_gradients_equal_peft():
    peft = pytest.importorskip("peft")
    layer, x = make_layer(), torch.randn(5, 48)
    reference = nn.Sequential(nn.Linear(48, 32))
    reference[0].load_state_dict({"weight": layer.weight, "bias": layer.bias})
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["0"])
    reference = peft.get_peft_model(reference, config)
    adapter = reference.base_model.model[0]
    with torch.no_grad():
        adapter.lora_A["default"].weight.copy_(layer.lora_A)
        adapter.lora_B["default"].weight.copy_(layer.lora_B)
    ours, theirs = layer(x), reference(x)
    assert (ours - theirs).abs().max() < 1e-6
    ours.square().mean().backward()
    theirs.square().mean().backward()
    assert (layer.lora_A.grad - adapter.lora_A["default"].weight.grad).abs().max() < 1e-6
    assert (layer.lora_B.grad - adapter.lora_B["default"].weight.grad).abs().max() < 1e-6
