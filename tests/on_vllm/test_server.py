"""The server engine against the real `vllm serve`, which is also killed and started again on the way."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx2
import numpy as np
import pytest

from clear_lib import engines
from clear_lib.engines.openai import OpenAIEngine
from clear_lib.reasoner import CHECKPOINT
from clear_lib.study.recordings import recording
from clear_lib.study.setup import profiles

CAP = 768
SOME = slice(0, 120)


class Served:
    """`vllm serve` on a port of its own; `kill` is as sudden as a power cut."""

    def __init__(self, folder, *options):
        self.options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}/v1", folder / "log"
        self.template = folder / "template.jinja"
        self.template.write_text("{{ messages[0].content }}")

    def start(self):
        # What `vllm serve` starts; the CPU build's own script asks for the version of a package of another name.
        command = [
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            CHECKPOINT,
            "--port",
            self.port,
            "--host",
            "127.0.0.1",
            "--dtype",
            "float32",
            "--enforce-eager",
            "--block-size",
            32,
            "--max-num-seqs",
            64,
            "--chat-template",
            self.template,
            *self.options,
        ]
        self.process = subprocess.Popen(
            list(map(str, command)), stdout=self.log.open("a"), stderr=subprocess.STDOUT, start_new_session=True
        )
        while not self.is_well():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def is_well(self):
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=60).status_code == 200
        except httpx2.HTTPError:
            return False

    def kill(self):
        with suppress(ProcessLookupError):  # it has ended itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def hits(self):
        """Tokens that the prefix cache has saved, by the server's own count."""
        lines = httpx2.get(f"http://127.0.0.1:{self.port}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("server"))
    try:
        served.start()
        yield served
    finally:
        served.kill()


@pytest.fixture(scope="module")
def engine(served):
    return OpenAIEngine(str(CHECKPOINT), served.url)


def equal(ours, theirs):
    return np.mean([one.tokens == other.tokens for one, other in zip(ours, theirs, strict=True)])


def test_it_says_what_it_is(engine):
    assert engine.context == 1024 and engine.version.startswith("vllm 0.")


def test_tokens_are_those_of_transformers(engine, prompts, reference):
    completions = engine.generate(prompts[SOME], [CAP] * 120)
    assert equal(completions, reference[SOME]) >= 0.99
    assert all(c.tokens[-1] == 0 for c in completions if c.finish_reason == "stop")  # the server counts the end token
    assert [c.text for c in completions] == [c.text for c in reference[SOME]]


def test_a_chat_has_the_same_lengths(served, prompts, reference):
    completions = OpenAIEngine(str(CHECKPOINT), served.url, chat=True).generate(prompts[:40], [CAP] * 40)
    assert [(c.text, c.length) for c in completions] == [(c.text, c.length) for c in reference[:40]]


def test_caps_are_honoured_exactly(engine, prompts, reference):
    caps = np.random.default_rng(0).integers(0, 100, 120)
    capped = engine.generate(prompts[SOME], caps)
    assert [c.length for c in capped] == np.minimum(caps, [c.length for c in reference[SOME]]).tolist()


def test_paused_completions_go_on_from_the_prefix_cache(served, engine, prompts, reference):
    first, before = engine.generate(prompts[SOME], [40] * 120, begun=[()] * 120), served.hits()
    open_ = [i for i, completion in enumerate(first) if completion.finish_reason == "length"]
    assert len(open_) > 20
    rest = engine.generate([prompts[i] for i in open_], [CAP] * len(open_), begun=[first[i].tokens for i in open_])
    assert (
        np.mean([(*first[i].tokens, *more.tokens) == reference[i].tokens for i, more in zip(open_, rest, strict=True)])
        >= 0.99
    )
    assert served.hits() - before >= 32 * len(open_)


def test_seeds_travel(engine, prompts):
    twice = [engine.generate(prompts[:10], [60] * 10, 1.0, range(10)) for _ in range(2)]
    assert twice[0] == twice[1] != engine.generate(prompts[:10], [60] * 10, 1.0, range(10, 20))


def test_a_prompt_beyond_the_context_is_the_servers_refusal(engine):
    with pytest.raises(engines.ModelError, match="refused: status 400.*1024"):
        engine.generate(["7 " * 2000], [10])


def test_a_server_killed_and_started_again_loses_and_doubles_nothing(served, engine, prompts, reference):
    pairs, back = [], threading.Thread(target=served.start)
    for pair in engine.stream(prompts, [CAP] * len(prompts)):
        pairs.append(pair)
        if len(pairs) == 50:
            served.kill()
            back.start()
    back.join()
    completions = [completion for _, completion in sorted(pairs, key=lambda pair: pair[0])]
    assert sorted(position for position, _ in pairs) == list(range(len(prompts)))
    assert equal(completions, reference) >= 0.99
    assert sum(c.length for c in completions) == pytest.approx(sum(c.length for c in reference), rel=0.01)  # paid once


def test_a_recording_goes_on_after_a_server_that_did_not_come_back(served, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "SHARD", 8)
    options = {"base_url": served.url, "concurrency": 4, "retries": 1}
    profile = profiles.load("smoke", model=str(CHECKPOINT), engine="openai", engine_options=options)
    wanted = recording.requests(profile, "evaluation")
    append, shards = recording.RolloutStore.append, []

    def append_and_kill(store, rows):
        append(store, rows)
        shards.append(len(rows))
        if len(shards) == 2:
            served.kill()

    monkeypatch.setattr(recording.RolloutStore, "append", append_and_kill)
    with pytest.raises(engines.ModelError, match="no answer in 2 attempts"):
        recording.record(profile, "evaluation", tmp_path)
    kept = sum(shards)
    assert 16 <= kept < len(wanted)
    served.start()
    assert recording.record(profile, "evaluation", tmp_path) == len(wanted) - kept
    assert len(recording.load(profile, "evaluation", tmp_path)) == len(wanted)
