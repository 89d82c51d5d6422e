"""Calibrated predictors: the calibration recovers planted parameters, and they come back from disk."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from clear_lib import predictor
from clear_lib.predictor import Calibrated
from clear_lib.predictor.calibrated import LEAST_SPREAD, Calibration
from clear_lib.study.experiments import forecasting


def test_planted_parameters_are_recovered():
    rng = np.random.default_rng(0)
    n = 20_000
    y, logit = rng.normal(3.0, 1.0, n), rng.normal(0.5, 1.5, n)
    spread = np.exp(-1.0 + 0.4 * (y - 3) - 0.3 * (logit - 0.5))
    lengths = np.exp(y + 0.2 + 0.1 * (y - 3) + spread * rng.normal(size=n))
    correct = rng.uniform(size=n) < expit(-0.5 + 0.7 * logit)
    fitted = Calibration.fit(np.exp(y), logit, lengths, correct)
    found = [
        fitted.shift,
        fitted.tilt,
        fitted.log_spread,
        fitted.spread_by_length,
        fitted.spread_by_odds,
        fitted.odds_shift,
        fitted.odds_slope,
    ]
    assert found == pytest.approx([0.2, 0.1, -1.0, 0.4, 0.3, -0.5, 0.7], abs=0.05)

    forecasts = fitted.apply(np.exp(y), logit)
    assert forecasts.threshold == pytest.approx(np.exp(y))
    right = forecasts.part(correct)
    assert forecasting.coverage(right, lengths[correct]) == pytest.approx([0.5, 0.8, 0.95], abs=0.02)
    far = fitted.apply([1e-3, 1e9], [-50, 50])
    assert (
        (far.log_median >= 0).all()
        and (far.spread >= fitted.least_spread).all()
        and (far.spread <= fitted.most_spread).all()
    )


def test_a_handful_of_questions_fits_no_slopes():
    fitted = Calibration.fit([10, 20, 30], [0, 1, 2], [11, 19, 31], [True, True, False])
    assert abs(fitted.tilt) < 0.5 and abs(fitted.spread_by_length) < 2
    assert (fitted.apply([10, 1000], [0, 9]).spread >= LEAST_SPREAD).all()


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


def test_a_calibrated_predictor_beats_the_constant():
    made = Calibrated(predictor.build("ridge")).fit(*questions(600, 0))
    texts, lengths, correct = questions(400, 1)
    frame = pd.DataFrame({"tier": "easy", "length": lengths, "correct": correct})
    named = {"ours": made.predict(texts), "constant": forecasting.constant_forecast(lengths, correct, 400)}
    table = forecasting.scores(named, frame, {"all": ["easy"]}).droplevel("part")
    proper = table[["brier", "log_loss", "crps"]]
    assert (proper.loc["ours"] < 0.8 * proper.loc["constant"]).all()
    held = table.loc["ours", ["within 50%", "within 80%", "within 95%"]].tolist()
    assert held == pytest.approx([0.5, 0.8, 0.95], abs=0.12)


def test_the_threshold_is_the_predictors_own_on_the_questions_it_kept():
    texts, lengths, correct = questions(200, 0)
    made = Calibrated(predictor.build("ridge"), held_out=0.25, seed=3).fit(texts, lengths, correct)
    out = made.held_out(texts, correct)
    assert out.mean() == pytest.approx(0.25, abs=0.02)
    kept = [text for text, held in zip(texts, out, strict=True) if not held]
    alone = predictor.build("ridge").fit(kept, lengths[~out])
    assert made.predict(texts).threshold == pytest.approx(alone.predict(texts).threshold)
    assert made.cost(texts[:1])[0] == alone.cost(texts[:1])[0] + made.classifier.cost(texts[:1])[0]


def test_a_calibrated_predictor_comes_back_from_disk(tmp_path):
    texts, lengths, correct = questions(80, 0)
    made = Calibrated(predictor.build("ridge")).fit(texts, lengths, correct)
    made.save(tmp_path)
    before, after = made.predict(texts), predictor.load(tmp_path).predict(texts)
    for name in ("threshold", "spread", "solvable", "log_median"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6)


def test_all_right_or_all_wrong_is_no_reason_to_fail():
    texts, lengths, correct = questions(60, 0)
    sure = Calibrated(predictor.build("ridge")).fit(texts, lengths, np.ones(60, bool)).predict(texts)
    assert (sure.solvable > 0.9).all() and (sure.solvable < 1).all()
    with pytest.raises(ValueError, match="none of the 12 held-out solutions is correct"):
        Calibrated(predictor.build("ridge")).fit(texts, lengths, np.zeros(60, bool))


def test_what_is_wrong_is_named():
    texts, lengths, correct = questions(20, 0)
    made = Calibrated(predictor.build("ridge"))
    with pytest.raises(RuntimeError, match="fit the predictor"):
        made.predict(texts)
    with pytest.raises(ValueError, match="correct has 19 values for 20 questions"):
        made.fit(texts, lengths, correct[1:])


def test_rollouts_name_the_models_that_wrote_them(tmp_path):
    texts, lengths, correct = questions(80, 0)
    verdicts = np.where(correct, "correct", "wrong")
    rollouts = pd.DataFrame({"question": texts, "length": lengths, "verdict": verdicts, "model": "Org/Small-7B"})
    made = predictor.fit_to_rollouts(rollouts)
    made.save(tmp_path)
    assert list(predictor.load(tmp_path).trained_on) == list(made.trained_on) == ["Org/Small-7B"]
    alone = Calibrated(predictor.build("ridge")).fit(texts, lengths, correct)
    assert made.predict(texts).log_median.tolist() == alone.predict(texts).log_median.tolist() and not alone.trained_on


def test_another_model_is_warned_of():
    with pytest.warns(predictor.OtherModelWarning, match="learned from A, Org/B and forecasts C."):
        assert predictor.warn_of_other_model(["Org/B", "A", "A"], ["C"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not predictor.warn_of_other_model(["Org/Small-7B"], ["/models/small-7b"])
        assert not predictor.warn_of_other_model([], ["C"])
