"""What can go wrong with a model, an engine or a server, in one plain sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clear_lib import hub


class EngineError(ValueError):
    """An engine that cannot be started or go on; says why, and what to do."""


@contextmanager
def needs(package: str, extra: str) -> Iterator[None]:
    """Around an import: says which extra to install if the package is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == package:
            raise EngineError(
                f"the engine {extra!r} needs the package {package}: pip install 'clear-lib[{extra}]'"
            ) from None
        raise


@contextmanager
def plainly(model: str, revision: str | None = None) -> Iterator[None]:
    """Turn the libraries' exceptions about a model into :class:`EngineError`; what is none of these passes as it is."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        said = _explained(error, model, revision)
        if said is None:
            raise
        raise EngineError(said) from error


def _explained(error: Exception, model: str, revision: str | None) -> str | None:
    """The sentence for an exception, by what caused it; None of a kind that is not known here."""
    causes: list[BaseException] = [error]
    while cause := getattr(causes[-1], "cause", None) or causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    for cause in causes:
        text = str(cause).strip()
        line = text.partition("\n")[0]
        if isinstance(cause, (EngineError, hub.WeightsError)):  # the first of a worker somewhere else
            return str(cause)
        if (said := hub.refusal(cause, model, revision)) is not None:
            return said
        if isinstance(cause, MemoryError):
            return _memory(model, "out of memory")
        if any(
            word in text for word in ("Unrecognized model", "does not appear to have a file named", "no file named")
        ):
            return f"{model!r} holds no model in the Hugging Face format: {line}"
        if type(cause).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
            return _memory(model, line)
        if "memory" in text.lower() and any(
            word in text for word in ("KV cache", "kv cache", "cache blocks", "Free memory")
        ):
            return _memory(model, line)
        if "core initialization failed" in text or "WorkerProc initialization failed" in text:
            return f"vLLM could not start the model {model!r}; what it printed above says why: {line}"
    return None


def _memory(model: str, what: str) -> str:
    return (
        f"not enough memory for the model {model!r}: {what}. A smaller batch_size, context (max_model_len) or dtype "
        f"needs less; so does each GPU if there are more (tensor_parallel_size)"
    )
