"""Predictors that are neural networks: one training loop, which survives a kill, and one format on disk.

The optimiser is the paper's (Table 5). transformers' `Trainer` would do as well, but it keeps the states of optimiser
and random numbers as pickles; here everything is safetensors and JSON, and no pickle is ever loaded.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file
from torch import nn
from tqdm import tqdm

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor.base import Predictor, fitted, held_out, log_lengths

#: The token that fills up shorter questions of a batch.
PAD = 0

#: Devices that train in bfloat16 (weights and optimiser stay in float32).
BFLOAT16 = ("cuda",)


@dataclass(eq=False, kw_only=True)
class Network(Predictor):
    """Regression of the standardised log length on the tokens of a question.

    Training minimises the squared error with AdamW; gradients are clipped to norm 1, and the learning rate rises
    over the first tenth of the steps and then falls to 0. Of a question the last ``context`` tokens are kept. The share
    ``validation`` of the questions is kept out and chooses the best epoch; at 0 the last one stays. The same ``seed``
    and number of threads give the same predictor.

    A kind has ``_fit_tokenizer(texts)``, called first; ``_tokens(texts)``, rows of one token at least; ``_new_network()``;
    and ``_forward(ids, counts)``: standardised log lengths ``(n,)`` of ``(n, longest)`` tokens, of which ``counts`` are
    no padding.
    """

    layers: int = 2
    heads: int = 4
    context: int = 512
    epochs: int
    batch_size: int = 32
    learning_rate: float
    weight_decay: float = 0.01
    dropout: float = 0.1
    validation: float
    seed: int = 0

    state = ("center", "scale", "losses", "validation_losses")
    network = None
    checkpoints = None  # folder that gets a checkpoint after each epoch

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """Learn from questions and the lengths (tokens, above 0) of their solutions; shows a progress bar.

        With ``checkpoints`` a training that was stopped resumes after its last whole epoch. On a CPU it ends with the
        very weights that it would have had; on a GPU, which adds in any order, the last digits may differ.
        """
        target, device = log_lengths(texts, lengths), best_device()
        out = held_out(texts, self.validation, self.seed)
        self._fit_tokenizer([text for text, apart in zip(texts, out, strict=True) if not apart])
        self.center, self.scale = float(target[~out].mean()), float(target[~out].std()) or 1.0
        task = json.dumps([self.kind, self.options, list(texts), target.tolist()]).encode()
        name = f"{hashlib.sha256(task).hexdigest()[:16]}.safetensors"
        checkpoint = Path(self.checkpoints) / name if self.checkpoints else None
        target = torch.tensor((target - self.center) / self.scale, dtype=torch.float32, device=device)
        with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            self.network = self._new_network().to(device)
            self._train(self._tokens(texts), target, out, checkpoint)
        self.network.eval().to("cpu")
        if checkpoint:
            checkpoint.unlink(missing_ok=True)
        return self

    def _train(self, rows: list[list[int]], target: torch.Tensor, out: Array, checkpoint: Path | None) -> None:
        """Train on the rows that are not kept ``out``; losses are mean squared errors, one an epoch."""
        train, rest = np.flatnonzero(~out), np.flatnonzero(out)
        rng = np.random.default_rng(self.seed)
        optimizer = torch.optim.AdamW(self.network.parameters(), self.learning_rate, weight_decay=self.weight_decay)
        self.losses, self.validation_losses, best = [], [], {}
        if checkpoint and checkpoint.is_file():
            best = self._read_checkpoint(checkpoint, optimizer, rng)
        steps = self.epochs * -(-train.size // self.batch_size)
        step = len(self.losses) * steps // self.epochs
        with tqdm(total=steps, initial=step, desc=f"predictor ({self.kind})", unit="step") as progress:
            for _ in range(len(self.losses), self.epochs):
                self.network.train()
                total = 0.0
                for batch, ids, counts in batches([rows[i] for i in train], self.batch_size, PAD, rng):
                    factor = min((step + 1) / max(1, steps // 10), (steps - step) / steps)
                    optimizer.param_groups[0]["lr"] = self.learning_rate * factor
                    total += self._step(ids, counts, target[train[batch]], optimizer)
                    step += 1
                    progress.update()
                self.losses.append(total / train.size)
                progress.set_postfix(loss=self.losses[-1])
                if rest.size:
                    error = self._predict_rows([rows[i] for i in rest]) - target[rest].double().cpu().numpy()
                    self.validation_losses.append(float(np.square(error).mean()))
                    progress.set_postfix(loss=self.losses[-1], validation=self.validation_losses[-1])
                    if self.validation_losses[-1] == min(self.validation_losses):
                        best = {name: value.to("cpu", copy=True) for name, value in self.network.state_dict().items()}
                if checkpoint:
                    self._write_checkpoint(checkpoint, optimizer, rng, best)
        if best:
            self.network.load_state_dict(best)

    def _step(
        self, ids: torch.Tensor, counts: torch.Tensor, target: torch.Tensor, optimizer: torch.optim.Optimizer
    ) -> float:
        """One step of the optimiser; the sum of the squared errors before it."""
        with torch.autocast(target.device.type, torch.bfloat16, enabled=target.device.type in BFLOAT16):
            predicted = self._forward(ids, counts)
        loss = (predicted.float() - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        optimizer.step()
        return loss.item() * len(ids)

    def _write_checkpoint(
        self, path: Path, optimizer: torch.optim.Optimizer, rng: np.random.Generator, best: dict
    ) -> None:
        """Write a checkpoint beside the last one and put it in its place, so that there is always a whole one."""
        groups = {f"optimizer.{name}": optimizer.state[weight] for name, weight in self.network.named_parameters()}
        groups |= {"network": self.network.state_dict(), "best": best, "random": {"cpu": torch.get_rng_state()}}
        if torch.cuda.is_available():
            groups["random"]["cuda"] = torch.cuda.get_rng_state()
        tensors = {f"{group}.{name}": value.contiguous() for group in groups for name, value in groups[group].items()}
        state = {"losses": self.losses, "validation_losses": self.validation_losses, "rng": rng.bit_generator.state}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        save_file(tensors, unfinished, {"state": json.dumps(state)})
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _read_checkpoint(self, path: Path, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> dict:
        """Resume from a checkpoint; the best weights so far."""
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
        self.losses, self.validation_losses = state["losses"], state["validation_losses"]
        rng.bit_generator.state = state["rng"]
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random.cuda"])
        self.network.load_state_dict(_part(tensors, "network."))
        for name, weight in self.network.named_parameters():
            moments = _part(tensors, f"optimizer.{name}.")
            optimizer.state[weight] = {k: v if k == "step" else v.to(weight.device) for k, v in moments.items()}
        return _part(tensors, "best.")

    def _predict_rows(self, rows: list[list[int]]) -> Array:
        """Standardised log lengths of tokenised questions; float64, shape ``(len(rows),)``."""
        self.network.eval()
        predicted = np.empty(len(rows))
        with torch.inference_mode():
            for batch, ids, counts in batches(rows, 64, PAD):
                predicted[batch] = self._forward(ids, counts).double().cpu().numpy()
        return predicted

    def predict(self, texts: Sequence[str]) -> Forecasts:
        fitted(self.network).to(best_device())
        predicted = self._predict_rows(self._tokens(texts))
        self.network.to("cpu")  # the GPU is for the reasoner
        return Forecasts(np.exp(self.center + self.scale * predicted))

    @property
    def weights_in_use(self) -> int:
        """Number of weights without the tables of embeddings, of which a token reads one row."""
        tables = [module.weight for module in self.network.modules() if isinstance(module, nn.Embedding)]
        return sum(p.numel() for p in self.network.parameters()) - sum(table.numel() for table in tables)

    def cost(self, texts: Sequence[str]) -> Array:
        return self.weights_in_use * np.array([len(row) for row in self._tokens(texts)], dtype=float)

    def _files(self) -> dict[str, bytes]:
        weights = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        return super()._files() | {"weights.safetensors": save(weights)}

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        super()._restore(folder, state)
        self.network = (self.network or self._new_network()).eval()
        self.network.load_state_dict(load_file(folder / "weights.safetensors"))


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def batches(
    rows: list[list[int]], size: int, pad: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[np.ndarray, torch.Tensor, torch.Tensor]]:
    """Batches of token rows alike in length; with ``rng``, in random order and mixture.

    Each is the indices of its rows, their tokens filled up to the longest, ``(size, longest)``, and how many they have.
    """
    counts, device = np.array([len(row) for row in rows]), best_device()
    noise = np.zeros(len(rows)) if rng is None else rng.uniform(0, 0.3, len(rows))
    order = np.argsort(np.log(counts) + noise, kind="stable")
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    if rng is not None:
        rng.shuffle(groups)
    for group in groups:
        ids = nn.utils.rnn.pad_sequence([torch.tensor(rows[i]) for i in group], batch_first=True, padding_value=pad)
        yield group, ids.to(device), torch.tensor(counts[group], device=device)
