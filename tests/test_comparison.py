"""Our numbers beside the paper's: the right cells, and verdicts by their rule."""

import numpy as np
import pandas as pd
import pytest
from test_tables import STUDY, results

from clear_lib.study.evidence import comparison
from clear_lib.study.setup import paper, profiles


def test_the_papers_number_stands_beside_ours():
    table = comparison.compare(results(), STUDY).set_index(["scarcity", "policy"])
    row = table.loc[(0.195, "clear")]
    assert (row["paper"], row["paper_tokens"], row["tokens"]) == (18.6, 256, 20)
    assert row["ours"] == pytest.approx(40) and row["difference"] == pytest.approx(21.4)
    assert row["paper_gain"] == pytest.approx(14.2) and row["gain"] == pytest.approx(10)
    assert (row["n"], row["seeds"]) == (500, 2)
    assert table.loc[(1.56, "oracle-paper"), "paper"] == paper.TABLE_1["oracle"]["u-shaped"][2048]


@pytest.mark.parametrize(
    "gain, spread, verdict",
    [(0.1, 0.001, "same sign"), (-0.1, 0.001, "opposite sign"), (0.01, 0.1, "undecided"), (0.0, 0.0, "undecided")],
)
def test_the_verdict_is_about_the_paired_gain(gain, spread, verdict):
    table = comparison.compare(results(gain, spread), STUDY).set_index(["scarcity", "policy"])
    assert table.loc[(0.195, "clear"), "verdict"] == verdict
    assert table.loc[(0.195, "uniform"), "verdict"] == "baseline"


def test_where_the_paper_has_no_gain_there_is_no_sign_to_compare():
    table = comparison.compare(results(spread=0.001).assign(stream="mostly-easy"), STUDY).set_index(
        ["scarcity", "policy"]
    )
    assert table.loc[(1.56, "predictor"), ["paper_gain", "verdict"]].tolist() == [0, comparison.NO_GAIN]


def test_at_scale_the_verdict_is_about_the_number():
    near = results().assign(accuracy=lambda rows: np.where(rows["stream_seed"] == 0, 0.15, 0.21))
    table = comparison.compare(near, STUDY, at_scale=True).set_index(["scarcity", "policy"])["verdict"]
    assert table[0.195, "clear"] == "inside" and table[0.195, "uniform"] == "paper lower"
    assert table[0.195, "oracle-paper"] == "paper higher"
    other = comparison.compare(near.assign(policy="clear-exact"), STUDY, at_scale=True)
    assert set(other["verdict"]) == {"not in the paper"} and other["gain"].isna().all()


def test_as_many_budgets_as_printed_are_those_in_order():
    frame = results().assign(scarcity=lambda rows: rows["scarcity"].replace({0.195: 0.5, 1.56: 2.0}))
    table = comparison.compare(frame, paper.STUDIES["30b"]).set_index(["scarcity", "policy"])
    assert table["paper_tokens"].unique().tolist() == [1024, 4096]
    assert table.loc[(2.0, "oracle"), "paper"] == paper.TABLE_4["oracle"]["u-shaped"][4096]


def test_variants_are_set_beside_table_3():
    rows = [
        {
            "stream": "balanced",
            "stream_seed": seed,
            "scarcity": 0.2,
            "policy": policy,
            "value": value,
            "n": 500,
            "accuracy": accuracy + 0.001 * seed,
            "budget_per_query": 10,
        }
        for seed in range(3)
        for policy, value, accuracy in [
            ("uniform", np.nan, 0.1),
            ("clear", "surge", 0.3),
            ("clear", "triangular", 0.1),
            ("clear-exact", np.nan, 0.3),
        ]
    ]
    table = comparison.compare(pd.DataFrame(rows), STUDY, paper.TABLE_3).set_index("policy")
    assert list(table.index) == ["uniform", "clear", "triangular", "clear-exact"]
    assert table["paper"].tolist()[:3] == [5.4, 19.4, 18.8] and np.isnan(table["paper"]["clear-exact"])
    assert table["ours"]["clear"] == pytest.approx(30.1)
    assert table["gain"]["clear"] == pytest.approx(20) and table["paper_gain"]["clear"] == 14
    assert table["verdict"].tolist() == ["baseline", "same sign", "undecided", "not in the paper"]


