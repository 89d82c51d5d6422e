r"""The question sets: made files in the layouts of public repositories, and the real sets where a folder has them.

The real sets are no part of the repository. Their folder is ``CLEAR_BENCHMARKS``, or ``shared/data/benchmarks``
beside the repository; without it their tests are reported as skipped.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from clear_lib.rollouts.grading import Grader
from clear_lib.study.setup import benchmarks, paper
from clear_lib.study.setup.benchmarks import SETS, TIER_OF, load, study
from clear_lib.study.setup.questions import COLUMNS, same_text

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("CLEAR_BENCHMARKS") or ROOT.parent / "shared/data/benchmarks")
real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real sets are not at hand; name their folder in CLEAR_BENCHMARKS"
)


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def small(monkeypatch):
    """Makes a set as small as the test needs."""
    return lambda name, repeated=0, **rows: monkeypatch.setitem(
        SETS, name, SETS[name]._replace(rows=rows, repeated=dict.fromkeys(rows, repeated))
    )


# ---- the table of sets ----------------------------------------------------------------------------------------


def test_the_sets_are_those_of_the_papers_tables():
    for row in pd.concat([paper.TABLE_6, paper.TABLE_7]).itertuples():
        assert TIER_OF[row.name] == row.tier
        if row.use == "evaluation":
            assert SETS[row.name].rows == {row.split: row.total}
    assert set(SETS) == set(paper.TABLE_6["name"])


def test_the_papers_split_has_the_papers_counts():
    counts = {row.name: row.total for row in paper.TABLE_6.itertuples() if row.use == "predictor"}
    found = pd.Series(dict.fromkeys(counts, 0))
    for name, part in benchmarks.PREDICTOR["paper"]:
        found[name] += SETS[name].rows[part]
    assert found.to_dict() == counts


def test_the_parts_that_the_paper_trains_on_have_their_published_sizes():
    """Cobbe et al. 2021; Hendrycks et al. 2021."""
    assert SETS["GSM8K"].rows == {"train": 7473, "test": 1319} and SETS["MATH"].rows == {"train": 7500, "test": 5000}


def test_revisions_are_commits_and_the_unpinned_set_is_known():
    assert [name for name, known in SETS.items() if known.revision is None] == ["OlympiadBench"]
    assert all(re.fullmatch("[0-9a-f]{40}", known.revision) for known in SETS.values() if known.revision)


# ---- layouts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "file", "row", "question", "gold"),
    [
        ("GSM8K", "gsm8k_test.jsonl", {"question": "1+1?", "answer": "It is <<1+1=2>>2.\n#### 2,000"}, "1+1?", "2,000"),
        ("GSM8K", "gsm8k/test.jsonl", {"question": "1+1?", "cot": "It is 2.", "answer": "2"}, "1+1?", "2"),
        ("MATH", "math_test.jsonl", {"problem": "Half?", "solution": "So $\\boxed{\\frac12}$."}, "Half?", "\\frac12"),
        ("MATH", "math/test.jsonl", {"problem": "Two?", "solution": "It is $\\boxed 2$."}, "Two?", "2"),
        ("MATH 500", "math500_test.jsonl", {"problem": "a?", "solution": "\\boxed{1}", "answer": "x=1"}, "a?", "x=1"),
        ("AMC-23", "amc23/test.jsonl", {"id": 0, "problem": "b?", "question": "b?", "answer": 27.0}, "b?", "27"),
        ("AMC-23", "amc23_test.jsonl", {"question": "b?", "answer": "\\boxed{27}"}, "b?", "27"),
        ("AIME 2024", "aime_2024.jsonl", {"problem": "c?", "solution": "", "answer": 33}, "c?", "33"),
        (
            "OlympiadBench",
            "olympiadbench/test.jsonl",
            {"question": "d?", "final_answer": ["$1$,$2$"], "solution": ["\\boxed{9}"], "answer_type": "Numerical"},
            "d?",
            "$1$,$2$",
        ),
        ("OlympiadBench", "olympiadbench_test.jsonl", {"question": "d?", "final_answer": ["3 ", "4"]}, "d?", "3, 4"),
        (
            "Minerva",
            "minerva_math_test.jsonl",
            {"problem": "e?", "solution": "\\boxed{1e-3} \\mathrm{~m}"},
            "e?",
            "1e-3",
        ),
    ],
)
def test_layouts_of_public_repositories_are_read(tmp_path, small, name, file, row, question, gold):
    small(name, test=1)
    write(tmp_path / file, row)
    table = load(name, "test", tmp_path)
    assert list(table) == list(COLUMNS) and table.attrs["source"] == str(tmp_path / file)
    assert table.iloc[0][["dataset", "tier", "split", "question", "gold"]].tolist() == [
        name,
        TIER_OF[name],
        "test",
        question,
        gold,
    ]


def test_a_set_in_pieces_is_put_together(tmp_path, small):
    small("AIME 2025", test=2)
    for piece, answer in (("I", "70"), ("II", "468")):
        write(tmp_path / f"aime25_{piece}.jsonl", {"problem": f"Contest {piece}?", "answer": answer})
    table = load("AIME 2025", folder=tmp_path)
    assert list(table.gold) == ["70", "468"]
    assert table.attrs["source"] == f"{tmp_path}/aime25_I.jsonl, {tmp_path}/aime25_II.jsonl"


def test_the_identity_of_a_question_is_its_text(tmp_path, small):
    small("AMC-23", test=2)
    write(tmp_path / "a/amc23.jsonl", {"question": "One $x$?", "answer": 1}, {"question": "Two?", "answer": 2})
    write(tmp_path / "b/amc23.jsonl", {"problem": "Two?", "answer": 2}, {"problem": " one $ x $ ?", "answer": 1})
    one, two = load("AMC-23", folder=tmp_path / "a"), load("AMC-23", folder=tmp_path / "b")
    assert list(one.question_id) == list(two.question_id[::-1]) and one.question_id.is_unique


def test_questions_that_stand_twice_are_kept_if_they_are_known_to(tmp_path, small):
    rows = [
        {"problem": text, "answer": "1"} for text in ("Let $x=1$.  What is $x$?", "Let $x = 1$. What is $x$?", "y?")
    ]
    write(tmp_path / "math_train.jsonl", *rows)
    small("MATH", repeated=1, train=3)
    table = load("MATH", "train", tmp_path)
    assert len(table) == 3 and table.question_id.is_unique and table.question_id[1] == table.question_id[0] + "-2"
    small("MATH", train=3)
    with pytest.raises(ValueError, match="row 1: question 'Let .x = 1.* is there twice"):
        load("MATH", "train", tmp_path)
    small("MATH", repeated=2, train=3)
    with pytest.raises(ValueError, match="1 questions are there twice, expected 2"):
        load("MATH", "train", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"question": "a?", "answer": "1"}], "AMC-23, test: expected 2 questions, found 1 in .*amc23.jsonl"),
        ([{"question": "a?", "answer": "1"}, {"question": "b?", "answer": ""}], "row 2 has no answer: 'b[?]'"),
        ([{"question": "a?", "answer": "1"}, {"text": "b?"}], "row 2 has no text in `problem` or `question`, got None"),
        ([{"question": "a?", "answer": "1"}, ["b?"]], "amc23.jsonl, line 2: not a JSON object"),
    ],
)
def test_a_file_that_is_not_the_set_is_named(tmp_path, small, rows, message):
    small("AMC-23", test=2)
    write(tmp_path / "amc23.jsonl", *rows)
    with pytest.raises(ValueError, match=message):
        load("AMC-23", folder=tmp_path)


def test_what_is_unknown_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown question set 'MATH-500'; known: GSM8K, MATH, MATH 500"):
        load("MATH-500")
    with pytest.raises(ValueError, match="MATH 500 has no part 'train'; it has: test"):
        load("MATH 500", "train")
    with pytest.raises(ValueError, match="unknown split 'dirty'; known: clean, paper"):
        study("dirty")
    with pytest.raises(
        ValueError, match="AIME 2025, test: not in .*; looked for aime25_test.jsonl, .*aime25_I.jsonl and"
    ):
        load("AIME 2025", folder=tmp_path)


# ---- the hub --------------------------------------------------------------------------------------------------


def test_a_repository_is_read_with_its_configurations_and_split(tmp_path, small, monkeypatch):
    """The layout of a repository on the hub, read by `datasets` from a folder."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    files = {"algebra": ("Sum?", "1"), "geometry": ("Area?", "2")}
    for config, (text, answer) in files.items():
        write(tmp_path / f"hub/{config}.jsonl", {"problem": text, "solution": f"\\boxed{{{answer}}}"})
    (tmp_path / "hub/README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {config}\n  data_files:\n  - split: train\n    path: {config}.jsonl\n" for config in files
        )
        + "---\n"
    )
    small("MATH", test=2)
    monkeypatch.setitem(
        SETS, "MATH", SETS["MATH"]._replace(repository=str(tmp_path / "hub"), configs=tuple(files), hub_split="train")
    )
    table = load("MATH")
    assert table[["question", "gold"]].to_numpy().tolist() == [["Sum?", "1"], ["Area?", "2"]]
    assert table.attrs["source"] == f"{tmp_path / 'hub'}@{SETS['MATH'].revision}"


