"""Carries an allocation out: which soft instruction goes with a cap, and real generation under caps.

Most of the book replays a recording. Here the engine really runs, to see whether the replay was right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from clear_lib.engines import Engine


def choose_rungs(caps: ArrayLike, estimates: ArrayLike, rungs: Mapping[str, float]) -> NDArray[np.object_]:
    """The soft instruction for each query: the longest rung that is expected to fit its cap (eq. 24).

    The paper asks the model to "keep the entire response within at most b completion tokens". A model that knows
    a ladder of styles instead is asked for the longest style whose expected length, the teacher's estimate times
    the length of the rung, is within ``b``, and for the shortest one where none is.

    Parameters
    ----------
    caps, estimates : array of shape (n,)
        Hard caps ``b_i`` and the teacher's estimates ``r_i`` of the free length, tokens.
    rungs : mapping
        Length of each rung as a multiple of the free one, shortest first.

    Returns
    -------
    object array of shape (n,)
        Names of rungs.
    """
    names, ratios = np.array(list(rungs), dtype=object), np.array(list(rungs.values()), dtype=float)
    fits = np.outer(np.asarray(estimates, float), ratios) <= np.asarray(caps, float)[:, None]
    return names[np.maximum(fits.sum(axis=1) - 1, 0)]


class Regenerated(NamedTuple):
    """Real generation under caps beside its recording, see :func:`regenerate`.

    ``used`` are the tokens generated, ``prefix`` says where the completion is the beginning of the recorded one,
    as replay assumes, and ``mismatches`` counts where it is not.
    """

    used: NDArray[np.int64]
    prefix: NDArray[np.bool_]
    mismatches: int


def regenerate(engine: Engine, recorded: pd.DataFrame, caps: ArrayLike, progress: str | None = None) -> Regenerated:
    """Decode recorded prompts again, greedily and under hard caps, and compare with the recording.

    Parameters
    ----------
    engine : Engine
    recorded : pandas.DataFrame
        Greedy rollouts: ``prompt, completion, length``, shape ``(n, …)``.
    caps : int array of shape (n,)
        Tokens granted to each; a query with none is not decoded.
    progress : str, optional
        Label of a progress line.

    Raises
    ------
    ValueError
        If a rollout was not greedy, since a sample cannot be repeated under a cap.
    """
    if (recorded["temperature"] != 0).any():
        row = int(np.argmax(recorded["temperature"].to_numpy() != 0))
        raise ValueError(f"row {row}: sampled at temperature {recorded['temperature'].iloc[row]}; only greedy rollouts "
                         f"are beginnings of one another")
    caps = np.asarray(caps, dtype=np.int64)
    completions = engine.generate(list(recorded["prompt"]), list(caps), progress=progress)
    used = np.array([completion.length for completion in completions], dtype=np.int64)
    prefix = np.array([whole.startswith(completion.text) for whole, completion in
                       zip(recorded["completion"], completions, strict=True)])
    prefix &= used == np.minimum(recorded["length"].to_numpy(), caps)
    return Regenerated(used, prefix, int((~prefix).sum()))
