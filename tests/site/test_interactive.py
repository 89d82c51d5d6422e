"""The pages with controls, in a real browser, against the library's numbers."""

import json

import numpy as np
import pandas as pd
import pytest
from selenium.webdriver.common.by import By

from clear_lib.allocation.policies import allocate
from clear_lib.allocation.utility import Surge
from clear_lib.study.pages import interactive

pytestmark = pytest.mark.slow

BUDGETS, EPSILONS, NOISES = (0, 3, 40, 131, 260, 500), (0, 8, 16, -1), (0, 0.5, 1, 2)

MOVE = """
const [id, value] = arguments, slider = document.getElementById(id);
slider.value = value;
const began = performance.now();
slider.dispatchEvent(new Event('input', {bubbles: true}));
return performance.now() - began;
"""
CELLS = "return [...document.querySelectorAll(arguments[0] + ' tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"


def pool(n=15):
    """Questions of three tiers whose forecasts err."""
    rng = np.random.default_rng(4)
    length = np.concatenate([rng.lognormal(mean, 0.6, n) for mean in (4, 5, 6)]).round() + 1
    return pd.DataFrame(
        {
            "tier": np.repeat(["easy", "moderate", "hard"], n),
            "length": length.astype(int),
            "threshold": length * rng.lognormal(0, 0.5, 3 * n),
            "correct": rng.random(3 * n) < 0.6,
        }
    )


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    """Open a widget on a page of its own."""

    def open_(widget):
        page = tmp_path_factory.mktemp("page") / "page.html"
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>A widget</title>'
        page.write_text(f"{head}<main>{widget.data}</main>", encoding="utf-8")
        browser.get_log("browser")  # what other pages left
        browser.get(f"file://{page}")
        severe = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert severe == []
        return browser

    return open_


@pytest.fixture(scope="module")
def queries():
    return interactive.two_dozen(pool())


@pytest.fixture
def market(opened, queries):
    return opened(interactive.market(queries, reference=260.0, epsilon=8.0, scarcity=0.4))


def epsilons(driver):
    return json.loads(
        driver.find_element(By.CSS_SELECTOR, ".market script[type='application/json']").get_attribute("textContent")
    )["epsilons"]


def by_library(queries, per_query, epsilon, noise):
    """Rows of the page's two tables for one setting, by ``clear-exact`` and Uniform."""
    forecast, length = interactive.forecasts(queries, noise), queries["length"].to_numpy()
    budget = per_query * len(queries)
    market = allocate(forecast, budget, "clear-exact", epsilon=epsilon)
    surge = Surge(1.0, market.settings["decay"])
    score, outcomes = [], []
    for side in (market, allocate(forecast, budget, "uniform")):
        tokens = side.tokens
        served, enough = tokens > 0, tokens >= length
        solved = served & enough & queries["correct"].to_numpy()
        utility = float(surge.value(tokens - forecast).sum())
        counts = [int(which.sum()) for which in (served, ~served, served & enough, solved)]
        score.append((side.price, utility, counts))
        words = ["abandoned", "stopped short", "wrong answer", "solved"]
        outcomes.append(np.select([~served, ~enough, ~solved], words[:3], words[3]).tolist())
    return score, list(zip(market.tokens.tolist(), *outcomes, strict=True))


def test_two_dozen_are_spread_over_tiers_lengths_and_answers(queries):
    assert queries.groupby("tier")["correct"].sum().to_dict() == {"easy": 4, "moderate": 4, "hard": 4}
    assert queries["tier"].value_counts().to_dict() == {"easy": 8, "moderate": 8, "hard": 8}
    assert queries["length"].is_monotonic_increasing and "".join(queries["name"]) == "ABCDEFGHIJKLMNOPQRSTUVWX"


def test_the_noise_goes_from_the_truth_to_the_predictor(queries):
    assert interactive.forecasts(queries, 0).tolist() == queries["length"].tolist()
    known = pool().groupby("length")["threshold"].agg(list)
    for length, forecast in zip(queries["length"], interactive.forecasts(queries, 1), strict=True):
        assert any(forecast == pytest.approx(threshold, rel=1e-3) for threshold in known[length])


@pytest.mark.parametrize("noise", NOISES)
def test_the_page_finds_the_optimum_of_the_library(market, queries, noise):
    known = epsilons(market)
    market.find_element(By.TAG_NAME, "summary").click()
    market.execute_script(MOVE, "market-noise", noise)
    for epsilon in EPSILONS:
        market.execute_script(MOVE, "market-epsilon", known.index(known[epsilon]))
        for per_query in BUDGETS:
            market.execute_script(MOVE, "market-budget", per_query)
            score, rows = by_library(queries, per_query, known[epsilon], noise)
            where = f"budget {per_query}, epsilon {known[epsilon]}, noise {noise}"
            names, *shown = zip(*market.execute_script(CELLS, ".market .score"), strict=True)
            assert names == ("price λ", "served", "abandoned", "utility", "finished", "solved")
            for (price, utility, counts), (first, *cells) in zip(score, shown, strict=True):
                assert [int(cells[i]) for i in (0, 1, 3, 4)] == counts, where
                assert float(cells[2].replace(",", "")) == pytest.approx(utility, abs=0.51), where
                assert first == "none" if price is None else float(first) == pytest.approx(price, rel=5e-3), where
            listed = market.execute_script(CELLS.replace("innerText", "textContent"), ".market .list")
            assert [(int(cells[4].replace(",", "")), cells[5], cells[6]) for cells in listed] == rows, where


