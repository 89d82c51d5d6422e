"""Batched decoding with any Hugging Face causal language model, on CPU or GPU.

The model's own forward does all the work but attention, which reads a cache of ours. Requests enter in
*cohorts* of similar length that share their columns of the cache. One forward advances every cohort by one
token, and takes in the prompts of a new one, as a single packed row of tokens, so that the matrix products see
no padding between cohorts and attention reads no further than each cohort has come. A finished request leaves
at once; when enough have left, the next cohort enters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import transformers
from transformers import AttentionInterface, AutoModelForCausalLM

from clear_lib.engines import Completion, ModelEngine, Request
from clear_lib.engines.errors import plainly

#: Columns by which a cohort's cache starts larger than its prompts; it then grows by doubling.
HEADROOM = 128

#: A new cohort enters when this fraction of the batch is free.
REFILL = 1 / 8

#: As many batches of requests as are looked ahead at, and sorted, so that those of similar length enter together.
AHEAD = 4

#: A request that has ended: its number, its tokens, and whether the model ended it.
Ended = tuple[int, list[int], bool]


class Cohort:
    """Requests that entered together: their tokens, left-padded to one width, and their cached keys and values.

    Row ``r`` of every tensor belongs to request ``requests[r]``; all rows have generated ``made`` tokens.
    """

    def __init__(
        self,
        requests: np.ndarray,
        prompts: list[list[int]],
        limits: torch.Tensor,
        uniforms: torch.Tensor | None,
        layers: int,
        dtype: torch.dtype,
        device: torch.device,
    ):
        width = max(map(len, prompts))
        self.requests, self.limits, self.uniforms = requests, limits, uniforms
        self.pads = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        self.fresh = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
        self.output = torch.zeros((len(prompts), int(limits.max())), dtype=torch.int64, device=device)
        self.made = self.filled = 0
        self.keys: list[torch.Tensor | None] = [None] * layers
        self.values: list[torch.Tensor | None] = [None] * layers
        self.dtype = dtype
        self.padded = bool(self.pads.any())
        self._set_bias()

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def positions(self) -> torch.Tensor:
        """Position of each fresh token in its own sequence, shape ``(rows, width)``."""
        columns = torch.arange(self.filled, self.filled + self.fresh.shape[1], device=self.fresh.device)
        return (columns - self.pads[:, None]).clamp_(min=0)

    def _set_bias(self) -> None:
        """What attention adds to the scores: 0 where a fresh token may look, -inf where it may not."""
        width = self.fresh.shape[1]
        if width == 1 and not self.padded:
            self.bias = None
            return
        end = self.filled + width
        columns = torch.arange(end, device=self.fresh.device)
        visible = (columns >= self.pads[:, None])[:, None, :]
        if width > 1:
            own = columns[self.filled :, None]
            visible = visible & (columns <= own) | (columns == own)  # padding sees itself: no row may be empty
        self.bias = torch.zeros(visible.shape, dtype=self.dtype, device=columns.device)
        self.bias.masked_fill_(~visible, -torch.inf)

    def _store(self, cache: list[torch.Tensor | None], layer: int, fresh: torch.Tensor) -> torch.Tensor:
        """Append fresh keys or values, shape ``(rows, heads, width, size)``, and return all that are stored."""
        rows, heads, width, size = fresh.shape
        end = self.filled + width
        store = cache[layer]
        if store is None or end > store.shape[2]:  # zeros: padding must not poison the products with a NaN
            longer = fresh.new_zeros((rows, heads, max(2 * self.filled, end + HEADROOM), size))
            if store is not None:
                longer[:, :, : self.filled] = store[:rows, :, : self.filled]
            cache[layer] = store = longer
        store[:rows, :, self.filled : end] = fresh
        return store[:rows, :, :end]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attention of this cohort's part of the packed row; ``(heads, tokens, size)`` in and out."""
        rows, width = self.fresh.shape
        key, value = (
            self._store(cache, layer, part.unflatten(1, (rows, width)).transpose(0, 1))
            for cache, part in ((self.keys, key), (self.values, value))
        )
        heads, groups = key.shape[1], query.shape[0] // key.shape[1]
        # Query heads that share a key head are stacked as if they were more tokens: nothing is copied.
        query = query.unflatten(1, (rows, width)).unflatten(0, (heads, groups)).permute(2, 0, 1, 3, 4)
        bias = (
            None if self.bias is None else self.bias.repeat(1, groups, 1)[:, None] if width > 1 else self.bias[:, None]
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query.flatten(2, 3), key, value, attn_mask=bias, scale=scaling
        )
        return mixed.unflatten(2, (groups, width)).permute(1, 2, 0, 3, 4).reshape(heads * groups, rows * width, -1)

    def advance(self, tokens: torch.Tensor, ends: torch.Tensor) -> list[Ended]:
        """Take the next token of every row; return ``(request, tokens, ended by itself)`` of those that left."""
        self.output[:, self.made] = tokens
        self.made += 1
        self.filled += self.fresh.shape[1]
        self.fresh = tokens[:, None]
        ended = torch.isin(tokens, ends)
        done = ended | (self.limits <= self.made)
        left = []
        if done.any():
            gone = done.nonzero()[:, 0]
            texts, own = self.output[gone, : self.made].tolist(), ended[gone].tolist()
            left = list(zip(self.requests[gone.cpu().numpy()].tolist(), texts, own, strict=True))
            self._drop(done)
        self._set_bias()
        return left

    def _drop(self, done: torch.Tensor) -> None:
        """Close the gaps of finished rows with rows from the end, so that little is copied."""
        rows = len(done) - int(done.sum())
        holes = done[:rows].nonzero()[:, 0]
        movers = rows + (~done[rows:]).nonzero()[:, 0]
        caches = [store[:, :, : self.filled] for store in (*self.keys, *self.values)]
        for tensor in (self.fresh, self.output, self.pads, self.limits, self.uniforms, *caches):
            if tensor is not None:
                tensor[holes] = tensor[movers]
        self.requests[holes.cpu().numpy()] = self.requests[movers.cpu().numpy()]
        self.fresh, self.output, self.pads = self.fresh[:rows], self.output[:rows], self.pads[:rows]
        self.limits, self.requests = self.limits[:rows], self.requests[:rows]
        self.uniforms = None if self.uniforms is None else self.uniforms[:rows]


