"""Every code cell of the executed chapters ran, without error."""

import nbformat
import pytest

pytestmark = pytest.mark.slow


def test_every_code_cell_ran_without_error(project):
    chapters = sorted((project / "artifacts" / "smoke" / "chapters").glob("*.ipynb"))
    assert [path.name for path in chapters] == sorted(path.name for path in (project / "notebooks").glob("*.ipynb"))
    for path in chapters:
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), path.name
        errors = [output.ename for cell in cells for output in cell.outputs if output.output_type == "error"]
        assert errors == [], path.name
        assert any(cell.outputs for cell in cells), f"{path.name} shows nothing"


def test_chapters_ran_with_the_profile_that_was_asked_for(project):
    for path in (project / "artifacts" / "smoke" / "chapters").glob("*.ipynb"):
        injected = [
            cell
            for cell in nbformat.read(path, as_version=4).cells
            if "injected-parameters" in cell.metadata.get("tags", [])
        ]
        assert ['profile = "smoke"' in cell.source for cell in injected] == [True], path.name
