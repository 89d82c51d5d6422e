"""Logs of other programs: every layout is read, and nothing disappears in silence.

The files in tests/rollouts/logs were written by lm-evaluation-harness 0.4.13 and LightEval 0.13.0 with the embedded reasoner on
questions of this project.
"""

import json
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clear_lib.rollouts import logs
from clear_lib.rollouts.layouts import find
from clear_lib.rollouts.store import SCHEMA, RolloutStore

LOGS = Path(__file__).parent / "logs"
WORDS = LOGS / "samples_clear_words_2026-11-24T02-55-34.447982.jsonl"
SAMPLED = LOGS / "samples_clear_sampled_2026-11-24T02-56-40.487967.jsonl"
DETAILS = LOGS / "details_clear_words_0_2026-11-24T02-59-15.410125.parquet"


def lines(path, *records):
    """A file of JSON lines; texts are written as they are."""
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in records))
    return path


def rollouts(path, layout=None, columns=None, **completed):
    table, report = logs.read(path, layout, columns)
    return logs.complete(table, report, **{"model": "m", "tokenizer": "embedded"} | completed), report


def plain(number=0, **changes):
    return {
        "question": f"What is {number} + 1?",
        "gold": str(number + 1),
        "completion": rf"\boxed{{{number + 1}}}",
        "n_tokens": 7,
        "correct": True,
        "finished": True,
        "model": "m",
    } | changes


# ---- the harnesses' own files -----------------------------------------------------------------------------------


def test_lm_evaluation_harness(tmp_path):
    table, report = rollouts(WORDS)
    assert (report.layout, report.lines, report.kept) == ("lm-eval", 8, 4)
    assert report.dropped == {"the same rollout under another filter": 4}
    assert "verdicts of the filter 'boxed'; also there: raw" in str(report)
    first = table.iloc[0]
    assert first.question == "Ann has 11 eggs, wins 2. How many eggs does Ann have?"
    assert (first.gold, first.answer, first.verdict, first.tier, first.dataset) == (
        "13",
        "13",
        "correct",
        "easy",
        "clear_words",
    )
    assert (first.cap, first.finish_reason, first.engine) == (300, "stop", "lm-evaluation-harness, --log_samples")
    RolloutStore(tmp_path).append(table[SCHEMA.names])


def test_another_filter_has_other_verdicts():
    table, report = logs.read(WORDS, keep_filter="raw")
    assert set(logs.complete(table, report, model="m", tokenizer="embedded").verdict) == {"wrong"}
    with pytest.raises(ValueError, match="no filter 'strict'; it has: boxed, raw"):
        logs.read(WORDS, keep_filter="strict")


@pytest.mark.parametrize("name, others", [("boxed", 4), ("raw", 4), ("boxed", 0)])
def test_lines_without_a_filter_are_counted(tmp_path, name, others):
    records = [json.loads(line) for line in WORDS.read_text(encoding="utf-8").splitlines()]
    bare = [{key: value for key, value in each.items() if key != "filter"} for each in records[:3]]
    some = [each for each in records if others or each["filter"] == name]
    _, report = logs.read(lines(tmp_path / "samples_a.jsonl", *some, *bare), keep_filter=name)
    assert report.dropped["no filter, and other lines have one"] == 3 and "3 dropped: no filter" in str(report)
    assert report.dropped["the same rollout under another filter"] == others


def test_samples_of_a_vote_are_graded_one_by_one():
    table, report = rollouts(SAMPLED)
    assert report.lines == 2 and table["sample"].tolist() == [0, 1, 2] * 2
    assert "6 verdicts were not recorded" in str(report)
    assert (table.verdict == "correct").tolist() == [
        answer == gold for answer, gold in zip(table.answer, table.gold, strict=True)
    ]
    assert table.temperature.tolist() == [1.0] * 6


def test_lighteval_counts_agree_with_the_tokenizer():
    table, report = rollouts(DETAILS, tokenizer=None)
    assert (report.layout, report.kept) == ("lighteval", 4)
    assert not report.notes, "token counts and verdicts are recorded"
    finished = [length + 1 for length in logs.count_tokens(list(table.completion), "embedded")]
    assert table.length.tolist() == finished, "the padding of the batch is not counted"
    assert set(table.verdict) == {"correct"} and set(table.cap) == {300}


