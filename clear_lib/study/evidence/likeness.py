"""Streams that are like the paper's in what its table shows: how many queries are solvable, how far a budget reaches."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit

from clear_lib.study import experiments
from clear_lib.study.evidence import replica
from clear_lib.study.experiments.pool import reference_length
from clear_lib.study.setup import paper
from clear_lib.study.setup.profiles import Profile
from clear_lib.study.setup.streams import TIERS


def solvable(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """Share of solvable queries of each stream: the ``paper``'s (its Oracle at the largest budget) and ``ours``.

    ``most`` is that of the easiest tier alone; ``odds`` the factor on a solvable question's odds that gives the paper's.
    """
    study, rates = paper.study_of(profile.model), pool.groupby("tier")["correct"].mean().reindex(TIERS)
    rows = {}
    for stream, shares in profile.stream_shares.items():
        share = np.array(shares)[rates.notna()]
        rate = np.clip(rates.dropna().to_numpy(), 1e-9, 1 - 1e-9)
        theirs = study.table["oracle"][stream][max(study.budgets)] / 100
        shift = brentq(lambda x, s=share, r=rate, t=theirs: (s * expit(logit(r) + x)).sum() - t, -30, 30)
        rows[stream] = (theirs, float(share @ rate), float(rate.max()), float(np.exp(shift)))
    return pd.DataFrame(rows, index=["paper", "ours", "most", "odds"]).T.rename_axis("stream")


def scarcities(profile: Profile, pool: pd.DataFrame) -> tuple[float, ...]:
    """The paper's budgets as the same multiples of the easiest tier's median length (of the replica), as scarcities."""
    study = paper.study_of(profile.model)
    theirs = replica.fit_lengths(study.table["uniform"], replica.pass_rates(study.sets, 2)).medians[0]
    easiest = next(tier for tier in TIERS if (pool["tier"] == tier).any())
    ours = pool.loc[pool["tier"] == easiest, "length"].median()
    return tuple(float(budget / theirs * ours / reference_length(profile, pool)) for budget in study.budgets)


def run(
    profile: Profile, pool: pd.DataFrame, constants: Mapping[str, list[experiments.Constant]], policies: Iterable[str]
) -> pd.DataFrame:
    """Results (:func:`.run_chosen`) on streams with the paper's solvable shares, under budgets that reach as far.

    Questions with large weights occur often, so intervals are too narrow rather than too wide.
    """
    odds, runs, reach = solvable(profile, pool)["odds"], [], scarcities(profile, pool)
    for stream in profile.stream_shares:
        weighted = pool.assign(weight=np.where(pool["correct"], odds[stream], 1.0))
        own = {stream: constants.get(stream, [])}
        runs.append(experiments.run_chosen(profile, weighted, own, policies, scarcities=reach))
    return pd.concat(runs, ignore_index=True)
