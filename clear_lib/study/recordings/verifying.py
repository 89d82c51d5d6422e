"""Verification of a recording: some of its questions are decoded again, in other batches, and compared."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from clear_lib.engines import Engine
from clear_lib.rollouts.grading import Grader
from clear_lib.rollouts.shipped import FOLDER, manifest
from clear_lib.study.recordings import recording
from clear_lib.study.recordings.packing import up_to_first_gap, with_texts, write
from clear_lib.study.setup.profiles import Profile


class Verified(NamedTuple):
    """Recorded questions that were decoded again, beside their recording.

    ``equal`` counts completions that are the same to the last token, ``lengths`` those of the same length;
    ``apart`` is the mean absolute difference of the lengths (tokens), ``shift`` the mean difference; ``verdicts``
    counts changed verdicts, ``gained`` those from wrong to correct less those back; ``replayed`` is the share of
    changed cells of "solved within b tokens", over budgets b of the profile's fractions.
    """

    questions: int
    batch_size: int
    seed: int
    equal: int
    lengths: int
    apart: float
    shift: float
    verdicts: int
    gained: int
    replayed: float

    def __str__(self) -> str:
        return (
            f"{self.questions} questions decoded again, {self.batch_size} at a time (seed {self.seed}): "
            f"{self.equal} completions equal to the last token, {self.lengths} of the same length; lengths differ by "
            f"{self.apart:.1f} tokens on average (mean shift {self.shift:+.1f}); {self.verdicts} verdicts changed "
            f"({self.gained:+d} correct); solved within a budget: {self.replayed:.1%} of the cells changed"
        )


def verify(profile: Profile, engine: Engine, n: int = 50, seed: int = 0, folder: Path = FOLDER) -> Verified:
    """Decode a random ``n`` of the shipped evaluation questions again and compare.

    Needs the texts of the questions, see :func:`.recording.questions_of`.
    """
    rows = up_to_first_gap(with_texts(profile, "evaluation", folder))
    rows = rows.sample(n=min(n, len(rows)), random_state=seed)
    completions = engine.generate(list(rows["prompt"]), list(rows["cap"]), progress="decoding again")
    with Grader() as grader:
        again = recording.graded(recording.with_completions(rows, completions), grader)
    apart = again["length"] - rows["length"]
    right, was_right = again["verdict"] == "correct", rows["verdict"] == "correct"
    budgets = np.array(profile.scarcities)[:, None] * rows["length"].mean()
    solved = right.to_numpy() & (again["length"].to_numpy() <= budgets)
    was_solved = was_right.to_numpy() & (rows["length"].to_numpy() <= budgets)
    return Verified(
        questions=len(rows),
        batch_size=profile.batch_size,
        seed=seed,
        equal=int(((apart == 0) & (again["completion"] == rows["completion"])).sum()),
        lengths=int((apart == 0).sum()),
        apart=float(apart.abs().mean()),
        shift=float(apart.mean()),
        verdicts=int((right != was_right).sum()),
        gained=int(right.sum() - was_right.sum()),
        replayed=float((solved != was_solved).mean()),
    )


def write_verified(profile: Profile, verified: Verified, folder: Path = FOLDER) -> None:
    """Write a verification into the manifest, in place of one with the same seed and batch size."""
    listed, key = manifest(folder), (verified.seed, verified.batch_size)
    about = listed["profiles"][profile.name]
    others = [each for each in about.get("verified", []) if (each["seed"], each["batch_size"]) != key]
    about["verified"] = [*others, verified._asdict()]
    write({}, listed, folder)
