"""Batched decoding with any Hugging Face causal language model, on CPU or GPU.

The model's own forward does all the work but attention, which reads a cache of ours. Requests enter in *cohorts* of
similar length that share their columns of the cache. One forward advances every cohort by one token, and reads the
prompts of a new one, as a single packed row of tokens, so that the matrix products see no padding between cohorts and
attention reads no further than each cohort has come. A finished request leaves at once; when enough have left, the
next cohort enters.
"""

from collections.abc import Iterator

import numpy as np

from clear_lib.engines import Completion, ModelEngine, Request
from clear_lib.hub import ModelError, explained, first_line, needs, quiet

with needs("engines"):
    import torch
    import transformers
    from transformers import AttentionInterface, AutoModelForCausalLM

#: Columns by which a cohort's cache starts larger than its prompts; it then grows by doubling.
HEADROOM = 128

#: A new cohort enters when this fraction of the batch is free.
REFILL = 1 / 8

#: Requests are sorted by length in windows of this many batches, so that those of similar length enter together.
AHEAD = 4

DTYPES = ("float32", "bfloat16", "float16")


class Cohort:
    """Requests that entered together: their tokens, left-padded to one width, and their cached keys and values.

    Row ``r`` of every tensor belongs to the request at ``positions[r]``; all rows have generated ``made`` tokens.
    """

    def __init__(self, requests: list[Request], sampled: bool, dtype: torch.dtype, device: torch.device):
        prompts, longest = [request.prompt for request in requests], max(request.cap for request in requests)
        width = max(map(len, prompts))
        draws = [np.random.default_rng(request.seed).random(longest if sampled else 0) for request in requests]
        self.dtype, self.made, self.filled = dtype, 0, 0
        self.positions = torch.tensor([request.position for request in requests], device=device)
        self.limits = torch.tensor([request.cap for request in requests], device=device)
        self.pads = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        self.fresh = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=device)
        self.uniforms = torch.from_numpy(np.array(draws)).to(device)
        self.output = torch.zeros((len(prompts), longest), dtype=torch.int64, device=device)
        self.cache: dict[tuple[int, str], torch.Tensor] = {}
        self._set_bias()

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def position_ids(self) -> torch.Tensor:
        """Position of each fresh token in its own sequence, shape ``(rows, width)``."""
        columns = torch.arange(self.filled, self.filled + self.fresh.shape[1], device=self.fresh.device)
        return (columns - self.pads[:, None]).clamp_(min=0)

    def _set_bias(self) -> None:
        """Set what attention adds to the scores: 0 where a fresh token may look, -inf where it may not."""
        columns = torch.arange(self.filled + self.fresh.shape[1], device=self.fresh.device)
        own = columns[self.filled :, None]
        visible = (columns >= self.pads[:, None, None]) & (columns <= own)
        visible |= columns == own  # padding sees itself: no row may be empty
        self.bias = torch.zeros(visible.shape, dtype=self.dtype, device=columns.device)
        self.bias.masked_fill_(~visible, -torch.inf)

    def _store(self, layer: int, kind: str, fresh: torch.Tensor) -> torch.Tensor:
        """Append fresh keys or values, shape ``(rows, heads, width, size)``, and return all that are stored."""
        rows, heads, width, size = fresh.shape
        end = self.filled + width
        store = self.cache.get((layer, kind), fresh[:, :, :0])
        if end > store.shape[2]:  # zeros: padding must not poison the products with a NaN
            longer = fresh.new_zeros((rows, heads, max(2 * self.filled, end + HEADROOM), size))
            longer[:, :, : self.filled] = store[:rows, :, : self.filled]
            self.cache[layer, kind] = store = longer
        store[:rows, :, self.filled : end] = fresh
        return store[:rows, :, :end]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Attention of this cohort's part of the packed row; ``(heads, tokens, size)`` in and out."""
        rows, width = self.fresh.shape
        key = self._store(layer, "key", key.unflatten(1, (rows, width)).transpose(0, 1))
        value = self._store(layer, "value", value.unflatten(1, (rows, width)).transpose(0, 1))
        heads, groups = key.shape[1], query.shape[0] // key.shape[1]
        # Query heads that share a key head are stacked as if they were more tokens: nothing is copied.
        query = query.unflatten(1, (rows, width)).unflatten(0, (heads, groups)).permute(2, 0, 1, 3, 4).flatten(2, 3)
        bias = self.bias.repeat(1, groups, 1)[:, None]
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=scaling)
        return mixed.unflatten(2, (groups, width)).permute(1, 2, 0, 3, 4).reshape(heads * groups, rows * width, -1)

    def advance(self, tokens: torch.Tensor, ends: torch.Tensor) -> list[tuple[int, list[int], bool]]:
        """Append the next token of every row; remove requests that have ended: position, tokens, and if by an end."""
        self.output[:, self.made] = tokens
        self.made += 1
        self.filled += self.fresh.shape[1]
        self.fresh = tokens[:, None]
        stopped = torch.isin(tokens, ends)
        done = stopped | (self.limits <= self.made)
        ended = []
        if done.any():
            columns = self.positions[done], self.output[done, : self.made], stopped[done]
            ended = list(zip(*(column.tolist() for column in columns), strict=True))
            self._drop(done)
        self._set_bias()
        return ended

    def _drop(self, done: torch.Tensor) -> None:
        """Fill the gaps of finished rows with rows from the end, so that little is copied."""
        rows = len(done) - int(done.sum())
        gaps, movers = done[:rows].nonzero()[:, 0], rows + (~done[rows:]).nonzero()[:, 0]
        for name in ("positions", "limits", "pads", "fresh", "uniforms", "output"):
            tensor = getattr(self, name)
            tensor[gaps] = tensor[movers]
            setattr(self, name, tensor[:rows])
        for store in self.cache.values():
            store[gaps, :, : self.filled] = store[movers, :, : self.filled]


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
    """Decode with the transformers library, greedily or by sampling, ``batch_size`` requests at the same time.

    ``dtype`` is that of weights and activations; in float32 a completion hardly depends on its batch. The ``device`` is
    a GPU where there is one, else the CPU.
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
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of: {', '.join(DTYPES)}, got {dtype!r}")
        super().__init__(model, revision, batch_size)
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            torch.zeros(1, device=self.device).item()
        except Exception as error:  # each device has exceptions of its own
            raise ModelError(f"the device {device!r:.60} cannot be used: {first_line(error)}") from None
        self.dtype = getattr(torch, dtype)
        with explained(model, revision), quiet():
            ours = {"dtype": self.dtype, "attn_implementation": "cohorts", "use_safetensors": True}
            network = AutoModelForCausalLM.from_pretrained(model, revision=revision, trust_remote_code=False, **ours)
            self.network = network.to(self.device).eval()

    @torch.inference_mode()
    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        window = AHEAD * self.batch_size
        ranked = sorted(enumerate(requests), key=lambda row: (row[0] // window, -len(row[1].prompt) - row[1].cap))
        queue = [request for _, request in ranked]
        ends = torch.tensor(sorted(self.ends), device=self.device)
        cohorts: list[Cohort] = []
        while queue or cohorts:
            free = self.batch_size - sum(map(len, cohorts))
            if queue and (not cohorts or free >= REFILL * self.batch_size):
                cohorts.append(Cohort(queue[:free], temperature > 0, self.dtype, self.device))
                queue = queue[free:]
            logits = self._logits(cohorts)
            if temperature > 0:
                uniforms = torch.cat([cohort.uniforms[:, cohort.made] for cohort in cohorts])
                chosen = sample(logits / temperature, uniforms)
            else:
                chosen = logits.argmax(dim=-1)
            for cohort, tokens in zip(cohorts, chosen.split([len(cohort) for cohort in cohorts]), strict=True):
                for position, output, stopped in cohort.advance(tokens, ends):
                    yield position, self._completion(output, stopped)
            cohorts = [cohort for cohort in cohorts if len(cohort)]

    def _logits(self, cohorts: list[Cohort]) -> torch.Tensor:
        """Scores of the next token of every row, cohort after cohort, from one forward; shape ``(rows, vocabulary)``."""
        widths = np.repeat([cohort.fresh.shape[1] for cohort in cohorts], [len(cohort) for cohort in cohorts])
        output = self.network(
            input_ids=torch.cat([cohort.fresh.flatten() for cohort in cohorts])[None],
            position_ids=torch.cat([cohort.position_ids.flatten() for cohort in cohorts])[None],
            use_cache=False,
            logits_to_keep=torch.from_numpy(np.cumsum(widths) - 1).to(self.device),
            cohorts=cohorts,
        )
        return output.logits[0].float()


def sample(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token per row by inverting the cumulative distribution at ``uniforms``, shape ``(rows,)``."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    tokens = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    return tokens.clamp_(max=logits.shape[-1] - 1)
