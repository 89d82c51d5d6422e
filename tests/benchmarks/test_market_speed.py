"""Allocation in time: every ratio is against a named alternative, interleaved in one run, best of several."""

import time
import tracemalloc
from functools import partial

import numpy as np
import pytest

from clear_lib.allocation.market import clear_market
from clear_lib.allocation.optimum import solve, solve_shared
from clear_lib.allocation.utility import Surge
from clear_lib.study.experiments.solvers import algorithm_1_one_w, algorithm_1_w_each, by_slsqp

N = 1_000_000
PER_QUERY = (128, 256, 1024)  # tokens
SHARED = Surge(1.0, 1 / 64)
RATIO_PER_DECADE = 10 * 7 / 6  # N log N from a million to ten


def draw(n, seed=0):
    """Thresholds, log-normal as in the book's market chapters."""
    return np.random.default_rng(seed).lognormal(np.log(665), 0.8, n)


def own_parameters(n, seed=1):
    rng = np.random.default_rng(seed)
    return Surge(rng.lognormal(0, 0.3, n), 1 / rng.lognormal(np.log(64), 0.3, n))


def interleaved(rounds, *functions):
    """Seconds of each function, the best of some rounds in which each has a turn, and their last results."""
    best, results = [np.inf] * len(functions), [None] * len(functions)
    for _ in range(rounds):
        for position, function in enumerate(functions):
            started = time.perf_counter()
            results[position] = function()
            best[position] = min(best[position], time.perf_counter() - started)
    return best, results


def total(tokens, thresholds, utility):
    return float(utility.value(tokens - thresholds).sum())


@pytest.mark.parametrize("per_query", PER_QUERY)
def test_exact_solver_against_sorting_and_algorithm_1(benchmark, per_query):
    thresholds, budget = draw(N), per_query * N
    ours = partial(solve_shared, thresholds, budget, SHARED)
    (exact, sort, one_w), results = interleaved(
        7, ours, partial(np.argsort, thresholds), partial(algorithm_1_one_w, thresholds, budget, SHARED)
    )
    benchmark.pedantic(ours, rounds=5)
    benchmark.extra_info |= {
        "of np.argsort": round(exact / sort, 2),
        "of Algorithm 1 with one W a price": round(exact / one_w, 2),
    }
    assert total(results[2].tokens, thresholds, SHARED) <= results[0].value * (1 + 1e-9)
    assert exact <= 2 * sort
    assert exact <= one_w


def test_exact_solver_against_algorithm_1_to_the_letter(benchmark):
    thresholds, budget = draw(N), 256 * N
    ours = partial(solve_shared, thresholds, budget, SHARED)
    (each,), _ = interleaved(1, partial(algorithm_1_w_each, thresholds, budget, SHARED))
    benchmark.pedantic(ours, rounds=5)
    exact = benchmark.stats.stats.min
    benchmark.extra_info["times as fast as Algorithm 1 with W for each"] = round(each / exact)
    assert each >= 30 * exact


def test_general_solver_against_algorithm_1(benchmark):
    thresholds, utility, budget = draw(N), own_parameters(N), 256 * N
    ours = partial(solve, thresholds, budget, utility)
    (general, each, library), results = interleaved(
        2,
        ours,
        partial(algorithm_1_w_each, thresholds, budget, utility),
        partial(clear_market, thresholds, budget, utility),
    )
    benchmark.pedantic(ours, rounds=2)
    benchmark.extra_info |= {
        "times as fast as Algorithm 1 with SciPy's W": round(each / general, 1),
        "times as fast as the library's Algorithm 1": round(library / general, 1),
        "relative gap": results[0].gap / results[0].bound,
    }
    assert results[0].value >= total(results[1].tokens, thresholds, utility)
    assert each >= 5 * general


def test_exact_solver_up_to_ten_million(benchmark):
    small, large = draw(N), draw(10 * N)
    (million, ten), _ = interleaved(
        5, partial(solve_shared, small, 256 * N, SHARED), partial(solve_shared, large, 2560 * N, SHARED)
    )
    tracemalloc.start()
    solution = benchmark.pedantic(solve_shared, (large, 2560 * N, SHARED), rounds=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.extra_info |= {
        "times the time of a million": round(ten / million, 1),
        "bytes a query": round(peak / large.size),
    }
    assert solution.gap <= 1e-9 * solution.bound
    assert ten <= 2 * RATIO_PER_DECADE * million
    assert peak < 200 * large.size


def test_general_solver_up_to_ten_million(benchmark):
    cases = [(draw(n), 256 * n, own_parameters(n)) for n in (N, 10 * N)]
    (million, ten), _ = interleaved(2, *(partial(solve, *case) for case in cases))
    tracemalloc.start()
    benchmark.pedantic(solve, cases[0], rounds=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    benchmark.extra_info |= {"times the time of a million": round(ten / million, 1), "bytes a query": round(peak / N)}
    assert ten <= 2.5 * RATIO_PER_DECADE * million  # ten million do not fit a cache, and a million nearly do
    assert peak < 200 * N


def test_price_discovery_costs_less_than_ten_tokens(benchmark):
    """Section 5.2 calls the latency negligible: a stream of 500 against ten tokens of one prompt."""
    from clear_lib.engines.transformers import TransformersEngine
    from clear_lib.reasoner import CHECKPOINT, PROMPT, tasks

    prompt = PROMPT.format(question=tasks.questions("evaluation", tasks.TIERS[-1], 1).question.iloc[0])
    engine = TransformersEngine(str(CHECKPOINT))
    thresholds, budget = draw(500), 256 * 500
    search = partial(clear_market, thresholds, budget, SHARED)
    (searched, exact, decoded), results = interleaved(
        20, search, partial(solve_shared, thresholds, budget, SHARED), partial(engine.generate, [prompt], [10])
    )
    benchmark(search)
    benchmark.extra_info |= {
        "tokens decoded in the time of Algorithm 1": round(10 * searched / decoded, 2),
        "tokens decoded in the time of the exact solver": round(10 * exact / decoded, 2),
    }
    assert results[2][0].length == 10
    assert searched < decoded and exact < decoded


def test_against_slsqp(benchmark):
    thresholds, budget = draw(200), 256 * 200
    ours = partial(solve_shared, thresholds, budget, SHARED)
    (exact, slsqp), (solution, tokens) = interleaved(3, ours, partial(by_slsqp, thresholds, budget, SHARED, starts=10))
    benchmark(ours)
    share = total(tokens, thresholds, SHARED) / solution.value
    benchmark.extra_info |= {
        "times as fast as SLSQP": round(slsqp / exact),
        "SLSQP's share of the optimum": round(share, 3),
    }
    assert share <= 1 + 1e-9
    assert slsqp >= 10 * exact
