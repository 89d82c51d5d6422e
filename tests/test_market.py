from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from clear_lib.allocation.market import (
    abandonment_line,
    adaptive_decay,
    borders,
    clear_market,
    demand,
    dual_bound,
    exit_price,
)
from clear_lib.allocation.optimum import solve, solve_shared
from clear_lib.allocation.utility import SHAPES, LogNormal, Quadratic, Surge, Triangular
from clear_lib.study.experiments.solvers import by_all_sets, by_highs

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


@given(st.one_of(st.just(0.0), st.floats(1e-3, 1e7)), decays, caps)
def test_exit_price_is_where_a_query_leaves(threshold, decay, cap):
    for utility in (Surge(2.0, decay), Triangular.like(Surge(2.0, decay)), Quadratic.like(Surge(2.0, decay))):
        price = exit_price(np.array([threshold]), utility, cap)
        assert demand(1.001 * float(price[0]), np.array([threshold]), utility, cap).sum() == 0
        if price > 0:
            assert demand(0.999 * float(price[0]), np.array([threshold]), utility, cap).sum() > 0
        if cap == np.inf and threshold > 1:
            assert abandonment_line(0.999 * price[0], utility) > threshold


def test_at_its_exit_price_a_query_asks_for_nothing_and_has_no_surplus():
    for utility in (Surge(2.0, 0.01), Triangular.like(Surge(2.0, 0.01)), Quadratic.like(Surge(2.0, 0.01))):
        for threshold in np.random.default_rng(0).lognormal(5, 1, 50):
            alone = np.array([threshold])
            price = float(exit_price(alone, utility)[0])
            assert demand(price, alone, utility).sum() == 0 == dual_bound(price, alone, 0, utility)


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


@given(st.lists(st.floats(1.0, 2000.0), min_size=1, max_size=20).map(np.array), decays)
def test_regimes_begin_at_their_borders(thresholds, decay):
    utility = Surge(1.0, decay)
    entry, everyone, free = borders(thresholds, utility)
    assert entry <= everyone <= free
    assert not solve_shared(thresholds, 0.999 * entry, utility).tokens.any()
    assert solve_shared(thresholds, 1.001 * entry, utility).tokens.any()
    assert (clear_market(thresholds, 1.001 * everyone, utility, iterations=60).tokens > 0).all()
    assert clear_market(thresholds, free, utility).price == 0.0
    assert clear_market(thresholds, 0.999 * free, utility).price > 0.0


# ---- the optimum and its certificate ------------------------------------------------------------------------


def worth(solution, thresholds, utility):
    return utility.value(solution.tokens - thresholds).sum()


@st.composite
def markets(draw, most=30):
    """Thresholds, a utility with its own parameters for each query, a budget and a cap or none."""
    n = draw(st.integers(1, most))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    thresholds = rng.lognormal(5, 1, n)
    surge = Surge(rng.lognormal(0, 0.5, n), 1 / rng.lognormal(4, 0.7, n))
    shape = draw(st.sampled_from(["surge", "triangular", "quadratic", "log-normal"]))
    if shape == "log-normal":
        utility = LogNormal(np.log(thresholds), rng.uniform(0.1, 1, n), rng.random(n))
        thresholds = np.zeros(n)
    else:
        utility = {"surge": surge, "triangular": Triangular.like(surge), "quadratic": Quadratic.like(surge)}[shape]
    budget = draw(st.floats(0, 1.2)) * float((thresholds + np.minimum(utility.peak, 300)).sum())
    return thresholds, utility, budget, draw(st.one_of(st.just(np.inf), st.floats(50, 600)))


