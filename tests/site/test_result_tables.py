"""The tables in the pages say what the results files say. The numbers are computed here anew, from the files."""

import re

import pandas as pd
import pytest

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.setup import paper
from clear_lib.study.setup.streams import STREAMS

pytestmark = pytest.mark.slow

PAGE = "book/chapters/08_table_1.html"
NAMES = [(name, policy.label) for name, policy in POLICIES.items()]


@pytest.fixture(scope="module")
def results(project):
    """Accuracy in per cent by stream, paper budget and policy: mean and the central 95% over the stream seeds."""
    table = pd.read_parquet(project / "artifacts" / "smoke" / "results" / "table1.parquet")
    table["budget"] = table["scarcity"].map(paper.STUDIES["7b"].budgets_of(table["scarcity"]))
    groups = table.groupby(["stream", "budget", "policy"])
    spread = (groups["accuracy"].quantile([0.025, 0.975]) * 100).unstack()
    return pd.DataFrame(
        {
            "ours": groups["accuracy"].mean() * 100,
            "low": spread[0.025],
            "high": spread[0.975],
            "tokens": groups["budget_per_query"].first(),
        }
    )


def tables(page, pattern):
    """Caption and rows of texts of every table of a page in which a cell matches `pattern`."""
    found = []
    for table in page.select("article table"):
        rows = [[cell.get_text(" ", strip=True) for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]
        if any(re.fullmatch(pattern, cell) for row in rows for cell in row):
            found.append((table.caption.get_text(" ", strip=True), rows))
    return found


def test_table_1_shows_the_results_beside_the_paper(pages, results):
    cell = r"(\d+\.\d) \((\d+\.\d)\)"
    found = tables(pages[PAGE], cell)
    ((heads, _, *body),) = (rows for caption, rows in found if not caption.startswith("Streams like the paper's"))
    budgets = [int(tokens.replace(",", "")) for tokens in re.findall(r"\(([\d,]+)\)", " ".join(heads))]
    streams, policies = ({label: name for name, label in labels} for labels in (STREAMS.items(), NAMES))
    shown = set()
    for row in body:
        if len(row) == len(budgets) + 2:  # the first row of a stream has its name
            stream = streams[row[0]]
        policy, *cells = row[-len(budgets) - 1 :]
        policy = policies[policy]
        for budget, text in zip(budgets, cells, strict=True):
            ours, theirs = map(float, re.fullmatch(cell, text).groups())
            assert ours == pytest.approx(results.loc[stream, budget, policy].ours, abs=0.0501), (policy, stream, budget)
            printed = paper.TABLE_1["oracle" if policy == "oracle-paper" else policy]
            assert theirs == printed[stream][budget], (policy, stream, budget)
            shown.add((stream, budget, policy))
    assert budgets == list(paper.BUDGETS) and shown == set(results.index)


def test_listings_show_accuracy_and_interval_of_the_results(pages, results):
    pattern = r"-?\d+\.\d to -?\d+\.\d"
    policies, streams = ({label: name for name, label in labels} for labels in (NAMES, STREAMS.items()))
    shown = set()
    for caption, (header, *table) in tables(pages[PAGE], pattern):
        assert header[-6:] == ["paper", "ours", "difference", "95% interval", "n", "verdict"], caption
        for row in table:
            cells = dict(zip(header, row, strict=True))
            stream = streams[cells["stream"]]
            tokens, budget = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", cells["budget"]))
            expected = results.loc[stream, budget, policies[cells["policy"]]]
            low, high = map(float, cells["95% interval"].split(" to "))
            assert tokens == expected.tokens, (caption, row)
            assert [float(cells["ours"]), low, high] == pytest.approx(
                expected[["ours", "low", "high"]].tolist(), abs=0.0501
            ), (caption, row)
            shown.add((stream, budget, policies[cells["policy"]]))
    assert shown == set(results.index)


def test_every_table_of_results_ends_in_the_same_columns(pages):
    found = {}
    for name, page in pages.items():
        for table in page.select("article table"):
            first = table.find("tr") or []
            header = [cell.get_text(" ", strip=True) for cell in first if cell.name]
            if {"paper", "verdict"} <= set(header):
                found.setdefault(name.rsplit("/", 1)[-1], []).append(header[-6:])
    assert set(found) >= {"08_table_1.html", "09_variants.html", "15_replica.html", "16_verdict.html"}
    for name, headers in found.items():
        assert all(header == ["paper", "ours", "difference", "95% interval", "n", "verdict"] for header in headers), (
            name
        )
