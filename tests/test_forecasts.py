from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clear_lib import Forecasts

BAD = [
    pytest.param([1.0, float("nan")], r"\[1\] is NaN", id="nan"),
    pytest.param([float("inf"), 1.0], r"\[0\] is infinite: inf", id="infinite"),
    pytest.param([3, 2, -1], r"\[2\] is negative: -1", id="negative"),
    pytest.param([], "empty", id="empty"),
    pytest.param([1, "many"], r"\[1\] is not a number: 'many'", id="text"),
    pytest.param(["12"], r"\[0\] is not a number: '12'", id="digits as text"),
    pytest.param([1, None], r"\[1\] is not a number: None", id="none"),
    pytest.param([1, 2j], r"\[1\] is not a number: 2j", id="complex"),
    pytest.param([[1, 2], [3, 4]], r"one-dimensional, got shape \(2, 2\)", id="two-dimensional"),
    pytest.param([[1, 2], [3]], "one-dimensional", id="ragged"),
    pytest.param(7, "one-dimensional", id="scalar"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_thresholds(values, message):
    with pytest.raises(ValueError, match=message):
        Forecasts(values)


@pytest.mark.parametrize(("values", "message"), BAD)
@pytest.mark.parametrize("name", ["spread", "solvable", "log_median"])
def test_bad_values_name_the_field(name, values, message):
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        Forecasts([1, 2], **{name: values})


def test_probabilities_are_at_most_one():
    with pytest.raises(ValueError, match=r"solvable\[1\] is above 1: 1.5"):
        Forecasts([1, 2], solvable=[0.5, 1.5])


def test_fields_have_one_length():
    with pytest.raises(ValueError, match="spread has 3 values for 2 queries"):
        Forecasts([1, 2], spread=[1, 1, 1])


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series, lambda values: np.array(values, dtype=object)])
def test_sequences_of_numbers(kind):
    forecasts = Forecasts(kind([1, 2, 4]))
    assert forecasts.n == 3
    assert forecasts.threshold.dtype == np.float64
    assert forecasts.threshold.tolist() == [1, 2, 4]


def test_log_median_defaults_to_the_threshold():
    assert Forecasts([1.0, np.e]).log_median == pytest.approx([0.0, 1.0])
    assert Forecasts([1.0, np.e], log_median=[2.0, 3.0]).log_median.tolist() == [2.0, 3.0]


def test_frozen_in_depth():
    mine = np.array([1.0, 2.0])
    forecasts = Forecasts(mine)
    mine[0] = 99.0
    assert forecasts.threshold[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        forecasts.threshold[0] = 99.0


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], np.array([False, True, True])])
def test_a_part_is_the_same_forecasts_of_fewer_queries(rows):
    part = Forecasts([0.0, 0.5, 4.0], spread=[1, 2, 3], log_median=[7, 8, 9]).part(rows)
    assert (part.threshold.tolist(), part.spread.tolist(), part.log_median.tolist()) == ([0.5, 4], [2, 3], [8, 9])
    assert part.solvable is None
    assert Forecasts([0.0, 0.5, 4.0]).part(rows).log_median == pytest.approx(np.log([0.5, 4.0]))


def test_a_forecast_below_a_token_can_be_copied_with_an_estimate():
    known = replace(Forecasts([0.0, 0.5, 7.0]), estimate=[1, 2, 3])
    assert known.estimate.tolist() == [1, 2, 3] and known.log_median[0] == -np.inf
