"""The embedded reasoner: a small language model trained by this project, its questions and its checkpoint."""

from pathlib import Path

#: The model's name, for engines, logs and profiles.
NAME = "embedded"

#: Folder of the shipped checkpoint, in the Hugging Face format.
CHECKPOINT = Path(__file__).parent / "checkpoint"

#: What the reasoner reads; its solution starts on the next line with ``Quick.``, ``Normal.`` or ``Careful.``
PROMPT = "Question: {question}\nSolution:\n"


def location(model: str) -> str:
    """Where a model is loaded from: the checkpoint for ``"embedded"``; any other name or folder is returned as it is."""
    return str(CHECKPOINT) if model == NAME else model


def name_of(location: str) -> str:
    """The inverse of :func:`location`."""
    return NAME if location == str(CHECKPOINT) else location
