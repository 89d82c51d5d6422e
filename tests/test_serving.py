"""Serving step by step: the budget holds, hindsight agrees, and a stepper that lies is caught."""

import heapq

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clear_lib import Forecasts, allocate
from clear_lib.allocation.problem import Problem, Truth
from clear_lib.allocation.stages import stages
from clear_lib.engines import Completion
from clear_lib.serving import EngineStepper, ReplayStepper, Step, serve

PAYING = ["uniform", "predictor", "clear", "clear-heuristic", "clear-auction"]


def batch(n, seed, part=0.5):
    """Forecasts, the lengths that come true, and a budget of a part of their sum."""
    rng = np.random.default_rng(seed)
    log_median, spread = rng.normal(4, 0.8, n), rng.uniform(0.1, 0.8, n)
    forecasts = Forecasts(np.exp(log_median), spread=spread, solvable=rng.random(n))
    lengths = np.exp(log_median + spread * rng.standard_normal(n)).clip(1, 500).astype(int)
    return forecasts, lengths, int(part * lengths.sum())


batches = st.builds(batch, st.integers(1, 40), st.integers(0, 10_000), st.floats(0, 1.5))


@pytest.mark.parametrize("policy", PAYING)
def test_caps_are_what_replay_says(policy):
    forecasts, lengths, budget = batch(50, 0)
    outcome = serve(Problem(forecasts, budget, 500), ReplayStepper(lengths), policy)
    caps = allocate(forecasts, budget, policy, cap=500).tokens
    assert (outcome.granted == caps).all() and (outcome.used == np.minimum(lengths, caps)).all()
    assert (outcome.finished == (lengths <= caps)).all()
    assert (outcome.accounting, outcome.rounds, outcome.plan.policy) == ("caps", 1, policy)


@pytest.mark.parametrize("policy", [*PAYING, "clear-sequential"])
@given(given_batch=batches, cap=st.sampled_from([None, 40, 500]))
def test_refunds_use_the_budget_and_no_more(policy, given_batch, cap):
    forecasts, lengths, budget = given_batch
    outcome = serve(Problem(forecasts, budget, cap), ReplayStepper(lengths), policy, accounting="refunds")
    limit = np.inf if cap is None else cap
    assert outcome.used.sum() <= budget
    assert (outcome.used <= np.minimum(outcome.granted, lengths)).all() and (outcome.granted <= limit).all()
    assert (outcome.finished == (outcome.used == lengths)).all()
    through = outcome.finished | (outcome.granted == limit)
    if policy in ("uniform", "predictor"):  # these abandon nobody
        assert outcome.used.sum() == budget or through.all()
    if policy == "clear-sequential" and cap:
        assert outcome.used.sum() == budget or through.all()


@pytest.mark.parametrize("policy", ["uniform", "predictor", "clear-auction"])
@given(given_batch=batches)
def test_refunds_are_the_scale_that_hindsight_finds(policy, given_batch):
    forecasts, lengths, budget = given_batch
    caps = allocate(forecasts, budget, policy, cap=500).tokens
    outcome = serve(Problem(forecasts, budget, 500), ReplayStepper(lengths), policy, accounting="refunds")
    served = caps > 0
    assume(np.minimum(lengths, 500)[served].sum() >= budget)  # or the abandoned get a turn
    low, high = 1.0, 501.0
    for _ in range(60):
        middle = (low + high) / 2
        fits = np.minimum(np.minimum(np.floor(caps * middle), 500), lengths).sum() <= budget
        low, high = (middle, high) if fits else (low, middle)
    hindsight = np.minimum(np.minimum(np.floor(caps * low), 500), lengths)
    assert np.abs(outcome.used - hindsight).max() <= 1  # the last few tokens go to some
    assert outcome.used.sum() == budget


def test_tokens_that_nobody_served_can_use_go_to_the_abandoned():
    forecasts, stepper = Forecasts([50.0, 60.0, 400.0, 900.0]), ReplayStepper([5, 6, 120, 800])
    assert allocate(forecasts, 450, "clear-auction").active.tolist() == [True, True, False, False]
    outcome = serve(Problem(forecasts, 450, 1000), stepper, "clear-auction", accounting="refunds")
    assert outcome.used.tolist() == [5, 6, 120, 0]  # the 439 left fit 400, and the 319 then left do not fit 900