def cohort_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    scaling: float,
    cohorts: list[Cohort],
    sliding_window: int | None = None,
    softcap: float | None = None,
    **settings: object,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed row, ``(1, heads, tokens, size)`` to ``(1, tokens, heads, size)``, cohort by cohort."""
    if sliding_window is not None or softcap is not None:
        raise ValueError(
            f"the transformers engine does not decode models with sliding-window attention or "
            f"soft-capped scores (sliding_window={sliding_window}, softcap={softcap})"
        )
    counts = [cohort.fresh.numel() for cohort in cohorts]
    parts = zip(cohorts, *(part[0].split(counts, dim=1) for part in (query, key, value)), strict=True)
    mixed = [cohort.attend(module.layer_idx, *part, scaling) for cohort, *part in parts]
    return torch.cat(mixed, dim=1).transpose(0, 1)[None], None


AttentionInterface.register("cohorts", cohort_attention)


class TransformersEngine(ModelEngine):
    """Decode with the transformers library, greedily or by sampling.

    Parameters
    ----------
    model, revision
        See :class:`clear_lib.engines.ModelEngine`.
    dtype : str
        Of weights and activations. In float32 a completion hardly depends on its batch.
    batch_size : int
        Requests decoded at the same time.
    device : str, optional
        A GPU where there is one, else the CPU.
    """

    name = "transformers"
    version = transformers.__version__

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        dtype: str = "float32",
        batch_size: int = 256,
        device: str | None = None,
    ):
        super().__init__(model, revision)
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = getattr(torch, dtype)
        with plainly(model, revision):
            self.network = (
                AutoModelForCausalLM.from_pretrained(
                    model,
                    revision=revision,
                    dtype=self.dtype,
                    attn_implementation="cohorts",
                    use_safetensors=True,
                    trust_remote_code=False,
                )
                .to(self.device)
                .eval()
            )

    @torch.inference_mode()
    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        ids, caps = [request.prompt for request in requests], np.array([request.cap for request in requests])
        seeds = None if temperature == 0 else [request.seed for request in requests]
        longest = caps + [len(prompt) for prompt in ids]
        queue = np.lexsort((-longest, np.arange(len(ids)) // (AHEAD * self.batch_size)))
        for number, tokens, ended in self._decode(queue, ids, caps, temperature, seeds):
            yield requests[number].position, self._completion(tokens, ended)

    def _decode(
        self, queue: np.ndarray, ids: list[list[int]], caps: np.ndarray, temperature: float, seeds: Sequence[int] | None
    ) -> Iterator[Ended]:
        """The loop: admit, forward, choose, advance; yields what :meth:`Cohort.advance` returns."""
        cohorts: list[Cohort] = []
        ends = torch.tensor(sorted(self.ends), device=self.device)
        while len(queue) or cohorts:
            free = self.batch_size - sum(map(len, cohorts))
            if len(queue) and (not cohorts or free >= REFILL * self.batch_size):
                cohorts.append(self._admit(queue[:free], ids, caps, seeds))
                queue = queue[free:]
            counts = np.cumsum([0, *(cohort.fresh.numel() for cohort in cohorts)])
            last = torch.cat(
                [
                    torch.arange(start + cohort.fresh.shape[1] - 1, end, cohort.fresh.shape[1])
                    for cohort, start, end in zip(cohorts, counts[:-1], counts[1:], strict=True)
                ]
            )
            logits = (
                self.network(
                    input_ids=torch.cat([cohort.fresh.flatten() for cohort in cohorts])[None],
                    position_ids=torch.cat([cohort.positions.flatten() for cohort in cohorts])[None],
                    use_cache=False,
                    logits_to_keep=last.to(self.device),
                    cohorts=cohorts,
                )
                .logits[0]
                .float()
            )
            chosen = (
                logits.argmax(dim=-1)
                if temperature == 0
                else sample(logits / temperature, torch.cat([cohort.uniforms[:, cohort.made] for cohort in cohorts]))
            )
            for cohort, tokens in zip(cohorts, chosen.split([len(cohort) for cohort in cohorts]), strict=True):
                yield from cohort.advance(tokens, ends)
            cohorts = [cohort for cohort in cohorts if len(cohort)]

    def _admit(
        self, requests: np.ndarray, ids: list[list[int]], caps: np.ndarray, seeds: Sequence[int] | None
    ) -> Cohort:
        """A new cohort, with one uniform number per request and token where it will sample."""
        uniforms = None
        if seeds is not None:
            longest = int(caps[requests].max())
            uniforms = torch.from_numpy(
                np.stack([np.random.default_rng(int(seeds[request])).random(longest) for request in requests])
            ).to(self.device)
        return Cohort(
            requests.copy(),
            [ids[request] for request in requests],
            torch.from_numpy(caps[requests]).to(self.device),
            uniforms,
            self.network.config.num_hidden_layers,
            self.dtype,
            self.device,
        )


def sample(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token per row by inverting the cumulative distribution at ``uniforms``, shape ``(rows,)``."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    tokens = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    return tokens.clamp_(max=logits.shape[-1] - 1)
