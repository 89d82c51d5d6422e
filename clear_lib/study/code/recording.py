"""Recording what a model writes for programming tasks, and grading it in the sandbox, which is a step of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from clear_lib import engines
from clear_lib.study.code import sandbox, tasks
from clear_lib.study.recordings import recording
from clear_lib.study.setup.profiles import Profile

#: The prompt, what the chat template says first instead of what it says to a mathematician, and the paper's protocol:
#: samples of a task, their temperature, and the cap of each. The last three are open; these are ours.
PROMPT = Path(__file__).with_name("prompt.txt").read_text(encoding="utf-8").strip()
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SAMPLES, TEMPERATURE, CAP = 8, 0.8, 1024


class Kind(NamedTuple):
    """A kind of rollouts of code: the set of tasks, and whether it is sampled."""

    dataset: str
    sampled: bool

    @property
    def about(self) -> str:
        """What is recorded, in words."""
        return f"{f'{SAMPLES} samples' if self.sampled else 'one greedy rollout'} of every task of {self.dataset}"


KINDS = {
    "humaneval": Kind("HumanEval", False),
    "mbpp": Kind("MBPP+", False),
    "humaneval-samples": Kind("HumanEval", True),
    "mbpp-samples": Kind("MBPP+", True),
}

_SYSTEM_MESSAGE = re.compile(r"(?<=<\|im_start\|>system\n).*?(?=<\|im_end\|>)", re.DOTALL)
_FENCE = re.compile(r"```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)


def recorded(profile: Profile, artifacts: str | Path) -> list[str]:
    """Kinds of which anything is recorded."""
    return [kind for kind in KINDS if recording.store(profile, kind, artifacts).shards()]


@cache
def tasks_of(kind: str, folder: str | None = None) -> dict[str, tasks.Task]:
    """The tasks of a kind by their identities, with all tests at hand; ``folder`` as in ``$CLEAR_BENCHMARKS``."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of rollouts {kind!r}; known: {', '.join(KINDS)}")
    dataset = KINDS[kind].dataset
    found = tasks.with_plus(folder) if dataset == "HumanEval" else tasks.load(dataset, folder)
    return {task.task_id: task for task in found}


def prompt_of(profile: Profile, task: tasks.Task) -> str:
    """The prompt of a task in the chat template of a profile."""
    chat = _SYSTEM_MESSAGE.sub(SYSTEM, profile.chat)
    return chat.replace("{prompt}", PROMPT.replace("{task}", task.prompt.strip()))


def requests(profile: Profile, kind: str) -> pd.DataFrame:
    """The rollouts of a kind before they are generated, in a random order; a task's text is its question."""
    known = tasks_of(kind, os.environ.get("CLEAR_BENCHMARKS"))
    sampled = KINDS[kind].sampled
    rows = [(name, task.prompt, prompt_of(profile, task)) for name, task in known.items()]
    table = pd.DataFrame(rows, columns=["question_id", "question", "prompt"])
    table = table.assign(dataset=KINDS[kind].dataset, tier="code", split="evaluation", gold="tests", rung="free")
    table = recording.in_random_order(table, profile.seed)
    table = table.merge(pd.DataFrame({"sample": range(SAMPLES if sampled else 1)}), "cross")
    return table.assign(
        seed=profile.seed + (np.arange(len(table)) if sampled else 0),
        temperature=TEMPERATURE if sampled else 0.0,
        cap=CAP,
        model=profile.model,
        revision=recording.revision(profile),
        dtype=profile.dtype,
    )


def record(
    profile: Profile,
    kinds: Sequence[tuple[str, float]],
    artifacts: str | Path,
    engine: Callable[[], engines.Engine] | None = None,
    requests: Callable[[Profile, str], pd.DataFrame] = requests,
) -> int:
    """Generate the rollouts that are missing, ungraded, and return how many; they are written every two minutes."""
    return recording.record(profile, kinds, artifacts, engine, requests=requests, finish=with_programs)


