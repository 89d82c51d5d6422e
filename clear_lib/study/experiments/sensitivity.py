"""What the paper leaves open, and how far the results move with it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clear_lib.study.experiments.effects import mean_interval
from clear_lib.study.experiments.grid import run
from clear_lib.study.experiments.pool import distorted, reference_length
from clear_lib.study.setup import paper, streams
from clear_lib.study.setup.profiles import Profile


class Reading(NamedTuple):
    """Two readings of what the paper leaves open: a policy with ``settings``, and the arguments of a run that ``change``."""

    item: str
    ours: str
    other: str
    policy: str
    settings: Mapping[str, Any]
    change: Mapping[str, Any]


def _other_shares(profile: Profile, pool: pd.DataFrame) -> dict[str, dict[str, Profile]]:
    """The profile with other stream shares of the tiers in play, as far as the pool can fill the streams."""
    there, found = np.isin(streams.TIERS, profile.tiers), {}
    sizes = np.array([(pool["tier"] == tier).sum() for tier in streams.TIERS])
    given = np.array(list(profile.stream_shares.values()))
    first, rest = given[:, there][:, :1], given[:, there][:, 1:]
    changes = {
        "first tier - 0.05": (first - 0.05, rest),
        "first tier + 0.05": (first + 0.05, rest),
        "rest in equal parts": (first, np.ones(rest.shape)),
    }
    for name, (first, rest) in changes.items() if there.sum() > 1 else ():
        first, moved = first.clip(0, 1), np.zeros(given.shape)
        moved[:, there] = np.hstack([first, (1 - first) * rest / rest.sum(axis=1, keepdims=True)])
        fits = all(sizes[streams.tier_counts(each, profile.stream_size) > 0].all() for each in moved)
        if fits and not np.allclose(moved, given):
            shares = dict(zip(profile.stream_shares, map(tuple, moved.tolist()), strict=True))
            found[name] = {"profile": replace(profile, stream_shares=shares)}
    return found


#: A thing left open: its name, our choice in words, policies (one a word), settings, and the other choices by name.
Open = tuple[str, str, str, Mapping[str, Any], Mapping[str, Mapping[str, Any]]]


def _open_settings(reference: float, epsilon: float, floor: float) -> list[Open]:
    """Things left open that are settings of a policy; arguments in tokens."""
    slack = {f"{k} × as much": {"epsilon": k * epsilon} for k in (4, 16)}
    static = {f"static, 1/β = {part:g} of the mean length": {"decay": 1 / (part * reference)} for part in (0.1, 0.4)}
    twice = {"half of it": {"stretch": 0.5}, "twice it": {"stretch": 2.0}}
    shift = {"τ̂ + α·mean": {"affine": "shift"}}
    cutoff = {"0.5": {"kappa": 0.5}, "2": {"kappa": 2.0}}
    least = {"0": {"floor": 0.0}, "4 × as much": {"floor": 4 * floor}}
    return [
        ("ε of eq. 16", f"{epsilon:.3g} tokens", "clear", {}, slack),
        ("adaptive rule of eq. 16", "1/β = max(ε, B̄ - mean τ̂)", "clear", {}, static),
        ("constant of eq. 16", "1/β as it stands", "clear", {}, twice),
        ("peak s_p of eq. 17", "1/β", "clear", {"utility": "triangular"}, twice),
        ("support S of eq. 18", "2/β", "clear", {"utility": "quadratic"}, twice),
        ("initial velocity v0", "1", "clear", {}, {"100": {"velocity": 100.0}}),
        ("tolerance of the bisection", "40 halvings", "clear", {}, {"20 halvings": {"iterations": 20}}),
        ("branch for ample budgets", "none", "clear clear-auction", {}, {"proportional": {"fallback": True}}),
        ("affine rule of eq. 25", "α·(τ̂ + mean)", "clear-heuristic clear-auction", {}, shift),
        ("cutoff κ of Heuristic", "1", "clear-heuristic", {}, cutoff),
        ("floor of eq. 20", f"{floor:.3g} tokens", "predictor tale-ep", {}, least),
        ("queries that the oracle sorts", "the solvable", "oracle", {}, {"all": {"policies": ["oracle-paper"]}}),
    ]


def _open_inputs(profile: Profile, pool: pd.DataFrame, reference: float) -> list[Open]:
    """Things left open that change the streams, the forecasts or the cap."""
    log = np.log(pool["threshold"])
    bends = {a: np.exp((a - 1) * (log - log.mean())) for a in (0.5, 1.5)}
    level = {name: {"pool": distorted(pool, factor)} for name, factor in (("half", 0.5), ("twice", 2.0))}
    bent = {f"τ̂ to the power {a:g}": {"pool": distorted(pool, bend)} for a, bend in bends.items()}
    found: list[Open] = [
        ("shares of the streams", "the profile's", "uniform clear", {}, _other_shares(profile, pool)),
        ("level of the forecasts", "as predicted", "clear", {}, level),
        ("shrinkage of the forecasts", "as predicted", "predictor clear", {}, bent),
    ]
    if not np.array_equal(pool["estimate"], pool["threshold"]):
        own = {"the predictor": {"pool": pool.assign(estimate=pool["threshold"])}}
        found.append(("teacher of TALE-EP", "a stand-in", "tale-ep", {}, own))
    # Table 5 lets the 7B model write twice as much as its context holds.
    if (context := round(paper.CONTEXT_7B / paper.REFERENCE_LENGTH * reference)) < profile.cap:
        shorter = {f"{context:,}": {"profile": replace(profile, cap=context)}}
        found.append(("longest solution", f"{profile.cap:,} tokens", "oracle clear", {}, shorter))
    return found


def open_items(profile: Profile, pool: pd.DataFrame) -> list[Reading]:
    """What the paper leaves open, each as our choice and others over the range that we find plausible."""
    reference = reference_length(profile, pool)
    epsilon, floor = profile.epsilon_fraction * reference, profile.floor_fraction * reference
    readings = []
    open_ = _open_settings(reference, epsilon, floor) + _open_inputs(profile, pool, reference)
    for item, ours, policies, settings, others in open_:
        for policy, (other, change) in product(policies.split(), others.items()):
            readings.append(Reading(item, ours, other, policy, settings, change))
    return readings


def sensitivity(profile: Profile, pool: pd.DataFrame, readings: Iterable[Reading]) -> pd.DataFrame:
    """Accuracy under the other reading, and its paired ``change`` from ours: a row a reading, stream, seed and budget."""
    ours: dict[tuple, pd.DataFrame] = {}  # several readings share a choice of ours
    parts = []
    for reading in readings:
        choice = {"profile": profile, "pool": pool, "policies": [reading.policy], **reading.settings}
        name = (reading.policy, *reading.settings.items())
        if name not in ours:
            ours[name] = run(**choice)
        base, accuracy = ours[name], run(**choice | reading.change)["accuracy"]
        cells = base[["stream", "stream_seed", "scarcity", "n", "policy"]]
        cells = cells.assign(item=reading.item, ours=reading.ours, other=reading.other, accuracy=accuracy)
        parts.append(cells.assign(change=accuracy - base["accuracy"]))
    return pd.concat(parts, ignore_index=True)


def movement(changes: pd.DataFrame) -> pd.DataFrame:
    """How far each reading of :func:`sensitivity` moves the mean over all cells, and its ``worst`` cell; with intervals."""
    by = ["item", "ours", "other", "policy"]
    table = mean_interval(changes, "change", by)
    cells = mean_interval(changes, "change", [*by, "stream", "scarcity"]).drop(columns="seeds")
    worst = cells.loc[cells["change"].abs().groupby([cells[name] for name in by], sort=False).idxmax()]
    worst = worst.rename(columns=lambda name: name.replace("change", "worst"))
    return table.merge(worst, on=by).assign(n=int(changes["n"].iloc[0]))


def widest(moved: pd.DataFrame) -> pd.DataFrame:
    """For each item and policy of :func:`movement`, the reading whose mean moves most."""
    return moved.loc[moved["change"].abs().groupby([moved["item"], moved["policy"]], sort=False).idxmax()]
