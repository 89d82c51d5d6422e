"""The training of networks: it goes on after a kill, keeps the best epoch, and leaves nothing that could run code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from test_predictor import questions

from clear_lib import predictor
from clear_lib.predictor import network

ROOT = Path(__file__).resolve().parents[2]

ENCODER = "encoder", {"width": 16, "layers": 1, "epochs": 8, "validation": 0.1}
DEBERTA = "deberta", {"width": 32, "layers": 1, "epochs": 8, "learning_rate": 5e-3}
both = pytest.mark.parametrize("forecaster", [ENCODER, DEBERTA], ids=lambda f: f[0])

#: Trains as its arguments say, and saves the predictor.
TRAIN = """
import json, sys
from clear_lib import predictor
kind, options, questions, checkpoints, folder = sys.argv[1:]
texts, lengths = json.load(open(questions))
predictor.build(kind, json.loads(options), seed=3, checkpoints=checkpoints).fit(texts, lengths).save(folder)
"""


def training(forecaster, folder, name):
    """A process that trains, with checkpoints and result in folders called ``name``."""
    texts, lengths = questions(240, 0)
    (folder / "questions.json").write_text(json.dumps([texts, lengths.tolist()]))
    paths = [folder / "questions.json", folder / f"{name}-checkpoints", folder / name]
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, forecaster[0], json.dumps(forecaster[1]), *map(str, paths)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


@pytest.mark.slow
@both
def test_training_goes_on_after_a_kill_to_the_same_weights(forecaster, tmp_path):
    whole, killed = (training(forecaster, tmp_path, name) for name in ("whole", "killed"))
    folder = tmp_path / "killed-checkpoints"
    while not list(folder.glob("*.safetensors")):
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "killed").exists()
    (checkpoint,) = folder.glob("*.safetensors")
    with safe_open(checkpoint, "pt") as file:
        done = len(json.loads(file.metadata()["state"])["losses"])
    assert 1 <= done < 8

    resumed = training(forecaster, tmp_path, "killed")
    shown = resumed.communicate()[1]
    assert resumed.returncode == 0 and whole.wait() == 0, shown
    steps = [tuple(map(int, step)) for step in re.findall(r"\| (\d+)/(\d+) \[", shown)]
    assert steps[0][0] == done * steps[0][1] // 8, "it began where the checkpoint was"
    assert not list(folder.glob("*.safetensors")), "a finished training needs no checkpoint"

    weights, expected = (load_file(tmp_path / name / "weights.safetensors") for name in ("killed", "whole"))
    assert weights.keys() == expected.keys() and all(torch.equal(weights[name], expected[name]) for name in weights)
    assert (tmp_path / "killed" / "predictor.json").read_text() == (tmp_path / "whole" / "predictor.json").read_text()


@both
def test_checkpoints_hold_no_pickle_and_other_questions_do_not_find_them(forecaster, tmp_path, monkeypatch):
    made, stop = predictor.build(*forecaster, checkpoints=tmp_path), RuntimeError("stopped by the test")
    write = made._write_checkpoint

    def write_and_stop(*arguments):
        write(*arguments)
        raise stop

    monkeypatch.setattr(made, "_write_checkpoint", write_and_stop)
    texts, lengths = questions(60, 0)
    with pytest.raises(RuntimeError, match="stopped by the test"):
        made.fit(texts, lengths)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".safetensors" and {name.split(".")[0] for name in load_file(path)} == {
        "network",
        "optimizer",
        "best",
        "random",
    }

    fresh = predictor.build(*forecaster, checkpoints=tmp_path).fit(texts, 2 * lengths)
    alone = predictor.build(*forecaster).fit(texts, 2 * lengths)
    assert fresh.losses == alone.losses and list(tmp_path.iterdir()) == [path]
    resumed = predictor.build(*forecaster, checkpoints=tmp_path).fit(texts, lengths)
    assert resumed.losses == predictor.build(*forecaster).fit(texts, lengths).losses
    assert list(tmp_path.iterdir()) == []


@both
def test_the_best_epoch_stays(forecaster):
    """Pure noise: what is learnt by heart makes the questions kept out worse."""
    texts, _ = questions(80, 0)
    lengths = np.random.default_rng(0).lognormal(3, 1, 80)
    made = predictor.build(*forecaster).fit(texts, lengths)
    losses = made.validation_losses
    assert len(losses) == len(made.losses) == 8
    out = predictor.held_out(texts, 0.1, 0)
    kept = [text for text, apart in zip(texts, out, strict=True) if apart]
    error = (np.log(made.predict(kept).threshold) - np.log(lengths[out])) / made.scale
    assert np.square(error).mean() == pytest.approx(min(losses), rel=1e-4)


@both
def test_bfloat16_trains_too_and_keeps_its_weights_in_float32(forecaster, monkeypatch):
    texts, lengths = questions(150, 0)
    exact = predictor.build(*forecaster).fit(texts, lengths)
    monkeypatch.setattr(network, "BFLOAT16", ("cuda", "cpu"))
    made = predictor.build(*forecaster).fit(texts, lengths)
    assert {weight.dtype for weight in made.network.parameters()} == {torch.float32}
    assert made.losses != exact.losses and made.losses == pytest.approx(exact.losses, rel=0.25)


def test_the_learning_rate_rises_and_falls(monkeypatch):
    rates, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self))[1]
    )
    texts, lengths = questions(64, 0)
    options = {"width": 16, "layers": 1, "epochs": 20, "batch_size": 16, "learning_rate": 1.0, "weight_decay": 0.01}
    predictor.build("encoder", options).fit(texts, lengths)
    assert rates[:7] == pytest.approx([1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8])
    assert rates[7:] == pytest.approx(np.arange(73, 0, -1) / 80)
