"""The batched decoder against transformers' own `generate`, on the shipped model: tokens per second, in one run."""

import time

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

CAP = 768
PER_TIER = 128
IN_BATCHES, ALONE = 192, 12  # prompts that `generate` answers, in batches and one at a time
BATCH_SIZES = (8, 16, 32, 64)  # for `generate`; it is given the best


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Equal terms: threads that wait for a core that something else uses would decide the race."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def prompts():
    questions = pd.concat([tasks.questions("evaluation", tier, PER_TIER) for tier in tasks.TIERS])
    return [PROMPT.format(question=question) for question in questions.question.sample(frac=1, random_state=0)]


def completions_of_generate(prompts, batch_size):
    """Greedy tokens by `generate` in batches of similar prompts, and tokens per second."""
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


@pytest.fixture(scope="module")
def generate(prompts):
    return {size: completions_of_generate(prompts[:IN_BATCHES], size) for size in BATCH_SIZES}


def test_many_prompts_against_generate(benchmark, prompts, generate):
    engine = TransformersEngine(str(CHECKPOINT), batch_size=128)
    completions = benchmark.pedantic(engine.generate, (prompts, [CAP] * len(prompts)), rounds=3, warmup_rounds=1)
    speed = sum(completion.length for completion in completions) / benchmark.stats.stats.min
    best = max(generate, key=lambda size: generate[size][1])
    alone = completions_of_generate(prompts[:ALONE], 1)[1]
    benchmark.extra_info |= {
        "tokens/s": round(speed),
        "tokens/s of generate": {size: round(result[1]) for size, result in generate.items()},
        "times generate at its best": round(speed / generate[best][1], 1),
        "times generate with one prompt": round(speed / alone, 1),
    }
    assert [completion.tokens for completion in completions[:IN_BATCHES]] == generate[best][0]
    assert speed >= 2 * generate[best][1]
    assert speed >= 10 * alone