@settings(max_examples=30)
@given(st.lists(st.floats(1.0, 2000.0), min_size=1, max_size=9).map(np.array), st.floats(0, 1.1), decays)
def test_shared_optimum_is_that_of_all_sets(thresholds, part, decay):
    surge = Surge(1.5, decay)
    for utility in (surge, Triangular.like(surge), Quadratic.like(surge)):
        budget = part * (thresholds + utility.peak).sum()
        best = by_all_sets(thresholds, budget, utility)
        assert solve_shared(thresholds, budget, utility).value == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_shared_optimum_of_twelve(seed):
    thresholds = np.random.default_rng(seed).lognormal(5, 1, 12)
    utility = Surge(1.0, 1 / 64)
    for part in (0.1, 0.4, 0.7):
        budget = part * (thresholds + utility.peak).sum()
        best = by_all_sets(thresholds, budget, utility)
        assert solve_shared(thresholds, budget, utility).value == pytest.approx(best, rel=1e-9)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 7.0, 50.0, 51.0, 900.0]), min_size=1, max_size=20).map(np.array),
    st.floats(0, 3000),
    decays,
    caps,
)
def test_shared_solution_is_consistent_with_ties_zeros_and_caps(thresholds, budget, decay, cap):
    utility = Surge(1.0, decay)
    solution = solve_shared(thresholds, budget, utility, cap=cap)
    searched = clear_market(thresholds, budget, utility, cap=cap)
    assert solution.tokens.sum() <= budget * (1 + 1e-9)
    assert (solution.tokens <= cap * (1 + 1e-12)).all()
    assert solution.value == pytest.approx(worth(solution, thresholds, utility), rel=1e-9, abs=1e-12)
    assert worth(searched, thresholds, utility) <= solution.value * (1 + 1e-9)
    assert solution.gap >= 0


def test_shared_solution_by_example():
    # The two counterexamples of the paper's section 4.3: nothing and (162, 0) are what Algorithm 1 grants.
    utility = Surge(1.0, 0.01)
    assert solve_shared(np.array([100.0]), 150, utility).tokens == pytest.approx([150])
    assert solve_shared(np.array([101.0, 100.0]), 200, utility).tokens == pytest.approx([0, 200])
    nothing = solve_shared(np.array([100.0]), 100, utility)
    assert nothing.tokens.tolist() == [0] and nothing.value == 0
    assert nothing.bound == pytest.approx(100 * 0.2059, abs=0.01)
    ample = solve_shared(np.array([100.0, 300.0]), 700, utility)
    assert ample.tokens == pytest.approx([200, 400]) and ample.price == 0 and ample.gap == pytest.approx(0, abs=1e-12)


def test_where_its_conditions_fail_the_general_solver_takes_over():
    thresholds, utility = np.array([100.0, 150.0, 160.0]), Surge(1.0, 0.01)
    cap = 180.0
    capped = solve_shared(thresholds, 500, utility, cap=cap)
    assert capped.tokens == pytest.approx(solve(thresholds, 500, utility, cap=cap).tokens)
    clipped = np.minimum(solve_shared(thresholds, 500, utility).tokens, cap)
    assert capped.value > utility.value(clipped - thresholds).sum()
    own = Surge(np.array([1.0, 2.0, 3.0]), 0.01)
    assert solve_shared(thresholds, 300, own).value == solve(thresholds, 300, own).value
    # With caps of their own the smallest thresholds are not the ones to serve.
    caps = np.array([101.0, 300.0, 300.0])
    assert solve_shared(thresholds, 260, utility, cap=caps).tokens == pytest.approx([0, 250, 0], abs=1e-6)


@given(markets(), st.floats(0, 2))
def test_no_price_gives_a_bound_below_what_is_reached(market, part):
    thresholds, utility, budget, cap = market
    solution = solve(thresholds, budget, utility, cap=cap)
    price = part * max(solution.price, 1e-3)
    assert dual_bound(price, thresholds, budget, utility, cap=cap) >= solution.bound * (1 - 1e-9)
    assert solution.value <= solution.bound
    assert solution.bound == pytest.approx(
        dual_bound(solution.price, thresholds, budget, utility, cap=cap), rel=1e-8, abs=1e-12
    )


