"""What the wrapper adds to the decoding itself: forecasts, prices, bookkeeping and reasons, as a share of it."""

import time

import numpy as np
import pandas as pd
import pytest

from clear_lib import Budgeter, importing, streams
from clear_lib.engines.transformers import TransformersEngine
from clear_lib.profiles import Forecaster
from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

LESSONS, QUESTIONS, CAP = 30, 50, 300  # of each tier, and tokens


class Timed(TransformersEngine):
    """Adds up the seconds that are spent in it."""

    seconds = 0.0

    def generate(self, *arguments, **more):
        started = time.perf_counter()
        made = super().generate(*arguments, **more)
        self.seconds += time.perf_counter() - started
        return made


def drawn(split, n):
    return pd.concat([tasks.questions(split, tier, n) for tier in tasks.TIERS], ignore_index=True)


@pytest.fixture(scope="module")
def engine():
    return Timed(str(CHECKPOINT))


@pytest.fixture(scope="module")
def folder(engine, tmp_path_factory):
    lessons = drawn("predictor", LESSONS)
    written = Budgeter(engine, None, "uniform", template=PROMPT, cap=CAP).run(list(lessons.question), CAP * len(lessons))
    right = [f"\\boxed{{{gold}}}" in answer.text for gold, answer in zip(lessons.gold, written, strict=True)]
    lessons = lessons.assign(length=written.used, verdict=np.where(right, "correct", "wrong"), model="embedded")
    path = tmp_path_factory.mktemp("forecaster")
    importing.teach(lessons, Forecaster("ridge", "ridge", streams.TIERS, "all", {}), path)
    return path


@pytest.mark.parametrize("policy", ["clear", "clear-lognormal", "clear-sequential"])
def test_the_wrapper_against_the_decoding_in_it(benchmark, engine, folder, policy):
    questions = list(drawn("evaluation", QUESTIONS).question)
    budgeter = Budgeter(engine, folder, policy, template=PROMPT, cap=CAP)
    budgeter.run(questions[:4], 100)
    engine.seconds = 0.0
    benchmark.pedantic(budgeter.run, (questions, 30 * len(questions)), rounds=1)
    share = benchmark.stats.stats.total / engine.seconds - 1
    benchmark.extra_info["as a share of the decoding"] = round(share, 4)
    assert share <= 0.1
