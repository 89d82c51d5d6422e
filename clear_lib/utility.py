"""How much a query is worth after a number of tokens: value, marginal and best response to a price.

A utility here is a function of the *surge* ``s = t - τ``, the tokens past the emergence threshold. Whether a
query is served at all depends on its threshold too, and is decided in :mod:`clear_lib.market`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from .forecasts import Array


@dataclass(frozen=True, eq=False)
class Surge:
    """The paper's shifted surge ``U = v0·s·exp(-β·s)`` for ``s > 0``, else 0 (eq. 1).

    Parameters
    ----------
    velocity : float or array of shape (n,)
        Initial velocity ``v0`` in utility per token, positive.
    decay : float or array of shape (n,)
        Decay rate ``β`` in 1/token, positive.

    Raises
    ------
    ValueError
        If a velocity or a decay is not positive and finite.
    """

    velocity: float | Array
    decay: float | Array

    def __post_init__(self) -> None:
        for name in ("velocity", "decay"):
            value = np.asarray(getattr(self, name), dtype=float)
            if not (np.isfinite(value) & (value > 0)).all():
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)!r}")

    @property
    def peak(self) -> float | Array:
        """Surge with the most value, ``1/β`` tokens."""
        return 1.0 / self.decay

    def value(self, surge: float | Array) -> Array:
        """Utility of ``surge`` tokens past the threshold (eq. 1)."""
        surge = np.maximum(surge, 0.0)
        return self.velocity * surge * np.exp(-self.decay * surge)

    def marginal(self, surge: float | Array) -> Array:
        """Utility per token of one more token at ``surge`` (left side of eq. 4); 0 before the threshold."""
        late = np.maximum(surge, 0.0)
        return np.where(np.asarray(surge) < 0, 0.0, self.velocity * (1 - self.decay * late) * np.exp(-self.decay * late))

    def best_response(self, price: float | Array) -> Array:
        """Surge at which the marginal equals ``price``: ``(1 - W0(e·λ/v0))/β`` (eqs. 5 and 12).

        Parameters
        ----------
        price : float or array
            Shadow price ``λ`` in utility per token, at least 0.

        Returns
        -------
        array
            Tokens past the threshold, between ``1/β`` (price 0) and 0 (price ``v0`` and above).

        Raises
        ------
        ValueError
            If a price is negative or NaN.
        """
        if not (np.asarray(price) >= 0).all():
            raise ValueError(f"a price must be at least 0, got {price!r}")
        return np.maximum(1.0 - lambertw(np.e * np.asarray(price) / self.velocity).real, 0.0) / self.decay
