"""Split a budget of reasoning tokens over a batch of queries.

The library under an executable book that reproduces *The Shadow Price of Reasoning: Economic Perspective on
Optimal Budget Allocation for LLMs*. The public call is :func:`allocate`; importing the package loads NumPy and
SciPy, and nothing heavier.
"""

from .forecasts import Forecasts
from .policies import Allocation, allocate

__all__ = ["Allocation", "Forecasts", "allocate"]
