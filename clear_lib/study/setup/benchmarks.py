"""The public question sets of the paper's Tables 6 and 7, from the hub at a pinned revision or from a local folder.

Counts are checked: a set of another size is another set. What the published sets have of their own (questions that
stand there twice, questions that two sets share, answers that are missing) is written down here and checked too.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from clear_lib.rollouts.grading import Grader, gold_answer
from clear_lib.study.setup import paper
from clear_lib.study.setup.questions import assert_disjoint, same_text, validate


class QuestionSet(NamedTuple):
    """Where a set is, and how large it is.

    Attributes
    ----------
    tier : str
        Difficulty in Table 6.
    repository : str
        On the hub.
    revision : str or None
        Commit of the repository. None: no commit could be confirmed, so the newest is used, and which one that was
        stands in the attributes of the table.
    rows : mapping
        Questions of each part (``"train"``, ``"test"``).
    stems : tuple of str
        Names of its files in a folder: ``<stem>_<part>.jsonl``, ``<stem>/<part>.jsonl`` or ``<stem>.jsonl``.
    configs : tuple of str
        Configurations of the repository that make up the set.
    hub_split : str, optional
        What the hub calls the test part, if it says something else.
    pieces : tuple of str
        Endings of ``<stem>_<piece>.jsonl``, where a folder may keep the set in pieces.
    repeated : mapping
        Questions of a part that stand in it a second time, printed a little differently.
    """

    tier: str
    repository: str
    revision: str | None
    rows: Mapping[str, int]
    stems: tuple[str, ...]
    configs: tuple[str, ...] = ("default",)
    hub_split: str | None = None
    pieces: tuple[str, ...] = ()
    repeated: Mapping[str, int] = {}


_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

#: The sets by their names in Table 6. The official repository of OlympiadBench, Hothan/OlympiadBench, has 674 of
#: the 675 questions that the paper counts; the one named here has all.
SETS = {
    "GSM8K": QuestionSet(
        "easy",
        "openai/gsm8k",
        "740312add88f781978c0658806c59bc2815b9866",
        {"train": 7473, "test": 1319},
        ("gsm8k",),
        configs=("main",),
    ),
    "MATH": QuestionSet(
        "moderate",
        "EleutherAI/hendrycks_math",
        "21a5633873b6a120296cce3e2df9d5550074f4a3",
        {"train": 7500, "test": 5000},
        ("math",),
        configs=_SUBJECTS,
        repeated={"train": 4, "test": 1},
    ),
    "MATH 500": QuestionSet(
        "moderate",
        "HuggingFaceH4/MATH-500",
        "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        {"test": 500},
        ("math500", "math_500", "math-500"),
    ),
    "OlympiadBench": QuestionSet(
        "hard", "zwhe99/simplerl-OlympiadBench", None, {"test": 675}, ("olympiadbench", "olympiad_bench")
    ),
    "AMC-23": QuestionSet(
        "hard", "math-ai/amc23", "80815d37005feb82cd7f8fbc6901d5d3eff43057", {"test": 40}, ("amc23", "amc2023")
    ),
    "AIME 2024": QuestionSet(
        "very hard",
        "HuggingFaceH4/aime_2024",
        "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        {"test": 30},
        ("aime24", "aime2024", "aime_2024"),
        hub_split="train",
        pieces=("I", "II"),
    ),
    "AIME 2025": QuestionSet(
        "very hard",
        "math-ai/aime25",
        "563bb8404243c5f09de6ec262f2db674fe5bce9b",
        {"test": 30},
        ("aime25", "aime2025", "aime_2025"),
        pieces=("I", "II"),
    ),
    "Minerva": QuestionSet(
        "very hard",
        "math-ai/minervamath",
        "ee46ddc498933b1977577953250ca5c66be64f96",
        {"test": 272},
        ("minerva_math", "minervamath", "minerva"),
    ),
}

#: The sets that streams are drawn from, in the order of Table 6.
EVALUATION = tuple(row.name for row in paper.TABLE_6 if row.use == "evaluation")

#: What the predictor learns from: as the paper's counts imply (1,319 and 12,500 questions), or held out properly.
PREDICTOR = {
    "clean": (("GSM8K", "train"), ("MATH", "train")),
    "paper": (("GSM8K", "test"), ("MATH", "train"), ("MATH", "test")),
}

# Answers that cannot be used as published, by question: an empty box where the solution shows that there are none,
# a variable before its interval, a line of Python.
_MENDED = {
    "math-train-e01090fa50c5": "0",
    "math-train-086b4aea8c2f": "0",
    "olympiadbench-test-4064a0f724a5": "(0,4]",
    "minerva-test-f584f9d5ae15": r"\arcsin(10/13)",
}


#: Questions whose gold answer the grader cannot read, and why. An answer in the same words is right; the verdict on
#: any other is ``"unknown"``. :func:`check_golds` finds them.
UNREADABLE = {
    "math-train-df17328ca8a4": "a time of day, with no minutes",
    "olympiadbench-test-02c24b552f4f": "a family of functions, with its conditions in words",
}


def load(name: str, part: str = "test", folder: str | Path | None = None) -> pd.DataFrame:
    """The questions of one set.

    Parameters
    ----------
    name : str
        Of :data:`SETS`.
    part : {"test", "train"}
    folder : path, optional
        Folder with the sets as JSON lines, in the layouts of public evaluation repositories. Otherwise the hub.

    Returns
    -------
    pandas.DataFrame
        The columns of :data:`clear_lib.study.setup.questions.COLUMNS`, a row a question. The attribute ``source`` (of
        ``DataFrame.attrs``) says where it is from: files, or a repository at a commit.

    Raises
    ------
    ValueError
        If the set or part is unknown, the set cannot be reached, a row has no question or no answer, or the number
        of rows is not that of :data:`SETS`.
    """
    if name not in SETS:
        raise ValueError(f"unknown question set {name!r}; known: {', '.join(SETS)}")
    known = SETS[name]
    if part not in known.rows:
        raise ValueError(f"{name} has no part {part!r}; it has: {', '.join(known.rows)}")
    rows, source = _from_hub(name, part) if folder is None else _from_folder(name, part, Path(folder))
    if len(rows) != known.rows[part]:
        raise ValueError(f"{name}, {part}: expected {known.rows[part]} questions, found {len(rows)} in {source}")
    texts = [row.get("problem") or row.get("question") for row in rows]
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise ValueError(f"{source}: row {number} has no text in `problem` or `question`, got {text!r}")
    same = same_text(pd.Series(texts))
    first = f"{name.lower().replace(' ', '-')}-{part}-" + same.map(
        lambda text: hashlib.sha256(text.encode()).hexdigest()[:12]
    )
    again = same.groupby(same).cumcount()
    ids = first.where(again == 0, first + "-" + (again + 1).astype(str))
    table = pd.DataFrame({"question_id": ids, "dataset": name, "tier": known.tier, "split": part, "question": texts})
    table["gold"] = [_MENDED.get(each) or _gold(row) for each, row in zip(ids, rows, strict=True)]
    for number, gold in enumerate(table["gold"], 1):
        if not gold:
            raise ValueError(f"{source}: row {number} has no answer: {texts[number - 1]!r:.80}")
    table = validate(table, known.repeated.get(part, 0))
    table.attrs["source"] = source
    return table


def study(split: str = "clean", folder: str | Path | None = None) -> dict[str, pd.DataFrame]:
    """The questions of the paper's study.

    Parameters
    ----------
    split : {"clean", "paper"}
        ``"clean"``: the predictor learns from GSM8K's and MATH's train parts, without the questions that an
        evaluation set has too (OlympiadBench has three of MATH train). ``"paper"``: from what the paper's counts
        imply, GSM8K's test part and all of MATH, where MATH 500 and four questions of OlympiadBench are.
    folder : path, optional
        See :func:`load`.

    Returns
    -------
    dict
        ``"evaluation"`` and ``"predictor"``, with the columns of :data:`clear_lib.study.setup.questions.COLUMNS`; the column
        ``split`` has these names. Attributes of both: ``sources``; of the predictor's: ``held_out``, identities of
        the questions that were left out, and ``shared``, those that are in the evaluation sets too.

    Raises
    ------
    ValueError
        If the split is unknown, and as :func:`load`.
    """
    if split not in PREDICTOR:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(PREDICTOR)}")
    evaluation = _together([load(name, "test", folder) for name in EVALUATION])
    predictor = _together([load(name, part, folder) for name, part in PREDICTOR[split]])
    known = same_text(predictor["question"]).isin(same_text(evaluation["question"]))
    shared = tuple(predictor.loc[known, "question_id"])
    if split == "clean":
        predictor = predictor[~known].reset_index(drop=True)
        assert_disjoint(evaluation=evaluation, predictor=predictor)
    predictor.attrs |= {"shared": () if split == "clean" else shared, "held_out": shared if split == "clean" else ()}
    return {"evaluation": evaluation.assign(split="evaluation"), "predictor": predictor.assign(split="predictor")}


def _together(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table, which remembers where each set is from."""
    sources = {f"{table['dataset'][0]}, {table['split'][0]}": table.attrs["source"] for table in tables}
    for table in tables:
        table.attrs = {}
    together = pd.concat(tables, ignore_index=True)
    together.attrs["sources"] = sources
    return together


