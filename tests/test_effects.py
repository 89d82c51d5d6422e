"""Effects: their intervals cover what they should, pairs are pairs, and no constant is chosen on its own stream."""

import numpy as np
import pandas as pd
import pytest

from clear_lib.study import figures, tables
from clear_lib.study.experiments import effects
from clear_lib.study.setup import streams

CELL = {"stream": "balanced", "scarcity": 1.0}


def results(draws, policy="clear", **cell):
    """A policy's accuracies, one a draw."""
    rows = {"policy": policy, "stream_seed": range(len(draws)), "accuracy": draws}
    return pd.DataFrame(CELL | cell | rows)


def test_the_two_level_interval_covers_the_true_mean_and_a_bootstrap_of_streams_alone_does_not():
    rng, true, pool, n, draws = np.random.default_rng(0), 0.1, 120, 100, 20
    covered = {True: 0, False: 0}
    tiers, shares = ["hard"] * pool, (0, 0, 1, 0)
    for trial in range(150):
        gain = rng.choice([-1, 0, 1], pool, p=[0.2, 0.5, 0.3])  # of each question: solved by one policy, or the other
        for resample in covered:
            rows = [streams.draw(tiers, shares, n, 1000 * trial + seed, resample=resample) for seed in range(draws)]
            _, low, high = effects.of_draws([gain[each].mean() for each in rows])
            covered[resample] += low <= true <= high
    assert covered[True] >= 0.91 * 150
    assert covered[False] < 0.75 * 150


def test_a_resampled_stream_keeps_its_composition_and_shares_its_questions_with_the_other_streams():
    tiers = ["easy"] * 30 + ["hard"] * 10
    one = streams.draw(tiers, (0.5, 0, 0.5, 0), 40, seed=1, resample=True)
    assert (one < 30).sum() == 20 and len(set(one[one >= 30])) < 10  # more than the ten there are: some come again
    other = streams.draw(tiers, (0.5, 0, 0.5, 0), 40, seed=2, resample=True)
    more = streams.draw(tiers, (1, 0, 0, 0), 20, seed=1, resample=True)
    assert set(more) == set(one[one < 30]) != set(other[other < 30])
    rare = streams.draw(tiers, (1, 0, 0, 0), 20, seed=1, resample=True, weights=[1] + [0] * 39)
    assert set(rare) == {0}


def test_effects_are_of_pairs_whatever_the_order_of_the_rows():
    clear, uniform = results([0.5, 0.9, 0.7]), results([0.4, 0.8, 0.6], "uniform")
    found = effects.mean_effect(pd.concat([clear, uniform[::-1]]), "clear", "uniform")
    assert found == pytest.approx((0.1, 0.1, 0.1, 1.0, 1))
    assert effects.mean_effect(clear, "clear", uniform.assign(policy="any")).effect == pytest.approx(0.1)
    with pytest.raises(ValueError, match="the baseline has no row for 1 of 3"):
        effects.mean_effect(clear, "clear", uniform[:2])
    with pytest.raises(ValueError, match="several rows for one stream"):
        effects.mean_effect(pd.concat([clear, clear]), "clear", uniform)
    with pytest.raises(ValueError, match="oracle has no rows"):
        effects.mean_effect(clear, "oracle", "clear")


def test_cells_are_averaged_draw_by_draw_and_counted():
    rows = [results([0.2, 0.3]), results([0.1, 0.0], scarcity=2.0)]
    base = [results([0.1, 0.1], "uniform"), results([0.2, 0.2], "uniform", scarcity=2.0)]
    found = effects.mean_effect(pd.concat(rows + base), "clear", "uniform")
    assert found.share_of_cells_above == 0.5 and found.cells == 2
    assert found.effect == found.low == found.high == pytest.approx(0)  # the cells' luck cancels within a draw
    table = effects.paired_effects(pd.concat(rows + base), "clear", "uniform", by=["scarcity"])
    assert table["effect"].tolist() == pytest.approx([0.15, -0.15]) and table["n"].tolist() == [2, 2]
    assert (table["low"] < table["effect"]).all() and (table["p_holm"] >= table["p"]).all()


def test_holm_is_stepwise_keeps_the_order_and_ends_at_one():
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.holm([0.6, 0.9]).tolist() == [1, 1]
    assert effects.p_value([0.1, 0.1]) == 0 and effects.p_value([0, 0]) == 1 and effects.p_value([-1, 1]) == 1


def swept(better):
    """Accuracies of two constants on three streams."""
    rows = [
        (stream, 0.2, "clear", 0, constant, value)
        for stream, pair in better.items()
        for constant, value in zip(("small", "large"), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["stream", "scarcity", "policy", "stream_seed", "constant", "accuracy"])


def test_a_constant_is_chosen_without_its_own_stream():
    table = swept({"a": (0.9, 0.1), "b": (0.2, 0.3), "c": (0.2, 0.3)})
    kept = effects.leave_one_out(table).set_index("stream")
    assert kept["constant"].to_dict() == {"a": "large", "b": "small", "c": "small"}
    own = table["stream"] == "a"
    shuffled = table.assign(accuracy=np.where(own, 1 - table["accuracy"], table["accuracy"]))
    assert effects.leave_one_out(shuffled).set_index("stream").loc["a", "constant"] == "large"
    with pytest.raises(ValueError, match="no other stream"):
        effects.leave_one_out(table[own])


def test_effects_are_shown_in_points_with_the_cells_above_zero():
    found = effects.MeanEffect(0.0123, -0.01, 0.03, 0.5, 16)
    table = pd.DataFrame([("clear", *found)], columns=["policy", *found._fields])
    row = tables.effects(table, "said").data.iloc[0]
    assert row.tolist() == ["CLEAR (Lambert)", "+1.2", "-1.0 to +3.0", "8 of 16"]
    assert found.points == pytest.approx({"mean": 1.23, "low": -1, "high": 3})
    assert found.word("above", "below", "unclear") == "unclear"


def test_the_frontier_draws_every_policy_and_marks_the_papers_budgets():
    rows = [results([0.2, 0.3]), results([0.1, 0.1], scarcity=2.0), results([0.1, 0.1], "uniform")]
    rows.append(results([0.2, 0.2], "uniform", scarcity=2.0))
    gain = effects.paired_effects(pd.concat(rows), "clear", "uniform").assign(policy="clear")
    ax = figures.frontier(gain, [2.0]).axes[0]
    drawn = {tuple(np.round(line.get_ydata(), 6)) for line in ax.get_lines()}
    assert (15.0, -10.0) in drawn and [line.get_xdata()[0] for line in ax.get_lines()].count(2.0) == 1


def test_one_draw_has_its_value_for_an_effect_and_none_has_no_effect():
    assert effects.of_draws([0.0]) == (0.0, 0.0, 0.0)
    assert np.isnan(effects.of_draws([])).all()
