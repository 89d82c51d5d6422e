"""The reasons in words are true: recomputed from the closed forms, and nobody is left without."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw

from clear_lib import Forecasts, allocate
from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.policies.rule import TOO_SMALL
from clear_lib.allocation.problem import Problem
from clear_lib.serving import ReplayStepper, serve

CAPS = [
    name for name, policy in POLICIES.items() if policy.kind == "cap" and not set(policy.needs) & {"lengths", "correct"}
]


def batch(n, seed, part):
    rng = np.random.default_rng(seed)
    threshold = np.exp(rng.normal(4, 1, n)).round(rng.integers(0, 3))
    forecasts = Forecasts(threshold, spread=rng.uniform(0, 0.8, n), solvable=rng.choice([0, 0.3, 0.9], n))
    return forecasts, int(part * threshold.sum())


batches = st.builds(batch, st.integers(1, 40), st.integers(0, 10_000), st.floats(0, 1.5))
caps = st.sampled_from([None, 30, 100, 1000])


def numbers(text):
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*(?:e-?\d+)?", text)]


@pytest.mark.parametrize("policy", CAPS)
@given(given_batch=batches, cap=caps)
def test_whoever_gets_nothing_has_a_reason_and_nobody_else(policy, given_batch, cap):
    forecasts, budget = given_batch
    allocation = allocate(replace(forecasts, estimate=forecasts.threshold), budget, policy, cap=cap)
    assert [bool(reason) for reason in allocation.reasons()] == (~allocation.active).tolist()


@given(given_batch=batches, cap=caps)
def test_the_line_is_that_of_the_closed_form(given_batch, cap):
    forecasts, budget = given_batch
    allocation = allocate(forecasts, budget, "clear", cap=cap)
    if budget == 0 or allocation.price == 0:
        return
    w = float(lambertw(np.e * allocation.price).real)
    line = (1 - w) ** 2 / (allocation.settings["decay"] * w)
    for own, active, reason in zip(forecasts.threshold, allocation.active, allocation.reasons(), strict=True):
        if active:
            assert own <= line * (1 + 1e-9)
        elif "abandonment line" in reason:
            assert own >= line * (1 - 1e-6)
            if "above" in reason:
                said = numbers(reason)
                assert said[0] > said[1] and said[:2] == pytest.approx([own, line], abs=0.51)
                assert said[2] == pytest.approx(allocation.price, rel=0.01)
        elif reason != TOO_SMALL:
            assert cap is not None and "the cap" in reason and (own >= cap) == ("not below the cap" in reason)


@given(given_batch=batches)
def test_the_other_rules_are_those_of_their_policies(given_batch):
    forecasts, budget = given_batch
    threshold = forecasts.threshold
    if budget == 0:
        return
    for policy in ("clear-exact", "clear-heuristic", "clear-auction"):
        allocation = allocate(forecasts, budget, policy)
        for own, reason in zip(threshold, allocation.reasons(), strict=True):
            if reason in (None, TOO_SMALL):
                continue
            if policy == "clear-exact":
                assert own >= threshold[allocation.active].max(initial=0)
                assert allocation.active.any() or own >= budget
            elif policy == "clear-heuristic":
                assert own > np.median(threshold) and threshold.sum() > budget
            else:
                assert threshold[threshold <= own].sum() > budget


@given(given_batch=batches)
def test_a_chance_that_is_not_bought_is_not_worth_the_price(given_batch):
    forecasts, budget = given_batch
    allocation = allocate(forecasts, budget, "clear-lognormal", cap=1000)
    tokens = np.arange(1, 1001)
    from clear_lib.allocation.utility import LogNormal

    for query, reason in enumerate(allocation.reasons()):
        if reason and "not above the price" in reason:
            curve = LogNormal(max(forecasts.log_median[query], 0), forecasts.spread[query], forecasts.solvable[query])
            assert (curve.value(tokens) / tokens).max() <= allocation.price * (1 + 1e-6)


def test_nobody_is_served_where_no_price_clears():
    """The example of chapter 04: demand jumps from more than the budget to nothing."""
    forecasts = Forecasts([100.0])
    (reason,) = allocate(forecasts, 150, "clear", decay=0.01).reasons()
    assert (
        reason
        == "its threshold 100.0 is at the abandonment line of the price 0.206, where demand jumps past the budget"
    )


def test_sentences():
    """As a reader meets them."""
    known = Forecasts([50, 60, 400, 900], spread=[0.1] * 4, solvable=[0.9, 0.9, 0.9, 0])
    last = {
        policy: allocate(known, 450, policy, cap=500).reasons()[-1]
        for policy in ("clear", "clear-exact", "clear-lognormal", "clear-heuristic", "clear-auction")
    }
    assert last == {
        "clear": "its threshold 900 is not below the cap of 500 tokens",
        "clear-exact": "its threshold 900 is not below the cap of 500 tokens",
        "clear-lognormal": "its chance of a correct answer is 0",
        "clear-heuristic": "its threshold 900 is above the median 230 and the budget is scarce: 450 tokens for thresholds "
        "that sum to 1,410",
        "clear-auction": "the thresholds up to its own 900 sum to 1,410, more than the budget of 450 tokens",
    }
    third = allocate(known, 450, "clear-exact").reasons()[2]
    assert third == "the optimum serves the 2 smallest thresholds, up to 60.0, and its own is 400.0"
    assert allocate(known, 3, "uniform").reasons()[3] == TOO_SMALL
    assert allocate(known, 0, "clear").reasons()[0] == "the budget is 0 tokens"


@given(given_batch=batches, cap=st.sampled_from([30, 100, 1000]))
def test_whoever_a_sequential_policy_does_not_finish_promises_no_more_than_the_last_price(given_batch, cap):
    forecasts, budget = given_batch
    lengths = (forecasts.threshold * 1.3 + 1).astype(int)
    problem = Problem(forecasts, budget, cap)
    outcome = serve(problem, ReplayStepper(lengths), "clear-sequential", accounting="refunds")
    why = outcome.reasons()
    assert [bool(reason) for reason in why] == (~outcome.finished).tolist()
    for query, reason in enumerate(why):
        if reason and "before its turn" in reason:
            assert ("stopped after" in reason) == (outcome.used[query] > 0)
            *_, promised, price = numbers(reason)
            assert promised <= price * 1.01 and outcome.used.sum() == budget
        elif reason and "cap" in reason:
            assert outcome.used[query] == cap


@pytest.mark.parametrize("accounting", ["caps", "refunds"])
@given(given_batch=batches)
def test_whoever_caps_do_not_finish_has_a_reason(accounting, given_batch):
    forecasts, budget = given_batch
    lengths = (forecasts.threshold * 1.3 + 1).astype(int)
    outcome = serve(Problem(forecasts, budget, 200), ReplayStepper(lengths), "clear", accounting=accounting)
    why = outcome.reasons()
    assert [bool(reason) for reason in why] == (~outcome.finished).tolist()
    for reason, used in zip(why, outcome.used, strict=True):
        if reason and reason.startswith("stopped by the cap"):
            assert used == 200
        if reason and "the budget ended" in reason:
            assert outcome.used.sum() == budget
