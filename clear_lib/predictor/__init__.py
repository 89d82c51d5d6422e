"""Forecasts from the text of a question: the predictor of thresholds, and the teacher of TALE-EP.

All predictors regress the *logarithm* of the length of the model's solution on the question (eq. 15). A solution that
was stopped by the cap counts with the cap as its length.
"""

from clear_lib.predictor.base import KINDS, Predictor, build, held_out, load
from clear_lib.predictor.calibrated import Calibrated, OtherModelWarning, fit_to_rollouts, unseen, warn_of_other_model

__all__ = [
    "KINDS",
    "Calibrated",
    "OtherModelWarning",
    "Predictor",
    "build",
    "fit_to_rollouts",
    "held_out",
    "load",
    "unseen",
    "warn_of_other_model",
]
