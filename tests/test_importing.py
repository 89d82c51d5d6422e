"""Imported rollouts become a profile that the study runs on."""

import contextlib
import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib import predictor
from clear_lib.rollouts import logs
from clear_lib.study import experiments
from clear_lib.study.cli import main
from clear_lib.study.recordings import importing, new_profile, recording, tiers
from clear_lib.study.recordings.forecasts import cross_fitted, forecast_file, read_forecasts
from clear_lib.study.setup import paper, profiles, streams
from clear_lib.study.setup.profiles import PredictorSpec

RIDGE = PredictorSpec("ridge", "ridge", streams.TIERS, "all", {})


def records(n=160, model="Small-7B", seed=0, start=0):
    """Made-up rollouts of three sets of questions; longer questions have longer solutions."""
    rng = np.random.default_rng(seed)
    for number in range(start, start + n):
        terms = int(rng.integers(2, 12))
        yield {
            "question": f"Item {number}: " + " plus ".join(["one"] * terms) + "?",
            "gold": str(terms),
            "model": model,
            "benchmark": ("math500", "amc23", "aime24")[number % 3],
            "n_tokens": int(terms * 40 * rng.lognormal(0, 0.2)),
            "correct": bool(rng.random() < 0.9 - 0.05 * terms),
            "finished": True,
        }


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path, **completed):
    table, report = logs.read(path)
    return logs.complete(table, report, **completed)


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory):
    return read(write(tmp_path_factory.mktemp("logs") / "a.jsonl", records()))


