"""Scores are proper, doubts are found where they were planted, and forecasts with doubts come back from disk."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import expit, ndtr

from clear_lib import predictor
from clear_lib.allocation.forecasts import Forecasts
from clear_lib.predictor import calibration
from clear_lib.predictor.doubting import Doubting
from clear_lib.study.setup.profiles import Forecaster

RIDGE = Forecaster("ridge", "r", ("easy",), "all", {})


def one(median=3.0, spread=0.5, chance=0.6, n=1):
    return Forecasts(np.full(n, np.exp(median)), np.full(n, spread), np.full(n, chance))


@given(st.floats(0, 6), st.floats(0.05, 2), st.integers(1, 2000))
def test_crps_is_the_area_between_forecast_and_step(median, spread, length):
    y = np.log(length)
    below = quad(lambda x: ndtr((x - median) / spread) ** 2, median - 12 * spread - abs(y - median), y, limit=200)[0]
    above = quad(lambda x: ndtr((median - x) / spread) ** 2, y, median + 12 * spread + abs(y - median), limit=200)[0]
    assert calibration.crps(one(median, spread), [length])[0] == pytest.approx(below + above, abs=1e-5)


def test_crps_without_a_spread_is_the_absolute_error():
    assert calibration.crps(one(3.0, 0.0), [100])[0] == pytest.approx(np.log(100) - 3, abs=0.02)


@given(st.floats(0.05, 0.95), st.floats(0.01, 0.99))
def test_nobody_does_better_than_by_saying_what_they_believe(truth, said):
    for score in (calibration.brier, calibration.log_loss):
        expected = [
            truth * score(one(chance=chance), [True])[0] + (1 - truth) * score(one(chance=chance), [False])[0]
            for chance in (truth, said)
        ]
        assert expected[0] <= expected[1] + 1e-12


def test_the_crps_of_the_right_spread_is_lowest():
    lengths = np.exp(np.random.default_rng(0).normal(3, 0.5, 4000))
    scores = [calibration.crps(one(spread=spread, n=4000), lengths).mean() for spread in (0.3, 0.5, 0.8)]
    assert scores[1] == min(scores)


def test_impossible_events_cost_infinitely_much_and_certain_ones_nothing():
    assert calibration.log_loss(one(chance=0.0), [False])[0] == 0
    assert calibration.log_loss(one(chance=1.0), [True])[0] == 0
    assert np.isinf(calibration.log_loss(one(chance=0.0), [True])[0])


def test_coverage_of_a_true_forecast_is_its_level():
    lengths = np.exp(np.random.default_rng(0).normal(3, 0.5, 20_000))
    assert calibration.coverage(one(n=20_000), lengths) == pytest.approx([0.5, 0.8, 0.95], abs=0.01)
    assert (calibration.coverage(one(spread=0.25, n=20_000), lengths) < [0.4, 0.6, 0.8]).all()


def test_reliability_of_a_true_forecast_is_the_diagonal():
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=8000)
    table = calibration.reliability(chance, rng.uniform(size=8000) < chance)
    assert table["n"].tolist() == [1000] * 8
    assert table["share"].to_numpy() == pytest.approx(table["chance"].to_numpy(), abs=0.05)
    assert (table["low"] < table["share"]).all() and (table["share"] < table["high"]).all()
    assert len(calibration.reliability([0.1, 0.2], [True, False])) == 2


def test_scores_of_lengths_are_of_correct_solutions_in_each_part():
    frame = pd.DataFrame({"tier": ["easy", "easy", "hard"], "length": [20, 10_000, 5], "correct": [True, False, False]})
    table = calibration.scores({"a": one(n=3)}, frame, {"in": ["easy"], "out": ["hard"]}, levels=[0.5])
    assert table.columns.tolist() == ["n", "brier", "log_loss", "crps", "within 50%"]
    assert table.loc[("in", "a"), "within 50%"] == 1
    assert table["brier"].tolist() == pytest.approx([(0.16 + 0.36) / 2, 0.36])
    assert table["n"].tolist() == [2, 1] and np.isnan(table.loc[("out", "a"), "crps"])


def test_the_constant_forecast_describes_correct_solutions():
    forecasts = calibration.constant([10, 1000, 5], [True, True, False], 3)
    assert forecasts.threshold == pytest.approx([100] * 3)
    assert forecasts.spread == pytest.approx([np.log(10)] * 3)
    assert forecasts.solvable == pytest.approx([2 / 3] * 3)


def test_planted_doubts_are_found():
    rng = np.random.default_rng(0)
    n = 20_000
    y, logit = rng.normal(3.0, 1.0, n), rng.normal(0.5, 1.5, n)
    spread = np.exp(-1.0 + 0.4 * (y - 3) - 0.3 * (logit - 0.5))
    lengths = np.exp(y + 0.2 + 0.1 * (y - 3) + spread * rng.normal(size=n))
    correct = rng.uniform(size=n) < expit(-0.5 + 0.7 * logit)
    doubts = calibration.Doubts.fit(np.exp(y), logit, lengths, correct)
    found = [doubts.shift, doubts.tilt, doubts.width, doubts.growth, doubts.assurance, doubts.bias, doubts.trust]
    assert found == pytest.approx([0.2, 0.1, -1.0, 0.4, 0.3, -0.5, 0.7], abs=0.05)

    forecasts = doubts.apply(np.exp(y), logit)
    assert forecasts.threshold == pytest.approx(np.exp(y))
    right = forecasts.part(correct)
    assert calibration.coverage(right, lengths[correct]) == pytest.approx([0.5, 0.8, 0.95], abs=0.02)
    far = doubts.apply([1e-3, 1e9], [-50, 50])
    assert (far.log_median >= 0).all() and (far.spread >= doubts.narrow).all() and (far.spread <= doubts.wide).all()


def test_a_handful_of_questions_fits_no_slopes():
    doubts = calibration.Doubts.fit([10, 20, 30], [0, 1, 2], [11, 19, 31], [True, True, False])
    assert abs(doubts.tilt) < 0.5 and abs(doubts.growth) < 2
    assert (doubts.apply([10, 1000], [0, 9]).spread >= calibration.LEAST_SPREAD).all()


def questions(n, seed):
    """Sums take 20 tokens a sign and are right; products take three times as long and are mostly wrong."""
    rng = np.random.default_rng(seed)
    signs, hard = rng.integers(1, 8, n), rng.uniform(size=n) < 0.4
    texts = [
        (" times " if h else " plus ").join(str(k) for k in rng.integers(10, 99, s + 1))
        for s, h in zip(signs, hard, strict=True)
    ]
    lengths = np.round(20 * signs * np.where(hard, 3, 1) * np.exp(rng.normal(0, 0.2, n))) + 1
    return texts, lengths, rng.uniform(size=n) < np.where(hard, 0.2, 0.95)


def test_a_predictor_that_knows_its_doubts_beats_the_constant():
    made = Doubting(predictor.build(RIDGE)).fit(*questions(600, 0))
    texts, lengths, correct = questions(400, 1)
    frame = pd.DataFrame({"tier": "easy", "length": lengths, "correct": correct})
    named = {"ours": made.predict(texts), "constant": calibration.constant(lengths, correct, 400)}
    table = calibration.scores(named, frame, {"all": ["easy"]}).droplevel("part")
    proper = table[["brier", "log_loss", "crps"]]
    assert (proper.loc["ours"] < 0.8 * proper.loc["constant"]).all()
    held = table.loc["ours", ["within 50%", "within 80%", "within 95%"]].tolist()
    assert held == pytest.approx([0.5, 0.8, 0.95], abs=0.12)


def test_the_threshold_is_the_predictors_own_on_the_questions_it_kept():
    texts, lengths, correct = questions(200, 0)
    made = Doubting(predictor.build(RIDGE), held_out=0.25, seed=3).fit(texts, lengths, correct)
    out = made.held_out(texts)
    assert out.mean() == pytest.approx(0.25, abs=0.02)
    kept = [text for text, held in zip(texts, out, strict=True) if not held]
    alone = predictor.build(RIDGE).fit(kept, lengths[~out])
    assert made.predict(texts).threshold == pytest.approx(alone.predict(texts).threshold)
    assert made.cost(texts[:1])[0] == alone.cost(texts[:1])[0] + made.chance.cost(texts[:1])[0]


def test_doubts_come_back_from_disk(tmp_path):
    texts, lengths, correct = questions(80, 0)
    made = Doubting(predictor.build(RIDGE)).fit(texts, lengths, correct)
    made.save(tmp_path)
    before, after = made.predict(texts), predictor.load(tmp_path).predict(texts)
    for name in ("threshold", "spread", "solvable", "log_median"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6)


def test_the_forecast_table_passes_doubts_on():
    texts, lengths, correct = questions(80, 0)
    made = Doubting(predictor.build(RIDGE)).fit(texts, lengths, correct)
    asked = pd.DataFrame({"question_id": range(80), "question": texts})
    table = predictor.forecast_table(made, made.predictor, asked, 1000)
    said = made.predict(texts)
    for name in ("threshold", "spread", "solvable", "log_median"):
        assert table[name].tolist() == getattr(said, name).tolist()
    assert "spread" not in predictor.forecast_table(made.predictor, made.predictor, asked, 1000)


def test_all_right_or_all_wrong_is_no_reason_to_fail():
    texts, lengths, correct = questions(60, 0)
    sure = Doubting(predictor.build(RIDGE)).fit(texts, lengths, np.ones(60, bool)).predict(texts)
    assert (sure.solvable > 0.9).all() and (sure.solvable < 1).all()
    with pytest.raises(ValueError, match="none of the 12 held-out solutions is correct"):
        Doubting(predictor.build(RIDGE)).fit(texts, lengths, np.zeros(60, bool))


def test_what_is_wrong_is_named():
    texts, lengths, correct = questions(20, 0)
    made = Doubting(predictor.build(RIDGE))
    with pytest.raises(RuntimeError, match="fit the predictor"):
        made.predict(texts)
    with pytest.raises(ValueError, match="correct has 19 values for 20 questions"):
        made.fit(texts, lengths, correct[1:])
    with pytest.raises(ValueError, match=r"chance\[1\] is above 1"):
        calibration.reliability([0.5, 1.5], [True, False])
    with pytest.raises(ValueError, match="lengths has 2 values for 1"):
        calibration.crps(one(), [1, 2])
    assert dataclasses.is_dataclass(calibration.Doubts)


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

    curve = calibration.learning_curve(Means, [str(kind) for kind in kinds], lengths, (2, 30, 1000))
    assert curve.index.tolist() == [2, 30, 48] and curve.index.name == "lessons"
    assert curve["mean"].iloc[0] > 0.3 and curve["mean"].iloc[-1] < 0.05
    assert (curve["low"] <= curve["mean"]).all() and (curve["mean"] <= curve["high"]).all()
    again = calibration.learning_curve(Means, [str(kind) for kind in kinds], lengths, (2, 30, 1000))
    pd.testing.assert_frame_equal(curve, again)
