"""Profiles: the shipped ones load, and every mistake in one is named."""

import dataclasses
import math
import re

import pytest
import yaml

from clear_lib.reasoner import CHECKPOINT
from clear_lib.study.setup import benchmarks, paper, profiles, streams


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_profiles_load_under_their_own_name(name):
    assert profiles.load(name).name == name


def test_the_default_has_streams_of_the_papers_size_and_enough_seeds():
    tiny = profiles.load("tiny")
    assert tiny.stream_size == 500 and tiny.stream_seeds >= 20
    assert tiny.predictor.tiers == ("easy", "moderate")  # the paper's predictor sees no harder question
    for shares in tiny.stream_shares.values():
        assert max(shares) * tiny.stream_size <= min(tiny.pool_per_tier.values())


RIDGE = {"kind": "ridge", "label": "ridge", "tiers": ["easy"], "rollouts": "all"}


def in_tokens(profile):
    """Budgets and floor of a profile with a reference length, whole tokens."""
    return [round(part * profile.reference_length) for part in (*profile.scarcities, profile.floor_fraction)]


def test_profiles_of_the_paper_have_its_numbers():
    small, large = profiles.load("paper-7b"), profiles.load("paper-30b")
    for profile, budgets, table in ((small, paper.BUDGETS, paper.TABLE_6), (large, paper.BUDGETS_30B, paper.TABLE_7)):
        assert in_tokens(profile) == [*budgets, paper.FLOOR]
        assert profile.stream_size == paper.STREAM_SIZE and profile.predictor.kind == "deberta"
        evaluated = [row for row in table.itertuples() if row.use == "evaluation"]
        sizes = {tier: sum(row.total for row in evaluated if row.tier == tier) for tier in profile.tiers}
        assert dict(profile.pool_per_tier) == sizes
        tokens = sum(row.total * row.mean_length for row in evaluated)
        expected = sum(sizes[tier] * profile.expected_length[tier] for tier in sizes)
        assert expected == pytest.approx(tokens, rel=1e-3)
        assert profile.reference_length == pytest.approx(tokens / sum(sizes.values()), rel=1e-3)
        for shares in profile.stream_shares.values():  # drawn without replacement
            counts = streams.tier_counts(shares, profile.stream_size)
            assert all(count <= sizes.get(tier, 0) for tier, count in zip(streams.TIERS, counts, strict=True))
    assert large.cap == paper.TABLE_5.max_new_tokens_30b


def test_what_the_paper_prints_is_an_override():
    clean, printed = profiles.load("paper-7b"), profiles.load("paper-7b-printed")
    assert printed.cap == paper.TABLE_5.max_new_tokens_7b and printed.questions == "paper"
    taught = {row.tier: row.total for row in paper.TABLE_6.itertuples() if row.use == "predictor"}
    assert dict(printed.predictor_per_tier) == taught and clean.questions == "clean"
    assert printed.engine_options["max_model_len"] >= printed.cap + 1700  # the longest question


@pytest.mark.parametrize("name", ["paper-7b", "paper-7b-printed", "paper-30b"])
def test_each_field_of_the_papers_profiles_says_where_it_comes_from(name):
    said = profiles.sources(name)
    words = r"Table \d|[Ss]ection \d|A\.2|[Oo]pen|ours|inferred|of the model|published|stands in"
    silent = {field for field, source in said.items() if not re.search(words, source)}
    assert silent <= {"name", "questions_folder"}
    assert set(said) == {field.name for field in dataclasses.fields(profiles.Profile)}


