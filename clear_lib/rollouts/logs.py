"""Rollouts that other programs recorded: evaluation harnesses' logs, and plain JSON lines.

Reading is forgiving to a stated share and never silent: every line that is left out is counted under a reason, and
a line that cannot be read is listed with its number (:class:`Report`).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clear_lib.reasoner import location
from clear_lib.rollouts.grading import Grader, extract_answer, gold_answer
from clear_lib.rollouts.store import SCHEMA

#: What is read of a rollout, and where it stands in plain JSON lines if the user does not say. ``|`` separates
#: alternatives, and a dot goes into a nested object.
COLUMNS: Mapping[str, str] = {
    "question": "question|problem|prompt",
    "gold": "gold|answer|target",
    "completion": "completion|response|output",
    "n_tokens": "n_tokens|length",
    "correct": "correct",
    "finished": "finished",
    "cap": "cap|max_tokens",
    "sample": "sample",
    "temperature": "temperature",
    "model": "model",
    "dataset": "dataset|benchmark",
    "level": "level",
    "tier": "tier",
}

#: What a model or a set of questions may be called. Names stand in captions and pages, where markup would be obeyed.
NAME = re.compile(r"[\w .:@/+,=()-]{1,200}")

#: Share of a file's lines that may be malformed before reading it is an error.
MALFORMED = 0.01

_QUESTIONS = "doc.question|doc.problem|doc.Problem|doc.query|doc.input|arguments.gen_args_0.arg_0|arguments.0.0"


class Layout(NamedTuple):
    """How a program writes its rollouts: its name, where things stand, and how one line becomes rollouts."""

    writer: str
    columns: Mapping[str, str]
    rollouts: Callable[[Mapping[str, Any], Mapping[str, str]], list[dict[str, Any]]]


@dataclass
class Report:
    """What was read from one file, and what was not.

    Attributes
    ----------
    path : Path
    layout : str
        Name in :data:`LAYOUTS`.
    lines : int
        Lines (rows of a Parquet file), blank ones aside.
    kept : int
        Rollouts.
    malformed : list of (int, str)
        Numbers of the lines that could not be read, from 1, and why.
    dropped : Counter
        Rollouts that could be read and are not used, by reason.
    notes : list of str
        Choices that were made in reading.
    """

    path: Path
    layout: str
    lines: int = 0
    kept: int = 0
    malformed: list[tuple[int, str]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [f"{self.path} ({LAYOUTS[self.layout].writer}): {self.lines} lines, {self.kept} rollouts kept"]
        rows += [f"  {count} dropped: {reason}" for reason, count in self.dropped.items()]
        rows += [f"  {len(self.malformed)} malformed lines"] if self.malformed else []
        rows += [f"    line {number}: {why}" for number, why in self.malformed[:20]]
        rows += ["    …"] if len(self.malformed) > 20 else []
        return "\n".join([*rows, *(f"  {note}" for note in self.notes)])


def find(record: Any, place: str) -> Any:
    """The value at a place such as ``"doc.question|doc.problem"``: the first that is there, None if none is."""
    for path in place.split("|"):
        value = record
        for step in path.split("."):
            if isinstance(value, Mapping):
                value = value.get(step)
            elif (
                isinstance(value, Sequence) and not isinstance(value, str) and step.isdigit() and int(step) < len(value)
            ):
                value = value[int(step)]
            else:
                value = None
        if value is not None:
            return value
    return None


def _plain(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{name: find(record, place) for name, place in columns.items()}]


def _verdict(scores: Any, place: str | None = None) -> Any:
    """A recorded right or wrong: the score at ``place``, or the first that is 0 or 1."""
    if place:
        return find(scores, place)
    right = (value for value in (scores or {}).values() if isinstance(value, Real) and value in (0, 1))
    return next(right, None)


def _lm_eval(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """A line of lm-evaluation-harness. A score of several samples is of their vote, not of any of them."""
    texts = find(record, "resps.0")
    if not isinstance(texts, Sequence) or isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ValueError("resps must hold a list of texts: only tasks that generate can be used")
    rollout = {name: find(record, place) for name, place in columns.items()} | {"filter": record.get("filter")}
    known = record.get("metrics") or ["exact_match", "acc", "math_verify"]
    score = _verdict({name: record.get(name) for name in known}) if "correct" not in columns else rollout["correct"]
    return [
        rollout | {"completion": text, "correct": score if len(texts) == 1 else None, "sample": number}
        for number, text in enumerate(texts)
    ]


def _qwen_math(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """A line of the Qwen2.5-Math evaluation: lists of completions (``code``) and verdicts (``score``)."""
    texts, scores = record.get("code"), record.get("score")
    if not isinstance(texts, list) or (
        scores is not None and (not isinstance(scores, list) or len(scores) != len(texts))
    ):
        raise ValueError("code and score must be lists of equal length")
    rollout = {name: find(record, place) for name, place in columns.items()}
    return [
        rollout | {"completion": text, "correct": scores[number] if scores else None, "sample": number}
        for number, text in enumerate(texts)
    ]


def _lighteval(record: Mapping[str, Any], columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row of LightEval's details, of version 0.10 and later (``model_response``) or before (``predictions``)."""
    texts = find(record, "model_response.text|predictions")
    tokens = find(record, "model_response.output_tokens|cont_tokens") or []
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list):
        raise ValueError("no generated text: only tasks that generate can be used")
    rollout = {name: find(record, place) for name, place in columns.items()}
    score = rollout["correct"] if "correct" in columns else _verdict(find(record, "metric|metrics"))
    if isinstance(gold := rollout["gold"], list):
        index = find(record, "doc.gold_index")
        rollout["gold"] = gold[index if isinstance(index, int) and index < len(gold) else 0] if gold else None
    if not isinstance(rollout["cap"], int) or rollout["cap"] < 1:
        rollout["cap"] = None
    counts = [_unpadded(each) for each in tokens] if len(tokens) == len(texts) else [None] * len(texts)
    return [
        rollout
        | {"completion": text, "n_tokens": count, "correct": score if len(texts) == 1 else None, "sample": number}
        for number, (text, count) in enumerate(zip(texts, counts, strict=True))
    ]


