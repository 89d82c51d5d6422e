"""Makes the book: all that is out of date, and nothing else. ``make book`` calls it, and so can who has no ``make``.

Every file that is made is a :class:`Step`, which knows the files that it is made of and is due when one of them is newer.
All paths are relative to the project, in whose folder this runs.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from clear_lib.study.pages import student, teaching

#: What a chapter reads and leaves besides the library, by its number. A chapter that stands nowhere reads nothing.
READ_ROLLOUTS = ("02", "06")
READ_LABORATORY = ("02", "07", "26", "90")
READ_FORECASTS = ("05", "07", "08", "09", "10", "11", "12", "13", "21", "25")
READ_RESULTS = ("16", "22", "25")
READ_PROGRAMS = ("02", "20")
LEAVE_FORECASTS = ("06",)
LEAVE_RESULTS = ("02", "07", "08", "09", "10", "12", "15", "20", "26", "92")
#: Chapters that leave what is judged of every recorded model, and the one that judges.
LEAVE_JUDGED, JUDGES = ("02", "07", "08", "09", "10", "20"), "16"
#: Chapters that take times: they run when nothing else does.
TAKE_TIMES = ("24", "92")

#: Most chapters at a time: each may take 2 GB of memory.
MOST_JOBS = 4

PROFILES = Path("clear_lib/study/setup/profiles")
PAGES = Path("_build/html/index.html")

#: Runs Python with arguments, in the folder of the project.
Python = Callable[..., None]


@dataclass(frozen=True)
class Step:
    """A file, those that it is made of, and how."""

    made: Path
    of: Sequence[Path]
    how: Callable[[Python], None]
    alone: bool = False  #: with no other step beside it

    def is_due(self) -> bool:
        """Whether the file is missing, or older than one that it is made of."""
        return not self.made.exists() or any(path.stat().st_mtime_ns > self.made.stat().st_mtime_ns for path in self.of)


def command(made: Path, of: Sequence[Path], *arguments: str, alone: bool = False) -> Step:
    """A step that is a call of Python."""

    def how(python: Python) -> None:
        python(*arguments)
        made.touch()

    return Step(made, of, how, alone)


@dataclass(frozen=True)
class Making:
    """The files that the book of a profile is made of; `rollouts` are logs to import, with the options of the import."""

    profile: str
    rollouts: Sequence[str] = ()
    options: str = ""

    @property
    def folder(self) -> Path:
        return Path("artifacts", self.profile)

    @property
    def settings(self) -> Path:
        """The file of the profile: one that is made with rollouts if they are shipped, imported or simulated."""
        made = self.shipped or self.profile == "imported" or self.profile.startswith("replica-")
        return self.folder / "profile.yaml" if made else _profile(self.profile)

    @property
    def recorded(self) -> Path:
        """What says when the recording was last complete: recording again keeps every rollout that it finds."""
        comes_with_rollouts = self.settings.parent == self.folder
        return self.settings if comes_with_rollouts else self.folder / "rollouts" / "recorded"

    @property
    def laboratory(self) -> "Making":
        """The laboratory model, on which runs what is decoded while the pages are made."""
        return Making("smoke" if self.profile == "smoke" else "tiny")

    @property
    def shown(self) -> Path:
        """Lies in the pages of this profile, so that another never finds them up to date."""
        return PAGES.with_name(f".profile-{self.profile}")

    @property
    def library(self) -> list[Path]:
        """The files of the library but for the profiles."""
        files = sorted(path for path in Path("clear_lib").rglob("*.*") if path.is_file() and path.suffix != ".pyc")
        return [path for path in files if path.parent != PROFILES or path.suffix != ".yaml"]

    @property
    def shipped(self) -> list[Path]:
        """Rollouts of the profile that come with the project."""
        return sorted(Path("recordings", self.profile).glob("*.parquet"))

    @property
    def beside(self) -> list["Making"]:
        """The other recorded models: their results stand beside those of a recorded one, and are made for that."""
        others = [Making(path.stem) for path in sorted(PROFILES.glob("*.yaml")) if path.stem != self.profile]
        return [each for each in others if self.shipped and each.shipped]

    def chapter(self, notebook: Path) -> Path:
        """Where a notebook goes when it has run."""
        return self.folder / "chapters" / notebook.name

    def chapters(self, numbers: Iterable[str] = ("",)) -> list[Path]:
        """The chapters with these numbers, or all."""
        notebooks = sorted(Path("notebooks").glob("*.ipynb"))
        return [self.chapter(each) for each in notebooks if each.name.startswith(tuple(numbers))]

    def steps(self) -> list[Step]:
        steps = [step for making in (self, *self.beside) for step in making._to_chapters()]
        prose = (path for path in sorted(Path("book").rglob("*")) if path.is_file() and "chapters" not in path.parts)
        read = [Path("_config.yml"), Path("_toc.yml"), *(path for path in prose if path.suffix not in (".py", ".pyc"))]
        return [*steps, Step(self.shown, [*self.chapters(), *read], self._pages)]

    def _to_chapters(self) -> list[Step]:
        notebooks = sorted(Path("notebooks").glob("*.ipynb"))
        return [self._rollouts(), self.laboratory._rollouts(), *map(self._run, notebooks)]

    def _run(self, notebook: Path) -> Step:
        """A chapter: the notebook, run."""
        number, made = notebook.name[:2], self.chapter(notebook)
        read = [notebook, Path("book/run.py"), *self.library, self.settings]
        read += [self.recorded] * (number in READ_ROLLOUTS) + [self.laboratory.recorded] * (number in READ_LABORATORY)
        read += self.chapters(LEAVE_FORECASTS) * (number in READ_FORECASTS)
        read += self.chapters(LEAVE_RESULTS) * (number in READ_RESULTS)
        read += [path for other in self.beside for path in other.chapters(LEAVE_JUDGED)] * (number == JUDGES)
        read += [*Path("recordings", "code").rglob("*.parquet")] * (number in READ_PROGRAMS)
        run = ("book/run.py", notebook.as_posix(), made.as_posix(), "--profile", self.profile)
        return command(made, read, *run, alone=number in TAKE_TIMES)

    def _rollouts(self) -> Step:
        """The rollouts: simulated, shipped, imported or recorded."""
        study, given = ("-m", "clear_lib.study"), _profile(self.profile)
        if self.profile.startswith("replica-"):
            return command(self.recorded, [*self.library, _profile("tiny")], *study, "replicate", self.profile)
        if self.shipped:
            of = [*self.library, *self.shipped, Path("recordings/manifest.json"), given]
            return command(self.recorded, of, *study, "unpack", "--profile", self.profile)
        if self.profile == "imported":
            if not self.rollouts and not self.recorded.is_file():
                how = "make book PROFILE=imported ROLLOUTS=path/to/logs IMPORT='--model name'"
                raise ValueError(f"nothing is imported yet: {how}")
            asked = ("import", "--force", *self.rollouts, *shlex.split(self.options))
            return command(self.recorded, self._asked(), *study, *asked)
        if given.is_file():
            return command(self.recorded, [*self.library, given], *study, "record", "--profile", self.profile)
        known = " ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
        raise ValueError(f"there is no profile `{self.profile}`; {PROFILES.as_posix()}/ has: {known}")

    def _asked(self) -> list[Path]:
        """The logs to import and a file that says what was asked; without logs, what was imported last is used."""
        if not self.rollouts:
            return []
        asked, text = self.folder / "asked", f"{shlex.join(self.rollouts)} {self.options}\n"
        if not asked.is_file() or asked.read_text(encoding="utf-8") != text:
            asked.parent.mkdir(parents=True, exist_ok=True)
            asked.write_text(text, encoding="utf-8")
        logs = [path for name in self.rollouts for path in (Path(name), *Path(name).rglob("*")) if path.is_file()]
        return [asked, *logs]

    def _pages(self, python: Python) -> None:
        """Built aside and moved into place: a build that fails leaves the pages of the last good one."""
        copies, new = Path("book/chapters"), Path("_build/new")
        shutil.rmtree(copies, ignore_errors=True)
        copies.mkdir(parents=True)
        for chapter in self.chapters():
            shutil.copy2(chapter, copies)
        teaching.write_times(self.chapters(), copies / "run_times.md")
        print("building the pages …", flush=True)
        jupyter_book = "-m jupyter book build . --all -W --keep-going --quiet --path-output".split()
        python(*jupyter_book, new.as_posix(), quiet=True)
        built = new / "_build" / "html"
        student.write(Path(), self.profile, built / student.SOURCES)
        teaching.write(Path(), self.profile, built)
        (built / ".nojekyll").touch()  # GitHub would leave out folders that begin with an underscore
        shutil.rmtree(PAGES.parent, ignore_errors=True)
        shutil.move(built, PAGES.parent)
        shutil.rmtree(new)
        self.shown.touch()


def paths_of(texts: Iterable[str]) -> list[str]:
    """Paths as they are, and as a shell splits it a text that is none: `make` has one variable for several paths."""
    return [path for text in texts for path in ([text] if Path(text).exists() else shlex.split(text))]


def _profile(name: str) -> Path:
    return PROFILES / f"{name}.yaml"


def make(goals: Iterable[Path], steps: Iterable[Step], python: Python, jobs: int = 1) -> None:
    """Take the steps to some files that are due, so many at a time, each after those that it needs."""
    by_file, sorter, left = {step.made: step for step in steps}, TopologicalSorter(), list(goals)
    for path in left:  # grows on the way
        if path in by_file:
            sorter.add(path, *by_file[path].of)
            left += [each for each in by_file[path].of if each in by_file and each not in left]
    sorter.prepare()
    running: dict[Future[None], Path] = {}
    later: list[Path] = []
    with ThreadPoolExecutor(jobs) as pool:
        while sorter.is_active():
            for path in sorter.get_ready():
                if not (path in by_file and by_file[path].is_due()):
                    sorter.done(path)
                elif by_file[path].alone:
                    later.append(path)
                else:
                    running[pool.submit(by_file[path].how, python)] = path
            if later and not running:
                path = later.pop(0)
                running[pool.submit(by_file[path].how, python)] = path
            for ended in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                if ended.exception():
                    pool.shutdown(cancel_futures=True)
                    raise ended.exception()
                sorter.done(running.pop(ended))


def python_of(jobs: int) -> Python:
    """Runs Python as the book needs it: with the library of this folder, and threads that sleep while they wait."""
    path = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH")]))
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | ({"OMP_NUM_THREADS": "1"} if jobs > 1 else {})
    environment |= os.environ | {"PYTHONPATH": path, "PYTHONUTF8": "1"}

    def python(*arguments: str, quiet: bool = False) -> None:
        output = subprocess.DEVNULL if quiet else None
        if subprocess.run([sys.executable, *arguments], env=environment, stdout=output).returncode:
            raise ValueError(f"the book is not made: this failed, see above: python {shlex.join(arguments)}")

    return python


def book(making: Making, what: Sequence[str] = (), jobs: int | None = None, python: Python | None = None) -> None:
    """Make the pages; or only the `rollouts`, or some chapters by number or name, and what they read."""
    goals = [] if what else [making.shown]
    for name in what:
        found = [making.recorded, making.laboratory.recorded] if name == "rollouts" else making.chapters([name])
        if not found:
            raise ValueError(
                f"there is no chapter {name!r}; notebooks/ has: {', '.join(p.stem for p in making.chapters())}"
            )
        goals += found
    if not Path("notebooks").is_dir():
        raise ValueError("there is no folder `notebooks` here: go into the folder of the project first")
    jobs = jobs or min(os.cpu_count() or 1, MOST_JOBS)
    make(goals, making.steps(), python or python_of(jobs), jobs)