@pytest.fixture(scope="module")
def imported(rollouts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return importing.import_rollouts(rollouts, folder), folder


def test_the_study_runs_on_it(imported):
    made, folder = imported
    profile = profiles.load(made.file)
    assert profile == made.profile and profile.model == "Small-7B" and profile.engine == "none"
    assert profile.model_parameters == 7_000_000_000 and profile.tiers == ("moderate", "hard", "very hard")
    pool = experiments.make_pool(recording.load(profile, "evaluation", folder), read_forecasts(profile, folder))
    assert (
        pool.equals(experiments.read_pool(profile, folder)) and experiments.read_pool(profile, folder, told=True).empty
    )
    results = experiments.run(profile, pool, scarcities=[0.39], only=["balanced"])
    assert set(results.n) == {profile.stream_size} and (results.used <= results.granted).all()
    best = results.groupby("policy").accuracy.mean()
    assert best["oracle"] == best.max() and best["clear-lognormal" if "clear-lognormal" in best else "clear"] > 0


def test_what_is_missing_is_said(imported):
    made, folder = imported
    for kind in ("sampled", "predictor"):
        with pytest.raises(ValueError, match=f"profile 'imported' has no {kind} rollouts"):
            recording.load(made.profile, kind, folder)


def test_no_forecast_knows_its_own_question(rollouts):
    """A forecast stays as it is when the question's own rollout changes."""
    some = rollouts.head(60).reset_index(drop=True)
    changed = some.copy()
    changed.loc[7, "length"] = 100_000
    changed.loc[7, "verdict"] = "wrong" if some.verdict[7] == "correct" else "correct"
    before, after = (cross_fitted(table, RIDGE, 10**9) for table in (some, changed))
    own = before.question_id == some.question_id[7]
    assert own.tolist() == [row == 7 for row in range(60)]
    for name in ("threshold", "estimate", "spread", "solvable"):
        assert (before[name] == after[name])[own].all() and (before[name] != after[name]).any()


def test_forecasts_rank_the_lengths(imported):
    made, _ = imported
    assert made.pool[["threshold", "length"]].rank().corr().iloc[0, 1] > 0.6
    assert "tiers: by question set (Table 6)" in str(made) and "cross-fitted in 5 parts" in str(made)


def test_some_questions_can_be_set_aside(rollouts, tmp_path):
    made = importing.import_rollouts(rollouts, tmp_path, hold_out=0.25)
    lessons, evaluation = (recording.load(made.profile, kind, tmp_path) for kind in ("predictor", "evaluation"))
    assert (len(lessons), len(evaluation)) == (40, 120) and not set(lessons.question) & set(evaluation.question)
    assert set(lessons.tier) <= set(made.profile.tiers) and set(lessons.split) == {"predictor"}
    model = predictor.load(forecast_file(made.profile, tmp_path).parent / made.profile.predictor.kind)
    assert np.allclose(model.predict(list(evaluation.question)).threshold, made.pool.threshold)
    with pytest.raises(ValueError, match="hold_out must be between 0 and 1"):
        importing.import_rollouts(rollouts, tmp_path, hold_out=1.0)


def test_a_predictor_of_another_model_is_loud(rollouts, tmp_path):
    training = read(write(tmp_path / "b.jsonl", [*records(80, "Other-8B", 1, 1000), *records(5, "Other-8B")]))
    with pytest.warns(predictor.OtherModelWarning, match="learned from Other-8B and forecasts Small-7B"):
        made = importing.import_rollouts(rollouts, tmp_path, training=training)
    assert "ANOTHER MODEL" in made.profile.predictor.label and "ANOTHER MODEL" in made.profile.teacher.label
    assert "learned from 80 rollouts of Other-8B" in str(made)
    assert "5 more are of questions that are evaluated" in str(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error", predictor.OtherModelWarning)
        importing.import_rollouts(rollouts, tmp_path, training=training.assign(model="Small-7B"))


def test_samples_are_kept_for_the_three_phases(rollouts, tmp_path):
    again = pd.concat([rollouts, rollouts.head(30).assign(sample=1, length=9), rollouts.head(2)])
    made = importing.import_rollouts(again, tmp_path)
    sampled = recording.load(made.profile, "sampled", tmp_path)
    assert len(sampled) == 190 and sampled.groupby("question_id")["sample"].nunique().eq(2).sum() == 30
    assert len(recording.load(made.profile, "evaluation", tmp_path)) == 160
    assert "2 rollouts dropped: the same question and sample in an earlier file" in str(made)
    importing.import_rollouts(rollouts, tmp_path)
    with pytest.raises(ValueError, match="no sampled rollouts"):
        recording.load(made.profile, "sampled", tmp_path)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_an_import_that_fails_leaves_the_last_good_one(imported, tmp_path, capsys):
    mine, force = write(tmp_path / "a.jsonl", records()), ["--artifacts", str(tmp_path / "made"), "--force"]
    assert main(["import", str(mine), *force]) == 0
    (tmp_path / "made" / "imported" / "chapters").mkdir()
    (tmp_path / "made" / "imported" / "chapters" / "02.ipynb").write_text("{}")
    before = files(tmp_path / "made")
    first, *others = records(model="Other-8B")
    lone = [*others, first | {"question": "\ud83d"}]
    for rows, said in ((records(5), "give more questions"), (lone, "line 160")):
        assert main(["import", str(write(tmp_path / "b.jsonl", rows)), *force, "--malformed", "0"]) == 1
        assert said in capsys.readouterr().err and files(tmp_path / "made") == before
    assert main(["import", str(mine), *force[:-1]]) == 1
    assert "is of an earlier import; --force replaces it" in capsys.readouterr().err
    other = write(tmp_path / "c.jsonl", records(model="Other-8B"))
    assert main(["import", str(other), *force]) == 0
    after = files(tmp_path / "made")
    assert set(after) == set(before), "and chapters that have run stay"
    for name in ("profile.yaml", "import.txt"):
        assert b"Other-8B" in after[Path("imported", name)] and b"Small-7B" not in after[Path("imported", name)]


class Killed(BaseException):
    """What nothing catches, like the end of the process."""


def test_an_import_killed_at_any_step_leaves_the_last_one_or_the_new_one(rollouts, tmp_path, monkeypatch):
    asked, steps, outcomes = [], [], []
    write_profile = new_profile.write_profile
    monkeypatch.setattr(importing, "write_profile", lambda *given: asked.append(given) or write_profile(*given))
    for model in ("Other-8B", "Small-7B"):
        importing.import_rollouts(rollouts[:120].assign(model=model), tmp_path)
    (tmp_path / "imported" / "asked").write_text("no import takes this away")
    last = files(tmp_path)

    def counted(function):
        def call(*arguments, **options):
            steps.append(function)
            if len(steps) > len(outcomes):
                raise Killed
            return function(*arguments, **options)

        return call

    while len(steps) >= len(outcomes):  # until it comes to its end
        steps.clear()
        with monkeypatch.context() as patched, contextlib.suppress(Killed):
            for owner, name in ((Path, "rename"), (Path, "mkdir"), (shutil, "rmtree"), (recording, "store")):
                patched.setattr(owner, name, counted(getattr(owner, name)))
            write_profile(*asked[0])
        new_profile._settle(tmp_path / "imported")
        profile = profiles.load(tmp_path / "imported" / "profile.yaml")
        assert set(recording.load(profile, "evaluation", tmp_path).model) == {profile.model}
        assert len(read_forecasts(profile, tmp_path)) == 120
        outcomes.append(profile.model)
        write_profile(*asked[1])
        assert files(tmp_path) == last
    assert outcomes == sorted(outcomes, reverse=True) and len(set(outcomes)) == 2, (
        "first the last one, then the new one"
    )


def test_a_folder_that_cannot_be_written_is_noticed_before_the_logs_are_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logs, "read", lambda *given: pytest.fail("the logs were read"))
    path = write(tmp_path / "a.jsonl", records(5))
    assert main(["import", str(path), "--artifacts", str(path / "below")]) == 1
    assert capsys.readouterr().err == f"error: {path / 'below'} cannot be written: Not a directory\n"


def test_several_models_are_not_one(rollouts, tmp_path):
    mixed = rollouts.assign(model=["Small-7B", "Other-8B"] * 80)
    with pytest.raises(ValueError, match="several models.*Other-8B, Small-7B"):
        importing.import_rollouts(mixed, tmp_path)


# ---- tiers and streams ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "values", "rule", "first"),
    [
        ("tier", ["hard", "easy"], "as recorded", "hard"),
        ("dataset", ["gsm8k_test", "aime24"], "by question set (Table 6)", "easy"),
        ("level", ["Level 5", "Level 1"], "by level", "very hard"),
        ("level", ["5", "2"], "by level", "very hard"),
        ("level", [None, None], "quarters of the forecast length", "easy"),
    ],
)
def test_tiers(column, values, rule, first):
    table = pd.DataFrame({"tier": "", "dataset": "mine", "level": None}, index=range(8)).assign(**{column: values * 4})
    made, said = tiers.tiers_of(table, np.arange(1.0, 9.0))
    assert said == rule and made[0] == first
    assert set(made.value_counts()) == ({2} if "quarters" in rule else {4})


