"""The server engine against a small server in this process that answers as servers do on a bad day."""

import base64
import json
import logging
import re
import threading
import time
import traceback
from collections import Counter
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

import pytest

from clear_lib import engines
from clear_lib.cli import main
from clear_lib.engines import Completion, ModelError, openai
from clear_lib.engines.openai import OpenAIEngine
from clear_lib.study.recordings import recording
from clear_lib.study.setup import profiles

KEY = "sk-0123456789-not-to-be-seen"
MODEL = "a-model"


class Server(ThreadingHTTPServer):
    """Completes a prompt with as many words as its cap allows, at most five; misbehaves as ``faults`` say first.

    A fault is a status, or words that are no JSON, "hang", "cut", "drip" (a byte each 0.1 s) or "flood" (a body without
    end); ``faults[prompt]`` are used up one by one.
    """

    daemon_threads = True

    def __init__(self, card=None, **answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.card = {"id": MODEL, "owned_by": "llamacpp"} | (card or {})
        self.answer, self.faults, self.headers, self.key = answer, {}, {}, None
        self.asked, self.bodies, self.busy, self.most, self.sent = Counter(), [], 0, 0, 0
        self.alive, self.models, self.lock = True, None, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, text, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(text)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        if self.server.key and self.headers["Authorization"] != f"Bearer {self.server.key}":
            return self.reply(401, f"wrong key: {self.headers['Authorization']}")
        if not self.server.alive:
            return self.reply(502, "nobody here")
        self.reply(200, self.server.models or json.dumps({"data": [self.server.card]}))

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        chat = self.path.endswith("/chat/completions")
        prompt = body["messages"][0]["content"] if chat else body["prompt"]
        with server.lock:
            server.asked[prompt] += 1
            server.bodies.append(body)
            server.busy += 1
            server.most = max(server.most, server.busy)
            fault = server.faults.get(prompt, [None]).pop(0) if server.faults.get(prompt) else None
        try:
            if fault == "hang":
                time.sleep(3)
            if fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b'{"choices"')
                self.close_connection = True
            elif fault in ("drip", "flood"):
                self.send_response(200)
                self.send_header("Content-Length", str(2**40))
                self.end_headers()
                self.close_connection = True
                with suppress(OSError):  # until the client has enough
                    for _ in range(10**5):
                        server.sent += self.wfile.write(b" " if fault == "drip" else b" " * 2**20)
                        time.sleep(0.1 if fault == "drip" else 0)
            elif isinstance(fault, int):
                self.reply(fault, f"no: {self.headers['Authorization']}", **server.headers)
            elif fault and fault != "hang":
                self.reply(200, fault)
            else:
                time.sleep(0.02)
                cap = body["max_completion_tokens" if chat else "max_tokens"]
                words = min(cap, 5)
                text = " ".join(f"{prompt}{i}" for i in range(words))
                reason = "stop" if words < cap else "length"
                choice = {"message": {"content": text}} if chat else {"text": text}
                self.reply(
                    200,
                    json.dumps(
                        {"choices": [choice | {"finish_reason": reason}], "usage": {"completion_tokens": words}}
                        | server.answer
                    ),
                )
        finally:
            with server.lock:
                server.busy -= 1


@contextmanager
def serving(*arguments, **settings):
    server = Server(*arguments, **settings)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(openai, "FIRST_WAIT", 0.05)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def connect(server, **options):
    return OpenAIEngine(MODEL, server.url, **{"context": 100, **options})


PROMPTS = [f"p{i}-" for i in range(40)]


@pytest.mark.parametrize("chat", [False, True])
def test_completions_have_the_servers_text_and_count(server, chat):
    completions = connect(server, chat=chat).generate(PROMPTS[:3], [3, 5, 9])
    assert completions[0] == Completion("p0-0 p0-1 p0-2", None, "length", 3)
    assert [(c.length, c.finish_reason) for c in completions] == [(3, "length"), (5, "length"), (5, "stop")]


def test_what_is_asked_for_is_sent(server):
    engine = connect(server)
    engine.generate(["a"], [7], 0.8, [12])
    engine.generate(["b"], [7])
    sampled, greedy = server.bodies
    assert sampled == {"model": MODEL, "prompt": "a", "max_tokens": 7, "temperature": 0.8, "top_p": 1.0, "seed": 12}
    assert greedy["temperature"] == 0 and "seed" not in greedy


