"""vLLM in this process: continuous batching, prefix caching, several GPUs."""

import os
from collections.abc import Iterator
from typing import Any

from clear_lib.engines import Completion, ModelEngine, Request
from clear_lib.hub import ModelError, explained, needs

# In one process an exception keeps its cause, and requests are scheduled the same way every time.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")

with needs("vllm"):
    import vllm


class VLLMEngine(ModelEngine):
    """Decode with vLLM, greedily or by sampling, at most ``batch_size`` requests at the same time.

    ``dtype`` is that of weights and activations (``"auto"``: the checkpoint's); ``options`` are those of
    :class:`vllm.LLM`, such as ``tensor_parallel_size``, ``max_model_len`` or ``gpu_memory_utilization``. Prefixes are
    cached: continuing a paused completion does not read its tokens again, if ``block_size`` is below its length, since
    only full blocks are kept. ``cached`` counts the tokens, prompts and generated, that were found in that cache.
    """

    name = "vllm"
    version = vllm.__version__

    def __init__(
        self, model: str, revision: str | None = None, dtype: str = "auto", batch_size: int = 256, **options: Any
    ):
        super().__init__(model, revision, batch_size)
        settings = {"dtype": dtype, "revision": revision, "tokenizer_revision": revision, "max_num_seqs": batch_size}
        fixed = {"enable_prefix_caching": True, "load_format": "safetensors", "disable_log_stats": True}
        with explained(model, revision):
            try:
                self.llm = vllm.LLM(model, trust_remote_code=False, **settings, **fixed, **options)
            except TypeError as error:
                raise ModelError(f"vLLM does not take these engine_options: {error}") from error
        self.context = self.llm.llm_engine.model_config.max_model_len
        self.cached = 0

    def _complete(self, requests: list[Request], temperature: float) -> Iterator[tuple[int, Completion]]:
        engine = self.llm.llm_engine
        if engine.has_unfinished_requests():
            raise ModelError("vLLM is still busy with another stream; finish or close that first")
        parameters = [
            vllm.SamplingParams(temperature=temperature, seed=request.seed, max_tokens=request.cap, detokenize=False)
            for request in requests
        ]
        # `LLM.generate` returns when all have ended, its engine step by step. An output has the id without its suffix.
        prompts = [{"prompt_token_ids": request.prompt} for request in requests]
        names = self.llm.enqueue(prompts, parameters, use_tqdm=False)
        running = {name.partition("-")[0]: (name, request) for name, request in zip(names, requests, strict=True)}
        try:
            while running:
                for done in engine.step():
                    _, request = running.pop(done.request_id)
                    self.cached += done.num_cached_tokens or 0
                    output = done.outputs[0]
                    yield request.position, self._completion(output.token_ids, output.finish_reason == "stop")
        finally:
            engine.abort_request([name for name, _ in running.values()], internal=True)
