"""The public question sets of Tables 6 and 7, from the hub or a folder, with checked counts and known defects."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from clear_lib.jsonlines import json_lines
from clear_lib.rollouts.grading import gold_answer
from clear_lib.study.setup import paper
from clear_lib.study.setup.questions import assert_disjoint, same_text, validate


class QuestionSet(NamedTuple):
    """Where a question set is, and how large it is."""

    repository: str  #: on the hub
    revision: str | None  #: commit; None: no commit could be confirmed, the newest is used and reported
    rows: Mapping[str, int]  #: questions of each part, ``"train"`` and ``"test"``
    stems: tuple[str, ...]  #: of its files: ``<stem>_<part>.jsonl``, ``<stem>/<part>.jsonl`` or ``<stem>.jsonl``
    configs: tuple[str, ...] = ("default",)  #: configurations of the repository that make up the set
    hub_split: str | None = None  #: what the hub calls the test part, if it has another name
    pieces: tuple[str, ...] = ()  #: endings of ``<stem>_<piece>.jsonl``, where a folder may keep the set in pieces
    repeated: Mapping[str, int] = {}  #: questions of a part that stand in it twice, printed a little differently


MATH_SUBJECTS = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"

#: The sets by their names in Table 6. The official repository of OlympiadBench, Hothan/OlympiadBench, has 674 of
#: the 675 questions that the paper counts; the one named here has all.
SETS = {
    "GSM8K": QuestionSet(
        "openai/gsm8k",
        "740312add88f781978c0658806c59bc2815b9866",
        {"train": 7473, "test": 1319},
        ("gsm8k",),
        configs=("main",),
    ),
    "MATH": QuestionSet(
        "EleutherAI/hendrycks_math",
        "21a5633873b6a120296cce3e2df9d5550074f4a3",
        {"train": 7500, "test": 5000},
        ("math",),
        configs=tuple(MATH_SUBJECTS.split()),
        repeated={"train": 4, "test": 1},
    ),
    "MATH 500": QuestionSet(
        "HuggingFaceH4/MATH-500",
        "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        {"test": 500},
        ("math500", "math_500", "math-500"),
    ),
    "OlympiadBench": QuestionSet(
        "zwhe99/simplerl-OlympiadBench", None, {"test": 675}, ("olympiadbench", "olympiad_bench")
    ),
    "AMC-23": QuestionSet(
        "math-ai/amc23", "80815d37005feb82cd7f8fbc6901d5d3eff43057", {"test": 40}, ("amc23", "amc2023")
    ),
    "AIME 2024": QuestionSet(
        "HuggingFaceH4/aime_2024",
        "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        {"test": 30},
        ("aime24", "aime2024", "aime_2024"),
        hub_split="train",
        pieces=("I", "II"),
    ),
    "AIME 2025": QuestionSet(
        "math-ai/aime25",
        "563bb8404243c5f09de6ec262f2db674fe5bce9b",
        {"test": 30},
        ("aime25", "aime2025", "aime_2025"),
        pieces=("I", "II"),
    ),
    "Minerva": QuestionSet(
        "math-ai/minervamath",
        "ee46ddc498933b1977577953250ca5c66be64f96",
        {"test": 272},
        ("minerva_math", "minervamath", "minerva"),
    ),
}

#: The tier of each set.
TIER_OF = dict(zip(paper.TABLE_6["name"], paper.TABLE_6["tier"], strict=True))

#: The sets that streams are drawn from, in the order of Table 6.
EVALUATION = tuple(paper.TABLE_6.query("use == 'evaluation'")["name"])

#: Training sets of the predictor: held out properly, or as the paper's counts imply (1,319 and 12,500 questions).
PREDICTOR = {
    "clean": (("GSM8K", "train"), ("MATH", "train")),
    "paper": (("GSM8K", "test"), ("MATH", "train"), ("MATH", "test")),
}

#: Corrections of answers that cannot be used as published: an empty box where the solution shows that there are none,
#: a variable before its interval, a line of Python.
CORRECTED = {
    "math-train-e01090fa50c5": "0",
    "math-train-086b4aea8c2f": "0",
    "olympiadbench-test-4064a0f724a5": "(0,4]",
    "minerva-test-f584f9d5ae15": r"\arcsin(10/13)",
}


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
    table = validate(
        pd.DataFrame({"question_id": ids, **same, "question": texts, "gold": golds}), known.repeated.get(part, 0)
    )
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

    ``attrs`` has ``sources``, and of the predictor's table the identities of training questions that an evaluation set
    has too: left out with ``"clean"`` (``held_out``, three of OlympiadBench), kept with ``"paper"`` (``shared``).
    """
    if split not in PREDICTOR:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(PREDICTOR)}")
    evaluation = _together([load(name, "test", folder) for name in EVALUATION])
    predictor = _together([load(name, part, folder) for name, part in PREDICTOR[split]])
    known = same_text(predictor["question"]).isin(same_text(evaluation["question"]))
    both = tuple(predictor.loc[known, "question_id"])
    if split == "clean":
        predictor = predictor[~known].reset_index(drop=True)
        assert_disjoint(evaluation=evaluation, predictor=predictor)
    predictor.attrs |= {"shared": (), "held_out": both} if split == "clean" else {"shared": both, "held_out": ()}
    return {"evaluation": evaluation.assign(split="evaluation"), "predictor": predictor.assign(split="predictor")}


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table, with the source of each set in ``attrs["sources"]``."""
    sources = {f"{table['dataset'][0]}, {table['split'][0]}": table.attrs.pop("source") for table in tables}
    together = pd.concat(tables, ignore_index=True)
    together.attrs["sources"] = sources
    return together


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
