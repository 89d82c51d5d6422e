"""How other programs write rollouts: where things stand in a line, and what their values must be."""

import tomllib
from collections.abc import Mapping
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

from clear_lib.jsonlines import check_whole

#: Columns that hold numbers, and the least value of each. All but the temperature are whole.
LEAST = {"n_tokens": 1, "cap": 1, "sample": 0, "temperature": 0}
MOST = 2**53  # up to here a float counts one by one
#: Characters of the longest question; a predictor takes seconds for so many.
LONGEST = 1_000_000


class Layout(NamedTuple):
    """How a program writes its rollouts: where things stand in a line.

    A line is one rollout, or, with ``completions``, one question with a list of completions. Where ``correct`` has no
    column, the first metric that is 0 or 1 says it.
    """

    writer: str
    columns: Mapping[str, str]
    completions: str = ""


#: Every layout that can be read, by the name that the command line uses.
LAYOUTS = {
    name: Layout(**about)
    for name, about in tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
}

#: What is read of a rollout, and where it stands in plain JSON lines if the user does not say.
COLUMNS = LAYOUTS["jsonl"].columns


def layout_of(path: Path, record: Mapping[str, Any]) -> str:
    """Which layout a file has, by its ending and its first line."""
    if path.suffix == ".parquet":
        return "lighteval"
    if "resps" in record:
        return "lm-eval"
    return "qwen-math" if "code" in record and ("gt" in record or "score" in record) else "jsonl"


def find(record: Any, place: str) -> Any:
    """The value at a place such as ``"doc.question|doc.problem"``: the first that is there, None if none is."""
    for path in place.split("|"):
        value = record
        for step in path.split("."):
            if isinstance(value, Mapping):
                value = value.get(step)
            else:
                known = isinstance(value, list) and step.isdigit() and int(step) < len(value)
                value = value[int(step)] if known else None
        if value is not None:
            return value
    return None


def rollouts_of(record: Mapping[str, Any], layout: Layout, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rollouts of one line, their values checked; ``columns`` go before the layout's own."""
    values = {name: find(record, place) for name, place in {**layout.columns, **columns}.items()}
    if "gold_index" in layout.columns:
        _lighteval(values)
    samples = _samples(record, layout.completions, values) if layout.completions else [values]
    return [{name: _checked(name, sample.get(name)) for name in (*COLUMNS, "filter")} for sample in samples]


def _lighteval(values: dict[str, Any]) -> None:
    """Of several gold answers one is meant; a cap that is no positive number means that there is none."""
    if isinstance(golds := values["gold"], list):
        index = values["gold_index"]
        values["gold"] = golds[index if isinstance(index, int) and index < len(golds) else 0] if golds else None
    if not isinstance(values["cap"], int) or values["cap"] < 1:
        values["cap"] = None


def _samples(record: Mapping[str, Any], place: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The values of a line once for each of its completions, with what belongs to that completion."""
    texts = find(record, place)
    if isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], list):
        texts = texts[0]
    texts = [texts] if isinstance(texts, str) else texts
    if not texts or not isinstance(texts, list) or not all(isinstance(text, str | None) for text in texts):
        raise ValueError(f"{place} must hold a list of texts: only tasks that generate can be used")
    correct = _of_each(values["correct"] if "correct" in values else _metric(record), len(texts))
    if len(correct) != len(texts):
        raise ValueError(f"{len(correct)} verdicts for {len(texts)} completions")
    counts = [_unpadded(tokens) for tokens in _of_each(values.get("n_tokens"), len(texts))]
    counts = counts if len(counts) == len(texts) else [None] * len(texts)
    return [
        {**values, "completion": text, "correct": right, "n_tokens": count, "sample": number}
        for number, (text, right, count) in enumerate(zip(texts, correct, counts, strict=True))
    ]


def _of_each(value: Any, n: int) -> list[Any]:
    """A value for each of ``n`` completions; a single value (such as the score of their vote) is of one only."""
    if isinstance(value, list):
        return value
    return [value] if n == 1 else [None] * n


def _metric(record: Mapping[str, Any]) -> Any:
    """The first metric that is 0 or 1, of a mapping (LightEval) or of the fields whose names are listed (lm-eval)."""
    scores = find(record, "metric|metrics")
    if not isinstance(scores, Mapping):
        names = scores if scores and isinstance(scores, list) else ("exact_match", "acc", "math_verify")
        scores = {name: record.get(name) for name in names if isinstance(name, str)}
    return next((value for value in scores.values() if isinstance(value, Real) and value in (0, 1)), None)


def _unpadded(tokens: Any) -> Any:
    """The number of tokens of a list, without padding that repeats the end token; a recorded number as it is."""
    if not isinstance(tokens, list):
        return tokens
    return len(tokens) - len(list(next(groupby(reversed(tokens)))[1])) + 1 if tokens else None


def _checked(name: str, value: Any) -> Any:
    """A value of its column's type; ``ValueError`` says what it must be. NaN is nothing recorded."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if value is None or (number and value != value):
        return None
    if name in ("correct", "finished"):
        if value in (0, 1):
            return bool(value)
        raise ValueError(f"{name} must be true or false, got {value!r:.60}")
    if name in LEAST:
        if not number or not LEAST[name] <= value <= MOST:
            raise ValueError(f"{name} must be a number from {LEAST[name]} to {MOST:,}, got {value!r:.60}")
        if name != "temperature" and value != int(value):
            raise ValueError(f"{name} must be a whole number, got {value!r}")
        return value if name == "temperature" else int(value)
    if not number and not isinstance(value, str):
        raise ValueError(f"{name} must be text, got {value!r:.60}")
    if number:
        return str(value).removesuffix(".0")  # every digit, and a whole number without a point
    if name == "question" and len(value) > LONGEST:
        raise ValueError(f"question has {len(value):,} characters, more than {LONGEST:,}")
    check_whole(value, name)
    return value
