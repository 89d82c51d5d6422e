"""Predictors that are neural networks: one training loop, which survives a kill, and one way to disk.

The optimiser is the paper's (Table 5). transformers' `Trainer` would do as well, but it keeps the states of optimiser
and random numbers as pickles; here everything is safetensors and JSON, and no pickle is ever loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from clear_lib.allocation.forecasts import Array, Forecasts
from clear_lib.predictor import held_out, log_lengths, write_state

#: The token that fills up shorter questions of a batch.
PAD = 0

#: Devices that train in bfloat16 (weights and optimiser stay in float32).
BFLOAT16 = ("cuda",)


class Network(ABC):
    """Regression of the standardised log length on the tokens of a question: what all kinds of network share.

    A kind gives ``options`` (with ``epochs``, ``batch_size``, ``learning_rate``, ``weight_decay``, ``validation`` and
    ``seed``) and the five methods below. The learning rate rises over the first tenth of the steps and then falls
    to 0. With ``validation`` above 0 that share of the questions is kept out of the training, and the weights of the
    epoch that predicts them best are the ones that stay.
    """

    kind: str
    options: dict[str, Any]
    network: nn.Module | None = None
    #: Folder of the checkpoints, one after each epoch; None keeps none.
    checkpoints: Path | None = None
    #: Mean loss of each epoch, squared error of the standardised log length; in training and on what was kept out.
    losses: list[float]
    validation_losses: list[float]

    @abstractmethod
    def _learn_tokens(self, texts: Sequence[str]) -> None:
        """Settle the vocabulary before the network is made."""

    @abstractmethod
    def _made(self) -> nn.Module:
        """A network to train."""

    @abstractmethod
    def _empty(self, folder: Path, state: dict[str, Any]) -> nn.Module:
        """The network of a saved predictor, whose weights are loaded next; also restores the vocabulary."""

    @abstractmethod
    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each question, one at least."""

    @abstractmethod
    def _forward(self, ids: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        """Standardised log lengths, shape ``(n,)``, of tokens ``(n, most)`` of which ``counts`` are no padding."""

    def fit(self, texts: Sequence[str], lengths: Any) -> Self:
        """See :class:`~clear_lib.predictor.Predictor`; shows a progress line.

        With ``checkpoints`` a training that was stopped goes on after its last whole epoch. On a CPU, with the same
        number of threads, it ends with the very weights that it would have had; on a GPU sums are not always added
        in the same order, so the last digits may differ.
        """
        target, device = log_lengths(texts, lengths), best_device()
        apart = held_out(texts, self.options["validation"], self.options["seed"])
        taught = [text for text, out in zip(texts, apart, strict=True) if not out]
        self._learn_tokens(taught)
        self.center, self.scale = float(target[~apart].mean()), float(target[~apart].std()) or 1.0
        goal = torch.tensor((target - self.center) / self.scale, dtype=torch.float32, device=device)
        rows = self._tokens(texts)
        mark = json.dumps([self.kind, self.options, list(texts), target.tolist()]).encode()
        path = self.checkpoints and Path(self.checkpoints) / f"{hashlib.sha256(mark).hexdigest()[:16]}.safetensors"
        with torch.random.fork_rng([torch.cuda.current_device()] if device.type == "cuda" else []):
            torch.manual_seed(self.options["seed"])
            self.network = self._made().to(device)
            self._train(rows, goal, np.flatnonzero(~apart), np.flatnonzero(apart), path)
        self.network.eval().to("cpu")
        if path:
            path.unlink(missing_ok=True)
        return self

    def _train(self, rows: list, goal: torch.Tensor, taught: Array, apart: Array, path: Path | None) -> None:
        o, device = self.options, goal.device
        rng = np.random.default_rng(o["seed"])
        optimizer = torch.optim.AdamW(self.network.parameters(), o["learning_rate"], weight_decay=o["weight_decay"])
        per_epoch = -(-len(taught) // o["batch_size"])
        steps, rise = o["epochs"] * per_epoch, max(1, o["epochs"] * per_epoch // 10)
        self.losses, self.validation_losses, best = [], [], {}
        if path and path.is_file():
            best = self._resume(path, optimizer, rng)
        step = len(self.losses) * per_epoch
        with tqdm(total=steps, initial=step, desc=f"predictor ({self.kind})", unit="step") as progress:
            for _ in range(len(self.losses), o["epochs"]):
                self.network.train()
                total = 0.0
                for batch in batches([len(rows[i]) for i in taught], o["batch_size"], rng):
                    for group in optimizer.param_groups:
                        group["lr"] = o["learning_rate"] * min((step + 1) / rise, (steps - step) / steps)
                    with torch.autocast(device.type, torch.bfloat16, enabled=device.type in BFLOAT16):
                        said = self._said([rows[i] for i in taught[batch]], device)
                    loss = (said.float() - goal[taught[batch]]).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                    optimizer.step()
                    total += loss.item() * len(batch)
                    step += 1
                    progress.update()
                self.losses.append(total / len(taught))
                shown = {"loss": f"{self.losses[-1]:.3f}"}
                if len(apart):
                    error = self._answers([rows[i] for i in apart], device) - goal[apart].double().cpu().numpy()
                    self.validation_losses.append(float(np.square(error).mean()))
                    shown["validation"] = f"{self.validation_losses[-1]:.3f}"
                    if self.validation_losses[-1] == min(self.validation_losses):
                        best = {name: value.to("cpu", copy=True) for name, value in self.network.state_dict().items()}
                progress.set_postfix(shown)
                if path:
                    self._keep(path, optimizer, rng, best)
        if best:
            self.network.load_state_dict(best)

    def _keep(self, path: Path, optimizer: torch.optim.Optimizer, rng: np.random.Generator, best: dict) -> None:
        """Write a checkpoint beside the last one and put it in its place, so that there is always a whole one."""
        moments = {
            f"optimizer.{name}.{key}": value
            for name, weight in self.network.named_parameters()
            for key, value in optimizer.state[weight].items()
        }
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= moments | {f"best.{name}": value for name, value in best.items()}
        tensors["random.cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        state = {"losses": self.losses, "validation_losses": self.validation_losses, "rng": rng.bit_generator.state}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        tensors = {name: value.contiguous() for name, value in tensors.items()}
        save_file(tensors, unfinished, {"state": json.dumps(state)})
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)

    def _resume(self, path: Path, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> dict:
        """Take up a checkpoint; the best weights so far."""
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
            optimizer.state[weight] = {
                key: value if key == "step" else value.to(weight.device) for key, value in moments.items()
            }
        return _part(tensors, "best.")

    def _said(self, rows: list[list[int]], device: torch.device) -> torch.Tensor:
        """What the network says of tokenised questions."""
        ids, counts = padded(rows, PAD)
        return self._forward(ids.to(device), counts.to(device))

    def _answers(self, rows: list[list[int]], device: torch.device) -> Array:
        """The same without gradients, in batches; float64, shape ``(len(rows),)``."""
        self.network.eval()
        answer = np.empty(len(rows))
        with torch.inference_mode():
            for batch in batches([len(row) for row in rows], 64):
                answer[batch] = self._said([rows[i] for i in batch], device).double().cpu().numpy()
        return answer

    def predict(self, texts: Sequence[str]) -> Forecasts:
        """See :class:`~clear_lib.predictor.Predictor`."""
        if self.network is None:
            raise RuntimeError("fit the predictor before it predicts")
        device = best_device()
        self.network.to(device)
        answer = self._answers(self._tokens(texts), device)
        self.network.to("cpu")  # the GPU is for the reasoner
        return Forecasts(np.exp(self.center + self.scale * answer))

    @property
    def weights(self) -> int:
        """Weights in use: all but the tables of embeddings, of which a token reads one row."""
        tables = [module.weight for module in self.network.modules() if isinstance(module, nn.Embedding)]
        return sum(p.numel() for p in self.network.parameters()) - sum(table.numel() for table in tables)

    def cost(self, texts: Sequence[str]) -> Array:
        """Weights in use × tokens read; attention among the tokens is not counted."""
        return self.weights * np.array([len(row) for row in self._tokens(texts)], dtype=float)

    def _save(self, folder: str | Path, **state: Any) -> Path:
        state |= {"center": self.center, "scale": self.scale}
        state |= {"losses": self.losses, "validation_losses": self.validation_losses}
        folder = write_state(folder, self.kind, self.options, **state)
        weights = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, folder / "weights.safetensors")
        return folder

    def _restore(self, folder: Path, state: dict[str, Any]) -> None:
        self.center, self.scale = state["center"], state["scale"]
        self.losses, self.validation_losses = state["losses"], state["validation_losses"]
        self.network = self._empty(folder, state).eval()
        self.network.load_state_dict(load_file(folder / "weights.safetensors"))


def best_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin so, without the prefix."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def padded(rows: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token rows filled up to the longest, shape ``(n, most)``, and how many tokens each has."""
    counts = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(counts.max())), pad)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, counts


def batches(sizes: list[int], batch_size: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
    """Positions in batches of questions alike in length; with ``rng``, in random order and mixture."""
    noise = np.zeros(len(sizes)) if rng is None else rng.uniform(0, 0.3, len(sizes))
    order = np.argsort(np.log(sizes) + noise, kind="stable")
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if rng is not None:
        rng.shuffle(batches)
    return batches
