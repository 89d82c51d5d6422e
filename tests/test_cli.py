"""The commands `allocate`, `run` and `fit`: what they read, write, refuse, and say about it."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clear_lib
from clear_lib.cli import main

ROOT = Path(__file__).resolve().parents[1]
KNOWN = [{"question": f"q{number}", "threshold": threshold} for number, threshold in enumerate([90, 140, 400, 1500])]


def write(path, rows):
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return str(path)


def rows(text):
    return [json.loads(line) for line in text.split("\n") if line]


def ask(*command, given=b"", **more):
    """A process of its own, as a shell starts it."""
    return subprocess.run(
        [sys.executable, "-m", "clear_lib", *command],
        input=given,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        **more,
    )


@pytest.fixture
def known(tmp_path):
    return write(tmp_path / "known.jsonl", KNOWN)


def test_it_allocates_as_the_library_does(known, tmp_path, capsys):
    out = tmp_path / "caps.jsonl"
    assert main(["allocate", known, "--budget", "800", "--set", "epsilon=64", "--out", str(out)]) == 0
    expected = clear_lib.allocate([90, 140, 400, 1500], 800, "clear", epsilon=64)
    made = rows(out.read_text())
    assert [row["tokens"] for row in made] == expected.tokens.tolist()
    assert [row["active"] for row in made] == expected.active.tolist()
    assert made[0] == KNOWN[0] | {"tokens": int(expected.tokens[0]), "active": True, "reason": None}
    assert made[3]["reason"].startswith("its threshold 1,500 is above the abandonment line")
    caught = capsys.readouterr()
    assert caught.out == "" and f"granted {expected.tokens.sum()} of 800 tokens, price" in caught.err


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_it_is_a_filter(dash):
    done = ask("allocate", *dash, "--budget", "800", given=b"\n".join(json.dumps(row).encode() for row in KNOWN))
    assert done.returncode == 0 and [row["question"] for row in rows(done.stdout.decode())] == ["q0", "q1", "q2", "q3"]
    assert done.stderr.decode().count("\n") == 1


def test_who_reads_may_stop_reading():
    many = b'{"threshold": 90, "note": "%s"}\n' % (b"x" * 1000) * 5000
    process = subprocess.Popen(
        f"{sys.executable} -m clear_lib allocate --budget 800000 | head -n 1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    out, err = process.communicate(many)
    assert process.returncode == 0 and len(out.splitlines()) == 1 and b"Traceback" not in err and b"Broken" not in err


@given(
    st.dictionaries(
        st.text().filter(
            lambda name: name not in ("threshold", "spread", "solvable", "estimate", "tokens", "active", "reason")
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_fields_of_your_own_come_back_as_they_were(tmp_path_factory, fields):
    folder = tmp_path_factory.mktemp("own")
    source = write(folder / "in.jsonl", [fields | {"threshold": 3}])
    assert main(["allocate", source, "--budget", "100", "--out", str(folder / "out.jsonl")]) == 0
    (made,) = rows((folder / "out.jsonl").read_bytes().decode())
    assert {name: made[name] for name in fields} == fields


def test_text_of_any_language_stays_readable_and_what_is_no_text_stays_an_escape(tmp_path):
    lines = ['{"threshold": 9, "note": "≤ é 数学 \U0001f600 \u2028"}', '{"threshold": 9, "note": "\\ud800"}']
    source = write(tmp_path / "in.jsonl", [b"\xef\xbb\xbf" + lines[0].encode(), b"", lines[1].encode()])
    assert main(["allocate", source, "--budget", "100", "--out", str(tmp_path / "out.jsonl")]) == 0
    first, second, end = (tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert "≤ é 数学 \U0001f600 \u2028".encode() in first and b"\\ud800" in second and end == b""


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"threshold": 90', "line 3: not JSON: "),
        (b"[90]", "line 3: not a JSON object"),
        (b'{"threshold": "\xff"}', "line 3: not JSON: "),
        (b'{"threshold": ' + b"[" * 100_000, "line 3: not JSON: "),
        (b'{"question": "1+1?"}', "line 3: 'threshold' must be a number of at least 0, and is missing, and other"),
        (b'{"threshold": null}', "line 3: 'threshold' must be a number of at least 0, and is null"),
        (b'{"threshold": true}', "line 3: 'threshold' must be a number of at least 0, and is true"),
        (b'{"threshold": -1}', "line 3: 'threshold' must be a number of at least 0, and is -1"),
        (b'{"threshold": NaN}', "line 3: 'threshold' must be a number of at least 0, and is NaN"),
        (b'{"threshold": 1e400}', "line 3: 'threshold' must be a number of at least 0, and is Infinity"),
        (b'{"threshold": "90"}', "line 3: 'threshold' must be a number of at least 0, and is \"90\""),
        (b'{"threshold": ' + b"9" * 5000 + b"}", "line 3: not JSON: "),
        (b'{"threshold": ' + b"9" * 400 + b"}", "line 3: 'threshold' must be a number of at least 0, and is 999"),
        (b'{"threshold": 9, "solvable": 1.5}', "line 1: 'solvable' must be a number from 0 to 1, and is missing"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_written(line, message, tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", [{"threshold": 90}, b"  ", line, {"threshold": 90}])
    assert main(["allocate", source, "--budget", "100", "--out", str(tmp_path / "out.jsonl")]) == 1
    assert message in capsys.readouterr().err and [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--budget", "-5"], "budget must be a whole number of at least 0, got -5"),
        (["--budget", "5", "--policy", "cleer"], "unknown policy 'cleer'"),
        (["--budget", "5", "--policy", "oracle"], "nobody knows the lengths and correct of queries"),
        (
            ["--budget", "5", "--policy", "clear-sequential"],
            "decides as it runs, so it has no caps to write; use `run`",
        ),
        (["--budget", "5", "--policy", "clear-lognormal"], "needs the spread of the queries"),
        (["--budget", "5", "--policy", "tale-ep"], "needs the estimate of the queries"),
        (["--budget", "5", "--set", "epsilon"], "'epsilon' must be name=value"),
        (["--budget", "5", "--set", "epsilon=many"], "epsilon must be a number above 0, got 'many'"),
        (["--budget", "5", "--set", "slack=3"], "unknown setting 'slack'"),
        (["--budget", "5", "--cap", "0"], "cap must be a whole number of at least 1"),
        (["--budget", "5", "--forecaster", "nowhere"], "nowhere holds no predictor"),
        (["--budget", "5", "--out", "no/such/folder.jsonl"], "no/such/folder.jsonl: No such file or directory"),
    ],
)
def test_wrong_input_is_exit_code_1(options, message, known, capsys):
    assert main(["allocate", known, *options]) == 1
    caught = capsys.readouterr()
    assert caught.out == "" and caught.err.startswith("error: ") and message in caught.err


@pytest.mark.parametrize("command", ["allocate", "run", "fit"])
def test_where_nothing_can_be_written_one_sentence_says_so_before_anything_is_paid_for(
    command, known, capsys, monkeypatch
):
    from clear_lib.engines import Engine
    from clear_lib.rollouts import logs

    monkeypatch.setattr(Engine, "stream", lambda *given, **named: pytest.fail("tokens were paid for"))
    monkeypatch.setattr(logs, "read", lambda *given: pytest.fail("logs were read"))
    more = {"allocate": ["--budget", "9"], "run": ["--budget", "9", "--model", "embedded"], "fit": []}[command]
    for out, message in ((Path(known, "below"), "Not a directory"), (Path(known).parent, "folder|directory")):
        if (command, out) != ("fit", Path(known).parent):
            assert main([command, known, *more, "--out", str(out)]) == 1
            said = capsys.readouterr().err
            assert re.fullmatch(f"error: {out}.*({message}).*\n", said)


def test_a_full_standard_output_is_one_sentence(known):
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "clear_lib", "allocate", known, "--budget", "800"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    assert done.returncode == 1 and done.stderr == "error: No space left on device\n"


def test_a_missing_file_is_named_and_an_empty_one_is_an_empty_batch(tmp_path, capsys, monkeypatch):
    assert main(["allocate", "nowhere.jsonl", "--budget", "5"]) == 1
    assert "nowhere.jsonl: No such file" in capsys.readouterr().err
    for command in (["allocate"], ["run", "--model", "embedded"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
        assert main([*command, "-", "--budget", "5"]) == 0  # an empty batch is answered empty
        assert capsys.readouterr().out == ""
    no_cost = write(tmp_path / "in.jsonl", [{"question": "1+1?"}])
    assert main(["allocate", no_cost, "--budget", "5"]) == 1
    assert "give the lines a 'threshold', or name the folder of a --forecaster" in capsys.readouterr().err
    assert main(["allocate", no_cost, "--budget", "5", "--policy", "uniform"]) == 0


@pytest.mark.parametrize(
    "command",
    [
        ["allocate"],
        ["run", "--budget", "5"],
        ["allocate", "--budget", "many"],
        ["sell"],
        [],
        ["run", "--budget", "5", "--model", "a", "--engine", "abacus"],
    ],
)
def test_wrong_usage_is_exit_code_2(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2 and "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["allocate", "run", "fit"])
def test_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0 and f"python -m clear_lib {command} " in capsys.readouterr().out


@pytest.mark.parametrize("module", ["clear_lib.cli", "clear_lib.study.cli"])
def test_help_loads_nothing_heavy(module):
    code = f"import sys; from {module} import _parser; _parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "scipy.optimize", "torch", "matplotlib"} & set(done.stdout.split())


# ---- OpenAI's batch format, and dollars ---------------------------------------------------------------------------


def request(number, threshold=50, url="/v1/chat/completions", **body):
    said = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"q{number}"}]}
    said = {"prompt": f"q{number}"} if url == "/v1/completions" else said
    return {
        "custom_id": f"id-{number}",
        "method": "POST",
        "url": url,
        "body": {"model": "a-model", "temperature": 0.6} | said | body,
        "threshold": threshold,
        "prompt_tokens": 10,
    }


def allocated(tmp_path, lines, *options, budget=("--budget", "400")):
    """What the command writes for requests: those with a cap, and those abandoned."""
    source, names = write(tmp_path / "in.jsonl", lines), [str(tmp_path / "out"), str(tmp_path / "left")]
    given = ["allocate", source, "--format", "openai-batch", *budget, "--out", names[0], "--abandoned", names[1]]
    code = main([*given, *options])
    return (code, *(rows(Path(name).read_text()) if Path(name).exists() else None for name in names))


def test_requests_come_back_in_order_with_their_caps_and_those_abandoned_apart(tmp_path, capsys):
    old = request(2, url="/v1/completions", max_tokens=5000)
    lines = [request(0, 90), request(1, 4000), old, request(3, 60, max_tokens=30, n=1), request(4, 9000)]
    code, kept, left = allocated(tmp_path, lines)
    expected = clear_lib.allocate([90, 4000, 50, 60, 9000], 400)
    assert code == 0 and [row["custom_id"] for row in kept] == ["id-0", "id-2", "id-3"]
    caps = [row["body"].get("max_completion_tokens", row["body"].get("max_tokens")) for row in kept]
    assert caps == [expected.tokens[0], expected.tokens[2], 30]
    for row, line in zip(kept, [lines[0], lines[2], lines[3]], strict=True):
        field = "max_tokens" if line is old else "max_completion_tokens"
        body = {name: value for name, value in line["body"].items() if name != "max_tokens"}
        assert row == {name: line[name] for name in ("custom_id", "method", "url")} | {
            "body": body | {field: caps.pop(0)}
        }
    assert [row["custom_id"] for row in left] == ["id-1", "id-4"] and left[0]["body"] == lines[1]["body"]
    assert [row["reason"] for row in left] == [expected.reason(1), expected.reason(4)]
    assert not {"threshold", "prompt_tokens", "question"} & {name for row in kept + left for name in row}
    assert "1 requests keep a limit of their own, which is lower" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, message",
    [
        (request(0), "line 2: 'custom_id' must be a text that no other line has, and is \"id-0\""),
        (request(1) | {"custom_id": 7}, "line 2: 'custom_id' must be a text"),
        (request(1) | {"url": "/v1/embeddings"}, "line 2: must be a POST to /v1/chat/completions or /v1/completions"),
        (request(1) | {"body": None}, "line 2: must be a POST"),
        (request(1, n=2), "line 2: body.n is 2, and a cap counts for one completion"),
        (request(1, max_tokens="many"), "line 2: body.max_tokens must be a whole number above 0"),
        (request(1, messages=[]), "line 2: the body has no text to answer"),
        (request(1) | {"threshold": None}, "line 2: 'threshold' must be a number"),
    ],
)
def test_a_line_that_is_no_request_is_named_and_nothing_is_written(line, message, tmp_path, capsys):
    assert allocated(tmp_path, [request(0), line]) == (1, None, None)
    assert message in capsys.readouterr().err


def test_a_forecaster_reads_what_the_messages_say():
    from clear_lib.cli import batch

    parts = [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {}}]
    line = request(0, messages=[{"role": "user", "content": parts}, {"role": "assistant", "content": "two"}])
    assert batch.requests_of([(1, line)])[0][1]["question"] == "one\ntwo"


def test_dollars_pay_the_prompts_first_and_the_bill_is_within_them(tmp_path, capsys):
    lines = [request(number, 50) for number in range(4)]
    prices = "--policy", "uniform", "--price-out", "600", "--price-in", "150"
    code, kept, _ = allocated(tmp_path, lines, *prices, budget=("--dollars", "0.1260005"))
    assert code == 0 and sum(row["body"]["max_completion_tokens"] for row in kept) == 200
    assert "200 completion tokens and 40 of prompts cost at most $0.126" in capsys.readouterr().err
    code, kept, _ = allocated(tmp_path, lines, *prices[:4], budget=("--dollars", "0.126"))
    assert sum(row["body"]["max_completion_tokens"] for row in kept) == 210
    assert "prompts have no price" in capsys.readouterr().err


@pytest.mark.parametrize(
    "budget, options, message",
    [
        (("--dollars", "1"), [], "--dollars needs --price-out"),
        (("--dollars", "1"), ["--price-out", "0"], "--dollars needs --price-out"),
        (("--budget", "9"), ["--price-in", "1"], "--price-out and --price-in go with --dollars"),
        (
            ("--dollars", "0.001"),
            ["--price-out", "1", "--price-in", "150"],
            "the prompts alone, 20 tokens, cost $0.003",
        ),
    ],
)
def test_money_that_makes_no_sense_is_refused(budget, options, message, tmp_path, capsys):
    assert allocated(tmp_path, [request(0), request(1)], *options, budget=budget) == (1, None, None)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("tokens", [None, -1, True, "10"])
def test_prompt_tokens_are_never_guessed(tokens, tmp_path, capsys):
    lines = [request(0), request(1) | {"prompt_tokens": tokens}]
    prices = "--price-out", "6", "--price-in", "1"
    assert allocated(tmp_path, lines, *prices, budget=("--dollars", "1"))[0] == 1
    assert "line 2: with --price-in, 'prompt_tokens' must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--budget", "5", "--dollars", "1"], [], ["--dollars", "-1"], ["--dollars", "much"], ["--dollars", "NaN"]],
)
def test_a_budget_is_tokens_or_dollars(options, known, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["allocate", known, *options])
    assert stopped.value.code == 2


# ---- with the embedded model ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory):
    """What the embedded model answers to some questions, by the command."""
    from clear_lib.reasoner import tasks

    folder = tmp_path_factory.mktemp("rollouts")
    asked = [
        {"question": row.question, "gold": row.gold, "id": row.question_id}
        for tier in tasks.TIERS
        for row in tasks.questions("predictor", tier, 8).itertuples()
    ]
    source = write(folder / "lessons.jsonl", asked)
    budget = str(200 * len(asked))
    options = ["--model", "embedded", "--policy", "uniform", "--budget", budget, "--out", str(folder / "r")]
    assert main(["run", source, *options]) == 0
    return folder, asked


@pytest.fixture(scope="module")
def forecaster(rollouts):
    folder, _ = rollouts
    assert main(["fit", str(folder / "r"), "--layout", "jsonl", "--out", str(folder / "forecaster")]) == 0
    return str(folder / "forecaster")


def test_run_answers_every_line(rollouts):
    folder, asked = rollouts
    made = rows((folder / "r").read_text())
    assert [{name: row[name] for name in ("question", "gold", "id")} for row in made] == asked
    for row in made:
        assert row["tokens"] == 200 and row["active"] and 0 < row["n_tokens"] <= 200 and row["model"] == "embedded"
        assert row["finished"] == (row["reason"] is None) == ("\\boxed{" in row["completion"] and row["n_tokens"] < 200)


def test_fit_says_whose_rollouts_and_how_well(forecaster, rollouts, capsys):
    folder, asked = rollouts
    assert main(["fit", str(folder / "r"), "--out", str(folder / "again")]) == 0
    again = capsys.readouterr()
    said = again.out
    assert f"fitted to {len(asked)} rollouts of embedded" in said and "rank correlation" in said
    assert re.search(
        r"the tokens of its forecast .level., and \d+% of them are within the central 80% .*coverage", said
    )
    assert re.search(r"what wins at 12 budgets on logs it had not seen: caps: .*Uniform \d+.; refunds: ", said)
    assert "WARNING: too few rollouts: " in again.err and "give " in again.err
    assert json.loads((folder / "again" / "predictor.json").read_text())["trained_on"] == ["embedded"]


def test_a_fitted_forecaster_allocates(forecaster, rollouts, tmp_path):
    folder, asked = rollouts
    source = write(tmp_path / "in.jsonl", asked)
    fitted = clear_lib.predictor.load(forecaster)
    forecasts, advice = fitted.predict([row["question"] for row in asked]), fitted.advice["caps"]
    for options, policy in [([], advice["policy"]), (["--policy", "clear"], "clear")]:
        given = ["--budget", "900", "--forecaster", forecaster, "--out", str(tmp_path / "out"), *options]
        assert main(["allocate", source, *given]) == 0
        made = rows((tmp_path / "out").read_text())
        expected = clear_lib.allocate(forecasts, 900, policy, **advice["settings"].get(policy, {}))
        assert [row["tokens"] for row in made] == expected.tokens.tolist()
    assert advice["settings"]["clear"]["epsilon"] < forecasts.threshold.max()


def test_a_forecaster_of_another_model_is_loud(forecaster, rollouts, tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", rollouts[1])
    given = ["allocate", source, "--budget", "900", "--forecaster", forecaster, "--model"]
    assert main([*given, "embedded"]) == 0 and "WARNING" not in capsys.readouterr().err
    assert main([*given, "Qwen/Qwen2.5-Math-7B"]) == 0
    assert "WARNING: THE PREDICTOR WAS TRAINED ON ANOTHER MODEL'S ROLLOUTS" in capsys.readouterr().err


@pytest.mark.parametrize("policy, options", [("clear", ["--accounting", "refunds"]), ("clear-sequential", [])])
def test_run_spends_what_is_used_if_asked_to(policy, options, forecaster, rollouts, tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", rollouts[1][::3])
    given = ["--forecaster", forecaster, "--budget", "250", "--cap", "150", "--policy", policy, *options]
    assert main(["run", source, "--model", "embedded", *given, "--out", str(tmp_path / "out")]) == 0
    made = rows((tmp_path / "out").read_text())
    assert 0 < sum(row["n_tokens"] or 0 for row in made) <= 250 and "used, in " in capsys.readouterr().err
    for row in made:
        assert row["active"] == (row["completion"] is not None) == (row["n_tokens"] is not None)
        assert row["finished"] == (row["reason"] is None)


def test_lines_may_know_what_they_cost(tmp_path):
    template = tmp_path / "prompt.txt"
    template.write_text("Question: {question}\nSolution:\n")
    source = write(
        tmp_path / "in.jsonl", [{"question": "Ann has 4 eggs, loses 2. How many eggs does Ann have?", "threshold": 9}]
    )
    given = ["--budget", "40", "--model", "embedded", "--template", str(template), "--engine-option", "batch_size=2"]
    assert main(["run", source, *given, "--out", str(tmp_path / "out")]) == 0
    (row,) = rows((tmp_path / "out").read_text())
    assert row["finished"] and row["tokens"] <= 40 and np.isclose(row["threshold"], 9)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell that limits the size of files")
def test_a_disk_that_fills_up_ends_the_run_in_a_sentence_and_it_goes_on_when_there_is_room(tmp_path):
    asked = [{"question": f"Ann has {n} eggs, loses 2. How many eggs does Ann have?"} for n in range(3, 60)]
    write(tmp_path / "in.jsonl", asked)
    command = (
        "run in.jsonl --model embedded --policy uniform --budget 9000 --cap 150 --engine-option batch_size=4".split()
    )
    full = f"ulimit -f 8; exec {sys.executable} -m clear_lib {' '.join(command)} --out out.jsonl"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(["bash", "-c", full], cwd=tmp_path, env=environment, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    kept = re.fullmatch(
        r"error: out.jsonl.part: File too large; (\d+) answers are kept in out.jsonl.part: go on .*", said
    )
    assert done.returncode == 1 and 3 < int(kept[1]) < len(asked) and "Traceback" not in done.stderr
    for more in (["--out", "out.jsonl", "--resume"], ["--out", "whole.jsonl"]):
        assert ask(*command, *more, cwd=tmp_path).returncode == 0
    assert rows((tmp_path / "out.jsonl").read_text()) == rows((tmp_path / "whole.jsonl").read_text())


def test_run_names_mistakes(rollouts, tmp_path, capsys):
    source = write(tmp_path / "in.jsonl", [{"question": "1+1?"}, {"question": 3}])
    assert main(["run", source, "--budget", "5", "--model", "embedded"]) == 1
    assert "line 2: 'question' must be a text, and is 3" in capsys.readouterr().err
    source = write(tmp_path / "in.jsonl", [{"question": "1+1?"}, {"question": "\ud83d"}])
    assert main(["run", source, "--budget", "5", "--model", "embedded"]) == 1
    assert "line 2: 'question' has half of a surrogate pair" in capsys.readouterr().err
    source = write(tmp_path / "in.jsonl", [{"question": "1+1?", "threshold": 5}])
    for options, message in [
        (["--model", "embedded", "--engine-option", "dtype=complex"], "dtype must be one of"),
        (["--model", "embedded", "--template", "Q: "], "the template must contain {question}"),
        (["--model", "embedded", "--policy", "oracle"], "nobody knows"),
        (["--model", "embedded", "--cap", "0"], "cap must be a whole number of at least 1, got 0"),
        (["--model", "embedded", "--resume"], "--resume goes on with the part file of --out FILE"),
        (["--model", "embedded", "--out", "no/such/folder.jsonl"], "no/such/folder.jsonl.part: No such file"),
        (["--model", str(tmp_path)], "holds no model in the Hugging Face format"),
    ]:
        assert main(["run", source, "--budget", "5", *options]) == 1
        assert message in capsys.readouterr().err


def test_run_spends_dollars_and_counts_prompts_with_the_engines_tokenizer(tmp_path, capsys):
    from clear_lib.engines.transformers import TransformersEngine
    from clear_lib.reasoner import CHECKPOINT, PROMPT

    questions = ["Ann has 4 eggs, loses 2. How many eggs does Ann have?", "1+1?"]
    source = write(tmp_path / "in.jsonl", [{"question": question, "threshold": 9} for question in questions])
    given = [
        "run",
        source,
        "--model",
        "embedded",
        "--out",
        str(tmp_path / "out"),
        "--price-in",
        "1000",
        "--dollars",
        "1",
    ]
    assert main([*given, "--price-out", "10000"]) == 0
    tokenizer = TransformersEngine(str(CHECKPOINT)).tokenizer
    prompts = sum(len(tokenizer(PROMPT.replace("{question}", question)).input_ids) for question in questions)
    budget = (1_000_000 - 1000 * prompts) // 10_000
    said = capsys.readouterr().err
    assert f"a budget of {budget} completion tokens" in said
    assert f"{budget} completion tokens and {prompts} of prompts cost at most $" in said
    assert main([*given, "--price-out", "10000", "--accounting", "refunds"]) == 1
    assert "a paused query has its prompt read again, at a price" in capsys.readouterr().err
