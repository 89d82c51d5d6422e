"""The batched decoder against transformers' own generate, on small models with random weights."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    set_seed,
)

from clear_lib import engines
from clear_lib.engines.transformers import TransformersEngine, sample
from clear_lib.reasoner import name_of
from clear_lib.study.setup import models, profiles

SYMBOLS = [chr(code) for code in (*range(32, 127), *range(0x100, 0x180))]
ENDS = [0, 5]
SIZE = {
    "vocab_size": len(SYMBOLS) + 1,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
    "eos_token_id": ENDS,
    "pad_token_id": 0,
    "bos_token_id": None,
}


def checkpoint(folder, config):
    """A random model with a tokenizer of single characters, saved as a hub checkpoint would be."""
    vocabulary = {symbol: index for index, symbol in enumerate(["<|end|>", *SYMBOLS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>").save_pretrained(
        folder
    )
    set_seed(3)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=ENDS, pad_token_id=0)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=[LlamaConfig, Qwen2Config], ids=["llama", "qwen2"])
def folder(request, tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model"), request.param(**SIZE))


@pytest.fixture(scope="module")
def engine(folder):
    return TransformersEngine(folder, batch_size=8)


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(0)
    return ["".join(rng.choice(SYMBOLS, rng.integers(1, 60))) for _ in range(40)]


@pytest.fixture(scope="module")
def uncapped(engine, prompts):
    return engine.generate(prompts, [150] * len(prompts))


def test_greedy_tokens_are_those_of_generate(folder, prompts, uncapped):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    for prompt, completion in zip(prompts, uncapped, strict=True):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=150, do_sample=False)
        assert completion.tokens == tuple(expected[0, ids.shape[1] :].tolist())
    assert len({completion.length for completion in uncapped}) > 10  # or the test would show little


def test_an_end_token_stops_and_counts(engine, prompts, uncapped):
    caps = [150] * len(prompts) + [10] * len(prompts)
    completions = [*uncapped, *engine.generate(prompts, [10] * len(prompts))]
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for completion, cap in zip(completions, caps, strict=True):
        assert completion.length == len(completion.tokens)
        if completion.finish_reason == "stop":
            assert completion.tokens[-1] in ENDS and not set(completion.tokens[:-1]) & set(ENDS)
        else:
            assert completion.length == cap and not set(completion.tokens) & set(ENDS)
        assert "<|end|>" not in completion.text


def test_caps_are_honoured_exactly_and_give_prefixes(engine, prompts, uncapped):
    caps = np.random.default_rng(1).integers(0, 150, len(prompts))
    for completion, whole, cap in zip(engine.generate(prompts, caps), uncapped, caps, strict=True):
        assert completion.tokens == whole.tokens[:cap]
        assert completion.finish_reason == (
            "stop" if whole.finish_reason == "stop" and whole.length <= cap else "length"
        )


def test_no_prompts_and_no_caps_need_no_decoding(engine):
    assert engine.generate([], []) == []
    assert engine.generate(["abc"], [0]) == [engines.Completion("", (), "length")]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_changes_nothing(folder, prompts, uncapped, batch_size):
    assert TransformersEngine(folder, batch_size=batch_size).generate(prompts[:12], [150] * 12) == uncapped[:12]


def test_a_paused_completion_goes_on_as_if_it_had_not_been(engine, prompts, uncapped):
    rng = np.random.default_rng(2)
    done, open_ = [()] * len(prompts), list(range(len(prompts)))
    while open_:
        caps = rng.integers(1, 40, len(open_))
        pieces = engine.generate([prompts[i] for i in open_], caps, begun=[done[i] for i in open_])
        for i, cap, piece in zip(open_, caps, pieces, strict=True):
            assert piece.length <= cap and (piece.length == cap or piece.finish_reason == "stop")
            done[i] += piece.tokens
        open_ = [
            i for i, piece in zip(open_, pieces, strict=True) if piece.finish_reason == "length" and len(done[i]) < 150
        ]
    for tokens, whole in zip(done, uncapped, strict=True):
        assert tokens[:150] == whole.tokens


def test_a_sample_depends_on_its_prompt_and_seed_alone(folder, engine, prompts):
    caps, seeds = [80] * len(prompts), range(100, 100 + len(prompts))
    samples = engine.generate(prompts, caps, 1.0, seeds)
    alone = TransformersEngine(folder, batch_size=1)
    for position in (0, 17, 39):
        assert alone.generate([prompts[position]], [80], 1.0, [seeds[position]]) == [samples[position]]
        longer = alone.generate([prompts[position]], [120], 1.0, [seeds[position]])[0]
        assert longer.tokens[:80] == samples[position].tokens
    again = engine.generate([prompts[0]] * 8, [80] * 8, 1.0, range(8))
    assert len({completion.tokens for completion in again}) > 4


def test_samples_follow_the_distribution():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0]).repeat(40_000, 1)
    shares = sample(logits, torch.rand(40_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    shares = torch.bincount(shares, minlength=4) / 40_000
    assert torch.allclose(shares, logits[0].softmax(0), atol=0.01)  # four standard errors
    edges = sample(logits[:2], torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert edges.tolist() == [0, 3]


def test_a_low_temperature_is_nearly_greedy(engine, prompts, uncapped):
    cold = engine.generate(prompts, [30] * len(prompts), 1e-4, range(len(prompts)))
    assert [completion.tokens for completion in cold] == [completion.tokens[:30] for completion in uncapped]


def test_completions_arrive_as_they_end(engine, prompts):
    arrivals = [position for position, _ in engine.stream(prompts, [1] * 30 + [100] * 10)]
    assert sorted(arrivals) == list(range(40)) and arrivals != sorted(arrivals)


def test_a_stream_can_be_left(engine, prompts, uncapped):
    stream = engine.stream(prompts, [150] * len(prompts))
    next(stream)
    stream.close()
    assert engine.generate(prompts[:3], [150] * 3) == uncapped[:3]
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["ab"], [3, 4]), "1 prompts need as many caps"),
        ((["ab"], [-1]), "prompt 0: 2 tokens and a cap of -1"),
        ((["ab", "ab"], [9, 255]), "prompt 1: 2 tokens and a cap of 255.*context of 256"),
        ((["ab", ""], [9, 9]), "prompt 1: 0 tokens"),
        ((["ab"], [2.5]), "whole numbers"),
        ((["ab"], [9], 1.0), "temperature 1.0"),
        ((["ab"], [9], -1.0, [1]), "temperature -1.0"),
        ((["ab"], [9], 1.0, [1, 2]), "2 seeds"),
        ((["ab"], [9], 0.0, None, None, [[1], [2]]), "2 beginnings for 1 prompts"),
        ((["ab"], [9], 1.0, [1], None, [[1]]), "1 beginnings for 1 prompts at temperature 1.0.*greedy"),
        ((["ab", "ab"], [9, 9], 0.0, None, None, [[1], [7, 5]]), "prompt 1: its completion has ended"),
        ((["ab"], [249], 0.0, None, None, [[1] * 6]), "prompt 0: 8 tokens and a cap of 249.*context of 256"),
    ],
)
def test_bad_requests_are_named(engine, arguments, message):
    with pytest.raises(ValueError, match=message):
        engine.generate(*arguments)


def test_progress_says_how_fast_and_how_much_is_left(engine, prompts, capsys):
    engine.generate(prompts[:5], [20] * 5, progress="five")
    line = capsys.readouterr().err.rsplit("\r", 1)[-1]
    assert "five" in line and "5/5" in line and "tokens/s" in line


def test_models_that_attend_otherwise_are_refused(tmp_path):
    engine = TransformersEngine(checkpoint(tmp_path, MistralConfig(**SIZE, sliding_window=16)))
    with pytest.raises(ValueError, match="sliding_window=16"):
        engine.generate(["abc"], [5])


@pytest.mark.parametrize("engine", ["none", "Transformers"])
def test_an_engine_that_does_not_exist_is_named(engine):
    with pytest.raises(ValueError, match=f"unknown engine {engine!r}; known: transformers, vllm"):
        engines.start(engine, "embedded")


def test_a_device_that_cannot_compute_is_named():
    for device in ("moon", "meta"):
        with pytest.raises(engines.ModelError, match=f"the device '{device}' cannot be used: "):
            engines.start("transformers", "embedded", device=device)


@pytest.mark.parametrize("option", [{"dtype": "complex"}, {"batch_size": 0}, {"batch_size": 2.5}])
def test_a_value_that_an_engine_cannot_use_is_named(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} must be .* got {next(iter(option.values()))!r}"):
        engines.start("transformers", "embedded", **option)


def test_a_profile_starts_its_engine():
    profile = profiles.load("smoke")
    engine = models.start(profile)
    assert (engine.name, engine.context, engine.batch_size) == ("transformers", 1024, profile.batch_size)
    assert name_of(engine.model) == profile.model == "embedded"


@pytest.mark.parametrize(
    ("fields", "weights", "message"),
    [
        ({"engine": "none"}, None, "profile 'smoke': unknown engine 'none'"),
        ({"engine_options": {"device": "cpu", "devices": 2}}, None, "profile 'smoke': the engine .* take .*'devices'"),
        ({"engine_options": {"dtype": "bfloat16"}}, None, "profile 'smoke': engine_options repeats dtype"),
        ({}, "model.gguf", "profile 'smoke' names no file of weights, so 'model.gguf' has no use"),
    ],
)
def test_a_profile_that_cannot_start_is_named(fields, weights, message):
    with pytest.raises(ValueError, match=message):
        models.start(profiles.load("smoke", **fields), weights)
