import doctest
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clear_lib import Forecasts, allocate
from clear_lib.allocation import forecasts, optimum, policies
from clear_lib.allocation import problem as allocation_problem
from clear_lib.allocation.policies import OF_THE_PAPER, POLICIES, divide, share
from clear_lib.allocation.policies.rule import whole_tokens
from clear_lib.allocation.problem import Problem, Truth
from clear_lib.allocation.utility import SHAPES, LogNormal, Surge
from clear_lib.serving import batch as serving_batch

NAMES = ["uniform", "predictor", "tale-ep", "clear-heuristic", "clear-auction", "clear", "oracle", "oracle-paper"]
OURS = ["clear-exact", "clear-lognormal", "clear-sequential"]
FORECASTERS = ["predictor", "clear-heuristic", "clear-auction", "clear"]
VARIANTS = [
    *((name, {}) for name in [*NAMES, "clear-exact"]),
    ("clear-heuristic", {"affine": "shift"}),
    ("clear-auction", {"affine": "shift"}),
    ("clear-auction", {"fallback": True}),
    ("clear", {"fallback": True}),
    ("clear", {"decay": 0.004}),
    ("clear", {"utility": "triangular"}),
    ("clear", {"utility": "quadratic"}),
    ("clear-exact", {"utility": "triangular"}),
    ("clear-exact", {"utility": "quadratic"}),
]
IDS = [" ".join([name, *(f"{key}={value}" for key, value in chosen.items())]) for name, chosen in VARIANTS]
every_variant = pytest.mark.parametrize(("policy", "chosen"), VARIANTS, ids=IDS)
others = {name for name, policy in POLICIES.items() if policy.kind == "cap"} - {name for name, _ in VARIANTS}
whatever_is_registered = pytest.mark.parametrize(
    ("policy", "chosen"), [*VARIANTS, *((name, {}) for name in sorted(others))], ids=[*IDS, *sorted(others)]
)
every_sharing_variant = pytest.mark.parametrize(
    ("policy", "chosen"),
    [v for v in VARIANTS if not v[0].startswith("oracle")],
    ids=[i for i in IDS if "oracle" not in i],
)


def problem(thresholds, budget, cap=None, lengths=None, correct=None, estimates=None):
    truth = None if lengths is None else Truth(lengths, correct)
    n = len(thresholds)
    known = Forecasts(thresholds, spread=np.full(n, 0.3), solvable=np.linspace(0, 1, n), estimate=estimates)
    return Problem(known, budget, cap, truth)


def unrounded(thresholds, budget, policy, cap=None, lengths=None, correct=None, estimates=None, **settings):
    entry = POLICIES[policy]
    return entry(problem(thresholds, budget, cap, lengths, correct, estimates), **entry.checked(settings))


#: Eighths of a token: sums are exact, so that a tie is a tie in every order and at every scale.
eighths = st.integers(1, 40000).map(lambda value: value / 8)


@st.composite
def batches(draw, distinct=False):
    """Thresholds, truth, a budget from nothing to plenty, and a cap or none."""
    thresholds = np.array(draw(st.lists(eighths, min_size=1, max_size=25, unique=distinct)))
    n = thresholds.size
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    extra = {
        "lengths": rng.permutation(np.arange(1, 20 * n + 1))[:n] * 7,
        "correct": rng.random(n) < 0.6,
        "estimates": rng.permutation(np.arange(1, n + 1)) * 11.0,
    }
    mean = thresholds.mean()
    budget = int(draw(st.floats(0, 4)) * mean * n)
    cap = draw(st.one_of(st.none(), st.integers(1, max(2, int(3 * mean)))))
    return thresholds, extra, budget, cap


@whatever_is_registered
@given(batch=batches())
def test_budget_cap_and_types(policy, chosen, batch):
    thresholds, extra, budget, cap = batch
    result = divide(problem(thresholds, budget, cap, **extra), policy, **chosen)
    assert result.tokens.dtype == np.int64
    assert result.tokens.shape == thresholds.shape
    assert (result.tokens >= 0).all()
    assert result.tokens.sum() <= budget
    assert result.unspent == budget - result.tokens.sum()
    assert (result.active == (result.tokens > 0)).all()
    assert (result.tokens <= (np.inf if cap is None else cap)).all()
    assert [bool(reason) for reason in result.reasons()] == (~result.active).tolist()
    exact = unrounded(thresholds, budget, policy, cap=cap, **extra, **chosen).tokens
    assert (np.abs(result.tokens - exact) < 1 + 1e-6).all()
    assert (result.tokens[exact == 0] == 0).all()


