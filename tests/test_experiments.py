"""The experiments: every number in the long table is one that replaying by hand would give."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from clear_lib.allocation.policies import OF_THE_PAPER, allocate
from clear_lib.study import experiments
from clear_lib.study.experiments import grid, told
from clear_lib.study.setup import paper, profiles
from clear_lib.study.setup.streams import TIERS


def recorded(n=30, seed=0):
    """Made-up rollouts: a free one a question, and one a rung, with lengths that rise from tier to tier."""
    rng = np.random.default_rng(seed)
    rows = []
    for t, tier in enumerate(TIERS):
        for i in range(n):
            length = int(np.exp(rng.normal(3 + 0.6 * t, 0.5))) + 1
            for rung, ratio in {"free": 1.0, "quick": 0.5, "normal": 1.0, "careful": 2.0}.items():
                solved = bool(rng.random() < (0.95, 0.7, 0.4, 0.1)[t])
                rows.append((f"{tier}-{i}", "sums", tier, rung, max(1, int(length * ratio)), solved))
    frame = pd.DataFrame(rows, columns=["question_id", "dataset", "tier", "rung", "length", "solved"])
    frame["verdict"] = np.where(frame.pop("solved"), "correct", "wrong")
    free = frame[frame["rung"] == "free"].reset_index(drop=True)
    noise = np.exp(rng.normal(0, 0.3, len(free)))
    forecasts = pd.DataFrame(
        {
            "question_id": free["question_id"],
            "threshold": free["length"] * noise,
            "estimate": free["length"] / noise,
            "threshold_cost": 1.0,
            "estimate_cost": 2.0,
        }
    )
    return free, forecasts.sample(frac=1, random_state=0), frame[frame["rung"] != "free"]


def rows(policy, accuracy, value=np.nan, scarcity=1.0):
    """Results of two draws of one stream."""
    cell = {"stream": "balanced", "scarcity": scarcity, "stream_seed": [0, 1], "policy": policy, "setting": "epsilon"}
    return pd.DataFrame(cell | {"accounting": "refunds", "value": value, "accuracy": accuracy})


@pytest.fixture(scope="module")
def profile():
    return profiles.load("smoke", stream_size=20, stream_seeds=3)


@pytest.fixture(scope="module")
def pool():
    return experiments.make_pool(*recorded())


@pytest.fixture(scope="module")
def results(profile, pool):
    return experiments.run(profile, pool)


def test_a_pool_joins_by_question(pool):
    free, forecasts, rungs = recorded()
    assert pool["question_id"].tolist() == free["question_id"].tolist()
    row = pool.iloc[17]
    mine = rungs[rungs["question_id"] == row["question_id"]].set_index("rung")
    assert row["length@careful"] == mine.loc["careful", "length"]
    assert row["correct@quick"] == (mine.loc["quick", "verdict"] == "correct")
    assert row["threshold"] == forecasts.set_index("question_id").loc[row["question_id"], "threshold"]


def test_a_pool_with_holes_names_the_question():
    free, forecasts, rungs = recorded()
    with pytest.raises(ValueError, match="question 'easy-3' has no threshold"):
        experiments.make_pool(free, forecasts[forecasts["question_id"] != "easy-3"], rungs)
    hole = (rungs["question_id"] == "hard-2") & (rungs["rung"] == "quick")
    with pytest.raises(ValueError, match="question 'hard-2' has no length@quick"):
        experiments.make_pool(free, forecasts, rungs[~hole])


def test_an_unknown_verdict_is_not_correct():
    free, forecasts, rungs = recorded()
    free["verdict"] = "unknown"
    assert not experiments.make_pool(free, forecasts, rungs)["correct"].any()


def test_budgets_stand_beside_the_papers(profile, pool):
    table = experiments.budgets(dataclasses.replace(profile, reference_length=float(paper.REFERENCE_LENGTH)), pool)
    budgets = table[table["what"] == "budget"]
    assert budgets["paper"].tolist() == list(paper.BUDGETS)
    assert budgets["ours"].tolist() == pytest.approx(list(paper.BUDGETS), abs=3)  # scarcities have three digits
    assert table.set_index("what").loc["floor", "ours"] == pytest.approx(paper.FLOOR, abs=0.1)
    easy = pool.loc[pool["tier"] == "easy", "length"].median()
    assert (table["× easiest"] * easy).tolist() == pytest.approx(table["ours"].tolist())
    harder = pool[pool["tier"] != "easy"]
    moderate = experiments.budgets(profile, harder)  # the easiest tier that there is
    assert moderate["ours"][0] / moderate["× easiest"][0] == harder.loc[harder["tier"] == "moderate", "length"].median()


def test_a_composition_by_data_set_is_the_mean_over_the_draws(profile, pool):
    sets = {"easy": "GSM8K", "moderate": "MATH", "hard": "AMC", "very hard": "AIME"}
    table = experiments.composition(profile, pool.iloc[::-1].assign(dataset=pool["tier"].map(sets)))
    assert table.columns.tolist() == list(sets.values()) and table.index.tolist() == list(profile.stream_shares)
    assert table.sum(axis=1).tolist() == pytest.approx([1] * len(table))
    assert table.loc["balanced"].tolist() == pytest.approx([0.25] * 4)
    halves = pool.assign(dataset=["even", "odd"] * (len(pool) // 2))
    mixed = experiments.composition(profile, halves)
    draws = [
        experiments.draw_stream(profile, halves, "u-shaped", seed, resample=True)
        for seed in range(profile.stream_seeds)
    ]
    assert mixed.loc["u-shaped", "odd"] == pytest.approx(np.mean([draw["dataset"].eq("odd").mean() for draw in draws]))


def test_results_are_the_whole_grid_in_the_agreed_columns(profile, results):
    assert tuple(results.columns) == grid.COLUMNS
    key = ["stream", "stream_seed", "scarcity", "policy"]
    assert not results.duplicated(key).any()
    assert len(results) == len(profile.stream_shares) * 3 * len(profile.scarcities) * len(OF_THE_PAPER)
    assert (results["granted"] <= results["budget_per_query"]).all()
    assert (results["used"] <= results["granted"]).all()
    assert results["price"].notna().tolist() == (results["policy"] == "clear").tolist()


def test_a_row_is_what_counting_by_hand_gives(profile, pool, results):
    reference = pool["length"].mean()
    queries = experiments.draw_stream(profile, pool, "u-shaped", 2, resample=True)
    budget = round(0.78 * reference)
    floor = profile.floor_fraction * reference
    tokens = allocate(queries["threshold"], budget * 20, "clear-auction", cap=profile.cap, floor=floor).tokens
    solved = (queries["correct"] & (queries["length"] <= tokens)).sum()
    row = results.query("stream == 'u-shaped' and stream_seed == 2 and scarcity == 0.78 and policy == 'clear-auction'")
    assert row["accuracy"].item() == pytest.approx(solved / 20)
    assert row["granted"].item() == pytest.approx(tokens.sum() / 20)
    assert row["used"].item() == pytest.approx(np.minimum(tokens, queries["length"]).sum() / 20)
    assert row["active"].item() == pytest.approx((tokens > 0).mean())


def test_tale_ep_is_replayed_on_the_rung_it_chose(profile, pool):
    queries = experiments.draw_stream(profile, pool, "balanced", 0)
    served = experiments.serve(profile, queries, "tale-ep", 0.78, experiments.reference_length(profile, pool)).queries
    assert set(served["rung"]) <= set(profile.rungs) and "free" not in set(served["rung"])
    for _, row in served.iterrows():
        assert row["used"] == min(row[f"length@{row['rung']}"], row["granted"])
        assert row["solved"] == (row[f"correct@{row['rung']}"] and row[f"length@{row['rung']}"] <= row["granted"])
    others = experiments.serve(profile, queries, "clear", 0.78, experiments.reference_length(profile, pool)).queries
    assert set(others["rung"]) == {"free"}


def test_any_policy_may_tell_the_model_its_cap_and_tale_ep_may_not(profile, pool):
    results = experiments.run_both(profile, pool, ["uniform", "tale-ep"])
    assert results.groupby(["policy", "told"]).size().eq(3 * len(profile.stream_shares) * len(profile.scarcities)).all()
    free = pool.drop(columns=[name for name in pool if "@" in name])
    assert experiments.has_rungs(pool) and not experiments.has_rungs(free)
    cut = experiments.run(profile, free, policies=["uniform", "tale-ep"])
    assert results[~results["told"]]["accuracy"].tolist() == cut["accuracy"].tolist(), "no rungs, nothing to tell"
    assert results[results["told"]]["accuracy"].tolist() != cut["accuracy"].tolist()


def test_a_rung_is_compared_with_the_free_solutions_cut_at_it(profile):
    """Four questions told 10 tokens, by hand: two are right within them (free: one), one is right too late."""
    ladder = dataclasses.replace(profile, rung_unit="tokens", rungs={"quick": 10})
    columns = {"length": [8, 20, 20, 9], "correct": [True, True, False, False]}
    columns |= {"length@quick": [10, 7, 15, 30], "correct@quick": [True, True, True, False]}
    row = told.rung_by_rung(ladder, pd.DataFrame(columns)).loc["quick"]
    assert row["stated"] == 10 and row["kept"] == 0.5 and row["free"] == 0.5
    assert (row["told"], row["cut"], row["effect"], row["later"]) == (0.5, 0.25, 0.25, 0.25)
    assert row["low"] == 0 < row["effect"] < row["high"] <= 1


def test_a_ladder_in_tokens_is_chosen_by_the_cap_alone(profile, pool):
    ladder = dataclasses.replace(profile, rung_unit="tokens", rungs={"quick": 10, "normal": 30, "careful": 100})
    queries = experiments.draw_stream(profile, pool, "balanced", 0)
    served = experiments.serve(ladder, queries, "tale-ep", 0.78, experiments.reference_length(profile, pool)).queries
    for rung, low, high in (("quick", 0, 30), ("normal", 30, 100), ("careful", 100, np.inf)):
        assert served.loc[served["rung"] == rung, "granted"].between(low, high, inclusive="left").all()


def test_policies_are_paired_by_seed_and_a_seed_is_a_stream(profile, pool):
    one = experiments.draw_stream(profile, pool, "balanced", 1)
    assert one.equals(experiments.draw_stream(profile, pool, "balanced", 1))
    assert not one["question_id"].equals(experiments.draw_stream(profile, pool, "balanced", 2)["question_id"])
    another = dataclasses.replace(profile, seed=profile.seed + 100)
    assert not one["question_id"].equals(experiments.draw_stream(another, pool, "balanced", 1)["question_id"])


def test_the_unit_of_budgets_is_the_profiles_or_the_pools_mean_length(profile, pool):
    assert experiments.reference_length(profile, pool) == pool["length"].mean()
    own = dataclasses.replace(profile, reference_length=1000.0, scarcities=(0.25,))
    assert experiments.reference_length(own, pool) == 1000
    assert experiments.run(own, pool, policies=["uniform"])["budget_per_query"].unique().tolist() == [250]


def test_settings_reach_the_policies_that_know_them(profile, pool):
    reference = experiments.reference_length(profile, pool)
    assert experiments.settings_of(profile, reference, "uniform") == {}
    assert set(experiments.settings_of(profile, reference, "clear")) == {"floor", "epsilon"}
    queries = experiments.draw_stream(profile, pool, "balanced", 0)
    generous = experiments.serve(profile, queries, "clear", 0.195, reference, epsilon=10 * reference)
    assert generous.outcome.plan.settings["epsilon"] == 10 * reference
    frugal = experiments.serve(profile, queries, "clear", 0.195, reference)
    assert (generous.queries["granted"] > 0).sum() < (frugal.queries["granted"] > 0).sum()


def test_tiers_add_up_to_the_stream(profile, pool, results):
    tiers = experiments.by_tier(profile, pool, scarcities=[0.39])
    assert tiers["tier"].cat.categories.tolist() == list(TIERS)
    key = ["stream", "stream_seed", "policy"]
    tiers["all"] = tiers["solved"] * tiers["n"]
    summed = tiers.groupby(key)["all"].sum() / tiers.groupby(key)["n"].sum()
    whole = results[results["scarcity"] == 0.39].set_index(key)["accuracy"]
    pd.testing.assert_series_equal(summed.sort_index(), whole.sort_index(), check_names=False)
    assert (tiers["lost"] <= tiers["abandoned"]).all() and (tiers["abandoned"] <= tiers["short"]).all()
    assert (tiers.loc[tiers["policy"] == "uniform", "abandoned"] == 0).all()


def test_gains_are_paired_and_have_intervals_and_prediction_ranges():
    gained = experiments.gains(pd.concat([rows("clear", [0.5, 0.9]), rows("uniform", [0.4, 0.6])]))
    assert gained["gain"].tolist() == pytest.approx([0.1, 0.3, 0, 0])
    columns = ["gain", "gain_low", "gain_high", "seeds"]
    table = experiments.prediction_range(gained, ["gain"]).set_index("policy")
    assert table.loc["clear", columns].tolist() == pytest.approx([0.2, 0.105, 0.295, 2])
    table = experiments.mean_interval(gained, "gain").set_index("policy")
    assert table.loc["clear", columns].tolist() == pytest.approx([0.2, *experiments.of_draws([0.1, 0.3])[1:], 2])


@pytest.fixture(scope="module")
def uncertain(pool):
    rng = np.random.default_rng(3)
    return pool.assign(spread=0.3, solvable=rng.uniform(0.1, 0.9, len(pool)))


def test_forecasts_of_a_table_have_what_the_table_has(pool, uncertain):
    plain, full = experiments.forecasts_of(pool), experiments.forecasts_of(uncertain)
    assert plain.spread is None and plain.solvable is None and (plain.estimate == pool["estimate"]).all()
    assert (full.spread == 0.3).all() and (full.solvable == uncertain["solvable"]).all()
    assert full.log_median == pytest.approx(np.log(uncertain["threshold"]))


def test_refunds_are_named_and_use_more_than_caps(profile, uncertain):
    choice = {"policies": ["uniform", "clear-sequential", "oracle"], "scarcities": [0.39], "only": ["balanced"]}
    tables = {name: experiments.run(profile, uncertain, accounting=name, **choice) for name in ("caps", "refunds")}
    for name, table in tables.items():
        plain = table[table["policy"] != "clear-sequential"]
        assert set(plain["accounting"]) == {name}
        assert (table["used"] <= table["budget_per_query"]).all()
    caps, refunds = (table.set_index(["policy", "stream_seed"]) for table in tables.values())
    assert (caps.loc["clear-sequential", "accounting"] == "refunds").all()
    assert caps.loc["clear-sequential", "accuracy"].tolist() == refunds.loc["clear-sequential", "accuracy"].tolist()
    assert (refunds.loc["uniform", "used"] > caps.loc["uniform", "used"]).all()
    assert (refunds.loc["oracle", "used"] == caps.loc["oracle", "used"]).all()


def test_a_sweep_gives_rows_for_each_value_to_those_that_have_the_setting(profile, pool):
    cell = {"scarcities": [0.39], "only": ["balanced"]}
    sweep = experiments.run(profile, pool, policies=["uniform", "clear"], sweep={"epsilon": [2.0, 20.0]}, **cell)
    assert sweep.groupby("policy", sort=False).size().tolist() == [3, 6]
    assert set(sweep.loc[sweep["policy"] == "clear", "setting"]) == {"epsilon"}
    assert sweep.loc[sweep["policy"] == "uniform", "value"].isna().all()
    one = experiments.run(profile, pool, policies=["clear"], epsilon=20.0, **cell)
    assert sweep.loc[sweep["value"] == 20.0, "accuracy"].tolist() == one["accuracy"].tolist()
    with pytest.raises(ValueError, match="a sweep has one setting, got epsilon, floor"):
        experiments.run(profile, pool, sweep={"epsilon": [1], "floor": [1]})


def test_a_policy_with_a_chosen_constant_is_served_with_it_and_named(profile, pool):
    cell = {"scarcities": [0.39], "only": ["balanced"]}
    reference = experiments.reference_length(profile, pool)
    found = {each.name: each for each in experiments.candidates(profile, pool) if each.policy == "clear"}
    tokens = experiments.budget_per_query(0.39, reference)
    named = experiments.run(profile, pool, policies=["uniform", found["1/β = 0.5 B̄"], found["ε = 0.4"]], **cell)
    assert named["constant"].isna().tolist() == (named["policy"] == "uniform").tolist()
    for name, settings in {"1/β = 0.5 B̄": {"decay": 2 / tokens}, "ε = 0.4": {"epsilon": 0.4 * reference}}.items():
        plain = experiments.run(profile, pool, policies=["clear"], **cell, **settings)
        assert named.loc[named["constant"] == name, "accuracy"].tolist() == plain["accuracy"].tolist()


def test_every_stream_is_run_with_the_constants_of_the_other_streams(profile, pool):
    choices = [each for each in experiments.candidates(profile, pool) if each.policy in ("clear", "clear-heuristic")]
    swept = experiments.run(profile, pool, policies=choices)
    best = experiments.chosen(swept, choices)
    assert {stream: [each.policy for each in own] for stream, own in best.items()} == dict.fromkeys(
        profile.stream_shares, ["clear", "clear-heuristic"]
    )
    again = experiments.run_chosen(profile, pool, best, ["uniform"])
    key = ["stream", "stream_seed", "scarcity", "policy"]
    kept = experiments.leave_one_out(swept).set_index(key)["accuracy"].sort_index()
    mine = again[again["policy"] != "uniform"].set_index(key)["accuracy"].sort_index()
    pd.testing.assert_series_equal(kept, mine)


def test_a_rule_of_ones_own_is_served_on_the_same_streams_as_a_policy(profile, pool):
    equal = experiments.run_rule(profile, pool, "equal", lambda problem, part: np.full(problem.n, part), [0.0, 10.5])
    assert equal.groupby("value")["accuracy"].max()[0.0] == 0 and set(equal["policy"]) == {"equal"}
    mine = experiments.run_rule(profile, pool, "mine", lambda problem, _: np.full(problem.n, problem.mean_budget), [1])
    gained = experiments.gains(mine, baseline=experiments.run(profile, pool, policies=["uniform"]))
    assert (gained["gain"] == 0).all() and len(gained) == 4 * 3 * len(profile.scarcities)


def test_two_ways_to_a_paired_difference_are_one(results):
    cells = experiments.paired_effects(results, "clear", "uniform").set_index(["stream", "scarcity"])
    gained = experiments.gains(results)
    table = experiments.mean_interval(gained[gained["policy"] == "clear"], "gain").set_index(["stream", "scarcity"])
    assert cells[["effect", "low", "high", "n"]].to_numpy() == pytest.approx(
        table[["gain", "gain_low", "gain_high", "seeds"]].to_numpy()
    )
    with pytest.raises(ValueError, match="the baseline has no row for"):
        experiments.gains(results, baseline=results[results["stream"] == "balanced"].query("policy == 'uniform'"))


def test_the_best_fixed_value_is_one_and_the_best_in_each_cell_is_not():
    scarce = [rows("clear", [0.5, 0.6], 1.0), rows("clear", [0.4, 0.5], 2.0), rows("uniform", [0.1, 0.1])]
    ample = [rows("clear", [0.2, 0.2], 1.0, 2.0), rows("clear", [0.3, 0.5], 2.0, 2.0)]
    sweep = pd.concat(scarce + ample)
    assert set(experiments.best_fixed(sweep)["value"]) == {2.0}
    best = experiments.best_in_each(sweep)
    assert best.groupby("scarcity")["value"].unique().map(list).tolist() == [[1.0], [2.0]]
    assert best["accuracy"].tolist() == [0.5, 0.6, 0.3, 0.5]


def test_the_share_of_the_gap_is_gain_over_gap_and_undefined_without_one():
    table = experiments.gap_closed(
        pd.concat([rows("ours", [0.5, 0.6]), rows("ours", [0.9, 0.9], scarcity=2.0)]),
        pd.concat([rows("clear", [0.4, 0.4]), rows("clear", [0.9, 0.899], scarcity=2.0)]),
        pd.concat([rows("oracle", [0.8, 0.8]), rows("oracle", [0.9, 0.9], scarcity=2.0)]),
    )
    assert table["gain"].tolist() == pytest.approx([0.15, 0.0005])
    assert table["closed"].tolist() == pytest.approx([0.15 / 0.4, np.nan], nan_ok=True)
    with pytest.raises(ValueError, match="several rows for one stream"):
        experiments.gains(rows("ours", [0.5, 0.6]), baseline=pd.concat([rows("clear", [1, 1])] * 2))


def test_a_tally_counts_what_is_clear_of_chance():
    table = pd.DataFrame(
        {
            "gain": [0.1, -0.1, 0.0, 0.0],
            "gain_low": [0.05, -0.2, -0.1, 0.0],
            "gain_high": [0.2, -0.05, 0.1, 0.0],
            "gap": [0.2, 0.2, 0.2, 0.0],
            "closed": [0.5, -0.5, 0.0, np.nan],
        }
    )
    assert experiments.tally(table).tolist() == pytest.approx([1, 1, 1, 1, 0, 0])
    assert experiments.tally(table[:1])[["gain", "closed"]].tolist() == pytest.approx([0.1, 0.5])
    assert np.isnan(experiments.tally(table[3:])["closed"])
    said = experiments.tally_words(table[:1])
    assert said["closed"] == "closes 50% of the gap" and said["gain"] == pytest.approx(10) and said["cells"] == 1
    assert experiments.tally_words(table[3:])["closed"] == "finds no gap to close"


def test_arrivals_are_the_same_queries_in_three_orders(profile, uncertain):
    table = experiments.arrivals(profile, uncertain, 0.05, [0.39])
    assert table.groupby("order", sort=False).size().to_dict() == {"random": 12, "easy first": 12, "hard first": 12}
    assert (table.groupby(["stream", "stream_seed"])["batch"].nunique() == 1).all()
    queries = experiments.draw_stream(profile, uncertain, "balanced", 0, resample=True)
    reference = experiments.reference_length(profile, uncertain)
    one = experiments.serve(profile, queries, "clear-sequential", 0.39, reference)
    assert table["batch"].iloc[0] == one.queries["solved"].mean()
    assert table[["batch", "controller", "fair share"]].stack().between(0, 1).all()


def test_halves_share_no_question_and_are_served_under_equal_budgets(profile, pool):
    first, second = experiments.halves(pool)
    assert set(first["question_id"]).isdisjoint(second["question_id"]) and len(first) + len(second) == len(pool)
    assert first["tier"].value_counts().equals(second["tier"].value_counts())
    results = experiments.run_in_halves(profile, pool, policies=["uniform"], scarcities=[0.39])
    assert results["budget_per_query"].nunique() == 1 and results.groupby("half").size().tolist() == [12, 12]
    assert (
        results.loc[results["half"] == 0, "accuracy"].tolist() != results.loc[results["half"] == 1, "accuracy"].tolist()
    )


def test_distorted_forecasts_are_wrong_by_the_factor_and_nothing_else_is():
    pool = pd.DataFrame({"threshold": [10.0, 100.0], "log_median": np.log([8.0, 90.0]), "spread": 0.5, "length": 7})
    wrong = experiments.distorted(pool, [0.01, 2])
    assert wrong["threshold"].tolist() == pytest.approx([0.1, 200])
    assert wrong["log_median"].tolist() == pytest.approx([0, np.log(180)])  # a solution has a token
    pd.testing.assert_frame_equal(wrong[["spread", "length"]], pool[["spread", "length"]])
    assert experiments.distorted(pool.drop(columns="log_median"), 3)["threshold"].tolist() == pytest.approx([30, 300])
    with pytest.raises(ValueError, match=r"factor\[1\] must be positive and finite: nan"):
        experiments.distorted(pool, [1, np.nan])


def test_regimes_of_a_market():
    thresholds = np.array([100.0, 200.0, 300.0])
    table = experiments.regimes(thresholds, [10, 150, 500], decay=0.01)
    assert table["budget_per_query"].tolist() == [10, 150, 500]
    assert table["abandoned"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert np.isnan(table["granted"][0]) and table["granted"][2] == 300
    assert table["price"][1] > table["price"][2] == 0
    assert table["unspent"].tolist() == pytest.approx([1, table["unspent"][1], 0.4])


def test_a_run_on_distorted_forecasts_says_which(profile, pool):
    choice = {"policies": ["uniform", "clear"], "scarcities": [0.4], "only": ["balanced"]}
    results = experiments.run_distorted(profile, pool, {1.0: 1.0, 5.0: np.full(len(pool), 5.0)}, **choice)
    assert (results["setting"] == "distortion").all() and results["value"].unique().tolist() == [1, 5]
    plain = experiments.run(profile, pool, **choice)
    same = results[results["value"] == 1]
    assert same["accuracy"].tolist() == plain["accuracy"].tolist()
    clear = results[results["policy"] == "clear"].groupby("value")["active"].mean()
    assert clear[5.0] < clear[1.0], "longer forecasts fit fewer queries"


def test_the_mean_stream_is_a_mean_within_a_draw():
    rows = {"stream": ["a", "b"] * 2, "stream_seed": [0, 0, 1, 1], "scarcity": 0.2, "policy": "clear", "value": np.nan}
    table = experiments.mean_stream(pd.DataFrame(rows | {"accuracy": [0.1, 0.3, 0.5, 0.5]}))
    assert table["accuracy"].tolist() == pytest.approx([0.2, 0.5]) and "stream" not in table


def test_the_pool_is_read_from_files_or_says_what_makes_them(profile, tmp_path):
    with pytest.raises(ValueError, match="make rollouts PROFILE="):
        experiments.read_pool(profile, tmp_path)