def test_no_more_requests_at_once_than_allowed(server):
    assert len(connect(server, concurrency=4).generate(PROMPTS, [3] * 40)) == 40
    assert 2 <= server.most <= 4


@pytest.mark.parametrize(
    "fault",
    [
        429,
        500,
        503,
        408,
        "<html>busy</html>",
        "hang",
        "cut",
        "{}",
        '{"choices": [{"text": "", "finish_reason": "abort"}], "usage": {"completion_tokens": 0}}',
    ],
)
def test_a_failed_attempt_is_repeated_and_counts_once(server, fault):
    server.faults = {"p1-": [fault, fault], "p3-": [fault]}
    pairs = list(connect(server, timeout=1).stream(PROMPTS[:5], [4] * 5))
    assert sorted(position for position, _ in pairs) == [0, 1, 2, 3, 4]
    assert sum(completion.length for _, completion in pairs) == 5 * 4
    assert [server.asked[prompt] for prompt in PROMPTS[:5]] == [1, 3, 1, 2, 1]


def test_the_server_says_when_to_come_back(server):
    server.faults, server.headers = {"a": [429]}, {"Retry_After": "1"}
    started = time.monotonic()
    connect(server).generate(["a"], [4])
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("wait", ["600", "86400", "9" * 400])
def test_a_server_that_asks_for_hours_is_not_waited_for(server, monkeypatch, wait):
    """Of half an hour, here six seconds, nothing is spent on a wait that would end after it."""
    monkeypatch.setattr(openai, "LONGEST_RETRYING", 6.0)
    engine, started = connect(server), time.monotonic()
    server.faults, server.headers = {"a": [429] * 99}, {"Retry_After": wait}
    assert "no answer in 1 attempts, the last: status 429" in kept_going(engine, ["a", "b"])[0].error
    assert time.monotonic() - started < 6 and server.asked == {"a": 1, "b": 1}
    # A longer wait is cut to the longest, and asked again while time is left.
    monkeypatch.setattr(openai, "LONGEST_WAIT", 2.0)
    assert "no answer in 3 attempts" in kept_going(engine, ["a", "b"])[0].error
    assert 4 <= time.monotonic() - started < 12 and server.asked["a"] == 4


def test_giving_up_keeps_what_had_arrived(server):
    server.faults = {"p2-": [500] * 99}
    got = []
    with pytest.raises(ModelError, match="no answer in 3 attempts, the last: status 500"):
        for pair in connect(server, concurrency=1, retries=2).stream(PROMPTS[:5], [4, 4, 3, 4, 4]):
            got.append(pair[0])
    assert got == [0, 1, 3, 4] and server.asked["p2-"] == 3


def test_what_cannot_get_better_is_not_repeated(server):
    server.faults = {"a": [400]}
    with pytest.raises(ModelError, match="refused: status 400"):
        connect(server).generate(["a"], [4])
    assert server.asked["a"] == 1


def kept_going(engine, prompts, cap=4):
    return [completion for _, completion in sorted(engine.stream(prompts, [cap] * len(prompts), keep_going=True))]