@every_sharing_variant
@given(batch=batches())
def test_a_cap_that_binds_is_reached_and_its_excess_goes_to_the_others(policy, chosen, batch):
    thresholds, extra, budget, cap = batch
    assume(cap is not None)
    free = unrounded(thresholds, budget, policy, **extra, **chosen)
    kept = divide(problem(thresholds, budget, cap, **extra), policy, **chosen)
    if free.price is None:
        # Whoever would get more than the cap gets the cap, and nothing is left over unless all are there.
        assert (kept.tokens[free.tokens >= cap + 1e-6] == cap).all()
        if free.tokens.any():
            assert kept.unspent == 0 or (kept.tokens[free.tokens > 0] == cap).all()
    elif policy == "clear-exact":
        # The optimum: whoever is served has the same surge, or the cap before that. (A tent does not mind who has it.)
        exact = unrounded(thresholds, budget, policy, cap=cap, **extra, **chosen).tokens
        surge = np.where(exact > 0, exact - thresholds, 0.0)
        if chosen.get("utility") != "triangular":
            assert exact[(exact > 0) & (surge < surge.max() * (1 - 1e-4) - 1e-6)] == pytest.approx(cap)
        assert (kept.tokens[thresholds >= cap] == 0).all()
    else:
        # The market: at the price it ended at, all who want more than the cap and are served have the cap.
        wanted = thresholds + Surge(1.0, kept.settings["decay"]).best_response(kept.price)
        assert (kept.tokens[(wanted >= cap + 1e-6) & kept.active] == cap).all()
        assert (kept.tokens[thresholds >= cap] == 0).all()


@every_sharing_variant
def test_a_binding_cap_by_example(policy, chosen):
    # One query alone would take all the budget it can: it gets exactly the cap.
    result = divide(problem([50.0], 1000, 70, estimates=[50.0]), policy, **chosen)
    assert result.tokens.tolist() == [70]
    assert result.unspent == 930


def test_the_excess_over_a_cap_is_shared_in_proportion():
    # 100:200:900 of 1200, the last capped at 600: the other 600 go 1:2.
    assert allocate([100, 200, 900], 1200, "predictor", cap=600).tokens.tolist() == [200, 400, 600]


@every_variant
@given(batch=batches(distinct=True), seed=st.integers(0, 99))
def test_equivariant_for_distinct_thresholds(policy, chosen, batch, seed):
    thresholds, extra, budget, cap = batch
    order = np.random.default_rng(seed).permutation(thresholds.size)
    plain = divide(problem(thresholds, budget, cap, **extra), policy, **chosen)
    moved = {name: values[order] for name, values in extra.items()}
    turned = divide(problem(thresholds[order], budget, cap, **moved), policy, **chosen)
    assert (np.abs(turned.tokens - plain.tokens[order]) <= 1).all()
    assert abs(int(turned.tokens.sum()) - int(plain.tokens.sum())) <= 1


@every_variant
@given(n=st.integers(1, 30), threshold=eighths, part=st.floats(0, 3))
def test_equal_queries_differ_by_a_token_at_most_and_the_first_come_first(policy, chosen, n, threshold, part):
    budget, length = int(part * n * threshold), int(np.ceil(threshold))
    extra = {"lengths": [length] * n, "correct": [True] * n, "estimates": [threshold] * n}
    tokens = divide(problem([threshold] * n, budget, **extra), policy, **chosen).tokens
    assert (np.diff(tokens) <= 0).all()
    if policy.startswith("oracle") or policy in ("clear-auction", "clear-exact"):
        assert np.ptp(tokens[tokens > 0]) <= 1 if tokens.any() else True
    else:
        assert np.ptp(tokens) <= 1


