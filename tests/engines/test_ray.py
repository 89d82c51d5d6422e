"""Ray's workers give what one engine gives, and a worker or a machine that dies loses and doubles nothing."""

import os
import signal

import numpy as np
import psutil
import pytest

from clear_lib import engines, profiles
from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # a busy machine is not a bug
import ray  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402

PROMPTS = [PROMPT.format(question=question) for tier in tasks.TIERS for question in tasks.questions("evaluation", tier, 60).question]
CAPS = [200] * len(PROMPTS)


@pytest.fixture(scope="module")
def cluster():
    """A head that does no work and two machines of one CPU each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    return engines.start(profiles.load("smoke", engine="ray", batch_size=8, engine_options={"address": cluster.address}))


@pytest.fixture(scope="module")
def expected():
    return TransformersEngine(str(CHECKPOINT)).generate(PROMPTS, CAPS)


def workers():
    """Processes that hold a model for Ray."""
    return [process for process in psutil.process_iter(["cmdline"])
            if "MapWorker" in " ".join(process.info["cmdline"] or ())]


def test_they_are_those_of_one_engine(engine, expected):
    assert engine.generate(PROMPTS, CAPS) == expected
    assert engine.name == "ray+transformers" and engine.context == 1024


def test_a_worker_killed_on_the_way_loses_and_doubles_nothing(engine, expected):
    pairs, killed = [], []
    for pair in engine.stream(PROMPTS, CAPS):
        pairs.append(pair)
        if not killed and len(pairs) > 20:
            killed = workers()[:1]
            os.kill(killed[0].pid, signal.SIGKILL)
    assert killed and sorted(position for position, _ in pairs) == list(range(len(PROMPTS)))
    assert [completion for _, completion in sorted(pairs, key=lambda pair: pair[0])] == expected


def test_seeds_and_pauses_travel(engine, expected):
    few = slice(0, 240, 40)
    alone = TransformersEngine(str(CHECKPOINT))
    sampled = engine.generate(PROMPTS[few], CAPS[few], 1.0, range(6))
    assert sampled == alone.generate(PROMPTS[few], CAPS[few], 1.0, range(6))
    begun = [completion.tokens[:5] for completion in expected[few]]
    assert [(*tokens, *piece.tokens) for tokens, piece in
            zip(begun, engine.generate(PROMPTS[few], CAPS[few], begun=begun), strict=True)] == [
            completion.tokens for completion in alone.generate(PROMPTS[few], np.array(CAPS[few]) + 5)]


def test_a_worker_that_cannot_go_on_says_so_in_one_sentence(engine):
    context, engine.context = engine.context, 2**62
    with pytest.raises(engines.EngineError, match="not enough memory for the model"):
        engine.generate(["a"], [2**45])
    engine.context = context


def test_a_machine_that_dies_on_the_way_loses_and_doubles_nothing(cluster, engine, expected):
    pairs, lost = [], None
    for pair in engine.stream(PROMPTS, CAPS):
        pairs.append(pair)
        if not lost and len(pairs) > 20:
            lost = cluster.worker_nodes.copy().pop()
            cluster.remove_node(lost, allow_graceful=False)
    assert lost and sorted(position for position, _ in pairs) == list(range(len(PROMPTS)))
    assert [completion for _, completion in sorted(pairs, key=lambda pair: pair[0])] == expected


def test_only_engines_that_hold_a_model_are_spread():
    with pytest.raises(engines.EngineError, match="not 'openai'"):
        engines.start(profiles.load("smoke", engine="ray", engine_options={"engine": "openai"}))
