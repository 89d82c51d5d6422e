"""The table of questions."""

import pandas as pd
import pytest

from clear_lib.study.setup.questions import COLUMNS, assert_disjoint, validate


def table(*texts, **changes):
    return pd.DataFrame(
        {
            "question_id": [f"q{row}" for row in range(len(texts))],
            "dataset": "sums",
            "tier": "easy",
            "split": "train",
            "question": texts,
            "gold": "4",
        }
    ).assign(**changes)


def test_a_good_table_comes_back_in_order():
    given = table("2+2?", "1+3?")[list(reversed(COLUMNS))].set_axis([7, 3])
    assert list(validate(given)) == list(COLUMNS) and list(validate(given).index) == [0, 1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (table("a").drop(columns="gold"), "missing or unknown: gold"),
        (table("a", colour="red"), "missing or unknown: colour"),
        (table(), "no questions"),
        (table("a", "b", gold=["1", 2]), "row 1: gold must be text, got 2"),
        (table("a", " "), "row 1: question must be text, got ' '"),
        (table("a", "b", tier=["easy", None]), "row 1: tier must be text, got"),
        (table("a", "b", question_id="q"), "row 1: question_id 'q' is there twice"),
        (table("What is  1+1?", "what is 1+1?"), "row 1: question 'what is 1\\+1\\?' is there twice"),
    ],
)
def test_a_bad_table_is_named(bad, message):
    with pytest.raises(ValueError, match=message):
        validate(bad)


def test_sets_without_a_shared_text_are_disjoint():
    assert_disjoint(train=table("a", "b"), predictor=table("c"), evaluation=table("d"))


def test_a_shared_text_is_named_with_its_sets():
    with pytest.raises(ValueError, match="train and evaluation share the question 'B  ?'"):
        assert_disjoint(train=table("a", "b"), predictor=table("c"), evaluation=table("d", "B "))
