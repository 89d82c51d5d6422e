import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib.market import abandonment_line, adaptive_decay, clear_market, demand
from clear_lib.utility import Surge

thresholds = st.lists(st.floats(1.0, 5000.0), min_size=1, max_size=30).map(np.array)
decays = st.floats(1e-4, 0.1)
caps = st.one_of(st.just(np.inf), st.integers(1, 6000))


def test_adaptive_decay():
    assert adaptive_decay(500.0, 300.0, 32.0) == 1 / 200
    assert adaptive_decay(310.0, 300.0, 32.0) == 1 / 32
    assert adaptive_decay(100.0, 300.0, 32.0) == 1 / 32


@given(st.floats(1e-6, 0.999), st.floats(0.1, 10.0), decays)
def test_abandonment_line_separates_served_from_abandoned(part, velocity, decay):
    utility, price = Surge(velocity, decay), part * velocity
    line = abandonment_line(price, utility)
    served = demand(price, line * np.array([0.999, 1.001]), utility)
    assert served[0] > 0 and served[1] == 0


def test_abandonment_line_at_its_ends():
    utility = Surge(1.0, 0.01)
    assert abandonment_line(0.0, utility) == np.inf
    assert abandonment_line(1.0, utility) == pytest.approx(0.0, abs=1e-9)
    assert abandonment_line(2.0, utility) == 0.0


@given(thresholds, decays, st.floats(0.0, 1.2), caps)
def test_demand_is_the_best_of_all_whole_caps(thresholds, decay, price, cap):
    utility = Surge(1.0, decay)
    tokens = demand(price, thresholds, utility, cap)
    assert (tokens <= cap).all()
    surplus = utility.value(tokens - thresholds) - price * tokens
    for query, threshold in enumerate(thresholds):
        others = np.minimum(threshold + np.linspace(0, 4 / decay, 200), cap)
        assert surplus[query] >= 0
        assert surplus[query] >= (utility.value(others - threshold) - price * others).max() - 1e-9 / decay


@given(thresholds, decays, caps)
def test_demand_never_rises_with_the_price(thresholds, decay, cap):
    utility = Surge(1.0, decay)
    asked = [demand(price, thresholds, utility, cap) for price in np.linspace(0, 1.1, 60)]
    assert (np.diff(asked, axis=0) <= 1e-9).all()


@given(thresholds, st.integers(0, 60000), decays, caps)
def test_clearing_is_affordable_and_a_lower_price_is_not(thresholds, budget, decay, cap):
    utility = Surge(1.0, decay)
    price, tokens = clear_market(thresholds, budget, utility, cap=cap)
    assert tokens.sum() <= budget * (1 + 1e-9)
    assert tokens == pytest.approx(demand(price, thresholds, utility, cap))
    if price > 0:
        assert demand(price - 2.0**-39, thresholds, utility, cap).sum() > budget * (1 - 1e-9)


def test_an_ample_budget_has_price_zero():
    price, tokens = clear_market(np.array([100.0, 200.0]), 500, Surge(1.0, 0.01))
    assert price == 0.0
    assert tokens == pytest.approx([200.0, 300.0])


def test_one_query_has_no_clearing_price():
    # Demand is at least 161.8 up to price 0.2059 and 0 above: 150 tokens buy nothing.
    utility = Surge(1.0, 0.01)
    price, tokens = clear_market(np.array([100.0]), 150, utility)
    assert price == pytest.approx(0.2059, abs=1e-4)
    assert tokens[0] == 0.0
    assert demand(price - 1e-9, np.array([100.0]), utility)[0] == pytest.approx(161.8, abs=0.05)


def test_two_queries_and_a_jump():
    tokens = clear_market(np.array([100.0, 101.0]), 200, Surge(1.0, 0.01)).tokens
    assert tokens == pytest.approx([162.0, 0.0], abs=0.5)


def test_different_velocities_need_one_price():
    utility = Surge(np.array([1.0, 3.0]), np.array([0.01, 0.02]))
    price, tokens = clear_market(np.array([5.0, 5.0]), 80, utility)
    surge = tokens - 5
    assert (tokens > 0).all()
    assert tokens.sum() == pytest.approx(80, abs=1e-6)
    assert utility.marginal(surge) == pytest.approx([price, price], rel=1e-6)
