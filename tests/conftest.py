import os
from importlib.util import find_spec

import pytest
from hypothesis import settings

# Before torch is loaded: threads that spin while they wait make a busy machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine is not a bug: no time limit for one example.
settings.register_profile("patient", deadline=None, max_examples=60)
settings.load_profile("patient")

# What needs the real vLLM has an environment of its own: `make test-vllm`.
collect_ignore = [] if find_spec("vllm") else ["on_vllm"]


@pytest.fixture(scope="session")
def taught(tmp_path_factory):
    """The folder of a forecaster that was fitted to what the embedded model wrote."""
    import numpy as np
    import pandas as pd

    from clear_lib import Budgeter, engines
    from clear_lib.predictor import fit_to_rollouts
    from clear_lib.reasoner import PROMPT, tasks

    lessons = pd.concat([tasks.questions("predictor", tier, 10) for tier in tasks.TIERS], ignore_index=True)
    wrapper = Budgeter(engines.start("transformers", "embedded"), None, "uniform", template=PROMPT, cap=200)
    written = wrapper.run(list(lessons.question), 200 * len(lessons))
    right = [f"\\boxed{{{gold}}}" in answer.text for gold, answer in zip(lessons.gold, written, strict=True)]
    lessons = lessons.assign(length=written.used, verdict=np.where(right, "correct", "wrong"), model="embedded")
    folder = tmp_path_factory.mktemp("taught")
    fit_to_rollouts(lessons).save(folder)
    return folder