@given(given_batch=batches)
def test_an_oracle_has_nothing_to_return(given_batch):
    forecasts, lengths, budget = given_batch
    correct = lengths % 3 > 0
    problem = Problem(forecasts, budget, 500, Truth(lengths, correct))
    kinds = [
        serve(problem, ReplayStepper(lengths), "oracle", accounting=accounting)
        for accounting in ("caps", "refunds", "overbooked")
    ]
    assert all((kind.used == kinds[0].used).all() for kind in kinds)


@pytest.mark.parametrize("policy", PAYING)
@given(given_batch=batches)
def test_overbooking_stays_within_the_budget_and_uses_more_of_it(policy, given_batch):
    forecasts, lengths, budget = given_batch
    outcome, plain = (
        serve(Problem(forecasts, budget, 500), ReplayStepper(lengths), policy, accounting=accounting)
        for accounting in ("overbooked", "caps")
    )
    assert outcome.used.sum() <= budget
    assert outcome.plan.budget >= budget == outcome.budget
    assert (outcome.used == np.minimum(lengths, outcome.plan.tokens)).all()
    if policy == "uniform":
        assert outcome.used.sum() >= plain.used.sum()


def one_stage_at_a_time(forecasts, lengths, budget, cap):
    """What clear-sequential should do, told plainly: always the query with the highest price, one stage, a heap."""
    planned = stages(forecasts, cap)
    used, finished = np.zeros(forecasts.n, dtype=int), np.zeros(forecasts.n, dtype=bool)
    heap = [(-planned.prices[i, 0], i, 0) for i in range(forecasts.n)]
    heapq.heapify(heap)
    while heap and budget > 0:
        _, i, j = heapq.heappop(heap)
        tokens = min(planned.ends[i, j] - used[i], budget, lengths[i] - used[i])
        used[i] += tokens
        budget -= tokens
        finished[i] = used[i] == lengths[i]
        if not finished[i] and j + 1 < planned.ends.shape[1]:
            heapq.heappush(heap, (-planned.prices[i, j + 1], i, j + 1))
    return used, finished


@given(given_batch=batches)
def test_serving_in_rounds_is_serving_stage_by_stage(given_batch):
    forecasts, lengths, budget = given_batch
    outcome = serve(Problem(forecasts, budget, 500), ReplayStepper(lengths), "clear-sequential", accounting="refunds")
    used, finished = one_stage_at_a_time(forecasts, lengths, budget, 500)
    assert (outcome.used == used).all() and (outcome.finished == finished).all()


def test_the_price_falls_with_the_budget():
    forecasts, lengths, _ = batch(200, 1)
    prices = [
        serve(
            Problem(forecasts, int(part * lengths.sum())),
            ReplayStepper(lengths),
            "clear-sequential",
            accounting="refunds",
        ).price
        for part in (0.05, 0.2, 0.5, 0.8)
    ]
    assert (np.diff(prices) < 0).all()
    nothing = serve(Problem(forecasts, 0), ReplayStepper(lengths), "clear-sequential", accounting="refunds")
    assert nothing.price is None and nothing.rounds == 0 and not nothing.used.any()


class Liar:
    """Answers every step with the same, query by query."""

    n = 3

    def __init__(self, used, finished):
        self.answer = Step(used, finished)

    def step(self, queries, tokens):
        return self.answer


YES, NO = np.ones(3, dtype=bool), np.zeros(3, dtype=bool)


@pytest.mark.parametrize("accounting", ["caps", "refunds"])
@pytest.mark.parametrize(
    ("used", "finished", "message"),
    [
        ([5, 101, 5], YES, "query 1 used 101 tokens of the 100 that it was granted"),
        ([5, 5, -2], YES, "query 2 went back: it used -2 tokens"),
        ([5, 0, 5], YES, "query 1 finished without using a token: it must have finished before"),
        ([7, 100, 100], NO, "query 0 stopped after 7 of 100 tokens without having finished"),
        ([100, 100], NO, r"3 queries must say used as so many whole numbers, not as int64 of shape \(2,\)"),
        ([1.5, 2, 3], YES, "used as so many whole numbers, not as float64"),
        ([5, 5, 5], np.ones(3), "finished as so many True or False, not as float64"),
    ],
)
def test_a_stepper_that_lies_is_named(accounting, used, finished, message):
    with pytest.raises(ValueError, match=message):
        serve(Problem(Forecasts([50.0] * 3), 300), Liar(np.array(used), finished), "uniform", accounting=accounting)


