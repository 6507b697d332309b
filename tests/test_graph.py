"""Which cells a job takes, and which stamps no longer hold."""

import pytest

from vitstudy import graph, study
from vitstudy.errors import UserError


def test_chain_jobs_hold_every_cell_once_by_data_set_and_seed():
    jobs = graph.jobs("cifar")
    cells = [cell for job in jobs.values() for cell in job]
    assert sorted(cells) == sorted(study.cells("cifar"))
    assert set(jobs) == {f"cifar{n}-seed{k}" for n in (10, 100) for k in (0, 1, 2)}
    for name in jobs:
        assert graph.before(jobs, name) == []


def test_cell_jobs_wait_for_the_jobs_of_their_parents():
    jobs = graph.jobs("smoke", "cell")
    assert all(len(cells) == 1 for cells in jobs.values())
    assert graph.before(jobs, "digits-dynamic-seed0") == ["digits-vanilla-seed0"]
    assert graph.before(jobs, "digits-vanilla-seed0") == []


def test_unknown_group_names_the_valid_ones():
    with pytest.raises(UserError, match="chain, cell"):
        graph.jobs("smoke", "row")


TIMED = ("speed.json", "attention_speed.json")


@pytest.fixture
def stamped(tmp_path, monkeypatch):
    """A home in which everything of `smoke` has its stamp, and all cells are up to date."""
    monkeypatch.setenv("VITSTUDY_HOME", str(tmp_path))
    folder = graph.stamps("smoke")
    folder.mkdir(parents=True)
    for name in ("cells-digits-seed0", "cells-digit-pairs-seed0", "speed", "notebook-a", "site"):
        (folder / name).touch()
    for name in TIMED:
        (tmp_path / "results/smoke" / name).write_text("{}")
    graph.executed("smoke", "a").parent.mkdir()
    graph.executed("smoke", "a").touch()
    (tmp_path / "site").mkdir()
    graph.site_profile().write_text("smoke\n")
    monkeypatch.setattr(study, "why_not", lambda cell: None)
    return folder


def left(folder) -> set[str]:
    graph.clear_stale("smoke", graph.jobs("smoke"), ["a"])
    return {path.name for path in folder.iterdir()}


def test_nothing_is_cleared_where_all_is_up_to_date(stamped):
    assert len(left(stamped)) == 5


def test_stale_cell_takes_what_follows_from_it_and_no_other_cell(stamped, monkeypatch):
    monkeypatch.setattr(study, "why_not", lambda cell: cell.dataset == "digits" or None)
    assert left(stamped) == {"cells-digit-pairs-seed0"}


@pytest.mark.parametrize("name", TIMED)
def test_missing_timings_take_notebooks_and_site(stamped, tmp_path, name):
    (tmp_path / "results/smoke" / name).unlink()
    assert left(stamped) == {"cells-digits-seed0", "cells-digit-pairs-seed0"}


def test_missing_executed_notebook_is_run_again_and_the_site_built(stamped):
    graph.executed("smoke", "a").unlink()
    assert left(stamped) == {"cells-digits-seed0", "cells-digit-pairs-seed0", "speed"}


def test_site_of_another_profile_is_built_again(stamped):
    graph.site_profile().write_text("digits\n")
    assert "site" not in left(stamped)
    assert len(left(stamped)) == 4


def test_shown_from_records_cells_and_speed_are_not_asked_for(stamped, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "why_not", lambda cell: "absent")
    (tmp_path / "results/smoke/speed.json").unlink()
    graph.clear_stale("smoke", {}, ["a"])
    assert len(list(stamped.iterdir())) == 5
