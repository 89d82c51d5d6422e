"""The smoke book, built once for all tests of the rendered site, and a browser to open it in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
COPY = ROOT / "_build" / "smoke-book"  # a project of its own, so that the pages of `make book` stay as they are
SOURCES = ["Makefile", "_config.yml", "_toc.yml", "book", "clear_lib", "notebooks", "recordings"]
SOURCES += ["pyproject.toml", "constraints.txt", "README.md", "LICENSE"]  # what student notebooks bring along
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --window-size=1280,1000""".split()


@pytest.fixture(scope="session")
def project(testrun_uid):
    """The folder of a copy of the project in which `make book PROFILE=smoke` has run, once for all processes."""
    COPY.mkdir(parents=True, exist_ok=True)
    made = COPY / "made-for"
    with FileLock(COPY / "making.lock"):
        if not made.exists() or made.read_text() != testrun_uid:
            _build()
            made.write_text(testrun_uid)
    return COPY


def _build():
    for name in SOURCES:  # times are kept, so a second run of the tests makes only what changed
        if (ROOT / name).is_dir():
            shutil.rmtree(COPY / name, ignore_errors=True)
            shutil.copytree(ROOT / name, COPY / name, ignore=shutil.ignore_patterns("__pycache__", "chapters"))
        else:
            shutil.copy2(ROOT / name, COPY / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    build = subprocess.run(
        ["make", "book", "PROFILE=smoke", f"PY={sys.executable}"],
        cwd=COPY,
        env=environment,
        capture_output=True,
        text=True,
    )
    if build.returncode:
        pytest.fail(f"make book PROFILE=smoke failed:\n{build.stdout[-3000:]}\n{build.stderr[-5000:]}", pytrace=False)


@pytest.fixture(scope="session")
def site(project):
    """The folder of the rendered pages."""
    return project / "_build" / "html"


@pytest.fixture(scope="session")
def pages(site):
    """Every page of the book: path below the site, to its parsed HTML."""
    paths = [*sorted(site.glob("book/**/*.html")), site / "search.html"]
    return {str(path.relative_to(site)): BeautifulSoup(path.read_text(), "html.parser") for path in paths}


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """A headless Chromium that says which resources it could not load."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver; enable with: sudo apt-get install -y chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()
