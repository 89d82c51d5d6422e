"""Tables: the paper's numbers and ours in the right cells."""

import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from clear_lib.allocation.policies import OF_THE_PAPER, POLICIES
from clear_lib.study.evidence import comparison
from clear_lib.study.pages import tables
from clear_lib.study.setup import paper, profiles

STUDY = paper.STUDIES["7b"]


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


def test_the_wide_table_keeps_the_papers_order():
    wide = tables.side_by_side(comparison.compare(results(), STUDY))
    assert wide.index.tolist() == [("U-Shaped", POLICIES[name].label) for name in OF_THE_PAPER]
    assert wide.loc[("U-Shaped", "CLEAR (Lambert)"), "20 (256)"] == "40.0 (18.6)"


def test_the_best_of_each_column_is_bold_oracles_aside():
    made = results()
    made.loc[made["policy"] == "clear", "accuracy"] += 0.05
    made.loc[made["policy"] == "oracle", "accuracy"] += 0.2
    page = BeautifulSoup(
        tables.captioned(tables.side_by_side(comparison.compare(made, STUDY)), "c").to_html(), "html.parser"
    )
    style = page.style.get_text()
    rules = re.findall(r"([^{}]*)\{\s*font-weight: bold;\s*\}", style)
    bold = {cell.get_text() for rule in rules for name in rule.split(",") for cell in page.select(name.strip())}
    assert len(rules) == 1 and {text.split()[0] for text in bold} == {"45.0"}


def test_a_caption_folds_what_follows_a_line_break_and_shows_it_as_text():
    page = BeautifulSoup(tables.captioned(pd.DataFrame({"a": [1]}), "Said.\nModel: <b>").to_html(), "html.parser")
    assert page.caption.details.get_text() == "How this was madeModel: <b>"
    assert "details" not in tables.captioned(pd.DataFrame({"a": [1]}), "Said.").to_html()


def test_words_stand_left_and_numbers_right():
    frame = pd.DataFrame(
        {"word": ["7B", "x"], "number": [1.5, np.nan], "interval": ["+1.0 to +2.5", ""], "n": "5 × 500"}
    )
    page = BeautifulSoup(tables.captioned(frame, "c").to_html(), "html.parser")
    left = re.findall(r"\.(col\d)\s*\{\s*text-align: left", page.style.get_text())
    assert left == ["col0"]


def test_every_table_of_results_ends_in_the_same_columns():
    compared = comparison.compare(results(), STUDY)
    rollouts = pd.DataFrame({"tier": ["easy", "hard"], "verdict": ["correct", "wrong"], "length": [10, 20]})
    made = {
        "accuracy": tables.beside_paper(compared, "c"),
        "at scale": tables.beside_paper(comparison.compare(results(), STUDY, at_scale=True), "c"),
        "data": tables.beside_paper(comparison.data(rollouts, paper.TABLE_6, "evaluation"), "c"),
        "settings": tables.beside_paper(comparison.settings(profiles.load("tiny")), "c"),
    }
    for name, styler in made.items():
        assert tuple(styler.data.columns[-6:]) == tables.SHAPE, name
        assert "nan" not in styler.to_html(), name


def test_accuracies_are_shown_with_budget_gain_and_interval():
    shown = tables.beside_paper(comparison.compare(results(spread=0.001), STUDY), "caption").data.iloc[1]
    assert shown.to_dict() == {
        "stream": "U-Shaped",
        "policy": "Predictor",
        "budget": "20 (256)",
        "gain (paper)": "+10.0 (-3.6)",
        "paper": "0.8",
        "ours": "40.0",
        "difference": "+39.2",
        "95% interval": "39.9 to 40.1",
        "n": "2 × 500",
        "verdict": "opposite sign",
    }