def test_given_tiers_go_first():
    table = pd.DataFrame({"tier": "easy", "dataset": ["a", "b"], "level": None})
    made, rule = tiers.tiers_of(table, [1.0, 2.0], {"a": "hard", "b": "hard"})
    assert made.tolist() == ["hard", "hard"] and rule == "as given"
    with pytest.raises(ValueError, match="no tier is given for: b"):
        tiers.tiers_of(table, [1.0, 2.0], {"a": "hard"})
    with pytest.raises(ValueError, match="unknown tier 'medium' of 'a'"):
        tiers.tiers_of(table, [1.0, 2.0], {"a": "medium", "b": "hard"})


def test_known_sets_have_the_tiers_of_table_6():
    for row in paper.TABLE_6.itertuples():
        name = row.name.lower().replace(" ", "")
        assert next(tier for part, tier in tiers.TIER_OF_SET.items() if part in name) == row.tier, row.name


@given(st.sets(st.sampled_from(streams.TIERS), min_size=1), st.lists(st.integers(0, 300), min_size=4, max_size=4))
def test_streams_fit_the_questions(present, counts):
    pool = {tier: count for tier, count in zip(streams.TIERS, counts, strict=True) if tier in present}
    shares = tiers.shares_among(profiles.load("tiny").stream_shares, list(present))
    for stream in shares.values():
        assert sum(stream) == pytest.approx(1)
        assert all(share == 0 or tier in present for tier, share in zip(streams.TIERS, stream, strict=True))
    n = tiers.largest_stream(shares, pool, 100)
    names = [tier for tier, count in pool.items() for _ in range(count)]
    for stream in shares.values():
        assert n == 0 or len(streams.draw(names, stream, n, 0)) == n


