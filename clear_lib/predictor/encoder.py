"""The small predictor of the default profile: a transformer encoder with a regression head, trained from scratch.

It stands where the paper fine-tunes DeBERTa-v3-base (86 M parameters): the same target, loss and optimiser, the
same truncation from the left, three orders of magnitude smaller, and no pretraining.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from clear_lib.predictor.network import PAD, Network

UNKNOWN = 1
_TOKEN = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")


class Encoder(Network):
    """Transformer encoder over words, single digits and signs; the mean of the last layer feeds a linear head.

    Parameters
    ----------
    width, layers, heads : int
        Shape of the encoder; the feed-forward layers are ``2·width`` wide.
    context : int
        Tokens kept, the last ones (left truncation).
    epochs, batch_size : int
        Passes over the training questions, and questions of a step.
    learning_rate, weight_decay, dropout : float
        The rate rises over the first tenth of the steps and then falls to 0.
    min_count : int
        Questions that a word must be in to have an embedding of its own.
    validation : float
        Share of the questions that choose the best epoch; at 0 the last one stays.
    seed : int
        Of the weights, the order and the dropout: the same seed and number of threads give the same predictor.
    """

    kind = "encoder"

    def __init__(
        self,
        width: int = 96,
        layers: int = 2,
        heads: int = 4,
        context: int = 512,
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        dropout: float = 0.1,
        min_count: int = 2,
        validation: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.options = {name: value for name, value in locals().items() if name != "self"}

    def _learn_tokens(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in set(_TOKEN.findall(text)))
        self._know(sorted(word for word, count in counts.items() if count >= self.options["min_count"]))

    def _know(self, words: Sequence[str]) -> None:
        self.vocabulary = {word: i for i, word in enumerate(words, start=2)}

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        known, context = self.vocabulary, self.options["context"]
        return [[known.get(word, UNKNOWN) for word in _TOKEN.findall(text)][-context:] or [UNKNOWN] for text in texts]

    def _made(self) -> nn.Module:
        o = self.options
        layer = nn.TransformerEncoderLayer(
            o["width"], o["heads"], 2 * o["width"], o["dropout"], "gelu", batch_first=True, norm_first=True
        )
        return nn.ModuleDict(
            {
                "embedding": nn.Embedding(len(self.vocabulary) + 2, o["width"], padding_idx=PAD),
                "encoder": nn.TransformerEncoder(layer, o["layers"], enable_nested_tensor=False),
                "norm": nn.LayerNorm(o["width"]),
                "head": nn.Linear(o["width"] + 1, 1),  # one more input: the logarithm of the question's length
            }
        )

    def _empty(self, folder: Path, state: dict[str, Any]) -> nn.Module:
        self._know(state["vocabulary"])
        return self._made()

    def _forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        absent = ids == PAD
        states = self.network["embedding"](ids) + _positions(ids.shape[1], self.options["width"]).to(ids.device)
        states = self.network["norm"](self.network["encoder"](states, src_key_padding_mask=absent))
        mean = states.masked_fill(absent.unsqueeze(-1), 0.0).sum(1) / counts.unsqueeze(-1)
        size = torch.log(counts.float()).unsqueeze(-1) - 3.0
        return self.network["head"](torch.cat([mean, size], dim=1)).squeeze(-1)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        self._save(folder, vocabulary=list(self.vocabulary))


def _positions(n: int, width: int) -> torch.Tensor:
    """Sine and cosine positions, shape ``(n, width)``: defined beyond the longest training question."""
    rates = torch.exp(torch.arange(0, width, 2) * (-np.log(10_000.0) / width))
    angles = torch.arange(n).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(n, -1)[:, :width]
