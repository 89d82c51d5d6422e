"""Recordings that are shipped with the project: rollouts of real models, without the questions.

Questions and gold answers are other people's sentences. What is shipped of a question is its place in the published
set, the SHA-256 of its text without layout, and a sentence embedding, so that predictors can be trained without the
text. ``sha256:…`` stands for a text that is not shipped. ``manifest.json`` has the SHA-256 of every file.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clear_lib.rollouts.store import KEY, SCHEMA

#: Where the recordings of this project are.
FOLDER = Path(os.environ.get("CLEAR_RECORDINGS", Path(__file__).parents[2] / "recordings"))

#: Prefix of what stands for a text.
STANDS_FOR = "sha256:"

#: Columns of a rollout that are not shipped, and those that are; ``place`` counts in the order of recording.
TEXTS = ("question", "gold", "prompt")
SHIPPED = ("place", *(name for name in SCHEMA.names if name not in TEXTS))

#: What makes a rollout the same one, without its prompt.
SHORT_KEY = tuple(name for name in KEY if name != "prompt")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest(folder: Path = FOLDER) -> dict[str, Any]:
    """``files`` with their SHA-256, and ``profiles`` with what is known of each recording; empty if there is none."""
    path = folder / "manifest.json"
    if not path.is_file():
        return {"files": {}, "profiles": {}}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None


def kinds(profile: str, folder: Path = FOLDER) -> list[str]:
    """Kinds of rollouts that are shipped of a profile."""
    return list(manifest(folder)["profiles"].get(profile, {}).get("kinds", {}))


def _read(name: str, folder: Path) -> pd.DataFrame:
    """A file of the folder, if its bytes are those of the manifest."""
    path, known = folder / name, manifest(folder)["files"].get(name)
    if known is None:
        raise ValueError(f"{path}: not in {folder / 'manifest.json'}; nothing of it is used")
    if not path.is_file():
        raise ValueError(f"{path} is missing; get it again from where you got the project")
    if digest(path) != known:
        raise ValueError(f"{path} is not the file that was shipped: its SHA-256 is {digest(path)}, expected {known}")
    return pd.read_parquet(path)


def read(name: str, kind: str, folder: Path = FOLDER, *, model: str, revision: str, dtype: str) -> pd.DataFrame:
    """All shipped rollouts of a kind of the profile ``name``: the columns of :data:`SHIPPED`, by ``place``.

    ``ValueError`` names a file that is missing, changed, of another model, or has a rollout twice, and the reason.
    """
    path = folder / name / f"{kind}.parquet"
    table = _read(f"{name}/{kind}.parquet", folder)
    if tuple(table.columns) != SHIPPED:
        raise ValueError(f"{path}: its columns are {', '.join(table.columns)}; expected {', '.join(SHIPPED)}")
    for column, expected in {"model": model, "revision": revision, "dtype": dtype}.items():
        if other := set(table[column]) - {expected}:
            raise ValueError(f"{path}: rollouts of {column} {min(other)!r}; profile {name!r} has {expected!r}")
    for row in np.flatnonzero(table.duplicated(list(SHORT_KEY))):
        raise ValueError(f"{path}: row {row} records question {table['question_id'][row]!r} a second time")
    return table.sort_values("place", ignore_index=True)


def questions(folder: Path = FOLDER, name: str = "questions.parquet") -> pd.DataFrame:
    """The questions that are recorded: ``question_id, dataset, part, row, sha256, tokens, embedding``.

    ``row`` counts from 0 within the part of the published set; ``tokens`` is the length of the text for the
    sentence encoder; ``embedding`` has shape ``(384,)``, float16. ``code/questions.parquet`` has programming tasks.
    """
    return _read(name, folder)


@cache
def _embeddings(folder: Path) -> Mapping[str, tuple[int, np.ndarray]]:
    """Token count and embedding of every shipped question, by ``sha256:…``."""
    names = [name for name in manifest(folder)["files"] if Path(name).name == "questions.parquet"]
    known = pd.concat([questions(folder, name) for name in names], ignore_index=True)
    return dict(zip(STANDS_FOR + known["sha256"], zip(known["tokens"], known["embedding"], strict=True), strict=True))


def embeddings(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings ``(n, 384)`` and token counts ``(n,)`` of questions whose texts are not shipped.

    ``ValueError`` for one that is not among the shipped questions.
    """
    known = _embeddings(FOLDER)
    for text in texts:
        if text not in known:
            raise ValueError(f"no embedding is shipped of the question {text[:80]!r}")
    tokens, vectors = zip(*map(known.get, texts), strict=True) if texts else ((), ())
    return np.array(vectors, dtype=float), np.array(tokens)


def without_text(texts: Iterable[str]) -> bool:
    """Whether the texts are not at hand: ``sha256:…`` stands for each of them."""
    return all(text.startswith(STANDS_FOR) for text in texts)
