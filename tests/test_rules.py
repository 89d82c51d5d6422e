"""The lines that chapter 19 asks readers to retype grant what the library grants."""

import ast
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clear_lib import Forecasts, Problem, Truth, allocate
from clear_lib.allocation.policies import POLICIES
from clear_lib.allocation.policies.rule import whole_tokens
from clear_lib.allocation.stages import index, promise
from clear_lib.serving import ReplayStepper, serve

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = nbformat.read(ROOT / "notebooks" / "19_the_rules.ipynb", as_version=4)
RULES = [
    "uniform",
    "predictor",
    "tale_ep",
    "heuristic",
    "auction",
    "clear",
    "oracle",
    "exact",
    "lognormal",
    "sequential",
]


def visible():
    """The code cells that a reader sees, up to the table of all rules."""
    for cell in CHAPTER.cells:
        if cell.id == "rules":
            return
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", []):
            yield cell


def retyped(*more):
    """The names of the chapter after its visible cells, and some more code, have run."""
    names = {}
    for source in [*(cell.source for cell in visible()), *more]:
        exec(source, names)
    return SimpleNamespace(**names)


PAGE = retyped()

#: Eighths of a token: their sums are exact.
eighths = st.integers(8, 40000).map(lambda value: value / 8)


@st.composite
def batches(draw):
    """Thresholds, a budget from nothing to plenty, a cap, and what else a rule may ask for."""
    taus = np.array(draw(st.lists(eighths, min_size=1, max_size=25)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = taus.size
    return SimpleNamespace(
        taus=taus,
        budget=int(draw(st.floats(0, 4)) * taus.sum()),
        cap=draw(st.integers(1, int(3 * taus.mean()))),
        estimates=rng.uniform(5, 2000, n),
        lengths=rng.permutation(np.arange(1, 20 * n + 1))[:n] * 7,
        correct=rng.random(n) < 0.6,
        sigma=rng.uniform(0.1, 1, n),
        p=rng.uniform(0.05, 1, n),
    )


def library(batch, policy, cap=None, **settings):
    """The library's grants before rounding."""
    known = Forecasts(batch.taus, spread=batch.sigma, solvable=batch.p, estimate=batch.estimates)
    problem = Problem(known, batch.budget, cap, Truth(batch.lengths, batch.correct))
    return POLICIES[policy](problem, **POLICIES[policy].checked(settings))


def same(tokens, grant):
    assert tokens == pytest.approx(grant.tokens, rel=1e-7, abs=1e-5)


def test_a_rule_is_at_most_six_lines():
    nodes = [node for cell in visible() for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
    lines = {node.name: node.end_lineno - node.lineno for node in nodes}
    assert max(lines[name] for name in RULES) <= 6


@given(batch=batches())
def test_the_rules_that_refuse_nobody(batch):
    same(PAGE.uniform(batch.taus, batch.budget), library(batch, "uniform"))
    same(PAGE.predictor(batch.taus, batch.budget), library(batch, "predictor"))
    same(PAGE.predictor(batch.taus, batch.budget, 10, batch.cap), library(batch, "predictor", batch.cap, floor=10))
    tokens = PAGE.tale_ep(batch.estimates, batch.budget, cap=batch.cap)
    exact = library(batch, "tale-ep", batch.cap).tokens
    assert tokens.sum() == whole_tokens(exact, batch.budget).sum()
    assert (abs(tokens - exact) < 1 + 1e-6).all()


@given(batch=batches(), kappa=st.floats(0.1, 3))
def test_heuristic_and_auction(batch, kappa):
    same(PAGE.heuristic(batch.taus, batch.budget, kappa), library(batch, "clear-heuristic", kappa=kappa))
    same(PAGE.auction(batch.taus, batch.budget), library(batch, "clear-auction"))


@given(batch=batches(), epsilon=st.floats(1, 500))
def test_the_market_and_its_optimum(batch, epsilon):
    same(PAGE.clear(batch.taus, batch.budget, epsilon), library(batch, "clear", epsilon=epsilon))
    same(PAGE.exact(batch.taus, batch.budget, epsilon), library(batch, "clear-exact", epsilon=epsilon))


@given(batch=batches())
def test_both_oracles(batch):
    same(PAGE.oracle(batch.lengths, batch.budget, batch.correct), library(batch, "oracle"))
    same(PAGE.oracle(batch.lengths, batch.budget), library(batch, "oracle-paper"))


@given(batch=batches())
def test_lognormal_is_within_an_answer_of_the_bound_and_never_above_the_library(batch):
    batch.taus = np.maximum(batch.taus, 16)  # a right answer never comes of one token, so that no price is above 1
    mine, theirs = PAGE.lognormal(batch.taus, batch.sigma, batch.p, batch.budget), library(batch, "clear-lognormal")
    worth = [PAGE.worth(tokens, batch.taus, batch.sigma, batch.p).sum() for tokens in (mine, theirs.tokens)]
    assert mine.sum() <= batch.budget * (1 + 1e-9)
    assert theirs.bound - 1 <= worth[0] <= worth[1] + 1e-3


def test_lognormal_is_the_librarys_in_nearly_every_batch():
    rng, agree = np.random.default_rng(0), []
    for _ in range(60):
        taus, sigma, p = rng.lognormal(5, 0.8, 30), rng.uniform(0.1, 1, 30), rng.uniform(0.05, 1, 30)
        budget = int(rng.uniform(0.05, 2) * taus.sum())
        theirs = allocate(Forecasts(taus, spread=sigma, solvable=p), budget, "clear-lognormal").tokens
        agree.append(abs(PAGE.lognormal(taus, sigma, p, budget) - theirs).max() < 1.01)
    assert np.mean(agree) > 0.85


@given(taus=st.floats(20, 400), sigma=st.floats(0.15, 0.8), p=st.floats(0.05, 1))
def test_the_index_of_an_unfinished_query(taus, sigma, p):
    known = Forecasts([taus], spread=[sigma], solvable=[p])
    promised = promise(known, cap=5000, points=200)
    P, G = PAGE.curves(np.array([taus]), np.array([sigma]), np.array([p]))
    likely = promised.right[0, :-1] > 0.02 * p
    for point in np.flatnonzero(likely)[:: max(1, likely.sum() // 10)]:
        mine = PAGE.index(P[0], G[0], promised.tokens[0, point])
        assert mine == pytest.approx(index(promised)[0, point], rel=0.05)


@pytest.mark.parametrize("factor", [[1, 1, 1], [2.5, 1, 1], [1, 3, 0.5]])
def test_the_three_queries_as_you_go(factor):
    lengths = np.ceil(PAGE.lengths * factor).astype(int)
    problem = Problem(Forecasts(PAGE.taus, spread=PAGE.sigma, solvable=PAGE.p), PAGE.budget)
    outcome = serve(problem, ReplayStepper(lengths), "clear-sequential", accounting="refunds")
    mine = PAGE.sequential(PAGE.taus, PAGE.sigma, PAGE.p, PAGE.budget, lengths)
    assert abs(mine - outcome.used).max() <= 10, "the library's grid is coarser than a token"
    assert mine.sum() == outcome.used.sum()


@given(batch=batches())
def test_rounding(batch):
    shares = PAGE.uniform(batch.taus, batch.budget) * (1 + np.arange(batch.taus.size)) / (1 + batch.taus.size)
    assert PAGE.whole(shares).sum() == whole_tokens(shares, batch.budget).sum()
    assert (abs(PAGE.whole(shares) - shares) < 1 + 1e-6).all()
