"""Speed beside named rivals that must give the same answer: each way in its turn, in seconds and as a ratio."""

import heapq
import time
import tracemalloc
from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from clear_lib import Budgeter, Forecasts, Problem, allocate, engines
from clear_lib.allocation.market import clear_market
from clear_lib.allocation.optimum import Solution, solve, solve_shared
from clear_lib.allocation.stages import stages
from clear_lib.allocation.utility import Surge, Utility
from clear_lib.predictor import Calibrated, build
from clear_lib.reasoner import CHECKPOINT, NAME, PROMPT, tasks
from clear_lib.serving import ReplayStepper, serve
from clear_lib.study.experiments.solvers import algorithm_1_one_w, algorithm_1_w_each

#: Columns of a comparison. ``ratio`` is the rival's seconds over ours: above 1 ours is the faster.
COLUMNS = ("what", "n", "seconds", "rival", "rival's seconds", "ratio")

#: Queries of a market and of a stream, prompts of each tier and their cap (tokens), and rounds.
SIZES = {"full": (1_000_000, 500, 40, 768, 3), "book": (100_000, 500, 6, 250, 2), "small": (500, 60, 2, 60, 1)}

SOLVERS = {"exact solver": solve_shared, "general solver": solve}

Rows = list[tuple]
Market = tuple[np.ndarray, int, Utility]  # thresholds, budget and utility


def compare(what: str, n: int, ours: Callable, rivals: Mapping[str, Callable], agree: Callable, rounds: int) -> Rows:
    """A row for each rival, best of some rounds in turns; ``ValueError`` unless ``agree(our result, its result)``."""
    seconds, results = np.empty((rounds, 1 + len(rivals))), [None] * (1 + len(rivals))
    for once in seconds:
        for position, run in enumerate([ours, *rivals.values()]):
            started = time.perf_counter()
            results[position] = run()
            once[position] = time.perf_counter() - started
    best, rows = seconds.min(axis=0), []
    for name, theirs, result in zip(rivals, best[1:], results[1:], strict=True):
        if not agree(results[0], result):
            raise ValueError(f"{what} and its rival {name} disagree at n = {n:,}")
        rows.append((what, n, best[0], name, theirs, theirs / best[0]))
    return rows


def draw(n: int) -> tuple[Market, Market]:
    """A market with thresholds as in the book's chapters, twice: with one utility for all, and with one for each."""
    rng = np.random.default_rng(0)
    own = Surge(rng.lognormal(0, 0.3, n), 1 / rng.lognormal(np.log(64), 0.3, n))
    thresholds = rng.lognormal(np.log(665), 0.8, n)
    return (thresholds, 256 * n, Surge(1.0, 1 / 64)), (thresholds, 256 * n, own)


def _agree(market: Market, ours: Any, theirs: Any) -> bool:
    """Whether the queries served are the first of a rival's order, or our utility is at least that of its tokens."""
    if isinstance(theirs, np.ndarray):
        served = ours.tokens > 0
        return bool(served[theirs[: np.count_nonzero(served)]].all())
    thresholds, _, utility = market
    return utility.value(theirs.tokens - thresholds).sum() <= ours.value * (1 + 1e-9)


def _proven(*solutions: Solution) -> bool:
    """Whether each duality gap is below twice the mean utility of a query that is served."""
    return all(each.gap * np.count_nonzero(each.tokens) <= 2 * each.value for each in solutions)


def solvers(n: int, rounds: int) -> Rows:
    """Both solvers against sorting and Algorithm 1, and the public calls against sorting."""
    shared, own = draw(n)
    sort = {"np.argsort": partial(np.argsort, shared[0])}
    one_w = {"Algorithm 1, one W a price": partial(algorithm_1_one_w, *shared)}
    letter, of_each = ({"Algorithm 1 to the letter": partial(algorithm_1_w_each, *each)} for each in (shared, own))
    library = {"Algorithm 1, the library's": partial(clear_market, *own)}
    agree = partial(_agree, shared)
    rows = compare("exact solver", n, partial(solve_shared, *shared), sort | one_w | letter, agree, rounds)
    for policy in ("clear-exact", "clear"):
        rows += compare(f'allocate(…, "{policy}")', n, partial(allocate, *shared[:2], policy), sort, agree, rounds)
    return rows + compare("general solver", n, partial(solve, *own), of_each | library, partial(_agree, own), rounds)


