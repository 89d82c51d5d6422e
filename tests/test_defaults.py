"""The tables that judge the wrapper's default: what they count, and that nothing of the evaluation is learned from."""

import numpy as np
import pytest
from test_tuning import logs

from clear_lib.serving import tuning
from clear_lib.study.experiments import defaults
from clear_lib.study.recordings import packing


def test_the_table_of_policies_counts_as_serving_does_and_marks_the_default():
    known = logs(0.3)
    advised = tuning.advice(*known)
    forecasts, lengths, correct, cap = known
    each = tuning.BUDGETS[5] * lengths.sum() / lengths.size
    rows = defaults.by_policy(forecasts, advised, lengths, correct, cap, (each,))
    for accounting, one in advised.items():
        some = rows[rows.accounting == accounting]
        assert some.set_index("policy").right["Uniform"] == one["uniform"][5]
        (chosen,) = some[some.default].itertuples()
        assert chosen.right == one["right"][5]
    assert not (rows[rows.accounting == "caps"].policy == "CLEAR (sequential)").any()


@pytest.fixture(scope="module")
def judged():
    return defaults.held_out("qwen-0.5b")


def test_on_a_real_model_the_default_is_nowhere_below_equal_shares_beyond_noise(judged):
    assert len(judged) == 24 and (judged.n > 100).all()
    assert (judged.high >= 0).all() and (judged.low > 0).any()
    assert ((judged.low <= judged.default - judged.uniform) & (judged.default - judged.uniform <= judged.high)).all()


def test_verdicts_of_the_evaluation_do_not_change_what_is_chosen(judged, monkeypatch):
    read = packing.read_unpacked

    def turned(profile):
        made, tables = read(profile)
        rows = tables["evaluation"]
        return made, tables | {
            "evaluation": rows.assign(verdict=np.where(rows.verdict == "correct", "wrong", "correct"))
        }

    monkeypatch.setattr(packing, "read_unpacked", turned)
    again = defaults.held_out("qwen-0.5b")
    assert (again.policy == judged.policy).all() and (again.default > judged.default).any()
