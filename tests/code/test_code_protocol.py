"""Table 2: three readings of its protocol, best of n, forecasts across data sets, and samples bought at one price."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.study.code import protocol
from clear_lib.study.recordings import forecasts
from clear_lib.study.setup import profiles

N, K, CAP = 40, 8, 1024


def pool_of(seed=0, dataset="MBPP+"):
    """Tasks of which the long ones are seldom solved, and forecasts that know it."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(5.0, 0.7, N)
    lengths = np.clip(np.exp(middle[:, None] + rng.normal(0, 0.3, (N, K))), 1, CAP).astype(np.int64)
    solvable = 1 / (1 + np.exp(2 * (middle - 5)))
    base = rng.random((N, K)) < solvable[:, None]
    plus = base & (rng.random((N, K)) < 0.8)
    forecasts = Forecasts(np.exp(middle), spread=np.full(N, 0.3), solvable=solvable)
    ids = np.array([f"{dataset}/{n}" for n in range(N)], dtype=object)
    return protocol.Pool(dataset, ids, forecasts, lengths, base, plus, CAP)


POOL, PROFILE = pool_of(), profiles.load("qwen-1.5b")
CASES = [
    (reading, policy)
    for reading, left_out in protocol.LEFT_OUT.items()
    for policy in protocol.CODE_POLICIES
    if policy not in left_out
]


def caps(reading, policy, mean_cap, pool=POOL):
    return protocol.caps(pool, reading, policy, mean_cap, protocol.settings_of(PROFILE, pool.mean_length))


@pytest.mark.parametrize(("reading", "policy"), CASES)
@pytest.mark.parametrize("mean_cap", [20, 150, 2000])
def test_no_policy_spends_more_than_the_budget_in_any_reading(reading, policy, mean_cap):
    given = caps(reading, policy, mean_cap)
    assert given.shape == (N, K) and given.min() >= 0 and given.max() <= CAP
    used = np.minimum(POOL.lengths, given)
    assert used.sum() <= N * K * mean_cap
    if reading == "trajectories":
        assert given.sum(axis=1).max() <= K * mean_cap
    elif reading == "queries":
        assert (given == given[:, :1]).all() and given.sum() <= N * K * mean_cap


def test_uniform_gives_every_sample_or_every_query_the_same():
    assert (caps("trajectories", "uniform", 100) == 100).all() and (caps("queries", "uniform", 100) == 100).all()
    used = np.minimum(POOL.lengths, caps("samples", "uniform", 100)).sum(axis=1)
    assert (used == np.minimum(800, POOL.lengths.sum(axis=1))).all()


def test_with_equal_budgets_for_every_query_equal_samples_are_abandoned_together_unless_the_optimum_is_exact():
    given, exact = caps("trajectories", "clear", 60), caps("trajectories", "clear-exact", 60)
    some = exact[POOL.forecasts.threshold < 200]
    assert ((given > 0).sum(axis=1) % K == 0).all()
    assert (some > 0).any(axis=1).all() and (some == 0).any(axis=1).any()


@pytest.mark.parametrize("reading", protocol.READINGS)
@pytest.mark.parametrize("mean_cap", [30, 100, 300])
def test_the_oracle_is_best(reading, mean_cap):
    policies = [policy for name, policy in CASES if name == reading]
    right = {policy: protocol.solved(POOL, caps(reading, policy, mean_cap)).sum() for policy in policies}
    assert max(right.values()) == right["oracle"]


def test_of_many_samples_one_must_be_right_within_its_cap():
    pool = pool_of()
    first = np.zeros((N, K), dtype=np.int64)
    first[:, 0] = pool.lengths[:, 0]
    assert (protocol.solved(pool, first) == pool.plus[:, 0]).all()
    assert not protocol.solved(pool, first - (first > 0)).any()
    full = np.full((N, K), CAP)
    assert (protocol.solved(pool, full) == pool.plus.any(axis=1)).all()


def test_chosen_by_the_base_tests_the_first_that_passes_is_judged():
    pool = pool_of()
    by_base = protocol.solved(pool, np.full((N, K), CAP), "base tests")
    expected = [plus[base.argmax()] if base.any() else False for base, plus in zip(pool.base, pool.plus, strict=True)]
    assert by_base.tolist() == expected
    assert (by_base <= pool.plus.any(axis=1)).all()
    with pytest.raises(ValueError, match="unknown choice 'luck'; known: all tests, base tests"):
        protocol.solved(pool, np.full((N, K), CAP), "luck")


