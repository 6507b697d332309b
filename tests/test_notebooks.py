"""The committed notebooks: their form, a run of each on `smoke`, and that the gate bites."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from commands import invoke, one_line

from vitstudy import files, graph, methods, notebooks
from vitstudy.errors import NotebookFailed, UserError

NAMES = notebooks.names()
MUST_FAIL = Path(__file__).parent / "notebooks" / "must_fail.ipynb"


def read(name: str):
    return nbformat.read(notebooks.path(name), as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(11)]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_small_valid_and_has_no_widget_state(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebooks.path(name).stat().st_size < 2_000_000
    assert "widgets" not in notebook.metadata
    assert "papermill" not in notebook.metadata


@pytest.mark.parametrize("name", NAMES)
def test_notebook_was_executed_in_order_and_without_stderr(name):
    cells = code_cells(read(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [each for each in outputs if each.output_type == "error"]
    assert not [each for each in outputs if each.get("name") == "stderr"]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_has_one_parameters_cell_short_cells_and_prose_at_both_ends(name):
    notebook = read(name)
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert 'profile = "digits"' in tagged[0].source
    assert notebook.cells[0].cell_type == "markdown"
    assert max(len(cell.source.splitlines()) for cell in code_cells(notebook)) <= 16
    assert any("NBVAL_CHECK_OUTPUT" in cell.source for cell in code_cells(notebook))


@pytest.fixture(scope="session")
def study_home(smoke_home, tmp_path_factory) -> Path:
    """A copy of the smoke study: notebooks write tables and figures."""
    return shutil.copytree(smoke_home, tmp_path_factory.mktemp("notebooks"), dirs_exist_ok=True)


@pytest.fixture(scope="session")
def executed(study_home, tmp_path_factory) -> dict[str, Path]:
    """Every notebook, executed on the smoke profile from another folder, by the command line."""
    folder = tmp_path_factory.mktemp("executed")
    for name in NAMES:
        command = [sys.executable, "-m", "vitstudy", "notebook", name, "smoke"]
        done = subprocess.run(
            [*command, "-o", str(folder / f"{name}.ipynb")],
            cwd=folder,
            env={**os.environ, "VITSTUDY_HOME": str(study_home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return {name: folder / f"{name}.ipynb" for name in NAMES}


def test_notebooks_pass_nbval_as_executed_on_smoke(executed, study_home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(study_home))
    assert notebooks.check(list(executed.values())) == 0


def test_nbval_fails_a_notebook_whose_stored_output_is_false():
    assert notebooks.check([MUST_FAIL]) == 1


def test_executed_notebook_leaves_the_committed_one_alone(executed):
    for name, path in executed.items():
        assert path != notebooks.path(name)
        assert "smoke" in path.read_text()
        assert 'profile = \\"smoke\\"' not in notebooks.path(name).read_text()


def test_parameter_that_the_notebook_does_not_have_is_one_line_and_exit_code_2(study_home):
    command = [sys.executable, "-m", "vitstudy", "notebook", "00_baselines", "smoke"]
    done = subprocess.run(
        [*command, "-p", "profil", "digits"],
        env={**os.environ, "VITSTUDY_HOME": str(study_home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown parameter of 00_baselines 'profil'; valid: ")
    assert len(done.stderr.splitlines()) == 1


def test_unknown_notebook_names_the_valid_ones():
    with pytest.raises(UserError, match="08_tables"):
        notebooks.path("07_nothing")


def test_failing_cell_is_one_line_with_the_cell_and_its_error(tmp_path, monkeypatch):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell('profile = "digits"', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("1 / 0"),
    ]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    monkeypatch.setattr(notebooks, "folder", lambda: tmp_path)
    (tmp_path / "bad.ipynb").write_text(nbformat.writes(notebook))
    with pytest.raises(NotebookFailed, match="ZeroDivisionError"):
        notebooks.execute("bad", "smoke", tmp_path / "out" / "bad.ipynb")


def test_reference_values_are_of_notebooks_that_exist():
    reference = json.loads((files.REPOSITORY / "notebooks" / "reference.json").read_text())
    assert set(reference) <= set(NAMES)


def test_a_notebook_without_records_is_left_out_or_refused_in_one_line(home):
    done = invoke("notebook", "03_qat", "smoke")
    assert "has nothing to show of smoke: no record of lsq-w4" in one_line(done)
    stale = graph.executed("smoke", "03_qat")
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    done = invoke("notebook", "03_qat", "smoke", "--if-measured")
    assert done.code == 0 and "03_qat is left out: no record of lsq-w4" in done.err
    assert not stale.exists()
    assert "03_qat" not in notebooks.shown("smoke") and "08_tables" in notebooks.shown("smoke")


def test_every_need_of_a_notebook_is_a_method_and_its_records_are_enough(smoke):
    for name in NAMES:
        for key in notebooks.needs(name):
            assert methods.get(key).key == key
    assert notebooks.shown("smoke") == NAMES
