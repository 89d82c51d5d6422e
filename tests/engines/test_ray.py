"""Ray's workers give what one engine gives, and a worker or a machine that dies loses and doubles nothing."""

import os
import signal

import psutil
import pytest

# A busy machine is not a bug. Ray reads these as it loads.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.cluster_utils import Cluster

from clear_lib import Budgeter, engines
from clear_lib.reasoner import PROMPT, tasks

pytestmark = pytest.mark.slow

PROMPTS = [
    PROMPT.format(question=question)
    for tier in tasks.TIERS
    for question in tasks.questions("evaluation", tier, 20).question
]
CAPS = [200] * len(PROMPTS)


@pytest.fixture(scope="module")
def cluster():
    """A head that does no work and two machines of one CPU each, without Ray's dashboard.

    Ray waits 15 seconds for what each of these starts, no longer; on a busy machine it takes another try.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ray._private.utils, "get_dashboard_dependency_error", lambda: ImportError("not wanted"))
        bare = {"include_dashboard": False, "include_log_monitor": False}
        for tries_left in (3, 2, 1, 0):
            try:
                cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **bare})
                for _ in range(2):
                    cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, **bare)
                break
            except Exception:
                if not tries_left:
                    raise
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def engine(cluster):
    return engines.start("ray", "embedded", batch_size=4, address=cluster.address)


@pytest.fixture(scope="module")
def alone():
    return engines.start("transformers", "embedded")


def interrupted(stream, interrupt):
    """Completions in the order of the prompts of a stream, in the middle of which something happens."""
    pairs = []
    for pair in stream:
        pairs.append(pair)
        if len(pairs) == 12:
            interrupt()
    assert sorted(position for position, _ in pairs) == list(range(len(PROMPTS)))
    return [completion for _, completion in sorted(pairs, key=lambda pair: pair[0])]


def kill():
    """End one of the workers, as suddenly as a machine that runs out of memory."""
    workers = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if "MapWorker" in " ".join(process.info["cmdline"] or ())
    ]
    os.kill(workers[0], signal.SIGKILL)


def test_a_worker_killed_on_the_way_loses_and_doubles_nothing(engine, alone):
    samples = interrupted(engine.stream(PROMPTS, CAPS, 1.0, range(len(PROMPTS))), kill)
    assert samples == alone.generate(PROMPTS, CAPS, 1.0, range(len(PROMPTS)))
    assert engine.name == "ray+transformers" and engine.context == 1024


def test_refunds_on_two_workers_keep_the_budget_though_one_is_killed(engine, alone, monkeypatch):
    complete, seen = engine._complete, []

    def disturbed(requests, temperature):
        for pair in complete(requests, temperature):
            seen.append(pair[0])
            if len(seen) == 6:
                kill()
            yield pair

    monkeypatch.setattr(engine, "_complete", disturbed)
    some, budget = PROMPTS[::4], 40 * len(PROMPTS[::4])
    spread, near = (Budgeter(each, None, "uniform", cap=200).run(some, budget) for each in (engine, alone))
    assert list(spread) == list(near) and spread.rounds == near.rounds > 1
    assert spread.accounting == "refunds" and 0.9 * budget < spread.used.sum() <= budget


def test_a_worker_without_memory_is_one_plain_error(engine, monkeypatch):
    monkeypatch.setattr(engine, "context", 2**62)
    with pytest.raises(engines.ModelError, match="not enough memory for the model"):
        engine.generate(["a"], [2**45])


def test_a_machine_that_dies_on_the_way_loses_and_doubles_nothing(cluster, engine, alone):
    def switch_off():
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    begun = alone.generate(PROMPTS, [5] * len(PROMPTS))
    rest = interrupted(engine.stream(PROMPTS, CAPS, begun=[completion.tokens for completion in begun]), switch_off)
    assert rest == alone.generate(PROMPTS, CAPS, begun=[completion.tokens for completion in begun])
    whole = alone.generate(PROMPTS, [5 + cap for cap in CAPS])
    assert [(*first.tokens, *more.tokens) for first, more in zip(begun, rest, strict=True)] == [c.tokens for c in whole]


def test_only_engines_that_hold_a_model_are_spread():
    with pytest.raises(engines.ModelError, match="not 'openai'"):
        engines.start("ray", "embedded", engine="openai")
    for option, value in (("workers", 0), ("workers", "two"), ("gpus", -1)):
        with pytest.raises(ValueError, match=f"{option} must be a .*number of at least ., got {value!r}"):
            engines.start("ray", "embedded", **{option: value})
