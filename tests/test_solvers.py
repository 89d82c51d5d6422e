"""The opponents of the market: they solve the same problem, and do not exceed its optimum."""

import numpy as np
import pytest

from clear_lib.allocation.market import clear_market
from clear_lib.allocation.optimum import solve_shared
from clear_lib.allocation.utility import Surge
from clear_lib.study.experiments.solvers import algorithm_1_one_w, algorithm_1_w_each, by_highs, by_slsqp, losses, race


@pytest.fixture(params=[0.1, 0.4, 0.9])
def market(request):
    thresholds = np.random.default_rng(0).lognormal(5, 0.8, 60)
    utility = Surge(2.0, 1 / 64)
    return thresholds, request.param * (thresholds + utility.peak).sum(), utility


def test_three_ways_to_algorithm_1(market):
    thresholds, budget, utility = market
    own = Surge(np.linspace(1, 3, thresholds.size), 1 / np.linspace(50, 100, thresholds.size))
    for rival, curve in ((algorithm_1_one_w, utility), (algorithm_1_w_each, utility), (algorithm_1_w_each, own)):
        theirs, ours = rival(thresholds, budget, curve), clear_market(thresholds, budget, curve)
        assert theirs.price == pytest.approx(ours.price, abs=1e-11)
        assert theirs.tokens == pytest.approx(ours.tokens, abs=1e-6)


def test_general_purpose_solvers_stay_within_the_budget_and_below_the_optimum(market):
    thresholds, budget, utility = market
    optimum = solve_shared(thresholds, budget, utility).value
    tokens = by_slsqp(thresholds, budget, utility, starts=3)
    assert (tokens >= 0).all() and tokens.sum() <= budget * (1 + 1e-9)
    assert 0 < utility.value(tokens - thresholds).sum() <= optimum * (1 + 1e-9)
    chords, error = by_highs(thresholds[:20], budget / 3, utility)
    optimum = solve_shared(thresholds[:20], budget / 3, utility).value
    assert chords <= optimum * (1 + 1e-9) <= (chords + error) * (1 + 2e-9)


def test_losses_are_shares(market):
    thresholds, budget, utility = market
    found = losses(thresholds, budget, utility)
    best, searched = solve_shared(thresholds, budget, utility), clear_market(thresholds, budget, utility).tokens
    lost = 1 - utility.value(searched - thresholds).sum() / best.value
    assert found["algorithm_1"] == pytest.approx(lost, abs=0.02)
    assert 0 <= found["gap"] <= found["one_query"]
    assert found["unspent"] == pytest.approx(1 - searched.sum() / budget, abs=1e-6)


def test_race_knows_tokens_solutions_and_utilities(market):
    best = solve_shared(*market)
    ways = {
        "solution": solve_shared,
        "tokens": lambda *market: solve_shared(*market).tokens,
        "utility": lambda *market: solve_shared(*market).value,
    }
    table = race(ways, *market, best.bound)
    assert list(table.index) == list(ways)
    assert table["share"].to_numpy() == pytest.approx(best.value / best.bound)
    assert (table["N"] == 60).all() and (table["seconds"] > 0).all()
