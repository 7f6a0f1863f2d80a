import torch
import torch.nn.functional as F

from model.heads import SpanHead


def make_batch():
    """2 rows of 6 positions; the candidates are [CLS] and positions 2-4 (row 0) or 3-4 (row 1)."""
    candidates = torch.tensor([[1, 0, 1, 1, 1, 0], [1, 0, 0, 1, 1, 0]]).bool()
    return {"candidates": candidates, "span": torch.tensor([[2, 4], [0, 0]])}


def test_positions_outside_the_context_have_no_probability():
    head, batch = SpanHead(16), make_batch()
    logits = head(torch.randn(2, 6, 16), batch)
    assert logits.shape == (2, 2, 6)
    outside = ~batch["candidates"][:, None, :].expand(2, 2, 6)
    assert (logits.softmax(-1)[outside] == 0).all()


def test_loss_is_the_cross_entropy_over_the_candidates_averaged_over_start_and_end():
    head, batch = SpanHead(16), make_batch()
    logits = head(torch.randn(2, 6, 16), batch)
    loss = head.loss(logits, batch)
    for row in range(2):
        inside = batch["candidates"][row].nonzero().squeeze(1)
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
        inside = batch["candidates"][row].nonzero().squeeze(1)
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
