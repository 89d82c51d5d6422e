"""Models of the Hugging Face hub, or of a folder: pinned, safetensors only, no code of theirs, one clear message."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def check(model: str, revision: str | None) -> None:
    """``ValueError`` if a model of the hub comes without a revision: names move, commits stay."""
    if revision is None and not Path(model).is_dir():
        raise ValueError(f"model {model!r} is no folder, and no revision says which commit of the hub's is meant")


def load(kind: Any, model: str, revision: str | None, **settings: Any) -> Any:
    """``kind.from_pretrained``, quietly.

    Raises
    ------
    ValueError
        If there is no such model, no network, no permission, or no ``model.safetensors``; says what to do.
    """
    import transformers

    log, told = transformers.logging, transformers.logging.get_verbosity()
    log.set_verbosity_error()  # a new head is no surprise
    log.disable_progress_bar()
    try:
        return kind.from_pretrained(model, revision=revision or "main", trust_remote_code=False, **settings)
    except (OSError, ImportError) as error:
        where = f"model {model!r}" + (f", revision {revision}" if revision else "")
        raise ValueError(
            f"{where} cannot be loaded: {str(error).strip().splitlines()[0]}\n"
            "It takes the hub once (and for a gated model a token in HF_TOKEN), or a folder as the option `model`. "
            "Weights are read as model.safetensors only: a pickle has to be converted first, "
            "https://huggingface.co/spaces/safetensors/convert"
        ) from error
    finally:
        log.set_verbosity(told)
        log.enable_progress_bar()