@every_variant
@given(batch=batches(), scale=st.integers(1, 50))
def test_tokens_have_no_unit(policy, chosen, batch, scale):
    thresholds, extra, budget, cap = batch
    units = {
        name: value for name, value in {"floor": 32.0, "epsilon": 32.0}.items() if name in POLICIES[policy].settings
    }
    small = unrounded(thresholds, budget, policy, cap=cap, **extra, **units | chosen)
    tall = {
        **{name: value * scale for name, value in units.items()},
        **{name: value / scale if name == "decay" else value for name, value in chosen.items()},
    }
    extra = {name: values if name == "correct" else values * scale for name, values in extra.items()}
    large = unrounded(
        thresholds * scale, budget * scale, policy, cap=None if cap is None else cap * scale, **extra, **tall
    )
    assert large.tokens == pytest.approx(small.tokens * scale, rel=1e-6, abs=1e-6)
    if small.price is not None:
        assert large.price == pytest.approx(small.price, rel=1e-6, abs=1e-11)


@given(batch=batches(), more=st.integers(0, 5000), decay=st.floats(1e-4, 0.1))
def test_more_budget_never_lowers_the_utility_of_algorithm_1(batch, more, decay):
    thresholds, _, budget, cap = batch
    utility = Surge(1.0, decay)
    totals = [
        utility.value(unrounded(thresholds, amount, "clear", cap=cap, decay=decay).tokens - thresholds).sum()
        for amount in (budget, budget + more)
    ]
    assert totals[1] >= totals[0] - 1e-9 / decay


@given(batch=batches(), utility=st.sampled_from(sorted(SHAPES)))
def test_the_exact_optimum_is_never_below_algorithm_1_nor_above_any_bound(batch, utility):
    thresholds, _, budget, cap = batch
    searched = unrounded(thresholds, budget, "clear", cap=cap, utility=utility)
    exact = unrounded(thresholds, budget, "clear-exact", cap=cap, utility=utility)
    curve = SHAPES[utility](Surge(1.0, exact.found["decay"]))
    low, high = (curve.value(grant.tokens - thresholds).sum() for grant in (searched, exact))
    assert low <= high * (1 + 1e-9) <= min(exact.bound, searched.bound) * (1 + 2e-9)


@given(batch=batches(), more=st.integers(0, 5000), decay=st.floats(1e-4, 0.1))
def test_more_budget_never_lowers_the_exact_optimum(batch, more, decay):
    thresholds, _, budget, _ = batch
    totals = [
        Surge(1.0, decay).value(unrounded(thresholds, amount, "clear-exact", decay=decay).tokens - thresholds).sum()
        for amount in (budget, budget + more)
    ]
    assert totals[1] >= totals[0] * (1 - 1e-9)


def test_algorithm_1_leaves_what_the_exact_optimum_spends():
    assert allocate([100.0], 150, "clear", decay=0.01).tokens.tolist() == [0]
    assert allocate([100.0], 150, "clear-exact", decay=0.01).tokens.tolist() == [150]
    assert allocate([100.0, 101.0], 200, "clear-exact", decay=0.01).tokens.tolist() == [200, 0]


def certain(lengths, spread=0.0, solvable=1.0):
    return Forecasts(lengths, spread=[spread] * len(lengths), solvable=np.broadcast_to(solvable, len(lengths)))


def test_lognormal_without_spread_buys_whole_solutions():
    result = allocate(certain([100.0, 150.0, 400.0]), 260, "clear-lognormal")
    assert result.tokens.tolist()[2] == 0
    assert result.tokens[0] >= 100 and result.tokens[1] >= 150
    assert 2.0 <= result.bound < 2.1


def test_lognormal_asks_what_is_solvable():
    known = certain([100.0, 100.0, 100.0], 0.3, [0.1, 0.9, 0.0])
    assert allocate(known, 130, "clear-lognormal").tokens.tolist() == [0, 130, 0]
    assert allocate(known, 130, "clear-lognormal", use_solvable=False).active.sum() == 1
    assert allocate(known, 10_000, "clear-lognormal", cap=900).tokens.tolist() == [900, 900, 0]


