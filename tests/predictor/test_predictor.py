"""Predictors: they learn what can be learnt, say what is wrong, and come back from disk the same."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from clear_lib import predictor
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import Forecaster

EVERYONE = [
    Forecaster("encoder", "e", ("easy",), "all", {"width": 16, "layers": 1, "heads": 2, "epochs": 12}),
    Forecaster("ridge", "r", ("easy",), "all", {}),
    Forecaster("deberta", "d", ("easy",), "all", {"width": 16, "layers": 1, "learning_rate": 5e-3, "epochs": 12}),
    Forecaster("sentence", "s", ("easy",), "all", {}),
    Forecaster("constant", "c", ("easy",), "all", {}),
]
LEARNERS = EVERYONE[:-1]
each = pytest.mark.parametrize("forecaster", EVERYONE, ids=lambda f: f.kind)


def questions(n, seed):
    """Questions whose solutions take 20 tokens for every plus sign, give or take a fifth."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(1, 8, n)
    texts = ["Add " + " + ".join(str(k) for k in rng.integers(10, 99, s + 1)) + " ." for s in signs]
    return texts, np.maximum(1, np.round(20 * signs * np.exp(rng.normal(0, 0.2, n))))


@pytest.mark.parametrize("forecaster", LEARNERS, ids=lambda f: f.kind)
def test_lengths_are_learnt_in_tokens(forecaster):
    made = predictor.build(forecaster, seed=0).fit(*questions(200, 0))
    texts, lengths = questions(100, 1)
    threshold = made.predict(texts).threshold
    assert spearmanr(threshold, lengths).statistic > 0.85
    assert np.median(threshold / lengths) == pytest.approx(1, abs=0.25)


def test_the_constant_is_the_geometric_mean():
    made = predictor.build(EVERYONE[-1]).fit(["a", "b"], [10, 1000])
    assert made.predict(["c"]).threshold == pytest.approx([100])
    assert made.cost(["c"]).tolist() == [0]


@each
def test_saved_and_loaded_predicts_the_same(forecaster, tmp_path):
    texts, lengths = questions(60, 0)
    made = predictor.build(forecaster).fit(texts, lengths)
    made.save(tmp_path / "here")
    assert {path.suffix for path in (tmp_path / "here").iterdir()} <= {".json", ".safetensors"}
    again = predictor.load(tmp_path / "here")
    fresh = [*texts[:5], "words it has never seen: ∑ 7"]
    np.testing.assert_allclose(again.predict(fresh).threshold, made.predict(fresh).threshold, rtol=1e-6)
    assert again.cost(fresh).tolist() == made.cost(fresh).tolist()


@each
def test_prediction_of_a_question_does_not_depend_on_its_batch(forecaster):
    texts, lengths = questions(60, 0)
    made = predictor.build(forecaster).fit(texts, lengths)
    alone = [made.predict([text]).threshold[0] for text in texts[:4]]
    np.testing.assert_allclose(made.predict(texts).threshold[:4], alone, rtol=1e-5)


def test_the_same_seed_gives_the_same_encoder_and_leaves_the_callers_random_numbers_alone():
    import torch

    texts, lengths = questions(40, 0)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = predictor.build(LEARNERS[0], seed=5).fit(texts, lengths).predict(texts).threshold
    assert torch.rand(1) == expected
    again = predictor.build(LEARNERS[0], seed=5).fit(texts, lengths).predict(texts).threshold
    other = predictor.build(LEARNERS[0], seed=6).fit(texts, lengths).predict(texts).threshold
    assert first.tolist() == again.tolist() != other.tolist()


def test_cost_counts_the_weights_in_use_times_the_tokens_read():
    texts, lengths = questions(40, 0)
    encoder = predictor.build(LEARNERS[0]).fit(texts, lengths)
    weights = encoder.cost(["1"])[0]
    assert encoder.cost(["1 + 2", "1 + 2 + 3"]).tolist() == [3 * weights, 5 * weights]
    short = predictor.build(dataclasses.replace(LEARNERS[0], options=LEARNERS[0].options | {"context": 2}))
    assert short.fit(texts, lengths).cost(["1 + 2 + 3"])[0] == 2 * weights  # truncated from the left


@each
def test_bad_lengths_are_named(forecaster):
    made = predictor.build(forecaster)
    with pytest.raises(ValueError, match=r"lengths\[1\] is 0"):
        made.fit(["a", "b"], [3, 0])
    with pytest.raises(ValueError, match=r"lengths\[0\] is NaN"):
        made.fit(["a"], [float("nan")])
    with pytest.raises(ValueError, match="lengths has 1 values for 2"):
        made.fit(["a", "b"], [3])
    with pytest.raises(RuntimeError, match="fit the predictor"):
        predictor.build(forecaster).predict(["a"])


def test_unknown_options_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="'ridge'.*unexpected keyword argument 'wdth'"):
        predictor.build(Forecaster("ridge", "r", ("easy",), "all", {"wdth": 3}))
    with pytest.raises(ValueError, match="holds no predictor"):
        predictor.load(tmp_path)


@pytest.mark.parametrize("name", profiles.names())
def test_the_profiles_options_are_known(name):
    profile = profiles.load(name)
    predictor.build(profile.predictor)
    predictor.build(profile.teacher)


