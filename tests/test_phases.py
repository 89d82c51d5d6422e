"""The three-phase study: binned accuracies, the within-question view, the surge fit, caps."""

import numpy as np
import pandas as pd
import pytest

from clear_lib import phases
from clear_lib.utility import Surge


def made_up_rollouts(questions=300, samples=8, seed=0):
    """Hard questions are longer, and within a question longer solutions are right more often."""
    rng = np.random.default_rng(seed)
    difficulty = np.repeat(rng.uniform(0, 1, questions), samples)
    care = rng.uniform(-0.5, 0.5, questions * samples)
    length = np.ceil(np.exp(3 + 2 * difficulty + care)).astype(int)
    right = rng.random(length.size) < np.clip(0.9 - 0.9 * difficulty + 0.6 * care, 0, 1)
    return pd.DataFrame({"question_id": np.repeat([f"q{k}" for k in range(questions)], samples), "length": length,
                         "tier": np.where(difficulty < 0.5, "easy", "hard"),
                         "verdict": np.where(right, "correct", "wrong")})


def test_observed_accuracy_falls_with_length_although_longer_helps_within_a_question():
    rollouts = made_up_rollouts()
    pooled = phases.accuracy_by_length(rollouts, bins=8)
    within = phases.within_questions(rollouts, np.geomspace(0.6, 1.7, 6))
    assert pooled["mean"].iloc[0] > pooled["mean"].iloc[-1] + 0.4
    assert within["mean"].iloc[-1] > within["mean"].iloc[0] + 0.2


def test_bins_hold_every_rollout_and_their_means_average_to_the_accuracy():
    rollouts = made_up_rollouts()
    table = phases.accuracy_by_length(rollouts, bins=7)
    assert table.n.sum() == len(rollouts)
    assert np.average(table["mean"], weights=table.n) == pytest.approx(rollouts.verdict.eq("correct").mean())
    assert ((table.lower <= table["mean"]) & (table["mean"] <= table.upper)).all()


def test_intervals_are_wider_when_the_samples_of_a_question_agree():
    rng = np.random.default_rng(1)
    value = rng.random(200) < 0.5
    group = np.zeros(1600, int)
    alike = phases.ratio_intervals(np.repeat(np.arange(200), 8), group, np.repeat(value, 8), 1)
    independent = phases.ratio_intervals(np.arange(1600), group, np.repeat(value, 8), 1)
    assert (alike.upper - alike.lower).item() > 2 * (independent.upper - independent.lower).item()


def test_an_empty_bin_is_nan_not_zero():
    table = phases.ratio_intervals(np.arange(4), np.zeros(4, int), np.ones(4), 2)
    assert table.n.tolist() == [4, 0] and np.isnan(table["mean"][1])


def test_the_surge_fit_finds_the_surge_it_was_given():
    length = np.array([20.0, 40, 60, 80, 120, 160, 240, 320, 480])
    truth = Surge(0.02, 0.008)
    fit = phases.fit_surge(length, truth.value(length - 30), np.ones(9))
    assert (fit.threshold, fit.utility.velocity, fit.utility.decay) == pytest.approx((30, 0.02, 0.008), rel=1e-3)
    assert fit(length) == pytest.approx(truth.value(length - 30), abs=1e-4)


def test_three_bins_are_too_few_for_a_surge():
    with pytest.raises(ValueError, match="at least 4 bins, got 3"):
        phases.fit_surge([1, 2, 3], [0, 1, 0], [1, 1, 1])


def test_solved_by_cap_rises_to_the_accuracy():
    rollouts = made_up_rollouts(samples=1)
    table = phases.solved_by_cap(rollouts, [0, 30, 100, rollouts.length.max()], rollouts.tier)
    for tier, rows in rollouts.groupby("tier"):
        solved = table[table.group == tier]["mean"].to_numpy()
        assert solved[0] == 0 and (np.diff(solved) >= 0).all()
        assert solved[-1] == pytest.approx(rows.verdict.eq("correct").mean())