def test_data_by_tier():
    rollouts = pd.DataFrame(
        {
            "tier": ["moderate"] * 100 + ["easy"] * 4,
            "verdict": ["correct"] * 75 + ["wrong"] * 25 + ["correct"] * 4,
            "length": [1000, 1200] * 50 + [10] * 4,
        }
    )
    table = comparison.data(rollouts, paper.TABLE_6, "evaluation").set_index(["tier", "what"])
    assert list(dict.fromkeys(tier for tier, _ in table.index)) == ["easy", "moderate", "hard", "very hard", "all"]
    share = table.loc[("moderate", "Pass@1 (%)")]
    assert share["paper"] == pytest.approx(70.8) and share["ours"] == 75 and share["verdict"] == "inside"
    assert 65 < share["low"] < 70 < share["high"] < 83
    length = table.loc[("moderate", "mean length (tokens)")]
    assert (length["paper"], length["ours"], length["n"]) == (1074, 1100, 100)
    assert (length["low"], length["high"]) == pytest.approx((1100 - 19.7, 1100 + 19.7), abs=0.1)
    assert length["verdict"] == "paper lower"
    assert table.loc[("easy", "Pass@1 (%)"), "verdict"] == "not in the paper"
    assert table.loc[("hard", "Pass@1 (%)"), "verdict"] == "" and table.loc[("hard", "questions"), "paper"] == 715
    assert table.loc[("all", "mean length (tokens)"), "paper"] == pytest.approx(paper.REFERENCE_LENGTH)


def test_data_by_set_where_the_sets_are_the_papers():
    rollouts = pd.DataFrame(
        {
            "dataset": ["MATH 500"] * 4 + ["AIME 2024"] * 2 + ["MINE"],
            "tier": ["moderate"] * 4 + ["very hard"] * 3,
            "verdict": ["correct"] * 3 + ["wrong"] * 4,
            "length": [100, 300] * 3 + [10],
        }
    )
    table = comparison.data(rollouts, paper.TABLE_7, "evaluation").set_index(["set", "what"])
    assert list(dict.fromkeys(name for name, _ in table.index)) == [
        "MATH 500",
        "OlympiadBench",
        "AMC-23",
        "AIME 2024",
        "AIME 2025",
        "Minerva",
        "MINE",
        "all",
    ]
    share = table.loc[("MATH 500", "Pass@1 (%)")]
    assert (share["paper"], share["ours"], share["n"], share["verdict"]) == (57.6, 75, 4, "inside")
    assert table.loc[("AIME 2024", "mean length (tokens)"), ["paper", "ours"]].tolist() == [14428, 200]
    assert np.isnan(table.loc[("OlympiadBench", "questions"), "ours"])
    assert table.loc[("MINE", "Pass@1 (%)"), "verdict"] == "not in the paper"
    assert table.loc[("all", "questions"), ["paper", "ours"]].tolist() == [1547, 7]
    lessons = rollouts.assign(dataset="GSM8K", tier="easy")
    assert comparison.data(lessons, paper.TABLE_6, "predictor")["set"].unique().tolist() == ["GSM8K", "MATH", "all"]


def test_settings_stand_beside_table_5():
    shown = comparison.settings(profiles.load("tiny")).set_index("setting")
    assert shown.loc["most new tokens", ["paper", "ours", "verdict"]].tolist() == ["8,192", "768", "differs"]
    assert shown.loc["halvings of the bisection", "verdict"] == shown.loc["queries of a stream", "verdict"] == "same"
    assert shown.loc["most tokens of a question", "ours"] == "512" and shown.loc["epochs", "ours"] == "30"
    theirs = comparison.settings(profiles.load("paper-7b")).set_index("setting")["verdict"]
    assert (theirs[["model", "predictor", "learning rate", "epochs"]] == "same").all()
    large = comparison.settings(profiles.load("tiny", model="Qwen3-30B-A3B", engine="none")).set_index("setting")
    assert large.loc["most new tokens", "paper"] == "16,384" and large.loc["decoding", "ours"] == "as recorded"


def test_settings_of_a_recorded_profile_say_what_was_recorded():
    recorded = profiles.load("qwen-1.5b", engine="none", recorded={"evaluation": [80, 1547], "predictor": [60, 2500]})
    ours = comparison.settings(recorded).set_index("setting")["ours"]
    assert ours["model"] == recorded.label and ours["weights"] == "4-bit, computed with in bfloat16"
    assert (ours["decoding"], ours["most new tokens"]) == ("greedy", "2,048")
    assert ours["predictor"] == recorded.predictor.label and "60 of 2,500" in ours["it learns from"]
    assert "80 of 1,547" in ours["evaluation"]
