import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib.study.setup.streams import STREAMS, TIERS, draw, tier_counts

POOL = np.repeat(TIERS, 50)
MIX = (0.4, 0.3, 0.2, 0.1)


def test_names():
    assert list(STREAMS) == ["balanced", "mostly-easy", "mostly-hard", "u-shaped"]


def test_draw_has_the_shares_and_no_query_twice():
    positions = draw(POOL, MIX, 100, seed=3)
    assert positions.shape == (100,)
    assert np.unique(positions).size == 100
    assert [(POOL[positions] == tier).sum() for tier in TIERS] == [40, 30, 20, 10]


def test_draw_is_paired_by_seed():
    assert draw(POOL, MIX, 100, seed=3).tolist() == draw(list(POOL), MIX, 100, seed=3).tolist()
    assert draw(POOL, MIX, 100, seed=3).tolist() != draw(POOL, MIX, 100, seed=4).tolist()


def test_streams_of_one_seed_share_what_they_can():
    one, other = draw(POOL, MIX, 100, seed=3), draw(POOL, (0.1, 0.2, 0.3, 0.4), 100, seed=3)
    assert np.intersect1d(one, other).size == 10 + 20 + 20 + 10


def test_order_does_not_tell_the_tier():
    first = POOL[draw(POOL, MIX, 100, seed=3)[:50]]
    assert set(first) == set(TIERS)


@given(st.lists(st.integers(0, 20), min_size=4, max_size=4).filter(any), st.integers(1, 1000))
def test_counts_sum_to_n_and_are_within_one_query_of_the_share(parts, n):
    shares = np.array(parts) / sum(parts)
    counts = tier_counts(shares, n)
    assert counts.sum() == n
    assert (counts >= 0).all()
    assert (np.abs(counts - shares * n) <= 1 + 1e-9).all()


def test_pool_too_small_names_the_tier():
    with pytest.raises(ValueError, match="80 queries of tier 'hard', the pool has 50"):
        draw(POOL, (0.1, 0.05, 0.8, 0.05), 100, seed=0)


def test_unknown_tier_names_it():
    with pytest.raises(ValueError, match="unknown tier 'trivial' at position 1; known: easy, moderate"):
        draw(["easy", "trivial"], (1, 0, 0, 0), 1, seed=0)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5, 0.5), (1.5, -0.5, 0, 0), (np.nan, 0, 0, 1)])
def test_bad_shares(shares):
    with pytest.raises(ValueError, match="four shares"):
        draw(POOL, shares, 10, seed=0)


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_bad_length(n):
    with pytest.raises(ValueError, match="length of a stream"):
        draw(POOL, MIX, n, seed=0)
