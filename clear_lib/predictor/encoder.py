"""The small predictor of the default profile: a transformer encoder with a regression head, trained from scratch.

It stands where the paper fine-tunes DeBERTa-v3-base (86 M parameters): the same target, loss and optimiser, the
same truncation from the left, three orders of magnitude smaller, and no pretraining.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from clear_lib.predictor.network import PAD, Network

UNKNOWN = 1
_TOKEN = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")


@dataclass(eq=False, kw_only=True)
class Encoder(Network):
    """Transformer encoder over words, single digits and signs; the mean of the last layer feeds a linear head.

    The feed-forward layers are ``2·width`` wide. A word in ``min_count`` questions has an embedding of its own.
    """

    kind = "encoder"
    state = (*Network.state, "words")

    width: int = 96
    epochs: int = 30
    learning_rate: float = 1e-3
    min_count: int = 2
    validation: float = 0.0

    def _fit_tokenizer(self, texts: Sequence[str]) -> None:
        counts = Counter(word for text in texts for word in set(_TOKEN.findall(text)))
        self.words = sorted(word for word, count in counts.items() if count >= self.min_count)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        known = {word: i for i, word in enumerate(self.words, start=2)}
        rows = ([known.get(word, UNKNOWN) for word in _TOKEN.findall(text)] for text in texts)
        return [row[-self.context :] or [UNKNOWN] for row in rows]

    def _new_network(self) -> nn.Module:
        layer = nn.TransformerEncoderLayer(
            self.width, self.heads, 2 * self.width, self.dropout, "gelu", batch_first=True, norm_first=True
        )
        return nn.ModuleDict(
            {
                "embedding": nn.Embedding(len(self.words) + 2, self.width, padding_idx=PAD),
                "encoder": nn.TransformerEncoder(layer, self.layers, enable_nested_tensor=False),
                "norm": nn.LayerNorm(self.width),
                "head": nn.Linear(self.width + 1, 1),  # one more input: the logarithm of the question's length
            }
        )

    def _forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        padding = ids == PAD
        states = self.network["embedding"](ids) + _positions(ids.shape[1], self.width).to(ids.device)
        states = self.network["norm"](self.network["encoder"](states, src_key_padding_mask=padding))
        mean = states.masked_fill(padding.unsqueeze(-1), 0.0).sum(1) / counts.unsqueeze(-1)
        size = torch.log(counts.float()).unsqueeze(-1) - 3.0
        return self.network["head"](torch.cat([mean, size], dim=1)).squeeze(-1)


def _positions(n: int, width: int) -> torch.Tensor:
    """Sine and cosine positions, shape ``(n, width)``: defined beyond the longest training question."""
    rates = torch.exp(torch.arange(0, width, 2) * (-np.log(10_000.0) / width))
    angles = torch.arange(n).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(n, -1)[:, :width]