@given(batch=batches(), seed=st.integers(0, 99))
def test_lognormal_keeps_budget_cap_and_bound(batch, seed):
    thresholds, _, budget, cap = batch
    rng = np.random.default_rng(seed)
    spread, solvable = rng.uniform(0, 1, thresholds.size), rng.uniform(0, 1, thresholds.size)
    result = allocate(Forecasts(thresholds, spread, solvable), budget, "clear-lognormal", cap=cap)
    assert result.tokens.sum() + result.unspent == budget
    assert result.unspent >= 0 and (result.tokens <= (np.inf if cap is None else cap)).all()
    chances = LogNormal(np.log(np.maximum(thresholds, 1)), spread, solvable)
    uniform = np.minimum(budget // thresholds.size, np.inf if cap is None else cap)
    assert chances.value(np.full(thresholds.size, uniform)).sum() <= result.bound * (1 + 1e-9)
    assert chances.value(result.tokens).sum() <= result.bound * (1 + 1e-9)


def test_lognormal_says_what_it_needs():
    with pytest.raises(ValueError, match="'clear-lognormal' needs the spread of the queries"):
        allocate([10.0, 20.0], 100, "clear-lognormal")
    with pytest.raises(ValueError, match="'clear-lognormal' needs the solvable of the queries.*use_solvable=False"):
        allocate(Forecasts([10.0, 20.0], spread=[0.1, 0.1]), 100, "clear-lognormal")


@given(batch=batches(), scale=st.floats(1e-3, 1e3))
def test_velocity_only_scales_the_price(batch, scale):
    thresholds, _, budget, cap = batch
    one = allocate(thresholds, budget, "clear", cap=cap)
    other = allocate(thresholds, budget, "clear", cap=cap, velocity=scale)
    assert (np.abs(one.tokens - other.tokens) <= 1).all()
    assert other.price == pytest.approx(scale * one.price, abs=1e-10 * scale)


@given(batch=batches(), floor=st.integers(0, 200))
def test_tale_ep_conserves_the_budget_within_floor_and_cap(batch, floor):
    thresholds, extra, budget, cap = batch
    n, most = thresholds.size, np.inf if cap is None else cap
    least = min(floor, most)
    result = divide(problem(thresholds, budget, cap, estimates=extra["estimates"]), "tale-ep", floor=floor)
    if n * least <= budget <= n * most:
        assert result.tokens.sum() == budget
        assert (result.tokens >= least).all()
    elif budget < n * least:
        assert result.tokens.sum() == budget
        assert np.ptp(result.tokens) <= 1
    else:
        assert (result.tokens == cap).all()
        assert result.unspent == budget - n * cap


@given(batch=batches())
def test_predictor_keeps_its_floor_and_is_proportional_between_the_limits(batch):
    thresholds, _, budget, cap = batch
    most = np.inf if cap is None else cap
    floor = min(32, most, budget / thresholds.size)
    assert (allocate(thresholds, budget, "predictor", cap=cap).tokens >= np.floor(floor + 1e-9)).all()
    tokens = unrounded(thresholds, budget, "predictor", cap=cap).tokens
    between = (tokens > floor + 1e-6) & (tokens < most - 1e-6)
    rates = tokens[between] / thresholds[between]
    assert rates == pytest.approx(rates.mean() if between.any() else 0.0)
    # Those at a limit would be past it at the common rate.
    if between.any():
        assert (rates.mean() * thresholds[tokens <= floor] <= floor + 1e-6).all()
        assert (rates.mean() * thresholds[tokens >= most] >= most - 1e-6).all()


@every_variant
def test_one_query(policy, chosen):
    result = divide(problem([100.0], 300, None, [90], [True], [120]), policy, **chosen)
    assert result.tokens.tolist() == ([90] if policy.startswith("oracle") else [300])


@whatever_is_registered
def test_no_budget(policy, chosen):
    extra = {"lengths": [5, 6], "correct": [True, True], "estimates": [5, 6]}
    result = divide(problem([5.0, 6.0], 0, **extra), policy, **chosen)
    assert result.tokens.tolist() == [0, 0]
    assert not result.active.any()
    assert result.unspent == 0


@pytest.mark.parametrize("policy", ["clear", "clear-auction"])
def test_a_budget_below_the_smallest_threshold_serves_nobody(policy):
    result = allocate([100.0, 200.0], 99, policy)
    assert result.tokens.tolist() == [0, 0]
    assert result.unspent == 99


@pytest.mark.parametrize("policy", ["uniform", "predictor", "tale-ep", "clear-heuristic"])
def test_policies_without_abandonment_spend_even_that(policy):
    assert divide(problem([100.0, 200.0], 99, estimates=[1, 1]), policy).unspent == 0


def test_clear_with_ample_budget_gives_threshold_and_a_uniform_bonus():
    # Eq. 16 with B̄ - mean τ̂ = 150: everyone gets τ̂ + 150, at price 0.
    result = allocate([100, 200, 300], 3 * 350, "clear")
    assert result.tokens.tolist() == [250, 350, 450]
    assert result.price == 0.0
    assert result.settings["decay"] == pytest.approx(1 / 150)


def test_clear_reports_the_jump_it_ends_at():
    # There is no clearing price here: Algorithm 1 spends nothing.
    result = allocate([100.0], 150, "clear", decay=0.01)
    assert result.tokens.tolist() == [0]
    assert result.unspent == 150
    assert result.price == pytest.approx(0.2059, abs=1e-4)


def test_fallback_is_the_predictor_when_all_thresholds_fit():
    thresholds = [100.0, 200.0, 500.0]
    for policy in ("clear", "clear-auction"):
        assert allocate(thresholds, 800, policy, fallback=True).tokens.tolist() == [100, 200, 500]
        below = allocate(thresholds, 799, policy, fallback=True)
        assert below.tokens.tolist() == allocate(thresholds, 799, policy).tokens.tolist()
    assert allocate(thresholds, 800, "clear", fallback=True).price is None
    assert allocate(thresholds, 800, "clear-heuristic").tokens.tolist() == [100, 200, 500]


def test_heuristic_drops_what_is_above_the_median():
    thresholds = [100.0, 300.0, 200.0, 400.0]  # median 250; mean of the two kept: 150
    kept = allocate(thresholds, 600, "clear-heuristic")
    assert kept.tokens.tolist() == [250, 0, 350, 0]
    assert allocate(thresholds, 600, "clear-heuristic", affine="shift").tokens.tolist() == [250, 0, 350, 0]
    assert allocate(thresholds, 600, "clear-heuristic", kappa=0.5).tokens.tolist() == [60, 180, 120, 240]


def test_a_shift_below_zero_is_settled_with_the_others():
    # 10, 90, 100 lose the same each to fit 80, but nobody owes tokens: 0, 35, 45.
    assert share(80, np.ones(3), base=np.array([10.0, 90.0, 100.0])) == pytest.approx([0, 35, 45])


def test_auction_admits_the_longest_prefix():
    result = allocate([300.0, 100.0, 200.0], 350, "clear-auction")  # 100 + 200 fit; mean 150
    assert result.tokens.tolist() == [0, 146, 204]
    assert result.unspent == 0
    assert allocate([300.0, 100.0, 200.0], 350, "clear-auction", affine="shift").tokens.tolist() == [0, 125, 225]


def test_the_two_oracles():
    lengths, correct = [50, 10, 30, 40], [True, False, True, True]
    true = allocate([1, 1, 1, 1], 80, "oracle", truth=Truth(lengths, correct))
    assert true.tokens.tolist() == [0, 0, 30, 40]
    steps = allocate([1, 1, 1, 1], 80, "oracle-paper", truth=Truth(lengths))
    assert steps.tokens.tolist() == [0, 10, 30, 40]
    capped = allocate([1, 1, 1, 1], 80, "oracle", truth=Truth(lengths, correct), cap=35)
    assert capped.tokens.tolist() == [0, 0, 30, 0]
    capped = allocate([1, 1, 1, 1], 80, "oracle-paper", truth=Truth(lengths), cap=35)
    assert capped.tokens.tolist() == [0, 10, 30, 35]


@given(batch=batches())
def test_no_policy_solves_more_than_the_true_oracle(batch):
    thresholds, extra, budget, cap = batch
    solved = {
        name: (
            extra["correct"] & (divide(problem(thresholds, budget, cap, **extra), name).tokens >= extra["lengths"])
        ).sum()
        for name in NAMES
    }
    assert max(solved.values()) == solved["oracle"]


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=40).map(np.array),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.floats(0, 2),
)
def test_share_uses_the_budget_within_the_limits(weights, budget, low, high):
    n = weights.size
    low, high = low * budget / n, (0.5 + high) * budget / n
    assume(low <= high)
    tokens = share(budget, weights, low=low, high=high)
    assert (tokens >= low).all() and (tokens <= high).all()
    assert tokens.sum() == pytest.approx(min(budget, n * high), rel=1e-9, abs=1e-9)
    order = np.argsort(weights)
    assert (np.diff(tokens[order]) >= -1e-9 * budget).all()


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=40).map(np.array))
def test_rounding_keeps_the_sum(tokens):
    budget = int(np.ceil(tokens.sum())) + 1
    rounded = whole_tokens(tokens, budget)
    assert abs(rounded.sum() - tokens.sum()) < 1 + 1e-5
    assert (np.abs(rounded - tokens) < 1 + 1e-9).all()


