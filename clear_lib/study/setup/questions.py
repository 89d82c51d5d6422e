"""The table of questions: its columns, its checks, and the proof that two sets share no text."""

import re

import pandas as pd

#: All text; ``question_id`` is unique, ``gold`` is the answer as it would stand in a box.
COLUMNS = ("question_id", "dataset", "tier", "split", "question", "gold")

# Two prints of one question differ in layout commands of LaTeX, and in punctuation and spaces not between digits.
_LAYOUT = re.compile(r"\\(?:left|right|displaystyle|quad|text|mathrm)(?![a-z])|[${}~]|\\[,;:! \[\]]")
_POINT = re.compile(r"(?<!\d)[\s.,;:?!]+|[\s.,;:?!]+(?!\d)")


def validate(questions: pd.DataFrame, repeated: int = 0) -> pd.DataFrame:
    """The table with :data:`COLUMNS` in order, checked; exactly ``repeated`` questions stand in it twice."""
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
    compared = (("question_id", questions["question_id"], 0), ("question", same_text(questions["question"]), repeated))
    for column, values, allowed in compared:
        again = questions[column][values.duplicated()]
        if len(again) > allowed:
            raise ValueError(f"row {again.index[allowed]}: {column} {again.iloc[allowed]!r} is there twice")
        if len(again) < allowed:
            raise ValueError(f"{len(again)} questions are there twice, expected {allowed}")
    return questions


def assert_disjoint(**sets: pd.DataFrame) -> None:
    """Raise a ``ValueError`` with names and text if two of the tables share a question, as :func:`same_text` has it."""
    first: dict[str, str] = {}
    for name, questions in sets.items():
        for same, text in zip(same_text(questions["question"]), questions["question"], strict=True):
            if first.setdefault(same, name) != name:
                raise ValueError(f"{first[same]} and {name} share the question {text!r}")


def same_text(texts: pd.Series) -> pd.Series:
    """Texts without differences of case, spacing, punctuation and LaTeX's layout: equal for two prints of one text."""
    return texts.str.casefold().str.replace(_LAYOUT, " ", regex=True).str.replace(_POINT, "", regex=True)
