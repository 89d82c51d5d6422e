"""The same completions, spread over a Ray cluster."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

from clear_lib.allocation.problem import number
from clear_lib.engines import ENGINES, Completion, ModelEngine, Request
from clear_lib.hub import ModelError, needs

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent

with needs("ray"):
    import ray
    from ray.util import ActorPool


class Worker:
    """One engine on the cluster. Its answers depend on the requests alone: a batch can be repeated elsewhere."""

    def __init__(self, engine: type[ModelEngine], settings: dict[str, Any]):
        self.engine = engine(**settings)

    def complete(self, requests: list[Request], temperature: float) -> list[tuple[int, Completion]]:
        return list(self.engine._complete(requests, temperature))


class RayEngine(ModelEngine):
    """Spread batches of requests over Ray's workers, each with a model of its own.

    A worker or machine that dies is replaced and its batch repeated; a batch counts only when all of it is done, so no
    completion is lost or duplicated. Workers start anew for each stream: this engine is for recording large sets, not
    for serving step by step.

    Parameters
    ----------
    engine : {"transformers", "vllm"}
        Engine of the workers; ``model``, ``revision``, ``dtype``, ``batch_size`` and ``options`` are its own. Requests
        travel in batches of at most ``batch_size``.
    workers, gpus : int, float
        How many, and the GPUs of each; for several (``tensor_parallel_size``) as many.
    address : str, optional
        Of the cluster (``"auto"`` on a machine of it); without it, a cluster on this machine.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        dtype: str = "float32",
        batch_size: int = 256,
        engine: str = "transformers",
        workers: int = 2,
        gpus: float = 0,
        address: str | None = None,
        **options: Any,
    ):
        if engine not in ("transformers", "vllm"):
            raise ModelError(f"Ray's workers run 'transformers' or 'vllm', not {engine!r}")
        self.workers = number("workers", workers, low=1, whole=True)
        self.gpus = number("gpus", gpus, low=0)
        super().__init__(model, revision, batch_size)
        self.context = options.get("max_model_len", self.context)
        self.worker = getattr(importlib.import_module(f"clear_lib.engines.{engine}"), ENGINES[engine])
        self.name, self.version = f"ray+{engine}", f"{ray.__version__}+{self.worker.version}"
        self.settings = {"model": model, "revision": revision, "dtype": dtype, "batch_size": batch_size, **options}
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False)

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        size = min(self.batch_size, -(-len(requests) // self.workers))
        batches = [requests[start : start + size] for start in range(0, len(requests), size)]
        forever = {"max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": "SPREAD"}
        remote = ray.remote(num_gpus=self.gpus, **forever)(Worker)
        pool = ActorPool([remote.remote(self.worker, self.settings) for _ in batches[: self.workers]])
        for completed in pool.map_unordered(lambda worker, batch: worker.complete.remote(batch, temperature), batches):
            yield from completed
