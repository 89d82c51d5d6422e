"""One plain sentence for what goes wrong with a model: the real exceptions of the real libraries."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clear_lib.engines import EngineError, start
from clear_lib.engines.errors import needs, plainly
from clear_lib.engines.transformers import TransformersEngine
from clear_lib.reasoner import CHECKPOINT
from clear_lib.study.setup import profiles

SAY = (
    "import sys; from clear_lib.engines.transformers import TransformersEngine as Engine, plainly\n"
    "from clear_lib.engines import EngineError\n"
    "for model in sys.argv[1:]:\n"
    "    try: print(Engine(model, 'v9').generate(['Question: 1+1'], [3]))\n    except EngineError as error: print(error)"
)


class Hub(BaseHTTPRequestHandler):
    """Refuses as the hub does, by a header; has one model, at the revision v9 alone."""

    REFUSALS = {"gated": (403, "GatedRepo"), "unknown": (401, "RepoNotFound"), "old": (404, "RevisionNotFound")}

    def do_HEAD(self):
        _, _, model, _, revision, *name = self.path.split("/")
        path = CHECKPOINT / "/".join(name)
        status, code = self.REFUSALS.get(
            model, (200, "") if revision == "v9" and path.is_file() else (404, "EntryNotFound")
        )
        content = path.read_bytes() if status == 200 else b""
        self.send_response(status)
        for header, value in {
            "X-Error-Code": code,
            "X-Repo-Commit": "9" * 40,
            "ETag": f'"{path.name}"',
            "Content-Length": str(len(content)),
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
    server.shutdown()


def said(folder, *models, **environment):
    """What the engine says of models of the hub, each a line; the hub's address is read as the library loads."""
    run = subprocess.run(
        [sys.executable, "-c", SAY, *models],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HOME": str(folder), **environment},
    )
    return run.stdout.splitlines()


def test_a_hub_that_has_one_model_at_one_revision(hub, tmp_path):
    good, gated, unknown, old = said(
        tmp_path, *(f"someone/{model}" for model in ("good", "gated", "unknown", "old")), **hub
    )
    assert good == repr(TransformersEngine(str(CHECKPOINT)).generate(["Question: 1+1"], [3]))
    assert "the model 'someone/gated' is gated: accept its terms" in gated and "HF_TOKEN" in gated
    assert "there is no model 'someone/unknown', neither as a folder nor on the hub" in unknown
    assert "the model 'someone/old' has no revision 'v9'" in old


def test_no_network(tmp_path):
    (line,) = said(tmp_path, "someone/model", HF_HUB_OFFLINE="1")
    assert "'someone/model' is not on this machine and the hub cannot be reached: no network" in line


@pytest.mark.parametrize("folder", ["/no/such/folder", "./nothing"])
def test_a_folder_that_is_not_there(folder):
    with pytest.raises(EngineError, match=f"there is no model {folder!r}"):
        TransformersEngine(folder)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(EngineError, match="holds no model in the Hugging Face format"):
        TransformersEngine(str(tmp_path))


def test_a_folder_with_pickled_weights_only(tmp_path):
    import torch

    for path in CHECKPOINT.iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"lm_head.weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(EngineError, match="holds no model in the Hugging Face format.*safetensors"):
        TransformersEngine(str(tmp_path))


def test_no_memory():
    engine = TransformersEngine(str(CHECKPOINT))
    engine.context = 2**62
    with pytest.raises(EngineError, match="not enough memory for the model"):  # torch's own refusal
        engine.generate(["a"], [2**45])


def test_what_is_not_known_passes_as_it_is():
    with pytest.raises(KeyError, match="a bug"), plainly("m"):
        raise KeyError("a bug")


def test_an_engine_that_is_not_installed_names_its_extra():
    with (
        pytest.raises(EngineError, match=r"needs the package nothing_of_that_name: pip install 'clear-lib\[vllm\]'"),
        needs("nothing_of_that_name", "vllm"),
    ):
        import nothing_of_that_name  # noqa: F401
    code = """import sys; sys.modules["ray"] = None
try: import clear_lib.engines.ray
except ValueError as error: print(error)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'clear-lib[ray]'" in run.stdout


def test_a_profile_without_an_engine_starts_none():
    with pytest.raises(ValueError, match="unknown engine 'none' in profile 'smoke'; known: transformers, vllm"):
        start(profiles.load("smoke", engine="none"))