def with_programs(rows: pd.DataFrame) -> pd.DataFrame:
    """Completed rows with the code in each as its answer; they are not graded yet."""
    answers = list(map(extract_code, rows["completion"]))
    return rows.assign(answer=pd.Series(answers, index=rows.index, dtype="string"), verdict="unknown")


def extract_code(completion: str) -> str | None:
    """The code of a completion, which may be cut off: its first block that defines a function, else its first block."""
    blocks = [
        text for language, text in _FENCE.findall(completion) if language.lower() in ("", "python", "py", "python3")
    ]
    return next((text for text in blocks if re.search(r"^\s*def ", text, re.MULTILINE)), next(iter(blocks), None))


def program(task: tasks.Task, code: str | None) -> str:
    """What is run: the prompt's imports and helpers, then the model's function, which replaces the prompt's empty one."""
    return f"{task.prompt}\n{code or ''}\n"


def grades_file(profile: Profile, kind: str, artifacts: str | Path) -> Path:
    """File with the grades of a kind."""
    return profile.artifacts(artifacts) / "rollouts" / f"{kind}.grades.parquet"


def grade(profile: Profile, kind: str, artifacts: str | Path) -> pd.DataFrame:
    """Run every recorded program that was not run yet in the sandbox, equal ones once; all grades of the kind.

    ``base`` and ``plus`` are ``"correct"``, ``"wrong"``, or ``"none"`` where there are no such tests.
    """
    sandbox.check()
    known = tasks_of(kind, os.environ.get("CLEAR_BENCHMARKS"))
    rows = recording.store(profile, kind, artifacts).read(["question_id", "sample", "answer"])
    jobs = {each: tasks.job(known[each]) for each in rows["question_id"].unique()}
    rows["code"] = [program(known[each], code) for each, code in zip(rows["question_id"], rows["answer"], strict=True)]
    rows["program"] = [_hash(jobs[each], code) for each, code in zip(rows["question_id"], rows["code"], strict=True)]
    file = grades_file(profile, kind, artifacts)
    names = ["program", "base", "plus", "reason"]
    ran = pd.read_parquet(file)[names].drop_duplicates("program") if file.is_file() else pd.DataFrame(columns=names)
    missing = rows[~rows["program"].isin(ran["program"])].drop_duplicates("program")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(missing) + 1, 64):
            part = missing.iloc[start : start + 64]
            verdicts = list(pool.map(sandbox.run_tests, part["code"], part["question_id"].map(jobs)))
            ran = pd.concat([ran, part[["program"]].assign(**_columns(verdicts))], ignore_index=True)
            grades = rows[["question_id", "sample", "program"]].merge(ran, on="program")
            grades.to_parquet(file.with_suffix(".writing"), index=False)
            file.with_suffix(".writing").replace(file)
    return pd.read_parquet(file)


def _hash(job: Mapping[str, Any], code: str) -> str:
    """What identifies a program and the tests that it was run with."""
    return hashlib.sha256(f"{json.dumps(job, sort_keys=True)}{code}".encode()).hexdigest()[:16]


def _columns(verdicts: Sequence[sandbox.Verdict]) -> dict[str, list[str]]:
    named = {True: "correct", False: "wrong", None: "none"}
    columns = {part: [named[each.passed.get(part)] for each in verdicts] for part in ("base", "plus")}
    return columns | {"reason": [each.reason for each in verdicts]}


def load(profile: Profile, kind: str, artifacts: str | Path) -> pd.DataFrame:
    """The recorded rollouts of a kind that are graded, with their grades, in the order in which they ended."""
    rows = recording.store(profile, kind, artifacts).read()
    file = grades_file(profile, kind, artifacts)
    if rows.empty or not file.is_file():
        raise ValueError(
            f"profile {profile.name!r} has no graded rollouts of {kind}; record them (python -m clear_lib.study record "
            f"--only {kind}) and grade them (python -m clear_lib.study grade)"
        )
    return rows.merge(pd.read_parquet(file), on=["question_id", "sample"], validate="one_to_one")
