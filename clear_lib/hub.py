"""Language models by name: from the hub, or from one file of weights that is at hand.

A model is named as its makers publish it: repository and revision on the hub, and, where the weights are one GGUF
file, that file and its SHA-256. The hash is checked before anything is read. A GGUF file is turned into safetensors
once, in a cache folder, with the tokenizer and the chat template that the file itself carries.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = ["Weights", "WeightsError", "cache", "local", "refusal"]


class WeightsError(ValueError):
    """Weights that cannot be had, read or kept; says why, and what to do."""


@dataclass(frozen=True)
class Weights:
    """One file of weights on the hub.

    Attributes
    ----------
    repository, revision : str
        On the hub.
    file : str
        Name of the GGUF file.
    sha256 : str
        Of its bytes, as the hub prints it.
    """

    repository: str
    revision: str
    file: str
    sha256: str


def cache() -> Path:
    """The folder of converted models: ``$CLEAR_CACHE``, or ``clear-lib`` among the user's caches."""
    chosen = os.environ.get("CLEAR_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clear-lib"


def local(weights: Weights, path: str | Path | None = None, folder: str | Path | None = None) -> Path:
    """A folder that holds the model as bfloat16 safetensors, with tokenizer and chat template; made if it is not there.

    One process converts at a time: another that wants the same model waits for it and finds it made.

    Parameters
    ----------
    weights : Weights
    path : path, optional
        The file, or a folder that holds it. Otherwise the hub is asked for it.
    folder : path, optional
        Where converted models are kept, :func:`cache` without it.

    Raises
    ------
    WeightsError
        If the file is not there, not the one it should be, or of an architecture that cannot be read; if a package for
        reading it is missing; or if the model cannot be kept. Nothing half-written is left behind.
    """
    root = cache() if folder is None else Path(folder)
    made = root / f"{Path(weights.file).stem}-{weights.sha256[:12]}"
    with _kept_in(root):
        if made.is_dir():
            return made
    _check_packages()
    file = _file(weights, path)
    _check(file, weights)
    with _kept_in(root), _alone(made):
        if not made.is_dir():
            print(f"turning {weights.file} into safetensors, once, in {made} …", file=sys.stderr, flush=True)
            aside = made.with_name(f".{made.name}")
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
            aside.mkdir()
            try:
                _convert(file, aside)
                aside.rename(made)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return made


def refusal(error: BaseException, model: str, revision: str | None) -> str | None:
    """The sentence for an exception of the hub's library; None for any other."""
    from huggingface_hub import errors as hub

    match error:
        case hub.GatedRepoError():
            return (
                f"the model {model!r} is gated: accept its terms on its page of the hub, and give a token of "
                f"yours in the environment variable HF_TOKEN"
            )
        case hub.RevisionNotFoundError():
            return f"the model {model!r} has no revision {revision!r}"
        case hub.RepositoryNotFoundError() | hub.HFValidationError():
            return f"there is no model {model!r}, neither as a folder nor on the hub (or it is private)"
        case hub.LocalEntryNotFoundError() | hub.OfflineModeIsEnabled():
            return (
                f"the model {model!r} is not on this machine and the hub cannot be reached: no network, or "
                f"HF_HUB_OFFLINE is set. Give a path instead: the folder of a checkpoint or, where the profile "
                f"names a file of weights, that file with --weights"
            )
    return None


def _check_packages() -> None:
    """``WeightsError`` if what transformers reads GGUF files with is not installed."""
    if missing := [package for package in ("gguf", "accelerate") if find_spec(package) is None]:
        raise WeightsError(
            f"a model from a GGUF file needs the package {' and '.join(missing)}: pip install 'clear-lib[gguf]'"
        )


def _file(weights: Weights, path: str | Path | None) -> Path:
    """The file on this machine."""
    if path is not None:
        with _read_from(path):
            file = Path(path) / weights.file if Path(path).is_dir() else Path(path)
            if not file.is_file():
                raise WeightsError(f"{file}: there is no such file; {weights.file} of {weights.repository} is wanted")
            return file
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    try:
        return Path(hf_hub_download(weights.repository, weights.file, revision=weights.revision))
    except RemoteEntryNotFoundError as error:
        raise WeightsError(
            f"the model {weights.repository!r} has no file {weights.file!r} at revision {weights.revision!r}"
        ) from error
    except Exception as error:  # of the network, the hub or the disk
        said = refusal(error, weights.repository, weights.revision)
        raise WeightsError(
            said
            or f"{weights.file} of {weights.repository} could not be fetched from the hub: "
            f"{_line(error)}; fetch it yourself and give its path with --weights"
        ) from error


def _check(file: Path, weights: Weights) -> None:
    """``WeightsError`` if the bytes are not those that the makers published."""
    with _read_from(file), file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
        size = opened.tell()
    if found != weights.sha256:
        raise WeightsError(
            f"{file} is not {weights.file} of {weights.repository} at {weights.revision}, or not all of "
            f"it: {size:,} bytes with the SHA-256 {found}, expected {weights.sha256}; delete it and "
            f"fetch it again"
        )


def _convert(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file as bfloat16 safetensors, with its tokenizer."""
    import torch
    import transformers
    from safetensors import SafetensorError

    with _quiet(), tempfile.TemporaryDirectory(dir=folder) as alone:
        # A folder of its own: what lies beside the file is no part of the model.
        link = Path(alone) / file.name
        link.symlink_to(file.resolve())
        named = {"gguf_file": link.name, "trust_remote_code": False}
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(alone, **named)
            model, report = transformers.AutoModelForCausalLM.from_pretrained(
                alone, dtype=torch.bfloat16, output_loading_info=True, **named
            )
        except Exception as error:  # whatever the reader trips over
            raise WeightsError(
                f"{file} cannot be read by transformers {transformers.__version__}, which must know its "
                f"architecture: {_line(error).replace(str(link), file.name)}"
            ) from error
        if missing := sorted(report["missing_keys"]):  # transformers would make them up
            raise WeightsError(
                f"{file} is not a whole model: {missing[0]!r} is missing"
                + (f", and {len(missing) - 1} other tensors" if missing[1:] else "")
            )
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
            raise OSError(_line(error)) from error


@contextmanager
def _read_from(file: str | Path) -> Iterator[None]:
    """``WeightsError`` for what the system refuses about the file."""
    try:
        yield
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error


@contextmanager
def _kept_in(root: Path) -> Iterator[None]:
    """``WeightsError`` for what the system refuses about the folder of converted models."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"the model cannot be kept in {root}: {error.strerror or error}; name a folder with room for "
            f"it in the environment variable CLEAR_CACHE"
        ) from error


@contextmanager
def _alone(made: Path) -> Iterator[None]:
    """Hold the lock of a converted model."""
    from huggingface_hub.utils import WeakFileLock

    made.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(made.with_name(f".{made.name}.lock")):
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars and warnings of transformers."""
    from transformers.utils import logging

    told, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the reader of GGUF files asks nobody
            yield
    finally:
        logging.set_verbosity(told)
        if bars:
            logging.enable_progress_bar()


def _line(error: BaseException) -> str:
    """What an exception says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
