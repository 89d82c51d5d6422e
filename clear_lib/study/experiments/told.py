"""The ladder of soft instructions in place of eq. 24's budget in words, what it is worth, and a test of the replay."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from clear_lib.engines import Engine
from clear_lib.study.experiments.effects import of_questions
from clear_lib.study.setup.profiles import Profile


def choose_rungs(caps: ArrayLike, estimates: ArrayLike, rungs: Mapping[str, float]) -> NDArray[np.object_]:
    """For each query the longest rung (shortest first) whose ratio times the estimate (tokens) fits the cap, or the first."""
    names, ratios = np.array(list(rungs), dtype=object), np.array(list(rungs.values()), dtype=float)
    fits = np.outer(np.asarray(estimates, float), ratios) <= np.asarray(caps, float)[:, None]
    return names[np.maximum(fits.sum(axis=1) - 1, 0)]


def rung_by_rung(profile: Profile, pool: pd.DataFrame) -> pd.DataFrame:
    """What the model does on each rung, a row a rung, in tokens ``stated`` and shares of the questions of a pool.

    Answers no longer than stated are ``kept``, with the instruction, or ``free``; right within it are ``told`` or ``cut``;
    ``later`` is right, but too long. ``effect`` is ``told`` minus ``cut``, with a 95% interval by resampling questions.
    """
    rows = {}
    for rung, size in profile.rungs.items():
        stated = pool["length"] * size if profile.rung_unit == "free length" else np.full(len(pool), size)
        length, right = pool[f"length@{rung}"], pool[f"correct@{rung}"]
        told, cut = right & (length <= stated), pool["correct"] & (pool["length"] <= stated)
        shares = {"stated": stated, "kept": length <= stated, "free": pool["length"] <= stated}
        shares |= {"told": told, "cut": cut, "later": right & ~told}
        effect = zip(("effect", "low", "high"), of_questions(told.astype(float) - cut.astype(float)), strict=True)
        rows[rung] = {name: np.mean(each) for name, each in shares.items()} | dict(effect)
    return pd.DataFrame(rows).T


def regenerate(engine: Engine, recorded: pd.DataFrame, caps: ArrayLike) -> pd.DataFrame:
    """Decode recorded prompts again under caps: tokens ``used``, and where it is a ``prefix`` of the recording."""
    sampled = recorded["temperature"].to_numpy() != 0
    if sampled.any():
        row = int(np.argmax(sampled))
        raise ValueError(
            f"row {row}: sampled at temperature {recorded['temperature'].iloc[row]}; only greedy rollouts "
            f"are beginnings of one another"
        )
    caps = np.asarray(caps, dtype=np.int64)
    made = engine.generate(list(recorded["prompt"]), list(caps))
    used = np.array([completion.length for completion in made])
    begins = [whole.startswith(each.text) for whole, each in zip(recorded["completion"], made, strict=True)]
    return pd.DataFrame({"used": used, "prefix": begins & (used == np.minimum(recorded["length"].to_numpy(), caps))})
