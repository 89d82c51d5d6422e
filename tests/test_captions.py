"""Captions say what a result was made of, no more and no less."""

import pytest

from clear_lib.study.pages import captions
from clear_lib.study.setup import profiles

RECORDED = {"evaluation": (96, 1547), "predictor": (72, 2500)}
PART = {"model": "a/Small-1B-GGUF", "engine": "none", "recorded": RECORDED}


@pytest.mark.parametrize(
    "changes, rollouts",
    [
        ({}, "laboratory model, greedy rollouts"),
        (PART, "Small-1B, recorded greedy rollouts"),
        ({"engine": "none"}, "imported rollouts"),
        ({"engine": "none", "revision": "simulated"}, "simulated rollouts"),
    ],
)
def test_a_caption_says_whose_rollouts_they_are(changes, rollouts):
    assert rollouts in captions.provenance(profiles.load("smoke", **changes))


def test_a_caption_speaks_of_intervals_only_where_there_are_some():
    smoke = profiles.load("smoke")
    assert "intervals" in captions.provenance(smoke)
    assert "intervals" not in captions.provenance(smoke, intervals=False)


def test_a_caption_names_tale_eps_teacher_only_where_tale_ep_is():
    smoke = profiles.load("smoke")
    assert "TALE-EP" not in captions.provenance(smoke)
    assert "TALE-EP" not in captions.provenance(smoke, ["uniform", "clear"])
    assert f"TALE-EP has a {smoke.teacher.label}." in captions.provenance(smoke, ["uniform", "tale-ep"])


def test_captions_say_how_much_is_recorded():
    smoke, part = profiles.load("smoke"), profiles.load("smoke", **PART)
    assert captions.evaluation_questions(smoke) == "96 evaluation questions"
    assert captions.training_questions(smoke) == "72"
    assert captions.data(smoke) == "laboratory model, 96 evaluation questions; 5 streams of N = 16"
    assert captions.data(part, streams=False) == "Small-1B, 96 of the 1,547 evaluation questions"
    assert captions.training_questions(part) == "72 of the 2,500"
    assert "96 of the 1,547" in captions.provenance(part)


def test_a_small_stream_says_why():
    assert captions.stream_size(profiles.load("tiny")) == "A stream has 500 queries, as in the paper."
    assert "all that the pool has" in captions.stream_size(profiles.load("smoke"))
    said = captions.stream_size(profiles.load("smoke", **PART))
    assert "16 queries where the paper's has 500" in said and "recorded so far" in said and "vary more" in said
    assert "vary more" not in captions.stream_size(profiles.load("smoke", stream_size=400))
