import numpy as np
import pytest

from data.batching import Part, TrainingOrder, cut_batches, epoch_batches, eval_batches, padded_width
from data.tokens import Tokens, collate

LENGTHS = np.random.default_rng(0).integers(20, 384, 1003)


def padded_size(batch: np.ndarray) -> int:
    return len(batch) * padded_width(LENGTHS[batch].max())


@pytest.mark.parametrize("batch_size", [None, 16])
def test_each_example_comes_exactly_once_an_epoch(batch_size):
    for epoch in range(3):
        batches = epoch_batches(Part(LENGTHS, 2800, batch_size), seed=0, epoch=epoch)
        assert sorted(np.concatenate(batches)) == list(range(1003))


def test_every_epoch_and_every_seed_has_another_order():
    orders = [np.concatenate(epoch_batches(Part(LENGTHS, 2800), s, e)).tolist() for s in (0, 1) for e in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == np.concatenate(epoch_batches(Part(LENGTHS, 2800), 0, 0)).tolist()


def test_neighbours_change_from_epoch_to_epoch():
    """Not only the order of the batches: their members are drawn anew (sorting the whole set once would fail this)."""
    first, second = ({frozenset(b) for b in epoch_batches(Part(LENGTHS, 0, 8), 0, e)} for e in (0, 1))
    assert len(first & second) <= 1


def test_no_batch_is_larger_than_its_token_budget():
    for batch in epoch_batches(Part(LENGTHS, 2800), seed=0, epoch=0):
        assert padded_size(batch) <= 2800


def test_an_example_longer_than_the_budget_is_a_batch_of_its_own():
    lengths = np.array([500, 20, 30])
    batches = epoch_batches(Part(lengths, 100), seed=0, epoch=0)
    assert sorted(np.concatenate(batches)) == [0, 1, 2]
    assert [0] in [batch.tolist() for batch in batches]


def test_grouping_by_length_leaves_little_padding():
    grouped = sum(padded_size(b) for b in epoch_batches(Part(LENGTHS, 2800), 0, 0))
    order = np.random.default_rng(0).permutation(1003)
    shuffled = sum(padded_size(b) for b in cut_batches(order, LENGTHS, None, 2800))
    assert 1 - LENGTHS.sum() / grouped < 0.06 < 0.35 < 1 - LENGTHS.sum() / shuffled


def test_evaluation_batches_cover_everything_once():
    assert sorted(np.concatenate(eval_batches(LENGTHS, 8192))) == list(range(1003))


def test_batches_are_padded_to_a_multiple_of_four_and_wide_ones_of_eight():
    assert [padded_width(n) for n in (1, 4, 5, 17, 63, 64, 65, 80, 81, 384)] == [4, 4, 8, 20, 64, 64, 72, 80, 88, 384]
    tokens = np.array([*range(1, 18), 5], dtype=np.int32)
    padded = collate(Tokens(tokens, np.array([0, 17, 18]), np.array([17, 1]), pad=0), np.array([0, 1]))["tokens"]
    assert padded.shape == (2, 20) and padded[1].tolist() == [5] + [0] * 19


# ---- the order of a whole run ----------------------------------------------------------------------------------------


def make_order(epochs: float, accumulate: int = 1) -> TrainingOrder:
    return TrainingOrder([Part(LENGTHS, 0, 10)], epochs, seed=0, accumulate=accumulate)


def test_an_epoch_is_a_hundred_and_one_steps_of_ten_examples():
    order = make_order(2.5)
    assert len(order) == 101 + 101 + 50  # round(50.5) is 50: banker's rounding, stated here because it decides a step
    assert sorted(np.concatenate([rows for i in range(101) for rows in order[i]])) == list(range(1003))


def test_a_phase_boundary_inside_an_epoch_neither_repeats_nor_drops_an_example():
    order = make_order(1)
    middle = order.position(0.4)
    seen = [rows for i in range(middle) for rows in order[i]] + [rows for i in range(middle, 101) for rows in order[i]]
    assert sorted(np.concatenate(seen)) == list(range(1003))


def test_accumulation_takes_consecutive_batches_and_a_short_last_step():
    order = make_order(2, accumulate=4)
    assert len(order) == 26 + 26
    assert [len(rows) for rows in order[0]] == [10] * 4
    assert len(order[25]) == 1 and sum(len(rows) for i in range(26) for rows in order[i]) == 1003
    plain = make_order(2)
    assert all(np.array_equal(order[3][k], plain[12 + k][0]) for k in range(4))


def test_positions_and_epochs_convert_both_ways():
    order = make_order(3)
    for epochs in (0, 0.5, 1, 1.25, 2.999, 3):
        assert order.epochs_at(order.position(epochs)) == pytest.approx(epochs, abs=0.01)
    assert order.position(3) == len(order) == 303


def test_tenths_of_an_epoch_do_not_add_a_step():
    order = make_order(0.1 * 3 + 2.7)
    assert len(order) == 303
    with pytest.raises(IndexError):
        order[303]


def test_steps_can_be_read_in_any_order():
    order, again = make_order(2), make_order(2)
    backwards = {i: order[i] for i in reversed(range(202))}
    assert all(np.array_equal(backwards[i][0], again[i][0]) for i in range(202))