@given(markets())
def test_general_solution_is_affordable_and_never_below_algorithm_1(market):
    thresholds, utility, budget, cap = market
    solution = solve(thresholds, budget, utility, cap=cap)
    assert (solution.tokens >= 0).all() and (solution.tokens <= cap * (1 + 1e-12)).all()
    assert solution.tokens.sum() <= budget * (1 + 1e-9)
    assert solution.value == pytest.approx(worth(solution, thresholds, utility), rel=1e-9, abs=1e-12)
    searched = worth(clear_market(thresholds, budget, utility, cap=cap), thresholds, utility)
    assert searched <= solution.value * (1 + 1e-9)
    # One budget constraint: the gap is at most what one query is worth (Shapley and Folkman).
    assert solution.gap <= float(np.max(utility.value(utility.peak))) * (1 + 1e-9)


@given(st.lists(st.floats(1.0, 2000.0), min_size=1, max_size=40).map(np.array), st.floats(0, 1.1), decays)
@example(np.array([1.0]), 0.5, 0.08902035233416053)  # log(steepest) is rounded down
def test_both_solvers_agree_on_a_shared_utility(thresholds, part, decay):
    surge = Surge(1.0, decay)
    for utility in (surge, Triangular.like(surge), Quadratic.like(surge)):
        budget = part * (thresholds + utility.peak).sum()
        exact, general = (how(thresholds, budget, utility) for how in (solve_shared, solve))
        assert general.bound == pytest.approx(exact.bound, rel=1e-8, abs=1e-9)
        assert general.value <= exact.value * (1 + 1e-9)
        if thresholds.size <= 12:
            assert general.value == pytest.approx(exact.value, rel=1e-8, abs=1e-9)


def water_filling(thresholds, budget, utility, cap):
    """The optimum if all of these are served and their utilities are concave, by a root finder."""
    room = np.minimum(cap - thresholds, utility.peak)
    if (room <= 0).any() or thresholds.sum() >= budget:
        return 0.0
    if (thresholds + room).sum() <= budget:
        return utility.value(room).sum()

    def surges(price):
        return np.minimum(utility.best_response(price), room)

    left = budget - thresholds.sum()
    price = brentq(lambda price: surges(price).sum() - left, 0, np.max(utility.steepest), xtol=1e-15)
    return utility.value(surges(price)).sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.floats(0.02, 1.0), st.booleans(), st.integers(0, 2**32 - 1))
def test_general_solution_is_the_optimum_of_a_small_batch(n, part, capped, seed):
    rng = np.random.default_rng(seed)
    thresholds = rng.lognormal(5, 1, n)
    surge = Surge(rng.lognormal(0, 0.5, n), 1 / rng.lognormal(4, 0.7, n))
    cap = rng.uniform(50, 600, n) if capped else np.full(n, np.inf)
    for utility in (surge, Quadratic.like(surge)):
        budget = part * (thresholds + utility.peak).sum()
        sets = (np.array(chosen) for size in range(1, n + 1) for chosen in combinations(range(n), size))
        best = max(water_filling(thresholds[s], budget, utility.at(s), cap[s]) for s in sets)
        solution = solve(thresholds, budget, utility, cap=cap)
        assert solution.value == pytest.approx(best, rel=1e-8, abs=1e-9)
        assert solution.bound >= best * (1 - 1e-9)


def test_general_solution_of_ten_is_the_optimum():
    rng = np.random.default_rng(10)
    thresholds, utility = rng.lognormal(5, 1, 10), Surge(rng.lognormal(0, 0.5, 10), 1 / rng.lognormal(4, 0.7, 10))
    budget = 0.4 * (thresholds + utility.peak).sum()
    sets = (np.array(chosen) for size in range(1, 11) for chosen in combinations(range(10), size))
    best = max(water_filling(thresholds[s], budget, utility.at(s), np.inf) for s in sets)
    solution = solve(thresholds, budget, utility)
    assert solution.value == pytest.approx(best, rel=1e-9)
    assert solution.bound >= best * (1 - 1e-9)


