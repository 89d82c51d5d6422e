"""Verdicts on the claims: tables of results are saved, gathered, judged by the rules, and summed up in a word a claim."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from clear_lib.rollouts import shipped as recordings
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.evidence.rules import LABORATORY, MATHEMATICS, PRINTED, RECORDED, REPLICA, RULES
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import Profile

HOLDS, IN_PART, FAILS, UNTESTED = "holds", "holds in part", "does not hold", "not testable here"


def verdict(true: int, false: int, unclear: int, universal: bool = False) -> str:
    """*Holds* if no cell is against it and at least as many are for it as unclear; *does not hold* if some are against
    it and none is for it, or it is universal; *not testable* without any decided cell; *in part* otherwise."""
    if true + false == 0:
        return UNTESTED
    if true == 0 or (universal and false):
        return FAILS
    return HOLDS if false == 0 and true >= unclear else IN_PART


def save(folder: str | Path, **tables: pd.DataFrame) -> None:
    """Write tables of results where :func:`load` finds them, each under its name."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_parquet(Path(folder) / f"{name}.parquet")


def load(folder: str | Path) -> dict[str, pd.DataFrame]:
    """The tables of results (``*.parquet``) in a folder, by name."""
    return {path.stem: pd.read_parquet(path) for path in sorted(Path(folder).glob("*.parquet"))}


def _profile(folder: Path) -> Profile:
    """The profile that the book in ``artifacts/NAME`` was made with."""
    made = folder / "profile.yaml"
    return profiles.load(made if made.is_file() else folder.name)


def gather(profile: Profile, artifacts: str | Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Tables of results by model and name: those of a book first, then those of other shipped models' books."""
    found = {profile.label: load(profile.artifacts(artifacts) / "results")}
    for name in recordings.manifest()["profiles"]:
        folder = Path(artifacts) / name
        if name != profile.name and (tables := load(folder / "results")):
            found.setdefault(_profile(folder).label, tables)
    return found


def judge(evidence: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Apply all rules to the tables of :func:`gather`: ``claim, setting, rule, true, false, unclear, cells, verdict``.

    Rules of recorded rollouts judge each model, the others the first table of that name. A rule without its table says
    *not testable here*.
    """
    rows, first = [], ChainMap(*evidence.values())
    for rule in RULES:
        for setting, tables in evidence.items() if rule.setting == RECORDED else [(rule.setting, first)]:
            counts, cells = (0, 0, 0), f"no table {rule.table!r}"
            if rule.table is None or rule.table in tables:
                counts, cells = rule.count(*([tables[rule.table]] if rule.table else [])), rule.cells
            rows.append((rule.claim, setting, rule.words, *counts, cells, verdict(*counts, rule.universal)))
    return pd.DataFrame(rows, columns=["claim", "setting", "rule", "true", "false", "unclear", "cells", "verdict"])


def overall(findings: pd.DataFrame) -> pd.Series:
    """One word a claim: what all settings agree on, *holds in part* if they do not.

    A universal claim that fails in one setting fails. Claims without evidence are *not testable here*, and so are those
    that hold in the paper's tables only: that a table agrees with the text beside it does not show that its numbers
    would come again.
    """
    universal = {rule.claim for rule in RULES if rule.universal}
    tested = findings[findings["verdict"] != UNTESTED]

    def word(claim: str) -> str:
        rows = tested[tested["claim"] == claim]
        words = set(rows["verdict"])
        if not words or (words == {HOLDS} and set(rows["setting"]) == {PRINTED}):
            return UNTESTED
        if claim in universal and FAILS in words:
            return FAILS
        return words.pop() if len(words) == 1 else IN_PART

    return pd.Series({claim.id: word(claim.id) for claim in CLAIMS}, name="verdict")


def summary(findings: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: its title, the verdict in each setting that has a rule (a column for each model), and overall."""
    wide = findings.pivot(index="claim", columns="setting", values="verdict")
    before, after = [MATHEMATICS, PRINTED], [LABORATORY, REPLICA]
    models = [name for name in findings["setting"].unique() if name not in before + after]
    titles = pd.Series({claim.id: claim.title for claim in CLAIMS}, name="what the paper says, in short")
    wide = wide.reindex(index=titles.index, columns=[*before, *models, *after]).fillna("")
    return pd.concat([titles, wide, overall(findings)], axis=1).rename_axis("claim")


def replace_table(page: str, findings: pd.DataFrame) -> str:
    """The text of a page with the table between its marks made anew; ValueError unless it has one pair of marks."""
    rows = summary(findings).reset_index()
    lines = [list(rows), ["---"] * rows.shape[1], *rows.to_numpy().tolist()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    marks = r"(<!-- claims -->\n).*?(\n<!-- /claims -->)"
    made, times = re.subn(marks, lambda mark: mark[1] + table + mark[2], page, flags=re.S)
    if times != 1:
        raise ValueError(f"expected one pair of marks <!-- claims --> and <!-- /claims -->, found {times}")
    return made


def update_readme(path: str | Path, results: str | Path) -> None:
    """Write the verdicts on a book's results (folder ``artifacts/NAME/results``) into the table of a page.

    ValueError if a table that a rule needs is missing, or unless the page has one pair of marks.
    """
    missing = sorted({rule.table for rule in RULES if rule.table} - set(load(results)))
    if missing:
        raise ValueError(f"{results} lacks the tables {', '.join(missing)}; run `make book` first")
    folder, page = Path(results).resolve().parent, Path(path)
    findings = judge(gather(_profile(folder), folder.parent))
    page.write_text(replace_table(page.read_text(encoding="utf-8"), findings), encoding="utf-8")
