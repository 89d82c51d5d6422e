"""Streams whose queries arrive one after the other, beside the same queries as a batch."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from clear_lib.serving import ReplayStepper, fair_share, serve_online
from clear_lib.study.experiments.grid import serve
from clear_lib.study.experiments.pool import draws, problem_of, reference_length
from clear_lib.study.setup.profiles import Profile


def arrivals(profile: Profile, pool: pd.DataFrame, rate: float, scarcities: Iterable[float]) -> pd.DataFrame:
    """Accuracy of the ``controller`` and of the ``fair share`` as queries arrive, and of the ``batch`` with all known."""
    # The controller starts from the price of the whole pool as one batch.
    reference, policy = reference_length(profile, pool), "clear-sequential"
    start = {scarcity: serve(profile, pool, policy, scarcity, reference).outcome.price for scarcity in scarcities}
    rows = []
    for stream, seed, drawn in draws(profile, pool):
        easy = drawn.sort_values("threshold", kind="stable", ignore_index=True)  # by forecast
        orders = {"random": drawn, "easy first": easy, "hard first": easy[::-1].reset_index(drop=True)}
        for scarcity, price in start.items():
            batch = serve(profile, drawn, policy, scarcity, reference).queries["solved"].mean()
            for order, queries in orders.items():
                problem, lengths = problem_of(profile, queries, scarcity, reference), queries["length"]
                controller = serve_online(problem, ReplayStepper(lengths), price=price, rate=rate)
                fair = fair_share(problem.budget, ReplayStepper(lengths))
                cell = {"stream": stream, "stream_seed": seed, "scarcity": scarcity, "order": order, "batch": batch}
                solved = {"controller": controller.finished, "fair share": fair.finished}
                rows.append(cell | {rule: (ended & queries["correct"]).mean() for rule, ended in solved.items()})
    return pd.DataFrame(rows)