def test_too_few_questions_are_an_error(rollouts, tmp_path):
    few = rollouts[rollouts.dataset == "math500"].head(30)
    few = pd.concat([few, rollouts[rollouts.dataset == "aime24"].head(3)])
    with pytest.raises(
        ValueError, match="too few questions for a stream of 8 queries: {'moderate': 30, 'very hard': 3}"
    ):
        importing.import_rollouts(few, tmp_path)
    assert importing.import_rollouts(few, tmp_path, stream_size=5).profile.stream_size == 5
    with pytest.raises(ValueError, match="a stream of 300 queries needs more questions than there are; at most"):
        importing.import_rollouts(rollouts, tmp_path, stream_size=300)
    with pytest.raises(ValueError, match="a stream has at least 1 query, got 0"):
        importing.import_rollouts(rollouts, tmp_path, stream_size=0)


# ---- the command ----------------------------------------------------------------------------------------------


def test_the_command_reads_folders_and_reports(tmp_path, capsys):
    folder = tmp_path / "logs"
    folder.mkdir()
    write(folder / "a.jsonl", records(90))
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records(70, start=90)) + "{\n")
    given = ["import", str(folder), "--artifacts", str(tmp_path / "made"), "--malformed", "0.02"]
    assert main(given) == 0
    said = capsys.readouterr().out
    assert "line 71: not JSON" in said and "160 questions" in said and "clear_lib.study book --profile imported" in said
    report = (tmp_path / "made" / "imported" / "import.txt").read_text()
    assert "line 71: not JSON" in report and "streams of N =" in report
    assert main([*given[:-1], "0", "--force"]) == 1
    assert "1 of 71 lines are malformed, more than 0%" in capsys.readouterr().err


def test_the_command_is_loud_about_another_model(tmp_path, capsys):
    mine, other = write(tmp_path / "a.jsonl", records()), write(tmp_path / "b.jsonl", records(90, "Other-8B", 1, 500))
    assert (
        main(["import", str(mine), "--predictor", str(other), "--artifacts", str(tmp_path), "--stream-size", "20"]) == 0
    )
    caught = capsys.readouterr()
    assert "WARNING: THE PREDICTOR WAS TRAINED ON ANOTHER MODEL'S ROLLOUTS" in caught.err and "N = 20" in caught.out
    assert "ANOTHER MODEL'S ROLLOUTS" in (tmp_path / "imported" / "import.txt").read_text()


def test_the_page_names_options_and_layouts_that_exist(capsys):
    page = (Path(__file__).parents[1] / "book" / "your_rollouts.md").read_text()
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) | {"--log", "--save-details", "--profile"}
    assert set(re.findall(r"(?<=[`\s])--[a-z-]+", page)) <= known
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == ["lm-eval", "lighteval", "qwen-math", "jsonl"]
    assert set(logs.LAYOUTS) == {"lm-eval", "lighteval", "qwen-math", "jsonl"}


def test_the_command_names_mistakes(tmp_path, capsys):
    assert main(["import", str(tmp_path)]) == 1
    assert "no .jsonl file" in capsys.readouterr().err
    path = str(write(tmp_path / "a.jsonl", records(5)))
    assert main(["import", path, "--columns", "question"]) == 1
    assert "'question' must be name=value" in capsys.readouterr().err
