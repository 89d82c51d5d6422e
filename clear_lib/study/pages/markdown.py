"""The book's MyST in the Markdown that Jupyter shows: boxes and folds as HTML, numbers filled in, links to the pages."""

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml

#: A line that opens a fence, with the name of its directive if it has one.
FENCE = re.compile(r"(?P<indent>\s*)(?P<mark>:{3,}|`{3,}|~{3,})(?:\{(?P<name>[^}]+)\})?(?P<title>.*)")

#: What is rewritten inside a line: a role, a link; and code, which is not.
INLINE = re.compile(
    r"\{(?P<role>[\w:.-]+)\}`(?P<content>[^`]+)`|(?P<code>`+[^`]+`+)|(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]*)\)"
)

#: Boxes whose only words are the author's.
UNNAMED = ("admonition", "dropdown")

HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
TARGET = re.compile(r"^\(([\w:-]+)\)=\n+(?:#+ +(.+)$)?", re.MULTILINE)
EQUATION = re.compile(r"\$\$((?:(?!\$\$).)*)\$\$ *\(([\w:-]+)\)", re.DOTALL)


@dataclass(frozen=True)
class Book:
    """What a reference can lead to: titles of pages, the page and the words of every label, works, and the address."""

    address: str = ""
    titles: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    works: Mapping[str, str] = field(default_factory=dict)

    def link(self, text: str, page: str, anchor: str = "") -> str:
        """A link to a page; the text alone while the book has no address."""
        anchor = f"#{anchor}" if anchor else ""
        return f"[{text}]({self.address}/{page}.html{anchor})" if self.address else text

    def labelled(self, label: str, text: str = "") -> str:
        """A link to a label."""
        page, words = self.labels.get(label, ("", label))
        return self.link(text or words, page, label) if page else text or words


def address_of(config: Mapping[str, Any]) -> str:
    """Where the book is published: its `baseurl`, or the pages of its repository on GitHub; empty while neither is set."""
    repository = re.fullmatch(r"https://github\.com/([^/]+)/([^/]+?)/?", config.get("repository", {}).get("url") or "")
    pages = "https://{}.github.io/{}".format(*repository.groups()) if repository else ""
    return (config.get("html", {}).get("baseurl") or pages).rstrip("/")


def read_book(project: Path) -> Book:
    """The pages of the book in a project: those in `book/`, and the chapters, by their sources."""
    texts = {f"book/{path.stem}": path.read_text(encoding="utf-8") for path in sorted(project.glob("book/*.md"))}
    labels: dict[str, tuple[str, str]] = {}
    for path in sorted(project.glob("notebooks/*.ipynb")):
        page, cells = f"book/chapters/{path.stem}", nbformat.read(path, as_version=4).cells
        texts[page] = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        for figure in (cell.metadata.get("mystnb", {}).get("figure") for cell in cells):
            if figure:
                title = figure["caption"].partition(". ")[0].rstrip(".")
                labels[figure["name"]] = page, f"the figure “{title}”"
    for page, text in texts.items():
        labels |= {label: (page, words or label) for label, words in TARGET.findall(text)}
        for equation, label in EQUATION.findall(text):
            tag = re.search(r"\\tag\{(.+?)\}", equation)
            labels[label] = page, f"({tag[1]})" if tag else "the equation"
    titles = {page: heading[1] for page, text in texts.items() if (heading := HEADING.search(text))}
    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    return Book(address_of(config), titles, labels, _works(project / "book" / "references.bib"))


def _works(file: Path) -> dict[str, str]:
    """Author and year of every work of a bibliography."""
    from pybtex.database import parse_file

    said = {}
    for key, entry in parse_file(str(file)).entries.items() if file.is_file() else ():
        names = [" ".join(person.last_names) for person in entry.persons.get("author", [])] or [key]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        said[key] = f"{who} ({entry.fields.get('year', 'n.d.')})"
    return said