def test_a_slider_says_its_value_in_words_and_the_keyboard_moves_it(market):
    slider = market.find_element(By.ID, "market-budget")
    market.execute_script(MOVE, "market-budget", 100)
    slider.send_keys("\ue014")  # the right arrow
    said = slider.get_attribute("aria-valuetext")
    assert said.startswith("101 tokens") and market.find_element(By.CSS_SELECTOR, "output").text == said
    market.find_element(By.CSS_SELECTOR, ".market button").click()
    assert (
        market.execute_async_script(
            "setTimeout(() => arguments[0](document.getElementById('market-budget').value), 50)"
        )
        == "104"
    )


def test_every_control_has_a_label_and_every_table_a_caption(opened, queries, compared):
    for widget in (interactive.market(queries, 260.0, 8.0, 0.4), interactive.table1(compared, "Made up.")):
        driver = opened(widget)
        assert driver.execute_script(
            "return [...document.querySelectorAll('input, select')].every(e => e.labels.length)"
        )
        tables = driver.find_elements(By.TAG_NAME, "table")
        assert tables and all(table.find_elements(By.TAG_NAME, "caption") for table in tables)


def test_nothing_is_wider_than_a_phone(opened, queries, compared):
    for widget in (interactive.market(queries, 260.0, 8.0, 0.4), interactive.table1(compared, "Made up.")):
        driver = opened(widget)
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        )
        try:
            assert (
                driver.execute_async_script("setTimeout(() => arguments[0](document.documentElement.scrollWidth), 200)")
                <= 390
            )
        finally:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_how_long_a_slider_takes_is_told(market, record_property):
    times = [market.execute_script(MOVE, "market-budget", value) for value in range(1, 500, 5)]
    record_property("milliseconds", float(np.median(times)))
    print(
        f"\na slider's input handler: median {np.median(times):.1f} ms, 95% within {np.quantile(times, 0.95):.1f} ms; a frame is 16 ms"
    )
    assert len(times) == 100


@pytest.mark.parametrize(("page", "cell"), [("21_touch_the_market", ".score td"), ("22_explore_table_1", ".cells td")])
def test_the_pages_of_the_book_start(browser, site, page, cell):
    browser.get(f"file://{site / 'book' / 'chapters' / page}.html")
    widget = browser.find_element(By.CSS_SELECTOR, ".clear-book")
    assert widget.get_attribute("data-ready") == "true"
    assert len(widget.find_elements(By.CSS_SELECTOR, cell)) > 6 and widget.find_elements(By.CSS_SELECTOR, "figure svg")


# ---- Table 1 ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared():
    """A table like that of ``comparison.compare``: two streams, two budgets, three policies; one has no paper's number."""
    rows = [
        (stream, scarcity, policy, round(300 * scarcity), round(1311 * scarcity))
        for stream in ("balanced", "u-shaped")
        for scarcity in (0.195, 0.39)
        for policy in ("uniform", "clear", "clear-exact")
    ]
    table = pd.DataFrame(rows, columns=["stream", "scarcity", "policy", "tokens", "paper_tokens"])
    table["ours"] = 10.0 + np.arange(len(table))
    table["gain"] = table["ours"] - table.groupby(["stream", "scarcity"])["ours"].transform("first") - 1.5
    table["paper"] = np.where(table["policy"] == "clear-exact", np.nan, 33.3)
    table["paper_gain"] = np.where(table["policy"] == "clear-exact", np.nan, 3.3)
    for name in ("ours", "gain"):
        prefix = "" if name == "ours" else "gain_"
        table[f"{prefix}low"], table[f"{prefix}high"] = table[name] - 1, table[name] + 1
    return table


def test_table_1_shows_what_is_chosen(opened, compared):
    driver = opened(interactive.table1(compared, "Made up."))
    rows = driver.execute_script(CELLS, ".table1 .cells")
    assert rows == [
        ["Uniform", "58 (256)", "10.0", "9.0 to 11.0", "-1.5", "-2.5 to -0.5"],
        ["CLEAR (Lambert)", "58 (256)", "11.0", "10.0 to 12.0", "-0.5", "-1.5 to +0.5"],
    ]
    choose = "const e = document.querySelector(arguments[0]); if (arguments[1]) e.value = arguments[1]; else e.checked = !e.checked;"
    choose += "e.dispatchEvent(new Event('input', {bubbles: true}))"
    for control, value in (("#table1-stream", "u-shaped"), ("#table1-budget", "0.39"), ("[value=clear-exact]", None)):
        driver.execute_script(choose, control, value)
    driver.execute_script(choose, "[name=intervals]", None)
    driver.execute_script(choose, "[name=paper]", None)
    rows = driver.execute_script(CELLS, ".table1 .cells")
    assert rows == [
        ["Uniform", "117 (511)", "19.0", "33.3", "-1.5", "+3.3"],
        ["CLEAR (Lambert)", "117 (511)", "20.0", "33.3", "-0.5", "+3.3"],
        ["CLEAR (exact)", "117 (511)", "21.0", "", "+0.5", ""],
    ]
    assert driver.execute_script("return document.querySelector('.cells tr.best th').innerText") == "CLEAR (exact)"
    driver.execute_script(choose, "#table1-budget", "all")
    assert len(driver.execute_script(CELLS, ".table1 .cells")) == 6
    caption = driver.find_element(By.TAG_NAME, "figcaption").text
    assert "U-Shaped" in caption and caption.endswith("Made up.")