@pytest.mark.parametrize(
    ("name", "revision", "file"),
    [("GSM8K", SETS["GSM8K"].revision, "gsm8k_test.jsonl"), ("OlympiadBench", "newest", "olympiadbench_test.jsonl")],
)
def test_without_a_network_the_message_names_the_folder(tmp_path, name, revision, file):
    run = subprocess.run(
        [sys.executable, "-c", f"from clear_lib.study.setup.benchmarks import load; load({name!r})"],
        cwd=ROOT,
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    last = run.stderr.strip().splitlines()[-2:]
    assert last[0].startswith(
        f"ValueError: {name} cannot be loaded from the hub (dataset {SETS[name].repository}, revision {revision}): "
    )
    assert last[1] == f"Without a network, name a folder that holds {file}"


# ---- the study ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, small):
    """All sets, two questions each. MATH 500 is in MATH test, and OlympiadBench has a question of MATH train."""
    for name, known in SETS.items():
        small(name, **dict.fromkeys(known.rows, 2))
        for part in known.rows:
            write(
                tmp_path / f"{known.stems[0]}_{part}.jsonl",
                *({"problem": f"{name}, {part}, {letter}?", "answer": letter} for letter in "ab"),
            )
    write(
        tmp_path / "math500_test.jsonl", *({"problem": f"MATH, test, {letter}?", "answer": letter} for letter in "ab")
    )
    write(
        tmp_path / "olympiadbench_test.jsonl",
        {"question": "$math$, train, a ?", "answer": "a"},
        {"question": "c?", "answer": "c"},
    )
    return tmp_path


def test_the_clean_split_shares_no_question(folder):
    tables = study(folder=folder)
    assert (
        list(tables["evaluation"].dataset.unique()) == list(benchmarks.EVALUATION) and len(tables["evaluation"]) == 12
    )
    predictor = tables["predictor"]
    assert predictor[["dataset", "question"]].to_numpy().tolist() == [
        ["GSM8K", "GSM8K, train, a?"],
        ["GSM8K", "GSM8K, train, b?"],
        ["MATH", "MATH, train, b?"],
    ]
    assert load("MATH", "train", folder).question_id[0] not in set(predictor.question_id)
    assert [set(tables[split].split) for split in tables] == [{"evaluation"}, {"predictor"}]


def test_the_papers_split_keeps_what_it_shares(folder):
    tables = study("paper", folder)
    shared = same_text(tables["predictor"].question).isin(same_text(tables["evaluation"].question))
    assert len(shared) == 6 and shared.sum() == 3


# ---- the answers ----------------------------------------------------------------------------------------------


#: Questions whose gold answer the grader cannot read: only an answer in the same words is right.
UNREADABLE = {
    "math-train-df17328ca8a4": "a time of day, with no minutes",
    "olympiadbench-test-02c24b552f4f": "a family of functions, with its conditions in words",
}


def grade_golds(questions, others):
    """Each different gold answer of a set against itself, some others, and itself with a digit changed; by algebra."""
    draw, pairs = random.Random(0), []
    for name, golds in questions.groupby("dataset", sort=False)["gold"]:
        different = list(dict.fromkeys(golds))
        for gold in different:
            pairs.append((name, "itself", gold, gold))
            pairs += [(name, "another", gold, other) for other in draw.sample(different, others) if other != gold]
            # The power of a unit is not read, so its digit is not changed.
            if digits := [found.start() for found in re.finditer(r"(?<!\}\^)(?<!\}\^\{)[0-9]", gold)]:
                place = draw.choice(digits)
                digit = (int(gold[place]) + draw.randint(1, 9)) % 10
                pairs.append((name, "near miss", gold, f"{gold[:place]}{digit}{gold[place + 1 :]}"))
    table = pd.DataFrame(pairs, columns=["dataset", "kind", "gold", "answer"])
    with Grader(timeout=60, shortcut=False) as grader:
        return table.assign(verdict=grader.grade(list(table["gold"]), list(table["answer"])))


@real
@pytest.mark.parametrize(
    ("split", "sizes", "shared"),
    [("clean", {"GSM8K": 7473, "MATH": 7497}, 0), ("paper", {"GSM8K": 1319, "MATH": 12500}, 504)],
)
def test_the_real_sets_make_both_splits(split, sizes, shared):
    tables = study(split, REAL)
    predictor = tables["predictor"]
    assert len(tables["evaluation"]) == 1547 and predictor.groupby("dataset").size().to_dict() == sizes
    overlap = same_text(predictor["question"]).isin(same_text(tables["evaluation"]["question"]))
    assert overlap.sum() == shared


@pytest.mark.slow
@real
def test_real_golds_verify_as_themselves_and_not_as_others():
    """All different answers of the evaluation sets, and a fixed draw from the rest."""
    parts = pd.concat([load(name, part, REAL) for name, known in SETS.items() for part in known.rows])
    golds = parts.drop_duplicates(["dataset", "gold"]).sort_values("question_id")
    golds = golds[~golds["question_id"].isin(UNREADABLE)].groupby("dataset")
    golds = pd.concat([table if name in benchmarks.EVALUATION else table.head(150) for name, table in golds])
    table = grade_golds(golds, others=1)
    assert (table["kind"] == "itself").sum() > 1400
    wrong = table[table["verdict"] != table["kind"].map({"itself": "correct"}).fillna("wrong")]
    assert set(wrong["verdict"]) == {"correct"} and "itself" not in set(wrong["kind"]), wrong.to_string()
    assert wrong["gold"].map(_value).equals(wrong["answer"].map(_value)), wrong.to_string()
    unread = parts[parts["question_id"].isin(UNREADABLE)]
    assert set(unread["question_id"]) == set(UNREADABLE)
    assert set(grade_golds(unread, others=0)["verdict"]) == {"unknown"}


def _value(text):
    r"""What a fraction, an amount or a list comes to: two texts may be equal, such as ``\frac54`` and ``1.25``."""
    plain = re.sub(r"^[a-z]=|\^?circ|text.*$", "", re.sub(r"[\s${}\\]", "", text))
    fraction = re.fullmatch(r"(-?)[dt]?frac(\d)(\d)", plain)
    return (
        f"{int(fraction[1] + fraction[2]) / int(fraction[3]):g}"
        if fraction
        else ",".join(sorted(set(plain.split(","))))
    )
