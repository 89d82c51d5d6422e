"""Profiles: the shipped ones load, and every mistake in one is named."""

import dataclasses
import math

import pytest
import yaml

from clear_lib import profiles
from clear_lib.reasoner import CHECKPOINT


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_profiles_load_under_their_own_name(name):
    assert profiles.load(name).name == name


def test_the_default_has_streams_of_the_papers_size_and_enough_seeds():
    tiny = profiles.load("tiny")
    assert tiny.stream_size == 500 and tiny.stream_seeds >= 20
    assert tiny.predictor.tiers == ("easy", "moderate")  # the paper's predictor sees no harder question
    for shares in tiny.stream_shares.values():
        assert max(shares) * tiny.stream_size <= min(tiny.pool_per_tier.values())


def test_prompts_keep_braces_of_the_question():
    tiny = profiles.load("tiny")
    assert tiny.prompt("What is {2}?") == "Question: What is {2}?\nSolution:\n"
    assert tiny.prompt("x", "quick").endswith("\nQuick. ")
    with pytest.raises(ValueError, match="unknown rung 'slow'"):
        tiny.prompt("x", "slow")


def test_overrides_and_frozen():
    profile = profiles.load("smoke", stream_seeds=2)
    assert profile.stream_seeds == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.stream_seeds = 3


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("stream_sizes", 5, "overridden: unknown key 'stream_sizes'"),
        ("stream_size", "many", "stream_size must be a whole number of at least 1, got 'many'"),
        ("stream_size", True, "stream_size must be a whole number"),
        ("cap", 0, "cap must be a whole number of at least 1, got 0"),
        ("dtype", "int8", "dtype must be one of: float32"),
        ("scarcities", [0.1, -1], "scarcities must be a number above 0"),
        ("scarcities", [], "scarcities must be a list"),
        ("tiers", ["hard", "easy"], "tiers must be a list of tiers, in the order"),
        ("prompts", {"free": "no place"}, "prompts the template 'free' must contain"),
        ("prompts", {"free": "{question}"}, "rungs names 'quick'"),
        ("rungs", {"quick": 2.0, "normal": 1.0}, "rungs must go from the shortest"),
        ("stream_shares", {"balanced": [1, 1, 1, 1]}, "'balanced' needs one share"),
        ("stream_shares", {"odd": [0.25] * 4}, "stream_shares must be one of: balanced"),
        ("predictor_per_tier", {"easy": 5}, "predictor trains on tier 'moderate'"),
        ("predictor", {"kind": "oracle"}, "predictor must have the keys kind, label"),
    ],
)
def test_bad_values_are_named(key, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        profiles.load("smoke", **{key: value})
    assert "smoke.yaml" in str(caught.value)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    given = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    path.write_text(yaml.safe_dump(given | {"name": "mine"}, sort_keys=False))
    assert profiles.load(path).name == "mine"
    del given["cap"]
    path.write_text(yaml.safe_dump(given, sort_keys=False))
    with pytest.raises(ValueError, match="mine.yaml: the key 'cap' is missing"):
        profiles.load(path)
    path.write_text("- a\n- b")
    with pytest.raises(ValueError, match="mine.yaml: must be a mapping of fields"):
        profiles.load(path)
    path.write_text("a: [")
    with pytest.raises(ValueError, match="mine.yaml: not readable as YAML"):
        profiles.load(path)


def test_an_unknown_profile_lists_the_known():
    with pytest.raises(ValueError, match="no profile 'huge'; known: smoke, tiny"):
        profiles.load("huge")


@pytest.mark.parametrize("name", profiles.names())
def test_the_number_of_weights_is_that_of_the_model(name):
    from safetensors import safe_open

    profile = profiles.load(name)
    assert profile.model == "embedded"
    with safe_open(CHECKPOINT / "model.safetensors", "numpy") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    assert profile.model_parameters == sum(math.prod(shape) for shape in shapes)
