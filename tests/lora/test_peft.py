"""lora/peft.py: folders as PEFT writes them, made by hand. tests/test_parity.py compares with PEFT itself."""

import contextlib
import json
import os
import time
from pathlib import Path

import pytest
import torch

from data.files import InputError
from lora.adapter import CONFIG, WEIGHTS
from lora.inject import lora_layers
from model.pretrained import load_encoder
from tests.conftest import small_encoder
from tests.peft_folders import (
    BEFORE,
    adapters_of,
    begin,
    change_settings,
    change_tensors,
    key_of,
    random,
    read,
    write_peft,
)
from tests.vocabularies import SHAPES

QUERY = "layers.0.attention.query"
NAME = "encoder.layer.0.attention.self.query"  # its published name
A, B = key_of(QUERY, "lora_A.weight"), key_of(QUERY, "lora_B.weight")
WIDTH = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 50}


def encoder_of(family: str = "bert", **shape):
    return small_encoder(**WIDTH | SHAPES[family] | shape).eval()


@pytest.fixture
def encoder():
    return encoder_of()


@pytest.fixture
def folder(tmp_path, encoder) -> Path:
    """Adapters of rank 4 on query and value, alpha 6."""
    return write_peft(tmp_path / "adapter", adapters_of(encoder, ("query", "value")))


def refused(folder: Path, encoder, message: str) -> None:
    with pytest.raises(InputError, match=message) as told:
        read(folder, encoder, "bert")
    assert str(told.value).startswith(str(folder)) and str(told.value).isprintable()


def weight_after(folder: Path, encoder, path: str) -> torch.Tensor:
    """What an adapter makes of a layer's weight."""
    begin(encoder, read(folder, encoder, "bert"), keep=False)
    return encoder.get_submodule(path).weight


# ---- right values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("keep", [True, False])
def test_a_layer_computes_its_weight_plus_alpha_over_rank_times_b_a(tmp_path, family, keep):
    encoder = encoder_of(family)
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    tensors = adapters_of(encoder, ("query", "down"), family=family)
    found = read(write_peft(tmp_path, tensors), encoder, family)
    assert len(found.adapter.layers) == 4 and found.weights == found.head == {}
    begin(encoder, found, keep)
    assert bool(list(lora_layers(encoder))) is keep
    tokens = torch.randint(0, 50, (2, 20))
    ours = encoder(tokens)
    plain = encoder_of(family)
    for path in found.adapter.layers:
        a, b = tensors[key_of(path, "lora_A.weight", family)], tensors[key_of(path, "lora_B.weight", family)]
        plain.get_submodule(path).weight.data = before[f"{path}.weight"] + 6 / 4 * b @ a
    assert (plain(tokens) - ours).abs().max() < 1e-5


def test_electras_projection_may_be_adapted(tmp_path):
    encoder = encoder_of("electra")
    tensors = adapters_of(encoder, ("project",), family="electra")
    assert list(read(write_peft(tmp_path, tensors), encoder, "electra").adapter.layers) == ["embeddings.project"]


def test_each_layer_has_a_rank_of_its_own_and_the_alpha_of_the_first_pattern_that_fits(tmp_path, encoder):
    tensors = adapters_of(encoder, ("query",), rank=4) | adapters_of(encoder, ("up",), rank=2)
    patterns = {"layer.1.attention.self.query": 3, "query": 40, "intermediate.dense": 5}
    layers = read(write_peft(tmp_path, tensors, alpha_pattern=patterns), encoder, "bert").adapter.layers
    assert {path: (len(own.A), own.alpha) for path, own in layers.items()} == {
        QUERY: (4, 40.0),
        "layers.1.attention.query": (4, 3.0),
        "layers.0.mlp.up": (2, 5.0),
        "layers.1.mlp.up": (2, 5.0),
    }


