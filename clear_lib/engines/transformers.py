"""Batched decoding with any Hugging Face causal language model, on CPU or GPU.

The model's own forward does all the work but attention, which reads a cache of ours. Requests enter in
*cohorts* of similar length that share their columns of the cache. One forward advances every cohort by one
token, and takes in the prompts of a new one, as a single packed row of tokens, so that the matrix products see
no padding between cohorts and attention reads no further than each cohort has come. A finished request leaves
at once; when enough have left, the next cohort enters.

The products of a small model are too small to share among threads, and threads that wait for each other spin. So
on a CPU a small model is decoded by several processes of one thread each, every one with its share of the requests.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer

from clear_lib.engines import Completion, Engine

#: Columns by which a cohort's cache starts larger than its prompts; it then grows by doubling.
HEADROOM = 128

#: A new cohort enters when this fraction of the batch is free.
REFILL = 1 / 8

#: A model of fewer parameters than this counts as small, and from this many requests on it gets help.
SMALL, HELP_FROM = 30_000_000, 256

#: A request that has ended: its number, its tokens, and whether the model ended it.
Ended = tuple[int, list[int], bool]


class Cohort:
    """Requests that entered together: their tokens, left-padded to one width, and their cached keys and values.

    Row ``r`` of every tensor belongs to request ``requests[r]``; all rows have generated ``made`` tokens.
    """

    def __init__(self, requests: np.ndarray, prompts: list[list[int]], limits: torch.Tensor,
                 uniforms: torch.Tensor | None, layers: int, dtype: torch.dtype, device: torch.device):
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

    def attend(self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
               scaling: float) -> torch.Tensor:
        """Attention of this cohort's part of the packed row; ``(heads, tokens, size)`` in and out."""
        rows, width = self.fresh.shape
        key, value = (self._store(cache, layer, part.unflatten(1, (rows, width)).transpose(0, 1))
                      for cache, part in ((self.keys, key), (self.values, value)))
        heads, groups = key.shape[1], query.shape[0] // key.shape[1]
        # Query heads that share a key head are stacked as if they were more tokens: nothing is copied.
        query = query.unflatten(1, (rows, width)).unflatten(0, (heads, groups)).permute(2, 0, 1, 3, 4)
        bias = None if self.bias is None else self.bias.repeat(1, groups, 1)[:, None] if width > 1 else self.bias[:, None]
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query.flatten(2, 3), key, value, attn_mask=bias, scale=scaling)
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


def cohort_attention(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
                     attention_mask: None, scaling: float, cohorts: list[Cohort], sliding_window: int | None = None,
                     softcap: float | None = None, **settings: object) -> tuple[torch.Tensor, None]:
    """Attention over a packed row, ``(1, heads, tokens, size)`` to ``(1, tokens, heads, size)``, cohort by cohort."""
    if sliding_window is not None or softcap is not None:
        raise ValueError(f"the transformers engine does not decode models with sliding-window attention or "
                         f"soft-capped scores (sliding_window={sliding_window}, softcap={softcap})")
    counts = [cohort.fresh.numel() for cohort in cohorts]
    parts = zip(cohorts, *(part[0].split(counts, dim=1) for part in (query, key, value)), strict=True)
    mixed = [cohort.attend(module.layer_idx, *part, scaling) for cohort, *part in parts]
    return torch.cat(mixed, dim=1).transpose(0, 1)[None], None


AttentionInterface.register("cohorts", cohort_attention)


