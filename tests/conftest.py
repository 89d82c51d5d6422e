from importlib.util import find_spec

from hypothesis import settings

# A busy machine is not a bug: no time limit for one example.
settings.register_profile("patient", deadline=None, max_examples=60)
settings.load_profile("patient")

# What needs the real vLLM has an environment of its own: `make test-vllm`.
collect_ignore = [] if find_spec("vllm") else ["on_vllm"]