@pytest.mark.parametrize(
    "pattern,alpha",
    [
        ("^bert.encoder.layer.0.attention.self.query", 9.0),
        ("bert.encoder.layer.0.attention.self.query", 9.0),
        ("encoder.layer.0.attention.self.query", 9.0),
        (".*.0.*query", 9.0),
        ("value|self.query", 9.0),
        ("uery", 6.0),  # no whole part of the name
        ("quer", 6.0),  # not its end
        ("attention.self", 6.0),
        ("", 6.0),
    ],
)
def test_an_alpha_pattern_fits_as_in_peft(folder, encoder, pattern, alpha):
    change_settings(folder, alpha_pattern={pattern: 9})
    assert read(folder, encoder, "bert").adapter.layers[QUERY].alpha == alpha


def test_rank_stabilised_scaling_and_doras_lengths_are_read(folder, encoder):
    change_settings(folder, use_rslora=True, use_dora=True)
    lengths = {key_of(path, "lora_magnitude_vector.weight"): random(32, seed=9).abs() for path in layers_of(folder)}
    change_tensors(folder, lambda t: t.update(lengths))
    plain, tensors = encoder.get_submodule(QUERY).weight.detach().clone(), adapters_of(encoder, ("query",))
    direction = plain + 6 / 4**0.5 * tensors[B] @ tensors[A]
    expected = random(32, seed=9).abs()[:, None] * direction / direction.norm(dim=1, keepdim=True)
    assert torch.allclose(weight_after(folder, encoder, QUERY), expected, atol=1e-6)


def layers_of(folder: Path) -> list[str]:
    return [f"layers.{i}.attention.{which}" for i in (0, 1) for which in ("query", "value")]


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.replace("lora_A.weight", "lora_A.default.weight"),
        lambda key: key.replace("bert.", ""),  # an adapter of the encoder alone
        lambda key: key.removeprefix(BEFORE),
        lambda key: key.removesuffix(".weight"),
    ],
)
def test_the_ways_that_versions_of_peft_call_one_tensor_are_one(folder, encoder, rename):
    expected = read(folder, encoder, "bert").adapter.layers

    def renamed(tensors):
        for key in list(tensors):
            tensors[rename(key)] = tensors.pop(key)

    change_tensors(folder, renamed)
    found = read(folder, encoder, "bert").adapter.layers
    assert found.keys() == expected.keys()
    assert all(
        torch.equal(found[path].A, own.A) and torch.equal(found[path].B, own.B) for path, own in expected.items()
    )


def test_what_is_saved_whole_is_copied_and_a_head_is_set_apart(folder, encoder):
    whole = {
        key_of(QUERY, "base_layer.bias"): random(32, seed=1),  # bias: all
        key_of("layers.1.mlp.up", "bias"): random(48, seed=2),
        key_of("embeddings.norm", "weight"): random(32, seed=3),
        key_of("embeddings.word", "weight"): random(50, 32, seed=4),
    }
    head = {f"{BEFORE}classifier.weight": random(2, 32), f"{BEFORE}bert.pooler.dense.bias": random(32)}
    copies = {f"{BEFORE}classifier.original_module.weight": random(2, 32)}
    change_tensors(folder, lambda t: t.update(whole | head | copies))
    found = read(folder, encoder, "bert")
    assert found.head.keys() == {"classifier.weight", "pooler.dense.bias"}
    begin(encoder, found, keep=True)
    parameters = dict(encoder.named_parameters())
    names = [f"{QUERY}.bias", "layers.1.mlp.up.bias", "embeddings.norm.weight", "embeddings.word.weight"]
    assert all(torch.equal(parameters[name], value) for name, value in zip(names, whole.values(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_fp32(folder, encoder, dtype):
    change_tensors(folder, lambda t: t.update({key: tensor.to(dtype) for key, tensor in t.items()}))
    own = read(folder, encoder, "bert").adapter.layers[QUERY]
    assert own.A.dtype == own.B.dtype == torch.float32


def test_settings_that_change_nothing_may_say_anything(folder, encoder):
    change_settings(
        folder, r="?", target_modules=None, bias="all", eva_config={"rho": 2.0}, peft_version=[1], revision=7
    )
    assert len(read(folder, encoder, "bert").adapter.layers) == 4


def test_the_first_versions_of_peft_wrote_fewer_settings(folder, encoder):
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 8, "target_modules": ["query"]}))
    found = read(folder, encoder, "bert")
    assert found.adapter.layers[QUERY].alpha == 8.0 and found.dropout == 0.0


