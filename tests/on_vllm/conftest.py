"""On the real vLLM, `make test-vllm`: the embedded checkpoint in float32, beside the transformers engine."""

import os
import time
from itertools import cycle

os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
# A busy machine is not a bug: a server has hours to start, and who waits for it looks whether its process is alive.
os.environ.setdefault("VLLM_ENGINE_READY_TIMEOUT_S", "7200")
os.environ.setdefault("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "7200")

import pandas as pd
import pytest

from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

CAP = 768
PER_TIER = 100
BATCH = 64
STYLES = ("", "Normal.", "Careful.")


@pytest.fixture(scope="session")
def prompts():
    questions = pd.concat([tasks.questions("evaluation", tier, PER_TIER) for tier in tasks.TIERS])
    questions = questions.question.sample(frac=1, random_state=0)
    return [PROMPT.format(question=question) + style for question, style in zip(questions, cycle(STYLES))]


@pytest.fixture(scope="session")
def timed(prompts):
    """Uncapped greedy completions by the transformers engine, and seconds; before vLLM binds the threads to cores."""
    engine = TransformersEngine(str(CHECKPOINT), batch_size=BATCH)
    started = time.perf_counter()
    return engine.generate(prompts, [CAP] * len(prompts)), time.perf_counter() - started


@pytest.fixture(scope="session")
def reference(timed):
    return timed[0]
