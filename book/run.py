"""Run one notebook of the book through Papermill: ``python book/run.py SOURCE TARGET --profile tiny``.

The executed notebook is moved into place only when every cell has run, so a failure leaves the result of the
last good run; it exits with status 1 and says which notebook, which cell and what error.

A profile that was unpacked, imported or simulated has a file of its own, `profile.yaml` beside its chapters, and not all
that a study has. Cells tagged `needs-lessons` (or another of NEEDS) are then left out. A chapter whose cell of parameters
has the tag becomes a page that says so. Pages of imported or simulated rollouts say so at their head.

What must be decoded while the pages are made runs on the laboratory model: a notebook with the parameter `laboratory` gets
the name of its profile, and one whose parameters are tagged `laboratory` is about nothing else.

How a page was made (profile, versions, seed, machine, time) stands in a box at its end, and beside the chapter as JSON.
"""

import argparse
import json
import os
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from clear_lib.study.pages.provenance import as_markdown, provenance
from clear_lib.study.pages.student import glued
from clear_lib.study.setup import profiles

#: What a notebook or a cell may need, and what it is called where it is missing.
NEEDS = {
    "model": "the model itself, or a recording with lessons for a predictor",
    "samples": "several solutions of each question (kept where the log has them)",
    "lessons": "solutions of questions set aside for the predictor (`--hold-out` or `--predictor` of the import)",
    "rungs": "answers to prompts that tell the model how long it may be",
}

#: Profiles of the laboratory model; the first goes with every other profile.
LABORATORY = ("tiny", "smoke")

#: A number in prose, and its name.
GLUED = re.compile(r"\{glue:text\}`([\w-]+)(?::[^`]*)?`")


def lacking(made, settings):
    """What a made profile, whose artifacts are in `made`, cannot give to a notebook: names of NEEDS."""
    kinds = {"samples": "sampled", "lessons": "predictor", "rungs": "rungs"}
    there = {need for need, kind in kinds.items() if (made / "rollouts" / kind).is_dir()}
    return set(NEEDS) - there - ({"model"} if settings.recorded else set())


def adapted(notebook, missing):
    """The notebook without what needs something that is missing."""
    lacks = {
        cell.id: [name for name in NEEDS if name in missing and f"needs-{name}" in cell.metadata.get("tags", [])]
        for cell in notebook.cells
    }
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    if lacks[parameters.id]:
        title = notebook.cells[0].source.splitlines()[0]
        note = f"This chapter needs {NEEDS[lacks[parameters.id][0]]}. This book was made without."
        notebook.cells = [nbformat.v4.new_markdown_cell(f"{title}\n\n{note}", id="left-out")]
    notebook.cells = [cell for cell in notebook.cells if not lacks.get(cell.id)]
    return notebook


def told(notebook, profile):
    """The executed notebook, its text fit for what it ran on: whose rollouts they are, and what was not run."""
    simulated = profile.revision == "simulated"
    kind, source = ("Simulated", "chapters/15_replica.ipynb") if simulated else ("Imported", "your_rollouts.md")
    reads = any(call in cell.source for call in ("recording.load", "read_pool") for cell in notebook.cells)
    if reads and not profile.recorded:
        title = notebook.cells[0]
        head, _, rest = title.source.partition("\n")
        said = f"This page was made of {kind.lower()} rollouts of **{profile.model}** ([](../{source}))."
        box = f":::{{admonition}} {kind} rollouts\n:class: important\n\n{said}\n:::\n"
        title.source = f"{head}\n\n{box}{rest}"
    numbers = glued(notebook.cells)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = GLUED.sub(lambda match: match[0] if match[1] in numbers else "(not run)", cell.source)
    return notebook


def run(source, target, profile):
    """Execute a notebook with a profile, in its own folder; one whose own default it is runs exactly as written."""
    declared = papermill.inspect_notebook(source)
    if "profile" not in declared:
        raise ValueError(f"{source} has no cell tagged `parameters` that sets `profile`; every chapter needs one")
    began, notebook = datetime.now(UTC), nbformat.read(source, as_version=4)
    made = target.resolve().parent.parent
    own = made / "profile.yaml"
    laboratory = profile if profile in LABORATORY else LABORATORY[0]
    if any("laboratory" in cell.metadata.get("tags", []) for cell in notebook.cells):
        name, settings = laboratory, profiles.load(laboratory)
    elif own.is_file():
        name, settings = Path(os.path.relpath(own, source.resolve().parent)).as_posix(), profiles.load(own)
    else:
        name, settings = profile, profiles.load(profile)
    by_default = {name: str(each["default"]).strip("\"'") for name, each in declared.items()}
    given = {"profile": name, "laboratory": laboratory}
    given = {key: value for key, value in given.items() if by_default.get(key, value) != value}
    if settings.engine != "none":
        notebook = execute(notebook, source.parent, given)
    else:
        notebook = adapted(notebook, lacking(made, settings))
        if len(notebook.cells) > 1:
            notebook = told(execute(notebook, source.parent, given), settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    record = provenance(settings) | {
        "command": f"make book PROFILE={profile}",
        "began": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.now(UTC) - began).total_seconds()),
        "results": sorted(
            path.name for path in (made / "results").glob("*") if path.stat().st_mtime >= began.timestamp()
        ),
    }
    target.with_suffix(".json").write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")
    notebook.cells.append(nbformat.v4.new_markdown_cell(as_markdown(record), id="provenance"))
    unfinished = target.with_suffix(".unfinished")
    nbformat.write(notebook, unfinished)
    unfinished.replace(target)


def execute(notebook, folder, parameters):
    executed = papermill.execute_notebook(
        notebook,
        None,
        parameters=parameters,
        kernel_name="python3",
        cwd=folder,
        progress_bar={"leave": False},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no warning of every kernel about its local socket
    )
    executed.metadata.pop("papermill", None)
    return executed


def main(arguments=None):
    """Run the notebook named on the command line, reporting progress; return the exit status."""
    parser = argparse.ArgumentParser(description="Run one notebook of the book.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--profile", default="qwen-1.5b")
    given = parser.parse_args(arguments)

    chapters = sorted(given.source.parent.glob("*.ipynb"))
    name = f"chapter {chapters.index(given.source) + 1} of {len(chapters)}, {given.source.name}"
    print(f"{name} (profile {given.profile}) …", flush=True)
    started = time.monotonic()
    try:
        run(given.source, given.target, given.profile)
    except PapermillExecutionError as error:
        print(f"\n{name} failed in code cell [{error.exec_count}]:\n", file=sys.stderr)
        print("\n".join("    " + line for line in error.source.splitlines()), file=sys.stderr)
        print(str(error), file=sys.stderr)
        print(f"{given.source}: {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    except Exception as error:  # a kernel that died, a notebook that cannot be read
        print(f"\n{name} failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(f"{name} done in {time.monotonic() - started:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
