"""The table of questions: its columns, its checks, and the proof that two sets share no text."""

from __future__ import annotations

import pandas as pd

#: All text; ``question_id`` is unique, ``gold`` is the answer as it would stand in a box.
COLUMNS = ("question_id", "dataset", "tier", "split", "question", "gold")


def validate(questions: pd.DataFrame) -> pd.DataFrame:
    """The table with its columns in order and rows numbered from 0, if it is one.

    Raises
    ------
    ValueError
        If a column is missing or unknown, a value is missing, empty or not text, a ``question_id`` or a question
        is there twice, or there is no row; names the column, the row and the value.
    """
    wrong = set(COLUMNS) ^ set(questions.columns)
    if wrong:
        raise ValueError(f"columns missing or unknown: {', '.join(sorted(wrong))}; expected {', '.join(COLUMNS)}")
    if questions.empty:
        raise ValueError("no questions")
    questions = questions[list(COLUMNS)].reset_index(drop=True)
    for column in COLUMNS:
        for row, value in enumerate(questions[column]):
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"row {row}: {column} must be text, got {value!r}")
    for column, values in (("question_id", questions["question_id"]), ("question", _plain(questions["question"]))):
        doubled = values.duplicated().to_numpy()
        if doubled.any():
            row = int(doubled.argmax())
            raise ValueError(f"row {row}: {column} {questions[column][row]!r} is there twice")
    return questions


def assert_disjoint(**sets: pd.DataFrame) -> None:
    """Prove that no question stands in two sets, case and spacing aside.

    Parameters
    ----------
    **sets : pandas.DataFrame
        Tables of questions by name, such as ``train=`` and ``evaluation=``.

    Raises
    ------
    ValueError
        If two sets share a question; names the sets and the text.
    """
    first: dict[str, str] = {}
    for name, questions in sets.items():
        for plain, text in zip(_plain(questions["question"]), questions["question"], strict=True):
            if first.setdefault(plain, name) != name:
                raise ValueError(f"{first[plain]} and {name} share the question {text!r}")


def _plain(texts: pd.Series) -> pd.Series:
    """Texts without differences of case and spacing."""
    return texts.str.casefold().str.split().str.join(" ")