def test_lighteval_before_version_0_10(tmp_path):
    row = {
        "full_prompt": "Question: 1 + 1?",
        "gold": ["2"],
        "predictions": [r"\boxed{2}"],
        "cont_tokens": [[5, 6, 7, 0]],
        "metrics": {"extractive_match": 1.0},
    }
    path = tmp_path / "details_custom|math|0_2025-01-28T10-00-00.000000.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    table, _ = rollouts(path, tokenizer=None)
    assert table[["question", "gold", "length", "verdict", "dataset"]].to_numpy().tolist() == [
        ["Question: 1 + 1?", "2", 4, "correct", "math"]
    ]


def test_qwen_math_evaluation(tmp_path):
    record = {
        "idx": 0,
        "question": "1 + 1?",
        "gt_cot": "So 2.",
        "gt": "2",
        "level": 3,
        "answer": "2",
        "code": [r"It is \boxed{2}", r"It is \boxed{3}"],
        "pred": ["2", "3"],
        "report": [None, None],
        "score": [True, False],
    }
    table, report = rollouts(lines(tmp_path / "math.jsonl", record))
    assert report.layout == "qwen-math" and table.verdict.tolist() == ["correct", "wrong"]
    assert table["sample"].tolist() == [0, 1] and table.level.tolist() == ["3", "3"]
    counted = logs.count_tokens(record["code"], "embedded")
    assert table.length.tolist() == [counted[0] + 1, counted[1] + 1], "the end token is counted too"


def test_plain_lines_with_a_mapping(tmp_path):
    records = [{"doc": {"problem": f"{n}?"}, "right": n % 2, "tokens": [n + 5]} for n in range(4)]
    columns = {"question": "doc.text|doc.problem", "correct": "right", "n_tokens": "tokens.0"}
    table, report = rollouts(lines(tmp_path / "mine.jsonl", *records), columns=columns, tokenizer=None)
    assert report.layout == "jsonl" and table.dataset.tolist() == ["mine"] * 4
    assert table.verdict.tolist() == ["wrong", "correct"] * 2 and table.length.tolist() == [5, 6, 7, 8]
    assert table.completion.isna().all() and set(table.cap) == {8}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("samples_gsm8k_2024-08-01T10-00-00.123456", "gsm8k"),
        ("samples_minerva_math_algebra_2024-08-01T10-00-00", "minerva_math_algebra"),
        ("details_lighteval|math_500|0|0_2025-01-28T10-00-00.000000", "math_500"),
        ("details_aime24|0_2025-01-28T10-00-00.000000", "aime24"),
        ("my_rollouts", "my_rollouts"),
    ],
)
def test_the_task_is_read_from_the_name_of_the_file(name, task):
    assert logs._task(Path(f"{name}.jsonl")) == task


# ---- what is open is filled in, or dropped with a reason -------------------------------------------------------


def test_verdicts_are_graded_only_where_none_is_recorded(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        plain(1, correct=None),
        plain(2, correct=None, completion=r"\boxed{9}"),
        plain(3, correct=None, completion="no box"),
        plain(4, correct=False),
    )
    table, report = rollouts(path)
    assert table.verdict.tolist() == ["correct", "wrong", "wrong", "wrong"]
    assert "3 verdicts were not recorded" in str(report)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (1234567, "1234567"),
        (10**25 + 1, "10000000000000000000000001"),
        (1234567.0, "1234567"),
        (-3.0, "-3"),
        (0.1234567891, "0.1234567891"),
        (123456789.25, "123456789.25"),
        (1e22, "1e+22"),
        ("1.0", "1.0"),
    ],
)
def test_a_number_keeps_every_digit(tmp_path, gold, text):
    path = lines(
        tmp_path / "a.jsonl",
        plain(1, gold=gold, correct=None, completion=f"\\boxed{{{text}}}"),
        plain(2, gold=gold, correct=None, completion=f"\\boxed{{{text.replace('1', '2').replace('3', '4')}}}"),
    )
    table, _ = rollouts(path)
    assert table.gold.tolist() == [text] * 2 and table.verdict.tolist() == ["correct", "wrong"]


