"""Verdicts: the words that follow from counts, and every rule on tables where the answer is known."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clear_lib.rollouts import shipped as recordings
from clear_lib.study.evidence import verdicts
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.evidence.verdicts import FAILS, HOLDS, IN_PART, UNTESTED
from clear_lib.study.setup import profiles

MODEL = "Some-1B"
STREAMS, BUDGETS = ("balanced", "mostly-hard"), (0.2, 1.5)
WRAPPED = {"same_weights": True, "begins_alike": 5, "n": 5, "charged": 9, "budget": 9}


def results(accuracy, policies=("uniform", "clear"), setting=None, values=(np.nan,)):
    """Two streams × two budgets × two seeds; `accuracy(policy, scarcity, value)` plus a little for the second seed."""
    columns = ["stream", "scarcity", "stream_seed", "policy", "value"]
    rows = pd.DataFrame(product(STREAMS, BUDGETS, (0, 1), policies, values), columns=columns)
    measured = [accuracy(*row) for row in zip(rows["policy"], rows["scarcity"], rows["value"], strict=True)]
    accuracies = np.array(measured) + 0.001 * rows["stream_seed"]
    return rows.assign(accounting="caps", setting=setting, accuracy=accuracies, price=rows["value"])


def gaining(gain, policies=("uniform", "clear"), values=(2.0,)):
    """Results in which CLEAR is `gain` above all other policies."""
    return results(lambda policy, *_: 0.3 + gain * (policy == "clear"), policies, values=values)


def found(claim, setting=MODEL, **tables):
    table = verdicts.judge({MODEL: tables})
    row = table[(table["claim"] == claim) & (table["setting"] == setting)]
    assert len(row) == 1
    return row["verdict"].item()


@pytest.mark.parametrize(
    ("counts", "universal", "word"),
    [
        ((0, 0, 5), False, UNTESTED),
        ((3, 0, 2), False, HOLDS),
        ((1, 0, 2), False, IN_PART),
        ((3, 1, 0), False, IN_PART),
        ((3, 1, 0), True, FAILS),
        ((0, 1, 9), False, FAILS),
    ],
)
def test_words(counts, universal, word):
    assert verdicts.verdict(*counts, universal) == word


def test_rules_name_claims_and_settings():
    assert {rule.claim for rule in verdicts.RULES} <= {claim.id for claim in CLAIMS}
    assert len({(rule.claim, rule.setting) for rule in verdicts.RULES}) == len(verdicts.RULES)
    assert all(rule.words[0].islower() or rule.words.startswith(("CLEAR", "Algorithm")) for rule in verdicts.RULES)


def test_without_results_only_tables_and_mathematics_are_judged():
    table = verdicts.judge({MODEL: {}}).set_index(["claim", "setting"])["verdict"]
    for setting in (MODEL, verdicts.LABORATORY, verdicts.REPLICA):
        assert set(table.xs(setting, level="setting")) == {UNTESTED}
    assert table.xs(verdicts.MATHEMATICS, level="setting")[["C4", "C5", "C7"]].tolist() == [HOLDS, FAILS, FAILS]
    printed = dict.fromkeys(["C10", "C11", "C12", "C17", "C21", "C22"], HOLDS)
    printed |= {"C13": IN_PART, "C14": FAILS, "C23": IN_PART}
    assert table.xs(verdicts.PRINTED, level="setting").to_dict() == printed


def test_table_1():
    at = {"uniform": 0.1, "clear-auction": 0.2, "oracle": 0.5, "oracle-paper": 0.45}
    names = (*at, "clear")
    table = {
        "table1": results(lambda policy, scarcity, _: (at | {"clear": 0.4 if scarcity < 1 else 0.15})[policy], names)
    }
    assert found("C10", **table) == found("C11", **table) == found("C12", **table) == HOLDS
    assert found("C13", **table) == IN_PART
    assert found("C14", **table) == FAILS
    worse = {"table1": gaining(-0.1, names)}
    assert found("C10", **worse) == found("C11", **worse) == FAILS
    nothing = {"table1": results(lambda policy, *_: 0.1 * (policy == "clear"), names)}
    assert found("C11", **nothing) == UNTESTED, "a ratio to nothing is no factor"


def tiers_of(*rows):
    columns = ["stream", "policy", "tier", "n", "short", "abandoned"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(
        scarcity=0.2, threshold=table["tier"].map({"easy": 90, "moderate": 200, "hard": 400, "very hard": 800})
    )


def test_tiers():
    shares = (("easy", 10, 0.1, 0.0), ("hard", 30, 0.9, 0.5))
    tiers = tiers_of(
        *(("balanced", policy, *share) for policy in ("uniform", "predictor", "clear") for share in shares)
    )
    assert found("C15", tiers=tiers) == found("C16", tiers=tiers) == HOLDS
    assert found("C15", tiers=tiers.assign(short=0.3)) == found("C16", tiers=tiers.assign(abandoned=0.3)) == FAILS


def test_tiers_in_play_are_compared_only_where_both_are():
    rows = (("balanced", "moderate", 0.1), ("balanced", "very hard", 0.6), ("u-shaped", "moderate", 0.2))
    tiers = tiers_of(*((stream, "clear", tier, 5, 1.0, gone) for stream, tier, gone in rows))
    assert found("C16", tiers=tiers) == HOLDS
    assert found("C16", tiers=tiers.iloc[[1, 2]]) == UNTESTED
    assert found("C16", tiers=tiers.assign(threshold=[300, 200, 300])) == FAILS, "costly is not the same as hard"


def test_noise_looks_at_the_most():
    values = (0.0, 2.0)
    fades = results(lambda policy, _, noise: 0.3 + (policy == "clear") * (0.1 - 0.1 * noise), values=values)
    assert (found("C18", noise=fades), found("C18", noise=gaining(0.1, values=values))) == (FAILS, HOLDS)


def test_decay():
    static = results(lambda policy, scarcity, rate: 0.3 if rate == 1 else 0.2, ("clear",), "decay", (1.0, 2.0))
    for accuracy, word in ((0.295, HOLDS), (0.25, FAILS)):
        adaptive = results(lambda *_, level=accuracy: level, ("clear",), "epsilon", (32.0,))
        assert found("C19", decay=pd.concat([static, adaptive])) == word


def test_velocity():
    assert found("C20", velocity=results(lambda *_: 0.3, ("clear",), "velocity", (0.1, 10.0))) == HOLDS
    moves = results(lambda policy, scarcity, value: 0.3 + 0.01 * value, ("clear",), "velocity", (0.1, 10.0))
    assert found("C20", velocity=moves) == FAILS


def test_ranks():
    values = (0.5, 1.0, 2.0)
    assert found("C9", ranks=results(lambda *_: 0.3, ("clear",), "factor", values)) == HOLDS
    moves = results(lambda policy, scarcity, value: 0.1 * value, ("clear",), "factor", values)
    assert found("C9", ranks=moves) == FAILS


def test_shapes():
    base = results(lambda *_: 0.2, ("uniform",))
    shapes = results(lambda *_: 0.3, ("clear",), "utility", ("surge", "triangular", "quadratic"))
    assert found("C21", shapes=pd.concat([base, shapes])) == HOLDS


def test_settings_that_disagree_make_a_claim_hold_in_part():
    worse = gaining(-0.1, ("uniform", "clear", "oracle", "oracle-paper"))
    words = verdicts.overall(verdicts.judge({MODEL: {"table1": worse}}))
    assert list(words.index) == [claim.id for claim in CLAIMS]
    assert words["C10"] == IN_PART and words["C14"] == FAILS and words["C1"] == UNTESTED
    assert words["C17"] == UNTESTED, "a printed table that agrees with its text is no second run"


def bins(view, means, tier=None, width=0.01):
    means = np.array(means, float)
    x = 2.0 ** np.arange(len(means))
    return pd.DataFrame(
        {"view": view, "tier": tier, "x": x, "mean": means, "lower": means - width, "upper": means + width}
    )


def test_phases():
    s_curve = bins("cap", [0, 0.1, 0.6, 0.79, 0.8, 0.8], "easy")
    three = pd.concat([s_curve, bins("pooled", [0.1, 0.5, 0.3]), bins("within", [-0.2, 0.1, 0.0])])
    assert found("C1", phases=three) == HOLDS
    assert found("C2", phases=three) == HOLDS
    assert found("C3", phases=three) == IN_PART, "a cap cannot cause the decline that lengths show"
    gentle, falling = bins("cap", [0.4, 0.5, 0.6, 0.8], "easy"), bins("pooled", [0.9, 0.5, 0.4])
    none = pd.concat([gentle, falling, bins("within", [0, 0, 0])])
    assert found("C1", phases=none) == found("C2", phases=none) == FAILS


def test_a_view_that_is_missing_is_not_tested():
    caps = bins("cap", [0, 0.1, 0.6, 0.79, 0.8, 0.8], "moderate")
    pooled = bins("pooled", [0.1, 0.5, 0.3])
    assert [found(claim, phases=caps) for claim in ("C1", "C2", "C3")] == [HOLDS, UNTESTED, UNTESTED]
    assert [found(claim, phases=pooled) for claim in ("C1", "C2", "C3")] == [UNTESTED, HOLDS, HOLDS]
    assert found("C3", phases=caps.iloc[:0]) == UNTESTED


def test_each_recorded_model_is_judged_by_itself():
    one = {"velocity": results(lambda *_: 0.3, ("clear",), "velocity", (0.1, 10.0))}
    wrapper = pd.DataFrame([WRAPPED])
    evidence = {
        "A": one | {"noise": gaining(0.1), "wrapper": wrapper},
        "B": {"noise": gaining(-0.1), "wrapper": wrapper.assign(charged=10)},
    }
    table = verdicts.summary(verdicts.judge(evidence))
    columns = [verdicts.MATHEMATICS, verdicts.PRINTED, "A", "B", verdicts.LABORATORY, verdicts.REPLICA, "verdict"]
    assert list(table)[1:] == columns
    assert table.loc["C18", ["A", "B", "verdict"]].tolist() == [HOLDS, FAILS, IN_PART]
    assert table.loc["C20", ["A", "B", "verdict"]].tolist() == [HOLDS, UNTESTED, HOLDS]
    assert table.loc["C24", ["A", "B", verdicts.LABORATORY]].tolist() == ["", "", HOLDS], (
        "the book's own table comes first"
    )
    assert table.loc["C10", verdicts.REPLICA] == UNTESTED


def test_the_laboratory_model_has_one_column():
    table = verdicts.summary(verdicts.judge({verdicts.LABORATORY: {"noise": gaining(0.1)}}))
    assert list(table)[1:] == [verdicts.MATHEMATICS, verdicts.PRINTED, verdicts.LABORATORY, verdicts.REPLICA, "verdict"]
    assert table.loc[["C18", "C24"], verdicts.LABORATORY].tolist() == [HOLDS, UNTESTED]


def test_evidence_of_other_shipped_models_is_gathered(tmp_path, monkeypatch):
    listed = {"files": {}, "profiles": {"qwen-1.5b": {}, "qwen-0.5b": {}}}
    monkeypatch.setattr(recordings, "manifest", lambda: listed)
    book, other = profiles.load("qwen-1.5b"), profiles.load("qwen-0.5b")
    verdicts.save(tmp_path / "qwen-1.5b" / "results", a=pd.DataFrame({"x": [1.0]}))
    assert list(verdicts.gather(book, tmp_path)) == [book.label]
    verdicts.save(tmp_path / "qwen-0.5b" / "results", b=pd.DataFrame({"x": [1.0]}))
    gathered = verdicts.gather(book, tmp_path)
    assert [(label, list(tables)) for label, tables in gathered.items()] == [(book.label, ["a"]), (other.label, ["b"])]
    assert list(verdicts.gather(other, tmp_path)) == [other.label, book.label]


def test_the_table_of_a_page_is_updated_from_the_results_of_a_book(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "tiny" / "results"
    page.write_text("<!-- claims -->\n\n<!-- /claims -->\n")
    with pytest.raises(ValueError, match="lacks the tables .*wrapper"):
        verdicts.update_readme(page, folder)
    verdicts.save(folder, **some_of_each())
    verdicts.update_readme(page, folder)
    assert f"| {verdicts.PRINTED} | {verdicts.LABORATORY} |" in page.read_text().splitlines()[1]


def some_of_each():
    """A table of every name that a rule asks for."""
    names = ("uniform", "clear", "clear-auction", "oracle", "oracle-paper")
    table = results(lambda policy, *_: 0.3, names, values=(1.0, 2.0))
    one = results(lambda policy, *_: 0.3, names)
    decay = pd.concat([table.assign(setting="decay"), one.assign(setting="epsilon")])
    shapes = pd.concat([one, results(lambda *_: 0.3, ("clear",), "utility", ("triangular", "quadratic"))])
    tiers = tiers_of(("balanced", "uniform", "easy", 3, 0.5, 0.1), ("balanced", "clear", "hard", 3, 0.5, 0.1))
    return {
        "phases": bins("cap", [0.0, 1.0], "easy"),
        "table1": one,
        "replica-7b": one,
        "ranks": table,
        "noise": table,
        "decay": decay[decay["policy"] == "clear"],
        "velocity": table[table["policy"] == "clear"],
        "shapes": shapes,
        "tiers": tiers,
        "wrapper": pd.DataFrame([WRAPPED]),
        "latency": latency(1.0),
    }


def test_wrapper():
    broken = [{"same_weights": False}, {"begins_alike": 4}, {"charged": 10}]
    assert found("C24", verdicts.LABORATORY, wrapper=pd.DataFrame([WRAPPED, WRAPPED])) == HOLDS
    for wrong in broken:
        assert found("C24", verdicts.LABORATORY, wrapper=pd.DataFrame([WRAPPED, WRAPPED | wrong])) == FAILS


def latency(tokens):
    return pd.DataFrame({"tokens": [tokens]}, index=["Algorithm 1"])


def test_latency():
    assert found("C8", verdicts.LABORATORY, latency=latency(1.0)) == HOLDS
    assert found("C8", verdicts.LABORATORY, latency=latency(30.0)) == FAILS


def test_saved_tables_are_loaded(tmp_path):
    verdicts.save(tmp_path / "results", a=pd.DataFrame({"x": [1.0]}))
    assert list(verdicts.load(tmp_path / "results")) == ["a"]


def readme_table():
    page = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    head, _, *rows = re.search(r"<!-- claims -->\n(.*?)\n<!-- /claims -->", page, re.S)[1].splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (head, *rows)]
    return pd.DataFrame(cells[1:], columns=cells[0]).set_index("claim")


def test_the_readme_lists_the_claims_and_what_no_run_can_change():
    shown = readme_table()
    title, mathematics, printed, *models, laboratory, replica, _ = shown.columns
    assert models[:1] == [profiles.load("qwen-1.5b").label], "run: make readme"
    assert set(models) <= {profiles.load(name).label for name in recordings.manifest()["profiles"]}
    now = verdicts.summary(verdicts.judge({model: {} for model in models}))
    assert list(shown.columns) == list(now.columns)
    assert shown[[title, mathematics, printed]].equals(now[[title, mathematics, printed]]), "run: make readme"
    run = [*models, laboratory, replica]
    assert ((shown[run] != "") == (now[run] != "")).all(axis=None), "a rule is new or gone; run: make readme"


def test_the_readme_agrees_with_itself():
    shown = readme_table()
    judged = shown[shown.columns[1:-1]].rename_axis(columns="setting").stack()
    findings = judged[judged != ""].rename("verdict").reset_index()
    assert verdicts.overall(findings).to_dict() == shown["verdict"].to_dict()


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="found 0"):
        verdicts.replace_table("# A page", verdicts.judge({MODEL: {}}))
