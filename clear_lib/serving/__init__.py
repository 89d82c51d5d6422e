"""Carry an allocation out: in one go under caps, with refunds, step by step, or as queries arrive."""

from clear_lib.serving.batch import ACCOUNTINGS, Outcome, overbook, serve
from clear_lib.serving.online import fair_share, serve_online
from clear_lib.serving.steppers import EngineStepper, ReplayStepper, Step, Stepper

__all__ = [
    "ACCOUNTINGS",
    "EngineStepper",
    "Outcome",
    "ReplayStepper",
    "Step",
    "Stepper",
    "fair_share",
    "overbook",
    "serve",
    "serve_online",
]
