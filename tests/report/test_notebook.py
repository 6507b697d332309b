import numpy as np
import pytest

from vitstudy import profiles
from vitstudy.errors import UserError
from vitstudy.report import baseline, figures, notebook
from vitstudy.study import Cell

DIGITS = profiles.get("digits")


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    found = []
    monkeypatch.setattr(notebook, "display", lambda value, **_: found.append(value))
    return found


def test_begin_returns_the_profile_and_refuses_an_unknown_one():
    assert notebook.begin("smoke").name == "smoke"
    with pytest.raises(UserError, match="unknown profile 'smok'; valid: smoke, digits"):
        notebook.begin("smok")


def test_an_injected_parameter_that_the_notebook_has_is_taken():
    cells = ["", 'profile = "digits"', '# Parameters\nprofile = "smoke"\n', "notebook.begin()"]
    notebook.check_parameters(cells)
    notebook.check_parameters(["", 'profile = "digits"', "notebook.begin()"])


def test_an_injected_parameter_that_the_notebook_lacks_is_an_error_that_names_the_valid_ones():
    cells = ["", 'profile = "digits"\nbits: int = 4', '# Parameters\nprofle = "smoke"\n']
    with pytest.raises(UserError, match="unknown parameter 'profle'; valid: profile, bits"):
        notebook.check_parameters(cells)


def test_parameters_injected_into_a_notebook_without_any_are_an_error():
    with pytest.raises(UserError, match="valid: none"):
        notebook.check_parameters(["", '# Parameters\nprofile = "smoke"'])


def draw(bits):
    levels = {"a": np.arange(bits)}
    return figures.levels(np.arange(9.0), levels, f"{bits} bits")


class Shell:
    """A kernel's shell that was sent a cell with `metadata`."""

    def __init__(self, metadata):
        self.metadata = metadata

    def get_parent(self):
        return {"header": {"msg_type": "execute_request"}, "metadata": self.metadata}


@pytest.mark.parametrize("shell", [None, Shell({})])
def test_knobs_are_a_plain_figure_where_nobody_can_turn_them(shown, monkeypatch, shell):
    monkeypatch.setattr(notebook, "get_ipython", lambda: shell)
    notebook.knobs(draw, "levels", bits=(2, 8, 4))
    assert [set(each) for each in shown] == [{"image/png", "text/plain"}]


def test_knobs_are_widgets_in_a_front_end_and_redraw_what_they_change(shown, monkeypatch):
    import ipywidgets

    drawn = []
    monkeypatch.setattr(notebook, "get_ipython", lambda: Shell({"cellId": "levels"}))

    def draw_both(bits, share):
        drawn.append((bits, share))
        return draw(bits)

    notebook.knobs(draw_both, "levels", bits=(2, 8, 4), share=(0.5, 1.0, 0.9, 0.1))
    box = next(each for each in shown if isinstance(each, ipywidgets.VBox))
    whole, real = box.children[:2]
    assert (whole.min, whole.max, whole.value) == (2, 8, 4)
    assert (real.min, real.max, real.value, real.step) == (0.5, 1.0, 0.9, 0.1)
    whole.value = 5
    assert drawn == [(4, 0.9), (5, 0.9)]


def test_a_shown_figure_is_saved_and_says_in_words_what_it_shows(home, shown):
    notebook.show(draw(3), DIGITS, "levels", "three levels")
    assert (home / "figures/digits/levels.svg").exists()
    assert shown[0]["text/plain"] == "three levels"


def test_a_table_is_html_that_the_site_can_sort(shown):
    notebook.table(baseline.splits("digits"))
    assert 'class="dataframe"' in shown[0]["text/html"]
    assert "Digit pairs" in shown[0]["text/plain"]


def test_notebooks_say_what_to_run_where_nothing_was_measured(home):
    with pytest.raises(UserError, match="python -m vitstudy run"):
        baseline.measured("digits")


def test_the_tables_of_notebook_00_come_from_records_alone(add, add_predictions):
    given = {"steps": 30, "images_seen": 2_298, "training_seconds": 2.0, "cpu": "a CPU"}
    add("digits", "digits", "vanilla", accuracy=0.75, test_images=4, **given)
    add("digits", "digits", "dynamic", flips=2, flips_to_wrong=1, flips_to_right=0)
    (cell,) = baseline.measured("digits")
    assert cell == Cell("digits", "digits", "vanilla", 0)
    add_predictions(cell, labels=[1, 2, 3, 8], classes=[1, 2, 3, 1])
    assert baseline.confused(cell).to_dict("records") == [
        {"label": "8", "predicted": "1", "times": 1}
    ]
    confidence, correct = baseline.outcomes(cell)
    assert confidence == pytest.approx(0.8, abs=1e-3) and correct.sum() == 3
    assert baseline.training("digits").at[0, "epochs"] == 2.0
    assert baseline.flips("digits").at[0, "flips"] == 2
    assert baseline.mean_accuracy("digits", "digits") == 75
    assert list(baseline.splits("digits")["hash"]) == ["d" * 12, "not measured"]


def test_images_that_are_not_here_are_not_fetched(home, monkeypatch):
    cell = Cell("cifar", "cifar10", "vanilla", 0)
    monkeypatch.delenv("VITSTUDY_DATA", raising=False)
    assert baseline.images(cell) is None
    monkeypatch.setenv("VITSTUDY_DATA", "nowhere")
    assert baseline.images(cell) is None
