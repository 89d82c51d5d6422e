"""How good the forecasts of a fitted predictor are on the questions that it held out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtri

from clear_lib.predictor.calibrated import Calibrated

if TYPE_CHECKING:
    import pandas as pd

#: The central share of a forecast's distribution that coverage looks at.
CENTRAL = 0.8

#: Correct held-out rollouts below which the measures say little.
FEW = 30


class Quality(NamedTuple):
    """Forecasts against the held-out rollouts, on which spread and chance were calibrated."""

    n: int  #: held-out rollouts
    correct: int  #: those of them that are correct
    correlation: float  #: rank correlation of threshold and length
    level: float  #: median of length over forecast, of the correct ones: 2 means twice as long as forecast
    coverage: float  #: share of the correct ones within the central 80% of their forecasts

    def __str__(self) -> str:
        error = 1 / math.sqrt(max(self.n - 3, 1))
        return (
            f"on the {self.n:,} of them that were held out ({self.correct:,} correct) the rank correlation of forecast "
            f"and length is {self.correlation:.2f} (±{error:.2f}), a correct solution has {self.level:.2f} times the "
            f"tokens of its forecast (level), and {self.coverage:.0%} of them are within the central {CENTRAL:.0%} of "
            f"theirs (coverage)"
        )

    @property
    def doubt(self) -> str | None:
        """Why the measures say little, in words, if they do."""
        if self.correct >= FEW:
            return None
        return (
            f"too few rollouts: {self.correct} correct ones were held out, and with fewer than {FEW} neither these "
            f"numbers nor the calibration say much. One question in five is held out: give "
            f"{math.ceil(FEW / max(self.correct, 1)):,} times as many"
        )


def quality(predictor: Calibrated, rollouts: pd.DataFrame) -> Quality:
    """Measure a predictor on the held-out ones of its rollouts (columns ``question, length, verdict``)."""
    unseen = rollouts[predictor.held_out(list(rollouts["question"]))]
    forecasts = predictor.predict(list(unseen["question"]))
    correct = (unseen["verdict"] == "correct").to_numpy()
    error = (np.log(unseen["length"].to_numpy(dtype=float)) - forecasts.log_median)[correct]
    within = np.abs(error) <= ndtri((1 + CENTRAL) / 2) * forecasts.spread[correct]
    table = unseen[["length"]].assign(threshold=forecasts.threshold)
    correlation = table.corr("spearman").loc["length", "threshold"]
    return Quality(len(unseen), int(correct.sum()), float(correlation), float(np.exp(np.median(error))), within.mean())
