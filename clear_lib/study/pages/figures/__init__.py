# ruff: noqa: F401
"""Figures of the book, as Matplotlib figures. They draw what they are given; only positions of marks are computed."""

from clear_lib.study.pages.figures.claims import short_setting, verdict_figure
from clear_lib.study.pages.figures.market import (
    by_size,
    demand_curve,
    dual_curve,
    price_over_time,
    promises,
    regimes,
    utilities,
)
from clear_lib.study.pages.figures.results import (
    by_tier,
    frontier,
    gains,
    granted_and_used,
    oracle_audit,
    overview,
    paired_gains,
    pareto,
    replica,
    stream_composition,
    sweep,
    velocity,
    who_gets_what,
)
from clear_lib.study.pages.figures.rollouts import (
    accuracy_by_length,
    bars_by_question,
    calibration_curves,
    predicted_against_true,
    solved_by_cap,
)
from clear_lib.study.pages.figures.style import STYLES, TIER_COLORS, use_style
