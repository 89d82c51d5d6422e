"""What the paper leaves open, and how far the results move with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clear_lib.study.experiments.run import distorted, interval, reference_length, run
from clear_lib.study.setup import paper, streams
from clear_lib.study.setup.profiles import Profile

#: Context of the 7B model (4,096 tokens) as a multiple of its mean length; Table 5 lets it write twice as much.
CONTEXT = 4096 / paper.REFERENCE_LENGTH


class Reading(NamedTuple):
    """Two readings of something that the paper leaves open: what each is called, and how it is run.

    ``first`` and ``second`` are arguments of :func:`clear_lib.study.experiments.run.run`: ``policies`` and settings, and a
    ``profile`` or a ``pool`` in place of the study's.
    """

    item: str
    ours: str
    other: str
    first: Mapping[str, Any]
    second: Mapping[str, Any]


def _other_shares(profile: Profile, pool: pd.DataFrame) -> dict[str, dict[str, Profile]]:
    """The profile with other stream shares of the tiers in play, as far as the pool can fill the streams."""
    there, found = np.isin(streams.TIERS, profile.tiers), {}
    sizes = [int((pool["tier"] == tier).sum()) for tier in streams.TIERS]
    changes = {
        "first tier - 0.05": lambda first, rest: (first - 0.05, rest),
        "first tier + 0.05": lambda first, rest: (first + 0.05, rest),
        "rest in equal parts": lambda first, rest: (first, np.ones(rest.size)),
    }
    for name, change in changes.items() if there.sum() > 1 else ():
        moved = {}
        for stream, given in profile.stream_shares.items():
            first, rest = change(*np.split(np.array(given)[there], [1]))
            first, shares = first.clip(0, 1), np.zeros(there.size)
            shares[there] = np.append(first, (1 - first) * rest / rest.sum())
            moved[stream] = tuple(map(float, shares))
        fits = all((streams.tier_counts(each, profile.stream_size) <= sizes).all() for each in moved.values())
        if fits and not np.allclose(list(moved.values()), list(profile.stream_shares.values())):
            found[name] = {"profile": replace(profile, stream_shares=moved)}
    return found


def open_items(profile: Profile, pool: pd.DataFrame) -> list[Reading]:
    """What the paper leaves open, each as our choice and others over the range that we find plausible."""
    reference, log = reference_length(profile, pool), np.log(pool["threshold"])
    epsilon, floor = (part * reference for part in (profile.epsilon_fraction, profile.floor_fraction))
    found: list[Reading] = []

    def add(item: str, ours: str, policies: str, others: Mapping[str, Mapping[str, Any]], **base: Any) -> None:
        """One reading for each policy (a word) and other choice."""
        for policy in policies.split():
            first = {"policies": [policy], **base}
            found.extend(Reading(item, ours, name, first, first | dict(change)) for name, change in others.items())

    slack = {f"{k} × as much": {"epsilon": k * epsilon} for k in (4, 16)}
    add("ε of eq. 16", f"{epsilon:.3g} tokens", "clear", slack)
    static = {f"static, 1/β = {part:g} of the mean length": {"decay": 1 / (part * reference)} for part in (0.1, 0.4)}
    add("adaptive rule of eq. 16", "1/β = max(ε, B̄ - mean τ̂)", "clear", static)
    twice = {"half of it": {"stretch": 0.5}, "twice it": {"stretch": 2.0}}
    add("constant of eq. 16", "1/β as it stands", "clear", twice)
    add("peak s_p of eq. 17", "1/β", "clear", twice, utility="triangular")
    add("support S of eq. 18", "2/β", "clear", twice, utility="quadratic")
    add("initial velocity v0", "1", "clear", {"100": {"velocity": 100.0}})
    add("tolerance of the bisection", "40 halvings", "clear", {"20 halvings": {"iterations": 20}})
    add("branch for ample budgets", "none", "clear clear-auction", {"proportional": {"fallback": True}})
    shift = {"τ̂ + α·mean": {"affine": "shift"}}
    add("affine rule of eq. 25", "α·(τ̂ + mean)", "clear-heuristic clear-auction", shift)
    add("cutoff κ of Heuristic", "1", "clear-heuristic", {"0.5": {"kappa": 0.5}, "2": {"kappa": 2.0}})
    least = {"0": {"floor": 0.0}, "4 × as much": {"floor": 4 * floor}}
    add("floor of eq. 20", f"{floor:.3g} tokens", "predictor tale-ep", least)
    add("queries that the oracle sorts", "the solvable", "oracle", {"all": {"policies": ["oracle-paper"]}})
    add("shares of the streams", "the profile's", "uniform clear", _other_shares(profile, pool))
    level = {name: {"pool": distorted(pool, factor)} for name, factor in (("half", 0.5), ("twice", 2.0))}
    add("level of the forecasts", "as predicted", "clear", level)
    bends = {a: np.exp((a - 1) * (log - log.mean())) for a in (0.5, 1.5)}
    bent = {f"τ̂ to the power {a:g}": {"pool": distorted(pool, bend)} for a, bend in bends.items()}
    add("shrinkage of the forecasts", "as predicted", "predictor clear", bent)
    if not np.array_equal(pool["estimate"], pool["threshold"]):
        taught = {"the predictor": {"pool": pool.assign(estimate=pool["threshold"])}}
        add("teacher of TALE-EP", "a stand-in", "tale-ep", taught)
    if (context := round(CONTEXT * reference)) < profile.cap:
        capped = {f"{context:,}": {"profile": replace(profile, cap=context)}}
        add("longest solution", f"{profile.cap:,} tokens", "oracle clear", capped)
    return found


def sensitivity(profile: Profile, pool: pd.DataFrame, readings: Iterable[Reading]) -> pd.DataFrame:
    """How far the results move if what the paper leaves open is read another way.

    Returns
    -------
    DataFrame
        A row for each reading, stream, seed and budget (``stream, stream_seed, scarcity, n``): ``item, ours, other,
        policy`` (of our choice), ``accuracy`` under the other reading and ``change``, its difference from ours, paired.
    """
    known: dict[str, pd.DataFrame] = {}

    def served(choice: Mapping[str, Any]) -> pd.DataFrame:
        name = repr({key: id(value) if key in ("profile", "pool") else value for key, value in choice.items()})
        if name not in known:
            known[name] = run(**{"profile": profile, "pool": pool, **choice})
        return known[name]

    parts = []
    for item, ours, other, first, second in readings:
        base, rows = served(first), served(second)
        change = rows["accuracy"].to_numpy() - base["accuracy"].to_numpy()
        cells = base[["stream", "stream_seed", "scarcity", "n", "policy"]]
        parts.append(cells.assign(item=item, ours=ours, other=other, accuracy=rows["accuracy"], change=change))
    return pd.concat(parts, ignore_index=True)


def movement(changes: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`sensitivity`, a row a reading and policy: how far the mean over all cells moves, and the worst cell.

    Returns
    -------
    DataFrame
        ``item, ours, other, policy``; ``change`` of the mean over all cells of stream and budget, with ``change_low``
        and ``change_high`` as of :func:`clear_lib.study.experiments.run.interval`; the cell with the largest change, ``stream,
        scarcity``, and ``worst, worst_low, worst_high``; ``n`` (queries of a stream), ``seeds``.
    """
    by = ["item", "ours", "other", "policy"]
    means = changes.groupby([*by, "stream_seed"], sort=False)["change"].mean().reset_index()
    table = interval(means, ["change"], by)
    cells = interval(changes, ["change"], [*by, "stream", "scarcity"]).drop(columns="seeds")
    worst = cells.loc[cells["change"].abs().groupby([cells[name] for name in by], sort=False).idxmax()]
    worst = worst.rename(columns=lambda name: name.replace("change", "worst"))
    return table.merge(worst, on=by).assign(n=int(changes["n"].iloc[0]))


def widest(moved: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`movement`, for each item and policy the reading whose mean moves most."""
    groups = [moved["item"], moved["policy"]]
    return moved.loc[moved["change"].abs().groupby(groups, sort=False).idxmax()]
