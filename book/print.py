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
from pypdf import PageObject, PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DecodedStreamObject, DictionaryObject, NameObject, NullObject

SITE, TARGET = Path("_build/html"), Path("_build/pdf")
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --no-pdf-header-footer
--generate-pdf-document-outline --run-all-compositor-stages-before-draw --virtual-time-budget=30000""".split()
FONT = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}


def printed(page, target):
    """The PDF of an HTML page."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("make pdf prints with Chromium or Chrome, and neither is installed: sudo apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        own = [f"--user-data-dir={profile}", f"--print-to-pdf={target}", page.resolve().as_uri()]
        subprocess.run([browser, *FLAGS, *own], check=True, capture_output=True, timeout=300)
    return PdfReader(target)


def add_number(page, number):
    """Write the number of a page at its foot."""
    overlay = PageObject.create_blank_page(width=page.mediabox.width, height=page.mediabox.height)
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in FONT.items()})
    fonts = DictionaryObject({NameObject("/F1"): font})
    overlay[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
    text = DecodedStreamObject()
    text.set_data(f"BT /F1 9 Tf {float(page.mediabox.width) / 2 - 8:.0f} 18 Td ({number}) Tj ET".encode())
    overlay[NameObject("/Contents")] = text
    page.merge_page(overlay)


def lead_inside(writer, starts):
    """Let links to files of the site lead to the first page of what was printed of them, or nowhere."""
    for page in writer.pages:
        for annotation in (each.get_object() for each in page.get("/Annots", [])):
            link = urldefrag(annotation.get("/A", {}).get("/URI", "")).url
            if link.startswith("file:"):
                del annotation[NameObject("/A")]
                start = starts.get(Path(unquote(urlparse(link).path)))
                if start is not None:
                    where = [writer.pages[start].indirect_reference, NameObject("/Fit")]
                    annotation[NameObject("/Dest")] = ArrayObject(where)
                else:
                    annotation[NameObject("/Border")] = ArrayObject([NullObject()])


def main():
    """Print all pages."""
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
        for number, page in enumerate(writer.pages, 1):
            add_number(page, number)
        lead_inside(writer, starts)
        writer.add_metadata({"/Title": "The Shadow Price of Reasoning, reproduced"})
        writer.compress_identical_objects()
        writer.write(TARGET / "book.pdf")
        printed(SITE / "teach" / "handout.html", TARGET / "handout.pdf")
    print(f"{len(writer.pages)} pages: {(TARGET / 'book.pdf').resolve()}")


if __name__ == "__main__":
    main()