def test_unknown_readings_and_misplaced_policies_are_named():
    with pytest.raises(ValueError, match="unknown reading 'x'; known: trajectories, queries, samples"):
        caps("x", "clear", 10)
    with pytest.raises(ValueError, match="policy 'buy-samples' has no part in the reading 'queries'"):
        caps("queries", protocol.BUY, 10)


# ---- samples as the good --------------------------------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.floats(0.1, 50))
def test_the_chance_to_be_the_first_right_sample_falls(solvable, concentration):
    chances = protocol.first_right(np.array([solvable]), 20, concentration)[0]
    assert chances[0] == pytest.approx(solvable) and (np.diff(chances) < 0).all() and chances.sum() <= 1 + 1e-9


def test_that_chance_is_the_one_of_a_simulation():
    rng = np.random.default_rng(0)
    q = rng.beta(0.6, 1.4, 400_000)
    draws = rng.random((q.size, 4)) < q[:, None]
    simulated = [(draws[:, m] & ~draws[:, :m].any(axis=1)).mean() for m in range(4)]
    assert protocol.first_right(np.array([0.3]), 4, 2.0)[0] == pytest.approx(simulated, abs=0.003)


def test_the_mean_of_a_capped_length_is_the_one_of_a_simulation():
    lengths = np.exp(np.random.default_rng(0).normal(5, 0.4, 400_000))
    forecasts = Forecasts([np.exp(5)], spread=[0.4])
    for cap in (60, 150, 1000):
        assert protocol.expected_tokens(forecasts, cap)[0] == pytest.approx(np.minimum(lengths, cap).mean(), rel=0.003)