def test_training_rollouts_are_of_the_tiers_and_verdicts_asked_for():
    frame = pd.DataFrame({"tier": ["easy", "hard", "easy"], "verdict": ["wrong", "correct", "correct"]})
    only = Forecaster("constant", "c", ("easy",), "correct", {})
    assert predictor.training_rollouts(EVERYONE[-1], frame).index.tolist() == [0, 2]
    assert predictor.training_rollouts(only, frame).index.tolist() == [2]
    with pytest.raises(ValueError, match="no rollouts to fit: tiers easy, correct"):
        predictor.training_rollouts(only, frame.iloc[:2])


def test_rank_correlation_by_part():
    frame = pd.DataFrame({"tier": ["easy"] * 30 + ["hard"] * 30, "length": np.arange(60) + 1.0})
    frame["threshold"] = np.where(frame["tier"] == "easy", 2 * frame["length"], 100 - frame["length"])
    table = predictor.rank_correlation(frame, {"in": ["easy"], "out": ["hard"]}).set_index("part")
    assert table["spearman"].tolist() == pytest.approx([1, -1])
    assert table.loc["in", "ratio"] == pytest.approx(2)
    length = np.log(frame["length"][:30])
    assert table.loc["in", "r2"] == pytest.approx(1 - np.log(2) ** 2 / np.var(length)) and table.loc["out", "r2"] < 0
    assert (table["low"] <= table["spearman"] + 1e-9).all() and (table["high"] >= table["spearman"] - 1e-9).all()


def test_a_constant_has_no_rank_correlation():
    frame = pd.DataFrame({"tier": "easy", "length": [1, 2, 3], "threshold": 2.0})
    row = predictor.rank_correlation(frame, {"in": ["easy"]}).iloc[0]
    assert np.isnan([row["spearman"], row["low"], row["high"]]).all() and row["ratio"] == 1


def test_the_lead_of_better_ranks_is_above_zero_and_of_the_same_ranks_zero():
    rng = np.random.default_rng(0)
    length = rng.lognormal(4, 1, 300)
    good, bad = (length * rng.lognormal(0, noise, 300) for noise in (0.3, 1.5))
    frame = pd.DataFrame({"tier": ["easy"] * 250 + ["hard"] * 50, "length": length})
    said = {"good": good, "bad": bad, "same": 2 * good, "constant": np.ones(300)}
    table = predictor.rank_leads(frame, said, {"in": ["easy"]}).set_index(["part", "rival"])
    assert table.index.tolist() == [("in", "bad"), ("in", "same")]
    row = table.loc["in", "bad"]
    expected = [spearmanr(length[:250], threshold[:250]).statistic for threshold in (good, bad)]
    assert row["lead"] == pytest.approx(expected[0] - expected[1]) and 0 < row["low"] < row["lead"] < row["high"] < 1
    assert table.loc["in", "same"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["encoder", "deberta", "ridge"])
def test_rivals_are_of_every_other_kind_and_see_the_same(kind):
    mine = Forecaster(kind, "mine", ("easy", "moderate"), "correct", {"epochs": 1})
    others = predictor.rivals(mine)
    assert {rival.kind for rival in others} == {"encoder", "deberta", "sentence", "ridge", "constant"} - {kind}
    assert {(rival.tiers, rival.rollouts) for rival in others} == {(mine.tiers, "correct")}
    for rival in others:
        predictor.build(rival)


def test_questions_are_held_out_by_their_text():
    texts = [f"question {i // 4}" for i in range(80)]
    out = predictor.held_out(texts, 0.2, seed=0)
    assert out.sum() == 16 and (out.reshape(-1, 4).all(axis=1) == out.reshape(-1, 4).any(axis=1)).all()
    assert predictor.held_out(texts, 0.01, seed=0).sum() == 4 and predictor.held_out(texts, 0.0, seed=0).sum() == 0
    assert predictor.held_out(["one"], 0.5, seed=0).tolist() == [False]


def test_the_forecast_table_counts_costs_in_tokens_of_the_reasoner():
    texts, lengths = questions(40, 0)
    made, teacher = (predictor.build(one).fit(texts, lengths) for one in LEARNERS[:2])
    asked = pd.DataFrame({"question_id": ["b", "a"], "question": texts[:2]})
    table = predictor.forecast_table(made, teacher, asked, 1000)
    assert table["question_id"].tolist() == ["b", "a"]
    assert table["threshold"].tolist() == made.predict(texts[:2]).threshold.tolist()
    assert table["estimate"].tolist() == teacher.predict(texts[:2]).threshold.tolist()
    assert table["threshold_cost"].tolist() == (made.cost(texts[:2]) / 1000).tolist()
    assert table["estimate_cost"].tolist() == (teacher.cost(texts[:2]) / 1000).tolist()


def test_forecasts_that_are_missing_say_which_chapter_makes_them(tmp_path):
    smoke = profiles.load("smoke")
    with pytest.raises(ValueError, match="run notebooks/06_predictor.ipynb with profile 'smoke' first"):
        predictor.read_forecasts(smoke, tmp_path)
    path = predictor.forecast_file(smoke, tmp_path)
    path.parent.mkdir(parents=True)
    pd.DataFrame({"question_id": ["a"]}).to_parquet(path)
    assert predictor.read_forecasts(smoke, tmp_path)["question_id"].tolist() == ["a"]
