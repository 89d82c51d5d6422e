"""The rendered pages, opened from file:// in a real browser."""

import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

# What a reader sees of a page, code aside: the visible text without <pre> and <code>.
PROSE = """
const text = [];
const walk = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const parent = walk.currentNode.parentElement;
  if (!parent.closest('pre, code, script, style, mjx-assistive-mml')) text.push(walk.currentNode.textContent);
}
return text.join('');
"""
SETTLED = """
const done = arguments[0];
if (document.querySelector('script[src*=mathjax]')) window.MathJax.startup.promise.then(() => done()); else done();
"""
RAW = re.compile(r"\\[a-zA-Z]{2,}|\\[()\[\]]|\$[^$\n]{1,80}\$|\{(?:glue|ref|numref|eq|cite|doc|math)[:}]|</?\w+>")
# The theme asks for its icon fonts twice, the first time in a way that only a server can answer, and the launch
# buttons (which this book does not have) declare one constant twice. Neither is seen; test_icons_are_there looks.
BENIGN = re.compile(r"/webfonts/fa-\w+-\d+\.woff2|Identifier 'THEBE_JS_URL'")
CONTRAST = """
function rgb(color) { return color.match(/[\\d.]+/g).map(Number); }
function luminance([r, g, b]) {
  const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
}
function ground(element) {
  for (let e = element; e; e = e.parentElement) {
    const color = rgb(getComputedStyle(e).backgroundColor);
    if (color.length === 3 || color[3] > 0.5) return color;
  }
  return [255, 255, 255];
}
const poor = [];
for (const element of document.querySelectorAll('article :is(p, li, td, th, h1, h2, h3, a, caption, figcaption, span, dt, dd, summary)')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || !element.offsetParent || element.closest('mjx-container, .headerlink')) continue;
  const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < LEAST) poor.push(element.tagName + ' ' + element.className + ' ' + element.textContent.trim().slice(0, 40)
    + ' ' + ratio.toFixed(2));
}
return poor;
"""


@pytest.fixture
def visit(browser, site):
    """Open a page from file:// and wait until its formulas are set."""

    def go(path):
        browser.get(f"file://{site / path}")
        browser.execute_async_script(SETTLED)
        return browser

    return go


def test_no_page_shows_raw_source_or_a_stack_trace(visit, pages):
    for path in pages:
        if path == "search.html":
            continue
        driver = visit(path)
        text = driver.execute_script(PROSE)
        assert RAW.findall(text) == [], path
        assert "Traceback (most recent call last)" not in driver.find_element(By.TAG_NAME, "body").text, path
        assert driver.find_elements(By.CSS_SELECTOR, "mjx-merror, .problematic, .system-message") == [], path


def test_formulas_are_set(visit, pages):
    counted = {
        path: len(visit(path).find_elements(By.TAG_NAME, "mjx-container"))
        for path, page in pages.items()
        if page.select("article .math")
    }
    assert counted and all(counted.values()), counted


def test_pages_load_without_network_or_console_errors(visit, pages):
    for path in pages:
        driver = visit(path)
        loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert [name for name in loaded if not name.startswith(("file:", "data:"))] == [], path
        severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        severe = [message for message in severe if not BENIGN.search(message)]
        assert severe == [], path


def test_icons_are_there(visit):
    driver = visit("book/intro.html")
    assert driver.execute_script(
        "return document.fonts.ready.then(() => [...document.fonts].some("
        "font => font.family.includes('Awesome') && font.status === 'loaded'))"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable(visit, pages, theme):
    for path in pages:
        driver = visit(path)
        driver.execute_script(
            "document.documentElement.dataset.theme = arguments[0]; document.documentElement.dataset.mode = arguments[0];"
            "document.head.appendChild(document.createElement('style')).textContent = '* {transition: none !important}'",
            theme,
        )
        assert driver.execute_script(CONTRAST.replace("LEAST", "4")) == [], f"{path} in {theme}"


def test_pages_fit_a_phone(visit, pages, browser):
    """No page is wider than 400 px, and what is wider inside it starts inside it, so that it can be scrolled to."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    )
    outside = (
        "return [...document.querySelectorAll('article :is(table, img, pre, mjx-container)')]"
        ".filter(element => element.getBoundingClientRect().left < 0).map(element => element.outerHTML.slice(0, 80))"
    )
    try:
        for path in pages:
            driver = visit(path)
            assert driver.execute_script("return document.documentElement.scrollWidth") <= 400, path
            assert driver.execute_script(outside) == [], path
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_search_finds_pages_from_a_file(visit, browser, site):
    browser.get(f"file://{site / 'search.html'}?q=scarcity")
    WebDriverWait(browser, 20).until(lambda driver: driver.find_elements(By.CSS_SELECTOR, "#search-results li a"))
    titles = [link.text for link in browser.find_elements(By.CSS_SELECTOR, "#search-results li a")]
    assert "How to read this book" in titles
    browser.get(browser.find_element(By.CSS_SELECTOR, "#search-results li a").get_attribute("href"))
    assert "scarcity" in browser.find_element(By.TAG_NAME, "article").text.lower()