class TransformersEngine(Engine):
    """Decode with the transformers library, greedily or by sampling.

    Parameters
    ----------
    model : str
        Folder of a checkpoint, or its name on the hub.
    revision : str, optional
        Revision on the hub.
    dtype : str
        Of weights and activations. In float32 a completion hardly depends on its batch.
    batch_size : int
        Requests decoded at the same time.
    device : str, optional
        A GPU where there is one, else the CPU.
    processes : int, optional
        Processes that share many requests, each with batches of its own and one thread. By default one per core
        for a small model on a CPU, else 1, which leaves the number of threads alone.
    """

    name = "transformers"

    def __init__(self, model: str, revision: str | None = None, dtype: str = "float32", batch_size: int = 256,
                 device: str | None = None, processes: int | None = None):
        self.version = transformers.__version__
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = getattr(torch, dtype)
        self.tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        self.model = AutoModelForCausalLM.from_pretrained(
            model, revision=revision, dtype=self.dtype, attn_implementation="cohorts").to(self.device).eval()
        self.context = self.model.config.max_position_embeddings
        ends = self.model.generation_config.eos_token_id
        self.ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=self.device)
        small = self.device.type == "cpu" and self.model.num_parameters() < SMALL
        self.processes = processes or (_cores() if small else 1)
        self._settings = {"model": model, "revision": revision, "dtype": dtype, "batch_size": batch_size,
                          "device": str(self.device), "processes": 1}
        self._helpers: list[_Helper] = []

    @torch.inference_mode()
    def stream(self, prompts: Sequence[str], max_tokens: Sequence[int], temperature: float = 0.0,
               seeds: Sequence[int] | None = None, progress: str | None = None) -> Iterator[tuple[int, Completion]]:
        """See :meth:`clear_lib.engines.Engine.stream`."""
        caps = np.asarray(max_tokens)
        if caps.size and not np.issubdtype(caps.dtype, np.integer):
            raise ValueError(f"caps must be whole numbers of tokens, not {caps.dtype}")
        caps = caps.astype(np.int64)
        if caps.shape != (len(prompts),) or (seeds is not None and len(seeds) != len(prompts)):
            raise ValueError(f"{len(prompts)} prompts need as many caps and seeds, not {caps.shape} caps and "
                             f"{'no' if seeds is None else len(seeds)} seeds")
        if temperature < 0 or (temperature > 0 and seeds is None):
            raise ValueError(f"temperature {temperature}: must be 0, or positive with one seed per prompt")
        ids = [self.tokenizer(prompt).input_ids for prompt in prompts]
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        for position in np.flatnonzero((caps < 0) | (lengths + caps > self.context) | (lengths == 0)):
            raise ValueError(f"prompt {position}: {lengths[position]} tokens and a cap of {caps[position]}; the prompt "
                             f"must not be empty, the cap not negative, and both fit the context of {self.context}")
        for position in np.flatnonzero(caps == 0):
            yield int(position), Completion("", (), "length")
        order = np.argsort(-(lengths + caps), kind="stable")  # the longest first: no straggler at the end
        requests = order[caps[order] > 0]
        bar = tqdm(total=len(requests), desc=progress, unit=" completions", disable=progress is None, mininterval=2.0)
        tokens = 0
        for request, row, ended in self._shared(requests, ids, caps, temperature, seeds):
            tokens += len(row)
            bar.set_postfix_str(f"{tokens / max(bar.format_dict['elapsed'], 1e-9):,.0f} tokens/s", refresh=False)
            bar.update()
            text = self.tokenizer.decode(row, skip_special_tokens=True)
            yield request, Completion(text, tuple(row), "stop" if ended else "length")
        bar.close()

    def _shared(self, requests: np.ndarray, ids: list[list[int]], caps: np.ndarray, temperature: float,
                seeds: Sequence[int] | None) -> Iterator[Ended]:
        """Decode a share of the requests here and the others in helpers, one thread each."""
        if self.processes == 1:
            yield from self._decode(requests, ids, caps, temperature, seeds)
            return
        count = self.processes if len(requests) >= HELP_FROM else 1
        while len(self._helpers) < count - 1:
            self._helpers.append(_Helper(self._settings))
            weakref.finalize(self, self._helpers[-1].stop)
        helpers, results = self._helpers[: count - 1], queue.SimpleQueue()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for part, helper in enumerate(helpers, 1):
                helper.ask((requests[part::count], ids, caps, temperature, seeds), results)
            working = len(helpers)
            for ended in self._decode(requests[::count], ids, caps, temperature, seeds):
                yield ended
                while not results.empty():
                    if (other := results.get()) is None:
                        working -= 1
                    else:
                        yield other
            while working:
                if (other := results.get()) is None:
                    working -= 1
                else:
                    yield other
            if not all(helper.idle for helper in helpers):
                raise RuntimeError("a process that decodes has ended too early; was it killed, or out of memory?")
        finally:
            torch.set_num_threads(threads)
            for helper in helpers:
                if not helper.idle:  # it died, or nobody waits for the rest
                    helper.stop()
                    self._helpers.remove(helper)

    def _decode(self, queue: np.ndarray, ids: list[list[int]], caps: np.ndarray, temperature: float,
                seeds: Sequence[int] | None) -> Iterator[Ended]:
        """The loop: admit, forward, choose, advance; yields what :meth:`Cohort.advance` returns."""
        cohorts: list[Cohort] = []
        while len(queue) or cohorts:
            free = self.batch_size - sum(map(len, cohorts))
            if len(queue) and (not cohorts or free >= REFILL * self.batch_size):
                cohorts.append(self._admit(queue[:free], ids, caps, seeds))
                queue = queue[free:]
            counts = np.cumsum([0, *(cohort.fresh.numel() for cohort in cohorts)])
            last = torch.cat([torch.arange(start + cohort.fresh.shape[1] - 1, end, cohort.fresh.shape[1])
                              for cohort, start, end in zip(cohorts, counts[:-1], counts[1:], strict=True)])
            logits = self.model(
                input_ids=torch.cat([cohort.fresh.flatten() for cohort in cohorts])[None],
                position_ids=torch.cat([cohort.positions.flatten() for cohort in cohorts])[None],
                use_cache=False, logits_to_keep=last.to(self.device), cohorts=cohorts).logits[0].float()
            chosen = logits.argmax(dim=-1) if temperature == 0 else sample(logits / temperature, torch.cat(
                [cohort.uniforms[:, cohort.made] for cohort in cohorts]))
            for cohort, tokens in zip(cohorts, chosen.split([len(cohort) for cohort in cohorts]), strict=True):
                yield from cohort.advance(tokens, self.ends)
            cohorts = [cohort for cohort in cohorts if len(cohort)]

    def _admit(self, requests: np.ndarray, ids: list[list[int]], caps: np.ndarray,
               seeds: Sequence[int] | None) -> Cohort:
        """A new cohort, with one uniform number per request and token where it will sample."""
        uniforms = None
        if seeds is not None:
            longest = int(caps[requests].max())
            uniforms = torch.from_numpy(np.stack(
                [np.random.default_rng(int(seeds[request])).random(longest) for request in requests])).to(self.device)
        return Cohort(requests.copy(), [ids[request] for request in requests],
                      torch.from_numpy(caps[requests]).to(self.device), uniforms,
                      self.model.config.num_hidden_layers, self.dtype, self.device)


