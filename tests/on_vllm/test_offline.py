"""vLLM in this process against the transformers engine: the same tokens, caps, pauses and seeds."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clear_lib import engines
from clear_lib.engines.vllm import VLLMEngine
from clear_lib.reasoner import CHECKPOINT

CAP = 768
BATCH, BLOCK = 64, 32
OPTIONS = {"enforce_eager": True, "block_size": BLOCK}


@pytest.fixture(scope="module")
def engine(timed):
    return engines.start("vllm", "embedded", dtype="float32", batch_size=BATCH, **OPTIONS)


@pytest.fixture(scope="module")
def uncapped(engine, prompts):
    return engine.generate(prompts, [CAP] * len(prompts))


def margin(prompt, ours, theirs):
    """By how much the model prefers one token to the other where two completions part, in logits."""
    common = next(i for i, (one, other) in enumerate(zip(ours, theirs, strict=False)) if one != other)
    ids = AutoTokenizer.from_pretrained(CHECKPOINT)(prompt).input_ids
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*ids, *ours[:common]]])).logits[0, -1]
    best = logits.topk(2)
    assert set(best.indices.tolist()) == {ours[common], theirs[common]}
    return float(best.values[0] - best.values[1])


def alike(prompts, ours, theirs):
    """Share of equal completions; every other one must part at a tie that rounding decides."""
    apart = [i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one.tokens != other.tokens]
    margins = [margin(prompts[i], ours[i].tokens, theirs[i].tokens) for i in apart]
    print(f"{len(ours) - len(apart)} of {len(ours)} completions are equal; the others part at margins {margins}")
    assert max(margins, default=0) < 1e-4
    return 1 - len(apart) / len(ours)


def test_a_profile_starts_it(engine):
    assert isinstance(engine, VLLMEngine)
    assert (engine.name, engine.context, engine.version.split(".")[0]) == ("vllm", 1024, "0")


def test_greedy_tokens_are_those_of_transformers(prompts, uncapped, reference):
    assert alike(prompts, uncapped, reference) >= 0.99
    assert [a.text for a, b in zip(uncapped, reference, strict=True) if a.tokens == b.tokens] == [
        b.text for a, b in zip(uncapped, reference, strict=True) if a.tokens == b.tokens
    ]
    assert all((completion.finish_reason == "stop") == (completion.tokens[-1] == 0) for completion in uncapped)


def test_caps_are_honoured_exactly(engine, prompts, uncapped):
    caps = np.random.default_rng(0).integers(0, 200, len(prompts))
    capped = engine.generate(prompts, caps)
    assert [c.length for c in capped] == np.minimum(caps, [c.length for c in uncapped]).tolist()
    assert (
        np.mean([c.tokens == whole.tokens[:cap] for c, whole, cap in zip(capped, uncapped, caps, strict=True)]) >= 0.99
    )
    assert all(
        c.finish_reason == ("stop" if whole.finish_reason == "stop" and whole.length <= cap else "length")
        for c, whole, cap in zip(capped, uncapped, caps, strict=True)
    )


def test_paused_completions_go_on_from_the_prefix_cache(engine, prompts, uncapped):
    pause, most = 40, 600
    assert pause > BLOCK
    lengths = [len(engine.tokenizer(prompt).input_ids) for prompt in prompts]
    engine.llm.reset_prefix_cache()
    pieces, done = engine.generate(prompts, [pause] * len(prompts)), [()] * len(prompts)
    started, given, full, open_ = engine.cached, 0, 0, range(len(prompts))
    while open_:
        for i, piece in zip(open_, pieces, strict=True):
            done[i] += piece.tokens
        open_ = [
            i for i, piece in zip(open_, pieces, strict=True) if piece.finish_reason == "length" and len(done[i]) < most
        ]
        given += sum(lengths[i] + len(done[i]) for i in open_)
        full += sum((lengths[i] + len(done[i]) - 1) // BLOCK * BLOCK for i in open_)  # the last token was not read yet
        pieces = engine.generate([prompts[i] for i in open_], [pause] * len(open_), begun=[done[i] for i in open_])
    assert np.mean([tokens[:most] == whole.tokens[:most] for tokens, whole in zip(done, uncapped, strict=True)]) >= 0.99
    print(
        f"of {given} tokens given again, {full} were in full blocks and {engine.cached - started} came from the cache"
    )
    assert engine.cached - started == full > given / 2


def test_a_sample_depends_on_its_prompt_and_seed(engine, prompts):
    caps, seeds = [60] * 40, range(100, 140)
    samples = engine.generate(prompts[:40], caps, 1.0, seeds)
    alone = [engine.generate([prompts[i]], [90], 1.0, [seeds[i]])[0] for i in (0, 17, 39)]
    assert [sample.tokens[:60] for sample in alone] == [samples[i].tokens for i in (0, 17, 39)]
    again = engine.generate([prompts[0]] * 8, [60] * 8, 1.0, range(8))
    assert len({completion.tokens for completion in again}) > 1


def test_completions_arrive_as_they_end_and_a_stream_can_be_left(engine, prompts, uncapped):
    arrivals = [position for position, _ in engine.stream(prompts[:40], [1] * 30 + [100] * 10)]
    assert sorted(arrivals) == list(range(40)) and arrivals[0] < 30
    stream = engine.stream(prompts, [CAP] * len(prompts))
    next(stream)
    with pytest.raises(engines.ModelError, match="busy with another stream"):
        engine.generate(prompts[:2], [5, 5])
    stream.close()
    assert engine.generate(prompts[:3], [50] * 3) == engine.generate(prompts[:3], [50] * 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"nonsense": 1}, "engine_options.*nonsense"), ({"trust_remote_code": True}, "engine_options.*trust_remote_code")],
)
def test_options_that_it_does_not_take_are_named(options, message):
    with pytest.raises(engines.ModelError, match=message):
        VLLMEngine(str(CHECKPOINT), **options)


def test_a_cache_beyond_the_memory_is_one_plain_error(tmp_path):
    code = (
        "import sys; from clear_lib.engines.vllm import VLLMEngine, ModelError\n"
        "try: VLLMEngine(sys.argv[1], enforce_eager=True)\nexcept ModelError as error: print('error:', error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(CHECKPOINT)],
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "100000"},
    )
    said = [line for line in run.stdout.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and "not enough memory for the model" in said[0] and "100000.0 GiB" in said[0], run.stderr[
        -2000:
    ]


def test_two_workers_share_a_model(prompts, reference):
    code = (
        "import sys; from clear_lib.engines.vllm import VLLMEngine\n"
        "engine = VLLMEngine(sys.argv[1], dtype='float32', tensor_parallel_size=2, enforce_eager=True)\n"
        "print('tokens:', *engine.generate([sys.argv[2]], [768])[0].tokens)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(CHECKPOINT), prompts[2]],
        capture_output=True,
        text=True,
        env={**os.environ, "VLLM_CPU_OMP_THREADS_BIND": "0|1"},
    )
    said = [line for line in run.stdout.splitlines() if line.startswith("tokens:")]
    assert said == [" ".join(map(str, ["tokens:", *reference[2].tokens]))], run.stderr[-2000:]


def test_throughput(engine, prompts, timed):
    expected, seconds = timed
    engine.llm.reset_prefix_cache()
    started = time.perf_counter()
    completions = engine.generate(prompts, [CAP] * len(prompts))
    took = time.perf_counter() - started
    tokens = sum(completion.length for completion in completions)
    print(f"{tokens / took:,.0f} tokens/s, {seconds / took:.2f} times as fast as the transformers engine")
    assert np.mean([one == other for one, other in zip(completions, expected, strict=True)]) >= 0.99
