"""data/statistics.py, by hand and beside scipy (extra `peers`)."""

import numpy as np
import pytest

from data.statistics import bootstrap_mean, paired_bootstrap, t_tail, welch, wilson


def test_wilson_is_the_docstrings_example_and_stays_inside_of_zero_and_one():
    assert wilson(0.9, 100) == pytest.approx((0.82563, 0.94477), abs=1e-5)
    assert wilson(1.0, 10)[1] == pytest.approx(1.0) and wilson(0.0, 10)[0] == pytest.approx(0.0)


def test_the_bootstrap_interval_of_a_share_is_about_two_standard_errors():
    scores = np.array([1.0] * 300 + [0.0] * 700)
    low, high = bootstrap_mean(scores)
    assert low == pytest.approx(0.3 - 1.96 * np.sqrt(0.21 / 1000), abs=0.004)
    assert high == pytest.approx(0.3 + 1.96 * np.sqrt(0.21 / 1000), abs=0.004)
    assert bootstrap_mean(scores) == (low, high)


def test_pairing_finds_a_small_steady_difference_and_no_difference_where_there_is_none():
    random = np.random.default_rng(0)
    base = (random.random(1000) < 0.7).astype(float)
    better = np.maximum(base, random.random(1000) < 0.05)
    assert paired_bootstrap(better, base) <= 0.002
    assert paired_bootstrap(base, base) == 1.0
    assert paired_bootstrap(base, random.permutation(base)) > 0.9


def test_no_p_is_smaller_than_the_examples_that_differ_allow():
    """Heads three times in a row is no proof of a false coin, however often one resamples."""
    a, b = np.array([1.0, 1.0, 1.0, 0.0]), np.array([0.0, 0.0, 0.0, 0.0])
    assert paired_bootstrap(a, b) >= 0.25 and paired_bootstrap(a[:1], b[:1]) == 1.0 and paired_bootstrap(a, a) == 1.0


def test_welch_of_samples_that_do_not_vary():
    assert welch([1, 1], [1, 1]) == 1.0 and welch([1, 1], [2, 2]) == 0.0


def test_the_t_distribution_and_welchs_test_equal_scipys():
    stats = pytest.importorskip("scipy.stats")
    for t in (0, 0.5, 2, 4.3, 12):
        for freedom in (1.0, 1.3, 2, 4.4, 30, 200):
            assert t_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), abs=2e-6)
    random = np.random.default_rng(0)
    for _ in range(20):
        a, b = random.normal(size=random.integers(2, 6)), random.normal(size=random.integers(2, 6)) + 0.5
        assert welch(a.tolist(), b.tolist()) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, abs=1e-5)


def test_known_values_of_the_t_distribution():
    """From a printed table: the one-sided 2.5 % points for 1, 4 and 30 degrees of freedom."""
    for freedom, t in ((1, 12.706), (4, 2.776), (30, 2.042)):
        assert t_tail(t, freedom) == pytest.approx(0.025, abs=2e-5)