def test_the_query_is_named_by_its_place_in_the_batch():
    class Late(ReplayStepper):
        def step(self, queries, tokens):
            used, finished = super().step(queries, tokens)
            return Step(used + (self.used[queries] > 60), finished)

    forecasts = Forecasts([50.0] * 4, spread=[0.5] * 4, solvable=[0.9, 0, 0.9, 0.5])
    with pytest.raises(ValueError, match="query 2 used"):
        serve(Problem(forecasts, 400, 1000), Late([20, 900, 900, 20]), "clear-sequential", accounting="refunds")


def test_a_finished_query_cannot_go_on():
    stepper = ReplayStepper([10, 20])
    assert stepper.step(np.array([0, 1]), np.array([15, 15])).finished.tolist() == [True, False]
    with pytest.raises(ValueError, match="query 0 has finished before"):
        stepper.step(np.array([1, 0]), np.array([1, 1]))
    with pytest.raises(ValueError, match=r"lengths\[1\] is not a whole number: 2.5"):
        ReplayStepper([1, 2.5])


@pytest.mark.parametrize(
    ("policy", "choice", "message"),
    [
        ("uniform", {"accounting": "credit"}, "unknown accounting 'credit'; known: caps, refunds, overbooked"),
        ("clear-sequential", {}, "'clear-sequential' pays for what it uses; it needs accounting='refunds', not 'caps'"),
        ("clear-sequential", {"accounting": "refunds"}, "needs the spread of the queries"),
        ("clear-sequential", {"accounting": "refunds", "detour": 0}, "detour must be a number above 0, got 0"),
        ("clear-sequential", {"accounting": "refunds", "epsilon": 3}, "unknown setting 'epsilon'.*known: detour"),
        ("fair", {}, "unknown policy 'fair'"),
        ("uniform", {"slack": 1}, "unknown setting 'slack'"),
    ],
)
def test_bad_choices(policy, choice, message):
    with pytest.raises(ValueError, match=message):
        serve(Problem(Forecasts([50.0, 60.0]), 100), ReplayStepper([10, 20]), policy, **choice)


def test_sizes_must_fit_and_hindsight_needs_a_recording():
    with pytest.raises(ValueError, match="the stepper has 2 queries, the forecasts have 3"):
        serve(Problem(Forecasts([50.0] * 3), 100), ReplayStepper([10, 20]), "uniform")
    with pytest.raises(ValueError, match="overbooking takes hindsight: it needs a ReplayStepper, not a Liar"):
        serve(Problem(Forecasts([50.0] * 3), 300), Liar(None, None), "uniform", accounting="overbooked")


def test_allocate_points_to_serve():
    with pytest.raises(
        ValueError, match="'clear-sequential' is of kind 'sequential': serve it.*clear_lib.serving.serve"
    ):
        allocate(Forecasts([50.0], spread=[0.1], solvable=[0.5]), 100, "clear-sequential")


class Counting:
    """An engine that counts up from the tokens begun, and ends at the number in the prompt."""

    def stream(self, prompts, max_tokens, begun=None, keep_going=False):
        for number, (prompt, cap, tokens) in enumerate(
            zip(prompts, max_tokens, begun or [()] * len(prompts), strict=True)
        ):
            row = tuple(range(len(tokens) + 1, min(int(prompt), len(tokens) + cap) + 1))
            yield number, Completion("", row, "stop" if row[-1] == int(prompt) else "length")


@pytest.mark.parametrize("policy", ["clear-sequential", "predictor"])
def test_a_live_engine_is_served_as_its_recording(policy):
    forecasts, lengths, budget = batch(30, 5)
    live = EngineStepper(Counting(), [str(length) for length in lengths])
    outcomes = [
        serve(Problem(forecasts, budget, 500), stepper, policy, accounting="refunds")
        for stepper in (live, ReplayStepper(lengths))
    ]
    assert (outcomes[0].used == outcomes[1].used).all() and outcomes[0].rounds == outcomes[1].rounds > 1
    assert [list(tokens) for tokens in live.tokens] == [list(range(1, used + 1)) for used in outcomes[0].used]
    assert (live.starts <= outcomes[0].rounds).all() and live.starts.max() > 1 and live.reread > 0
    with pytest.raises(ValueError, match="has finished before"):
        live.step(np.flatnonzero(live.finished)[:1], np.array([5]))
