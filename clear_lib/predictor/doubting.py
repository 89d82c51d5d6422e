"""A predictor that knows its doubts: any predictor of thresholds, with spread and chance measured beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor import Predictor, _new, held_out, load, write_state
from clear_lib.predictor.calibration import Doubts


class Doubting:
    """Fits a predictor to a part of the questions and measures its doubts on the rest.

    Both see the same rollouts. The threshold is the predictor's own (eq. 15); the chance of a correct solution is a
    logistic regression on words, or on what a frozen encoder says where the predictor is one; and the held-out questions say how far the two are to be trusted
    (:class:`~clear_lib.predictor.calibration.Doubts`). So doubts are had of any predictor. In one trial (a small
    DeBERTa from scratch, one seed, rollouts of one 8B model) heads for spread and chance, trained together with the
    threshold, were better in no proper score; with pretrained weights that is not tried.

    Parameters
    ----------
    predictor : Predictor
        Not fitted yet.
    held_out : float
        Share of the questions that measure the doubts.
    penalty : float, optional
        Of the logistic regression (:class:`~clear_lib.predictor.linear.Chance`), if not its default.
    seed : int
        Of the choice of the held-out questions.
    """

    def __init__(
        self, predictor: Predictor | None = None, held_out: float = 0.2, penalty: float | None = None, seed: int = 0
    ) -> None:
        self.options = {"held_out": held_out, "penalty": penalty, "seed": seed}
        self.predictor = predictor
        words = getattr(predictor, "kind", "words") != "sentence"
        self.chance = _new("chance" if words else "sentence-chance", {} if penalty is None else {"penalty": penalty})
        self.doubts: Doubts | None = None

    def held_out(self, texts: Sequence[str]) -> Array:
        """Which questions :meth:`fit` holds out: a bool array, see :func:`~clear_lib.predictor.held_out`."""
        return held_out(texts, self.options["held_out"], self.options["seed"])

    def fit(self, texts: Sequence[str], lengths: Any, correct: Any) -> Self:
        """Learn from questions, the lengths (tokens, above 0) of their solutions, and which of these are correct.

        Raises
        ------
        ValueError
            As the predictor; if the arrays differ in length; if no held-out solution is correct.
        """
        lengths, correct = np.asarray(lengths), np.asarray(correct, dtype=bool)
        for name, values in {"lengths": lengths, "correct": correct}.items():
            if len(values) != len(texts):
                raise ValueError(f"{name} has {len(values)} values for {len(texts)} questions")
        kept_out = self.held_out(texts)
        taught = [text for text, out in zip(texts, kept_out, strict=True) if not out]
        asked = [text for text, out in zip(texts, kept_out, strict=True) if out]
        self.predictor.fit(taught, lengths[~kept_out])
        self.chance.fit(taught, correct[~kept_out])
        said = self.predictor.predict(asked).threshold, self.chance.logit(asked)
        self.doubts = Doubts.fit(*said, lengths[kept_out], correct[kept_out])
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """Forecasts with spread, chance and the median length of correct solutions."""
        if self.doubts is None:
            raise RuntimeError("fit the predictor before it predicts")
        return self.doubts.apply(self.predictor.predict(texts).threshold, self.chance.logit(texts))

    def cost(self, texts: Sequence[str]) -> Array:
        """What the predictor costs, and a multiplication for each term of the chance; a frozen encoder reads once."""
        cost = self.predictor.cost(texts)
        return cost if self.chance.kind == "sentence-chance" else cost + self.chance.cost(texts)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        folder = write_state(folder, "doubting", self.options, doubts=asdict(self.doubts))
        self.predictor.save(folder / "threshold")
        self.chance.save(folder / "chance")

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.predictor, self.chance = load(folder / "threshold"), load(folder / "chance")
        self.doubts = Doubts(**state["doubts"])