# ---- refused by name -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA is supported"),
        ({"peft_type": "PROMPT_TUNING"}, "peft_type is 'PROMPT_TUNING'; only LORA"),
        ({"peft_type": "ADALORA"}, "peft_type is 'ADALORA'; only LORA"),
        ({"peft_type": None}, "peft_type is None; only LORA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa': these adapters belong to base weights that it"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights is 'pissa_niter_16': .*path_initial_model"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights is 'loftq'"),
        ({"init_lora_weights": "corda"}, "init_lora_weights is 'corda'"),
        ({"init_lora_weights": "of next year"}, "init_lora_weights is 'of next year'"),
        ({"init_lora_weights": ["gaussian"]}, r"init_lora_weights is \['gaussian'\]"),
        ({"use_qalora": True}, "use_qalora is True; it is not supported"),
        ({"lora_bias": True}, "lora_bias is True; it is not supported"),
        ({"layer_replication": [[0, 2]]}, r"layer_replication is \[\[0, 2\]\]; it is not"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is "),
        ({"target_parameters": ["experts"]}, "target_parameters is "),
        ({"alora_invocation_tokens": [3]}, "alora_invocation_tokens is "),
        ({"megatron_config": {"a": 1}}, "megatron_config is "),
        ({"use_next_years_trick": "on"}, "use_next_years_trick is 'on'; it is not supported"),
        ({"\x1b[2Jtrick\n": 1}, r"\\x1b\[2Jtrick\\n is 1; it is not supported"),
        ({"trick": "\x1b[2J"}, r"trick is '\\x1b\[2J'"),
        ({"lora_alpha": "16"}, "lora_alpha is '16', expected a number"),
        ({"lora_alpha": None}, "lora_alpha is None, expected a number"),
        ({"lora_alpha": True}, "lora_alpha is True, expected a number"),
        ({"lora_alpha": -1}, "lora_alpha is -1, expected a number"),
        ({"lora_alpha": 10**400}, "lora_alpha is 1000.*, expected a number"),
        ({"lora_dropout": "0.1"}, "lora_dropout is '0.1', expected a number"),
        ({"lora_dropout": -0.1}, "lora_dropout is -0.1, expected a number"),
        ({"alpha_pattern": ["query"]}, r"alpha_pattern is \['query'\], expected an object"),
        ({"alpha_pattern": {"query": "x"}}, "alpha_pattern: 'x' is no number"),
        ({"alpha_pattern": {"query": None}}, "alpha_pattern: None is no number"),
        ({"alpha_pattern": {"query": True}}, "alpha_pattern: True is no number"),
        ({"alpha_pattern": {"query": -4}}, "alpha_pattern: -4 is no number"),
        ({"alpha_pattern": {"query": [1]}}, r"alpha_pattern: \[1\] is no number"),
        ({"alpha_pattern": {"(.*)*x": 1}}, r"alpha_pattern '\(\.\*\)\*x' is not supported; write layers out"),
        ({"alpha_pattern": {"[qv]": 1}}, "alpha_pattern .* is not supported"),
        ({"alpha_pattern": {"a{9999}": 1}}, "alpha_pattern .* is not supported"),
        ({"alpha_pattern": {".*.*.*.*x": 1}}, "alpha_pattern .* is not supported"),
        ({"alpha_pattern": {"q" * 201: 1}}, "alpha_pattern .* is not supported"),
        ({"alpha_pattern": {"(\x1b[2J": 1}}, r"alpha_pattern '\(\\x1b\[2J' is not supported"),
        ({"alpha_pattern": {"*": 1}}, r"alpha_pattern '\*' is no pattern"),
        ({"alpha_pattern": {"\\": 1}}, "alpha_pattern .* is no pattern"),
    ],
)
def test_a_method_or_setting_that_is_not_computed_is_refused_by_name(folder, encoder, settings, message):
    change_settings(folder, **settings)
    refused(folder, encoder, f"{CONFIG}: {message}")


