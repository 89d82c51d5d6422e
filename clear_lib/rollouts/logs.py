"""Rollouts that other programs recorded: evaluation harnesses' logs, and plain JSON lines.

Reading is forgiving to a stated share and never silent: every line that is left out is counted under a reason, and
a line that cannot be read is listed with its number (:class:`Report`).
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clear_lib import reasoner
from clear_lib.jsonlines import json_lines
from clear_lib.rollouts.grading import Grader, extract_answer, gold_answer
from clear_lib.rollouts.layouts import COLUMNS, LAYOUTS, MOST, layout_of, rollouts_of
from clear_lib.rollouts.store import SCHEMA

#: What a model or a set of questions may be called. Names stand in captions and pages, where markup would be obeyed.
NAME = re.compile(r"[\w .:@/+,=()-]{1,200}")

#: Share of a file's lines that may be malformed before reading it is an error.
MALFORMED = 0.01


@dataclass
class Report:
    """What was read from one file, and what was not."""

    path: Path
    layout: str = "jsonl"  #: Name in :data:`~clear_lib.rollouts.layouts.LAYOUTS`.
    lines: int = 0  #: Lines (rows of a Parquet file), blank ones aside.
    kept: int = 0  #: Rollouts.
    malformed: list[tuple[int, str]] = field(default_factory=list)  #: Lines that could not be read, from 1, and why.
    dropped: Counter[str] = field(default_factory=Counter)  #: Rollouts that could be read and are not used, by reason.
    notes: list[str] = field(default_factory=list)  #: Choices that were made in reading.

    def __str__(self) -> str:
        rows = [f"{self.path} ({LAYOUTS[self.layout].writer}): {self.lines} lines, {self.kept} rollouts kept"]
        rows += [f"  {count} dropped: {reason}" for reason, count in self.dropped.items()]
        rows += [f"  {len(self.malformed)} malformed lines"] if self.malformed else []
        rows += [f"    line {number}: {why}" for number, why in self.malformed[:20]]
        rows += ["    …"] if len(self.malformed) > 20 else []
        return "\n".join([*rows, *(f"  {note}" for note in self.notes)])


def read(
    path: str | Path,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    keep_filter: str | None = None,
    malformed: float = MALFORMED,
) -> tuple[pd.DataFrame, Report]:
    """Read one file: a row a rollout with the columns of ``COLUMNS``, None where nothing is recorded; and a report.

    The file is ``.jsonl``, or ``.parquet`` for LightEval. Without a ``layout`` its first line decides. ``columns`` say
    where things stand, before the layout's own places. lm-evaluation-harness writes a line for each *filter* (a way to
    extract the answer); ``keep_filter`` is the one to keep, by default the first. ``malformed`` is the share of the
    lines that may be. ``ValueError`` for a file that is missing, empty or has too many of these, and for an unknown
    layout, column or filter.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    for given, known, what in ((layout, LAYOUTS, "layout"), *((name, COLUMNS, "column") for name in columns or ())):
        if given is not None and given not in known:
            raise ValueError(f"unknown {what} {given!r}; known: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    report = Report(path)
    for number, record in _records(path):
        report.lines += 1
        try:
            if isinstance(record, ValueError):
                raise record
            report.layout = layout = layout or layout_of(path, record)
            rows += rollouts_of(record, LAYOUTS[layout], columns or {})
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


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """Numbered records of a file; a ``ValueError`` stands in for one that cannot be read."""
    if path.suffix != ".parquet":
        with path.open("rb") as file:
            yield from json_lines(file)
        return
    try:
        yield from enumerate(pq.read_table(path).to_pylist(), 1)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: truncated or damaged ({error})") from None


def _task(path: Path) -> str:
    """The name of the task, from a harness's file name; otherwise the name of the file."""
    name = re.sub(r"^(samples|details)_|_\d{4}-\d\d-\d\dT[\d:.-]+$", "", path.stem)
    return re.sub(r"^[^:|]+\|(?=.*\|)|[|:]\d+(\|\d+)?$", "", name)  # community|task|0|0, task|5, task:5


def _one_filter(table: pd.DataFrame, keep: str | None, report: Report) -> pd.DataFrame:
    """The rollouts under one filter of lm-evaluation-harness."""
    names = list(table["filter"].dropna().unique())
    if keep is not None and keep not in names:
        raise ValueError(f"{report.path}: no filter {keep!r}; it has: {', '.join(names) or 'none'}")
    if not names:
        return table
    keep = keep or names[0]
    if others := [name for name in names if name != keep]:
        report.notes.append(f"verdicts of the filter {keep!r}; also there: {', '.join(others)}")
    reasons = {
        "the same rollout under another filter": table["filter"].isin(others),
        "no filter, and other lines have one": table["filter"].isna(),
    }
    return _without(table, reasons, report)


# ---- what a log leaves open: tokens, verdicts, identity -------------------------------------------------------


def count_tokens(texts: Sequence[str], tokenizer: str) -> list[int]:
    """Tokens of texts, one at least, without an end token; ``tokenizer`` is ``"embedded"``, a model or a folder."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(reasoner.location(tokenizer), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"tokenizer {tokenizer!r} cannot be loaded: {error}") from None
    return list(map(len, loaded(list(texts), add_special_tokens=False)["input_ids"]))


def complete(
    table: pd.DataFrame,
    report: Report,
    *,
    model: str | None = None,
    tokenizer: str | None = None,
    cap: int | None = None,
) -> pd.DataFrame:
    """Make a table of rollouts of what :func:`read` returned: count, grade, name, and drop what cannot be used.

    The result has the columns of :data:`~clear_lib.rollouts.store.SCHEMA` and ``level``; notes are added to the report.
    Where the file does not say it, ``model`` is who wrote them, ``tokenizer`` counts tokens and adds the end token to
    a finished completion, and ``cap`` is what the model was allowed (by default the longest rollout).
    ``ValueError`` if one of the first two is missing, a name has other characters than :data:`NAME` allows, the cap is
    no number of tokens, or nothing is left.
    """
    if cap is not None and not 1 <= cap <= MOST:
        raise ValueError(f"the cap must be a number from 1 to {MOST:,}, got {cap!r:.60}")
    text, question, gold = (table[name].fillna("").str.strip().ne("") for name in ("completion", "question", "gold"))
    reasons = {
        "no question": ~question,
        "neither completion nor token count": ~text & table["n_tokens"].isna(),
        "neither verdict nor gold answer": table["correct"].isna() & ~gold,
        "neither verdict nor completion": table["correct"].isna() & ~text,
    }
    table = _without(table, reasons, report)
    _name(table, model, report)
    _measure(table, tokenizer, cap, report)
    _grade(table, report)
    plain = table["question"].str.casefold().str.split().str.join(" ")
    table["sample"] = table["sample"].fillna(plain.groupby(plain).cumcount()).astype("int64")
    hashes = plain.map(lambda text: hashlib.sha256(text.encode()).hexdigest()[:12])
    table["question_id"] = table["dataset"] + "-" + hashes
    doubled = {"the same question and sample again": table.duplicated(["question_id", "sample"])}
    table = _without(table, doubled, report)
    report.kept = len(table)
    fixed = {"rung": "free", "split": "evaluation", "seed": 0, "engine": LAYOUTS[report.layout].writer}
    fixed |= dict.fromkeys(("revision", "dtype", "engine_version"), "unknown")
    fixed |= {"prompt": table["question"], "tier": table["tier"].fillna("")}
    table = table.assign(temperature=table["temperature"].fillna(0.0).astype(float), **fixed)
    return table[[*SCHEMA.names, "level"]]


def _without(table: pd.DataFrame, reasons: Mapping[str, pd.Series], report: Report) -> pd.DataFrame:
    """The table without the rows to which a reason applies; each row counts under its first."""
    kept = pd.Series(True, index=table.index)
    for reason, applies in reasons.items():
        if count := int((applies & kept).sum()):
            report.dropped[reason] += count
        kept &= ~applies
    if not kept.any():
        raise ValueError(f"{report.path}: no rollout can be used\n{report}")
    return table[kept].reset_index(drop=True)


def _name(table: pd.DataFrame, model: str | None, report: Report) -> None:
    """Fill in the model, and check the names of models and data sets."""
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


def _measure(table: pd.DataFrame, tokenizer: str | None, cap: int | None, report: Report) -> None:
    """Fill in ``length``, ``cap`` and ``finish_reason``."""
    uncounted = table["n_tokens"].isna()
    if uncounted.any():
        if tokenizer is None:
            raise ValueError(
                f"{report.path}: {uncounted.sum()} of {len(table)} rollouts have no token count; name the "
                f"model's tokenizer with --tokenizer"
            )
        table.loc[uncounted, "n_tokens"] = count_tokens(list(table.loc[uncounted, "completion"]), tokenizer)
        report.notes.append(f"tokens of {uncounted.sum()} completions counted with the tokenizer {tokenizer!r}")
    caps = table["cap"].fillna(cap) if cap else table["cap"]
    cut = table["finished"].eq(False) | (table["finished"].isna() & (table["n_tokens"] >= caps.fillna(math.inf)))
    table.loc[uncounted & ~cut, "n_tokens"] += 1  # the end token
    table["length"] = table["n_tokens"].clip(lower=1).astype("int64")
    table["cap"] = caps.fillna(table["length"].max()).astype("int64").clip(lower=table["length"])
    table["finish_reason"] = cut.map({True: "length", False: "stop"})
    if cut.any():
        report.notes.append(f"{int(cut.sum())} rollouts were stopped by their cap")


def _grade(table: pd.DataFrame, report: Report) -> None:
    """Fill in ``answer``, ``gold`` and ``verdict``; only what has no recorded verdict is graded."""
    table["answer"] = pd.Series(table["completion"].map(extract_answer, na_action="ignore"), dtype="string")
    table["gold"] = table["gold"].fillna("").map(gold_answer)
    table["verdict"] = table["correct"].map({True: "correct", False: "wrong"})
    if (ungraded := table["verdict"].isna()).any():
        answers = [None if pd.isna(answer) else answer for answer in table.loc[ungraded, "answer"]]
        with Grader() as grader:
            verdicts = grader.grade(list(table.loc[ungraded, "gold"]), answers)
        table.loc[ungraded, "verdict"] = verdicts
        report.notes.append(
            f"{len(verdicts)} verdicts were not recorded: the boxed answers are graded here; "
            f"{verdicts.count('unknown')} could not be (unknown)"
        )
