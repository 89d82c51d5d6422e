"""Figures show what they are given: the numbers are read back from the marks."""

import matplotlib

matplotlib.use("Agg")

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.stages import Promise, Stages, index
from clear_lib.allocation.utility import Surge, Triangular
from clear_lib.study.pages import figures
from clear_lib.study.setup import profiles
from clear_lib.study.setup.streams import TIERS


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def legend(figure):
    """Texts of the legend of a figure."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_policy_and_tier_has_a_style_of_its_own():
    assert set(figures.STYLES) == {*POLICIES, *TIERS}
    for group in (POLICIES, TIERS):
        colors, markers, _ = zip(*(figures.STYLES[name] for name in group), strict=True)
        assert len(set(colors)) == len(set(markers)) == len(group), "nothing is told by colour alone"


def test_tiers_are_told_apart_by_those_who_see_no_red_or_no_green():
    """Machado's matrices for full deuteranopia and protanopia; a distance of 25 in CIELAB is plain to see."""
    seen = {
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }
    rgb = np.array([to_rgb(figures.STYLES[tier][0]) for tier in TIERS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for name, matrix in seen.items():
        shades = [lab(np.clip(np.array(matrix) @ color, 0, 1)) for color in linear]
        assert min(np.linalg.norm(a - b) for a, b in combinations(shades, 2)) > 25, name


def lab(linear):
    """CIELAB of a linear sRGB colour under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_figures_are_as_wide_as_the_page_and_set_in_9_points(monkeypatch):
    monkeypatch.setattr("matplotlib.rcParams", matplotlib.rcParams.copy())
    figures.use_style()
    table = pd.DataFrame({"budget_per_query": [1, 2], "price": [0.2, 0.1], "abandoned": [1, 0], "granted": [5, 6]})
    figure = figures.regimes({"fixed": table})
    figure.draw_without_rendering()
    assert figure.get_figwidth() * 96 == pytest.approx(688)
    sizes = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
    assert sizes == {9}


def test_predicted_against_true():
    frame = pd.DataFrame({"tier": ["easy", "hard"], "length": [10, 100], "threshold": [20.0, 50.0]})
    figure = figures.predicted_against_true(frame, {"in": ["easy"], "out": ["hard", "very hard"]})
    assert [ax.get_title() for ax in figure.axes] == ["in", "out"]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[100, 50]]
    assert legend(figure) == ["easy", "hard", "very hard"]


def test_stream_composition_fills_every_bar():
    shares = pd.DataFrame(profiles.load("tiny").stream_shares, index=TIERS).T
    ax = figures.stream_composition(shares).axes[0]
    widths = np.array([bar.get_width() for bar in ax.patches]).reshape(shares.T.shape)
    np.testing.assert_allclose(widths.T, 100 * shares)
    assert [bar.get_x() for bar in ax.patches][len(shares) :: len(shares)] == list(100 * shares.iloc[0].cumsum()[:-1])


def test_who_gets_what_shows_every_query_once():
    queries = pd.DataFrame(
        {"length": [30, 10, 20], "correct": True, "granted": [0, 15, 15], "solved": [False, True, False]}
    )
    figure = figures.who_gets_what({"clear": queries, "uniform": queries})
    abandoned, short, solved = (marks.get_offsets().tolist() for marks in figure.axes[0].collections)
    assert (abandoned, short, solved) == ([[2, 0]], [[1, 15]], [[0, 15]])
    assert figure.axes[0].lines[0].get_ydata().tolist() == [10, 20, 30]
    assert sum(ax.get_visible() for ax in figure.axes) == 2


def test_who_gets_what_can_show_what_was_used():
    queries = pd.DataFrame({"length": [30, 10], "granted": [20, 15], "used": [20, 10], "solved": [False, True]})
    figure = figures.who_gets_what({"clear": queries}, "used")
    assert [marks.get_offsets().tolist() for marks in figure.axes[0].collections] == [[], [[1, 20]], [[0, 10]]]
    assert figure.axes[0].get_ylabel() == "tokens used"


def test_promises_shows_prices_and_the_corners_of_the_hull():
    promised = Promise(np.array([[0, 10, 20, 40]]), np.array([[0.9, 0.5, 0.1, 0.0]]), np.array([[30.0, 20, 12, 0]]))
    staged = Stages(np.array([[10, 20, 40]]), np.array([[0.04, 0.04, 0.01]]))
    figure = figures.promises({"one": (promised, index(promised), staged)})
    left, right = figure.axes
    assert left.lines[1].get_xydata().tolist() == [[0, 0.04], [10, 0.04], [20, 0.01]]
    bill, cap = right.lines
    assert bill.get_xdata().tolist() == [0, 10, 18, 30] and cap.get_xdata().tolist() == [0, 10, 20, 40]
    assert bill.get_xdata()[bill.get_markevery()].tolist() == [18, 30]  # stop there, or begin the next stage


def test_price_over_time_has_the_price_of_the_batch():
    figure = figures.price_over_time({"a": np.array([1.0, 2]), "b": np.array([3.0, 2])}, 2.5)
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [1, 3, 2.5]
    assert legend(figure) == ["a", "b", "as one batch"]


def test_by_tier_draws_per_cent():
    rows = [("balanced", "clear", tier, 0.1 * i, 0.1 * i, 0.1 * i + 0.05) for i, tier in enumerate(TIERS)]
    table = pd.DataFrame(rows, columns=["stream", "policy", "tier", "lost", "lost_low", "lost_high"])
    figure = figures.by_tier(table, "lost", "lost (%)")
    drawn = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert drawn == pytest.approx([0, 10, 20, 30])
    assert legend(figure) == list(TIERS)


def test_granted_and_used():
    table = pd.DataFrame(
        {"scarcity": [0.2, 0.4], "policy": "clear", "budget_per_query": [20, 40], "granted": [20, 39], "used": [9, 12]}
    )
    figure = figures.granted_and_used(table)
    assert [ax.get_title() for ax in figure.axes] == ["B̄ = 20", "B̄ = 40"]
    assert [[line.get_xdata()[0] for line in ax.lines[:2]] for ax in figure.axes] == [[20, 9], [39, 12]]


def test_pareto_orders_by_cost():
    table = pd.DataFrame({"stream": "balanced", "policy": "clear", "granted": [64.0, 16.0], "accuracy": [0.5, 0.2]})
    table = table.assign(accuracy_low=[0.4, 0.1], accuracy_high=[0.6, 0.3])
    line = figures.pareto(table, "granted", "tokens").axes[0].lines[0]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([16, 64], [20, 50])


def test_gains_draw_ours_and_the_papers():
    table = pd.DataFrame({"stream": "balanced", "policy": "clear", "scarcity": [0.195, 0.39], "gain": [3.0, 1.0]})
    table = table.assign(gain_low=[2.0, 0.0], gain_high=[4.0, 2.0], paper_gain=[11.6, 4.0])
    figure = figures.gains(table, ["clear"])
    zero, ours, theirs = (list(line.get_ydata()) for line in figure.axes[0].lines)
    assert (zero, ours, theirs) == ([0, 0], [3, 1], [11.6, 4.0])
    assert legend(figure) == ["CLEAR (Lambert), ours", "CLEAR (Lambert), paper"]


def test_reliability_shows_shares_against_chances():
    table = pd.DataFrame({"chance": [0.2, 0.8], "share": [0.1, 0.9], "low": [0.0, 0.8], "high": [0.2, 1.0]})
    figure = figures.calibration_curves({"in": table, "out": table})
    assert [ax.get_title() for ax in figure.axes] == ["in", "out"]
    assert figure.axes[1].lines[1].get_xydata().tolist() == [[0.2, 0.1], [0.8, 0.9]]


def test_a_sweep_has_a_panel_a_budget_and_a_line_a_policy_or_stream():
    rows = [(s, p, v, 0.1 * v) for s in (0.2, 0.4) for p in ("clear", "uniform") for v in (4.0, 1.0)]
    table = pd.DataFrame(rows, columns=["scarcity", "policy", "value", "accuracy"])
    table = table.assign(accuracy_low=0.0, accuracy_high=1.0)
    figure = figures.sweep(table, "noise")
    assert len(figure.axes) == 2
    assert figure.axes[1].lines[0].get_xydata() == pytest.approx(np.array([[1, 10], [4, 40]]))
    assert legend(figure) == ["CLEAR (Lambert)", "Uniform"]
    table = table.drop(columns="policy").assign(stream="balanced", value=table["value"] - 1)
    level = pd.DataFrame({"scarcity": [0.2, 0.4], "stream": "balanced", "accuracy": [0.5, 0.6]})
    figure = figures.sweep(table, "noise", level, "adaptive")
    assert figure.axes[1].lines[1].get_ydata() == pytest.approx([60, 60])
    assert legend(figure) == ["Balanced", "adaptive"] and figure.axes[0].get_xscale() == "linear"


def test_velocity_shows_accuracy_and_price():
    table = pd.DataFrame({"stream": "balanced", "value": [2.0, 1.0], "accuracy": 0.3, "price": [0.2, 0.1]})
    left, right = figures.velocity(table).axes
    assert left.lines[0].get_ydata() == pytest.approx([30, 30])
    assert right.lines[0].get_ydata() == pytest.approx([0.1, 0.2])


def test_gains_by_name_have_a_panel_a_stream():
    table = pd.DataFrame({"stream": ["balanced", "u-shaped"], "scarcity": 0.2, "name": "best", "gain": [0.01, -0.02]})
    figure = figures.paired_gains(table.assign(gain_low=-0.1, gain_high=0.1))
    assert [float(ax.lines[1].get_ydata()[0]) for ax in figure.axes] == pytest.approx([1, -2])
    assert legend(figure) == ["best"]


def test_demand_curve_has_the_budget_and_the_exits_in_sight():
    ax = figures.demand_curve(np.array([0.1, 0.2, 0.3]), np.array([30, 20, 0]), 15, exits=[0.25, 0.9]).axes[0]
    dots, budget = ax.lines
    assert dots.get_ydata().tolist() == [30, 20, 0] and set(budget.get_ydata()) == {15}
    assert [path[0, 0] for path in ax.collections[0].get_segments()] == [0.25]


def test_dual_curve_and_its_levels():
    levels = {"optimum": 6.5, "Algorithm 1": 5}
    figure = figures.dual_curve(np.array([1, 2, 3]), np.array([9, 7, 8]), (2, 7), levels)
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [9, 7, 6.5, 5]
    assert legend(figure) == ["dual bound g(λ)", "optimum", "Algorithm 1"]


def test_by_size_has_a_line_a_column():
    ax = figures.by_size(pd.DataFrame({"gap": [0.1, 0.01]}, index=[10, 100]), "share").axes[0]
    assert ax.lines[0].get_xydata().tolist() == [[10, 0.1], [100, 0.01]] and ax.get_xscale() == "log"


def test_regimes_has_a_line_a_table_and_the_borders():
    table = pd.DataFrame({"budget_per_query": [1, 2], "price": [0.2, 0.1], "abandoned": [1, 0], "granted": [5, 6]})
    axes = figures.regimes({"fixed": table, "adaptive": table}, borders=[1.5]).axes
    assert [ax.lines[1].get_ydata().tolist() for ax in axes] == [[0.2, 0.1], [1, 0], [5, 6]]
    assert [ax.lines[2].get_xdata()[0] for ax in axes] == [1.5] * 3


def test_curves_shows_values_and_responses():
    surge = Surge(2.0, 0.01)
    left, right = figures.utilities({"surge": surge, "tent": Triangular.like(surge)}).axes
    surges, values = left.lines[1].get_data()
    assert values == pytest.approx(Triangular.like(surge).value(surges))
    assert right.lines[0].get_ydata()[0] == pytest.approx(100) and right.lines[0].get_ydata()[-1] == 0