@pytest.mark.parametrize(
    "key,value", [("use_rslora", "false"), ("use_dora", "no"), ("use_rslora", [0]), ("use_dora", 3)]
)
def test_a_flag_is_true_or_false(folder, encoder, key, value):
    change_settings(folder, **{key: value})
    refused(folder, encoder, f"{key} is ")


@pytest.mark.parametrize("value", [1.0, 5, 0.999, 1e6])
def test_a_dropout_that_drops_everything_is_refused(folder, encoder, value):
    change_settings(folder, lora_dropout=value)
    refused(folder, encoder, "lora_dropout is ")


def test_no_pattern_takes_long(folder, encoder):
    """A pattern that backtracks would take hours; one that is allowed takes a moment."""
    began = time.perf_counter()
    for pattern in (".*.*.*x", "a*a*a*x", "e?e?e?x", ".+.+.+\\1"):
        change_settings(folder, alpha_pattern={pattern: 9})
        assert read(folder, encoder, "bert").adapter.layers[QUERY].alpha == 6.0
    assert time.perf_counter() - began < 1


def test_no_number_of_patterns_takes_long(folder, encoder):
    change_settings(folder, alpha_pattern={f".*.*.*{number}x": 9 for number in range(2000)})
    began = time.perf_counter()
    with contextlib.suppress(InputError):
        read(folder, encoder, "bert")
    assert time.perf_counter() - began < 0.3


