"""The frozen sentence encoder: the real one, from the package that carries it."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from clear_lib import predictor
from clear_lib.predictor import sentence

TEXTS = [f"A baker sells {n} loaves of bread every day. How many does she sell in a week?" for n in range(8)]
TEXTS += [f"Prove that the group of order {n} is cyclic if its centre has index {n}." for n in range(8)]
LENGTHS = [60] * 8 + [600] * 8


def test_it_generalises_by_meaning():
    """None of the words that tell the two kinds apart were in the training questions."""
    made = predictor.build("sentence").fit(TEXTS, LENGTHS)
    fresh = ["My sister bakes twelve cakes; what do they cost?", "Show every abelian ring is free."]
    short, long = made.predict(fresh).threshold
    assert short < long


def test_it_loads_without_a_network(tmp_path):
    predictor.build("sentence").fit(TEXTS, LENGTHS).save(tmp_path)
    code = "import sys; from clear_lib import predictor; print(predictor.load(sys.argv[1]).predict(['How many?']).threshold)"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout.startswith("["), done.stderr
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".json"}


def test_other_weights_in_the_package_are_refused(tmp_path, monkeypatch):
    package = tmp_path / sentence.PACKAGE
    shutil.copytree(sentence._packaged(), package / "model", ignore=shutil.ignore_patterns("model.safetensors"))
    (package / "__init__.py").write_text("raise RuntimeError('code of the package ran')")
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="does not hold the weights of sentence-transformers/all-MiniLM-L6-v2"):
        predictor.build("sentence").fit(TEXTS, LENGTHS)


def test_long_questions_keep_their_end():
    made = predictor.build("sentence", {"context": 16}).fit(TEXTS, LENGTHS)
    tail = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    assert made.predict(["one " * 50 + tail]).threshold == pytest.approx(made.predict(["two " * 90 + tail]).threshold)
    assert made.cost([TEXTS[0]]) == made.cost([tail])
    assert json.dumps(made.options)