@pytest.mark.parametrize("part", [0.15, 0.5])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("cap", [np.inf, 400.0])
def test_against_a_general_purpose_solver(part, shared, cap):
    rng = np.random.default_rng(50)
    thresholds = rng.lognormal(5, 1, 50)
    spread = 0.0 if shared else 1.0
    velocity, decay = np.exp(spread * rng.normal(0, 0.5, 50)), 1 / np.exp(4 + spread * rng.normal(0, 0.7, 50))
    utility = Surge(velocity, decay)
    budget = part * (thresholds + utility.peak).sum()
    solution = solve(thresholds, budget, utility, cap=cap)
    if shared:
        solution = solve_shared(thresholds, budget, Surge(1.0, float(decay[0])), cap=cap)
    chords, error = by_highs(thresholds, budget, utility, cap)
    assert error < 0.002 * chords
    assert chords <= solution.bound  # the chords' optimum can be bought, so it respects the certificate
    assert chords <= solution.value * (1 + 1e-9) if shared else chords <= solution.value * (1 + 1e-4)
    assert solution.value <= chords + error


def test_the_gap_falls_at_least_like_one_over_n():
    rng = np.random.default_rng(1)
    utility, sizes = Surge(1.0, 1 / 64), np.array([20, 80, 320, 1280])
    gaps, short = [], []
    for n in sizes:
        draws = [rng.lognormal(np.log(665), 0.8, n) for _ in range(60)]
        solutions = [solve_shared(thresholds, 256 * n, utility) for thresholds in draws]
        gaps.append(np.mean([solution.gap / solution.bound for solution in solutions]))
        searched = [worth(clear_market(t, 256 * n, utility), t, utility) for t in draws]
        short.append(np.mean([1 - value / solution.value for value, solution in zip(searched, solutions, strict=True)]))
    assert np.polyfit(np.log(sizes), np.log(gaps), 1)[0] < -1
    assert np.polyfit(np.log(sizes), np.log(short), 1)[0] == pytest.approx(-1, abs=0.35)


@pytest.mark.filterwarnings("error")
@settings(deadline=None)
@given(st.integers(1, 40), st.booleans(), st.integers(0, 2**32 - 1))
def test_solvers_at_the_ends_of_every_scale(n, shared, seed):
    rng = np.random.default_rng(seed)
    thresholds, size = 10 ** rng.uniform(0, 7, n), None if shared else n
    surge = Surge(10 ** rng.uniform(-6, 6, size), 10 ** rng.uniform(-9, 1, size))
    sure, hopeless = rng.random(n) < 0.2, rng.random(n) < 0.2
    chance = LogNormal(
        np.log(thresholds), np.where(sure, 0.0, rng.uniform(0, 2, n)), np.where(hopeless, 0.0, rng.random(n))
    )
    budget, cap = 10 ** rng.uniform(-1, 9), rng.choice([np.inf, 10 ** rng.uniform(0, 8)])
    for utility in (surge, Triangular.like(surge), Quadratic.like(surge), chance):
        fees = np.zeros(n) if utility is chance else thresholds
        solution = solve_shared(fees, budget, utility, cap=cap)
        assert np.isfinite(solution.tokens).all()
        assert np.isfinite([solution.price, solution.value, solution.bound]).all()
        assert solution.tokens.sum() <= budget * (1 + 1e-9)
        assert (solution.tokens >= 0).all() and (solution.tokens <= cap * (1 + 1e-12)).all()
        searched = worth(clear_market(fees, budget, utility, cap=cap), fees, utility)
        assert searched <= solution.value * (1 + 1e-9)


@pytest.mark.parametrize("shape", ["surge", "triangular", "quadratic"])
@pytest.mark.parametrize("cap", [None, 300, 2000])
def test_exits_find_the_price_that_asking_for_every_surplus_finds(shape, cap):
    thresholds = np.round(np.random.default_rng(0).lognormal(6, 1, 3000), 1)
    utility, cap = SHAPES[shape](Surge(1.0, 1 / 64)), cap or np.inf
    for part in (0.01, 0.3, 3.0):
        budget = int(part * thresholds.sum())
        low, high = 0.0, utility.steepest
        if demand(0.0, thresholds, utility, cap).sum() <= budget:
            high = 0.0
        for _ in range(40):
            price = (low + high) / 2
            low, high = (price, high) if demand(price, thresholds, utility, cap).sum() > budget else (low, price)
        price, tokens = clear_market(thresholds, budget, utility, cap=cap)
        assert price == high and tokens.tolist() == demand(high, thresholds, utility, cap).tolist()
