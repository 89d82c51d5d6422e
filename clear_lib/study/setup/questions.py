"""The table of questions: its columns, its checks, and the proof that two sets share no text."""

from __future__ import annotations

import re

import pandas as pd

#: All text; ``question_id`` is unique, ``gold`` is the answer as it would stand in a box.
COLUMNS = ("question_id", "dataset", "tier", "split", "question", "gold")

# What two prints of one question differ in: layout commands of LaTeX, and punctuation and space not between digits.
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|quad|text|mathrm)(?![a-z])|[${}~]|\\[,;:! \[\]]")
_POINT = re.compile(r"(?<!\d)[\s.,;:?!]+|[\s.,;:?!]+(?!\d)")


def validate(questions: pd.DataFrame, repeated: int = 0) -> pd.DataFrame:
    """The table with its columns in order and rows numbered from 0, if it is one.

    Parameters
    ----------
    questions : pandas.DataFrame
    repeated : int
        Rows whose question stands further up already. Some published sets have a few; none means none.

    Raises
    ------
    ValueError
        If a column is missing or unknown, a value is missing, empty or not text, a ``question_id`` is there twice,
        more or fewer questions than ``repeated`` are (:func:`same_text` says when), or there is no row; names the
        column, the row and the value.
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
    for column, values, allowed in (
        ("question_id", questions["question_id"], 0),
        ("question", same_text(questions["question"]), repeated),
    ):
        doubled = values.duplicated().to_numpy()
        if doubled.sum() > allowed:
            row = int(doubled.nonzero()[0][allowed])
            raise ValueError(f"row {row}: {column} {questions[column][row]!r} is there twice")
        if doubled.sum() < allowed:
            raise ValueError(f"{doubled.sum()} questions are there twice, expected {allowed}")
    return questions


def assert_disjoint(**sets: pd.DataFrame) -> None:
    """Prove that no question stands in two sets, case, spacing and punctuation aside (:func:`same_text`).

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
        for same, text in zip(same_text(questions["question"]), questions["question"], strict=True):
            if first.setdefault(same, name) != name:
                raise ValueError(f"{first[same]} and {name} share the question {text!r}")


def same_text(texts: pd.Series) -> pd.Series:
    """Texts without differences of case, spacing, punctuation and LaTeX's layout: equal for two prints of one text."""
    return texts.str.casefold().str.replace(_LAYOUT, " ", regex=True).str.replace(_POINT, "", regex=True)
