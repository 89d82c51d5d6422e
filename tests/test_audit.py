"""The audit: its arithmetic on small cases, its bound against real oracles, and its findings on the paper's tables."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib.allocation.policies import allocate
from clear_lib.allocation.problem import Truth
from clear_lib.study.evidence import audit
from clear_lib.study.setup import paper


def printed(*tables):
    return np.concatenate([table.to_numpy().ravel() for table in tables])


# ---- arithmetic -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "n", "fine"), [(0.0, 7, True), (14.3, 7, True), (14.2, 7, False), (0.2, 500, True), (0.1, 500, False)]
)
def test_a_percentage_is_a_count_or_is_not(value, n, fine):
    assert audit.fits(value, n) is fine


@given(st.integers(1, 700), st.data())
def test_the_true_size_always_fits(n, data):
    counts = data.draw(st.lists(st.integers(0, n), min_size=1, max_size=8))
    assert n in audit.sizes_that_fit([round(100 * count / n, 1) for count in counts], most=n)


def test_fewest_runs():
    assert audit.runs_needed(50.0, 3) == 2 and audit.runs_needed(33.3, 3) == 1
    assert audit.runs_needed(0.1, 3, most=5) is None


def test_the_most_within_a_cap_is_reached_by_two_lengths():
    sets = paper.TABLE_7.tail(2).assign(pass_at_1=100.0, mean_length=[700, 50])
    table = audit.most_solved_within(sets, longest=1000, budget=100)
    share = table["most"][0] / 100
    assert share * 100 + (1 - share) * 1000 == pytest.approx(700)
    assert table["most"][1] == 100


# ---- the bound on an oracle -------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=40),
    st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True),
    st.integers(0, 800),
)
def test_no_true_oracle_buys_less_than_the_bound(queries, caps, budget):
    lengths, correct = (np.array(column) for column in zip(*queries, strict=True))
    counts = {cap: int((correct & (lengths <= cap)).sum()) for cap in caps}
    bought = allocate(lengths, budget, "oracle", truth=Truth(lengths, correct)).active.sum()
    assert audit.least_bought(counts, budget) <= bought
    assert audit.least_bought(counts, budget, (int(correct.sum()), 60)) <= bought
    assert audit.least_bought(counts, budget) <= audit.least_bought(counts, budget, (int(correct.sum()), 60))


def test_the_bound_buys_at_the_upper_ends():
    assert audit.least_bought({10: 2, 20: 3}, 45) == 3  # 10 + 10 + 20
    assert audit.least_bought({10: 2, 20: 3}, 39) == 2
    assert audit.least_bought({10: 2}, 100, (4, 30)) == 4  # 10 + 10 + 30 + 30
    with pytest.raises(ValueError, match="cap of 20 tokens 1 queries"):
        audit.least_bought({10: 2, 20: 1}, 45)


def test_the_reported_oracle_is_below_the_bound():
    alone = audit.oracle_bounds(paper.TABLE_1, paper.STREAM_SIZE).query("short > 0")
    assert len(alone) == 5
    assert set(alone["budget"]) == {256, 512} and (alone["budget"] == 256).sum() == 4
    assert alone.iloc[0][["stream", "reported", "bound"]].tolist() == ["balanced", 19.0, pytest.approx(21.6)]
    more = audit.oracle_bounds(paper.TABLE_1, paper.STREAM_SIZE, paper.TABLE_5.max_new_tokens_7b)
    assert (more["short"] > 0).sum() == 11
    assert more.iloc[0]["bound"] == pytest.approx(22.2)


# ---- findings on the paper's tables -----------------------------------------------------------------------------


def test_500_is_the_smallest_stream_that_the_accuracies_allow():
    assert audit.sizes_that_fit(printed(paper.TABLE_1, paper.TABLE_4))[0] == paper.STREAM_SIZE


def test_gains_and_ratios():
    for table, row in ((paper.TABLE_1, paper.TABLE_1_GAIN), (paper.TABLE_4, paper.TABLE_4_GAIN)):
        found = audit.gains(table, row)
        assert (found["printed"] - found["recomputed"]).abs().max() < 1e-9
    ratios = audit.gains(paper.TABLE_1, paper.TABLE_1_GAIN).query("budget == 256")["ratio"]
    assert (round(ratios.min(), 1), round(ratios.max(), 1)) == (3.7, 6.2)


def test_where_clear_is_not_the_best():
    found = audit.better_than_clear(paper.TABLE_1)[["stream", "budget", "policy"]]
    assert sorted(map(tuple, found.to_numpy())) == [
        ("balanced", 512, "clear-heuristic"),
        ("mostly-hard", 512, "clear-heuristic"),
        ("mostly-hard", 1024, "tale-ep"),
        ("u-shaped", 2048, "tale-ep"),
    ]
    large = audit.better_than_clear(paper.TABLE_4)
    assert (large.query("budget == 4096")["policy"] == "predictor").sum() == 4


def test_rows_that_coincide():
    table = audit.coincidences(paper.TABLE_1).set_index(["first", "second"])
    assert table.loc[("predictor", "clear-heuristic")].tolist() == [0, 0, 4, 4]
    assert table.loc[("predictor", "clear")].tolist() == [0, 0, 2, 4]


def test_the_share_trained_on_is_that_of_sets_whose_test_split_is_in_the_training_rows():
    totals = paper.TABLE_6.query("use == 'evaluation'").set_index("name")["total"]
    assert audit.share_trained_on(paper.TABLE_6) == totals["MATH 500"] / totals.sum()
    apart = paper.TABLE_6["total"].where(paper.TABLE_6["name"] != "MATH", 7500)
    assert audit.share_trained_on(paper.TABLE_6.assign(total=apart)) == 0


def test_the_data_sets():
    rows = audit.pass_rates(pd.concat([paper.TABLE_6, paper.TABLE_7]))
    assert rows.loc[~rows["agrees"], "name"].tolist() == ["GSM8K"]
    assert audit.split_sizes(paper.TABLE_6)["equals"].tolist() == ["test", "train and test"]
    assert audit.split_sizes(paper.TABLE_7)["equals"].tolist() == ["80% of test", "train and test"]


def test_the_30b_mean_lengths_leave_too_few_short_solutions():
    most = audit.most_solved_within(paper.TABLE_7, paper.TABLE_5.max_new_tokens_30b, 1024)["most"].max()
    assert most == pytest.approx(42.3, abs=0.05) and most < paper.TABLE_4["uniform"]["mostly-easy"][1024]
    assert audit.tail_probability(46.6, most, paper.STREAM_SIZE) < 0.05


def test_the_overlap_is_counted_set_by_set():
    evaluation = pd.DataFrame({"dataset": ["a", "a", "b"], "question": ["What is  1 + 1?", "And 2?", "x"]})
    found = audit.overlap(evaluation, pd.DataFrame({"question": ["what is 1+1?", "y"]}))
    assert found.to_dict("list") == {"set": ["a", "b"], "questions": [2, 1], "shared": [1, 0], "share": [50.0, 0.0]}
