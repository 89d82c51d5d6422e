"""Models of the Hugging Face hub: what their libraries raise, in one sentence each, and missing packages by extra."""

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Threads that wait for each other sleep instead of spinning: on a busy machine a model decodes five times faster.
# Torch reads it when it is loaded; whatever loads torch here imports this module first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = ["ModelError", "explained", "explanation", "first_line", "needs", "pinned", "pretrained", "quiet", "require"]

#: Pattern of an exception, written as the names of its classes and its message, and its sentence. The first match counts.
SENTENCES = {
    "GatedRepoError": "the model {model!r} is gated: accept its terms on its page of the hub, and give a token of yours "
    "in the environment variable HF_TOKEN",
    "RevisionNotFoundError": "the model {model!r} has no revision {revision!r}",
    "RepositoryNotFoundError|HFValidationError": "there is no model {model!r}, neither as a folder nor on the hub (or "
    "it is private)",
    "LocalEntryNotFoundError|OfflineModeIsEnabled": "the model {model!r} is not on this machine and the hub cannot be "
    "reached: no network, or HF_HUB_OFFLINE is set. Give a path instead: the folder of a checkpoint, or the GGUF file "
    "of a model that has one (--weights)",
    "Unrecognized model|no file named|does not appear to have a file named": "{model!r} holds no model in the Hugging "
    "Face format: {line} Weights are read as model.safetensors only: a pickle has to be converted first, "
    "https://huggingface.co/spaces/safetensors/convert",
    "MemoryError|can't allocate memory|(?=.*[Mm]emory).*([Kk][Vv] cache|cache blocks|Free memory)": "not enough memory "
    "for the model {model!r}: {line}. A smaller batch_size, context (max_model_len) or dtype needs less; so does each "
    "GPU if there are more (tensor_parallel_size)",
    "(core|WorkerProc) initialization failed": "vLLM could not start the model {model!r}; what it printed above says "
    "why: {line}",
    "ImportError": "the model {model!r} cannot be loaded: {line}",
}


class ModelError(ValueError):
    """A model, its engine or its server that cannot be started or go on; says why, and what to do."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Around imports: ``ModelError`` that names the extra of this package to install if one of them is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "clear_lib"):
            raise
        raise ModelError(f"the package {missing} is missing: pip install 'clear-lib[{extra}]'") from None


def require(extra: str, *packages: str) -> None:
    """``ModelError`` that names the extra to install if one of the packages is missing; nothing is loaded."""
    with needs(extra):
        for package in packages:
            if find_spec(package) is None:
                raise ModuleNotFoundError(name=package)


@contextmanager
def explained(model: str, revision: str | None = None) -> Iterator[None]:
    """Turn the known exceptions of the libraries about a model into :class:`ModelError`; the others pass unchanged."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if (sentence := explanation(error, model, revision)) is None:
            raise
        raise ModelError(sentence) from error


def explanation(error: BaseException | None, model: str, revision: str | None = None) -> str | None:
    """The sentence for the first known exception among an exception and its causes; None if none is known."""
    while error is not None:
        if isinstance(error, ModelError):  # raised by a worker on another machine
            return str(error)
        described = f"{' '.join(kind.__name__ for kind in type(error).__mro__)}: {error}"
        for pattern, sentence in SENTENCES.items():
            if re.search(pattern, described, re.DOTALL):
                return sentence.format(model=model, revision=revision, line=first_line(error))
        error = getattr(error, "cause", None) or error.__cause__ or error.__context__
    return None


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the name of its class if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and warnings of transformers."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the reader of GGUF files has a progress bar that cannot be switched off
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def pinned(model: str, revision: str | None, known: Mapping[str, str]) -> str | None:
    """The commit of a model of the hub, by default that of ``known``; None for a folder.

    ``ModelError`` if a model of the hub comes without a commit: names move, commits stay.
    """
    revision = revision or known.get(model)
    if revision is None and not Path(model).is_dir():
        raise ModelError(f"model {model!r} is no folder, and no revision says which commit of the hub's is meant")
    return revision


def pretrained(kind: Any, model: str, revision: str | None, **settings: Any) -> Any:
    """``kind.from_pretrained``, quietly and without code of the model's; ``ModelError`` says why not and what to do."""
    with explained(model, revision), quiet():
        return kind.from_pretrained(model, revision=revision or "main", trust_remote_code=False, **settings)
