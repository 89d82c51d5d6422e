"""The part file of a run: every answer as it came, so that a run that breaks off loses and repeats nothing.

Its first line says what the run is of; every other is a :class:`~clear_lib.serving.steppers.Piece`. Serving is
deterministic, so a run goes on by being served again with the recorded pieces in place of the engine.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from clear_lib.allocation.forecasts import Forecasts
from clear_lib.engines import Completion
from clear_lib.serving.steppers import Piece

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not noticed there
    fcntl = None


class Journal:
    """A part file, ``<target>.part``, beside the file that a run will write; ``description`` says what the run is of.

    ``recorded`` is what a former run has brought, by round and query, and ``forecasts`` those that it was planned with,
    if there was one. ``ValueError`` if the file cannot be written, is in use, is damaged, belongs to another run, or
    holds answers without ``resume``.
    """

    def __init__(self, target: str | Path, description: Mapping[str, Any], forecasts: Forecasts, resume: bool):
        self.path, self.forecasts = Path(f"{target}.part"), forecasts
        self.recorded: dict[tuple[int, int], Piece] = {}
        if resume and not self.path.exists() and Path(target).exists():
            raise ValueError(f"{target} is there and whole: nothing is left to go on with; to answer anew, delete it")
        if Path(target).is_dir():
            raise ValueError(f"{target} is a folder: name a file in it")
        try:
            self.file = self.path.open("a+b")
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from None
        try:
            self._lock()
            self._begin(json.loads(json.dumps(dict(description), default=float)), resume)
        except BaseException:
            self.file.close()
            raise

    def _lock(self) -> None:
        try:
            if fcntl:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.path} is in use: another run writes into it") from None
        except OSError:  # a file system without locks
            pass

    def _begin(self, description: dict[str, Any], resume: bool) -> None:
        """Read what is there, and write the first line if nothing is."""
        self.file.seek(0)
        data = self.file.read()
        lines = data[: data.rfind(b"\n") + 1].splitlines()  # a line without its end was being written
        if len(lines) > 1 and not resume:
            raise ValueError(
                f"{self.path} holds {len(lines) - 1:,} answers of a run that broke off: go on with them (--resume, in "
                f"Python resume=True), or delete it"
            )
        if len(lines) < 2:
            self.file.truncate(0)
            arrays = {name: values.tolist() for name, values in vars(self.forecasts).items() if values is not None}
            return self._write(description | {"forecasts": arrays})
        self.file.truncate(sum(map(len, lines)) + len(lines))
        for number, line in enumerate(lines, 1):
            try:
                row = dict(json.loads(line))
                if number > 1:
                    self._recall(row)
            except (KeyError, TypeError, ValueError):
                raise ValueError(f"{self.path}, line {number}: damaged") from None
            if number == 1:
                self._compare(description, row)

    def _compare(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        """``ValueError`` if the part file is of another run; takes over its forecasts."""
        arrays = theirs.pop("forecasts", None)
        for name in dict.fromkeys([*ours, *theirs]):
            if ours.get(name) != theirs.get(name):
                what = f": {theirs.get(name)!r:.60} there, {ours.get(name)!r:.60} now" if name != "questions" else ""
                raise ValueError(f"{self.path} is of a run with another {name}{what}; it cannot go on")
        planned = Forecasts(**arrays)
        for name, one in vars(planned).items():
            other = getattr(self.forecasts, name)
            if (one is None) != (other is None) or (one is not None and not np.allclose(one, other, rtol=1e-3)):
                raise ValueError(f"{self.path} is of a run with other forecasts ({name}); it cannot go on")
        self.forecasts = planned

    def _recall(self, row: dict[str, Any]) -> None:
        """Take over a recorded piece; ``ValueError`` if it is there twice."""
        place, tokens = (int(row.pop("round")), int(row.pop("query"))), row.pop("tokens")
        if place in self.recorded:
            raise ValueError(place)
        granted, completion = int(row.pop("granted")), Completion(tokens=tokens and tuple(tokens), **row)
        self.recorded[place] = Piece(*place, granted, completion)

    def append(self, piece: Piece) -> None:
        """Write a piece to the disk; ``ValueError`` if that is full."""
        row = piece._asdict()
        self._write(row | vars(row.pop("completion")))

    def _write(self, row: dict[str, Any]) -> None:
        try:
            self.file.write(json.dumps(row, default=int).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise ValueError(f"{self.path}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        kept = self.path.read_bytes().count(b"\n") - 1 if kind else 0
        if not kept:
            self.path.unlink(missing_ok=True)
        else:
            note = f"{kept:,} answers are kept in {self.path}: go on with --resume, in Python resume=True"
            if isinstance(error, (KeyboardInterrupt, ValueError)):
                error.args = ("; ".join(filter(None, (str(error), note))),)
            else:
                error.add_note(note)
        with suppress(OSError):  # what could not be written to a full disk before cannot be written now
            self.file.close()
