"""Split a budget of reasoning tokens over a batch of queries.

The library under an executable book that reproduces *The Shadow Price of Reasoning: Economic Perspective on
Optimal Budget Allocation for LLMs*. :func:`allocate` splits a budget, :func:`~clear_lib.serving.serve` carries the
split out, and :class:`~clear_lib.budgeter.Budgeter` answers a batch within a budget. Importing the package loads
NumPy and SciPy, and nothing heavier.
"""

from typing import Any

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.optimum import solve
from clear_lib.allocation.policies import POLICIES, Allocation, allocate, divide
from clear_lib.allocation.problem import Problem, Truth

__all__ = ["POLICIES", "Allocation", "Budgeter", "Forecasts", "Problem", "Truth", "allocate", "divide", "solve"]


def __getattr__(name: str) -> Any:
    """Load the wrapper, and what it stands on, when it is asked for."""
    if name == "Budgeter":
        from clear_lib.budgeter import Budgeter

        return Budgeter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