@dataclass(frozen=True)
class Writer:
    """Rewrites the text of a page of a book; `numbers` are those that its run has named."""

    book: Book
    numbers: Mapping[str, str] = field(default_factory=dict)

    def write(self, text: str) -> str:
        """The text in plain Markdown."""
        text = EQUATION.sub(r"$$\1$$", re.sub(r"^\([\w:-]+\)=\n+", "", text, flags=re.MULTILINE))
        return "\n".join(self._blocks(iter(text.splitlines()))).strip("\n")

    def _blocks(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            fence = FENCE.fullmatch(line)
            if not fence:
                yield INLINE.sub(self._inline, line)
                continue
            body, end = [], re.compile(rf"\s*{fence['mark'][0]}{{{len(fence['mark'])},}}\s*")
            for inner in lines:
                if end.fullmatch(inner):
                    break
                body.append(inner)
            yield from self._box(fence, body) if fence["name"] else [line, *body, fence["indent"] + fence["mark"]]

    def _box(self, fence: re.Match[str], body: list[str]) -> Iterator[str]:
        """A directive as lines of Markdown."""
        name, title, indent = fence["name"].strip(), fence["title"].strip(), fence["indent"]
        options = {}
        while body and (option := re.fullmatch(r"\s*:([\w-]+):\s*(.*)", body[0])):
            options[option[1]] = option[2]
            body = body[1:]
        if name in ("solution-start", "solution-end"):  # what is between them, a student notebook folds
            return
        if name == "solution":  # its argument is the label of the exercise
            title = "Solution"
        elif name not in UNNAMED:
            title = name.capitalize() + (f": {title}" if title else "")
        title = INLINE.sub(self._inline, title)
        # Terms and their definitions, which Jupyter does not know, as a list
        text = re.sub(r"^(\S.*)\n: +", r"- **\1:** ", "\n".join(body), flags=re.MULTILINE)
        content = "\n".join(self._blocks(iter(text.split("\n")))).strip("\n").split("\n")
        if name in ("dropdown", "solution") or "dropdown" in options.get("class", ""):
            plain = html.escape(re.sub(r"[*`]", "", title), quote=False)
            yield from [f"{indent}<details><summary><b>{plain}</b></summary>", "", *content, "", f"{indent}</details>"]
        else:
            head = [f'{indent}<div class="alert alert-info">', "", f"{indent}**{title}**"]
            yield from [*head, "", *content, "", f"{indent}</div>"]

    def _inline(self, match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        return self._role(match["role"], match["content"]) if match["role"] else self._link(match)

    def _role(self, role: str, content: str) -> str:
        if role == "glue:text":
            return self._number(content)
        if role.startswith("cite"):
            cited = [self.book.works.get(key.strip(), key.strip()) for key in content.split(",")]
            said = ", ".join(self.book.link(work, "book/references") for work in cited)
            return said if role == "cite:t" else f"({said})"
        text, _, label = content.rstrip(">").rpartition("<")
        return self.book.labelled(label.strip(), text.strip())

    def _number(self, content: str) -> str:
        """A number as the page shows it, or an ellipsis where the chapter has not run."""
        from myst_nb.core.variables import format_plain_text

        name, _, layout = content.partition(":")
        return format_plain_text(self.numbers[name], layout or "s") if name in self.numbers else "…"

    def _link(self, match: re.Match[str]) -> str:
        """A link to a page or a label of the book as one to its address; others as they are."""
        text, (target, _, anchor) = match["text"], match["target"].partition("#")
        if not target and anchor:
            return self.book.labelled(anchor, text)
        name = re.fullmatch(r"(?:\.\./|\./)*((?:chapters/)?[\w-]+)\.(md|ipynb)", target)
        if not name:
            return match[0]
        stem = name[1].rpartition("/")[2]
        page = f"book/chapters/{stem}" if name[2] == "ipynb" else f"book/{stem}"
        return self.book.link(text or self.book.titles.get(page, stem), page, anchor)
