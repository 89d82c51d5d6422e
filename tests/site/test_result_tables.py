"""The tables in the pages say what the results files say. The numbers are computed here anew, from the files."""

import re

import pandas as pd
import pytest

from clear_lib.allocation.policies import POLICIES
from clear_lib.study.setup import paper
from clear_lib.study.setup.streams import STREAMS

pytestmark = pytest.mark.slow

PAGE = "book/chapters/08_table_1.html"


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
    ((_, table),) = tables(pages[PAGE], cell)
    streams, budgets, *body = table
    body = [row for row in body if re.fullmatch(cell, row[-1])]
    streams = [text for text in streams if text in STREAMS.values()]
    names = {label: name for name, label in STREAMS.items()}
    columns = [(names[stream], budget) for stream in streams for budget in paper.BUDGETS]
    assert len(streams) == 4 and len(budgets) >= len(columns)
    policies = {POLICIES[name].label: name for name in POLICIES}
    assert {row[0] for row in body} == {POLICIES[name].label for _, _, name in results.index}
    for label, *cells in body:
        for (stream, budget), text in zip(columns, cells, strict=True):
            ours, theirs = map(float, re.fullmatch(cell, text).groups())
            policy = policies[label]
            assert ours == pytest.approx(results.loc[stream, budget, policy].ours, abs=0.0501), (label, stream, budget)
            row = "oracle" if policy == "oracle-paper" else policy
            assert theirs == paper.TABLE_1[row][stream][budget], (label, stream, budget)


def test_listings_show_accuracy_and_interval_of_the_results(pages, results):
    pattern = r"-?\d+\.\d to -?\d+\.\d"
    policies, streams = (
        {label: name for name, label in labels}
        for labels in ([(name, POLICIES[name].label) for name in POLICIES], STREAMS.items())
    )
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
            header = [cell.get_text(" ", strip=True) for cell in table.find("tr").find_all(["th", "td"])]
            if {"paper", "verdict"} <= set(header):
                found.setdefault(name.rsplit("/", 1)[-1], []).append(header[-6:])
    assert set(found) >= {"08_table_1.html", "09_variants.html", "15_replica.html", "16_verdict.html"}
    for name, headers in found.items():
        assert all(header == ["paper", "ours", "difference", "95% interval", "n", "verdict"] for header in headers), (
            name
        )
