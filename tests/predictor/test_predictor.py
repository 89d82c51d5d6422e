"""Predictors: they learn what can be learnt, say what is wrong, and come back from disk the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from clear_lib import predictor
from clear_lib.study.setup import profiles

OPTIONS = {
    "encoder": {"width": 16, "layers": 1, "heads": 2, "epochs": 12},
    "deberta": {"width": 16, "layers": 1, "learning_rate": 5e-3, "epochs": 12},
}
each = pytest.mark.parametrize("kind", predictor.KINDS)


def build(kind, seed=0, **options):
    return predictor.build(kind, OPTIONS.get(kind, {}) | options, seed=seed)


def questions(n, seed):
    """Questions whose solutions take 20 tokens for every plus sign, give or take a fifth."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(1, 8, n)
    texts = ["Add " + " + ".join(str(k) for k in rng.integers(10, 99, s + 1)) + " ." for s in signs]
    return texts, np.maximum(1, np.round(20 * signs * np.exp(rng.normal(0, 0.2, n))))


@pytest.mark.parametrize("kind", [kind for kind in predictor.KINDS if kind != "constant"])
def test_lengths_are_learnt_in_tokens(kind):
    made = build(kind).fit(*questions(200, 0))
    texts, lengths = questions(100, 1)
    threshold = made.predict(texts).threshold
    assert spearmanr(threshold, lengths).statistic > 0.85
    assert np.median(threshold / lengths) == pytest.approx(1, abs=0.25)


def test_the_constant_is_the_geometric_mean():
    made = build("constant").fit(["a", "b"], [10, 1000])
    assert made.predict(["c"]).threshold == pytest.approx([100])
    assert made.cost(["c"]).tolist() == [0]


@each
def test_saved_and_loaded_predicts_the_same(kind, tmp_path):
    texts, lengths = questions(60, 0)
    made = build(kind).fit(texts, lengths)
    made.save(tmp_path / "here")
    assert {path.suffix for path in (tmp_path / "here").iterdir()} <= {".json", ".safetensors"}
    again = predictor.load(tmp_path / "here")
    fresh = [*texts[:5], "words it has never seen: ∑ 7"]
    np.testing.assert_allclose(again.predict(fresh).threshold, made.predict(fresh).threshold, rtol=1e-6)
    assert again.cost(fresh).tolist() == made.cost(fresh).tolist()


@each
def test_prediction_of_a_question_does_not_depend_on_its_batch(kind):
    texts, lengths = questions(60, 0)
    made = build(kind).fit(texts, lengths)
    alone = [made.predict([text]).threshold[0] for text in texts[:4]]
    np.testing.assert_allclose(made.predict(texts).threshold[:4], alone, rtol=1e-5)


def test_the_same_seed_gives_the_same_encoder_and_leaves_the_callers_random_numbers_alone():
    import torch

    texts, lengths = questions(40, 0)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = build("encoder", seed=5).fit(texts, lengths).predict(texts).threshold
    assert torch.rand(1) == expected
    again = build("encoder", seed=5).fit(texts, lengths).predict(texts).threshold
    other = build("encoder", seed=6).fit(texts, lengths).predict(texts).threshold
    assert first.tolist() == again.tolist() != other.tolist()


def test_cost_counts_the_weights_in_use_times_the_tokens_read():
    texts, lengths = questions(40, 0)
    encoder = build("encoder").fit(texts, lengths)
    weights = encoder.cost(["1"])[0]
    assert encoder.cost(["1 + 2", "1 + 2 + 3"]).tolist() == [3 * weights, 5 * weights]
    assert (
        build("encoder", context=2).fit(texts, lengths).cost(["1 + 2 + 3"])[0] == 2 * weights
    )  # truncated from the left


@each
def test_bad_lengths_are_named(kind):
    made = build(kind)
    with pytest.raises(ValueError, match=r"lengths\[1\] is 0"):
        made.fit(["a", "b"], [3, 0])
    with pytest.raises(ValueError, match=r"lengths\[0\] is NaN"):
        made.fit(["a"], [float("nan")])
    with pytest.raises(ValueError, match="lengths has 1 values for 2"):
        made.fit(["a", "b"], [3])
    with pytest.raises(RuntimeError, match="fit the predictor"):
        build(kind).predict(["a"])


def test_unknown_options_and_empty_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="'ridge'.*unexpected keyword argument 'wdth'"):
        build("ridge", wdth=3)
    with pytest.raises(ValueError, match="unknown kind of predictor 'rige'; known: deberta, "):
        build("rige")
    with pytest.raises(ValueError, match="holds no predictor"):
        predictor.load(tmp_path)


@pytest.mark.parametrize("name", profiles.names())
def test_the_profiles_options_are_known(name):
    profile = profiles.load(name)
    for each in (profile.predictor, profile.teacher):
        predictor.build(each.kind, each.options)


def test_questions_are_held_out_by_their_text():
    texts = [f"question {i // 4}" for i in range(80)]
    out = predictor.held_out(texts, 0.2, seed=0)
    assert out.sum() == 16 and (out.reshape(-1, 4).all(axis=1) == out.reshape(-1, 4).any(axis=1)).all()
    assert predictor.held_out(texts, 0.01, seed=0).sum() == 4 and predictor.held_out(texts, 0.0, seed=0).sum() == 0
    assert predictor.held_out(["one"], 0.5, seed=0).tolist() == [False]


@given(solved=st.integers(2, 20), share=st.sampled_from([0.1, 0.2, 0.5]), seed=st.integers(0, 100))
def test_of_solved_and_unsolved_questions_the_same_share_is_held_out(solved, share, seed):
    texts, correct = [f"question {i}" for i in range(60)], np.arange(60) < solved
    out = predictor.held_out(texts, share, seed, correct)
    assert out[correct].sum() == max(1, round(share * solved)) < solved
    assert out[~correct].sum() == round(share * (60 - solved))
