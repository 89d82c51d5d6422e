"""The embedded reasoner: a small language model trained by this project, its questions and its checkpoint."""

from __future__ import annotations

from pathlib import Path

#: Folder of the shipped checkpoint, in the Hugging Face format.
CHECKPOINT = Path(__file__).parent / "checkpoint"

#: What the reasoner reads; its solution starts on the next line with ``Quick.``, ``Normal.`` or ``Careful.``
PROMPT = "Question: {question}\nSolution:\n"
