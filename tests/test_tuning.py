"""What `fit` chooses on its logs: the policy that answers most of them, and the constants of the others."""

import numpy as np
import pandas as pd
import pytest

from clear_lib import Forecasts
from clear_lib.predictor import load, unseen
from clear_lib.predictor.calibrated import fit_to_rollouts
from clear_lib.serving import tuning

CAP = 2000


def logs(spread, seed=0, n=120):
    """Logged questions whose forecasts are as good as a spread says, and solutions of which some are wrong."""
    rng = np.random.default_rng(seed)
    center, chance = rng.normal(5, 0.8, n), rng.uniform(0.2, 1, n)
    lengths = np.exp(center + spread * rng.standard_normal(n)).clip(1, CAP).astype(int)
    return Forecasts(np.exp(center), np.full(n, spread), chance), lengths, rng.random(n) < chance, CAP


@pytest.mark.parametrize("accounting", ["caps", "refunds"])
def test_the_policy_and_the_slack_are_the_best_of_all_that_were_tried(accounting):
    known = logs(0.3)
    advised = tuning.advice(*known)[accounting]
    tried = {name: tuning.right_answers(*known, name, accounting).sum() for name in ("uniform", "clear-lognormal")}
    middle = np.exp(np.log(known[0].threshold).mean())
    slacks = {x: tuning.right_answers(*known, "clear", accounting, epsilon=x * middle).sum() for x in tuning.SLACKS}
    assert sum(advised["right"]) >= max([*tried.values(), *slacks.values()])
    assert advised["settings"]["clear"]["epsilon"] == pytest.approx(middle * max(slacks, key=slacks.get))
    assert sum(advised["uniform"]) == tried["uniform"] < sum(advised["right"])


def test_where_forecasts_know_nothing_equal_shares_may_win():
    rng = np.random.default_rng(1)
    blind = Forecasts(rng.permutation(logs(0.3)[0].threshold), np.full(120, 1.0), np.full(120, 0.5))
    for accounting, advised in tuning.advice(blind, *logs(0.3)[1:]).items():
        again = tuning.right_answers(
            blind, *logs(0.3)[1:], advised["policy"], accounting, **advised["settings"].get(advised["policy"], {})
        )
        assert again.sum(axis=1).tolist() == advised["right"] and again.sum() >= sum(advised["uniform"])


def rollouts(n=60, copies=1):
    rng = np.random.default_rng(2)
    words = rng.integers(1, 30, n)
    rows = pd.DataFrame(
        {
            "question": [f"q{number} " + "and " * count for number, count in enumerate(words)],
            "length": (words * 10 * np.exp(0.1 * rng.standard_normal(n))).astype(int) + 1,
            "verdict": np.where(rng.random(n) < 0.7, "correct", "wrong"),
            "model": "m",
        }
    )
    return pd.concat([rows] * copies, ignore_index=True)


def test_no_forecast_is_by_a_fit_that_has_seen_its_question():
    rows = rollouts(copies=2)
    before = unseen(rows)
    changed = rows.assign(length=rows["length"].where(rows["question"] != rows["question"][0], 5000))
    after = unseen(changed)
    same = np.isclose(before.threshold, after.threshold)
    assert same[0] and same[60] and not same.all()
    assert np.isclose(before.threshold[:60], before.threshold[60:]).all()


def test_it_is_kept_with_the_forecaster_and_an_older_folder_has_none(tmp_path):
    fitted = fit_to_rollouts(rollouts())
    fitted.advice = tuning.advice(*logs(0.3))
    fitted.save(tmp_path)
    assert load(tmp_path).advice == fitted.advice
    text = (tmp_path / "predictor.json").read_text().replace('"advice"', '"other"')
    (tmp_path / "predictor.json").write_text(text)
    (tmp_path / "sha256.json").unlink()
    assert load(tmp_path).advice == {}


def test_it_is_said_in_words():
    advised = tuning.advice(*logs(0.3))
    said = tuning.in_words(advised)
    for accounting, one in advised.items():
        assert f"{accounting}: {one['policy']}" in said and f"Uniform {sum(one['uniform'])}" in said