OTHER_LAYER = f"{BEFORE}bert.encoder.layer.2.attention.self.query"


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda t: t.pop(A), f"{NAME} has lora_B; needed: lora_A, lora_B"),
        (lambda t: t.pop(B), f"{NAME} has lora_A; needed: lora_A, lora_B"),
        (
            lambda t: t.update({A: torch.ones(4, 31)}),
            rf"{NAME}: A \(4, 31\) and B \(32, 4\) do not fit a layer of 32x32",
        ),
        (lambda t: t.update({A: torch.ones(3, 32)}), rf"{NAME}: A \(3, 32\) and B \(32, 4\) do not fit"),
        (lambda t: t.update({A: torch.ones(4, 32, 1)}), rf"{NAME}: A \(4, 32, 1\) and B \(32, 4\) do not fit"),
        (lambda t: t.update({B: torch.tensor(1.0)}), rf"{NAME}: A \(4, 32\) and B \(\) do not fit"),
        (lambda t: t.update({A: torch.ones(0, 32), B: torch.ones(32, 0)}), rf"{NAME}: A \(0, 32\) and B \(32, 0\)"),
        (lambda t: t[A].__setitem__((0, 0), torch.nan), r"query.lora_A.weight holds NaN or infinity"),
        (lambda t: t[B].__setitem__((0, 0), -torch.inf), r"query.lora_B.weight holds NaN or infinity"),
        (
            lambda t: t.update({A: t[A].long()}),
            r"query.lora_A.weight holds torch.int64, floating-point numbers are needed",
        ),
        (lambda t: t.update({A: t[A].bool()}), r"query.lora_A.weight holds torch.bool, floating-point"),
        (lambda t: t.update({A: t[A].to(torch.complex64)}), r"holds torch.complex64, floating-point"),
        (
            lambda t: t.update({f"{OTHER_LAYER}.lora_A.weight": t[A] + 1}),
            r"adapts encoder.layer.2.attention.self.query, which is no linear layer",
        ),
        (
            lambda t: t.update({f"{BEFORE}classifier.lora_A.weight": t[A] + 1}),
            r"adapts classifier, which is no linear layer",
        ),
        (
            lambda t: t.update({f"{BEFORE}bert.embeddings.word_embeddings.lora_embedding_A": torch.ones(4, 50)}),
            r"word_embeddings.lora_embedding_A is nothing that LoRA adds to a linear layer",
        ),
        (
            lambda t: t.update({f"{OTHER_LAYER.replace('2', '0')}.lora_C.weight": torch.ones(4)}),
            r"lora_C.weight is nothing that LoRA adds",
        ),
        (
            lambda t: t.update({key_of(QUERY, "lora_magnitude_vector"): torch.ones(32)}),
            r"has lora_A, lora_B, lora_magnitude; needed",
        ),
        (
            lambda t: t.update({key_of(QUERY, "bias"): torch.ones(3)}),
            rf"{QUERY}.bias is \(3,\), the encoder has \(32,\)",
        ),
        (
            lambda t: t.update({key_of("embeddings.word", "weight"): torch.ones(51, 32)}),
            r"embeddings.word.weight is \(51, 32\)",
        ),
        (
            lambda t: t.update({"\x1b[2J\n.lora_A.weight": torch.ones(2)}),
            r"\\x1b\[2J\\n.lora_A.weight is nothing that LoRA adds",
        ),
        (lambda t: t.update({"\x1b[2J": torch.tensor(torch.nan)}), r"\\x1b\[2J holds NaN"),
        (lambda t: t.clear(), r"holds no adapters for this bert encoder"),
        (lambda t: (t.clear(), t.update({f"{BEFORE}classifier.weight": torch.ones(2, 32)})), r"holds no adapters"),
    ],
)
def test_tensors_that_are_not_those_of_the_encoders_layers_are_refused_by_name(folder, encoder, change, message):
    change_tensors(folder, change)
    refused(folder, encoder, f"{WEIGHTS}: .*{message}")


def test_dora_without_its_lengths_is_refused(folder, encoder):
    change_settings(folder, use_dora=True)
    refused(folder, encoder, rf"{NAME} has lora_A, lora_B; needed: lora_A, lora_B, lora_magnitude")
    for shape in ((31,), (32, 1), ()):
        lengths = {key_of(path, "lora_magnitude_vector"): torch.ones(shape) for path in layers_of(folder)}
        change_tensors(folder, lambda t, lengths=lengths: t.update(lengths))
        refused(folder, encoder, rf"{NAME}: A .* do not fit a layer of 32x32")


@pytest.mark.parametrize("other", [f for f in SHAPES if f != "bert"])
def test_an_adapter_of_another_family_is_refused(tmp_path, encoder, other):
    write_peft(tmp_path, adapters_of(encoder_of(other), ("query",), family=other))
    refused(tmp_path, encoder, "which is no linear layer of this bert checkpoint")


def test_an_adapter_of_a_wider_encoder_is_refused(tmp_path, encoder):
    write_peft(tmp_path, adapters_of(encoder_of(hidden_size=48), ("query",)))
    refused(tmp_path, encoder, r"A \(4, 48\) and B \(48, 4\) do not fit a layer of 32x32")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({A: torch.tensor(1.0)}),  # TypeError: len() of a 0-d tensor
        lambda t: t.update({A: torch.tensor(1.0), B: torch.tensor(1.0)}),
        lambda t: t.update(  # ValueError: not enough values to unpack
            {key_of("embeddings.norm", f"lora_{which}.weight"): torch.ones(4, 32) for which in "AB"}
        ),
    ],
)
def test_what_fits_no_layer_at_all_is_refused(folder, encoder, change):
    change_tensors(folder, change)
    refused(folder, encoder, WEIGHTS)