@pytest.mark.parametrize(
    ("fault", "message", "asked", "charged"),
    [
        (400, r"prompt 1: .* refused: status 400", 1, 0),
        (503, "no answer in 4 attempts, the last: status 503", 4, 0),
        ("{}", "no answer in 3 attempts, the last: an answer without text, tokens or their count", 3, 4),
        ("<html>", "no answer in 3 attempts, the last: JSONDecodeError", 3, 4),
        (
            '{"choices": [{"text": 5, "finish_reason": "stop"}], "usage": {"completion_tokens": 2}}',
            "of another type",
            3,
            4,
        ),
        (
            '{"choices": [{"text": "", "finish_reason": "stop"}], "usage": {"completion_tokens": true}}',
            "another type",
            3,
            4,
        ),
        ("drip", r"no answer in 3 attempts, the last: the answer was not whole after 1.5 s", 3, 4),
        ("flood", r"an answer of more than 16,777,216 bytes", 1, 4),
        (
            '{"choices": [{"text": "no", "finish_reason": "content_filter"}], "usage": {"completion_tokens": 3}}',
            "ended by the server, with finish_reason 'content_filter'",
            1,
            3,
        ),
    ],
)
def test_a_request_that_fails_ends_alone_and_is_not_paid_for_again_and_again(server, fault, message, asked, charged):
    server.faults = {"p1-": [fault] * 99}
    engine, started = connect(server, retries=3, timeout=1.5, concurrency=2), time.monotonic()
    engine.generate(["one"], [4])  # the server works
    completions = kept_going(engine, PROMPTS[:5])
    assert [completion.finish_reason for completion in completions] == ["length", "failed", *["length"] * 3]
    assert re.search(message, completions[1].error) and completions[1].length == charged
    assert server.asked["p1-"] == asked and server.sent < 64 * 2**20 and time.monotonic() - started < 30
    assert completions[1].text == ("no" if charged == 3 else "")


def test_a_server_that_is_gone_ends_the_stream_and_what_is_under_way_is_kept(server):
    server.faults = {"p1-": [401]}  # says so at once; the others take their time
    got = []
    with pytest.raises(ModelError, match="refused: status 401"):
        for position, _ in connect(server, concurrency=5).stream(PROMPTS, [4] * 40, keep_going=True):
            got.append(position)
    assert server.asked.total() == len(got) + 1 < 12

    server.faults, server.alive = {"p2-": [500] * 9}, False  # and it does not even say what models it has
    with pytest.raises(ModelError, match="no answer in 2 attempts, the last: status 500"):
        kept_going(connected := connect_before(server), PROMPTS[:3])
    assert connected.pauses is False


def connect_before(server):
    """An engine that has been connected when the server still was alive."""
    server.alive = True
    engine = connect(server, retries=1, concurrency=1)
    server.alive = False
    return engine


def test_an_answer_beyond_the_cap_is_kept_and_counted_as_the_server_does():
    with serving(usage={"completion_tokens": 9}) as server:
        (completion,) = kept_going(connect(server), ["a"])
    assert completion.length == 9 and completion.text and "this server does not keep caps" in completion.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(concurrency=0), "concurrency must be a number of at least 1, got 0"),
        (dict(concurrency=-1), "concurrency must be"),
        (dict(timeout=0), "timeout must be a number of at least 0.001"),
        (dict(timeout="soon"), "timeout must be .* got 'soon'"),
        (dict(retries=-1), "retries must be"),
        (dict(chat="False"), "chat must be true or false, got 'False'"),
        (dict(api_key_env=None), "api_key_env must be a text, got None"),
        (dict(thinking=["vllm"], reserve=3), "thinking=\\['vllm'\\]: known are vllm"),
        (dict(base_url="http://a:port/v1"), "base_url is no address"),
        (dict(base_url="ftp://a/v1"), "UnsupportedProtocol"),
    ],
)
def test_options_that_cannot_work_are_named(server, options, message):
    with pytest.raises(ValueError, match=message):
        OpenAIEngine(MODEL, **{"base_url": server.url, "context": 100, **options})


@pytest.mark.parametrize("answer", ["[]", '{"data": null}', '{"data": [{}]}', "7"])
def test_a_server_without_a_list_of_models_is_named(server, answer):
    server.models = answer
    with pytest.raises(ModelError, match="has no list of models: "):
        connect(server)


def test_a_stream_that_is_left_asks_for_nothing_new(server):
    stream = connect(server, concurrency=2).stream(PROMPTS, [4] * 40)
    next(stream)
    stream.close()
    time.sleep(0.3)
    asked = server.asked.total()
    time.sleep(0.3)
    assert server.asked.total() == asked < 10


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"usage": {"completion_tokens": 9}}, "prompt 0: 9 tokens .* under a cap of 4; this server does not keep caps"),
        (
            {"choices": [{"text": "no", "finish_reason": "content_filter"}]},
            "prompt 0: ended by the server.*content_filter",
        ),
        ({"usage": None}, "no answer in 1 attempts, the last: an answer without text, tokens or their count"),
    ],
)
def test_an_answer_that_cannot_be_counted_is_refused(answer, message):
    with serving(**answer) as server, pytest.raises(ModelError, match=message):
        connect(server, retries=0).generate(["a"], [4])


