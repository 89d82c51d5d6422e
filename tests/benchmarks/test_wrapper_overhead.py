"""What the wrapper adds to the decoding itself: forecasts, prices, bookkeeping and reasons, as a share of it."""

import time

import pandas as pd
import pytest

from clear_lib import Budgeter
from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

QUESTIONS, CAP = 50, 300  # of each tier, and tokens


class Timed(TransformersEngine):
    """Adds up the seconds that are spent in it."""

    seconds = 0.0

    def generate(self, *arguments, **more):
        started = time.perf_counter()
        made = super().generate(*arguments, **more)
        self.seconds += time.perf_counter() - started
        return made


@pytest.fixture(scope="module")
def engine():
    return Timed(str(CHECKPOINT))


@pytest.mark.parametrize("policy", ["clear", "clear-lognormal", "clear-sequential"])
def test_the_wrapper_against_the_decoding_in_it(benchmark, engine, taught, policy):
    questions = list(pd.concat([tasks.questions("evaluation", tier, QUESTIONS) for tier in tasks.TIERS]).question)
    budgeter = Budgeter(engine, taught, policy, template=PROMPT, cap=CAP)
    budgeter.run(questions[:4], 100)
    engine.seconds = 0.0
    benchmark.pedantic(budgeter.run, (questions, 30 * len(questions)), rounds=1)
    share = benchmark.stats.stats.total / engine.seconds - 1
    benchmark.extra_info["as a share of the decoding"] = round(share, 4)
    assert share <= 0.1
