"""The list of claims and its page in the book."""

from pathlib import Path

import pytest
import yaml

from clear_lib.study.evidence import claims

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_the_list_says():
    page = ROOT / "book" / "claims.md"
    assert page.read_text(encoding="utf-8") == claims.markdown(), (
        "run: python -m clear_lib.study.evidence.claims > book/claims.md"
    )


def test_ids_count_up_and_chapters_exist():
    assert [claim.id for claim in claims.CLAIMS] == [f"C{i + 1}" for i in range(len(claims.CLAIMS))]
    for chapter in {claim.chapter for claim in claims.CLAIMS}:
        assert (ROOT / "notebooks" / f"{chapter}.ipynb").is_file()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"quote": " "}, "claim 2: needs the fields"), ({"where": None}, "claim 2: needs"), ({"id": "C1"}, "C1 is taken")],
)
def test_a_faulty_list_is_refused(tmp_path, change, message):
    entry = vars(claims.CLAIMS[0])
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entry, entry | {"id": "C2"} | change]))
    with pytest.raises(ValueError, match=message):
        claims.load(path)
