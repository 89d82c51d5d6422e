"""Queries that arrive over time: no look ahead, the budget holds, and the price follows the use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib import Forecasts
from clear_lib.allocation.problem import Problem
from clear_lib.serving import ReplayStepper, fair_share, serve, serve_online


def batch(n, seed, part=0.5):
    rng = np.random.default_rng(seed)
    log_median, spread = rng.normal(4, 0.8, n), rng.uniform(0.1, 0.8, n)
    lengths = np.exp(log_median + spread * rng.standard_normal(n)).clip(1, 500).astype(int)
    return Forecasts(np.exp(log_median), spread=spread, solvable=rng.random(n)), lengths, int(part * lengths.sum())


batches = st.builds(batch, st.integers(1, 40), st.integers(0, 10_000), st.floats(0, 1.5))


@given(given_batch=batches, price=st.floats(1e-6, 1), rate=st.floats(0, 1))
def test_the_budget_holds_and_the_price_stays_a_price(given_batch, price, rate):
    forecasts, lengths, budget = given_batch
    served = serve_online(Problem(forecasts, budget, 500), ReplayStepper(lengths), price=price, rate=rate)
    assert served.used.sum() <= budget
    assert (served.used == np.minimum(served.granted, lengths)).all()
    assert (served.price > 0).all() and np.isfinite(served.price).all()
    assert served.price[0] == price


@given(given_batch=batches, seed=st.integers(0, 99))
def test_what_comes_later_changes_nothing_before(given_batch, seed):
    forecasts, lengths, budget = given_batch
    half, order = forecasts.n // 2, np.arange(forecasts.n)
    order[half:] = np.random.default_rng(seed).permutation(order[half:])
    one, other = (
        serve_online(Problem(forecasts.part(rows), budget, 500), ReplayStepper(lengths[rows]), price=0.005)
        for rows in (np.arange(forecasts.n), order)
    )
    assert (one.used[:half] == other.used[:half]).all() and (one.price[: half + 1] == other.price[: half + 1]).all()


def test_a_price_that_stays_serves_what_is_worth_it():
    forecasts, lengths, budget = batch(300, 3)
    known = serve(Problem(forecasts, budget, 500), ReplayStepper(lengths), "clear-sequential", accounting="refunds")
    served = serve_online(Problem(forecasts, 10**9, 500), ReplayStepper(lengths), price=known.price, rate=0)
    assert (served.used == known.used).mean() > 0.99  # the last stage of the batch may be begun, not ended
    assert (served.price == known.price).all()


@pytest.mark.parametrize("wrong", [0.1, 10])
def test_a_wrong_price_finds_its_way(wrong):
    forecasts, lengths, budget = batch(3000, 4)
    known = serve(
        Problem(forecasts, budget, 500), ReplayStepper(lengths), "clear-sequential", accounting="refunds"
    ).price
    served = serve_online(Problem(forecasts, budget, 500), ReplayStepper(lengths), price=wrong * known)
    assert np.median(served.price[1000:2000]) == pytest.approx(known, rel=0.25)
    assert served.used.sum() > 0.95 * budget


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"price": 0}, "price must be a number above 0, got 0"),
        ({"price": float("nan")}, "price must be a number above 0, got nan"),
        ({"price": 0.1, "rate": -1}, "rate must be a number of at least 0, got -1"),
    ],
)
def test_bad_choices(choice, message):
    forecasts, lengths, budget = batch(3, 0)
    with pytest.raises(ValueError, match=message):
        serve_online(Problem(forecasts, budget), ReplayStepper(lengths), **choice)
    with pytest.raises(ValueError, match="needs the spread of the queries"):
        serve_online(Problem(Forecasts([5.0]), 10), ReplayStepper([3]), price=0.1)


def test_a_fair_share_is_what_is_left_over_who_is_left():
    served = fair_share(30, ReplayStepper([4, 20, 9]))
    assert served.granted.tolist() == [10, 13, 13] and served.used.tolist() == [4, 13, 9]
    assert fair_share(2, ReplayStepper([4, 20, 9])).used.tolist() == [0, 1, 1]
