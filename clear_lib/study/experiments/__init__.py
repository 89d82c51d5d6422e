"""The experiments of the book: a pool of recorded questions, streams from it, and every policy at every budget."""

# ruff: noqa: F401
from clear_lib.study.experiments.constants import GRID, candidates, chosen, curve, leave_one_out, run_chosen
from clear_lib.study.experiments.effects import gains, mean_effect, mean_interval, of_draws, paired_effects
from clear_lib.study.experiments.grid import (
    Constant,
    by_tier,
    regimes,
    run,
    run_distorted,
    run_in_halves,
    run_rule,
    serve,
    served_streams,
    settings_of,
)
from clear_lib.study.experiments.online import arrivals
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
from clear_lib.study.experiments.replay import choose_rungs, regenerate
from clear_lib.study.experiments.results import (
    best_fixed,
    best_in_each,
    gap_closed,
    mean_stream,
    prediction_range,
    tally,
    told,
)