def test_a_linear_adapter_of_an_embedding_is_refused(folder, encoder):
    word = {"A": torch.ones(4, 32), "B": torch.ones(50, 4)}
    change_tensors(folder, lambda t: t.update({key_of("embeddings.word", f"lora_{w}.weight"): word[w] for w in word}))
    refused(folder, encoder, "adapts embeddings.word_embeddings, which is no linear layer")


@pytest.mark.parametrize(
    "key",
    [
        key_of(QUERY, "lora_A.default.weight"),
        key_of(QUERY, "lora_A.weight", prefix=False),
        A.removeprefix(BEFORE),
    ],
)
def test_a_tensor_that_is_there_twice_is_refused(folder, encoder, key):
    change_tensors(folder, lambda t: t.update({key: torch.full((4, 32), 9.0)}))
    refused(folder, encoder, "twice")


@pytest.mark.parametrize(
    "key",
    [
        f"{OTHER_LAYER}.bias",  # a layer that is not there
        f"{BEFORE}bert.encoder.layer.0.attention.self.query.scale",
        f"{BEFORE}bert.embeddings.other.weight",
    ],
)
def test_a_tensor_of_the_encoders_that_it_does_not_have_is_refused(folder, encoder, key):
    change_tensors(folder, lambda t: t.update({key: torch.ones(32)}))
    refused(folder, encoder, "encoder")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_pickled_adapter_is_not_read(folder, encoder):
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    refused(folder, encoder, "pickled adapters are not read; PEFT's save_pretrained writes safetensors")
    (folder / "adapter_model.bin").rename(folder / WEIGHTS)
    torch.save({"a": torch.ones(1)}, folder / WEIGHTS)
    refused(folder, encoder, f"{WEIGHTS}: cannot be read as safetensors")


@pytest.mark.parametrize("content", ["", "{", "[]", '"LORA"', '{"peft_type": "LORA", "peft_type": "LORA"}', "{'a': 1}"])
def test_a_configuration_that_is_no_json_object_is_refused(folder, encoder, content):
    (folder / CONFIG).write_text(content)
    refused(folder, encoder, f"{CONFIG}: ")


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "device", "link to itself", "link to nowhere"])
def test_what_is_no_plain_file_is_refused(folder, encoder, name, kind):
    """A pipe would wait for its writer for ever, /dev/zero never ends."""
    path = folder / name
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.symlink_to({"device": "/dev/zero", "link to itself": name, "link to nowhere": "nowhere"}[kind])
    refused(folder, encoder, name)


def test_a_link_to_a_file_is_followed_as_the_hubs_cache_has_them(folder, encoder, tmp_path):
    for name in (WEIGHTS, CONFIG):
        (folder / name).rename(tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
    assert len(read(folder, encoder, "bert").adapter.layers) == 4


def test_both_files_count_for_the_fingerprint(folder, encoder):
    before = read(folder, encoder, "bert").sha256
    assert read(folder, encoder, "bert").sha256 == before
    change_settings(folder, lora_alpha=7)
    other = read(folder, encoder, "bert").sha256
    change_tensors(folder, lambda t: t[A].__setitem__((0, 0), 1.0))
    assert len({before, other, read(folder, encoder, "bert").sha256}) == 3


def test_reading_changes_nothing(folder, encoder):
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    modules = [type(module) for module in encoder.modules()]
    change_tensors(folder, lambda t: t.update({key_of(QUERY, "bias"): torch.ones(32)}))
    read(folder, encoder, "bert")
    assert modules == [type(module) for module in encoder.modules()]
    assert all(torch.equal(before[name], p) for name, p in encoder.named_parameters())


def test_the_default_checkpoint_takes_an_adapter(tmp_path):
    encoder, info = load_encoder("all-MiniLM-L6-v2")
    write_peft(tmp_path, adapters_of(encoder, ("query",)))
    assert len(read(tmp_path, encoder, info.family).adapter.layers) == 6
