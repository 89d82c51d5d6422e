"""Verdicts on the claims: tables of results are saved, gathered and reduced by the rules to effects, and each to a word."""

import re
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from clear_lib.rollouts import shipped as recordings
from clear_lib.study.evidence import rules
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.evidence.rules import BY_CONSTRUCTION, RECORDED, RULES, SCALE, Effect
from clear_lib.study.setup import profiles
from clear_lib.study.setup.profiles import Profile

HOLDS, IN_PART, FAILS = "holds", "holds in part", "does not hold"
UNCLEAR, UNTESTED = "unclear", "not testable here"


def word(effect: Effect, region: rules.Region) -> str:
    """*Holds* if the whole interval is where the claim is true, *does not hold* if all of it is beyond, else *unclear*."""
    if not np.isfinite(effect[:3]).all():
        return UNTESTED
    least, most = region
    if effect.low > least and effect.high < most:
        return HOLDS
    return FAILS if effect.high < least or effect.low > most else UNCLEAR


def together(words: Mapping[str, str]) -> str:
    """One word for several parts: the one that all have that can be tested, or *holds in part* with those that hold."""
    spoken = {part: each for part, each in words.items() if each != UNTESTED}
    kinds = set(spoken.values())
    if len(kinds) <= 1:
        return kinds.pop() if kinds else UNTESTED
    holding = [part for part, each in spoken.items() if each.startswith(HOLDS)]
    return f"{IN_PART}: {', '.join(holding)}" if holding else FAILS if FAILS in kinds else UNCLEAR


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
    """Apply all rules to the tables of :func:`gather`, a row for each part of a claim in each setting.

    Rules of recorded rollouts judge each model, the others the first table of that name; without it nothing is testable.
    """
    rows, first = [], ChainMap(*evidence.values())
    for rule in RULES:
        for setting, tables in evidence.items() if rule.setting == RECORDED else [(rule.setting, first)]:
            effect = rules.exact(np.nan)
            if rule.table is None or rule.table in tables:
                effect = rule.measure(*([tables[rule.table]] if rule.table else []))
            about = (rule.unit, *rule.region, rule.aside, word(effect, rule.region))
            rows.append((rule.claim, setting, rule.part, *effect, *about))
    columns = ["claim", "setting", "part", *Effect._fields, "unit", "least", "most", "aside", "verdict"]
    return pd.DataFrame(rows, columns=columns)


def settings(findings: pd.DataFrame) -> list[str]:
    """Settings in the order of their columns: a column for each model between what needs none and what needs a live one."""
    before, after = [rules.MATHEMATICS, rules.PRINTED], [rules.LABORATORY, rules.REPLICA]
    return [*before, *(name for name in findings["setting"].unique() if name not in before + after), *after]


def _in_setting(rows: pd.DataFrame) -> str:
    """One word for the findings on a claim in a setting; in brackets, or *by construction*, if none of them counts."""
    counted = rows[rows["aside"] == ""]
    if counted.empty and (rows["aside"] == BY_CONSTRUCTION).all():
        return BY_CONSTRUCTION
    found = together((rows if counted.empty else counted).set_index("part")["verdict"])
    return found if len(counted) or found == UNTESTED else f"({found})"


def _by_setting(findings: pd.DataFrame) -> pd.Series:
    """One word for each ``claim, setting`` (the index)."""
    return findings.groupby(["claim", "setting"], sort=False)[list(findings)].apply(_in_setting)


def overall(findings: pd.DataFrame) -> pd.Series:
    """One word a claim: what all settings in which it counts agree on, or *holds in part* and in which of them it holds."""
    words = {claim.id: UNTESTED for claim in CLAIMS}
    for claim, found in _by_setting(findings).groupby("claim"):
        found = found.droplevel("claim")
        words[claim] = together(found[~found.str.startswith("(") & (found != BY_CONSTRUCTION)])
        if words[claim] == UNTESTED and (found == BY_CONSTRUCTION).any():
            words[claim] = BY_CONSTRUCTION
    return pd.Series(words, name="verdict")


