"""A model from a GGUF file on both engines that decode here."""

import subprocess
import sys

from test_gguf import TOKENS, profile_of, weights_of, write

from clear_lib.study.setup import models

PROMPTS = ["abc x", "ab", "<|im_start|>user\nabc xab é<|im_end|>"]


def test_both_engines_take_the_file_and_agree(tmp_path, monkeypatch):
    write(tmp_path / "tiny.gguf")
    weights = weights_of(tmp_path / "tiny.gguf")
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path / "cache"))
    code = (
        "import sys; from clear_lib.study.setup import models, profiles\n"
        "_, path, repository, revision, file, sha256, *prompts = sys.argv\n"
        "engine = models.start(profiles.load('smoke', model=repository, revision=revision, engine='vllm',\n"
        "    weights={'file': file, 'sha256': sha256}, engine_options={'enforce_eager': True}), path)\n"
        "print('ends:', *engine.ends)\n"
        "for completion in engine.generate(prompts, [40] * len(prompts)): print('tokens:', *completion.tokens)"
    )
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            tmp_path,
            weights.repository,
            weights.revision,
            weights.file,
            weights.sha256,
            *PROMPTS,
        ],
        capture_output=True,
        text=True,
    )
    said = [line for line in run.stdout.splitlines() if line.startswith(("ends:", "tokens:"))]
    reference = models.start(profile_of(weights), tmp_path / "nowhere").generate(PROMPTS, [40] * len(PROMPTS))
    assert said == [f"ends: {TOKENS.index('<|im_end|>')}"] + [
        " ".join(map(str, ("tokens:", *completion.tokens))) for completion in reference
    ], run.stderr[-2000:]
    assert len(set().union(*(completion.tokens for completion in reference))) > 10  # or the test would show little
