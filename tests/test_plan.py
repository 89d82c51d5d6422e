"""What a profile will cost: counted by hand, and against what a recording really took."""

from dataclasses import replace

import numpy as np
import pytest

from clear_lib.study.recordings import plan, recording
from clear_lib.study.setup import profiles


def test_rollouts_are_those_that_are_asked_for():
    profile = profiles.load("smoke")
    for kind in recording.kinds_of(profile):
        _, rollouts, _ = plan.expected_tokens(profile, kind)
        assert rollouts == len(recording.requests(profile, kind))


def test_tokens_by_hand(tmp_path):
    lengths, rungs = {"easy": 100, "moderate": 300}, {"within-64": 64, "within-256": 256}
    profile = profiles.load("laptop", expected_length=lengths, rungs=rungs, pool_per_tier={"easy": 10, "moderate": 5})
    made = plan.plan(profile, "A100", tmp_path)
    expected = made.kinds["expected"]
    assert expected["evaluation"] == 10 * 100 + 5 * 300
    assert expected["rungs"] == 10 * (64 + 100) + 5 * (64 + 256)  # nobody writes more because 256 are allowed
    some = replace(profile, sampled={"moderate": ("a", "b", "c")})
    assert plan.expected_tokens(some, "sampled") == (3, 24, 3 * 8 * 300)
    beside = replace(profile, easy={"easy": 7})
    assert plan.expected_tokens(beside, "easy") == (7, 7, 7 * 100)
    assert expected["sampled"] == 8 * expected["evaluation"] and made.kinds["rollouts"]["sampled"] == 8 * 15
    assert made.kinds["at_most"]["evaluation"] == 15 * profile.cap
    tokens = expected.sum()
    assert made.hours == pytest.approx(tokens / made.tokens_per_second / 3600)
    assert made.most_hours > made.hours and made.fits
    assert made.disk == pytest.approx(profile.model_gigabytes + plan.BYTES_PER_TOKEN * tokens / 1e9)
    for number in (f"{tokens:,.0f} expected", "1 × A100", "1,024 tokens"):
        assert number in str(made)


def test_a_larger_card_is_faster_and_more_cards_are_too():
    small, large = profiles.load("paper-7b"), profiles.load("paper-30b")
    speeds = [plan.plan(small, card).tokens_per_second for card in ("RTX 4090", "A100", "H100")]
    assert speeds == sorted(speeds)
    one = plan.plan(profiles.load("paper-30b", engine_options={"tensor_parallel_size": 1}))
    four = plan.plan(large)
    assert (four.cards, one.cards) == (4, 1) and four.tokens_per_second > one.tokens_per_second
    tight = plan.plan(one.profile, "RTX 4090")
    assert four.fits and not tight.fits
    assert "THE WEIGHTS DO NOT FIT: 61 GB on 1 × RTX 4090" in str(tight) and "FIT" not in str(four)


def test_what_is_recorded_is_not_planned_again_and_the_lengths_were_about_right(tmp_path):
    profile = profiles.load("smoke")
    recording.record(profile, "evaluation", tmp_path)
    made = plan.plan(profile, artifacts=tmp_path)
    assert made.kinds["recorded"]["evaluation"] == made.kinds["rollouts"]["evaluation"] > 0
    assert made.kinds["expected"]["evaluation"] == 0 < made.kinds["expected"]["rungs"]
    length = recording.load(profile, "evaluation", tmp_path).groupby("tier")["length"].mean()
    ratios = length / np.array([profile.expected_length[tier] for tier in length.index])
    assert ((ratios > 0.5) & (ratios < 2)).all()


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="unknown card 'TPU'; known: H100"):
        plan.plan(profiles.load("paper-7b"), "TPU")
    with pytest.raises(ValueError, match="runs no model"):
        plan.plan(profiles.load("smoke", engine="none"))