def test_rounding_ties_go_to_the_first():
    assert whole_tokens(np.array([1.5, 1.5, 1.5, 1.5]), 6).tolist() == [2, 2, 1, 1]


@pytest.mark.parametrize("budget", [10**12 - 1, 10**15, 2**53 + 1, 10**18, 2**63 - 1])
@pytest.mark.parametrize("cap", [1, 2048, 2**62, None])
def test_caps_and_sums_hold_at_any_budget_that_64_bits_can_count(budget, cap):
    thresholds = np.random.default_rng(0).lognormal(6, 1, 37)
    forecasts = Forecasts(thresholds, np.full(37, 0.5), np.full(37, 0.7), estimate=thresholds)
    for name, policy in POLICIES.items():
        if policy.kind == "cap" and not set(policy.needs) & {"lengths", "correct"}:
            allocation = allocate(forecasts, budget, name, cap=cap)
            tokens = allocation.tokens.tolist()
            assert allocation.unspent == budget - sum(tokens) >= 0 and 0 <= min(tokens)
            assert max(tokens) <= (cap or budget)


@pytest.mark.parametrize(
    "given, message",
    [
        (([5], 2**63), r"budget must be below 2\*\*63 tokens, got 9223372036854775808"),
        (([5], 10**400), "budget is too large a number"),
        (([10**400], 5), "thresholds holds a whole number that is too large"),
    ],
)
def test_numbers_beyond_64_bits_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        allocate(*given)
    with pytest.raises(ValueError, match=r"cap must be below 2\*\*63 tokens"):
        allocate([5], 5, cap=2**63)


