"""The list of claims and its page in the book."""

from pathlib import Path

from clear_lib.study.evidence import claims

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_list_says():
    page = ROOT / "book" / "claims.md"
    assert page.read_text(encoding="utf-8") == claims.markdown(), (
        "run: python -m clear_lib.study.evidence.claims > book/claims.md"
    )


def test_names_count_up_and_chapters_exist():
    assert [claim.name for claim in claims.CLAIMS] == [f"C{i + 1}" for i in range(len(claims.CLAIMS))]
    for chapter in {claim.chapter for claim in claims.CLAIMS} - {None}:
        assert (ROOT / "notebooks" / f"{chapter}.ipynb").is_file()
