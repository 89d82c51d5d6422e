"""Thinking and answer apart: what each server is sent, what is kept, and what is said of a server that does not obey."""

import json

import pytest
from test_openai import connect, serving

from clear_lib import Budgeter


@pytest.fixture
def server():
    with serving() as running:
        yield running


def thinking_server(text, thoughts, spent, reason="length", field="reasoning_content"):
    message = {"content": text, field: thoughts}
    usage = {"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": spent}}
    return serving(choices=[{"message": message, "finish_reason": reason}], usage=usage)


def sent(server, **options):
    """What a chat request with a cap of 100 says besides the prompt."""
    connect(server, chat=True, context=1000, **options).generate(["a"], [100])
    return {name: value for name, value in server.bodies[-1].items() if name not in ("model", "messages")}


PLAIN = {"temperature": 0.0, "top_p": 1.0, "max_completion_tokens": 100}


@pytest.mark.parametrize(
    "name, fields",
    [
        ("vllm", {"thinking_token_budget": 80}),
        ("sglang", {"custom_params": {"thinking_budget": 80}}),
        ("nim", {"nvext": {"max_thinking_tokens": 80}}),
        ("llama.cpp", {"thinking_budget_tokens": 80, "reasoning_budget_tokens": 80}),
    ],
)
def test_each_server_is_told_in_its_own_field_what_the_reserve_leaves(server, name, fields):
    assert sent(server, thinking=name, reserve=20) == PLAIN | fields
    assert sent(server, thinking=name, reserve=200) == PLAIN | json.loads(json.dumps(fields).replace("80", "0"))
    assert sent(server) == PLAIN


def test_fields_of_ones_own_are_sent_and_null_takes_one_away(server):
    given = {"reasoning_effort": "low", "temperature": None, "top_p": None}
    assert sent(server, extra_body=given) == {"reasoning_effort": "low", "max_completion_tokens": 100}
    assert sent(server, extra_body={"temperature": 0.6}) == PLAIN | {"temperature": 0.6}


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(thinking="ollama", reserve=20), "thinking='ollama': known are vllm, sglang, nim, llama.cpp"),
        (dict(thinking="vllm"), "thinking=SERVER and reserve=TOKENS go together"),
        (dict(reserve=20), "go together"),
        (dict(thinking="vllm", reserve=0), "reserve must be a whole number of at least 1, got 0"),
        (dict(extra_body={"max_tokens": 9, "n": 2}), "extra_body may not set max_tokens, n: the budget depends on it"),
        (dict(extra_body="low"), "extra_body must be an object of fields, got 'low'"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_asked(server, options, message):
    with pytest.raises(ValueError, match=message):
        connect(server, chat=True, **options)
    assert not server.bodies


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thoughts_are_kept_apart_from_the_answer(field, tmp_path):
    with thinking_server("4", "two and two", 3, "stop", field) as server:
        engine = connect(server, chat=True, thinking="vllm", reserve=2)
        (answer,) = answers = Budgeter(engine, None, cap=50).run(["2+2?"], 50, out=tmp_path / "out")
    assert (answer.text, answer.thoughts, answer.used) == ("4", "two and two", 5)
    assert json.loads((tmp_path / "out").read_text())["reasoning"] == "two and two"
    assert list(answers.to_frame()["thoughts"]) == ["two and two"]


@pytest.mark.parametrize(
    "text, spent, reason, said",
    [
        ("4", 3, "stop", None),
        (None, 2, "stop", None),
        ("4", 6, "stop", "a model that may think for 3 tokens thought for 6 tokens. Is it vllm, and started with"),
        (None, None, "length", "a model that may think for 3 tokens spent a cap of 5 tokens without an answer"),
    ],
)
def test_a_server_that_ignores_the_limit_is_named_once(text, spent, reason, said, caplog):
    with thinking_server(text, "hm", spent, reason) as server:
        connect(server, chat=True, thinking="vllm", reserve=2).generate(["a", "b", "c"], [5, 5, 5])
    assert len(caplog.messages) == bool(said)
    if said:
        assert said in caplog.text and "sent as thinking_token_budget: a model" in caplog.text