def summary(findings: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: its title, the word in each setting that has a rule (in brackets: not counted), and overall."""
    titles = pd.Series({claim.id: claim.title for claim in CLAIMS}, name="what the paper says, in short")
    words = _by_setting(findings).unstack("setting")
    words = words.reindex(index=titles.index, columns=settings(findings)).fillna("")
    return pd.concat([titles, words, overall(findings)], axis=1).rename_axis("claim")


def number(value: float, unit: str) -> str:
    """An effect in its unit: points have a sign."""
    return f"{round(SCALE[unit] * value, 1) + 0.0:{'+' if unit == rules.POINTS else ''}.1f}"


def _in_words(finding: pd.Series) -> str:
    """Effect and interval of a finding, as a reader has them; nothing without an effect."""
    if np.isnan(finding["effect"]):
        return ""
    value, low, high = (number(finding[name], finding["unit"]) for name in ("effect", "low", "high"))
    unit = {rules.TIMES: "×", rules.PERCENT: "%"}.get(finding["unit"], f" {finding['unit']}")
    return value + unit + ("" if finding["low"] == finding["high"] else f" ({low} to {high})")


def _where(finding: pd.Series) -> str:
    """The region in which a claim is true."""
    least, most = region = finding["least"], finding["most"]
    if region in (rules.ALL, rules.NONE):
        return "all" if region == rules.ALL else "none"
    if np.isfinite(least) and np.isfinite(most):
        return f"within {number(most, finding['unit']).lstrip('+')} of 0"
    bound, side = (least, "above") if np.isfinite(least) else (most, "below")
    return f"{side} {SCALE[finding['unit']] * bound:g}"


def details(findings: pd.DataFrame) -> pd.DataFrame:
    """The findings as a reader has them: ``claim, part, setting, effect, cells above, holds if, verdict, counts``."""
    found = findings.assign(effect=findings.apply(_in_words, axis=1), counts="no: " + findings["aside"])
    found["cells above"] = found["share"].map("{:.0%}".format).where(found["share"].notna(), "")
    found["holds if"] = findings.apply(_where, axis=1)
    found["counts"] = found["counts"].where(found["aside"] != "", "yes")
    found = found.sort_values("claim", key=lambda claim: claim.str[1:].astype(int), kind="stable")
    return found[["claim", "part", "setting", "effect", "cells above", "holds if", "verdict", "counts"]]


def _with_effects(findings: pd.DataFrame) -> pd.DataFrame:
    """The summary for a page: below the word of each setting the effects that count, and overall the word alone."""
    shown = summary(findings)
    for (claim, setting), rows in findings[findings["aside"] == ""].groupby(["claim", "setting"]):
        lines = [f"{row['part']} {_in_words(row)}".strip() for _, row in rows.iterrows() if not np.isnan(row["effect"])]
        word = shown.loc[claim, setting].partition(":")[0]
        shown.loc[claim, setting] = "<br>".join([f"**{word}**" if lines else word, *lines])
    return shown.assign(verdict=shown["verdict"].str.partition(":")[0])


def replace_table(page: str, findings: pd.DataFrame) -> str:
    """The text of a page with the table between its marks made anew; ValueError unless it has one pair of marks."""
    rows = _with_effects(findings).reset_index()
    lines = [list(rows), ["---"] * rows.shape[1], *rows.to_numpy().tolist()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    marks = r"(<!-- claims -->\n).*?(\n<!-- /claims -->)"
    made, times = re.subn(marks, lambda mark: mark[1] + table + mark[2], page, flags=re.S)
    if times != 1:
        raise ValueError(f"expected one pair of marks <!-- claims --> and <!-- /claims -->, found {times}")
    return made


def update_readme(path: str | Path, results: str | Path) -> None:
    """Write the verdicts on a book's results (folder ``artifacts/NAME/results``) into the table of a page."""
    if missing := sorted({rule.table for rule in RULES if rule.table} - set(load(results))):
        raise ValueError(f"{results} lacks the tables {', '.join(missing)}; run `make book` first")
    folder, page = Path(results).resolve().parent, Path(path)
    findings = judge(gather(_profile(folder), folder.parent))
    page.write_text(replace_table(page.read_text(encoding="utf-8"), findings), encoding="utf-8")