def test_one_price_clears_the_market_of_samples():
    """Every beginning of the order is the best plan: checked against every plan of a small market."""
    forecasts = Forecasts([100, 100, 100], spread=[0, 0, 0], solvable=[0.9, 0.5, 0.2])
    gain = protocol.first_right(forecasts.solvable, 3).cumsum(axis=1)
    order = protocol.order_of_samples(forecasts, 1000, 3)
    for samples in range(1, 10):
        plan = np.bincount(order[:samples] // 3, minlength=3)
        value, best = (
            max(sum(gain[i, m - 1] for i, m in enumerate(each) if m) for each in plans)
            for plans in ([plan], [p for p in np.ndindex(4, 4, 4) if sum(p) == samples])
        )
        assert value == pytest.approx(best)


def test_samples_are_bought_until_the_tokens_are_used():
    given = protocol.bought(POOL, 5000)
    assert np.minimum(POOL.lengths, given).sum() == 5000
    drawn = given > 0
    assert (drawn[:, :-1] >= drawn[:, 1:]).all()


# ---- forecasts, pools and tables ------------------------------------------------------------------------------------


def rows_of(pool, sampled):
    k = K if sampled else 1
    named = {True: "correct", False: "wrong"}
    return pd.DataFrame(
        {
            "question_id": np.repeat(pool.question_id, k),
            "dataset": pool.dataset,
            "question": [f"task {'very ' * int(length / 60)} long" for length in np.repeat(pool.lengths[:, 0], k)],
            "model": "m",
            "sample": np.tile(range(k), N),
            "cap": CAP,
            "length": pool.lengths[:, :k].ravel(),
            "base": [named[bool(each)] for each in pool.base[:, :k].ravel()],
            "plus": [named[bool(each)] for each in pool.plus[:, :k].ravel()],
        }
    )


def test_a_task_is_forecast_from_the_other_tasks_of_both_sets(monkeypatch):
    trained = []
    real = forecasts.fitted_forecasts

    def watched(training, questions, *rest):
        assert not set(training["question_id"]) & set(questions["question_id"])
        trained.append(set(training["dataset"]))
        return real(training, questions, *rest)

    monkeypatch.setattr(forecasts, "fitted_forecasts", watched)
    greedy = pd.concat([rows_of(pool_of(0, "MBPP+"), False), rows_of(pool_of(1, "HumanEval"), False)])
    ridge = profiles.load("paper-7b").teacher
    table = protocol.cross_forecasts(greedy, ridge, 10**9)
    assert trained == [{"HumanEval", "MBPP+"}] * 5
    assert set(table["question_id"]) == set(greedy["question_id"]) and table["solvable"].between(0, 1).all()
    assert len(protocol.cross_forecasts(greedy[greedy["dataset"] == "MBPP+"], ridge, 10**9)) == N


def test_a_pool_has_the_tasks_with_all_samples_and_both_verdicts():
    pool = pool_of()
    rows = rows_of(pool, True)
    rows.loc[rows["question_id"] == "MBPP+/3", "plus"] = "none"
    rows = rows.drop(rows.index[(rows["question_id"] == "MBPP+/4") & (rows["sample"] == 2)])
    forecasts = pd.DataFrame({"question_id": pool.question_id, "threshold": pool.forecasts.threshold})
    (made,) = protocol.make_pools(rows, forecasts)
    kept = [int(each.partition("/")[2]) for each in made.question_id]
    assert set(kept) == set(range(N)) - {3, 4}
    assert (made.lengths == pool.lengths[kept]).all() and (made.plus == pool.plus[kept]).all()
    assert (made.forecasts.threshold == pool.forecasts.threshold[kept]).all()
    (alone,) = protocol.make_pools(rows.assign(plus="none"), forecasts)
    assert (alone.plus == alone.base).all()
    assert [each.dataset for each in (made, alone)] == ["MBPP+", "MBPP+"]
    human = rows.assign(dataset="HumanEval")
    names = [protocol.make_pools(each, forecasts)[0].dataset for each in (human, human.assign(plus="none"))]
    assert names == ["HumanEval+", "HumanEval"]
    assert protocol.make_pools(rows, forecasts.assign(question_id="x")) == []
    assert protocol.make_pools(rows[rows["sample"] < 5], forecasts) == [], "samples that are not recorded yet"


def test_results_are_a_row_a_task_for_every_reading_policy_budget_and_choice():
    results = protocol.run(PROFILE, [POOL, pool_of(1, "HumanEval")], scarcities=(0.5,))
    assert len(results) == 2 * N * 2 * len(CASES)
    cell = results.query("dataset == 'MBPP+' and reading == 'queries' and choice == 'all tests'")
    shares = cell.groupby("policy")["solved"].mean()
    right = protocol.solved(POOL, caps("queries", "clear", cell["mean_cap"].iloc[0]))
    assert shares["clear"] == right.mean() and set(cell["policy"]) == set(protocol.CODE_POLICIES) - {protocol.BUY}


def test_without_samples_there_are_no_results_and_no_gains():
    assert protocol.run(PROFILE, []).empty
    assert protocol.gains(protocol.run(PROFILE, [])).empty


# ---- gains ----------------------------------------------------------------------------------------------------------


def results_of(leads, n=100):
    """Results of a cell in which CLEAR solves `leads` tasks that Uniform does not, or Uniform so many alone."""
    cell = {"dataset": "MBPP+", "reading": "queries", "choice": "all tests", "scarcity": 0.5, "mean_cap": 50}
    task = np.arange(n)
    solved = {"clear": task < leads, "uniform": task < -leads}
    return pd.concat([pd.DataFrame({**cell, "policy": p, "question_id": task, "solved": solved[p]}) for p in solved])


@pytest.mark.parametrize("leads", [20, -20])
def test_a_gain_is_paired_and_its_interval_is_the_textbook_one(leads):
    row = protocol.gains(results_of(leads)).iloc[0]
    width = 1.96 * 100 * np.sqrt(0.2 * 0.8 / 100)
    assert (row["policy"], row["n"], row["gain"]) == ("clear", 100, leads)
    assert [row["gain_low"], row["gain_high"]] == pytest.approx([leads - width, leads + width], abs=1.2)


@settings(max_examples=20)
@given(st.integers(0, 3), st.integers(1, 1500))
def test_with_the_same_budget_for_every_query_clear_gives_no_sample_more_than_uniform(seed, mean_cap):
    pool = pool_of(seed)
    assert (caps("trajectories", "clear", mean_cap, pool) <= caps("trajectories", "uniform", mean_cap, pool)).all()
