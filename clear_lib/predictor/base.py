"""What all predictors share: the interface, their folder on disk, and the choice of one by its kind."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from clear_lib.allocation.forecasts import Array, Forecasts, vector
from clear_lib.hub import ModelError, first_line, needs

#: Module and class of each kind of predictor; the module is imported when one of its kinds is built.
KINDS = {
    "deberta": ("deberta", "Deberta"),
    "encoder": ("encoder", "Encoder"),
    "ridge": ("linear", "Ridge"),
    "sentence": ("sentence", "Sentence"),
    "constant": ("linear", "Constant"),
}

#: The same of calibrated predictors and of their classifiers of correct and wrong.
PARTS = {
    "calibrated": ("calibrated", "Calibrated"),
    "logistic": ("linear", "Logistic"),
    "sentence-logistic": ("sentence", "SentenceLogistic"),
}

#: The file with the SHA-256 of the files of a saved model, so that none is used that is not as it was saved.
HASHES = "sha256.json"


class Model(ABC):
    """A model that is made of keyword options, the fields of a dataclass, and kept in a folder without pickles."""

    kind: str
    trained_on: Sequence[str] = ()  # names of the models whose rollouts it was fitted to, where they are known
    state: tuple[str, ...] = ()  # names of the fitted attributes that are written as JSON, arrays as lists

    @property
    def options(self) -> dict[str, Any]:
        """Keywords that make an unfitted copy."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a folder, as JSON and safetensors, with the hashes of these files.

        ``ValueError`` if the folder cannot be written or has no room.
        """
        files = self._files()
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        files[HASHES] = json.dumps(hashes, indent=1).encode()
        try:
            for name, content in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        except OSError as error:
            raise ValueError(f"{folder}: {error.strerror}; the predictor is not saved") from None

    def _files(self) -> dict[str, bytes]:
        """The content of each file of the fitted model."""
        state = {"kind": self.kind, "options": self.options, **self._state()}
        text = json.dumps(state, ensure_ascii=False, indent=1, default=np.ndarray.tolist)
        return {"predictor.json": text.encode()}

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.state}

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        """Take over what was saved in a folder; ``state`` is the content of its ``predictor.json``."""
        for name in self.state:
            setattr(self, name, state[name])


class Predictor(Model):
    """Predicts the emergence threshold of a question from its text."""

    @abstractmethod
    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """Learn from questions and the lengths (tokens, above 0) of their solutions."""

    @abstractmethod
    def predict(self, texts: Sequence[str]) -> Forecasts:
        """Forecasts of questions, in their order; ``RuntimeError`` before :meth:`fit`."""

    @abstractmethod
    def cost(self, texts: Sequence[str]) -> Array:
        """Multiplications of each prediction, shape ``(n,)``: weights in use × tokens read, attention aside."""


def build(
    kind: str, options: Mapping[str, Any] | None = None, *, seed: int = 0, checkpoints: str | Path | None = None
) -> Any:
    """An unfitted predictor of a kind of :data:`KINDS`; ``ValueError`` if it is unknown or has no such option.

    ``options`` are keywords of its class. ``seed``, and the folder ``checkpoints`` from which a training that was
    stopped resumes, are for the kinds whose training is random (``"encoder"``, ``"deberta"``).
    """
    if kind not in KINDS | PARTS:
        raise ValueError(f"unknown kind of predictor {kind!r}; known: {', '.join(KINDS)}")
    module, name = (KINDS | PARTS)[kind]
    random = kind in ("encoder", "deberta")
    settings = ({"seed": seed} if random else {}) | dict(options or {})
    try:
        with needs("predictor"):
            model = getattr(import_module(f"clear_lib.predictor.{module}"), name)(**settings)
    except TypeError as error:
        raise ValueError(f"predictor {kind!r}: {error}") from None
    if random:
        model.checkpoints = checkpoints
    return model


def load(folder: str | Path) -> Any:
    """Read a predictor that was saved; ``ValueError`` if the folder holds none, or one that is not as it was saved."""
    folder = Path(folder)
    if not (folder / "predictor.json").is_file():
        raise ValueError(f"{folder} holds no predictor (predictor.json is missing)")
    try:
        hashes = folder / HASHES
        for name, known in json.loads(hashes.read_text(encoding="utf-8")).items() if hashes.is_file() else ():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != known:
                raise ValueError(f"{name} is not as it was saved")
        state = json.loads((folder / "predictor.json").read_text(encoding="utf-8"))
        model = build(state["kind"], state["options"])
        model._restore(folder, state)
    except ModelError:  # a package or a model of the hub is missing
        raise
    except Exception as error:  # of any kind: files may hold anything
        raise ValueError(f"{folder} holds a damaged predictor: {first_line(error)}; fit and save it again") from error
    return model


def fitted(value: Any) -> Any:
    """The value itself; ``RuntimeError`` if it is None."""
    if value is None:
        raise RuntimeError("fit the predictor before it predicts")
    return value


def log_lengths(texts: Sequence[str], lengths: Any) -> Array:
    """Logarithms of the lengths of ``texts``' solutions; ``ValueError`` names one that is not above 0."""
    lengths = vector("lengths", lengths, n=len(texts))
    if (lengths == 0).any():
        raise ValueError(f"lengths[{int(np.argmax(lengths == 0))}] is 0: a solution has at least one token")
    return np.log(lengths)


def held_out(texts: Sequence[str], share: float, seed: int, correct: ArrayLike = False) -> Array:
    """Mask of a random share of the questions, one at least unless the share is 0; one at least is left.

    The same share is taken of the questions with a ``correct`` solution and of the others. All copies of a text are on
    the same side.
    """
    distinct, index = np.unique(np.asarray(texts, dtype=object).astype(str), return_inverse=True)
    order = np.random.default_rng(seed).permutation(distinct.size)
    solved, out = np.isin(order, index[np.broadcast_to(correct, index.shape)]), np.zeros(distinct.size, dtype=bool)
    for stratum in (order[solved], order[~solved]):
        if share and stratum.size:
            out[stratum[: min(max(1, round(share * stratum.size)), stratum.size - 1)]] = True
    return out[index]
