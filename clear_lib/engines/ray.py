"""The same completions, spread over a Ray cluster."""

import importlib
import logging
import os
from collections.abc import Iterator
from typing import Any

from clear_lib.allocation.problem import number
from clear_lib.engines import ENGINES, Completion, ModelEngine, Request
from clear_lib.hub import ModelError, needs

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent

with needs("ray"):
    import pyarrow as pa
    import ray
    import ray.data

SCHEMA = pa.schema(
    {
        "position": "int64",
        "text": "string",
        "tokens": pa.list_(pa.int64()),
        "finish_reason": "string",
        "counted": "int64",
    }
)


class Worker:
    """One engine on the cluster. Its answers depend on the requests alone: a batch can be repeated elsewhere."""

    def __init__(self, engine: type[ModelEngine], settings: dict[str, Any]):
        self.engine = engine(**settings)

    def __call__(self, batch: pa.Table, temperature: float) -> pa.Table:
        """Completions of a batch of requests, each a row."""
        completed = self.engine._complete([Request(**row) for row in batch.to_pylist()], temperature)
        rows = [{"position": position, **vars(completion)} for position, completion in completed]
        return pa.Table.from_pylist(rows, SCHEMA)


class RayEngine(ModelEngine):
    """Spread batches of requests over workers with Ray Data, each with a model of its own.

    A worker or machine that dies is replaced and its batch repeated; a batch counts only when all of it is done, so no
    completion is lost or duplicated. Workers start anew for each stream: this engine is for recording large sets, not
    for serving step by step.

    Parameters
    ----------
    engine : {"transformers", "vllm"}
        Engine of the workers; ``model``, ``revision``, ``dtype``, ``batch_size`` and ``options`` are its own. Requests
        travel in batches of ``batch_size``.
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
        number("workers", workers, low=1, whole=True)
        number("gpus", gpus, low=0)
        super().__init__(model, revision, batch_size)
        self.context = options.get("max_model_len", self.context)
        self.worker = getattr(importlib.import_module(f"clear_lib.engines.{engine}"), ENGINES[engine])
        self.name, self.version = f"ray+{engine}", f"{ray.__version__}+{self.worker.version}"
        self.workers, self.gpus = workers, gpus
        self.settings = {"model": model, "revision": revision, "dtype": dtype, "batch_size": batch_size, **options}
        if not ray.is_initialized():
            ray.init(address=address, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        batches = max(-(-len(requests) // self.batch_size), min(self.workers, len(requests)))
        rows = ray.data.from_items([request._asdict() for request in requests], override_num_blocks=batches)
        done = rows.map_batches(
            Worker,
            batch_size=None,
            batch_format="pyarrow",
            fn_kwargs={"temperature": temperature},
            fn_constructor_kwargs={"engine": self.worker, "settings": self.settings},
            compute=ray.data.ActorPoolStrategy(size=self.workers),
            num_gpus=self.gpus,
        )
        for row in done.iter_rows():
            position, tokens = row.pop("position"), tuple(row.pop("tokens"))
            yield position, Completion(**row, tokens=tokens)