def _unpadded(tokens: Any) -> int | None:
    """Tokens without the padding of their batch, which repeats the last one; one of the run is the end token."""
    if not isinstance(tokens, list) or not tokens:
        return None
    run = next((n for n, token in enumerate(reversed(tokens)) if token != tokens[-1]), len(tokens))
    return len(tokens) - run + 1


#: Every layout that can be read, by the name that the command line uses.
LAYOUTS: Mapping[str, Layout] = {
    "lm-eval": Layout(
        "lm-evaluation-harness, --log_samples",
        {
            "question": _QUESTIONS,
            "gold": "target|doc.answer",
            "cap": "arguments.gen_args_0.arg_1.max_gen_toks|arguments.0.1.max_gen_toks",
            "temperature": "arguments.gen_args_0.arg_1.temperature|arguments.0.1.temperature",
            "level": "doc.level",
            "tier": "doc.tier",
        },
        _lm_eval,
    ),
    "qwen-math": Layout(
        "Qwen2.5-Math evaluation", {"question": "question", "gold": "gt|answer", "level": "level"}, _qwen_math
    ),
    "lighteval": Layout(
        "LightEval details",
        {
            "question": "doc.original_query|doc.query|example|full_prompt",
            "gold": "doc.choices|gold",
            "cap": "doc.generation_size",
            "level": "doc.specific.level",
            "tier": "doc.specific.tier",
        },
        _lighteval,
    ),
    "jsonl": Layout("JSON lines", COLUMNS, _plain),
}


