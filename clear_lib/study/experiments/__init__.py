"""The experiments of the book: a pool of recorded questions, streams from it, and every policy at every budget."""

# ruff: noqa: F401
from clear_lib.study.experiments.constants import GRID, candidates, chosen, curve, leave_one_out, run_chosen
from clear_lib.study.experiments.effects import (
    best_fixed,
    best_in_each,
    gains,
    gap_closed,
    mean_effect,
    mean_interval,
    mean_stream,
    of_draws,
    paired_effects,
    prediction_range,
    tally,
)
from clear_lib.study.experiments.grid import (
    Constant,
    arrivals,
    by_tier,
    regimes,
    run,
    run_both,
    run_distorted,
    run_in_halves,
    run_rule,
    serve,
    served_streams,
    settings_of,
)
from clear_lib.study.experiments.pool import (
    budget_per_query,
    budgets,
    composition,
    distorted,
    draw_stream,
    forecasts_of,
    halves,
    has_rungs,
    make_pool,
    read_pool,
    reference_length,
)
from clear_lib.study.experiments.told import choose_rungs, regenerate
