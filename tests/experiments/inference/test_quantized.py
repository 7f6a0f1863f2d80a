"""--int8: a trained run's encoder with 8-bit weights."""

import json
import warnings

import pytest
import torch
from torch import nn

import eval as eval_py
from experiments.inference import InputError, load
from experiments.inference.quantized import Int8Linear, in_int8
from experiments.inference.trained import load_run
from lora.inject import lora_layers
from model.machine import Machine
from tests import passwords
from tests.conftest import small_encoder, write_checkpoint
from tests.tiny import run_main

QUESTION, CONTEXT = "What is the password of Ann?", "The password of Ann is blue. The password of Bob is red."


@pytest.fixture(scope="module")
def run(tmp_path_factory, checkpoint):
    """A small encoder with LoRA, trained for a few steps in bf16."""
    place = tmp_path_factory.mktemp("int8")
    (place / "train.json").write_text(json.dumps(passwords.squad(24, 0)))
    raw = {
        "model": {"pretrained": str(write_checkpoint(place / "small", small_encoder(), checkpoint))},
        "task": "span_qa",
        "amp": "bf16",
        "lora": {"rank": 4, "alpha": 8},
        "data": {
            "train": ["train.json"],
            "dev": ["train.json"],
            "max_length": 64,
            "doc_stride": 24,
            "max_query_length": 16,
        },
        "phases": [{"name": "a", "epochs": 1, "train": ["head", "lora"]}],
        "runtime": {"device": "cpu", "threads": 1},
    }
    (place / "tiny.json").write_text(json.dumps(raw))
    assert run_main(place / "tiny.json", place, "--data-root", str(place)) == 0
    return place / "runs" / "tiny"


def test_the_encoders_linear_layers_become_int8_and_the_head_does_not(run):
    trained = load_run(run, "cpu", int8=True)
    model = trained.model
    assert not any(lora_layers(model)) and not any(type(module) is nn.Linear for module in model.encoder.modules())
    assert type(model.head_of(trained.name).output) is nn.Linear


@torch.no_grad()
def test_logits_stay_near_those_of_fp32_adapters_included_though_the_run_was_in_bf16(run):
    """With adapters left out they would be far away; under autocast there would be none."""
    trained = load_run(run, "cpu")
    for _, layer in lora_layers(trained.model):
        torch.nn.init.normal_(layer.lora_B, std=0.2)
    batch = load(run, device="cpu").batch(QUESTION, CONTEXT) | {"task": trained.name}
    exact = trained.model(batch)
    machine = in_int8(trained.model, trained.machine)
    assert (trained.machine.dtype, machine.dtype) == (torch.bfloat16, None)
    with machine.autocast():
        found = trained.model(batch)
    allowed = exact > -1e8
    assert (found - exact)[allowed].norm() < 0.1 * exact[allowed].norm()


def test_it_takes_no_gpu(run):
    with pytest.raises(InputError, match="--int8: is for a CPU, and the device is meta; add --device cpu"):
        in_int8(load_run(run, "cpu").model, Machine(torch.device("meta"), None, ""))


def test_a_torch_without_int8_is_one_line(run, monkeypatch):
    monkeypatch.delattr(torch, "quantize_per_channel")
    with pytest.raises(InputError, match=r"int8: torch .* cannot do it here"):
        load(run, device="cpu", int8=True)


def test_torchs_warning_about_quantised_tensors_is_not_shown(run):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load(run, device="cpu", int8=True)
    assert not [each for each in seen if "quant" in str(each.message)]


@pytest.mark.parametrize("command", ["score", "ask"])
def test_both_commands_take_it(run, capsys, command):
    more = (
        ["--question", QUESTION, "--context", CONTEXT]
        if command == "ask"
        else ["--data", f"{run.parents[1]}/train.json"]
    )
    assert eval_py.main([command, str(run), *more, "--int8", "--device", "cpu", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["int8"] if command == "score" else answer[0]["answers"]


@pytest.mark.parametrize("narrow", [False, True])
def test_a_layer_is_that_of_fp32_to_the_bits_of_its_weights_and_inputs(monkeypatch, narrow):
    if narrow:
        monkeypatch.setenv("FBGEMM_ENABLE_INSTRUCTIONS", "AVX2")
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 32), torch.randn(5, 7, 64)
    with torch.no_grad():
        linear.weight[0] = 0.0
        layer = Int8Linear(linear)
        error = (layer(x) - linear(x)).norm() / linear(x).norm()
    assert 0 < error < (0.02 if layer.narrow else 0.01) and layer.narrow >= narrow
