"""JSON lines, as they are read everywhere."""

import json
from collections.abc import Iterable, Iterator
from typing import Any


def check_whole(text: str, what: str) -> None:
    """``ValueError`` if a text has half of a surrogate pair, which no tokenizer takes; ``what`` names the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} has half of a surrogate pair, which is no character") from None


def json_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Objects of JSON lines with the numbers of their lines, from 1; an error stands in for a line that is none.

    Blank lines are passed over, and so is a byte order mark.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                yield number, record if isinstance(record, dict) else ValueError("not a JSON object")
            except (ValueError, RecursionError) as error:
                yield number, ValueError(f"not JSON: {error}")