def layout_of(path: Path, record: Mapping[str, Any]) -> str:
    """Which layout a file has, by its ending and its first line."""
    if path.suffix == ".parquet":
        return "lighteval"
    if "resps" in record:
        return "lm-eval"
    return "qwen-math" if "code" in record and ("gt" in record or "score" in record) else "jsonl"


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered records of a file; a ``ValueError`` stands in for one that cannot be read."""
    if path.suffix == ".parquet":
        try:
            yield from enumerate(pq.read_table(path).to_pylist(), 1)
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: truncated or damaged ({error})") from None
        return
    with path.open("rb") as file:
        yield from json_lines(file)


def json_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Objects of JSON lines with the numbers of their lines, from 1; an error stands in for a line that is none.

    Blank lines are passed over, and so is a byte order mark.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                yield number, record if isinstance(record, dict) else ValueError("not a JSON object")
            except (ValueError, RecursionError) as error:
                yield number, ValueError(f"not JSON: {error}")


def _text(name: str, value: Any) -> str | None:
    """A text; of a number every digit, and a whole one without a point."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return str(value).removesuffix(".0")
    raise ValueError(f"{name} must be text, got {value!r:.60}")


def _number(name: str, value: Any, least: float) -> float | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or value < least or not math.isfinite(value):
        raise ValueError(f"{name} must be a number of at least {least:g}, got {value!r:.60}")
    return value


def _whole(name: str, value: Any, least: int) -> int | None:
    value = _number(name, value, least)
    if value is not None and value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return None if value is None else int(value)


def _truth(name: str, value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Real) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{name} must be true or false, got {value!r:.60}")


def _checked(rollout: Mapping[str, Any]) -> dict[str, Any]:
    """A rollout with values of the right types; ``ValueError`` names one that is not."""
    get = rollout.get
    return {
        **{
            name: _text(name, get(name))
            for name in ("question", "gold", "completion", "model", "dataset", "level", "tier")
        },
        **{name: _truth(name, get(name)) for name in ("correct", "finished")},
        **{name: _whole(name, get(name), least) for name, least in {"n_tokens": 1, "cap": 1, "sample": 0}.items()},
        "temperature": _number("temperature", get("temperature"), 0),
        "filter": get("filter"),
    }


def read(
    path: str | Path,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    keep_filter: str | None = None,
    malformed: float = MALFORMED,
) -> tuple[pd.DataFrame, Report]:
    """Read one file.

    Parameters
    ----------
    path : path
        ``.jsonl``, or ``.parquet`` for LightEval.
    layout : str, optional
        Name in :data:`LAYOUTS`; recognised by the file's first line if omitted.
    columns : mapping, optional
        Where things stand, by the names of :data:`COLUMNS`, before the layout's own places.
    keep_filter : str, optional
        lm-evaluation-harness writes a line for each *filter* (a way to extract the answer): which one to keep, by
        default the first.
    malformed : float
        Share of the lines that may be malformed.

    Returns
    -------
    rollouts : DataFrame
        A row a rollout: the names of :data:`COLUMNS`, with None where nothing is recorded.
    report : Report

    Raises
    ------
    ValueError
        If the file is missing, empty or has too many malformed lines; if a layout, column or filter is unknown.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for given, known, what in ((layout, LAYOUTS, "layout"), *((name, COLUMNS, "column") for name in columns or ())):
        if given is not None and given not in known:
            raise ValueError(f"unknown {what} {given!r}; known: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    report = Report(path, layout or ("lighteval" if path.suffix == ".parquet" else "jsonl"))
    begun = False
    for number, record in _lines(path):
        report.lines += 1
        try:
            if isinstance(record, ValueError):
                raise record
            if not begun:
                report.layout, begun = layout or layout_of(path, record), True
            form = LAYOUTS[report.layout]
            found = form.rollouts(record, {**form.columns, **(columns or {})})
            rows += [_checked(rollout) for rollout in found]
        except ValueError as error:
            report.malformed.append((number, str(error)))
    if not report.lines:
        raise ValueError(f"{path}: empty")
    if len(report.malformed) > malformed * report.lines:
        raise ValueError(
            f"{path}: {len(report.malformed)} of {report.lines} lines are malformed, more than {malformed:.0%}:\n"
            + "\n".join(f"  line {number}: {why}" for number, why in report.malformed[:10])
        )
    table = pd.DataFrame(rows, columns=[*COLUMNS, "filter"], dtype=object)
    table["dataset"] = table["dataset"].fillna(_task(path))
    return _one_filter(table, keep_filter, report).drop(columns="filter"), report


def _task(path: Path) -> str:
    """The name of the task, from a harness's file name; otherwise the name of the file."""
    name = re.sub(r"^(samples|details)_|_\d{4}-\d\d-\d\dT[\d:.-]+$", "", path.stem)
    return re.sub(r"^[^:|]+\|(?=.*\|)|[|:]\d+(\|\d+)?$", "", name)  # community|task|0|0, task|5, task:5


