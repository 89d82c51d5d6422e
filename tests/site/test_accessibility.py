"""axe-core finds nothing serious on any page: light, dark, and as narrow as a phone."""

from importlib import resources

import pytest

pytestmark = pytest.mark.slow

# The insides of formulas are MathJax's, thousands of boxes on a page, and it reads them out itself.
AUDIT = """
const done = arguments[arguments.length - 1];
document.head.appendChild(document.createElement('style')).textContent = '* {transition: none !important}';
axe.run({exclude: [['mjx-container']]}, {resultTypes: ['violations'], iframes: false}).then(
  found => done(found.violations.filter(each => ['serious', 'critical'].includes(each.impact)).flatMap(
    each => each.nodes.map(node => `${each.id}: ${node.target.join(' ')}: ${node.html.slice(0, 120)}`))),
  error => done([String(error)]));
"""
LOOKS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (390, "light")}


@pytest.fixture(scope="module")
def audited(site, pages, browser):
    """Serious findings by look, and by page."""
    axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.set_script_timeout(120)
    files = [*pages, *(str(path.relative_to(site)) for path in sorted(site.glob("teach/*.html")))]

    def audit(look):
        width, theme = LOOKS[look]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        try:
            return {path: found for path in files if (found := findings(path))}
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

    def findings(path):
        browser.get(f"file://{site / path}")
        browser.execute_script(axe)
        return browser.execute_async_script(AUDIT)

    return audit


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_serious_stands_in_a_readers_way(audited, look):
    assert audited(look) == {}
