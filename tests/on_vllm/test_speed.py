"""Tokens per second of vLLM and of the transformers engine, on the same prompts in one run."""

import time

import pytest

from clear_lib.engines.transformers import TransformersEngine
from clear_lib.engines.vllm import VLLMEngine
from clear_lib.reasoner import CHECKPOINT

CAP = 768


@pytest.mark.parametrize("batch_size", [64, 128])
def test_throughput(benchmark, prompts, batch_size):
    engine = VLLMEngine(str(CHECKPOINT), dtype="float32", batch_size=batch_size, enforce_eager=True)
    theirs = TransformersEngine(str(CHECKPOINT), batch_size=batch_size)
    started = time.perf_counter()
    expected = theirs.generate(prompts, [CAP] * len(prompts))
    seconds = time.perf_counter() - started
    completions = benchmark.pedantic(engine.generate, (prompts, [CAP] * len(prompts)), rounds=2)
    tokens, mean = sum(completion.length for completion in completions), benchmark.stats.stats.mean
    benchmark.extra_info |= {"tokens": tokens, "tokens/s": round(tokens / mean),
                             "tokens/s of the transformers engine": round(sum(c.length for c in expected) / seconds),
                             "times the transformers engine": round(seconds / mean, 2)}
    print(benchmark.extra_info)
    assert [c.length for c in completions] == pytest.approx([c.length for c in expected], abs=CAP)
