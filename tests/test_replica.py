"""The replica: its closed forms against the library's own policies, its fits on rows with a known answer."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from clear_lib.allocation.policies import OF_THE_PAPER
from clear_lib.rollouts import store as rollouts
from clear_lib.study import experiments
from clear_lib.study.cli import main
from clear_lib.study.evidence import comparison, replica, simulation
from clear_lib.study.setup import paper, profiles

SOURCE = paper.STUDIES["7b"]
RATES = replica.pass_rates(paper.TABLE_6, 2)


@pytest.fixture(scope="module")
def lengths():
    return replica.fit_lengths(paper.TABLE_1["uniform"], RATES)


@pytest.fixture(scope="module")
def forecaster(lengths):
    return replica.fit_forecasts(paper.TABLE_1["predictor"], lengths, replica.training_mean(paper.TABLE_6))


@pytest.fixture(scope="module")
def made(lengths, forecaster):
    return simulation.simulate("replica-7b", lengths, forecaster, seeds=4, per_tier=1000)


def test_pass_rates_by_tier():
    assert RATES[0] == pytest.approx(354 / 500)
    assert RATES[1] == pytest.approx((88 + 19 + 8 + 2 + 35) / (675 + 40 + 30 + 30 + 272))
    assert len(replica.pass_rates(paper.TABLE_7, 3)) == 3


def test_it_meets_the_uniform_and_the_predictor_row(lengths, forecaster):
    uniform, predictor = paper.TABLE_1["uniform"], paper.TABLE_1["predictor"]
    uniform = replica.row_errors(replica.uniform_row(lengths, paper.BUDGETS), uniform)
    predictor = replica.row_errors(replica.predictor_row(lengths, forecaster, paper.BUDGETS), predictor)
    assert uniform.abs().to_numpy().mean() <= 0.4
    assert predictor.abs().to_numpy().mean() <= 1.6


def test_closed_forms_are_what_the_policies_do(lengths, forecaster):
    profile, pool = simulation.simulate("replica-7b", lengths, forecaster, seeds=12)
    cells = comparison.compare(experiments.run(profile, pool, policies=["uniform", "predictor"]), SOURCE, at_scale=True)
    wide = cells.pivot(index=["policy", "stream"], columns="tokens", values="ours")
    for name, row in (
        ("uniform", replica.uniform_row(lengths, paper.BUDGETS)),
        ("predictor", replica.predictor_row(lengths, forecaster, paper.BUDGETS)),
    ):
        assert wide.loc[name].loc[list(lengths.shares)].to_numpy() == pytest.approx(row, abs=2.0)


def test_the_row_does_not_tell_the_level_of_the_forecasts(lengths, forecaster):
    higher = replace(forecaster, center=forecaster.center + 1)
    rows = [replica.predictor_row(lengths, each, paper.BUDGETS) for each in (forecaster, higher)]
    assert rows[0] == pytest.approx(rows[1])


def test_a_known_answer_is_found_again(lengths, forecaster):
    budgets = (128, 256, 512, 1024, 2048, 4096)
    uniform = pd.DataFrame(replica.uniform_row(lengths, budgets), list(lengths.shares), budgets)
    again = replica.fit_lengths(uniform.stack(), lengths.rates)
    assert again.medians == pytest.approx(lengths.medians, rel=1e-3)
    assert again.mix == pytest.approx(lengths.mix, abs=1e-3)
    predictor = pd.DataFrame(replica.predictor_row(lengths, forecaster, budgets), list(lengths.shares), budgets)
    found = replica.fit_forecasts(predictor.stack(), lengths, 658)
    assert (found.slope, found.noise) == pytest.approx((forecaster.slope, forecaster.noise), rel=1e-2)


def test_rollouts_have_the_schema_and_the_rates(lengths):
    recorded = simulation.make_rollouts(lengths, "a model", cap=8192, per_tier=500)
    assert list(recorded) == rollouts.SCHEMA.names
    assert not recorded["question_id"].duplicated().any()
    short = recorded[recorded["tier"] == "moderate"]
    assert (short["verdict"] == "correct").mean() == pytest.approx(lengths.rates[0], abs=0.003)
    assert short["length"].median() == pytest.approx(lengths.medians[0], rel=0.01)
    assert (recorded.loc[recorded["finish_reason"] == "length", "verdict"] == "wrong").all()
    again = simulation.make_rollouts(lengths, "a model", cap=8192, per_tier=500)
    assert again.equals(recorded)


def test_the_profile_has_the_papers_budgets_and_floor(made):
    profile, pool = made
    reference = experiments.reference_length(profile, pool)
    assert [experiments.budget_per_query(s, reference) for s in profile.scarcities] == list(paper.BUDGETS)
    assert experiments.settings_of(profile, reference, "clear")["epsilon"] == pytest.approx(32)
    assert all(sum(shares) == pytest.approx(1) for shares in profile.stream_shares.values())


def test_chances_are_calibrated(made):
    """A forecast that says 0.3 is right in 0.3 of its cases, when tiers come in their prior shares."""
    _, pool = made
    weight = pool["tier"].map({"moderate": 500 / 1547, "hard": 1047 / 1547})
    for part in np.array_split(pool.sort_values("solvable").index, 4):
        rows, w = pool.loc[part], weight.loc[part]
        assert np.average(rows["correct"], weights=w) == pytest.approx(
            np.average(rows["solvable"], weights=w), abs=0.05
        )


def test_the_numbered_steps_are_nearer_to_the_reported_oracle_than_the_prose(made):
    profile, pool = made
    results = experiments.run(profile, pool, policies=["oracle", "oracle-paper", "clear-exact"])
    rows = simulation.summary(comparison.compare(results, SOURCE, at_scale=True)).set_index("policy")
    assert list(rows.index) == ["oracle", "oracle-paper"], "only what the paper has"
    assert rows["mean"]["oracle-paper"] < rows["mean"]["oracle"] / 2
    assert (rows["mean"] <= rows["worst"]).all() and (rows["bias"].abs() <= rows["mean"] + 1e-9).all()


def test_bootstrap_and_leaving_streams_out(lengths, forecaster):
    drawn = replica.bootstrap("replica-7b", lengths, forecaster, times=3)
    assert list(drawn) == list(replica.parameters(lengths, forecaster))
    out = replica.leave_one_stream_out(paper.TABLE_1["uniform"], RATES)
    assert len(out) == 12 and out["error"].abs().mean() < 1.5


def test_the_budget_of_a_row(lengths):
    row = pd.Series(replica.uniform_row(lengths, [300])[:, 0], list(lengths.shares))
    assert replica.budget_that_fits(lengths, row) == pytest.approx(300, rel=0.01)


def test_variants_report_what_was_fitted_and_what_was_not():
    found = simulation.held_out(tiers=2, shrink=False, seeds=1)
    assert found["parameters"] == 10 and found["uniform"] <= 0.4 and found["predictor"] > 5
    assert {"oracle", "oracle-paper", "clear-heuristic", "clear-auction", "clear"} <= set(found)


def test_the_large_replica_has_the_streams_of_the_small_one(lengths):
    large, foresight = replica.fit("replica-30b")
    assert large.mix == pytest.approx(lengths.mix)
    drawn = replica.bootstrap("replica-30b", large, foresight, times=2)
    assert drawn["Balanced, moderate"].nunique() == 1 and drawn["median, moderate"].nunique() == 2


@pytest.mark.parametrize("name", replica.SOURCES)
def test_a_replica_is_a_profile_of_its_own(name, tmp_path):
    profile = profiles.load(simulation.write_profile(name, tmp_path, seeds=1, per_tier=500))
    assert profile.name == name and "simulated" in profile.model and profile.artifacts(tmp_path).is_dir()
    pool = experiments.read_pool(profile, tmp_path)
    assert len(pool) == 1000
    results = experiments.run(profile, pool, policies=[*OF_THE_PAPER, "clear-sequential"])
    assert sorted(results["budget_per_query"].unique()) == paper.study_of(profile.model).budgets
    first = results["accuracy"].tolist()
    again = profiles.load(simulation.write_profile(name, tmp_path, seeds=1, per_tier=500))
    results = experiments.run(
        again, experiments.read_pool(again, tmp_path), policies=[*OF_THE_PAPER, "clear-sequential"]
    )
    assert results["accuracy"].tolist() == first


def test_the_command_says_what_to_do_next(tmp_path, capsys):
    assert main(["replicate", "replica-30b", "--artifacts", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "(simulated)" in said and "study book --profile replica-30b" in said


def test_readings_move_one_group_of_parameters(lengths, forecaster):
    drawn = pd.DataFrame([replica.parameters(lengths, forecaster)] * 2)
    moved = simulation.readings("replica-7b", lengths, forecaster, drawn, seeds=1)
    assert len(moved) == 2 * 4 * 2 and {r.policy for r in moved} == {"uniform", "predictor", "clear"}
    profile, pool = simulation.simulate("replica-7b", lengths, forecaster, seeds=1)
    base = experiments.run(profile, pool, policies=["clear"], only=["balanced"])
    for reading in moved:
        again = experiments.run(**reading.change | {"policies": ["clear"], "only": ["balanced"]})
        assert again["accuracy"].tolist() == base["accuracy"].tolist(), "the ends are the fit itself here"


def test_errors_of_clear_by_level_and_slack(made):
    profile, pool = made
    errors = simulation.clear_errors("replica-7b", replace(profile, stream_seeds=1), pool, (1.0, 1.5), (32, 128))
    assert errors.shape == (2, 2) and (errors > 0).all(axis=None)
    runs = experiments.run(replace(profile, stream_seeds=1), pool, policies=["clear"], epsilon=128)
    cells = comparison.compare(runs, SOURCE, at_scale=True)
    assert errors.loc[1.0, 128] == pytest.approx(cells["difference"].abs().mean())


def test_an_unknown_replica_is_named(tmp_path):
    with pytest.raises(ValueError, match="no replica 'replica-1b'; known: replica-7b, replica-30b"):
        simulation.write_profile("replica-1b", tmp_path)


def test_a_form_is_judged_with_the_constant_of_the_other_streams():
    rows = [
        (form, constant, stream, error, below)
        for form, errors in {"one": {1: (0, 4, 4), 2: (3, 1, 1)}, "two": {5: (2, 2, 2)}}.items()
        for constant, parts in errors.items()
        for stream, error, below in zip("abc", parts, (1, 0, 0), strict=True)
    ]
    scored = pd.DataFrame(rows, columns=["form", "constant", "stream", "error", "below"])
    table = simulation.held_out_forms(scored)
    assert table["held out"].tolist() == pytest.approx([(3 + 4 + 4) / 3, 2])  # stream a would take 1, the others say 2
    assert table["in hindsight"].tolist() == pytest.approx([5 / 3, 2])
    assert table["constants"].tolist() == ["1, 2", "5"] and table["below"].tolist() == [1, 1]


def test_forms_of_the_decay_rate_are_scored_cell_by_cell_on_the_printed_row(made):
    profile, pool = made
    scored = simulation.forms_of_decay("replica-7b", replace(profile, stream_seeds=1), pool)
    assert scored.groupby("form", sort=False)["constant"].nunique().to_dict() == {
        form: len(constants) for form, (_, constants) in simulation.FORMS.items()
    }
    one = scored.query("form == 'c B̄' and constant == 0.5").set_index("stream")["error"]
    runs = [
        experiments.run(
            replace(profile, stream_seeds=1), pool, policies=["clear"], scarcities=[scarcity], decay=2 / budget
        )
        for scarcity, budget in zip(profile.scarcities, paper.BUDGETS, strict=True)
    ]
    cells = comparison.compare(pd.concat(runs), paper.STUDIES["7b"], at_scale=True)
    by_hand = cells["difference"].abs().groupby(cells["stream"]).mean()
    assert one.to_dict() == pytest.approx(by_hand.to_dict())