def test_only_a_server_that_tells_tokens_can_continue(server):
    with pytest.raises(ModelError, match="continue what it has begun"):
        connect(server).generate(["a"], [4], begun=[()])
    assert not server.bodies


def test_a_server_that_is_not_as_told_is_named(server):
    with pytest.raises(ModelError, match=f"does not serve the model 'another'; it has: {MODEL}"):
        OpenAIEngine("another", server.url)
    with pytest.raises(ModelError, match="does not say the context"):
        OpenAIEngine(MODEL, server.url)
    with pytest.raises(ModelError, match=r"127.0.0.1:9/v1/: ConnectError"):
        OpenAIEngine(MODEL, "http://127.0.0.1:9/v1")
    with pytest.raises(ValueError, match="prompt 0.*context of 100"):
        connect(server).generate(["a"], [200])


def test_the_context_is_the_servers_where_it_says_so():
    with serving({"max_model_len": 77}) as server:
        assert OpenAIEngine(MODEL, server.url).context == 77


def test_a_key_comes_from_the_environment_and_is_seen_nowhere(server, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    with pytest.raises(ModelError, match="401.*read from OPENAI_API_KEY"):
        connect(server)
    monkeypatch.setenv("MY_KEY", KEY)
    engine = connect(server, api_key_env="MY_KEY", retries=0)
    server.faults = {"p0-": [400, 500], "p1-": [500]}  # this server repeats the key in its answers
    seen = [repr(engine), repr(vars(engine)), repr(vars(engine.client))]
    for prompts in (["p0-"], ["p0-"], ["p1-"]):
        with pytest.raises(ModelError, match=r"Bearer \[key\]") as caught:
            engine.generate(prompts, [4])
        seen.append("".join(traceback.format_exception(caught.value)))
    with pytest.raises(ModelError, match="ConnectError") as caught:
        OpenAIEngine(MODEL, "http://127.0.0.1:9/v1", api_key_env="MY_KEY")
    seen += ["".join(traceback.format_exception(caught.value)), caplog.text]
    assert KEY not in "".join(seen) and "Bearer" in "".join(seen)


HIDDEN = [KEY, KEY[::-1], KEY[3:20], quote(KEY, safe=""), KEY.encode().hex(), base64.b64encode(KEY.encode()).decode()]


@pytest.mark.parametrize("spelled", HIDDEN)
def test_no_spelling_of_a_key_and_no_escape_sequence_reaches_a_message_or_a_file(server, monkeypatch, spelled):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    nasty = f"a\x1b[2J\x9b2J{spelled}\r\nb"
    choice = {"text": "", "finish_reason": nasty}
    server.faults = {
        "p0-": [json.dumps({"choices": [choice], "usage": {"completion_tokens": 1}})],
        "p1-": [json.dumps({"choices": [choice | {"text": 4}], "usage": {"completion_tokens": 1}})] * 9,
    }
    engine = connect(server)
    engine.generate(["one"], [4])
    said = [completion.error for completion in kept_going(engine, PROMPTS[:2])]
    server.models = json.dumps({"data": [{"id": nasty}]})
    with pytest.raises(ModelError) as caught:
        connect(server)
    said.append(str(caught.value))
    server.models = json.dumps({nasty: 1})
    with pytest.raises(ModelError) as caught:
        connect(server)
    said.append(str(caught.value))
    for message in said:
        assert "[key]" in message and message.isprintable() and spelled[4:14] not in message


def test_a_completion_does_not_hold_the_key_and_is_otherwise_as_it_came(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = {"choices": [{"text": f"\x1b {KEY} é", "finish_reason": "stop"}], "usage": {"completion_tokens": 3}}
    server.faults = {"a": [json.dumps(answer)]}
    assert connect(server).generate(["a"], [4])[0].text == "\x1b [key] é"


def test_a_recording_has_no_key_and_goes_on_where_the_server_left_it(server, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(recording, "SHARD", 4)
    server.key = KEY
    profile = profiles.load(
        "smoke",
        model=MODEL,
        engine="openai",
        engine_options={"base_url": server.url, "context": 10_000, "concurrency": 1, "retries": 0},
    )
    wanted = recording.requests(profile, "evaluation")
    server.faults = {wanted.prompt[20]: [500]}
    with pytest.raises(ModelError):
        recording.record(profile, "evaluation", tmp_path)
    kept = recording.store(profile, "evaluation", tmp_path).read()
    assert len(kept) == 20
    assert recording.record(profile, "evaluation", tmp_path) == len(wanted) - 20
    assert max(server.asked.values()) == 2 and server.asked.total() <= len(wanted) + 4
    assert recording.load(profile, "evaluation", tmp_path).engine.unique().tolist() == ["openai"]
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("setting", "message"), [("sk-\nbad", "MY_KEY holds no valid key"), ("ключ", "MY_KEY holds no")]
)
def test_a_key_that_is_none_is_not_shown(server, monkeypatch, setting, message):
    monkeypatch.setenv("MY_KEY", setting)
    with pytest.raises(ModelError, match=message) as caught:
        connect(server, api_key_env="MY_KEY")
    assert setting not in "".join(traceback.format_exception(caught.value))


def test_an_address_holds_no_password():
    with pytest.raises(ModelError, match="must not hold a user") as caught:
        OpenAIEngine(MODEL, f"http://me:{KEY}@127.0.0.1:9/v1")
    assert KEY not in str(caught.value)


def test_options_that_an_engine_does_not_take_are_named(server):
    with pytest.raises(ValueError, match="the engine 'openai' does not take these options.*'chatty'"):
        engines.start("openai", MODEL, base_url=server.url, chatty=True)
    with pytest.raises(ValueError, match="'dtype'"):  # the server has chosen its precision
        engines.start("openai", MODEL, base_url=server.url, dtype="float16")


@pytest.mark.parametrize("fault", [400, '{"choices": [{"text": "", "finish_reason": "content_filter"}]}'])
def test_one_refusal_of_forty_costs_no_paid_answer(server, tmp_path, capsys, fault):
    questions, out = tmp_path / "q.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("".join(json.dumps({"question": prompt}) + "\n" for prompt in PROMPTS))
    server.faults = {"p20-": [fault] * 99}
    command = ["run", str(questions), "--policy", "uniform", "--budget", "160", "--cap", "9", "--model", MODEL]
    command += ["--engine", "openai", "--out", str(out), "--engine-option", f"base_url={server.url}", "context=100"]
    assert main([*command, "chat=true", "--accounting", "refunds"]) == 1
    assert "this engine cannot" in capsys.readouterr().err and not server.bodies and not out.exists()
    assert main(command) == 0
    made = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["question"] for row in made if row["completion"] is None] == ["p20-"]
    assert made[20]["finish_reason"] == "failed" and made[20]["reason"] and "1 failed" in capsys.readouterr().err
    assert sum(row["n_tokens"] or 0 for row in made) <= 160


def test_a_server_that_goes_away_leaves_a_part_file_that_the_command_goes_on_with(server, tmp_path, capsys):
    questions, out = tmp_path / "q.jsonl", tmp_path / "answers.jsonl"
    questions.write_text("".join(json.dumps({"question": prompt}) + "\n" for prompt in PROMPTS))
    command = ["run", str(questions), "--policy", "uniform", "--budget", "160", "--cap", "9", "--model", MODEL]
    command += ["--engine", "openai", "--out", str(out)]
    options = ["--engine-option", f"base_url={server.url}", "context=100", "concurrency=2"]
    server.faults = {"p20-": [402]}  # the money has run out
    assert main([*command, *options]) == 1
    kept = len((tmp_path / "answers.jsonl.part").read_text().splitlines()) - 1
    assert "status 402" in (said := capsys.readouterr().err) and f"{kept} answers are kept in {out}.part" in said
    assert main([*command, *options]) == 1 and "or delete it" in capsys.readouterr().err
    assert main([*command, *options, "--resume"]) == 0
    assert 0 < kept < 40 and server.asked.total() == 41 and max(server.asked.values()) == 2 == server.asked["p20-"]
    assert [json.loads(line)["n_tokens"] for line in out.read_text().splitlines()] == [4] * 40