def test_what_is_dropped_has_a_reason(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        plain(0),
        plain(1, question=" "),
        plain(2, completion="", n_tokens=None),
        plain(3, gold=None, correct=None),
        plain(4, completion=None, correct=None),
        plain(5, sample=0),
        plain(5, sample=0),
    )
    table, report = rollouts(path)
    assert table.question.str[8].tolist() == ["0", "5"] and (report.lines, report.kept) == (7, 2)
    assert report.dropped == {
        "no question": 1,
        "neither completion nor token count": 1,
        "neither verdict nor gold answer": 1,
        "neither verdict nor completion": 1,
        "the same question and sample again": 1,
    }
    assert report.kept + sum(report.dropped.values()) == report.lines


def test_repeated_questions_are_samples(tmp_path):
    table, _ = rollouts(lines(tmp_path / "a.jsonl", plain(1), plain(2), plain(1, question="what is  1 + 1?")))
    assert table["sample"].tolist() == [0, 0, 1]
    assert table.question_id[0] == table.question_id[2] != table.question_id[1]


def test_what_was_cut_off(tmp_path):
    path = lines(
        tmp_path / "a.jsonl",
        plain(1, finished=False, n_tokens=50),
        plain(2, finished=None, n_tokens=60),
        plain(3, finished=None, n_tokens=59),
        plain(4, finished=True, n_tokens=60),
    )
    table, report = rollouts(path, cap=60)
    assert table.finish_reason.tolist() == ["length", "length", "stop", "stop"]
    assert (table.length <= table.cap).all() and "2 rollouts were stopped by their cap" in str(report)


@pytest.mark.parametrize("cap", [0, -5, 2**63, 10**400])
def test_a_cap_that_is_none_is_named(tmp_path, cap):
    with pytest.raises(ValueError, match="the cap must be a number from 1 to 9,007,199,254,740,992, got"):
        rollouts(lines(tmp_path / "a.jsonl", plain(1)), cap=cap)


def test_missing_counts_need_a_named_tokenizer(tmp_path):
    path = lines(tmp_path / "a.jsonl", plain(1), plain(2, n_tokens=None))
    with pytest.raises(ValueError, match="1 of 2 rollouts have no token count; name the model's tokenizer"):
        rollouts(path, tokenizer=None)
    with pytest.raises(ValueError, match="tokenizer '.*nowhere' cannot be loaded"):
        rollouts(path, tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="does not say which model wrote it"):
        rollouts(lines(tmp_path / "b.jsonl", plain(1, model=None)), model=None)
    with pytest.raises(ValueError, match="(?s)no rollout can be used.*1 dropped: no question"):
        rollouts(lines(tmp_path / "c.jsonl", plain(1, question="")))


# ---- malformed lines ----------------------------------------------------------------------------------------------


BAD = {
    '{"question": "cut off': "not JSON",
    "[1, 2]": "not a JSON object",
    json.dumps(plain(1, n_tokens="many")): "n_tokens must be a number from 1 to 9,007,199,254,740,992, got 'many'",
    json.dumps(plain(1, n_tokens=0)): "n_tokens must be a number from 1",
    json.dumps(plain(1, n_tokens=1e30)): "n_tokens must be a number from 1",
    json.dumps(plain(1, cap=10**400)): "cap must be a number from 1",
    json.dumps(plain(1, sample=1e300)): "sample must be a number from 0",
    json.dumps(plain(1, temperature=math.inf)): "temperature must be a number from 0",
    json.dumps(plain(1, question="\ud83d")): "question has half of a surrogate pair",
    json.dumps(plain(1, n_tokens=2.5)): "n_tokens must be a whole number, got 2.5",
    json.dumps(plain(1, correct="yes")): "correct must be true or false, got 'yes'",
    json.dumps(plain(1, question=["a"])): "question must be text, got",
    json.dumps(plain(1, question="a" * (10**6 + 1))): "question has 1,000,001 characters, more than 1,000,000",
}


