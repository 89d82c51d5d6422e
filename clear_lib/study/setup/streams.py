"""The streams of the study: which queries arrive together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Tiers of difficulty, easiest first (Table 6); the order of the shares of a stream.
TIERS = ("easy", "moderate", "hard", "very hard")

#: Name and label of each stream (section 6, Fig. 3). Its shares are in the profile: the paper prints none.
STREAMS = {"balanced": "Balanced", "mostly-easy": "Mostly-Easy", "mostly-hard": "Mostly-Hard", "u-shaped": "U-Shaped"}


def tier_counts(shares: Sequence[float], n: int) -> NDArray[np.int64]:
    """Queries of each tier in a stream of ``n``, shape (4,), by largest remainder; ties go to the easier tier."""
    if isinstance(n, bool) or n != int(n) or n < 1:
        raise ValueError(f"the length of a stream must be a whole number of at least 1, got {n!r}")
    wanted = np.asarray(shares, dtype=float) * int(n)
    if wanted.shape != (len(TIERS),) or not (wanted >= 0).all() or abs(wanted.sum() / n - 1) > 1e-6:
        raise ValueError(f"a stream needs four shares of at least 0 that sum to 1, got {shares!r}")
    counts = np.floor(wanted + 1e-9).astype(np.int64)
    counts[np.argsort(counts - wanted, kind="stable")[: int(n) - counts.sum()]] += 1
    return counts


def draw(
    pool_tiers: Sequence[Any],
    shares: Sequence[float],
    n: int,
    seed: int,
    *,
    resample: bool = False,
    weights: Sequence[float] | None = None,
) -> NDArray[np.int64]:
    """Positions of a stream of ``n`` queries in a pool with these tiers, without replacement, in random order.

    Streams of one seed share as many queries as they can, so that differences between them are not chance. With
    ``resample`` each tier is a bootstrap of itself, with chances in proportion to ``weights``; what a stream needs beyond
    that are the same questions again.
    """
    tiers = np.asarray(pool_tiers, dtype=object)
    unknown = ~np.isin(tiers, TIERS)
    if unknown.any():
        position = int(np.argmax(unknown))
        raise ValueError(f"unknown tier {tiers[position]!r} at position {position}; known: {', '.join(TIERS)}")
    weight, chosen = np.ones(tiers.size) if weights is None else np.asarray(weights, dtype=float), []
    for index, (tier, count) in enumerate(zip(TIERS, tier_counts(shares, n), strict=True)):
        pool, rng = np.flatnonzero(tiers == tier), np.random.default_rng([seed, index])
        if count > pool.size * (count if resample else 1):
            raise ValueError(f"the stream needs {count} queries of tier {tier!r}, the pool has {pool.size}")
        if resample and count:
            chances = weight[pool] / weight[pool].sum()
            chosen.append(np.resize(rng.choice(pool, pool.size, p=chances), count))
        else:
            chosen.append(rng.permutation(pool)[:count])
    return np.random.default_rng([seed, len(TIERS)]).permutation(np.concatenate(chosen)).astype(np.int64)
