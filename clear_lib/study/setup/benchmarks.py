"""The public question sets of Tables 6 and 7, from the hub or a folder, with checked counts and known defects."""

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from clear_lib.jsonlines import json_lines
from clear_lib.rollouts.grading import gold_answer
from clear_lib.study.setup import paper
from clear_lib.study.setup.questions import same_text, validate


class QuestionSet(NamedTuple):
    """Where a question set is, and how large it is: an entry of ``benchmarks.yaml``."""

    repository: str
    revision: str | None
    rows: Mapping[str, int]
    stems: Sequence[str]
    configs: Sequence[str] = ("default",)
    hub_split: str | None = None
    pieces: Sequence[str] = ()
    repeated: Mapping[str, int] = {}


_LISTED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SETS = {name: QuestionSet(**entry) for name, entry in _LISTED["sets"].items()}

#: Sets and parts that the predictor learns from, by the name of the split; and answers by the identity of the question.
PREDICTOR, CORRECTED = _LISTED["predictor"], _LISTED["corrected"]

#: The tier of each set.
TIER_OF = dict(zip(paper.TABLE_6["name"], paper.TABLE_6["tier"], strict=True))

#: The sets that streams are drawn from, in the order of Table 6.
EVALUATION = tuple(paper.TABLE_6.query("use == 'evaluation'")["name"])


def load(name: str, part: str = "test", folder: str | Path | None = None) -> pd.DataFrame:
    """The questions of one set, from a folder with JSON lines or the hub; ``attrs["source"]`` names files or commit."""
    if name not in SETS:
        raise ValueError(f"unknown question set {name!r}; known: {', '.join(SETS)}")
    known = SETS[name]
    if part not in known.rows:
        raise ValueError(f"{name} has no part {part!r}; it has: {', '.join(known.rows)}")
    if folder is None:
        at = known.repository, known.revision, known.hub_split or part, known.configs
        rows, source = hub_rows(name, *at, f"{known.stems[0]}_{part}.jsonl")
    else:
        rows, source = _from_folder(name, part, Path(folder))
    if len(rows) != known.rows[part]:
        raise ValueError(f"{name}, {part}: expected {known.rows[part]} questions, found {len(rows)} in {source}")
    texts = pd.Series([row.get("problem") or row.get("question") for row in rows], dtype=object)
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ValueError(f"{source}: row {number} has no text in `problem` or `question`, got {text!r}")
    ids = _identities(texts, f"{name.lower().replace(' ', '-')}-{part}-")
    golds = [CORRECTED.get(each) or _gold(row) for each, row in zip(ids, rows, strict=True)]
    for number, (gold, text) in enumerate(zip(golds, texts, strict=True), 1):
        if not gold:
            raise ValueError(f"{source}: row {number} has no answer: {text!r:.80}")
    same = {"dataset": name, "tier": TIER_OF[name], "split": part}
    table = pd.DataFrame({"question_id": ids, **same, "question": texts, "gold": golds})
    table = validate(table, known.repeated.get(part, 0))
    table.attrs["source"] = source
    return table


def _identities(texts: pd.Series, prefix: str) -> pd.Series:
    """Identity of each question: a hash of its text without layout, numbered where the text stands there again."""
    same = same_text(texts)
    ids = prefix + same.map(lambda text: hashlib.sha256(text.encode()).hexdigest()[:12])
    again = same.groupby(same).cumcount()
    return ids.where(again == 0, ids + "-" + (again + 1).astype(str))


def study(split: str = "clean", folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """The tables ``"evaluation"`` and ``"predictor"`` of the paper's study, the latter by a split of :data:`PREDICTOR`.

    Training questions that an evaluation set has too are left out of the split ``"clean"``: three of OlympiadBench.
    """
    if split not in PREDICTOR:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(PREDICTOR)}")
    evaluation = pd.concat([load(name, "test", folder) for name in EVALUATION], ignore_index=True)
    predictor = pd.concat([load(name, part, folder) for name, part in PREDICTOR[split]], ignore_index=True)
    if split == "clean":
        known = same_text(predictor["question"]).isin(same_text(evaluation["question"]))
        predictor = predictor[~known].reset_index(drop=True)
    return {"evaluation": evaluation.assign(split="evaluation"), "predictor": predictor.assign(split="predictor")}


def hub_rows(
    name: str, repository: str, revision: str | None, split: str, configs: Sequence[str], file: str
) -> tuple[list[dict[str, Any]], str]:
    """Rows of a split of a set on the hub, and their repository and commit; ``file`` is what would do in a folder."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    try:
        commit = revision or HfApi().dataset_info(repository).sha
        parts = [load_dataset(repository, each, split=split, revision=commit) for each in configs]
    except Exception as error:  # the hub's clients raise errors of many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{name} cannot be loaded from the hub (dataset {repository}, revision {revision or 'newest'}): "
            f"{reason}\nWithout a network, name a folder that holds {file}"
        ) from error
    return [row for rows in parts for row in rows], f"{repository}@{commit}"


def _from_folder(name: str, part: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of a set, and their files: the first layout of public evaluation repositories that is there."""
    stems, pieces = SETS[name].stems, SETS[name].pieces
    layouts = [[path] for stem in stems for path in (f"{stem}_{part}.jsonl", f"{stem}/{part}.jsonl", f"{stem}.jsonl")]
    layouts += [[f"{stem}_{piece}.jsonl" for piece in pieces] for stem in stems if pieces]
    for layout in layouts:
        files = [folder / path for path in layout]
        if all(file.is_file() for file in files):
            return [row for file in files for row in file_rows(file)], ", ".join(map(str, files))
    raise ValueError(f"{name}, {part}: not in {folder}; looked for {', '.join(map(' and '.join, layouts))}")


def file_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file with JSON lines, which may be packed by gzip."""
    with (gzip.open if file.suffix == ".gz" else open)(file, "rb") as lines:
        for number, row in json_lines(lines):
            if isinstance(row, ValueError):
                raise ValueError(f"{file}, line {number}: {row}")
            yield row


def _gold(row: Mapping[str, Any]) -> str:
    """The answer of a row: a field for it, a list of answers, or the box of the solution; ``""`` if there is none."""
    found = row.get("final_answer", row.get("answer"))
    if isinstance(found, (list, tuple)):
        return ", ".join(map(str.strip, found))
    if isinstance(found, (int, float)):
        return f"{found:.15g}"
    return gold_answer(found or row.get("solution") or "")
