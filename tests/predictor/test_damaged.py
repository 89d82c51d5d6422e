"""A saved predictor whose files are damaged forecasts as before, or is refused in a sentence; nothing in between."""

import json
import shutil

import numpy as np
import pytest

from clear_lib import predictor
from clear_lib.cli import main
from clear_lib.predictor import Calibrated

SMALL = {"encoder": {"width": 8, "layers": 1, "heads": 2, "epochs": 1}}


def questions(seed):
    """Forty sums; the longer, the more tokens."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(1, 8, 40)
    return [" plus ".join(str(k) for k in rng.integers(10, 99, n + 1)) for n in signs], 20 * signs, signs < 6


@pytest.fixture(scope="module", params=["ridge", "encoder"])
def saved(request, tmp_path_factory):
    """Folders of two fits, and what the first forecasts."""
    folder = tmp_path_factory.mktemp(request.param)
    for seed, name in enumerate(("mine", "other")):
        made = Calibrated(predictor.build(request.param, SMALL.get(request.param))).fit(*questions(seed))
        made.save(folder / name)
    return folder / "mine", folder / "other", predictor.load(folder / "mine").predict(questions(2)[0]).threshold


def retyped(value, rng):
    """JSON with one value of another type."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        name = list(value)[rng.integers(len(value))]
        return value | {name: retyped(value[name], rng)}
    return [None, [], {}, "text", 7, [[1.5]]][rng.integers(6)]


def damages(path, other, rng):
    """Ways to damage a file, by name."""
    data = path.read_bytes()
    place = int(rng.integers(len(data)))
    yield "empty", lambda: path.write_bytes(b"")
    yield "truncated", lambda: path.write_bytes(data[:place])
    yield "a bit", lambda: path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    yield "noise", lambda: path.write_bytes(rng.bytes(200))
    yield "nested", lambda: path.write_bytes(b"[" * 100_000)
    yield "missing", path.unlink
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    yield "another's", lambda: shutil.copy(other, path)
    if path.suffix == ".json":
        for number in range(4):
            text = json.dumps(retyped(json.loads(data), rng))
            yield f"other types {number}", lambda text=text: path.write_text(text)


def outcome(folder):
    """What a folder forecasts, or why not."""
    try:
        return predictor.load(folder).predict(questions(2)[0]).threshold
    except ValueError as error:
        return str(error)


def test_a_damaged_file_is_noticed(saved, tmp_path, capsys):
    mine, other, expected = saved
    source, rng, refused = tmp_path / "questions.jsonl", np.random.default_rng(0), 0
    source.write_text(json.dumps({"question": "1 plus 2"}) + "\n")
    names = sorted(path.relative_to(mine) for path in mine.rglob("*") if path.is_file())
    assert len(names) >= 4
    for name in names:
        for number, (how, _) in enumerate(damages(mine / name, other / name, np.random.default_rng(0))):
            copy = tmp_path / f"{name.as_posix().replace('/', '-')}-{number}"
            shutil.copytree(mine, copy)
            list(damages(copy / name, other / name, rng))[number][1]()
            found = outcome(copy)
            if isinstance(found, str):
                assert str(copy) in found and "\n" not in found, (name, how)
                given = ["allocate", str(source), "--budget", "50", "--policy", "clear", "--forecaster", str(copy)]
                assert main(given) == 1 and capsys.readouterr().err.startswith("error: "), (name, how)
                refused += 1
            else:
                assert found.tolist() == expected.tolist(), (name, how)
    assert refused >= 8 * (len(names) - 1)


def test_a_folder_without_hashes_is_read_and_its_faults_are_named(saved, tmp_path):
    """An older version saved none."""
    mine, _, expected = saved
    shutil.copytree(mine, tmp_path / "old")
    (tmp_path / "old" / "sha256.json").unlink()
    assert outcome(tmp_path / "old").tolist() == expected.tolist()
    for text in ("[]", "{}", '{"kind": "calibrated"}', '{"kind": "calibrated", "options": {"colour": 1}}', "{"):
        (tmp_path / "old" / "predictor.json").write_text(text)
        assert "old holds a damaged predictor" in outcome(tmp_path / "old")
