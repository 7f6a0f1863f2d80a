"""model/heads.py: pooling, logits, losses."""

import pytest
import torch
import torch.nn.functional as F

from model.heads import Heads, SpanHead, candidates
from model.text_heads import TextHead, binary_cross_entropy, cross_entropy, masked_mean, squared_error


def make_batch():
    """2 rows of 6 positions; the candidates are [CLS] and positions 2-4 (row 0) or 3-4 (row 1)."""
    return {"types": torch.tensor([[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]]), "span": torch.tensor([[2, 4], [0, 0]])}


def test_candidates_are_cls_and_the_context_without_the_separator_that_closes_it():
    inside = torch.tensor([[1, 0, 1, 1, 1, 0], [1, 0, 0, 1, 1, 0]]).bool()
    assert torch.equal(candidates(make_batch()["types"]), inside)
    padded = torch.tensor([[0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0]])  # as in the docstring; an empty context
    assert candidates(padded).int().tolist() == [[1, 0, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0, 0]]


def test_positions_outside_the_context_have_no_probability():
    head, batch = SpanHead(16), make_batch()
    logits = head(torch.randn(2, 6, 16), batch)
    assert logits.shape == (2, 2, 6)
    outside = ~candidates(batch["types"])[:, None, :].expand(2, 2, 6)
    assert (logits.softmax(-1)[outside] == 0).all()


def test_loss_is_the_cross_entropy_over_the_candidates_averaged_over_start_and_end():
    head, batch = SpanHead(16), make_batch()
    logits = head(torch.randn(2, 6, 16), batch)
    loss = head.loss(logits, batch)
    for row in range(2):
        inside = candidates(batch["types"])[row].nonzero().squeeze(1)
        expected = 0.0
        for which in range(2):
            target = (inside == batch["span"][row, which]).nonzero().squeeze(1)
            expected += F.cross_entropy(logits[row, which, inside][None], target) / 2
        torch.testing.assert_close(loss[row], expected)


def test_label_smoothing_spreads_over_the_candidates_only():
    head, batch = SpanHead(16), make_batch()
    logits = head(torch.randn(2, 6, 16), batch)
    loss = head.loss(logits, batch, label_smoothing=0.1)
    for row in range(2):
        inside = candidates(batch["types"])[row].nonzero().squeeze(1)
        expected = 0.0
        for which in range(2):
            target = (inside == batch["span"][row, which]).nonzero().squeeze(1)
            expected += F.cross_entropy(logits[row, which, inside][None], target, label_smoothing=0.1) / 2
        torch.testing.assert_close(loss[row], expected)


def test_a_smoothed_loss_is_finite_and_its_gradient_too():
    head, batch = SpanHead(16), make_batch()
    hidden = torch.randn(2, 6, 16, requires_grad=True)
    head.loss(head(hidden, batch), batch, label_smoothing=0.1).sum().backward()
    assert hidden.grad.isfinite().all()
    assert (hidden.grad[0, 5] == 0).all()  # a padding position learns nothing


# ---- one vector per text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_losses_are_pytorchs_kept_per_example(smoothing):
    torch.manual_seed(0)
    logits, target = 30 * torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    expected = F.cross_entropy(logits, target, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, {"target": target}, smoothing), expected)
    many = (torch.rand(5, 4) < 0.5).float()
    smoothed = many * (1 - smoothing) + smoothing / 2
    expected = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(1)
    torch.testing.assert_close(binary_cross_entropy(logits, {"target": many}, smoothing), expected)
    number = torch.randn(5)
    expected = F.mse_loss(logits[:, 0], number, reduction="none")
    torch.testing.assert_close(squared_error(logits[:, :1], {"target": number}), expected)


def test_extreme_logits_keep_the_losses_finite():
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    loss = binary_cross_entropy(logits, {"target": torch.tensor([[0.0, 1.0]])})
    assert loss.item() == 1e4
    loss.sum().backward()
    assert logits.grad.tolist() == [[0.5, -0.5]]


def test_padding_has_no_part_in_the_mean():
    hidden = torch.randn(2, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]).bool()
    torch.testing.assert_close(masked_mean(hidden, mask), torch.stack([hidden[0, :3].mean(0), hidden[1].mean(0)]))
    torch.testing.assert_close(masked_mean(hidden[1:], None), hidden[1:].mean(1))


@pytest.mark.parametrize("pooling", ["cls", "cls_pooler"])
def test_cls_pooling_reads_the_first_token_only(pooling):
    head, hidden = TextHead(8, 3, cross_entropy, pooling), torch.randn(2, 5, 8)
    other = torch.cat([hidden[:, :1], torch.randn(2, 4, 8)], 1)
    assert (head(hidden, {"mask": None}) == head(other, {"mask": None})).all()


def test_a_batch_goes_to_the_head_that_it_names():
    heads = Heads({"a": TextHead(8, 2, cross_entropy), "b": TextHead(8, 5, cross_entropy)})
    hidden = torch.randn(3, 4, 8)
    for name, width in (("a", 2), ("b", 5)):
        assert heads(hidden, {"mask": None, "task": name}).shape == (3, width)
    assert {name.partition(".")[0] for name, _ in heads.named_parameters()} == {"a", "b"}


@pytest.mark.parametrize("head", [SpanHead(8), TextHead(8, 3, cross_entropy)], ids=["spans", "texts"])
def test_logits_are_not_rounded_to_16_bit(head):
    """In bf16 there are 8 bits: answers would tie, and a number around 5 come in steps of 0.03."""
    torch.manual_seed(0)
    hidden = torch.randn(2, 6, 8)
    batch = {"mask": None, "types": torch.ones(2, 6, dtype=torch.long)}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = head(hidden, batch)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, head(hidden, batch), rtol=1e-6, atol=1e-6)
