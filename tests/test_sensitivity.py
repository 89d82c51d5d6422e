"""What the paper leaves open: the readings that are tried, and how changes are counted."""

import numpy as np
import pandas as pd
import pytest

from clear_lib.study.experiments import sensitivity
from clear_lib.study.experiments.sensitivity import Reading
from clear_lib.study.setup import profiles


@pytest.fixture(scope="module")
def profile():
    return profiles.load("smoke", stream_seeds=3)


@pytest.fixture(scope="module")
def pool(profile):
    rng, n = np.random.default_rng(0), 24 * 4
    length = np.exp(rng.normal(np.repeat([3.4, 4.4, 5.0, 5.6], 24), 0.3)).astype(int)
    pool = pd.DataFrame(
        {
            "question_id": [str(i) for i in range(n)],
            "tier": np.repeat(list(profile.tiers), 24),
            "length": length,
            "correct": rng.random(n) < 0.7,
            "threshold": length * np.exp(0.2 * rng.normal(size=n)),
            "estimate": 1.0 * length,
        }
    )
    rungs = {f"{kind}@{rung}": pool[kind] for rung in profile.rungs for kind in ("length", "correct")}
    return pool.assign(**rungs)


def test_every_reading_can_be_run(profile, pool):
    readings = sensitivity.open_items(profile, pool)
    assert len({(r.item, r.other, r.policy) for r in readings}) == len(readings)
    changes = sensitivity.sensitivity(profile, pool, readings)
    assert len(changes) == len(readings) * 4 * 3 * len(profile.scarcities)
    still = changes.loc[changes["item"] == "initial velocity v0", "change"]
    assert (still == 0).all()
    assert changes.loc[changes["item"] == "queries that the oracle sorts", "change"].min() < 0


def test_changes_are_paired_with_our_choice(profile, pool):
    reading = Reading("cap", "free", "tiny", "uniform", {}, {"pool": pool.assign(length=10**6)})
    changes = sensitivity.sensitivity(profile, pool, [reading])
    base = sensitivity.run(profile, pool, policies=["uniform"])
    assert (changes["accuracy"] == 0).all() and changes["change"].tolist() == (-base["accuracy"]).tolist()


def test_movement_is_that_of_the_mean_and_of_the_worst_cell():
    reading = {"item": "x", "ours": "a", "other": "b", "policy": "clear", "scarcity": 0.2, "n": 500}
    seeds = {"stream_seed": [0, 0, 1, 1], "stream": ["balanced", "u-shaped"] * 2, "change": [0.1, -0.3, 0.11, -0.29]}
    (row,) = sensitivity.movement(pd.DataFrame(seeds).assign(**reading)).to_dict("records")
    assert row["change"] == pytest.approx(-0.095) and row["change_low"] < row["change"] < row["change_high"]
    assert (row["stream"], row["worst"], row["n"], row["seeds"]) == ("u-shaped", pytest.approx(-0.295), 500, 2)


def test_shares_that_a_pool_cannot_fill_are_left_out(profile, pool):
    def found(pool):
        return {r.other for r in sensitivity.open_items(profile, pool) if r.item == "shares of the streams"}

    one = pool[(pool["tier"] != "easy") | (pool.groupby("tier").cumcount() < 1)]  # questions may come again
    assert found(one) == {"first tier - 0.05", "first tier + 0.05", "rest in equal parts"}
    assert found(pool[pool["tier"] != "very hard"]) == set()
