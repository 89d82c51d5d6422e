"""Forecasts are judged by ranks, proper scores, coverage and calibration; their table has what the study needs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import spearmanr
from test_calibrated import questions

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.predictor import Calibrated, build
from clear_lib.study.experiments import forecasting
from clear_lib.study.recordings.forecasts import forecast_file, forecast_table, read_forecasts
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import PredictorSpec


def one(median=3.0, spread=0.5, chance=0.6, n=1):
    return Forecasts(np.full(n, np.exp(median)), np.full(n, spread), np.full(n, chance))


@given(st.floats(0, 6), st.floats(0.05, 2), st.integers(1, 2000))
def test_crps_is_the_area_between_forecast_and_step(median, spread, length):
    y = np.log(length)
    below = quad(lambda x: ndtr((x - median) / spread) ** 2, median - 12 * spread - abs(y - median), y, limit=200)[0]
    above = quad(lambda x: ndtr((median - x) / spread) ** 2, y, median + 12 * spread + abs(y - median), limit=200)[0]
    assert forecasting.crps(one(median, spread), [length])[0] == pytest.approx(below + above, abs=1e-5)


def test_crps_without_a_spread_is_the_absolute_error():
    assert forecasting.crps(one(3.0, 0.0), [100])[0] == pytest.approx(np.log(100) - 3, abs=0.02)


@given(st.floats(0.05, 0.95), st.floats(0.01, 0.99))
def test_nobody_does_better_than_by_saying_what_they_believe(truth, said):
    for score in (forecasting.brier, forecasting.log_loss):
        expected = [
            truth * score(one(chance=chance), [True])[0] + (1 - truth) * score(one(chance=chance), [False])[0]
            for chance in (truth, said)
        ]
        assert expected[0] <= expected[1] + 1e-12


def test_the_crps_of_the_right_spread_is_lowest():
    lengths = np.exp(np.random.default_rng(0).normal(3, 0.5, 4000))
    scores = [forecasting.crps(one(spread=spread, n=4000), lengths).mean() for spread in (0.3, 0.5, 0.8)]
    assert scores[1] == min(scores)


def test_impossible_events_cost_infinitely_much_and_certain_ones_nothing():
    assert forecasting.log_loss(one(chance=0.0), [False])[0] == 0
    assert forecasting.log_loss(one(chance=1.0), [True])[0] == 0
    assert np.isinf(forecasting.log_loss(one(chance=0.0), [True])[0])


def test_coverage_of_a_true_forecast_is_its_level():
    lengths = np.exp(np.random.default_rng(0).normal(3, 0.5, 20_000))
    assert forecasting.coverage(one(n=20_000), lengths) == pytest.approx([0.5, 0.8, 0.95], abs=0.01)
    assert (forecasting.coverage(one(spread=0.25, n=20_000), lengths) < [0.4, 0.6, 0.8]).all()


def test_the_calibration_curve_of_a_true_forecast_is_the_diagonal():
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=8000)
    table = forecasting.calibration_curve(chance, rng.uniform(size=8000) < chance)
    assert table["n"].tolist() == [1000] * 8
    assert table["share"].to_numpy() == pytest.approx(table["chance"].to_numpy(), abs=0.05)
    assert (table["low"] < table["share"]).all() and (table["share"] < table["high"]).all()
    assert len(forecasting.calibration_curve([0.1, 0.2], [True, False])) == 2


def test_scores_of_lengths_are_of_correct_solutions_in_each_part():
    frame = pd.DataFrame({"tier": ["easy", "easy", "hard"], "length": [20, 10_000, 5], "correct": [True, False, False]})
    table = forecasting.scores({"a": one(n=3)}, frame, {"in": ["easy"], "out": ["hard"]}, levels=[0.5])
    assert table.columns.tolist() == ["n", "brier", "log_loss", "crps", "within 50%"]
    assert table.loc[("in", "a"), "within 50%"] == 1
    assert table["brier"].tolist() == pytest.approx([(0.16 + 0.36) / 2, 0.36])
    assert table["n"].tolist() == [2, 1] and np.isnan(table.loc[("out", "a"), "crps"])


def test_the_constant_forecast_describes_correct_solutions():
    forecasts = forecasting.constant_forecast([10, 1000, 5], [True, True, False], 3)
    assert forecasts.threshold == pytest.approx([100] * 3)
    assert forecasts.spread == pytest.approx([np.log(10)] * 3)
    assert forecasts.solvable == pytest.approx([2 / 3] * 3)


def test_training_rollouts_are_of_the_tiers_and_verdicts_asked_for():
    frame = pd.DataFrame({"tier": ["easy", "hard", "easy"], "verdict": ["wrong", "correct", "correct"]})
    every, only = (PredictorSpec("constant", "c", ("easy",), rollouts, {}) for rollouts in ("all", "correct"))
    assert forecasting.training_rollouts(every, frame).index.tolist() == [0, 2]
    assert forecasting.training_rollouts(only, frame).index.tolist() == [2]
    with pytest.raises(ValueError, match="no rollouts to fit: tiers easy, correct"):
        forecasting.training_rollouts(only, frame.iloc[:2])


def test_rank_correlation_by_part():
    frame = pd.DataFrame({"tier": ["easy"] * 30 + ["hard"] * 30, "length": np.arange(60) + 1.0})
    frame["threshold"] = np.where(frame["tier"] == "easy", 2 * frame["length"], 100 - frame["length"])
    table = forecasting.rank_correlation(frame, {"in": ["easy"], "out": ["hard"]}).set_index("part")
    assert table["spearman"].tolist() == pytest.approx([1, -1])
    assert table.loc["in", "ratio"] == pytest.approx(2)
    length = np.log(frame["length"][:30])
    assert table.loc["in", "r2"] == pytest.approx(1 - np.log(2) ** 2 / np.var(length)) and table.loc["out", "r2"] < 0
    assert (table["low"] <= table["spearman"] + 1e-9).all() and (table["high"] >= table["spearman"] - 1e-9).all()


def test_a_constant_has_no_rank_correlation():
    frame = pd.DataFrame({"tier": "easy", "length": [1, 2, 3], "threshold": 2.0})
    row = forecasting.rank_correlation(frame, {"in": ["easy"]}).iloc[0]
    assert np.isnan([row["spearman"], row["low"], row["high"]]).all() and row["ratio"] == 1


def test_the_lead_of_better_ranks_is_above_zero_and_of_the_same_ranks_zero():
    rng = np.random.default_rng(0)
    length = rng.lognormal(4, 1, 300)
    good, bad = (length * rng.lognormal(0, noise, 300) for noise in (0.3, 1.5))
    frame = pd.DataFrame({"tier": ["easy"] * 250 + ["hard"] * 50, "length": length})
    said = {"good": good, "bad": bad, "same": 2 * good, "constant": np.ones(300)}
    table = forecasting.rank_leads(frame, said, {"in": ["easy"]}).set_index(["part", "rival"])
    assert table.index.tolist() == [("in", "bad"), ("in", "same")]
    row = table.loc["in", "bad"]
    expected = [spearmanr(length[:250], threshold[:250]).statistic for threshold in (good, bad)]
    assert row["lead"] == pytest.approx(expected[0] - expected[1]) and 0 < row["low"] < row["lead"] < row["high"] < 1
    assert table.loc["in", "same"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["encoder", "deberta", "ridge"])
def test_rivals_are_of_every_other_kind_and_see_the_same(kind):
    mine = PredictorSpec(kind, "mine", ("easy", "moderate"), "correct", {"epochs": 1})
    others = forecasting.rivals(mine)
    assert {rival.kind for rival in others} == {"encoder", "deberta", "sentence", "ridge", "constant"} - {kind}
    assert {(rival.tiers, rival.rollouts) for rival in others} == {(mine.tiers, "correct")}
    for rival in others:
        forecasting.unfitted(rival)


def test_the_forecast_table_has_what_a_calibrated_predictor_says():
    texts, lengths, correct = questions(80, 0)
    made = Calibrated(build("ridge")).fit(texts, lengths, correct)
    asked = pd.DataFrame({"question_id": range(80), "question": texts})
    table = forecast_table(made, made.predictor, asked, 1000)
    said = made.predict(texts)
    for name in ("threshold", "spread", "solvable", "log_median"):
        assert table[name].tolist() == getattr(said, name).tolist()
    assert "spread" not in forecast_table(made.predictor, made.predictor, asked, 1000)


def test_the_forecast_table_counts_costs_in_tokens_of_the_reasoner():
    texts, lengths, _ = questions(40, 0)
    made, teacher = (build(kind).fit(texts, lengths) for kind in ("ridge", "constant"))
    asked = pd.DataFrame({"question_id": ["b", "a"], "question": texts[:2]})
    table = forecast_table(made, teacher, asked, 1000)
    assert table["question_id"].tolist() == ["b", "a"]
    assert table["threshold"].tolist() == made.predict(texts[:2]).threshold.tolist()
    assert table["estimate"].tolist() == teacher.predict(texts[:2]).threshold.tolist()
    assert table["threshold_cost"].tolist() == (made.cost(texts[:2]) / 1000).tolist()
    assert table["estimate_cost"].tolist() == (teacher.cost(texts[:2]) / 1000).tolist()


def test_forecasts_that_are_missing_say_which_chapter_makes_them(tmp_path):
    smoke = profiles.load("smoke")
    with pytest.raises(ValueError, match="run notebooks/06_predictor.ipynb with profile 'smoke' first"):
        read_forecasts(smoke, tmp_path)
    path = forecast_file(smoke, tmp_path)
    path.parent.mkdir(parents=True)
    pd.DataFrame({"question_id": ["a"]}).to_parquet(path)
    assert read_forecasts(smoke, tmp_path)["question_id"].tolist() == ["a"]


def test_more_lessons_help_until_they_are_used_up():
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 4, 60)
    lengths = np.exp(2 + kinds + 0.1 * rng.normal(size=60))

    class Means:
        """The mean log length of each kind of question, and of all where a kind is new."""

        def fit(self, texts, lengths):
            logs = pd.Series(np.log(lengths), list(texts))
            self.all, self.each = logs.mean(), logs.groupby(level=0).mean()
            return self

        def predict(self, texts):
            return Forecasts(np.exp(self.each.reindex(list(texts)).fillna(self.all)))

    curve = forecasting.learning_curve(Means, [str(kind) for kind in kinds], lengths, (2, 30, 1000))
    assert curve.index.tolist() == [2, 30, 48] and curve.index.name == "lessons"
    assert curve["mean"].iloc[0] > 0.3 and curve["mean"].iloc[-1] < 0.05
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()
    again = forecasting.learning_curve(Means, [str(kind) for kind in kinds], lengths, (2, 30, 1000))
    pd.testing.assert_frame_equal(curve, again)


def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match=r"chance\[1\] is above 1"):
        forecasting.calibration_curve([0.5, 1.5], [True, False])
    with pytest.raises(ValueError, match="lengths has 2 values for 1"):
        forecasting.crps(one(), [1, 2])
