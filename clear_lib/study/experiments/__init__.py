"""The experiments of the book: a pool of recorded questions, streams from it, and every policy at every budget."""

# ruff: noqa: F401
from clear_lib.study.experiments.grid import by_tier, regimes, run, run_distorted, serve, served_streams, settings_of
from clear_lib.study.experiments.online import arrivals
from clear_lib.study.experiments.pool import (
    budget_per_query,
    budgets,
    composition,
    distorted,
    draw_stream,
    forecasts_of,
    make_pool,
    problem_of,
    read_pool,
    reference_length,
)
from clear_lib.study.experiments.replay import choose_rungs, regenerate
from clear_lib.study.experiments.results import (
    best_fixed,
    best_in_each,
    gains,
    gap_closed,
    interval,
    mean_stream,
    tally,
)