def _from_hub(name: str, part: str) -> tuple[list[dict[str, Any]], str]:
    """Rows of a set, and the repository and commit that they are from."""
    from datasets import load_dataset
    from huggingface_hub import HfApi

    known = SETS[name]
    revision = known.revision
    try:
        if revision is None:
            revision = HfApi().dataset_info(known.repository).sha
        split = known.hub_split or part
        rows = [
            row
            for config in known.configs
            for row in load_dataset(known.repository, config, split=split, revision=revision)
        ]
    except Exception as error:  # the hub's clients raise errors of many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"{name} cannot be loaded from the hub (dataset {known.repository}, revision {revision or 'newest'}): "
            f"{reason}\nWithout a network, name a folder that holds {known.stems[0]}_{part}.jsonl"
        ) from error
    return rows, f"{known.repository}@{revision}"


def _from_folder(name: str, part: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of a set, and the files that they are from."""
    known = SETS[name]
    candidates = [
        [folder / path]
        for stem in known.stems
        for path in (f"{stem}_{part}.jsonl", f"{stem}/{part}.jsonl", f"{stem}.jsonl")
    ]
    candidates += [[folder / f"{stem}_{piece}.jsonl" for piece in known.pieces] for stem in known.stems if known.pieces]
    for files in candidates:
        if all(file.is_file() for file in files):
            return [row for file in files for row in _lines(file)], ", ".join(map(str, files))
    tried = ", ".join(" and ".join(str(file.relative_to(folder)) for file in files) for files in candidates)
    raise ValueError(f"{name}, {part}: not in {folder}; looked for {tried}")


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            if not isinstance(row, dict):
                raise ValueError(f"{file}, line {number}: no JSON object: {line[:80]!r}")
            yield row


def _gold(row: Mapping[str, Any]) -> str:
    """The answer of a row: a field for it, a list of answers, or the box of the solution; ``""`` if there is none."""
    found = row.get("final_answer", row.get("answer"))
    if isinstance(found, (list, tuple)):
        return ", ".join(map(str.strip, found))
    if isinstance(found, (int, float)):
        return f"{found:.15g}"
    return gold_answer(found or row.get("solution") or "")


def check_golds(
    questions: pd.DataFrame, others: int = 5, seed: int = 0, timeout: float = 10.0, workers: int | None = None
) -> pd.DataFrame:
    """Does the grader know each gold answer when it meets it, and tell it from others? By algebra alone.

    Each different gold answer of a set is compared with itself, with other gold answers of the set, and with a near
    miss: itself with one digit changed (not in the power of a unit).

    Parameters
    ----------
    questions : pandas.DataFrame
        As of :func:`load`.
    others : int
        Other gold answers for each, drawn at random.
    seed : int
    timeout, workers
        See :class:`clear_lib.rollouts.grading.Grader`.

    Returns
    -------
    pandas.DataFrame
        ``dataset, kind, gold, answer, expected, verdict``; kinds are ``"itself"``, ``"another"``, ``"near miss"``.
        Two different texts may be equal (``0.5`` and ``\\frac12``): where a verdict is not the expected one, look.
    """
    draw, pairs = random.Random(seed), []
    for name, golds in questions.groupby("dataset", sort=False)["gold"]:
        different = list(dict.fromkeys(golds))
        for gold in different:
            pairs.append((name, "itself", gold, gold, "correct"))
            pairs += [
                (name, "another", gold, other, "wrong")
                for other in draw.sample(different, min(others, len(different)))
                if other != gold
            ]
            if digits := [found.start() for found in re.finditer(r"(?<!\}\^)(?<!\}\^\{)[0-9]", gold)]:
                place = draw.choice(digits)
                digit = (int(gold[place]) + draw.randint(1, 9)) % 10
                pairs.append((name, "near miss", gold, f"{gold[:place]}{digit}{gold[place + 1 :]}", "wrong"))
    table = pd.DataFrame(pairs, columns=["dataset", "kind", "gold", "answer", "expected"])
    with Grader(timeout, workers, shortcut=False) as grader:
        return table.assign(verdict=grader.grade(list(table["gold"]), list(table["answer"])))