@pytest.mark.parametrize("bad", BAD)
def test_malformed_lines_are_listed_with_their_number(tmp_path, bad):
    path = lines(tmp_path / "a.jsonl", plain(0), "", bad, *(plain(number) for number in range(2, 130)))
    table, report = rollouts(path)
    assert len(table) == 129 and report.lines == 130
    ((number, why),) = report.malformed
    assert number == 3 and BAD[bad] in why and f"line 3: {BAD[bad]}" in str(report)


def test_too_many_malformed_lines_are_an_error(tmp_path):
    path = lines(tmp_path / "a.jsonl", plain(0), *BAD)
    with pytest.raises(ValueError, match=r"13 of 14 lines are malformed, more than 1%:\n  line 2: not JSON"):
        logs.read(path)
    assert len(logs.read(path, malformed=0.95)[0]) == 1


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "?", "gt": "2", "code": [], "score": []}, "code must hold a list of texts"),
        ({"question": "?", "gt": "2", "code": ["a", "b", "c"], "score": [True, False]}, "2 verdicts for 3 completions"),
    ],
)
def test_completions_without_their_verdicts_are_malformed(tmp_path, record, reason):
    with pytest.raises(ValueError, match=f"line 1: {reason}"):
        logs.read(lines(tmp_path / "a.jsonl", record))


def test_not_a_number_is_not_recorded(tmp_path):
    table, _ = logs.read(
        lines(tmp_path / "a.jsonl", plain(1, correct=float("nan"), gold=float("nan"), cap=float("nan")))
    )
    assert table[["correct", "gold", "cap"]].isna().all(axis=None)


@pytest.mark.parametrize("metrics", [5, [5], "exact_match", {"exact_match": "yes"}, None])
def test_metrics_that_are_none_leave_the_verdict_open(tmp_path, metrics):
    line = {"doc": {"question": "?"}, "resps": [["\\boxed{1}"]], "target": "1", "metrics": metrics}
    table, report = logs.read(lines(tmp_path / "a.jsonl", line))
    assert table.correct.isna().all() and not report.malformed


def test_lines_of_multiple_choice_cannot_be_used(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"doc": {"question": "?"}, "resps": [[[-1.0, True]]], "target": "A"})
    with pytest.raises(ValueError, match="line 1: resps must hold a list of texts: only tasks that generate"):
        logs.read(path)


def test_wrong_files_and_names(tmp_path):
    with pytest.raises(ValueError, match="nothing.jsonl: no such file"):
        logs.read(tmp_path / "nothing.jsonl")
    with pytest.raises(ValueError, match="empty.jsonl: empty"):
        logs.read(lines(tmp_path / "empty.jsonl"))
    with pytest.raises(ValueError, match="unknown layout 'csv'; known: lm-eval, qwen-math, lighteval, jsonl"):
        logs.read(WORDS, "csv")
    with pytest.raises(ValueError, match="unknown column 'tokens'; known: question"):
        logs.read(WORDS, columns={"tokens": "n"})
    (tmp_path / "half.parquet").write_bytes(DETAILS.read_bytes()[:-9])
    with pytest.raises(ValueError, match="half.parquet: truncated or damaged"):
        logs.read(tmp_path / "half.parquet")


@pytest.mark.parametrize("column", ["model", "dataset"])
@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "a[b](javascript:x)", "a\u202eb", "", "a\nb", "{raw}`x`"]
)
def test_a_name_is_a_name(tmp_path, column, name):
    path = lines(tmp_path / "a.jsonl", plain(0, **{column: name}))
    with pytest.raises(ValueError, match=f"a.jsonl: {column} .* is no name: letters"):
        rollouts(path)


def test_find_takes_the_first_place_that_is_there():
    record = {"a": {"b": [1, {"c": 2}]}, "n": None}
    assert find(record, "x|n|a.b.1.c") == 2
    assert find(record, "a.b.5|a.b.c") is None
    assert pd.isna(find(record, "n.m") or float("nan"))
