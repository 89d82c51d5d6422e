"""Every comparison of speed once, small: the ways agree. Nothing is asserted about time, which a busy machine decides."""

import numpy as np
import pytest

from clear_lib.study.experiments import speed


@pytest.fixture(scope="module")
def table():
    return speed.measure("small")


def test_a_row_for_each_subject_and_rival(table):
    assert tuple(table.columns) == speed.COLUMNS and table.notna().all(axis=None)
    assert table.groupby("what", sort=False)["rival"].nunique().to_dict() == {
        "exact solver": 5,
        'allocate(…, "clear-exact")': 1,
        'allocate(…, "clear")': 1,
        "general solver": 3,
        "clear-sequential, by rounds": 1,
        "Budgeter, clear": 1,
        "Budgeter, clear-lognormal": 1,
        "Budgeter, clear-sequential": 1,
        "batched decoder": 3,
        "Algorithm 1": 1,
    }
    assert (table["ratio"] == table["rival's seconds"] / table["seconds"]).all()


def test_memory_counts_more_than_the_answer():
    table = speed.memory(2000)
    assert list(table["what"]) == ["exact solver", "general solver"]
    assert (table["bytes a query"] >= 8).all()


def test_each_way_has_its_turn_and_the_best_counts():
    turns = []
    ours, theirs = (lambda name=name: turns.append(name) or len(turns) for name in ("ours", "theirs"))
    ((what, n, seconds, rival, others, ratio),) = speed.compare("a", 7, ours, {"b": theirs}, lambda *_: True, 3)
    assert (what, n, rival) == ("a", 7, "b") and ratio == others / seconds
    assert turns == ["ours", "theirs"] * 3


def test_a_rival_that_disagrees_is_named():
    with pytest.raises(ValueError, match="a and its rival b disagree at n = 1,000"):
        speed.compare("a", 1000, lambda: 1, {"b": lambda: 2}, np.array_equal, 1)


def test_orders_and_tokens_are_checked():
    shared, _ = speed.draw(40)
    ours, order = speed.solve_shared(*shared), np.argsort(shared[0])
    assert speed._agree(shared, ours, order) and not speed._agree(shared, ours, order[::-1])
    assert speed._agree(shared, ours, ours) and not speed._agree(shared, ours._replace(value=0.9 * ours.value), ours)
    assert speed._proven(ours) and not speed._proven(ours._replace(bound=2 * ours.value))
