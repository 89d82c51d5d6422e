"""Split a budget of reasoning tokens over a batch of queries.

The library under an executable book that reproduces *The Shadow Price of Reasoning: Economic Perspective on
Optimal Budget Allocation for LLMs*. The public calls are :func:`allocate`, which splits a budget, and
:class:`Budgeter`, which answers a batch within one; importing the package loads NumPy and SciPy, and nothing heavier.
"""

from typing import TYPE_CHECKING, Any

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.allocation.policies import Allocation, allocate

if TYPE_CHECKING:
    from clear_lib.budgeter import Budgeter

__all__ = ["Allocation", "Budgeter", "Forecasts", "allocate"]


def __getattr__(name: str) -> Any:
    """Load the wrapper, and the half of the library that it stands on, when it is asked for."""
    if name == "Budgeter":
        from clear_lib.budgeter import Budgeter

        return Budgeter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
