"""The small predictor of the default profile: a transformer encoder with a regression head, trained from scratch.

It stands where the paper fine-tunes DeBERTa-v3-base (86 M parameters): the same target, loss and optimiser, the
same truncation from the left, three orders of magnitude smaller, and no pretraining.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..forecasts import Array, Forecasts
from . import log_lengths, write_state

if TYPE_CHECKING:
    import torch

PAD, UNKNOWN = 0, 1
_TOKEN = re.compile(r"[A-Za-z]+|\d|[^\sA-Za-z\d]")


class Encoder:
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
    seed : int
        Of the weights, the order and the dropout: the same seed and number of threads give the same predictor.
    """

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
        seed: int = 0,
    ) -> None:
        self.options = {name: value for name, value in locals().items() if name != "self"}
        self.network: torch.nn.Module | None = None
        #: Mean loss of each epoch: squared error of the standardised log length.
        self.losses: list[float] = []

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        known, context = self.vocabulary, self.options["context"]
        return [[known.get(word, UNKNOWN) for word in _TOKEN.findall(text)][-context:] or [UNKNOWN] for text in texts]

    def _network(self) -> torch.nn.Module:
        from torch import nn

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

    def _forward(self, rows: list[list[int]]) -> torch.Tensor:
        """Standardised log lengths of tokenised questions, shape ``(len(rows),)``."""
        import torch

        counts = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(counts.max())), PAD)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        absent = ids == PAD
        states = self.network["embedding"](ids) + _positions(ids.shape[1], self.options["width"])
        states = self.network["norm"](self.network["encoder"](states, src_key_padding_mask=absent))
        mean = states.masked_fill(absent.unsqueeze(-1), 0.0).sum(1) / counts.unsqueeze(-1)
        size = torch.log(counts.float()).unsqueeze(-1) - 3.0
        return self.network["head"](torch.cat([mean, size], dim=1)).squeeze(-1)

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """See :class:`~clear_lib.predictor.Predictor`; shows a progress line."""
        import torch
        from tqdm import tqdm

        o, target = self.options, log_lengths(texts, lengths)
        counts = Counter(word for text in texts for word in set(_TOKEN.findall(text)))
        words = sorted(word for word, count in counts.items() if count >= o["min_count"])
        self.vocabulary = {word: i for i, word in enumerate(words, start=2)}
        self.center, self.scale = float(target.mean()), float(target.std()) or 1.0
        rows, goal = self._tokens(texts), torch.tensor((target - self.center) / self.scale, dtype=torch.float32)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(o["seed"])
            rng = np.random.default_rng(o["seed"])
            self.network = self._network().train()
            optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=o["learning_rate"], weight_decay=o["weight_decay"]
            )
            steps = o["epochs"] * -(-len(rows) // o["batch_size"])
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: min((step + 1) / max(1, steps // 10), (steps - step) / steps)
            )
            self.losses = []
            for _ in (progress := tqdm(range(o["epochs"]), desc="predictor", unit="epoch")):
                total = 0.0
                for batch in _batches([len(row) for row in rows], o["batch_size"], rng):
                    error = self._forward([rows[i] for i in batch]) - goal[torch.from_numpy(batch)]
                    loss = error.square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
                    total += loss.item() * len(batch)
                self.losses.append(total / len(rows))
                progress.set_postfix(loss=f"{self.losses[-1]:.3f}")
        self.network.eval()
        return self

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """See :class:`~clear_lib.predictor.Predictor`."""
        import torch

        if self.network is None:
            raise RuntimeError("fit the predictor before it predicts")
        rows, answer = self._tokens(texts), np.empty(len(texts))
        with torch.inference_mode():
            for batch in _batches([len(row) for row in rows], 64):
                answer[batch] = self._forward([rows[i] for i in batch]).double().numpy()
        return Forecasts(np.exp(self.center + self.scale * answer))

    def cost(self, texts: Sequence[str]) -> Array:
        """Weights besides the embedding × tokens read; attention among the tokens is not counted."""
        weights = sum(p.numel() for name, p in self.network.named_parameters() if not name.startswith("embedding"))
        return weights * np.array([len(row) for row in self._tokens(texts)], dtype=float)

    def save(self, folder: str | Path) -> None:
        """See :class:`~clear_lib.predictor.Predictor`."""
        from safetensors.torch import save_file

        folder = write_state(
            folder, "encoder", self.options,
            vocabulary=list(self.vocabulary), center=self.center, scale=self.scale, losses=self.losses,
        )  # fmt: skip
        save_file(self.network.state_dict(), folder / "weights.safetensors")

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        from safetensors.torch import load_file

        self.vocabulary = {word: i for i, word in enumerate(state["vocabulary"], start=2)}
        self.center, self.scale, self.losses = state["center"], state["scale"], state["losses"]
        self.network = self._network().eval()
        self.network.load_state_dict(load_file(folder / "weights.safetensors"))


def _positions(n: int, width: int) -> torch.Tensor:
    """Sine and cosine positions, shape ``(n, width)``: defined beyond the longest training question."""
    import torch

    rates = torch.exp(torch.arange(0, width, 2) * (-np.log(10_000.0) / width))
    angles = torch.arange(n).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).reshape(n, -1)[:, :width]


def _batches(sizes: list[int], batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Positions in batches of questions alike in length; with ``rng``, in random order and mixture."""
    noise = np.zeros(len(sizes)) if rng is None else rng.uniform(0, 0.3, len(sizes))
    order = np.argsort(np.log(sizes) + noise, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
