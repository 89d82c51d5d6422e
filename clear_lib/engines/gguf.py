"""Models from one GGUF file: its hash is checked, then it is turned into safetensors, once, in a cache folder.

Tokenizer and chat template are those that the file itself carries.
"""

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clear_lib.hub import ModelError, explanation, first_line, quiet, require

log = logging.getLogger(__name__)

KEPT = "the model cannot be kept in {}: {}; name a folder with room for it in the environment variable CLEAR_CACHE"


@dataclass(frozen=True)
class Weights:
    """One GGUF file of a repository on the hub, and the SHA-256 of its bytes as the hub prints it."""

    repository: str
    revision: str | None
    file: str
    sha256: str


def local(weights: Weights, path: str | Path | None = None, folder: str | Path | None = None) -> Path:
    """A folder with the model as bfloat16 safetensors, tokenizer and chat template; converted if it is not there.

    One process converts at a time; others that want the same model wait for it. ``path`` is the file or a folder that
    holds it (without it the hub is asked), ``folder`` where converted models are kept: by default ``$CLEAR_CACHE``, or
    ``clear-lib`` among the user's caches. ``ModelError`` if the file is missing, another one, or of an unknown
    architecture; if a package is missing; or if the model cannot be kept. Nothing half-written is left behind.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(folder or os.environ.get("CLEAR_CACHE") or caches / "clear-lib")
    made = root / f"{Path(weights.file).stem}-{weights.sha256[:12]}"
    with _refusals(KEPT, root):
        if made.is_dir():
            return made
    require("engines", "accelerate", "gguf")  # before gigabytes are fetched
    from huggingface_hub.utils import WeakFileLock

    file = _checked(weights, _fetched(weights) if path is None else Path(path))
    with _refusals(KEPT, root):
        root.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(root / f".{made.name}.lock"):
            if not made.is_dir():
                log.warning("turning %s into safetensors, once, in %s …", weights.file, made)
                aside = made.with_name(f".{made.name}")  # takes its name when it is complete
                shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
                aside.mkdir()
                try:
                    _convert(file, aside)
                    aside.rename(made)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
    return made


def _fetched(weights: Weights) -> Path:
    """The file, from the hub."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(weights.repository, weights.file, revision=weights.revision))
    except RemoteEntryNotFoundError as error:
        raise ModelError(
            f"the model {weights.repository!r} has no file {weights.file!r} at revision {weights.revision!r}"
        ) from error
    except Exception as error:  # of the network, the hub or the disk
        raise ModelError(
            explanation(error, weights.repository, weights.revision)
            or f"{weights.file} of {weights.repository} could not be fetched from the hub: {first_line(error)}; "
            f"fetch it yourself and give its path (--weights)"
        ) from error


def _checked(weights: Weights, file: Path) -> Path:
    """The file, or the one of that name in a folder; ``ModelError`` if it is not there, or its bytes are others."""
    with _refusals("{} cannot be read: {}", file):
        file = file / weights.file if file.is_dir() else file
        if not file.is_file():
            raise ModelError(f"{file}: there is no such file; {weights.file} of {weights.repository} is wanted")
        with file.open("rb") as opened:
            found, size = hashlib.file_digest(opened, "sha256").hexdigest(), opened.tell()
    if found != weights.sha256:
        raise ModelError(
            f"{file} is not {weights.file} of {weights.repository} at {weights.revision}, or not all of it: {size:,} "
            f"bytes with the SHA-256 {found}, expected {weights.sha256}; delete it and fetch it again"
        )
    return file


@quiet()
def _convert(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as bfloat16 safetensors, with its tokenizer."""
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(dir=folder) as alone:  # what lies beside the file is no part of the model
        link = Path(alone) / file.name
        link.symlink_to(file.resolve())
        try:
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=link.name, trust_remote_code=False)
            model, report = AutoModelForCausalLM.from_pretrained(
                alone, gguf_file=link.name, trust_remote_code=False, dtype=torch.bfloat16, output_loading_info=True
            )
        except Exception as error:  # whatever the reader trips over
            raise ModelError(
                f"{file} cannot be read by transformers {transformers.__version__}, which must know its architecture: "
                f"{first_line(error).replace(str(link), file.name)}"
            ) from error
    if missing := sorted(report["missing_keys"]):  # transformers would make them up
        others = f", and {len(missing) - 1} other tensors" if missing[1:] else ""
        raise ModelError(f"{file} is not a whole model: {missing[0]!r} is missing{others}")
    # The weights are ordinary numbers from here on, whatever the file packed them into.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    needed, free = sum(each.nbytes for each in model.parameters()), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(f"the converted weights take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    try:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise OSError(first_line(error)) from error


@contextmanager
def _refusals(sentence: str, path: str | Path) -> Iterator[None]:
    """``ModelError`` with a sentence of a path and what the operating system says for an ``OSError``."""
    try:
        yield
    except OSError as error:
        raise ModelError(sentence.format(path, error.strerror or error)) from error