def test_the_public_sets_have_the_splits_that_profiles_can_name():
    assert {"clean", "paper"} == set(benchmarks.PREDICTOR) == set(profiles.QUESTIONS) - {"generated"}


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
        ("stream_sizes", 5, "overridden: unknown key 'stream_sizes'; known: name, model"),
        ("stream_size", "many", "stream_size must be a valid integer, got 'many'"),
        ("stream_size", True, "stream_size must be a valid integer, got True"),
        ("cap", 0, "cap must be greater than or equal to 1, got 0"),
        ("scarcities", [0.1, -1], "scarcities.1 must be greater than 0, got -1"),
        ("scarcities", [], "scarcities must have at least 1 item"),
        ("scarcities", 0.5, "scarcities must be a valid tuple, got 0.5"),
        ("tiers", ["hard", "easy"], "tiers must have one or more tiers in the order: easy, moderate, hard"),
        ("prompts", {"free": "no place"}, "prompts.free must contain {question} once"),
        ("prompts", {"free": "{question}"}, "rungs names 'quick'"),
        ("rungs", {"quick": 2.0, "normal": 1.0}, "rungs must go from the shortest"),
        ("stream_shares", {"balanced": [1, 1, 1, 1]}, "stream_shares.balanced must be 4 shares that sum to 1"),
        ("stream_shares", {"odd": [0.25] * 4}, "stream_shares.odd must be 'balanced', 'mostly-easy'"),
        ("predictor_per_tier", {"easy": 5}, "predictor trains on tier 'moderate'"),
        ("predictor", {"kind": "oracle"}, "predictor.kind must be 'deberta', 'encoder'.* got 'oracle'"),
        ("predictor", {"kind": "ridge"}, "the key 'predictor.label' is missing"),
        ("predictor", RIDGE | {"rolouts": "all"}, "unknown key 'predictor.rolouts'"),
        ("chat", "absent.txt", "chat names a file that is not there; known: chatml.txt"),
        ("chat", "{question}", "chat must contain {prompt} once"),
        ("engine", "tpu", "engine must be 'transformers', 'vllm'"),
        ("engine_options", ["a"], "engine_options must be a valid dictionary"),
        ("questions_folder", 3, "questions_folder must be a valid string"),
        ("reference_length", 0, "reference_length must be greater than 0"),
        ("expected_length", {"easy": -1}, "expected_length.easy must be greater than 0"),
        ("weights", {"file": "a.gguf", "sha256": "0"}, "weights must have a file and its sha256, 64 hexadecimal"),
        ("name", "../../tmp", "name must be a name without spaces and slashes"),
        ("name", "..", "name must be a name without spaces and slashes"),
    ],
)
def test_bad_values_are_named(key, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        profiles.load("smoke", **{key: value})
    assert "smoke.yaml" in str(caught.value)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    given = yaml.safe_load((profiles.FOLDER / "tiny.yaml").read_text())
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


def test_a_profile_has_the_fields_of_its_base_but_for_its_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: smoke\nname: mine\ncap: 99\n")
    mine, smoke, tiny = profiles.load(path), profiles.load("smoke"), profiles.load("tiny")
    assert mine == dataclasses.replace(smoke, name="mine", cap=99)
    assert smoke.prompts == tiny.prompts and smoke.pool_per_tier != tiny.pool_per_tier
    path.write_text("base: tiny\nname: mine\nquestions_folder: ../sets\n")
    assert profiles.load(path).questions_folder == str(tmp_path.parent / "sets")
    path.write_text(f"base: {path}\nname: mine\n")
    with pytest.raises(ValueError, match="mine.yaml: a profile cannot be its own base"):
        profiles.load(path)
    path.write_text("base: huge\nname: mine\n")
    with pytest.raises(ValueError, match="no profile 'huge'"):
        profiles.load(path)
    path.write_text("base: tiny\nname: mine\nseed: -1\n")
    with pytest.raises(ValueError, match="mine.yaml: seed must be greater than or equal to 0"):
        profiles.load(path)


def test_what_the_model_reads_is_the_prompt_in_its_chat():
    paper = profiles.load("paper-7b")
    read = paper.prompt("What is {prompt}?")
    assert read.startswith("<|im_start|>system") and read.endswith("<|im_start|>assistant\n")
    assert "What is {prompt}?" in read and "\\boxed{}" in read


@pytest.mark.parametrize("name", ["huge", "../profiles/tiny"])
def test_an_unknown_profile_lists_the_known(name):
    with pytest.raises(ValueError, match=f"no profile '{name}'; known: .*smoke, tiny"):
        profiles.load(name)


@pytest.mark.parametrize("name", ["smoke", "tiny"])
def test_the_number_of_weights_is_that_of_the_model(name):
    from safetensors import safe_open

    profile = profiles.load(name)
    assert profile.model == "embedded"
    with safe_open(CHECKPOINT / "model.safetensors", "numpy") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    assert profile.model_parameters == sum(math.prod(shape) for shape in shapes)
