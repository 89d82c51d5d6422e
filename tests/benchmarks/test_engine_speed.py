"""The batched decoder against transformers' own `generate`, on the shipped model: tokens per second, in one run.

In batches, both are given the number of threads that suits them; one prompt at a time has the threads that torch
chooses, as the engine's benchmark has.
"""

import time

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

CAP = 768
PER_TIER = 128
IN_BATCHES, ALONE = 160, 12  # prompts that `generate` answers, in batches and one at a time
BATCH_SIZES = (8, 16, 32)  # for `generate`; it is given the best
THREADS = sorted({1, torch.get_num_threads()})


@pytest.fixture(scope="module")
def prompts():
    questions = pd.concat([tasks.questions("evaluation", tier, PER_TIER) for tier in tasks.TIERS])
    return [PROMPT.format(question=question) for question in questions.question.sample(frac=1, random_state=0)]


@pytest.fixture(autouse=True)
def threads_as_before():
    yield
    torch.set_num_threads(THREADS[-1])


def generate(prompts, batch_size, threads):
    """Greedy tokens by `generate` in batches of similar prompts, and tokens per second."""
    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(CHECKPOINT, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()
    order = sorted(range(len(prompts)), key=lambda position: len(prompts[position]))
    tokens = [None] * len(prompts)
    started = time.perf_counter()
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        inputs = tokenizer([prompts[position] for position in batch], return_tensors="pt", padding=True)
        rows = model.generate(**inputs, max_new_tokens=CAP, do_sample=False)[:, inputs.input_ids.shape[1] :].tolist()
        for position, row in zip(batch, rows, strict=True):
            tokens[position] = tuple(row[: row.index(0) + 1] if 0 in row else row)
    return tokens, sum(map(len, tokens)) / (time.perf_counter() - started)


def decode(engine, prompts, threads):
    """Completions of the engine."""
    torch.set_num_threads(threads)
    return engine.generate(prompts, [CAP] * len(prompts))


def test_many_prompts_against_generate(benchmark, prompts):
    engine = TransformersEngine(str(CHECKPOINT), batch_size=128)
    started = time.perf_counter()
    decode(engine, prompts, THREADS[0])
    seconds = time.perf_counter() - started
    completions = benchmark.pedantic(decode, (engine, prompts, THREADS[-1]), rounds=3)
    seconds = min(seconds, benchmark.stats.stats.min)
    speed = sum(completion.length for completion in completions) / seconds
    batches = {
        (size, threads): generate(prompts[:IN_BATCHES], size, threads) for size in BATCH_SIZES for threads in THREADS
    }
    tokens, best = max(batches.values(), key=lambda result: result[1])
    alone = {threads: generate(prompts[:ALONE], 1, threads)[1] for threads in THREADS}
    benchmark.extra_info |= {
        "tokens/s": round(speed),
        "tokens/s of generate": {
            f"{size}, {threads} threads": round(found[1]) for (size, threads), found in batches.items()
        },
        "times generate at its best": round(speed / best, 1),
        "times generate with one prompt": {threads: round(speed / alone[threads], 1) for threads in THREADS},
    }
    assert [completion.tokens for completion in completions[:IN_BATCHES]] == tokens
    assert speed >= 2 * best
    assert speed >= 10 * alone[THREADS[-1]]
