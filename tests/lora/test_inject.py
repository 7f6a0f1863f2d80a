import pytest
import torch
from torch import nn

from lora.inject import PatternError, inject, lora_layers, matches, merge, to_plain, unmerge
from model.heads import SpanHead, TaskModel
from tests.conftest import small_encoder


def randomise(model: nn.Module) -> None:
    for _, layer in lora_layers(model):
        nn.init.normal_(layer.lora_B, std=0.2)


@pytest.mark.parametrize(
    "pattern,fits",
    [
        ("query", True),
        ("attention.query", True),
        ("layers.3.*", True),
        ("layers.*.query", True),
        ("*query", True),
        ("quer", False),
        ("3", False),
        ("layers.4.*", False),
    ],
)
def test_a_pattern_fits_the_whole_name_or_its_last_parts(pattern, fits):
    assert matches("layers.3.attention.query", pattern) is fits


def test_exactly_the_targets_are_wrapped():
    encoder = small_encoder()
    names = inject(encoder, ["query", "value"], rank=4, alpha=8)
    assert names == [f"layers.{i}.attention.{which}" for i in range(2) for which in ("query", "value")]
    assert [name for name, _ in lora_layers(encoder)] == names


def test_only_adapters_can_train_afterwards():
    encoder = small_encoder()
    inject(encoder, ["query", "up"], rank=4, alpha=8)
    trainable = {name.rpartition(".")[2] for name, p in encoder.named_parameters() if p.requires_grad}
    assert trainable == {"lora_A", "lora_B"}


def test_the_head_is_not_wrapped_when_the_encoder_is_given():
    model = TaskModel(small_encoder(), {"main": SpanHead(64)})
    inject(model.encoder, ["*"], rank=2, alpha=4)
    assert type(model.head["main"].output) is nn.Linear
    assert len(list(lora_layers(model))) == 2 * 6


def test_a_rank_by_pattern_overrides_the_rank_for_all():
    encoder = small_encoder()
    inject(encoder, ["query", "value"], rank=4, alpha=8, ranks={"layers.1.*": 2, "layers.1.attention.value": 3})
    assert [layer.rank for _, layer in lora_layers(encoder)] == [4, 4, 2, 3]


@pytest.mark.parametrize(
    "targets,ranks,message",
    [
        (["qurey"], {}, r"lora.targets: 'qurey' matches no linear layer; near: query"),
        (["query", "dense"], {}, r"lora.targets: 'dense' matches no linear layer"),
        (["query"], {"value": 2}, r"lora.ranks: 'value' matches no linear layer"),
        (["query"], {"query": 65}, r"lora.rank: 65 for layers.0.attention.query; its weight allows 1 to 64"),
        (["norm"], {}, r"'norm' matches no linear layer"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_and_nothing_is_touched(targets, ranks, message):
    encoder = small_encoder()
    with pytest.raises(PatternError, match=message):
        inject(encoder, targets, rank=4, alpha=8, ranks=ranks)
    assert not list(lora_layers(encoder)) and all(p.requires_grad for p in encoder.parameters())


def test_injecting_twice_is_an_error():
    encoder = small_encoder()
    inject(encoder, ["query"], rank=4, alpha=8)
    with pytest.raises(ValueError, match="already"):
        inject(encoder, ["value"], rank=4, alpha=8)


def test_a_merged_and_a_plain_encoder_compute_the_same():
    encoder = small_encoder().eval()
    inject(encoder, ["*"], rank=4, alpha=8)
    randomise(encoder)
    tokens = torch.randint(0, 30000, (2, 20))
    with torch.no_grad():
        before = encoder(tokens)
        merge(encoder)
        assert (encoder(tokens) - before).abs().max() < 1e-5
        unmerge(encoder)
        assert torch.equal(encoder(tokens), before)
        to_plain(encoder)
        assert not list(lora_layers(encoder))
        assert (encoder(tokens) - before).abs().max() < 1e-5


def test_zero_b_gives_the_base_model_exactly():
    encoder = small_encoder().eval()
    tokens = torch.randint(0, 30000, (2, 20))
    with torch.no_grad():
        before = encoder(tokens)
        inject(encoder, ["*"], rank=4, alpha=8)
        assert torch.equal(encoder(tokens), before)
