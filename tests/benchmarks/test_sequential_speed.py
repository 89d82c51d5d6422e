"""Serving by rounds against serving stage by stage, and many queries against few, on replay."""

import heapq
import time

import numpy as np
import pytest

from clear_lib import Forecasts
from clear_lib.allocation.problem import Problem
from clear_lib.allocation.stages import stages
from clear_lib.serving import ReplayStepper, serve

CAP = 2000


def batch(n):
    rng = np.random.default_rng(0)
    log_median, spread = rng.normal(4, 1, n), rng.uniform(0.1, 1, n)
    lengths = np.exp(log_median + spread * rng.standard_normal(n)).clip(1, CAP).astype(int)
    return Forecasts(np.exp(log_median), spread=spread, solvable=rng.random(n)), lengths


def by_rounds(forecasts, lengths):
    """As the library does it."""
    budget = int(lengths.sum() // 2)
    return serve(Problem(forecasts, budget, CAP), ReplayStepper(lengths), "clear-sequential", accounting="refunds").used


def stage_by_stage(forecasts, lengths):
    """One step a stage: a heap of queries by price, each served to the end of its stage."""
    stepper, left = ReplayStepper(lengths), int(lengths.sum() // 2)
    ends, prices = stages(forecasts, CAP)
    heap = [(-prices[i, 0], i, 0) for i in range(forecasts.n)]
    heapq.heapify(heap)
    while heap and left:
        _, i, j = heapq.heappop(heap)
        tokens = min(ends[i, j] - stepper.used[i], left)
        finished = False
        if tokens:
            (used,), (finished,) = stepper.step(np.array([i]), np.array([tokens]))
            left -= used
        if not finished and j + 1 < ends.shape[1]:
            heapq.heappush(heap, (-prices[i, j + 1], i, j + 1))
    return stepper.used


def quickest(function, *arguments, runs=3):
    """Seconds of the quickest run, and its result."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        result = function(*arguments)
        times.append(time.perf_counter() - started)
    return min(times), result


def test_a_stream_by_rounds_against_stage_by_stage(benchmark):
    forecasts, lengths = batch(500)
    used = benchmark.pedantic(by_rounds, (forecasts, lengths), rounds=20, warmup_rounds=1)
    slow, expected = quickest(stage_by_stage, forecasts, lengths)
    ratio = slow / benchmark.stats.stats.min
    benchmark.extra_info["times stage by stage"] = round(ratio, 1)
    assert (used == expected).all()
    assert ratio >= 2
    assert benchmark.stats.stats.min < 1


@pytest.mark.parametrize("n", [100_000])
def test_many_queries_against_a_stream(benchmark, n):
    few, _ = quickest(by_rounds, *batch(500), runs=10)
    benchmark.pedantic(by_rounds, batch(n), rounds=3)
    ratio = (benchmark.stats.stats.min / n) / (few / 500)
    benchmark.extra_info["time a query, as a multiple of that in a stream of 500"] = round(ratio, 2)
    assert ratio <= 4
    assert benchmark.stats.stats.min < 60
