"""lora/adapter.py: PEFT's file format, both ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from data.files import InputError
from lora.adapter import CONFIG, WEIGHTS, load_adapter, save_adapter
from lora.inject import inject, lora_layers, merge
from model.families import hugging_face_name
from tests.conftest import small_encoder, write_checkpoint
from tests.lora.test_inject import randomise


def names(module_path: str) -> str:
    return hugging_face_name(module_path, "bert")


def adapted(seed: int = 0, **options):
    encoder = small_encoder(vocab_size=500).eval()
    torch.manual_seed(seed)
    inject(encoder, ["query", "up"], **{"rank": 4, "alpha": 8, "ranks": {"layers.1.mlp.up": 2}, **options})
    randomise(encoder)
    return encoder


def test_what_is_saved_is_what_is_loaded(tmp_path):
    ours, other = adapted(seed=0), adapted(seed=1)
    save_adapter(ours, tmp_path, names, "base")
    load_adapter(other, tmp_path, names)
    tokens = torch.randint(0, 500, (2, 20))
    assert torch.equal(ours(tokens), other(tokens))


def test_scaling_is_recorded(tmp_path):
    save_adapter(adapted(rslora=True), tmp_path, names, "base")
    config = json.loads((tmp_path / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 8, True)
    assert config["rank_pattern"] == {"encoder.layer.1.intermediate.dense": 2}


def test_saving_while_merged_is_an_error(tmp_path):
    encoder = adapted()
    merge(encoder)
    with pytest.raises(InputError, match="merged"):
        save_adapter(encoder, tmp_path, names, "base")


def _break(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: t.pop("base_model.model.encoder.layer.0.intermediate.dense.lora_A.weight"), "1 missing .*lora_A"),
        (lambda t: t.update(extra=torch.zeros(1)), "1 unexpected .*extra"),
        (
            lambda t: t.update(
                {"base_model.model.encoder.layer.0.intermediate.dense.lora_A.weight": torch.zeros(3, 64)}
            ),
            r"layer.0.intermediate.dense.lora_A.weight is \(3, 64\), the model has \(4, 64\)",
        ),
    ],
)
def test_loading_is_strict_about_keys_and_ranks(tmp_path, change, message):
    encoder = adapted()
    save_adapter(encoder, tmp_path, names, "base")
    _break(tmp_path, change)
    before = {name: layer.lora_A.detach().clone() for name, layer in lora_layers(encoder)}
    with pytest.raises(InputError, match=message):
        load_adapter(encoder, tmp_path, names)
    assert all(torch.equal(before[name], layer.lora_A) for name, layer in lora_layers(encoder))


def test_loading_with_another_scaling_is_an_error(tmp_path):
    save_adapter(adapted(), tmp_path, names, "base")
    with pytest.raises(InputError, match=r"lora_alpha is 8, the model has 16"):
        load_adapter(adapted(alpha=16), tmp_path, names)


def test_a_pickle_posing_as_safetensors_is_refused(tmp_path):
    encoder = adapted()
    save_adapter(encoder, tmp_path, names, "base")
    torch.save({"a": torch.zeros(1)}, tmp_path / WEIGHTS)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_adapter(encoder, tmp_path, names)


@pytest.mark.filterwarnings("ignore")
def test_peft_loads_what_we_save_and_we_load_what_peft_saves(tmp_path, checkpoint):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    ours = adapted()
    base = write_checkpoint(tmp_path / "base", small_encoder(vocab_size=500), checkpoint)
    (tmp_path / "ours").mkdir()
    save_adapter(ours, tmp_path / "ours", names, str(base))
    reference = transformers.BertModel.from_pretrained(base, add_pooling_layer=False)
    theirs = peft.PeftModel.from_pretrained(reference, tmp_path / "ours", is_trainable=True).eval()
    tokens = torch.randint(0, 500, (2, 20))
    a, b = ours(tokens), theirs(tokens).last_hidden_state
    assert (a - b).abs().max() < 1e-5
    a.square().mean().backward()
    b.square().mean().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    for name, layer in lora_layers(ours):
        for which in ("lora_A", "lora_B"):
            theirs_gradient = gradients[f"base_model.model.{names(name)}.{which}.default.weight"]
            assert (getattr(layer, which).grad - theirs_gradient).abs().max() < 1e-6

    theirs.save_pretrained(tmp_path / "theirs")
    other = adapted(seed=5)
    load_adapter(other, tmp_path / "theirs", names)
    assert torch.equal(other(tokens), a)


def test_a_parameter_without_a_place_in_the_file_format_is_not_dropped_in_silence(tmp_path):
    """Trap 43: it cannot be saved, and says so, until LoRALinear.PEFT_KEYS has a key for it."""
    model = adapted()
    for _, layer in lora_layers(model):
        layer.magnitude = torch.nn.Parameter(torch.ones(layer.out_features))
    with pytest.raises(KeyError, match="magnitude"):
        save_adapter(model, tmp_path, names, "base")


def test_a_file_that_knows_nothing_of_a_variant_is_one_without_it(tmp_path):
    """A run that was trained before the variant existed. Fails where a missing flag is unequal to an unset one."""
    ours = adapted()
    save_adapter(ours, tmp_path, names, "base")
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["use_rslora"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    load_adapter(ours, tmp_path, names)
    with pytest.raises(InputError, match="use_rslora is False, the model has True"):
        load_adapter(adapted(rslora=True), tmp_path, names)