def scaling(n: int, rounds: int) -> Rows:
    """Both solvers on ``n`` queries against a tenth of them."""
    rows = []
    for (what, solver), market, smaller in zip(SOLVERS.items(), draw(n), draw(n // 10), strict=True):
        tenth = {"itself on a tenth of the queries": partial(solver, *smaller)}
        rows += compare(what, n, partial(solver, *market), tenth, _proven, rounds)
    return rows


def memory(n: int) -> pd.DataFrame:
    """Bytes a query that each holds at its peak, beside its input: columns ``what, n, bytes a query``."""
    rows = []
    for (what, run), market in zip(SOLVERS.items(), draw(n), strict=True):
        tracemalloc.start()
        run(*market)
        rows.append((what, n, tracemalloc.get_traced_memory()[1] / n))
        tracemalloc.stop()
    return pd.DataFrame(rows, columns=["what", "n", "bytes a query"])


def _stage_by_stage(problem: Problem, stepper: ReplayStepper) -> np.ndarray:
    """Tokens used if a heap of queries by price serves one stage at a time."""
    left, (ends, prices) = problem.budget, stages(problem.forecasts, problem.cap)
    heap = [(-price, query, 0) for query, price in enumerate(prices[:, 0])]
    heapq.heapify(heap)
    while heap and left:
        _, query, stage = heapq.heappop(heap)
        tokens, finished = min(ends[query, stage] - stepper.used[query], left), False
        if tokens:
            (used,), (finished,) = stepper.step(np.array([query]), np.array([tokens]))
            left -= used
        if not finished and stage + 1 < ends.shape[1]:
            heapq.heappush(heap, (-prices[query, stage + 1], query, stage + 1))
    return stepper.used


def sequential(n: int, rounds: int) -> Rows:
    """``clear-sequential`` on a recording: by rounds, as it is served, against stage by stage."""
    rng, cap = np.random.default_rng(0), 2000
    log_median, spread = rng.normal(4, 1, n), rng.uniform(0.1, 1, n)
    lengths = np.exp(log_median + spread * rng.standard_normal(n)).clip(1, cap).astype(int)
    problem = Problem(Forecasts(np.exp(log_median), spread, rng.random(n)), int(lengths.sum() // 2), cap)
    ours = lambda: serve(problem, ReplayStepper(lengths), "clear-sequential", accounting="refunds").used
    rival = {"stage by stage": lambda: _stage_by_stage(problem, ReplayStepper(lengths))}
    return compare("clear-sequential, by rounds", n, ours, rival, np.array_equal, rounds)


def wrapper(engine: engines.Engine, prompts: list[str], cap: int, rounds: int) -> Rows:
    """``Budgeter.run`` on completions that are there already, against the same with decoding: the same answers."""
    whole = dict(zip(prompts, engine.generate(prompts, [cap] * len(prompts)), strict=True))
    ended = [each.finish_reason == "stop" for each in whole.values()]
    forecaster = Calibrated(build("ridge")).fit(prompts, [each.length for each in whole.values()], ended)
    ready, rows = copy(engine), []

    def look_up(asked: list[str], caps: list[int], begun: Any = None, **_: Any) -> Any:
        done = map(len, begun or [()] * len(asked))
        parts = [whole[each].tokens[start:][:cap] for each, start, cap in zip(asked, done, caps, strict=True)]
        return enumerate(engine._completion(tokens, not engine.ends.isdisjoint(tokens)) for tokens in parts)

    ready.stream = look_up
    for policy in ("clear", "clear-lognormal", "clear-sequential"):
        runs = (Budgeter(each, forecaster, policy, cap=cap).run for each in (ready, engine))
        ours, live = (partial(run, prompts, 30 * len(prompts)) for run in runs)
        rival, same = {"the same with decoding": live}, lambda one, other: one.answers == other.answers
        rows += compare(f"Budgeter, {policy}", len(prompts), ours, rival, same, rounds)
    return rows


def decoder(engine: engines.Engine, prompts: list[str], cap: int, rounds: int) -> Rows:
    """The engine's batches against ``generate`` of transformers on prompts sorted by length; the same tokens."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype="float32").eval()
    prompts = sorted(prompts, key=len)

    def generate(size: int) -> list[list[int]]:
        rows = []
        for start in range(0, len(prompts), size):
            batch = prompts[start : start + size]
            inputs = engine.tokenizer(batch, return_tensors="pt", padding=True, padding_side="left")
            written = model.generate(**inputs, max_new_tokens=cap, do_sample=False)
            rows += written[:, inputs.input_ids.shape[1] :].tolist()
        return rows

    def same(ours: list[engines.Completion], theirs: list[list[int]]) -> bool:
        pairs = zip((each.tokens for each in ours), theirs, strict=True)
        return all(tuple(row[: len(own)]) == own and engine.ends.issuperset(row[len(own) :]) for own, row in pairs)

    rivals = {f"transformers' generate, {size} at a time": partial(generate, size) for size in (8, 16, 32)}
    ours = partial(engine.generate, prompts, [cap] * len(prompts))
    return compare("batched decoder", len(prompts), ours, rivals, same, rounds)


def discovery(engine: engines.Engine, prompt: str, n: int, rounds: int) -> Rows:
    """The price of a stream (negligible, says section 5.2) against ten tokens of one prompt."""
    market, ten = draw(n)[0], {"ten tokens of the laboratory model": partial(engine.generate, [prompt], [10])}
    written = lambda _, completions: completions[0].length == 10
    rows = compare("Algorithm 1", n, partial(clear_market, *market), ten, written, rounds)
    return rows + compare("exact solver", n, partial(solve_shared, *market), ten, written, rounds)


def measure(size: str = "full", large: bool = False) -> pd.DataFrame:
    """All comparisons, a row each; with ``large`` the scaling is measured to ten times the queries."""
    queries, stream, per_tier, cap, rounds = SIZES[size]
    engine = engines.start("transformers", NAME, batch_size=128)
    questions = pd.concat([tasks.questions("evaluation", tier, per_tier) for tier in tasks.TIERS])
    prompts = [PROMPT.format(question=question) for question in questions.question.sample(frac=1, random_state=0)]
    rows = solvers(queries, rounds) + scaling(10 * queries if large else queries, rounds)
    rows += sequential(stream, rounds) + wrapper(engine, prompts, cap, rounds) + decoder(engine, prompts, cap, rounds)
    return pd.DataFrame(rows + discovery(engine, prompts[0], stream, 4 * rounds), columns=COLUMNS)
