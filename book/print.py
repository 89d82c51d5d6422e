"""Print the pages of the book into one PDF with bookmarks and page numbers: ``python book/print.py``.

Chromium (or Chrome) prints each page of ``_build/html`` in the order of the contents; links between pages lead to pages
of the PDF. The result is ``_build/pdf/book.pdf``, and the handout beside it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, NameObject, NullObject

SITE, TARGET = Path("_build/html"), Path("_build/pdf")
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --no-pdf-header-footer
--generate-pdf-document-outline --run-all-compositor-stages-before-draw --virtual-time-budget=30000""".split()

#: In front of as many paragraphs as there are pages: their numbers alone, to be laid over the pages.
NUMBERS = """<style>p { break-after: page }
@page { size: A4; margin: 0 0 14mm; @bottom-center { content: counter(page); font: 9pt Helvetica } }</style>"""


def printed(page, target):
    """The PDF of an HTML page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("make pdf prints with Chromium or Chrome, and neither is installed: sudo apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        own = [f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.resolve().as_uri()]
        subprocess.run([browser, *FLAGS, *own], check=True, capture_output=True, timeout=300)
    return PdfReader(target)


def lead_inside(writer, starts):
    """Let links to files of the site lead to the first page of what was printed of them, or nowhere."""
    for page in writer.pages:
        for annotation in (each.get_object() for each in page.get("/Annots", [])):
            link = urldefrag(annotation.get("/A", {}).get("/URI", "")).url
            if link.startswith("file:"):
                del annotation[NameObject("/A")]
                start = starts.get(Path(unquote(urlparse(link).path)))
                if start is None:
                    annotation[NameObject("/Border")] = ArrayObject([NullObject()])
                else:
                    where = [writer.pages[start].indirect_reference, NameObject("/Fit")]
                    annotation[NameObject("/Dest")] = ArrayObject(where)


def main():
    if not (SITE / "index.html").is_file():
        sys.exit("there are no pages yet: make book")
    contents = yaml.safe_load(Path("_toc.yml").read_text(encoding="utf-8"))
    files = [contents["root"]] + [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    writer, starts = PdfWriter(), {}
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in files:
            page = SITE / f"{name}.html"
            print(f"printing {name} …", flush=True)
            starts[page.resolve()] = len(writer.pages)
            title = re.search(r"<title>(.*?)(?: —|&#8212;|</title>)", page.read_text(encoding="utf-8"), re.DOTALL)[1]
            pdf = printed(page, Path(folder) / f"{len(starts)}.pdf")
            writer.append(pdf, outline_item=title.strip(), import_outline=True)
        numbers = Path(folder) / "numbers.html"
        numbers.write_text(NUMBERS + "<p>&nbsp;" * len(writer.pages))
        for page, number in zip(writer.pages, printed(numbers, numbers.with_suffix(".pdf")).pages, strict=True):
            page.merge_page(number)
        lead_inside(writer, starts)
        writer.add_metadata({"/Title": "The Shadow Price of Reasoning, reproduced"})
        writer.compress_identical_objects()
        writer.write(TARGET / "book.pdf")
        printed(SITE / "teach" / "handout.html", TARGET / "handout.pdf")
    print(f"{len(writer.pages)} pages: {(TARGET / 'book.pdf').resolve()}")


if __name__ == "__main__":
    main()