BAD_VALUES = [
    pytest.param([1.0, float("nan")], r"\[1\] is NaN", id="nan"),
    pytest.param([float("inf"), 1.0], r"\[0\] is infinite", id="infinite"),
    pytest.param([3.0, -1.0], r"\[1\] is negative: -1", id="negative"),
    pytest.param([], "empty", id="empty"),
    pytest.param([1, "many"], r"\[1\] is not a number: 'many'", id="text"),
    pytest.param([[1, 2]], "one-dimensional", id="two-dimensional"),
]


@pytest.mark.parametrize("policy", NAMES)
@pytest.mark.parametrize(("values", "message"), BAD_VALUES)
def test_bad_thresholds(policy, values, message):
    with pytest.raises(ValueError, match="thresholds.*" + message):
        divide(problem(values, 100, None, [1, 2], [True, True], [1, 2]), policy)


@pytest.mark.parametrize(("name", "policy"), [("lengths", "oracle"), ("correct", "oracle"), ("estimate", "tale-ep")])
@pytest.mark.parametrize(("values", "message"), BAD_VALUES)
def test_bad_truth_and_estimates(name, policy, values, message):
    given_values = {"lengths": [1, 2], "correct": [True, False], "estimate": [1, 2], name: values}
    with pytest.raises(ValueError, match=f"{name}.*" + message):
        truth = Truth(given_values["lengths"], given_values["correct"])
        allocate(Forecasts([10, 20], estimate=given_values["estimate"]), 100, policy, truth=truth)


