"""The shipped checkpoint keeps what the book says of it, on questions decoded here and now."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from clear_lib.engines.transformers import TransformersEngine
from clear_lib.predictor.linear import Ridge
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks
from clear_lib.rollouts.grading import extract_answer

pytestmark = pytest.mark.slow

QUESTIONS, SAMPLED, SAMPLES, CAP = 500, 50, 8, 768


def solve(engine, questions, temperature=0.0, style=""):
    """Questions with the length of a fresh completion each and whether its boxed answer is the gold one."""
    prompts = [PROMPT.format(question=question) + style for question in questions.question]
    seeds = list(range(len(prompts))) if temperature else None
    done = dict(engine.stream(prompts, [CAP] * len(prompts), temperature, seeds))
    completions = [done[position] for position in range(len(prompts))]
    right = [extract_answer(c.text) == gold for c, gold in zip(completions, questions.gold, strict=True)]
    return questions.assign(length=[c.length for c in completions], right=right)


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(str(CHECKPOINT))


@pytest.fixture(scope="module")
def greedy(engine):
    return solve(
        engine, pd.concat([tasks.questions("evaluation", tier, QUESTIONS) for tier in tasks.TIERS], ignore_index=True)
    )


def test_it_is_small_and_of_a_standard_format():
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    names = {path.name for path in CHECKPOINT.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "generation_config.json", "training.json"} <= names
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= 8e6
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    assert type(model).__module__.startswith("transformers.models.llama")
    assert GenerationConfig.from_pretrained(CHECKPOINT).eos_token_id == tokenizer.eos_token_id == 0


def test_digits_and_letters_stand_alone():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT)
    text = "Solve 12x+5=-3x for x. café"
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.tokenize("3x=12") == ["3", "x", "=", "1", "2"]
    assert tokenizer.tokenize("for x") == [*tokenizer.tokenize("for "), *tokenizer.tokenize("x")]


@pytest.mark.parametrize(
    ("tier", "low", "high"),
    [("easy", 0.88, 1.0), ("moderate", 0.60, 0.85), ("hard", 0.15, 0.50), ("very hard", 0.03, 0.25)],
)
def test_accuracy_by_tier(greedy, tier, low, high):
    assert low <= greedy[greedy.tier == tier].right.mean() <= high


def test_lengths_rise_from_tier_to_tier_and_span_a_wide_range(greedy):
    means = greedy.groupby("tier", sort=False).length.mean()
    assert (np.diff(means) > 0).all(), means
    assert greedy.length.quantile(0.9) / greedy.length.quantile(0.1) >= 8


def test_length_can_be_predicted_from_the_question_but_not_told(engine, greedy):
    seen = solve(
        engine, pd.concat([tasks.questions("predictor", tier, 300) for tier in tasks.TIERS], ignore_index=True)
    )
    predicted = Ridge().fit(list(seen.question), seen.length.to_numpy()).predict(list(greedy.question)).threshold
    assert 0.6 <= spearmanr(predicted, greedy.length).statistic <= 0.95


def test_samples_of_a_question_differ_in_length_and_in_correctness(engine):
    questions = pd.concat([tasks.questions("evaluation", tier, SAMPLED) for tier in ("moderate", "hard")])
    sampled = solve(engine, questions.loc[questions.index.repeat(SAMPLES)].reset_index(drop=True), temperature=1.0)
    by_question = sampled.groupby("question_id")
    assert by_question.right.mean().between(0, 1, inclusive="neither").mean() >= 0.30
    spread = by_question.length.quantile(0.9) / by_question.length.quantile(0.1)
    assert spread.median() >= 1.5


def test_the_opening_style_is_a_soft_budget(engine):
    questions = tasks.questions("evaluation", "moderate", 100)
    means = [solve(engine, questions, style=f"{style.capitalize()}. ").length.mean() for style in tasks.STYLES]
    assert means[0] < means[1] < means[2]


def test_a_batch_served_in_rounds_is_the_batch_decoded_at_once(engine):
    from clear_lib import Forecasts, Problem
    from clear_lib.serving import EngineStepper, ReplayStepper, serve

    prompts = [
        PROMPT.format(question=question)
        for tier in tasks.TIERS
        for question in tasks.questions("evaluation", tier, 20).question
    ]
    whole = engine.generate(prompts, [CAP] * len(prompts))
    lengths = np.array([completion.length for completion in whole])
    forecasts = Forecasts(
        np.full(len(prompts), 40.0), spread=np.full(len(prompts), 0.8), solvable=np.full(len(prompts), 0.5)
    )
    problem = Problem(forecasts, int(0.8 * lengths.sum()), CAP)
    live = EngineStepper(engine, prompts)
    outcomes = [
        serve(problem, stepper, "clear-sequential", accounting="refunds") for stepper in (live, ReplayStepper(lengths))
    ]
    assert (outcomes[0].used == outcomes[1].used).all() and outcomes[0].rounds > 3
    assert [len(set(lengths[outcomes[0].finished])) > 10, outcomes[0].finished.all()] == [True, False]
    assert all(
        tokens == completion.tokens[: len(tokens)] for tokens, completion in zip(live.tokens, whole, strict=True)
    )
