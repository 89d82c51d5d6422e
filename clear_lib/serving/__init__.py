"""Carry an allocation out: in one go under caps, with refunds, step by step, or as queries arrive."""

from clear_lib.serving.batch import ACCOUNTINGS, Outcome, overbook, serve
from clear_lib.serving.online import Served, fair_share, serve_online
from clear_lib.serving.steppers import EngineStepper, Ledger, ReplayStepper, Step, Stepper

__all__ = [
    "ACCOUNTINGS",
    "EngineStepper",
    "Ledger",
    "Outcome",
    "ReplayStepper",
    "Served",
    "Step",
    "Stepper",
    "fair_share",
    "overbook",
    "serve",
    "serve_online",
]