def test_data_show_whole_counts():
    rollouts = pd.DataFrame({"tier": ["easy", "hard"] * 30, "verdict": ["correct", "wrong"] * 30, "length": 20})
    shown = tables.beside_paper(comparison.data(rollouts, paper.TABLE_6, "evaluation"), "c").data.set_index(
        ["tier", "what"]
    )
    assert shown.loc[("all", "questions"), ["paper", "ours", "difference", "n"]].tolist() == [
        "1,547",
        "60",
        "-1,487",
        "60",
    ]
    assert shown.loc[("hard", "Pass@1 (%)"), ["paper", "ours"]].tolist() == ["15.0", "0.0"]


def test_movements_show_points_and_where():
    row = {"item": "ε", "ours": "32 tokens", "other": "64 tokens", "policy": "clear", "stream": "balanced"}
    row |= {"scarcity": 0.195, "seeds": 5, "n": 500, "change": 0.01, "change_low": -0.002, "change_high": 0.02}
    table = pd.DataFrame([row | {"worst": -0.1, "worst_low": -0.11, "worst_high": -0.09}])
    assert tables.movements(table, "c").data.iloc[0].tolist() == [
        "ε",
        "CLEAR (Lambert)",
        "32 tokens",
        "64 tokens",
        "+1.0 (-0.2 to +2.0)",
        "-10.0 (-11.0 to -9.0)",
        "Balanced 0.20",
        "5 × 500",
    ]


def test_gaps_are_shown_in_points_and_shares():
    table = pd.DataFrame({"stream": "balanced", "scarcity": [0.195, 1.56], "policy": "clear-sequential"})
    table = table.assign(gain=[0.02, 0.0], gain_low=[-0.011, 0.0], gain_high=[0.05, 0.0])
    table = table.assign(gap=[0.08, 0.0], closed=[0.25, np.nan], seeds=8)
    shown = tables.gaps(table, "about").data
    assert shown.iloc[0].tolist() == ["Balanced", "0.20", "+2.0", "-1.1 to +5.0", "8.0", "25%", 8]
    assert shown.iloc[1].tolist()[-2] == "no gap"


def test_accuracies_stand_by_accounting_and_policy():
    table = pd.concat([results().assign(accounting=name) for name in ("caps", "refunds")])
    shown = tables.by_accounting(table, "about").data
    assert shown.index[0] == ("U-Shaped", "Uniform") and len(shown) == len(OF_THE_PAPER)
    assert shown.columns.tolist() == [(name, cost) for name in ("caps", "refunds") for cost in ("0.20", "1.56")]
    assert shown.loc[("U-Shaped", "CLEAR (Lambert)"), ("refunds", "0.20")] == pytest.approx(40)


def test_tallies_count_cells_and_share_the_gap():
    closed = pd.DataFrame(
        {"gain": [0.02, -0.01, 0.0], "gain_low": [0.01, -0.02, -0.1], "gain_high": [0.03, -0.005, 0.1]}
    )
    closed = closed.assign(gap=[0.05, 0.05, 0.001], closed=[0.4, -0.2, np.nan])
    shown = tables.tallies({"ours": closed}, "caption").data.loc["ours"]
    assert shown.tolist() == [1, 1, 0, 1, "+0.5", "10%"]


def test_verifications_are_listed_model_by_model():
    run = {"questions": 50, "batch_size": 8, "seed": 0, "equal": 30, "lengths": 35, "apart": 40.5, "shift": -2.0}
    run |= {"verdicts": 3, "gained": 1, "replayed": 0.02}
    models = {"a": {"model": "x/Big-2B-GGUF", "verified": [run, run | {"batch_size": 96}]}, "b": {"model": "x/Y"}}
    table = tables.verification({"profiles": models})
    assert table["model"].tolist() == ["Big-2B"] * 2 and table["at once"].tolist() == [8, 96]
    columns = ["questions", "equal", "same length", "off by", "shift", "other verdict", "other outcome"]
    assert table.loc[0, columns].tolist() == [50, 30, 35, 40.5, -2.0, 3, 2.0]
    assert tables.verification({"profiles": {"b": {"model": "x/Y"}}}).empty