def _one_filter(table: pd.DataFrame, keep: str | None, report: Report) -> pd.DataFrame:
    names = list(dict.fromkeys(table["filter"].dropna()))
    if keep is not None and keep not in names:
        raise ValueError(f"{report.path}: no filter {keep!r}; it has: {', '.join(names) or 'none'}")
    if not names:
        return table
    kept = table[table["filter"] == (keep or names[0])]
    if len(names) > 1:
        report.notes.append(
            f"verdicts of the filter {keep or names[0]!r}; also there: "
            f"{', '.join(name for name in names if name != (keep or names[0]))}"
        )
        report.dropped["the same rollout under another filter"] += len(table) - len(kept)
    return kept.reset_index(drop=True)


# ---- what a log leaves open: tokens, verdicts, identity -------------------------------------------------------


def count_tokens(texts: Sequence[str], tokenizer: str) -> list[int]:
    """Tokens of texts, without an end token.

    Parameters
    ----------
    texts : sequence of str
    tokenizer : str
        ``"embedded"`` for the embedded reasoner's, the name of a model, or a folder.

    Raises
    ------
    ValueError
        If the tokenizer cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(location(tokenizer), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer {tokenizer!r} cannot be loaded: {error}") from None
    return [len(tokens) for tokens in loaded(list(texts), add_special_tokens=False)["input_ids"]] if texts else []


def complete(
    table: pd.DataFrame,
    report: Report,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
    cap: int | None = None,
    timeout: float = 5.0,
) -> pd.DataFrame:
    """Make a table of rollouts of what was read: count, grade, name, and drop what cannot be used.

    Parameters
    ----------
    table, report
        Of :func:`read`; the report is written on.
    model : str, optional
        Who wrote them, where the file does not say.
    tokenizer : str, optional
        Counts tokens where no count is recorded, and adds the end token to a finished completion.
    cap : int, optional
        Most new tokens that the model was allowed, where the file does not say. Otherwise the longest rollout.
    timeout : float
        Seconds for grading one answer.

    Returns
    -------
    DataFrame
        The columns of :data:`clear_lib.rollouts.store.SCHEMA`, and ``level``. ``tier`` is what was recorded, or ``""``.

    Raises
    ------
    ValueError
        If token counts are missing and no tokenizer is named, if the model is not named, if a name is none
        (:data:`NAME`), or nothing is left.
    """
    table = table.copy()
    text = table["completion"].fillna("").str.strip().astype(bool)
    reasons = {
        "no question": ~table["question"].fillna("").str.strip().astype(bool),
        "neither completion nor token count": ~text & table["n_tokens"].isna(),
        "neither verdict nor gold answer": table["correct"].isna() & ~table["gold"].fillna("").str.strip().astype(bool),
        "neither verdict nor completion": table["correct"].isna() & ~text,
    }
    table = _without(table, reasons, report)
    if table["model"].isna().any():
        if model is None:
            raise ValueError(f"{report.path} does not say which model wrote it; name it with --model")
        table["model"] = table["model"].fillna(model)

    for column in ("model", "dataset"):
        for name in table[column].unique():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{report.path}: {column} {name!r:.80} is no name: letters, digits and . : @ / + , = ( ) - _"
                )

    uncounted = table["n_tokens"].isna().to_numpy()
    if uncounted.any():
        if tokenizer is None:
            raise ValueError(
                f"{report.path}: {uncounted.sum()} of {len(table)} rollouts have no token count; name the "
                f"model's tokenizer with --tokenizer"
            )
        table.loc[uncounted, "n_tokens"] = count_tokens(list(table.loc[uncounted, "completion"]), tokenizer)
        report.notes.append(f"tokens of {uncounted.sum()} completions counted with the tokenizer {tokenizer!r}")
    caps = table["cap"].fillna(cap) if cap else table["cap"]
    cut = table["finished"].eq(False) | (
        table["finished"].isna() & caps.notna() & (table["n_tokens"] >= caps.fillna(0))
    )
    table.loc[uncounted & ~cut.to_numpy(), "n_tokens"] += 1  # the end token
    table["length"] = table["n_tokens"].clip(lower=1).astype("int64")
    table["cap"] = caps.fillna(table["length"].max()).astype("int64").clip(lower=table["length"])
    table["finish_reason"] = cut.map({True: "length", False: "stop"})
    if cut.any():
        report.notes.append(f"{int(cut.sum())} rollouts were stopped by their cap")

    table["answer"] = pd.Series(table["completion"].map(extract_answer, na_action="ignore"), dtype="string")
    table["gold"] = table["gold"].fillna("").map(gold_answer)
    table["verdict"] = table["correct"].map({True: "correct", False: "wrong"})
    if (open_ := table["verdict"].isna()).any():
        with Grader(timeout) as grader:
            answers = [None if pd.isna(answer) else answer for answer in table.loc[open_, "answer"]]
            table.loc[open_, "verdict"] = grader.grade(list(table.loc[open_, "gold"]), answers)
        unknown = int((table["verdict"] == "unknown").sum())
        report.notes.append(
            f"{int(open_.sum())} verdicts were not recorded: the boxed answers are graded here; "
            f"{unknown} could not be (unknown)"
        )

    plain = table["question"].str.casefold().str.split().str.join(" ")
    table["sample"] = table["sample"].fillna(plain.groupby(plain).cumcount()).astype("int64")
    table["question_id"] = [
        f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
        for name, text in zip(table["dataset"], plain, strict=True)
    ]
    doubled = {"the same question and sample again": table.duplicated(["question_id", "sample"])}
    table = _without(table, doubled, report)
    report.kept = len(table)
    named = {
        "prompt": table["question"],
        "rung": "free",
        "split": "evaluation",
        "seed": 0,
        "revision": "unknown",
        "dtype": "unknown",
        "engine": LAYOUTS[report.layout].writer,
        "engine_version": "unknown",
        "temperature": table["temperature"].fillna(0.0).astype(float),
        "tier": table["tier"].fillna(""),
    }
    return table.assign(**named)[[*SCHEMA.names, "level"]].reset_index(drop=True)


def _without(table: pd.DataFrame, reasons: Mapping[str, pd.Series], report: Report) -> pd.DataFrame:
    """The table without rows that a reason speaks against; each row counts under its first."""
    kept = pd.Series(True, index=table.index)
    for reason, against in reasons.items():
        if count := int((against & kept).sum()):
            report.dropped[reason] += count
        kept &= ~against
    if not kept.any():
        raise ValueError(f"{report.path}: no rollout can be used\n{report}")
    return table[kept].reset_index(drop=True)
