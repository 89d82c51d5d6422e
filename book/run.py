"""Run one notebook of the book through Papermill: ``python book/run.py SOURCE TARGET --profile tiny``.

The executed notebook is moved into place only when every cell has run, so a failure leaves the result of the
last good run; it exits with status 1 and says which notebook, which cell and what error.

A profile that was imported has a file of its own, `profile.yaml` beside its chapters, and no model. Cells tagged
`needs-model` are then left out, and a notebook whose metadata says `"needs": "model"` (or `"samples"`, `"lessons"`)
becomes a page that says so.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import yaml
from papermill.exceptions import PapermillExecutionError


#: What a notebook may need, and what it is called where it is missing.
NEEDS = {
    "model": "the model itself",
    "samples": "several solutions of each question",
    "lessons": "solutions of questions that were set aside for the predictor",
}


def lacking(made):
    """What the profile whose artifacts are in `made` cannot give to a notebook: names of NEEDS."""
    own = made / "profile.yaml"
    if not own.is_file() or yaml.safe_load(own.read_text(encoding="utf-8"))["engine"] != "none":
        return set()
    return set(NEEDS) - ({"samples"} if (made / "rollouts" / "sampled").is_dir() else set())


def adapted(notebook, missing):
    """The notebook without what needs something that is missing."""
    need = notebook.metadata.get("needs")
    if need in missing:
        title = notebook.cells[0].source.splitlines()[0]
        note = f"This chapter needs {NEEDS[need]}, which an import does not have. It is in the book of the default profile."
        parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        notebook.cells = [nbformat.v4.new_markdown_cell(f"{title}\n\n{note}", id="left-out"), *parameters]
        parameters[0].metadata["tags"] = ["parameters", "remove-cell"]
    elif "model" in missing:
        notebook.cells = [cell for cell in notebook.cells if "needs-model" not in cell.metadata.get("tags", [])]
    return notebook


def run(source, target, profile):
    """Execute `source` in its own folder with the parameter `profile` and write the result to `target`.

    Parameters
    ----------
    source, target : Path
        The notebook without outputs, and where the executed one goes (its folder is made).
    profile : str
        Name of a profile. A notebook whose own default it is runs exactly as written, with no cell added. One that
        was made stands in `profile.yaml` beside its chapters and is given as that file.

    Raises
    ------
    ValueError
        If the notebook has no parameter `profile`.
    papermill.exceptions.PapermillExecutionError
        If a cell raised; `target` is then untouched.
    """
    declared = papermill.inspect_notebook(source)
    if "profile" not in declared:
        raise ValueError(f"{source} has no cell tagged `parameters` that sets `profile`; every chapter needs one")
    by_default = declared["profile"]["default"].strip("\"'") == profile
    made = target.resolve().parent.parent
    own = os.path.relpath(made / "profile.yaml", source.resolve().parent)
    given = own if (made / "profile.yaml").is_file() else profile
    if missing := lacking(made):
        with tempfile.NamedTemporaryFile("w", suffix=".ipynb", encoding="utf-8") as file:
            nbformat.write(adapted(nbformat.read(source, as_version=4), missing), file)
            file.flush()
            executed = execute(Path(file.name), source.parent, {"profile": given})
    else:
        executed = execute(source, source.parent, {} if by_default else {"profile": given})
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    nbformat.write(executed, unfinished)
    unfinished.replace(target)


def execute(source, folder, parameters):
    """The notebook, executed in a folder."""
    executed = papermill.execute_notebook(
        source,
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
    parser.add_argument("--profile", default="tiny")
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