@pytest.mark.parametrize(
    ("policy", "truth", "message"),
    [
        ("oracle", None, "'oracle' needs the lengths of the queries: truth=Truth"),
        ("oracle", ([1, 2],), "'oracle' needs the correct of the queries: truth=Truth"),
        ("oracle-paper", None, "'oracle-paper' needs the lengths"),
        ("tale-ep", None, "'tale-ep' needs the estimate of the queries: Forecasts"),
        ("oracle", ([1, 2.5], [1, 1]), r"lengths\[1\] is not a whole number: 2.5"),
        ("oracle", ([1, 2, 3], [1, 1, 1]), "lengths has 3 values for 2 queries"),
        ("oracle", ([1, 2], [1, 2]), r"correct\[1\] is above 1: 2"),
        ("oracle", ([1, 2], [1]), "correct has 1 values for 2 queries"),
    ],
)
def test_missing_or_wrong_truth(policy, truth, message):
    with pytest.raises(ValueError, match=message):
        allocate([10, 20], 100, policy, truth=truth and Truth(*truth))


@pytest.mark.parametrize("budget", [-1, float("nan"), float("inf"), 10.5, "100", None, True])
def test_bad_budget(budget):
    with pytest.raises(ValueError, match="budget must be a whole number of at least 0, got"):
        allocate([10, 20], budget)


@pytest.mark.parametrize("cap", [0, -1, float("nan"), 10.5, "100"])
def test_bad_cap(cap):
    with pytest.raises(ValueError, match="cap must be a whole number of at least 1, got"):
        allocate([10, 20], 100, cap=cap)


def test_unknown_policy_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown policy 'fair'; known: " + ", ".join(POLICIES)):
        allocate([10, 20], 100, "fair")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("clear", "unknown setting 'slack' for policy 'clear'; known: velocity, decay, epsilon, iterations, fallback"),
        ("uniform", "unknown setting 'slack' for policy 'uniform'; known: none"),
    ],
)
def test_unknown_setting_lists_the_known_ones(policy, message):
    with pytest.raises(ValueError, match=message):
        allocate([10, 20], 100, policy, slack=3)


@pytest.mark.parametrize(
    ("policy", "name", "value"),
    [
        ("clear", "velocity", 0),
        ("clear", "decay", -0.1),
        ("clear", "epsilon", 0),
        ("clear", "epsilon", float("nan")),
        ("clear", "iterations", 0),
        ("clear", "iterations", 2.5),
        ("clear", "fallback", "yes"),
        ("predictor", "floor", -1),
        ("clear-heuristic", "kappa", "high"),
        ("clear-auction", "affine", "product"),
        ("clear", "utility", "square"),
    ],
)
def test_bad_setting_names_it_and_its_value(policy, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value!r}"):
        allocate([10, 20], 100, policy, **{name: value})


def test_registry_is_complete_and_cites_the_paper():
    assert set(POLICIES) >= {*NAMES, *OURS}
    assert list(OF_THE_PAPER) == NAMES
    for name, policy in POLICIES.items():
        assert policy.name == name
        assert policy.kind == ("sequential" if name == "clear-sequential" else "cap")
        assert policy.label
        assert policy.function.__doc__


def test_settings_are_reported_with_their_defaults():
    assert allocate([10, 20], 100, "clear-heuristic", kappa=0.7).settings == {
        "kappa": 0.7,
        "affine": "sum",
        "floor": 32.0,
    }


def test_forecasts_and_thresholds_are_the_same_input():
    known = Forecasts([10, 20], solvable=[0.5, 0.5])
    assert allocate(known, 50).tokens.tolist() == allocate([10, 20], 50).tokens.tolist()


@pytest.mark.parametrize("module", [forecasts, optimum, policies, serving_batch, allocation_problem])
def test_documented_examples(module):
    results = doctest.testmod(module)
    assert results.attempted and not results.failed


def test_import_is_light():
    code = (
        "import sys, time; start = time.perf_counter(); import clear_lib; took = time.perf_counter() - start;"
        "heavy = {'torch', 'transformers', 'pandas', 'math_verify', 'matplotlib'} & set(sys.modules);"
        "assert not heavy, heavy; print(took)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.0
