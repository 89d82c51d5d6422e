"""The paper's claims, read from ``claims.yaml``, and the book's page about them, which the module prints if it is run."""

from dataclasses import dataclass, fields
from pathlib import Path

import yaml

_HEAD = """\
# The claims

What the paper says, in its own words and to the end of the sentence, and how it is judged: the effect that is
measured, what would count against the claim, whether it *can* fail and *can* hold where we look, and the sentence that
turns the effect and its 95% interval into a word. What cannot fail, or cannot hold, counts for nothing. A word in square
brackets stands for a symbol or is ours. The rules are code (`clear_lib/study/evidence/rules.py`); when they were written,
and what was changed since, is under [](errata.md). The verdicts are in [](chapters/16_verdict.ipynb).
"""


@dataclass(frozen=True)
class Claim:
    """A claim: the paper's words and where they stand, how it is judged, and the chapter of the book that measures it."""

    id: str
    title: str
    quote: str
    where: str
    effect: str
    against: str
    possible: str
    word: str
    chapter: str


def load(path: Path) -> tuple[Claim, ...]:
    """Read claims from a YAML file; ValueError if an id repeats or a field is missing, empty or unknown."""
    names = [field.name for field in fields(Claim)]
    claims: dict[str, Claim] = {}
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        if set(entry) != set(names) or not all(isinstance(text, str) and text.strip() for text in entry.values()):
            raise ValueError(f"{path.name}, claim {number}: needs the fields {', '.join(names)}, and a text for each")
        if entry["id"] in claims:
            raise ValueError(f"{path.name}, claim {number}: the id {entry['id']} is taken")
        claims[entry["id"]] = Claim(**entry)
    return tuple(claims.values())


CLAIMS = load(Path(__file__).with_name("claims.yaml"))


def markdown() -> str:
    """The page of the book that lists the claims (MyST Markdown)."""
    sections = (
        f"({claim.id})=\n## {claim.id}: {claim.title}\n\n> {claim.quote}\n>\n> — {claim.where}\n\n"
        f"- **Measured:** {claim.effect} ([](chapters/{claim.chapter}.ipynb)).\n"
        f"- **Against it:** {claim.against}.\n"
        f"- **Can it fail, can it hold?** {claim.possible}\n"
        f"- **The word:** {claim.word}\n"
        for claim in CLAIMS
    )
    return "\n".join([_HEAD, *sections])


if __name__ == "__main__":
    print(markdown(), end="")
