"""Tables: the paper's numbers in the right cells, and verdicts by their rule."""

import numpy as np
import pandas as pd
import pytest

from clear_lib import paper, profiles, tables
from clear_lib.policies import OF_THE_PAPER, POLICIES


def results(gain=0.1, spread=0.01):
    """Uniform solves 0.3, the others that and ``gain``, give or take ``spread`` between two streams."""
    rows = []
    for scarcity in (0.195, 1.56):
        for seed in (0, 1):
            for policy in OF_THE_PAPER:
                accuracy = 0.3 + (policy != "uniform") * (gain + spread * (2 * seed - 1))
                rows.append(("u-shaped", seed, scarcity, policy, accuracy, round(100 * scarcity), 500))
    columns = ["stream", "stream_seed", "scarcity", "policy", "accuracy", "budget_per_query", "n"]
    return pd.DataFrame(rows, columns=columns)


def test_the_papers_number_stands_beside_ours():
    table = tables.compare(results()).set_index(["scarcity", "policy"])
    row = table.loc[(0.195, "clear")]
    assert (row["paper"], row["paper_tokens"], row["tokens"]) == (18.6, 256, 20)
    assert row["ours"] == pytest.approx(40) and row["difference"] == pytest.approx(21.4)
    assert row["paper_gain"] == pytest.approx(14.2) and row["gain"] == pytest.approx(10)
    assert (row["n"], row["seeds"]) == (500, 2)
    assert table.loc[(1.56, "oracle-paper"), "paper"] == paper.TABLE_1["oracle"]["u-shaped"][2048]


@pytest.mark.parametrize(
    "gain, spread, verdict",
    [(0.1, 0.01, "same sign"), (-0.1, 0.01, "opposite sign"), (0.01, 0.1, "undecided"), (0.0, 0.0, "undecided")],
)
def test_the_verdict_is_about_the_paired_gain(gain, spread, verdict):
    table = tables.compare(results(gain, spread)).set_index(["scarcity", "policy"])
    assert table.loc[(0.195, "clear"), "verdict"] == verdict
    assert table.loc[(0.195, "uniform"), "verdict"] == "baseline"


def test_where_the_paper_has_no_gain_a_gain_is_not_the_same_sign():
    frame = results()
    frame["stream"] = "mostly-easy"
    table = tables.compare(frame).set_index(["scarcity", "policy"])
    assert table.loc[(1.56, "predictor"), ["paper_gain", "verdict"]].tolist() == [0, "opposite sign"]


def test_the_wide_table_keeps_the_papers_order():
    wide = tables.side_by_side(tables.compare(results()))
    assert wide.index.tolist() == [POLICIES[name].label for name in OF_THE_PAPER]
    assert wide.loc["CLEAR (Lambert)", ("U-Shaped", 256)] == "40.0 (18.6)"


def test_the_listing_has_the_columns_of_every_results_table():
    styler = tables.listing(tables.compare(results()), "u-shaped", profiles.load("smoke"))
    shown = styler.data
    assert [c for c in shown if c in ("paper", "ours", "difference", "interval", "n", "verdict")] == [
        "paper", "ours", "difference", "interval", "n", "verdict"
    ]  # fmt: skip
    assert shown.iloc[1][["paper", "ours", "n"]].tolist() == ["0.8", "40.0", "2 × 500"]
    assert "stand-in teacher" in styler.caption and "U-Shaped" in styler.caption
    assert tables.listing(tables.compare(results()), "balanced", profiles.load("smoke")).data.empty


def test_a_caption_speaks_of_intervals_only_where_there_are_some():
    smoke = profiles.load("smoke")
    assert "intervals" in tables.provenance(smoke)
    assert "intervals" not in tables.provenance(smoke, intervals=False)
    assert "stand-in teacher" in tables.provenance(smoke, intervals=False)


def test_gaps_are_shown_in_points_and_shares():
    table = pd.DataFrame(
        {
            "stream": "balanced", "scarcity": [0.195, 1.56], "policy": "clear-sequential", "gain": [0.02, 0.0],
            "gain_low": [-0.011, 0.0], "gain_high": [0.05, 0.0], "gap": [0.08, 0.0], "closed": [0.25, np.nan], "seeds": 8,
        }
    )  # fmt: skip
    shown = tables.gaps(table, "about").data
    assert shown.iloc[0].tolist() == ["Balanced", "0.20", "+2.0", "-1.1 to +5.0", "8.0", "25%", 8]
    assert shown.iloc[1].tolist()[-2] == "no gap"


def test_accuracies_stand_by_accounting_and_policy():
    table = pd.concat([results().assign(accounting=name) for name in ("caps", "refunds")])
    shown = tables.by_accounting(table, "about").data
    assert shown.index[0] == ("caps", "Uniform") and len(shown) == 2 * len(OF_THE_PAPER)
    assert shown.columns.tolist() == [("U-Shaped", "0.20"), ("U-Shaped", "1.56")]
    assert shown.loc[("refunds", "CLEAR (Lambert)"), ("U-Shaped", "0.20")] == pytest.approx(40)


def test_variants_are_set_beside_table_3():
    rows = [
        {"stream": "balanced", "stream_seed": seed, "scarcity": scarcity, "policy": policy, "value": value, "n": 500,
         "accuracy": accuracy + 0.001 * seed}
        for seed in range(3)
        for scarcity in (0.2, 0.8)
        for policy, value, accuracy in [
            ("uniform", np.nan, 0.1), ("clear", "surge", 0.3), ("clear", "triangular", 0.1), ("clear-exact", np.nan, 0.3),
        ]
    ]  # fmt: skip
    table = tables.variants(pd.DataFrame(rows)).set_index("variant")
    assert list(table.index) == ["uniform", "clear", "triangular", "clear-exact"]
    assert table["paper"].tolist()[:3] == [5.4, 19.4, 18.8] and np.isnan(table["paper"]["clear-exact"])
    assert table["ours"]["clear"] == pytest.approx(30.1)
    assert table["gain"]["clear"] == pytest.approx(20) and table["paper_gain"]["clear"] == 14
    assert table["verdict"].tolist() == ["baseline", "same sign", "undecided", "not in the paper"]
    shown = tables.variant_listing(table.reset_index(), profiles.load("tiny")).to_html()
    assert "Triangular (Lambert)" in shown and "CLEAR (exact)" in shown and "nan" not in shown


def test_tallies_count_cells_and_share_the_gap():
    closed = pd.DataFrame({"gain": [0.02, -0.01, 0.0], "gain_low": [0.01, -0.02, -0.1], "gain_high": [0.03, -0.005, 0.1]})
    closed = closed.assign(gap=[0.05, 0.05, 0.001], closed=[0.4, -0.2, np.nan])
    shown = tables.tallies({"ours": closed}, "caption").data.loc["ours"]
    assert shown.tolist() == [1, 1, 0, 1, "+0.5", "10%"]