def sample(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """One token per row by inverting the cumulative distribution at ``uniforms``, shape ``(rows,)``."""
    cumulative = logits.double().softmax(dim=-1).cumsum(dim=-1)
    tokens = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True)[:, 0]
    return tokens.clamp_(max=logits.shape[-1] - 1)


class _Helper:
    """A process that decodes, one job after another; it ends when this process does.

    Attributes
    ----------
    idle : bool
        Whether it has finished what it was asked.
    """

    def __init__(self, settings: dict[str, object]):
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen([sys.executable, "-c", f"from {__name__} import help_out; help_out()"],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
        self.idle = True
        self._send(settings)

    def _send(self, message: object) -> None:
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def ask(self, job: tuple, results: queue.SimpleQueue[Ended | None]) -> None:
        """Start a job, the arguments of ``_decode``; its results come into the queue, None as the last."""
        self.idle = False

        def read() -> None:
            try:
                while (ended := pickle.load(self._process.stdout)) is not None:
                    results.put(ended)
                self.idle = True
            except (EOFError, ValueError, pickle.UnpicklingError):  # it died, or was stopped
                pass
            results.put(None)

        try:
            self._send(job)
        except BrokenPipeError:  # it died before: the reader will say so
            pass
        threading.Thread(target=read, daemon=True).start()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()


def help_out() -> None:
    """The loop of a helper: settings, then jobs, come from the standard input; what has ended goes to the output."""
    output, sys.stdout = sys.stdout.buffer, sys.stderr
    engine = TransformersEngine(**pickle.load(sys.stdin.buffer))
    torch.set_num_threads(1)
    try:
        while True:
            job = pickle.load(sys.stdin.buffer)
            with torch.inference_mode():
                for ended in engine._decode(*job):
                    pickle.dump(ended, output)
                    output.flush()
            pickle.dump(None, output)
            output.flush()
    except (EOFError, BrokenPipeError):  # nobody is left to help
        os._exit(0)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
