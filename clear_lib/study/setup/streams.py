"""The streams of the study: which queries arrive together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Tiers of difficulty, easiest first (Table 6); the order of the shares of a stream.
TIERS = ("easy", "moderate", "hard", "very hard")

#: Name and label of each stream (section 6, Fig. 3). Its shares are in the profile: the paper prints none.
STREAMS = {"balanced": "Balanced", "mostly-easy": "Mostly-Easy", "mostly-hard": "Mostly-Hard", "u-shaped": "U-Shaped"}


def tier_counts(shares: Sequence[float], n: int) -> NDArray[np.int64]:
    """Queries of each tier in a stream of ``n``: shares by largest remainder, ties to the easier tier.

    Parameters
    ----------
    shares : four floats
        In the order of :data:`TIERS`, not negative, summing to 1.
    n : int
        Length of the stream, at least 1.

    Returns
    -------
    int64 array of shape (4,)

    Raises
    ------
    ValueError
        If the shares or the length are not as described.
    """
    if isinstance(n, bool) or n != int(n) or n < 1:
        raise ValueError(f"the length of a stream must be a whole number of at least 1, got {n!r}")
    wanted = np.asarray(shares, dtype=float) * int(n)
    if wanted.shape != (len(TIERS),) or not (wanted >= 0).all() or abs(wanted.sum() / n - 1) > 1e-6:
        raise ValueError(f"a stream needs four shares of at least 0 that sum to 1, got {shares!r}")
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    counts[np.argsort(counts - wanted, kind="stable")[: int(n) - counts.sum()]] += 1
    return counts


def draw(pool_tiers: Sequence[Any], shares: Sequence[float], n: int, seed: int) -> NDArray[np.int64]:
    """Draw a stream from a pool, without replacement within each tier.

    The same seed gives the same stream to every policy, and streams of one seed but different shares or
    lengths have as many queries in common as they can, so that differences between them are not chance.

    Parameters
    ----------
    pool_tiers : sequence of str
        Tier of each query of the pool.
    shares : four floats
        Share of each tier, in the order of :data:`TIERS`, summing to 1.
    n : int
        Length of the stream.
    seed : int
        At least 0.

    Returns
    -------
    int64 array of shape (n,)
        Positions in the pool, no two the same, in random order.

    Raises
    ------
    ValueError
        If a tier of the pool is unknown, or a tier has fewer queries than the stream needs.
    """
    tiers = np.asarray(pool_tiers, dtype=object)
    unknown = ~np.isin(tiers, TIERS)
    if unknown.any():
        position = int(np.argmax(unknown))
        raise ValueError(f"unknown tier {tiers[position]!r} at position {position}; known: {', '.join(TIERS)}")
    chosen = []
    for index, (tier, count) in enumerate(zip(TIERS, tier_counts(shares, n), strict=True)):
        pool = np.flatnonzero(tiers == tier)
        if count > pool.size:
            raise ValueError(f"the stream needs {count} queries of tier {tier!r}, the pool has {pool.size}")
        chosen.append(np.random.default_rng([seed, index]).permutation(pool)[:count])
    return np.random.default_rng([seed, len(TIERS)]).permutation(np.concatenate(chosen)).astype(np.int64)
