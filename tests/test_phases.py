"""The three-phase study: binned accuracies, the within-question view, the surge fit, caps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clear_lib.allocation.utility import Surge
from clear_lib.rollouts.store import SCHEMA, RolloutStore
from clear_lib.study.experiments import phases
from clear_lib.study.pages import figures
from clear_lib.study.setup import profiles


def made_up_rollouts(questions=300, samples=8, seed=0):
    """Hard questions are longer, and within a question longer solutions are right more often."""
    rng = np.random.default_rng(seed)
    difficulty = np.repeat(rng.uniform(0, 1, questions), samples)
    care = rng.uniform(-0.5, 0.5, questions * samples)
    length = np.ceil(np.exp(3 + 2 * difficulty + care)).astype(int)
    right = rng.random(length.size) < np.clip(0.9 - 0.9 * difficulty + 0.6 * care, 0, 1)
    return pd.DataFrame(
        {
            "question_id": np.repeat([f"q{k}" for k in range(questions)], samples),
            "length": length,
            "tier": np.where(difficulty < 0.5, "easy", "hard"),
            "verdict": np.where(right, "correct", "wrong"),
        }
    )


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


def test_longer_solutions_are_less_often_right_pooled_and_more_often_within_questions():
    rollouts = made_up_rollouts()
    pooled, within = phases.longer(rollouts), phases.longer(phases.mixed(rollouts), within=True)
    assert (pooled.words, within.words) == ("less often right", "more often right")
    assert pooled.lower <= pooled.difference <= pooled.upper < 0 < within.lower
    assert str(phases.Effect(0.123, -0.05, 0.3)) == "+12 points (95%: -5 to +30)"
    assert str(phases.Effect(-0.001, -0.08, 0.08)) == "+0 points (95%: -8 to +8)"
    assert phases.Effect(0.123, -0.05, 0.3).words == "not clearly more or less often right"


def test_both_views_in_numbers_are_those_of_the_figures():
    rollouts, edges = made_up_rollouts(), np.array([0.1, 0.8, 1.25, 10])
    found, inside = phases.views(rollouts, edges), phases.mixed(rollouts)
    assert (found.questions, found.mixed) == (300, inside.question_id.nunique())
    assert (found.together, found.within) == (phases.longer(rollouts), phases.longer(inside, within=True))
    bins = phases.within_questions(inside, edges)
    assert (found.shortest.difference, found.longest.upper) == (bins["mean"].iloc[0], bins["upper"].iloc[-1])
    assert found.shortest.words == "less often right" and found.longest.words == "more often right"
    wider = phases.views(rollouts, np.array([0.01, *edges, 50]))
    assert (wider.shortest, wider.longest) == (found.shortest, found.longest), "an empty bin is no end"


def test_an_end_with_few_questions_joins_the_next_bin():
    """Nine questions have a solution of a tenth of its length, three one of ten times it."""
    inside = phases.mixed(made_up_rollouts())
    inside["length"] = inside["length"].clip(20, 100)
    first = inside.groupby("question_id").head(1).index
    inside.loc[first[:9], "length"], inside.loc[first[9:12], "length"] = 1, 10_000
    fine, joined = np.array([0.01, 0.11, 0.8, 1.25, 9, 200]), np.array([0.01, 0.8, 1.25, 200])
    table = phases.within_questions(inside, fine)
    assert table.equals(phases.within_questions(inside, joined)) and (table["questions"] >= phases.ENOUGH).all()
    inside.loc[first[12], "length"] = 1
    assert len(phases.within_questions(inside, fine)) == 4, "ten are enough"


def test_a_group_without_a_correct_solution_has_a_band_all_the_same():
    table = phases.ratio_intervals(np.arange(30), np.repeat([0, 1], [10, 20]), np.repeat([0, 1], [10, 20]), 2)
    assert table["upper"][0] == pytest.approx(0.308, abs=0.001)  # Clopper and Pearson: none of 10
    assert table["lower"][1] == pytest.approx(0.832, abs=0.001)  # all of 20
    assert table["lower"][0] == 0 and table["upper"][1] == 1


def test_small_sets_are_one_group_after_the_others():
    names = np.repeat(["Minerva", "AIME 2024", "MATH 500", "AMC-23"], [20, 3, 15, 2])
    tiers = np.repeat(["very hard", "very hard", "moderate", "hard"], [20, 3, 15, 2])
    rollouts = pd.DataFrame({"question_id": np.arange(40).astype(str), "dataset": names, "tier": tiers})
    groups = phases.sets(rollouts, few=10)
    assert list(groups.cat.categories) == ["MATH 500", "Minerva", "AMC-23, AIME 2024"]
    assert groups.value_counts()["AMC-23, AIME 2024"] == 5
    assert list(phases.sets(rollouts, few=1).cat.categories) == ["MATH 500", "AMC-23", "Minerva", "AIME 2024"]


def test_bars_count_correct_solutions_and_their_outline_adds_up():
    rollouts = made_up_rollouts(questions=40, samples=32).assign(dataset="made up")
    bars = phases.by_question(rollouts, n=3, bins=6)
    for each in bars:
        assert each.count.sum() == 32 and each.correct.sum() == each.lengths.size == each.indifferent.sum().round(9)
        assert (each.correct <= each.count).all() and 8 <= each.lengths.size <= 24
        assert each.fit is None or each.fit.utility.peak >= 0.499 * np.diff(each.edges)[0]
    assert len(figures.bars_by_question(bars).axes) == 6


def test_samples_are_the_laboratory_models_where_there_are_none(tmp_path):
    real = replace(profiles.load("tiny"), name="real", engine="none")
    lab = replace(profiles.load("tiny"), name="lab", engine="none")
    texts = dict.fromkeys(SCHEMA.names, "x") | dict.fromkeys(("sample", "seed", "cap"), 1) | {"temperature": 1.0}
    texts["finish_reason"] = "stop"
    alike = pd.DataFrame([texts | {"length": n, "verdict": "correct", "question_id": "q", "sample": n} for n in (3, 4)])
    rows = alike.assign(verdict=["correct", "wrong"])
    RolloutStore(lab.artifacts(tmp_path) / "rollouts" / "sampled").append(rows)
    assert phases.samples(real, lab, tmp_path)[0] is lab
    store = RolloutStore(real.artifacts(tmp_path) / "rollouts" / "sampled")
    store.append(alike)
    assert phases.samples(real, lab, tmp_path)[0] is lab, "samples that agree tell nothing"
    store.append(rows.assign(question_id="p"))
    whose, found = phases.samples(real, lab, tmp_path)
    assert whose is real and len(phases.mixed(found)) == 2


def test_figures_of_the_phases_draw_what_they_are_given():
    rollouts = made_up_rollouts(samples=1)
    table = phases.solved_by_cap(rollouts, [10, 20, 60, 300], rollouts.tier)
    labels = [text.get_text() for text in figures.solved_by_cap(table, (20, 60)).legends[0].get_texts()]
    counts = rollouts.groupby("tier", sort=False).size()
    assert labels == [f"{tier} (n = {n})" for tier, n in counts.items()]
    observed = phases.accuracy_by_length(rollouts, 5)
    fit = phases.fit_surge(observed.length, observed["mean"], observed.n)
    assert figures.accuracy_by_length(observed, "length", fit).axes[0].get_ylabel() == "accuracy (%)"
    within = phases.within_questions(made_up_rollouts(), np.geomspace(0.6, 1.7, 6))
    assert "question's own" in figures.accuracy_by_length(within, "ratio").axes[0].get_ylabel()
