"""The rendered pages, read as files: links, images, and nothing that needs a network."""

import re
from urllib.parse import unquote, urldefrag, urlparse

import pytest
import yaml

pytestmark = pytest.mark.slow

REMOTE = re.compile(r"^(https?:)?//")


def test_every_page_of_the_contents_is_there(project, pages):
    contents = yaml.safe_load((project / "_toc.yml").read_text())
    named = [contents["root"]] + [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    assert {f"{name}.html" for name in named} == set(pages) - {"search.html"}
    chapters = {f"book/chapters/{path.stem}" for path in (project / "notebooks").glob("*.ipynb")}
    assert chapters <= set(named), "a notebook is missing from _toc.yml"


def test_every_internal_link_and_anchor_resolves(site, pages):
    anchors = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for link in page.find_all("a", href=True):
            address, anchor = urldefrag(link["href"])
            if urlparse(address).scheme or REMOTE.match(address):
                continue
            target = (site / path).parent / unquote(address) if address else site / path
            if not target.exists():
                broken.append((path, link["href"]))
            elif anchor:
                found = str(target.resolve().relative_to(site.resolve()))
                if found in anchors and unquote(anchor) not in anchors[found] | {"", "top"}:
                    broken.append((path, link["href"]))
    assert broken == []


def test_every_image_exists_and_has_alt_text(site, pages):
    seen = 0
    for path, page in pages.items():
        for image in page.find_all("img"):
            seen += 1
            assert ((site / path).parent / unquote(image["src"])).exists(), (path, image["src"])
            alt = image.get("alt", "")
            assert len(alt) > 20 and "_images" not in alt, f"{path}: {image['src']} says {alt!r}"
    assert seen


def test_every_figure_of_a_chapter_has_a_number_and_a_caption(pages):
    for path, page in pages.items():
        for image in page.select("main .cell_output img"):
            caption = image.find_parent("figure") and image.find_parent("figure").find("figcaption")
            assert caption and re.match(r"Fig\. \d+", caption.get_text().strip()), f"{path}: {image['alt']}"


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for path, page in pages.items():
        for tag in page.find_all(["script", "img", "iframe", "source", "video", "audio", "embed"], src=True):
            assert not REMOTE.match(tag["src"]), (path, tag["src"])
        for tag in page.find_all("link", href=True):
            assert not REMOTE.match(tag["href"]), (path, tag["href"])
    for style in site.rglob("*.css"):
        remote = re.findall(r"url\(['\"]?((?:https?:)?//[^)]*)\)|@import\s+['\"](https?://[^'\"]*)", style.read_text())
        assert remote == [], style
