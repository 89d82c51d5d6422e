"""The page of Table 2: what is recorded, tables beside the paper's, sentences, and all of it where nothing is there."""

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.study.code import protocol, shipping
from clear_lib.study.exercises import check
from clear_lib.study.pages import programs, tables
from clear_lib.study.setup import paper, profiles

CHAPTER = nbformat.read(Path(__file__).parents[2] / "notebooks" / "20_table_2.ipynb", as_version=4)
PROFILE = profiles.load("qwen-0.5b")
N, K = 40, 8


def pool_of(dataset, seed=0):
    """Tasks whose long programs are seldom right, and whose right ones sometimes fail the plus tests."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(5.0, 0.7, N)
    lengths = np.clip(np.exp(middle[:, None] + rng.normal(0, 0.3, (N, K))), 1, 1024).astype(int)
    solvable = 1 / (1 + np.exp(2 * (middle - 5)))
    base = rng.random((N, K)) < solvable[:, None]
    ids = np.array([f"{dataset}/{n}" for n in range(N)], dtype=object)
    forecasts = Forecasts(np.exp(middle), spread=np.full(N, 0.3), solvable=solvable)
    return protocol.Pool(dataset, ids, forecasts, lengths, base, base & (rng.random((N, K)) < 0.8), 1024)


@pytest.fixture(scope="module")
def pools():
    """One model has both sets, the other only one."""
    return {"0.5B": [pool_of("HumanEval"), pool_of("MBPP+", 1)], "1.5B": [pool_of("HumanEval", 2)]}


@pytest.fixture(scope="module")
def results(pools):
    return {name: protocol.run(PROFILE, each, scarcities=(0.5, 2.0)) for name, each in pools.items()}


@pytest.fixture(scope="module")
def gains(results):
    return {name: protocol.gains(table) for name, table in results.items()}


@pytest.fixture
def shipped(monkeypatch):
    """Greedy programs of one set, and samples of it of which one task lacks the last."""
    named = np.array(["wrong", "correct"])

    def read(profile, kinds, folder=None):
        rows = [pd.DataFrame(columns=[*shipping.COLUMNS, "question"])]
        for kind, k in {"humaneval": 1, "humaneval-samples": K}.items():
            if kind in kinds:
                pool = pool_of("HumanEval")
                table = {"question_id": np.repeat(pool.question_id, k), "sample": np.tile(range(k), N)}
                table |= {"length": pool.lengths[:, :k].ravel(), "base": named[pool.base[:, :k].ravel() * 1]}
                more = {"dataset": "HumanEval", "plus": "none", "cap": 1024, "question": "x"}
                rows.append(pd.DataFrame(table).assign(**more).iloc[: None if k == 1 else -1])
        return pd.concat(rows[1:] or rows, ignore_index=True)

    monkeypatch.setattr(shipping, "read", read)


def test_a_program_is_right_by_the_plus_tests_and_where_there_are_none_by_the_base_tests(shipped, monkeypatch):
    rows = shipping.graded("qwen-1.5b")
    assert len(rows) == (N - 1) * K and rows["verdict"].equals(rows["base"]), (
        "a task without all its samples is left out"
    )
    real = shipping.read
    halves = ["none", "wrong"]
    monkeypatch.setattr(shipping, "read", lambda *a: real(*a).assign(plus=lambda rows: np.resize(halves, len(rows))))
    assert set(shipping.graded("qwen-1.5b").query("plus != 'none'")["verdict"]) == {"wrong"}


def test_the_books_own_model_comes_first():
    assert [list(programs.models(profiles.load(name))) for name in ("qwen-0.5b", "qwen-1.5b", "tiny")] == [
        ["0.5B", "1.5B"],
        ["1.5B", "0.5B"],
        ["1.5B", "0.5B"],
    ]


def test_what_is_recorded_is_counted_and_only_whole_tasks_count(shipped):
    table = programs.recorded({"0.5B": PROFILE})
    assert table.to_numpy().tolist() == [
        ["0.5B", "HumanEval", "40 of 164", "39 of 164", "base"],
        ["0.5B", "MBPP+", "0 of 399", "0 of 399", "base"],
    ]


def test_too_few_greedy_programs_predict_nothing(shipped, monkeypatch):
    assert protocol.shipped_pools(PROFILE) == []
    monkeypatch.setattr(protocol, "LEAST", N)
    known = {"question_id": pool_of("HumanEval").question_id, "threshold": 100.0, "spread": 0.3, "solvable": 0.5}
    monkeypatch.setattr(protocol, "cross_forecasts", lambda greedy, *_: pd.DataFrame(known))
    (pool,) = protocol.shipped_pools(PROFILE)
    assert (pool.dataset, len(pool.lengths)) == ("HumanEval", N - 1)


def test_greedy_pass_rates_stand_beside_the_published_ones(shipped):
    row = programs.greedy({"0.5B": PROFILE}).iloc[0]
    share = 100 * pool_of("HumanEval").base[:, 0].mean()
    assert (row["published"], row["ours"], row["n"]) == (61.6, share, N) and row["low"] < share < row["high"]
    assert row["verdict"] == ("inside" if row["low"] <= 61.6 <= row["high"] else "published higher")
    said = programs.checked(programs.greedy({"0.5B": PROFILE}))
    assert said == f"the 0.5B model passes {share:.1f}% (published: 61.6%)"


def test_table_2_stands_beside_the_papers(results, gains):
    table = programs.table_2(results, gains, 0.5)
    assert list(dict.fromkeys(zip(table["model"], table["tasks"], strict=True))) == [
        ("0.5B", "HumanEval"),
        ("0.5B", "MBPP+"),
        ("1.5B", "HumanEval"),
        ("", "BigCodeBench"),
    ]
    uniform, clear, gain = (row for _, row in table.query("model == '0.5B' and tasks == 'MBPP+'").iterrows())
    assert (
        gain["ours"] == pytest.approx(clear["ours"] - uniform["ours"]) and gain["low"] <= gain["ours"] <= gain["high"]
    )
    assert gain["paper"] == pytest.approx(paper.TABLE_2["clear"]["MBPP+"] - paper.TABLE_2["uniform"]["MBPP+"])
    assert gain["verdict"] == ("same sign" if gain["low"] > 0 else "opposite sign" if gain["high"] < 0 else "undecided")
    assert set(table.query("tasks == 'BigCodeBench'")["verdict"]) == {"not run"}
    shown = tables.beside_paper(table, "c").data
    assert list(shown)[-6:] == list(tables.SHAPE) and shown["n"].iloc[0] == str(N)


def test_accuracies_and_leads_are_those_of_the_results(results, gains):
    shares = programs.accuracies(results["0.5B"], "samples")
    bought = results["0.5B"].query("policy == @protocol.BUY and dataset == 'MBPP+' and scarcity == 0.5")
    assert (
        shares.loc["Samples at one price", ("MBPP+", "0.5")]
        == 100 * bought["solved"][bought.choice == "all tests"].mean()
    )
    leads = programs.leads(gains, "queries", ["clear", "oracle"])
    assert list(leads["model"]) == ["0.5B"] * 4 + ["1.5B"] * 2
    (row,) = (
        gains["1.5B"]
        .query("policy == 'clear' and reading == 'queries' and choice == 'all tests' and scarcity == 2")
        .to_dict("records")
    )
    assert leads["CLEAR (Lambert)"].iloc[-1].startswith(f"{row['gain']:+.1f} (")


def test_cells_are_counted_in_words():
    rows = pd.DataFrame({"gain_low": [1.0, -1, -2, 1], "gain_high": [2.0, 1, -1, 2], "n": [30, 99, 99, 29]})
    rows = rows.assign(policy="clear", reading="queries", choice="all tests", scarcity=[0.5, 0.5, 2, 0.5])
    said = programs.tally({"1B": rows, "2B": rows[:0]}, "clear", "queries")
    assert said == "the 1B model ahead in 1 of 3 cells, behind in 1, undecided in 1"
    assert "1 of 2 cells, behind in 0" in programs.tally({"1B": rows}, "clear", "queries", most=1.0)


def test_choosing_by_the_base_tests_costs_something(results):
    assert re.fullmatch(r"[\d.]+% become [\d.]+% on MBPP\+ \(0.5B model\)", programs.cost_of_choice(results))


def test_the_figure_has_a_panel_for_each_set_and_reading(results):
    figure = programs.by_budget(results["0.5B"])
    assert [ax.get_title() for ax in figure.axes][:2] == ["HumanEval: trajectories", "HumanEval: queries"]
    assert len(figure.axes) == 6


def test_a_set_that_is_not_recorded_was_not_run():
    nothing = protocol.run(PROFILE, [])
    assert set(programs.table_2({"0.5B": nothing}, {"0.5B": protocol.gains(nothing)}, 0.5)["verdict"]) == {"not run"}


def test_the_solutions_of_the_exercises_are_right(pools, capsys):
    names = {"np": np, "protocol": protocol, "first": "0.5B", "pools": pools, "check": check}
    for cell in CHAPTER.cells:
        if cell.cell_type == "code" and "solution" in cell.metadata.get("tags", []):
            exec(cell.source, names)
    right = pools["0.5B"][1].plus
    assert names["pass_at"](right, 1) == pytest.approx(right.mean())
    assert names["pass_at"](right, 8) == pytest.approx(right.any(axis=1).mean())
    learning, known = map(int, capsys.readouterr().out.split()[-2:])
    assert learning <= known
