"""Run one notebook of the book through Papermill: ``python book/run.py SOURCE TARGET --profile tiny``.

The executed notebook is moved into place only when every cell has run, so a failure leaves the result of the
last good run; it exits with status 1 and says which notebook, which cell and what error.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError


def run(source, target, profile):
    """Execute `source` in its own folder with the parameter `profile` and write the result to `target`.

    Parameters
    ----------
    source, target : Path
        The notebook without outputs, and where the executed one goes (its folder is made).
    profile : str
        Name of a profile. A notebook whose own default it is runs exactly as written, with no cell added.

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
    executed = papermill.execute_notebook(
        source,
        None,
        parameters={} if by_default else {"profile": profile},
        kernel_name="python3",
        cwd=source.parent,
        progress_bar={"leave": False},
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no warning of every kernel about its local socket
    )
    executed.metadata.pop("papermill", None)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished")
    nbformat.write(executed, unfinished)
    unfinished.replace(target)


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
