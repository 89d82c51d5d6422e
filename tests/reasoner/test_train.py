"""Training runs from end to end and gives the same checkpoint from the same seed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def train(folder, seed):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "clear_lib.reasoner.train",
        "--tokens",
        "60000",
        "--seed",
        str(seed),
        "--out",
        str(folder),
    ]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return run.stderr, (folder / "model.safetensors").read_bytes(), json.loads((folder / "training.json").read_text())


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    return train(tmp_path_factory.mktemp("once"), 3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(once, tmp_path):
    _, weights, record = once
    _, again, record_again = train(tmp_path / "again", 3)
    assert weights == again
    assert [row["loss"] for row in record["loss"]] == [row["loss"] for row in record_again["loss"]]
    assert train(tmp_path / "other", 4)[1] != weights


def test_it_shows_progress_and_saves_its_recipe(once):
    printed, _, record = once
    assert "/60.0k [" in printed and "tokens/s" in printed and "loss=" in printed
    assert record["recipe"]["seed"] == 3 and record["recipe"]["tokens"] == 60_000
    assert record["loss"][-1]["tokens"] >= 60_000 and record["loss"][-1]["loss"] < 8
