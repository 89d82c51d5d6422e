"""What the paper leaves open in each policy, chosen for a stream on the other streams, in the same way for all policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

import pandas as pd

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.experiments.effects import MeanEffect, mean_effect
from clear_lib.study.experiments.grid import Constant, run
from clear_lib.study.experiments.pool import reference_length
from clear_lib.study.setup.profiles import Profile

#: Values tried beside the profile's own: ``ε`` as fractions of the reference length, and ``c`` of ``1/β = c·B̄`` (eq. 16).
EPSILONS, SHARES = (0.05, 0.1, 0.2, 0.4, 0.8), (0.25, 0.5, 1.0, 2.0)

#: Scarcities of the fine grid beside the paper's.
GRID = (0.05, 0.1, 0.15, 0.28, 0.55, 1.1, 1.8, 2.0)


def _always(**settings: Any) -> Callable[[float], dict[str, Any]]:
    return lambda tokens: settings


def _decay(share: float) -> Callable[[float], dict[str, Any]]:
    return lambda tokens: {"decay": 1 / max(share * tokens, 1.0)}


def candidates(profile: Profile, pool: pd.DataFrame) -> list[Constant]:
    """Every policy with every choice of what it leaves open, ours first; ``ε`` and floors in mean lengths."""
    reference, own = reference_length(profile, pool), profile.epsilon_fraction
    slack = {f"ε = {part:.3g}": part * reference for part in (own, *EPSILONS)}
    rates = {name: _always(epsilon=tokens) for name, tokens in slack.items()}
    rates |= {f"1/β = {share:g} B̄": _decay(share) for share in SHARES}
    found = [Constant(policy, *rate) for policy in ("clear", "clear-exact") for rate in rates.items()]
    for name, tokens in slack.items():
        found.append(Constant("clear", f"{name}, proportional when ample", _always(epsilon=tokens, fallback=True)))
    found.append(Constant("clear", "1/β = 3 max(ε, B̄ - τ̄)", _always(stretch=3.0, epsilon=own * reference)))
    for kappa, affine in product((1.0, 0.5, 2.0), ("sum", "shift")):
        found.append(Constant("clear-heuristic", f"κ = {kappa:g}, {affine}", _always(kappa=kappa, affine=affine)))
    for fallback, affine in product((False, True), ("sum", "shift")):
        name = affine + (", proportional when ample" if fallback else "")
        found.append(Constant("clear-auction", name, _always(fallback=fallback, affine=affine)))
    for policy, times in product(("predictor", "tale-ep"), (1.0, 0.0, 4.0)):
        part = times * profile.floor_fraction
        found.append(Constant(policy, f"floor = {part:.3g}", _always(floor=part * reference)))
    return found


def leave_one_out(swept: pd.DataFrame, column: str = "constant") -> pd.DataFrame:
    """The rows of a sweep with, for each stream and policy, the value of ``column`` that is best on the other streams."""
    kept = []
    for (stream, policy), rows in swept.groupby(["stream", "policy"], sort=False):
        others = swept[(swept["policy"] == policy) & (swept["stream"] != stream)]
        if others.empty:
            raise ValueError(f"no other stream to choose the constant of {policy} for {stream!r} on")
        best = others.groupby(column, sort=False)["accuracy"].mean().round(9).idxmax()
        kept.append(rows[rows[column] == best])
    return pd.concat(kept, ignore_index=True)


def chosen(swept: pd.DataFrame, choices: Iterable[Constant]) -> dict[str, list[Constant]]:
    """For each stream, every policy with the constant that :func:`leave_one_out` takes."""
    known = {(each.policy, each.name): each for each in choices}
    pairs = leave_one_out(swept)[["stream", "policy", "constant"]].drop_duplicates()
    return {
        stream: [known[row.policy, row.constant] for row in rows.itertuples()]
        for stream, rows in pairs.groupby("stream", sort=False)
    }


def run_chosen(
    profile: Profile,
    pool: pd.DataFrame,
    constants: dict[str, list[Constant]],
    policies: Iterable[str] = (),
    serve: Callable[..., pd.DataFrame] = run,
    **choice: Any,
) -> pd.DataFrame:
    """Results (``serve``: :func:`run` or a like) of each stream with its constants, and of policies without any."""
    order = list(POLICIES)
    runs = []
    for stream, own in constants.items():
        every = sorted([*policies, *own], key=lambda one: order.index(one if isinstance(one, str) else one.policy))
        runs.append(serve(profile, pool, policies=every, only=[stream], **choice))
    return pd.concat(runs, ignore_index=True)


def curve(swept: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """The verdict by constant: ``policy, constant`` and the mean effect (:func:`.effects.mean_effect`) of each."""
    rows = [
        (policy, constant, *mean_effect(rows, rows, baseline))
        for (policy, constant), rows in swept.groupby(["policy", "constant"], sort=False)
    ]
    return pd.DataFrame(rows, columns=["policy", "constant", *MeanEffect._fields])
