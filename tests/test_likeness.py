"""Streams like the paper's: the share of solvable queries and the reach of a budget are its own."""

import numpy as np
import pandas as pd
import pytest

from clear_lib.study import experiments
from clear_lib.study.evidence import likeness
from clear_lib.study.setup import paper, profiles


@pytest.fixture(scope="module")
def profile():
    return profiles.load("paper-7b", stream_size=400, stream_seeds=4, reference_length=None)


@pytest.fixture(scope="module")
def pool():
    """Few are solvable, and solutions of a tier are all equally long."""
    rates = {"moderate": 0.3, "hard": 0.1, "very hard": 0.1}
    parts = [
        {"tier": tier, "correct": np.arange(200) < 200 * rate, "length": 400 * (k + 1)}
        for k, (tier, rate) in enumerate(rates.items())
    ]
    pool = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    return pool.assign(threshold=pool["length"].astype(float))


def test_no_mixture_has_more_solvable_queries_than_its_best_tier(profile, pool):
    table = likeness.solvable(profile, pool)
    assert table["most"].tolist() == pytest.approx([0.3] * 4)
    assert table.loc["balanced", "ours"] == pytest.approx(0.25 * 0.3 + 0.75 * 0.1)
    assert table.loc["mostly-easy", "paper"] == paper.TABLE_1["oracle"]["mostly-easy"][2048] / 100
    assert (table["odds"] > 1).all()  # of each tier the paper's model solves more


def test_a_budget_reaches_as_far_into_the_easiest_tier_as_the_papers(profile, pool):
    reach = np.array(likeness.scarcities(profile, pool)) * pool["length"].mean() / 400
    assert reach / np.array(paper.BUDGETS) == pytest.approx([1 / 388] * 4, rel=0.01)  # its first tier's median


def test_streams_have_the_papers_share_of_solvable_queries(profile, pool):
    results = likeness.run(profile, pool, {}, ["oracle"])
    solved = 100 * results[results["scarcity"] == results["scarcity"].max()].groupby("stream")["accuracy"].mean()
    for stream, share in paper.TABLE_1["oracle"].xs(2048, level="budget").items():
        assert solved[stream] == pytest.approx(share, abs=4)
    plain = experiments.run(profile, pool, policies=["oracle"], scarcities=[results["scarcity"].max()])
    assert solved["balanced"] > 100 * plain.loc[plain["stream"] == "balanced", "accuracy"].mean() + 5
