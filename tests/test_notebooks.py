"""The committed notebooks: their form, a run of each on `smoke`, and that the gate bites."""

import json
from pathlib import Path

import nbformat
import pytest
import smoke_study
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
    assert [name[:2] for name in NAMES] == [f"{number:02}" for number in range(12)]


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


def test_every_notebook_runs_on_smoke_and_prints_what_is_true_on_every_profile(smoke, tmp_path):
    """No cell fails, and the marked ones print what is committed, which is of the digits."""
    assert notebooks.check([smoke_study.notebook(name, tmp_path) for name in NAMES]) == 0


def test_nbval_fails_a_notebook_whose_stored_output_is_false():
    assert notebooks.check([MUST_FAIL]) == 1


def test_an_executed_notebook_lies_apart_and_leaves_the_committed_one_alone(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    before = notebooks.path("03_qat").read_bytes()
    done = invoke("notebook", "03_qat", "smoke")
    assert done.code == 0, done.err
    executed = graph.executed("smoke", "03_qat").read_text(encoding="utf-8")
    assert (
        'profile = \\"smoke\\"' in executed and smoke in graph.executed("smoke", "03_qat").parents
    )
    assert notebooks.path("03_qat").read_bytes() == before


def test_parameter_that_the_notebook_does_not_have_is_one_line_and_exit_code_2(in_smoke):
    done = invoke("notebook", "00_baselines", "smoke", "-p", "profil", "digits")
    assert one_line(done).startswith("unknown parameter of 00_baselines 'profil'; valid: ")


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


def test_every_need_of_a_notebook_is_a_method_and_its_records_are_enough(in_smoke):
    for name in NAMES:
        for key in notebooks.needs(name):
            assert methods.get(key).key == key
    assert notebooks.shown("smoke") == NAMES
