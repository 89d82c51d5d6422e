"""Verdicts: the words that follow from effects, and every rule on tables where the answer is known."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clear_lib.rollouts import shipped as recordings
from clear_lib.study.evidence import rules, verdicts
from clear_lib.study.evidence.claims import CLAIMS
from clear_lib.study.evidence.rules import BY_CONSTRUCTION, LABORATORY, MATHEMATICS, PRINTED, RECORDED, REPLICA
from clear_lib.study.evidence.verdicts import FAILS, HOLDS, IN_PART, UNCLEAR, UNTESTED
from clear_lib.study.pages import figures
from clear_lib.study.setup import profiles

MODEL = "Some-1B"
STREAMS, BUDGETS, DRAWS = ("balanced", "mostly-hard"), (0.2, 0.4, 0.8, 1.6), 8
PASSES = {"same_weights": True, "begins_alike": 5, "n": 5, "charged": 9, "budget": 9}


def results(accuracy, policies=("uniform", "clear"), setting=None, values=(np.nan,), luck=0.0):
    """Streams × budgets × draws; ``accuracy(policy, scarcity, value)``, and luck of CLEAR, good in every second draw."""
    columns = ["stream", "scarcity", "stream_seed", "policy", "value"]
    rows = pd.DataFrame(product(STREAMS, BUDGETS, range(DRAWS), policies, values), columns=columns)
    measured = [accuracy(*row) for row in zip(rows["policy"], rows["scarcity"], rows["value"], strict=True)]
    lucky = luck * (rows["policy"] == "clear") * (1 - 2 * (rows["stream_seed"] % 2))
    return rows.assign(
        accounting="caps",
        setting=setting,
        accuracy=np.array(measured) + lucky,
        used=100 * rows["scarcity"],
        price=rows["value"],
    )


def ahead(gain, policies=("uniform", "clear", "predictor"), luck=0.0, **options):
    """Results in which CLEAR is ``gain`` above all other policies."""
    return results(lambda policy, *_: 0.3 + gain * (policy == "clear"), policies, luck=luck, **options)


def halved(table):
    """Two halves of the questions: one to choose on, one to judge on."""
    return table.assign(half=table["stream_seed"] % 2)


def findings(setting=MODEL, **tables):
    """Words by claim and part in a setting."""
    table = verdicts.judge({MODEL: tables})
    return table[table["setting"] == setting].set_index(["claim", "part"])["verdict"]


def found(claim, part="", setting=MODEL, **tables):
    return findings(setting, **tables)[claim, part]


# ---- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effect", "region", "word"),
    [
        ((1.0, 0.5, 1.5), (0, np.inf), HOLDS),
        ((-1.0, -1.5, -0.5), (0, np.inf), FAILS),
        ((1.0, -0.5, 2.5), (0, np.inf), UNCLEAR),
        ((0.0, 0.0, 0.0), (0, np.inf), UNCLEAR),
        ((0.0, -0.5, 0.5), (-1, 1), HOLDS),
        ((3.0, 2.0, 4.0), (-1, 1), FAILS),
        ((-3.0, -4.0, -2.0), (-1, 1), FAILS),
        ((1.0, 0.5, 1.5), (-1, 1), UNCLEAR),
        ((1.0, 1.0, 1.0), rules.ALL, HOLDS),
        ((0.99, 0.99, 0.99), rules.ALL, FAILS),
        ((0.0, 0.0, 0.0), rules.NONE, HOLDS),
        ((0.1, 0.1, 0.1), rules.NONE, FAILS),
        ((np.nan, np.nan, np.nan), (0, np.inf), UNTESTED),
    ],
)
def test_an_effect_and_its_interval_make_a_word(effect, region, word):
    assert verdicts.word(rules.Effect(*effect), region) == word


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ({}, UNTESTED),
        ({"a": UNTESTED, "b": HOLDS}, HOLDS),
        ({"a": HOLDS, "b": FAILS, "c": HOLDS}, f"{IN_PART}: a, c"),
        ({"a": HOLDS, "b": UNCLEAR}, f"{IN_PART}: a"),
        ({"a": UNCLEAR, "b": FAILS}, FAILS),
        ({"a": UNCLEAR, "b": UNCLEAR}, UNCLEAR),
        ({"A": f"{IN_PART}: x", "B": FAILS}, f"{IN_PART}: A"),
    ],
)
def test_in_part_says_which_part(words, word):
    assert verdicts.together(words) == word


def test_rules_name_claims_and_every_claim_has_one():
    assert {each.claim for each in rules.RULES} == {claim.id for claim in CLAIMS}
    assert len({(each.claim, each.setting, each.part) for each in rules.RULES}) == len(rules.RULES)


# ---- what counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["C1", "C4", "C16", "C19", "C20", "C24"])
def test_claims_that_cannot_fail_never_count(claim):
    assert {each.aside for each in rules.RULES if each.claim == claim} == {BY_CONSTRUCTION}
    for effect in (1.0, -1.0):
        rows = verdicts.judge({MODEL: {}}).assign(effect=effect, low=effect, high=effect)
        rows["verdict"] = [HOLDS if effect > 0 else FAILS] * len(rows)
        assert verdicts.overall(rows)[claim] == BY_CONSTRUCTION


def test_parts_that_cannot_fail_or_are_ours_never_count():
    aside = {(each.claim, each.setting, each.part) for each in rules.RULES if each.aside}
    assert {("C3", RECORDED, "under a larger cap"), ("C14", RECORDED, ""), ("C14", REPLICA, "")} <= aside
    assert {
        ("C13", RECORDED, "over TALE-EP"),
        ("C18", RECORDED, "σ = 2"),
        ("C6", MATHEMATICS, "in batches of 20"),
    } <= aside


def test_only_what_is_about_the_printed_tables_is_judged_by_them():
    assert {each.claim for each in rules.RULES if each.setting == PRINTED and not each.aside} == {"C14", "C23"}
    assert all(each.aside for each in rules.RULES if each.setting == REPLICA)


def test_what_counts_for_nothing_stands_in_brackets_and_changes_no_word():
    table = verdicts.judge({MODEL: {"table1": ahead(-0.1), "replica-7b": ahead(0.1)}})
    shown = verdicts.summary(table).loc["C10"]
    assert shown[[MODEL, PRINTED, REPLICA, "verdict"]].tolist() == [FAILS, f"({HOLDS})", f"({HOLDS})", FAILS]
    assert verdicts.summary(table).loc["C22", "verdict"] == UNTESTED, "a printed table that agrees is no second run"


def test_without_results_only_tables_and_mathematics_are_judged():
    table = verdicts.judge({MODEL: {}}).set_index(["setting", "claim", "part"])["verdict"]
    for setting in (MODEL, LABORATORY, REPLICA):
        assert set(table[setting]) == {UNTESTED}
    known = {("C5", ""): FAILS, ("C6", ""): HOLDS, ("C7", ""): HOLDS, ("C7", "and only then"): FAILS}
    assert {key: table[MATHEMATICS][key] for key in known} == known
    assert table[PRINTED]["C14"].tolist() == table[PRINTED]["C23"].tolist() == [FAILS]


def test_settings_that_disagree_make_a_claim_hold_in_part_and_say_where():
    noise = {name: {"noise": ahead(gain, values=(0.5, 1.0))} for name, gain in (("A", 0.1), ("B", -0.1))}
    table = verdicts.summary(verdicts.judge(noise))
    assert list(table)[1:] == [MATHEMATICS, PRINTED, "A", "B", LABORATORY, REPLICA, "verdict"]
    assert table.loc["C18", ["A", "B", "verdict"]].tolist() == [HOLDS, FAILS, f"{IN_PART}: A"]


# ---- every rule: for, against, unclear ------------------------------------------------------------------------------


@pytest.mark.parametrize(("gain", "luck", "word"), [(0.1, 0, HOLDS), (-0.1, 0, FAILS), (0.01, 0.1, UNCLEAR)])
def test_gains_over_baselines_and_rivals(gain, luck, word):
    names = ("uniform", "clear", "predictor", "clear-auction", "clear-heuristic", "tale-ep")
    table = ahead(gain, names, luck)
    told = pd.concat([table.assign(told=False), table[table["policy"] == "tale-ep"].assign(told=True)])
    table = findings(table1=table, frontier=table, like_paper=table, told=told)
    assert set(table["C10"]) == set(table["C13"]) == {word}


def test_paper_like_streams_have_a_word_of_their_own():
    table = verdicts.judge({MODEL: {"table1": ahead(0.1), "like_paper": ahead(-0.1)}})
    word = verdicts.summary(table).loc["C10", MODEL]
    assert word == f"{IN_PART}: over Uniform, over Predictor"


def test_each_rival_has_a_word_of_its_own():
    at = {"clear": 0.3, "clear-heuristic": 0.2, "clear-auction": 0.4}
    table = verdicts.judge(
        {MODEL: {"table1": results(lambda policy, *_: at.get(policy, 0.1), ("uniform", "predictor", *at))}}
    )
    assert verdicts.summary(table).loc["C13", MODEL] == f"{IN_PART}: over Heuristic"


def test_at_equal_use_a_policy_that_only_spends_more_gains_nothing():
    """Both are on one curve of accuracy by tokens used; CLEAR is further along it."""
    table = results(
        lambda policy, scarcity, _: 0.2 * scarcity * (1 + 0.5 * (policy == "clear")), ("uniform", "predictor", "clear")
    )
    table["used"] = 500 * table["accuracy"]
    words = findings(table1=table, frontier=table)
    assert (words["C10", "over Uniform"], words["C10", "over Uniform, by tokens used"]) == (HOLDS, UNCLEAR)


def test_the_ratio_is_that_of_a_stream_chosen_on_other_questions():
    def lucky(policy, *_):
        return 0.1

    table = results(lucky, ("uniform", "clear", "predictor"))
    luck = (table["policy"] == "clear") & (table["stream"] == "balanced") & (table["stream_seed"] % 2 == 0)
    assert found("C11", halves=halved(table.assign(accuracy=np.where(luck, 0.9, table["accuracy"])))) == FAILS
    assert found("C11", halves=halved(ahead(0.7))) == HOLDS
    nothing = results(lambda policy, *_: 0.1 * (policy == "clear"), ("uniform", "clear", "predictor"))
    assert found("C11", halves=halved(nothing)) == UNTESTED, "a ratio to nothing is no factor"


def test_gains_are_largest_where_scarce_and_shrink():
    def falling(*gains):
        by = dict(zip(BUDGETS, gains, strict=True))
        return results(
            lambda policy, scarcity, _: 0.3 + by[scarcity] * (policy == "clear"), ("uniform", "clear", "predictor")
        )

    for gains, largest, shrinking in (
        ((0.4, 0.3, 0.2, 0.1), HOLDS, HOLDS),
        ((0.4, 0.1, 0.2, 0.0), HOLDS, FAILS),
        ((0.1, 0.2, 0.1, 0), FAILS, FAILS),
    ):
        words = findings(table1=falling(*gains))
        assert (words["C12", "largest"], words["C12", "shrinking"]) == (largest, shrinking)


def test_noise_has_a_word_for_each_size():
    fades = results(lambda policy, _, noise: 0.3 + (policy == "clear") * (0.15 - 0.2 * noise), values=(0.5, 1.0, 2.0))
    words = findings(noise=fades)["C18"]
    assert words.to_dict() == {"σ = 0.5": HOLDS, "σ = 1": FAILS, "σ = 2": FAILS}
    assert verdicts.summary(verdicts.judge({MODEL: {"noise": fades}})).loc["C18", MODEL] == f"{IN_PART}: σ = 0.5"


def test_distortions_are_none_if_they_move_nothing():
    values = (0.5, 1.0, 2.0)
    kinds = lambda accuracy: pd.concat(results(accuracy, ("clear",), kind, values) for kind in ("factor", "power"))
    assert set(findings(ranks=kinds(lambda *_: 0.3))["C9"]) == {HOLDS}
    moves = findings(ranks=kinds(lambda policy, scarcity, value: 0.3 + 0.05 * (value == 2)))["C9"]
    assert moves.to_dict() == {"all halved": HOLDS, "all doubled": FAILS, "square roots": HOLDS, "squares": FAILS}


def test_the_best_fixed_rate_is_chosen_on_other_questions():
    """A rate that is ahead by luck on the questions that choose it does not speak against the adaptive rule."""
    fixed = results(lambda policy, scarcity, rate: 0.3, ("clear",), "decay", (1.0, 2.0))
    lucky = (fixed["value"] == 2) & (fixed["stream_seed"] % 2 == 0)
    adaptive = lambda level: results(lambda *_: level, ("clear",), "epsilon", (32.0,))
    decay = lambda level: halved(pd.concat([fixed.assign(accuracy=np.where(lucky, 0.5, 0.3)), adaptive(level)]))
    assert set(findings(decay=decay(0.295))["C19"]) == {HOLDS}
    assert set(findings(decay=decay(0.25))["C19"]) == {FAILS}


def test_shapes_need_half_of_the_gain_of_the_surge():
    at = {"surge": 0.4, "triangular": 0.35, "quadratic": 0.25}
    base = results(lambda *_: 0.2, ("uniform",))
    shapes = pd.concat([base, results(lambda policy, scarcity, value: at[value], ("clear",), "utility", tuple(at))])
    assert findings(shapes=shapes)["C21"].to_dict() == {"triangular": HOLDS, "quadratic": FAILS}


def tiers_of(short, abandoned=(0.1, 0.6)):
    """Two tiers under three policies, with shares that are granted too little and, under CLEAR, nothing."""
    rows = pd.DataFrame(
        product(STREAMS, range(DRAWS), ("uniform", "predictor", "clear"), ("easy", "hard")),
        columns=["stream", "stream_seed", "policy", "tier"],
    )
    hard = rows["tier"] == "hard"
    return rows.assign(
        scarcity=0.2, n=np.where(hard, 30, 10), threshold=np.where(hard, 800, 90), short=short,
        abandoned=np.where(hard, abandoned[1], abandoned[0]),
    )  # fmt: skip


def test_most_are_short_and_costly_tiers_are_abandoned():
    assert set(findings(tiers=tiers_of(0.9))["C15"]) == {HOLDS}
    assert set(findings(tiers=tiers_of(0.3))["C15"]) == {FAILS}
    assert found("C16", tiers=tiers_of(0.9)) == HOLDS
    assert found("C16", tiers=tiers_of(0.9, (0.6, 0.1))) == FAILS


def bins(view, means, tier=None, width=0.01):
    means = np.array(means, float)
    x = 2.0 ** np.arange(len(means))
    ends = {"lower": means - width, "upper": means + width}
    return pd.DataFrame({"view": view, "tier": tier, "x": x, "n": 10, "mean": means} | ends)


def test_phases():
    s_curve = bins("cap", [0, 0.1, 0.6, 0.79, 0.8, 0.8], "easy")
    three = pd.concat([s_curve, bins("pooled", [0.1, 0.5, 0.3]), bins("within", [-0.2, 0.1, -0.1])])
    words = findings(phases=three)
    assert words["C2", "within questions"] == words["C3", "within questions"] == words["C1", ""] == HOLDS
    assert words["C3", "under a larger cap"] == UNCLEAR, "a larger cap cannot lose"
    rising = findings(phases=pd.concat([bins("cap", [0.4, 0.5, 0.6, 0.8], "easy"), bins("within", [0.1, 0.0, 0.1])]))
    assert rising["C1", ""] == rising["C2", "within questions"] == rising["C3", "within questions"] == FAILS
    assert rising["C2", "over all questions"] == UNTESTED
    assert found("C2", "within questions", phases=bins("within", [-0.005, 0.0, 0.005])) == UNCLEAR


def test_programs_need_every_budget():
    rows = pd.DataFrame(
        {"policy": "clear", "reading": "queries", "choice": "all tests", "scarcity": [0.25, 1.0], "n": 100}
    )
    for second, word in ((3.0, HOLDS), (0.5, UNCLEAR), (-3.0, FAILS)):
        gain = np.array([5.0, second])
        assert found("C17", code=rows.assign(gain=gain, gain_low=gain - 1, gain_high=gain + 1)) == word
    assert found("C17", code=rows.assign(reading="samples", gain=5.0, gain_low=4.0, gain_high=6.0)) == UNTESTED


def test_velocity():
    still = findings(velocity=results(lambda *_: 0.3, ("clear",), "velocity", (0.1, 10.0)))["C20"]
    moves = results(lambda policy, scarcity, value: 0.3 + 0.01 * value, ("clear",), "velocity", (0.1, 10.0))
    assert set(still) == {HOLDS} and findings(velocity=moves)["C20", "accuracy"] == FAILS
    assert findings(velocity=moves.assign(price=1.0))["C20", "price"] == FAILS


def test_wrapper_and_latency():
    for wrong in ({}, {"same_weights": False}, {"begins_alike": 4}, {"charged": 10}):
        wrapper = pd.DataFrame([PASSES, PASSES | wrong])
        assert found("C24", setting=LABORATORY, wrapper=wrapper) == (FAILS if wrong else HOLDS)
    for tokens, word in ((1.0, HOLDS), (30.0, FAILS)):
        latency = pd.DataFrame({"tokens": [tokens]}, index=["Algorithm 1"])
        assert found("C8", setting=LABORATORY, latency=latency) == word


# ---- tables on disk, and the page -----------------------------------------------------------------------------------


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


def some_of_each():
    """A table of every name that a rule asks for."""
    names = ("uniform", "clear", "predictor", "clear-auction", "clear-heuristic", "tale-ep", "oracle", "oracle-paper")
    one, two = ahead(0.1, names), ahead(0.1, values=(0.5, 1.0, 2.0))
    base = results(lambda *_: 0.2, ("uniform",))
    return {
        "phases": bins("cap", [0.0, 0.5, 1.0, 1.0], "easy"),
        "table1": one,
        "told": pd.concat([one.assign(told=False), one.assign(told=True)]),
        "frontier": one,
        "like_paper": one,
        "halves": halved(one),
        "replica-7b": one,
        "ranks": two.assign(setting="factor"),
        "noise": two,
        "decay": halved(pd.concat([two.assign(setting="decay"), one.assign(setting="epsilon")])).query(
            "policy == 'clear'"
        ),
        "velocity": two[two["policy"] == "clear"],
        "shapes": pd.concat(
            [base, results(lambda *_: 0.3, ("clear",), "utility", ("surge", "triangular", "quadratic"))]
        ),
        "tiers": tiers_of(0.9),
        "code": pd.DataFrame(columns=["policy", "reading", "choice", "scarcity", "n", "gain", "gain_low", "gain_high"]),
        "wrapper": pd.DataFrame([PASSES]),
        "latency": pd.DataFrame({"tokens": [1.0]}, index=["Algorithm 1"]),
    }


def test_the_table_of_a_page_is_made_from_the_results_of_a_book(tmp_path):
    page, folder = tmp_path / "page.md", tmp_path / "tiny" / "results"
    page.write_text("<!-- claims -->\n\n<!-- /claims -->\n")
    with pytest.raises(ValueError, match="lacks the tables .*wrapper"):
        verdicts.update_readme(page, folder)
    verdicts.save(folder, **some_of_each())
    verdicts.update_readme(page, folder)
    head, _, *rows = page.read_text().splitlines()[1:-1]
    assert f"| {PRINTED} | {LABORATORY} | {REPLICA} |" in head
    row = next(row for row in rows if row.startswith("| C10 |"))
    assert "**holds**<br>over Uniform +10.0 points" in row and row.endswith("| holds |")


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
    now = verdicts.replace_table("<!-- claims -->\n\n<!-- /claims -->", verdicts.judge({model: {} for model in models}))
    for claim, row in shown.iterrows():
        line = next(line for line in now.splitlines() if line.startswith(f"| {claim} |"))
        assert line.startswith(f"| {claim} | {row[title]} | {row[mathematics]} | {row[printed]} |"), "run: make readme"
        empty = [cell.strip() == "" for cell in line.split("|")[5:-2]]
        assert empty == [row[name] == "" for name in (*models, laboratory, replica)], "a rule is new or gone"


def test_the_readme_agrees_with_itself():
    """The last word of a row is that of its settings that count, where these agree."""
    shown = readme_table()
    for claim, row in shown.iterrows():
        words = {re.sub(r"\W*<br>.*|\*", "", cell) for cell in row.iloc[1:-1]} - {"", UNTESTED, BY_CONSTRUCTION}
        words = {word for word in words if not word.startswith("(")}
        if len(words) == 1:
            assert row["verdict"] == words.pop(), claim
        elif words:
            assert row["verdict"] in (IN_PART, FAILS, UNCLEAR), claim


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="found 0"):
        verdicts.replace_table("# A page", verdicts.judge({MODEL: {}}))


# ---- the figure -----------------------------------------------------------------------------------------------------


def test_the_figure_has_a_mark_for_every_finding_and_fits_a_phone():
    table = verdicts.judge({MODEL: some_of_each()})
    figure = figures.verdict_figure(table)
    assert figure.get_size_inches()[0] * 96 == pytest.approx(390)
    shown = table[table["verdict"] != UNTESTED]
    marks = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", None)]
    assert len(marks) == len(shown)
    hollow = [line for line in marks if line.get_markerfacecolor() == "white"]
    assert len(hollow) == (shown["aside"] != "").sum()
    holding = [line for line in marks if line.get_marker() == figures.claims.LOOKS[HOLDS][1]]
    assert len(holding) == ((shown["verdict"] == HOLDS) & (shown["aside"] == "")).sum()


def test_the_figure_puts_what_speaks_for_a_claim_right_of_its_mark():
    table = verdicts.judge(
        {MODEL: {"table1": ahead(0.1), "latency": pd.DataFrame({"tokens": [1.0]}, index=["Algorithm 1"])}}
    )
    at = figures.claims.from_mark(table).join(table[["claim", "verdict", "aside"]])
    assert (at.loc[at["verdict"] == HOLDS, "effect"] >= 0).all()
    assert (at.loc[(at["verdict"] == FAILS), "effect"] < 0).all()
