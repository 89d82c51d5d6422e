"""Tiers of imported questions, and the streams that they allow."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from clear_lib.study.setup.streams import TIERS, tier_counts

#: A stream takes at most this part of a tier, so that its draws differ; queries of the smallest that is worth drawing.
PART, LEAST = 0.6, 8

#: Tier of a known question set, as Table 6 has it, by a part of its name; the first that fits.
TIER_OF_SET = {
    "gsm8k": "easy",
    "minerva": "very hard",
    "math": "moderate",
    "olympiad": "hard",
    "amc": "hard",
    "aime": "very hard",
}

#: Tier of a level of the MATH data.
TIER_OF_LEVEL = {"1": "easy", "2": "easy", "3": "moderate", "4": "hard", "5": "very hard"}


def tiers_of(
    rollouts: pd.DataFrame, threshold: Sequence[float], given: Mapping[str, str] | None = None
) -> tuple[pd.Series, str]:
    """The tier of each question, and the rule behind it: as given by question set, or the first that tells two tiers."""
    sets = rollouts["dataset"]
    if given:
        for name, tier in given.items():
            if tier not in TIERS:
                raise ValueError(f"unknown tier {tier!r} of {name!r}; known: {', '.join(TIERS)}")
        if missing := sorted(set(sets) - set(given)):
            raise ValueError(f"no tier is given for: {', '.join(missing)}")
        return sets.map(dict(given)), "as given"
    known = {name: next((part for part in TIER_OF_SET if part in name.lower()), None) for name in set(sets)}
    rules = {
        "as recorded": rollouts["tier"].where(rollouts["tier"].isin(TIERS)),
        "by question set (Table 6)": sets.map(known).map(TIER_OF_SET),
        "by level": rollouts["level"].astype(str).str.replace(r"\D", "", regex=True).map(TIER_OF_LEVEL),
    }
    for rule, tiers in rules.items():
        if tiers.notna().all() and tiers.nunique() > 1:
            return tiers.astype(str), rule
    quarter = np.ceil(4 * pd.Series(threshold).rank(method="first", pct=True).to_numpy()).astype(int) - 1
    return pd.Series(np.array(TIERS)[quarter], sets.index), "quarters of the forecast length"


def sizes_of(rollouts: pd.DataFrame) -> dict[str, int]:
    """Rollouts of each tier that has any, easiest first."""
    counts = rollouts["tier"].value_counts()
    return {tier: int(counts[tier]) for tier in TIERS if tier in counts}


def nearest_tier(tier: str, present: Sequence[str]) -> str:
    """The tier among those present that is nearest in difficulty, the easier of two."""
    return min(sorted(present, key=TIERS.index), key=lambda name: abs(TIERS.index(name) - TIERS.index(tier)))


def shares_among(shares: Mapping[str, Sequence[float]], present: Sequence[str]) -> dict[str, list[float]]:
    """Tier shares of the streams with the share of every empty tier moved to the nearest tier."""
    moved = {stream: [0.0] * len(TIERS) for stream in shares}
    for stream, given in shares.items():
        for tier, share in zip(TIERS, given, strict=True):
            moved[stream][TIERS.index(nearest_tier(tier, present))] += share
    return moved


def largest_stream(
    shares: Mapping[str, Sequence[float]], pool: Mapping[str, int], most: int, part: float = PART
) -> int:
    """Queries of the largest stream, 0 to ``most``, of which no mixture (of ``shares``) takes more than a part of a tier."""
    there = np.floor(part * np.array([pool.get(tier, 0) for tier in TIERS]))
    sizes = range(most, 0, -1)
    return next((n for n in sizes if all((tier_counts(each, n) <= there).all() for each in shares.values())), 0)
