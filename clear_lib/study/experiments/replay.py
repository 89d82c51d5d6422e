"""Recorded rollouts in place of generation: the rungs of TALE-EP, and a test of the replay against a live engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from clear_lib.engines import Engine


def choose_rungs(caps: ArrayLike, estimates: ArrayLike, rungs: Mapping[str, float]) -> NDArray[np.object_]:
    """The longest rung for each query whose expected length fits the cap, in place of eq. 24's budget in words.

    The expected length is the teacher's estimate ``r_i`` (tokens) times the ratio of the rung. ``rungs`` are in order,
    shortest first; where none fits, it is the shortest.
    """
    names, ratios = np.array(list(rungs), dtype=object), np.array(list(rungs.values()), dtype=float)
    fits = np.outer(np.asarray(estimates, float), ratios) <= np.asarray(caps, float)[:, None]
    return names[np.maximum(fits.sum(axis=1) - 1, 0)]


def regenerate(engine: Engine, recorded: pd.DataFrame, caps: ArrayLike) -> pd.DataFrame:
    """Decode recorded prompts again under caps: tokens ``used``, and where it is a ``prefix`` of the recording.

    ``ValueError`` if a rollout was sampled: a sample cannot be repeated under a cap.
    """
    if (recorded["temperature"] != 0).any():
        row = int(np.argmax(recorded["temperature"].to_numpy() != 0))
        raise ValueError(
            f"row {row}: sampled at temperature {recorded['temperature'].iloc[row]}; only greedy rollouts "
            f"are beginnings of one another"
        )
    caps = np.asarray(caps, dtype=np.int64)
    made = engine.generate(list(recorded["prompt"]), list(caps))
    used = np.array([completion.length for completion in made])
    begins = [whole.startswith(each.text) for whole, each in zip(recorded["completion"], made, strict=True)]
    prefix = np.array(begins) & (used == np.minimum(recorded["length"].to_numpy(), caps))
    return pd.DataFrame({"used": used, "prefix": prefix})
