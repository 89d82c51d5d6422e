"""One plain sentence for what goes wrong with a model: the real exceptions of the real libraries."""

import ast
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from clear_lib.engines import ModelError, start
from clear_lib.hub import explained, needs
from clear_lib.reasoner import CHECKPOINT

ROOT = Path(__file__).resolve().parents[1]

SAY = (
    "import sys; from clear_lib.engines import ModelError, start\n"
    "for model in sys.argv[1:]:\n"
    "    try: print(start('transformers', model, revision='v9').generate(['Question: 1+1'], [3]))\n"
    "    except ModelError as error: print(error)"
)


class Hub(BaseHTTPRequestHandler):
    """Refuses as the hub does, by a header; its server has the files of one model, at the revision v9 alone."""

    REFUSALS = {"gated": (403, "GatedRepo"), "unknown": (401, "RepoNotFound"), "old": (404, "RevisionNotFound")}

    def do_HEAD(self):
        _, _, model, _, revision, *name = self.path.split("/")
        content = self.server.files.get("/".join(name)) if revision == "v9" else None
        known = (404, "EntryNotFound") if content is None else (200, "")
        status, code = self.REFUSALS.get(model, known)
        content = content if status == 200 else b""
        self.send_response(status)
        headers = {"X-Error-Code": code, "X-Repo-Commit": "9" * 40, "ETag": f'"{"/".join(name)}"'}
        for header, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD

    def log_message(self, *_):
        pass


@contextmanager
def hub(files):
    """The environment of a process that asks a hub with these files, ``{name: bytes}``; they may be changed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = files
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
    server.shutdown()


def said(folder, *models, **environment):
    """What the engine says of models of the hub, each a line; the hub's address is read as the library loads."""
    environment = {**os.environ, "HF_HOME": str(folder), **environment}
    command = [sys.executable, "-c", SAY, *models]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.splitlines()


def test_a_hub_that_has_one_model_at_one_revision(tmp_path):
    models = [f"someone/{model}" for model in ("good", "gated", "unknown", "old")]
    with hub({path.name: path.read_bytes() for path in CHECKPOINT.iterdir()}) as environment:
        good, gated, unknown, old = said(tmp_path, *models, **environment)
    assert good == repr(start("transformers", "embedded").generate(["Question: 1+1"], [3]))
    assert "the model 'someone/gated' is gated: accept its terms" in gated and "HF_TOKEN" in gated
    assert "there is no model 'someone/unknown', neither as a folder nor on the hub" in unknown
    assert "the model 'someone/old' has no revision 'v9'" in old


def test_no_network(tmp_path):
    (line,) = said(tmp_path, "someone/model", HF_HUB_OFFLINE="1")
    assert "'someone/model' is not on this machine and the hub cannot be reached: no network" in line


@pytest.mark.parametrize("folder", ["/no/such/folder", "./nothing"])
def test_a_folder_that_is_not_there(folder):
    with pytest.raises(ModelError, match=f"there is no model {folder!r}"):
        start("transformers", folder)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match="holds no model in the Hugging Face format"):
        start("transformers", str(tmp_path))


def test_a_folder_with_pickled_weights_only(tmp_path):
    import torch

    for path in CHECKPOINT.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({"lm_head.weight": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds no model in the Hugging Face format.*safetensors"):
        start("transformers", str(tmp_path))


def test_no_memory():
    engine = start("transformers", "embedded")
    engine.context = 2**62
    with pytest.raises(ModelError, match="not enough memory for the model"):  # torch's own refusal
        engine.generate(["a"], [2**45])


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError(), "not enough memory for the model 'm': MemoryError"),
        (ValueError("No available memory for the cache blocks"), "not enough memory for the model 'm': No available"),
        (RuntimeError("Engine core initialization failed.\nSee"), "vLLM could not start the model 'm'; .* failed.$"),
    ],
)
def test_what_the_engines_say_is_explained_wherever_it_is_in_the_chain(error, sentence):
    with pytest.raises(ModelError, match=sentence), explained("m"):
        raise RuntimeError("on the way") from error


def test_what_is_not_known_passes_as_it_is():
    with pytest.raises(KeyError, match="a bug"), explained("m"):
        raise KeyError("a bug")


def test_a_package_that_is_not_installed_names_its_extra():
    missing = r"the package nothing_of_that_name is missing: pip install 'clear-lib\[vllm\]'"
    with pytest.raises(ModelError, match=missing), needs("vllm"):
        import nothing_of_that_name  # noqa: F401
    with pytest.raises(ModuleNotFoundError), needs("vllm"):  # a bug of this project is no missing extra
        import clear_lib.nothing_of_that_name  # noqa: F401
    code = """import sys; sys.modules["ray"] = None
try: import clear_lib.engines.ray
except ValueError as error: print(error)"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'clear-lib[ray]'" in run.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "clear_lib").rglob("*.py")), ids=lambda path: path.stem)
def test_code_that_comes_with_a_model_is_never_run(path):
    """Every `from_pretrained` says so itself, but for our own checkpoint; a generation config is JSON alone."""
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name.endswith(".from_pretrained") and name != "GenerationConfig.from_pretrained":
            safe = "trust_remote_code=False" in map(ast.unparse, call.keywords)
            assert safe or ast.unparse(call.args[0]) == "CHECKPOINT", f"{path}:{call.lineno}"


@pytest.mark.parametrize("module", ["predictor.network", "predictor.sentence", "engines.transformers"])
def test_threads_that_wait_sleep_which_torch_learns_before_it_is_loaded(module):
    code = (
        "import os, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, *given):\n"
        "        if name == 'torch': sys.exit(print(os.environ.get('OMP_WAIT_POLICY')))\n"
        f"sys.meta_path.insert(0, Look())\nimport clear_lib.{module}"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for given, expected in (
        ({}, "PASSIVE"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"),
    ):  # what the user says goes first
        environment = clean | given | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
