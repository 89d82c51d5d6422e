"""Stages and their prices, against sums over every single token."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.stages import estimate_detour, expect, index, promise, stages

forecast = st.tuples(st.floats(0, 1e7), st.floats(0, 3), st.floats(0, 1))
caps = st.one_of(st.just(np.inf), st.integers(1, 100_000))


def of(rows):
    threshold, spread, solvable = np.array(rows).T
    return Forecasts(threshold, spread=spread, solvable=solvable)


def chances(median, spread, solvable, cap, detour=1.0):
    """Token by token: the chance to end correctly at token 1, 2, …, and to use token 1, 2, … at all."""
    z = (np.log(np.arange(cap + 1) + 0.5) - np.log(median)) / spread
    right, wrong = norm.cdf(z), norm.cdf(z - np.log(detour) / spread)
    right[0] = wrong[0] = 0
    running = solvable * (1 - right) + (1 - solvable) * (1 - wrong)
    return solvable * np.diff(right), running[:-1]


@pytest.mark.parametrize("detour", [1.0, 1.6])
@pytest.mark.parametrize(
    ("median", "spread", "solvable"), [(60, 0.5, 0.7), (200, 0.2, 0.3), (30, 1.0, 0.9), (12, 0.1, 0.5)]
)
def test_prices_are_the_best_ratios_over_all_horizons(median, spread, solvable, detour):
    cap = 600
    gain, cost = (np.concatenate([[0], np.cumsum(part)]) for part in chances(median, spread, solvable, cap, detour))
    ends, prices = stages(of([(median, spread, solvable)]), cap=cap, detour=detour, points=200)
    lowest = np.inf
    for start, price in zip([0, *ends[0, :-1]], prices[0], strict=True):
        if start == cap or 1 - norm.cdf(np.log(start + 0.5), np.log(median), spread) < 1e-6:
            break
        # The index over every horizon, and the lowest on the way, from one point of the grid to the next.
        lowest = min(lowest, ((gain[start + 1 :] - gain[start]) / (cost[start + 1 :] - cost[start])).max())
        assert price == pytest.approx(lowest, rel=0.05)


def test_a_known_length_is_one_stage():
    ends, prices = stages(Forecasts([100.0], spread=[0.0], solvable=[0.5]), cap=400)
    first = prices[0] > prices[0, 0] / 2
    assert prices[0, 0] == pytest.approx(0.5 / 100, rel=0.01)
    assert ends[0, 0] == 99 and 100 < ends[0, first][-1] < 400


def test_the_chance_to_be_solvable_scales_the_price_and_nothing_else():
    sure, unsure = (stages(Forecasts([80.0], spread=[0.6], solvable=[p]), cap=500) for p in (1.0, 0.25))
    assert (sure.ends == unsure.ends).all()
    assert unsure.prices == pytest.approx(sure.prices / 4)


def test_longer_wrong_solutions_make_a_late_query_a_hopeless_one():
    given_up = [
        stages(Forecasts([80.0], spread=[0.3], solvable=[0.5]), cap=500, detour=d).prices[0, -1] for d in (1, 2)
    ]
    assert given_up[1] < given_up[0] / 100


def test_the_detour_is_the_ratio_of_medians_given_the_forecast():
    lengths, right = np.array([10, 20, 40, 15, 30, 60]), np.array([True] * 3 + [False] * 3)
    assert estimate_detour(np.log([10, 20, 40, 10, 20, 40]), lengths, right) == pytest.approx(1.5)
    assert estimate_detour(np.zeros(6), lengths, right) == pytest.approx(1.5)
    assert estimate_detour(np.zeros(6), lengths, np.ones(6, dtype=bool)) == 1


@given(st.lists(forecast, min_size=1, max_size=5), caps, st.floats(0.3, 5))
def test_stages_go_on_and_prices_fall(rows, cap, detour):
    with np.errstate(all="raise", under="ignore"):
        ends, prices = stages(of(rows), cap, detour, points=12)
    assert (ends[:, 0] >= 1).all() and (np.diff(ends, axis=1) >= 0).all()
    if np.isfinite(cap):
        assert (ends <= cap).all() and (ends[:, -1] == cap).all() | (np.array(rows)[:, 0] > cap).any()
    assert np.isfinite(prices).all() and (prices >= 0).all()
    assert (np.diff(prices, axis=1) <= 0).all()
    assert (prices.max(axis=1) <= np.array(rows)[:, 2] + 1e-12).all()  # a token brings at most one answer


@given(st.lists(forecast, min_size=2, max_size=6), st.randoms())
def test_queries_do_not_depend_on_each_other(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    whole, turned = stages(of(rows), cap=900), stages(of([rows[i] for i in order]), cap=900)
    assert (whole.ends[order] == turned.ends).all() and (whole.prices[order] == turned.prices).all()


def test_the_expected_bill_is_that_of_simulated_solutions():
    rng = np.random.default_rng(0)
    promised = promise(Forecasts([90.0], spread=[0.5], solvable=[0.6]), cap=400, detour=1.5, points=60)
    right = rng.random(200_000) < 0.6
    lengths = np.ceil(90 * np.exp(0.5 * rng.standard_normal(right.size)) * np.where(right, 1, 1.5) - 0.5).clip(1)
    for token, chance, bill in zip(*(part[0] for part in promised), strict=True):
        used = np.minimum(lengths, 400) - np.minimum(lengths, token)
        assert bill == pytest.approx(used.mean(), rel=0.02, abs=0.1)
        assert chance - promised.right[0, -1] == pytest.approx(
            (right & (lengths > token) & (lengths <= 400)).mean(), abs=0.004
        )
    assert index(promised).shape == (1, 60)


@given(st.lists(forecast, min_size=1, max_size=5), st.floats(1e-5, 0.5))
def test_serving_down_to_a_price_attains_the_bound_of_duality(rows, price):
    right, bill, bound = expect(of(rows), price, cap=900)
    assert right == pytest.approx(bound, rel=1e-9, abs=1e-9)
    more = expect(of(rows), price / 2, cap=900)
    assert more.right >= right - 1e-9 and more.bill >= bill - 1e-9
