"""Which cells a job takes, and which stamps no longer hold."""

from graphlib import TopologicalSorter

import pytest

from vitstudy import graph, methods, profiles, study
from vitstudy.errors import UserError


def test_jobs_hold_every_cell_once_by_data_set_seed_and_family():
    jobs = graph.jobs("cifar")
    cells = [cell for job in jobs.values() for cell in job]
    assert sorted(cells) == sorted(study.cells("cifar"))
    families = {graph.family(method.key) for method in methods.available()}
    assert set(jobs) == {
        f"cifar{n}-{family}-seed{k}" for n in (10, 100) for family in families for k in (0, 1, 2)
    }
    assert graph.family("rounded-w4") == graph.family("lsq-w4") == "quantization-qat"
    assert graph.before(jobs, "cifar10-vanilla-seed0") == []


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("group", graph.GROUPS)
def test_jobs_can_be_done_one_after_the_other(profile, group):
    jobs = graph.jobs(profile, group)
    waits = {name: set(graph.before(jobs, name)) for name in jobs}
    assert set(TopologicalSorter(waits).static_order()) == set(jobs)


def test_cell_jobs_wait_for_the_jobs_of_their_parents():
    jobs = graph.jobs("smoke", "cell")
    assert all(len(cells) == 1 for cells in jobs.values())
    assert graph.before(jobs, "digits-dynamic-seed0") == ["digits-vanilla-seed0"]
    assert graph.before(jobs, "digits-vanilla-seed0") == []


def test_unknown_group_names_the_valid_ones():
    with pytest.raises(UserError, match="family, cell"):
        graph.jobs("smoke", "row")


CELLS = [f"cells-{name}" for name in graph.jobs("smoke")]
TIMED = ("speed.json", "attention_speed.json")


@pytest.fixture
def stamped(tmp_path, monkeypatch):
    """A home in which everything of `smoke` has its stamp, and all cells are up to date."""
    monkeypatch.setenv("VITSTUDY_HOME", str(tmp_path))
    folder = graph.stamps("smoke")
    folder.mkdir(parents=True)
    for name in (*CELLS, "speed", "notebook-a", "site"):
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
    assert left(stamped) == {*CELLS, "speed", "notebook-a", "site"}


def test_stale_cell_takes_what_follows_from_it_and_no_other_cell(stamped, monkeypatch):
    monkeypatch.setattr(study, "why_not", lambda cell: cell.dataset == "digits" or None)
    assert left(stamped) == {name for name in CELLS if "digit-pairs" in name}


@pytest.mark.parametrize("name", TIMED)
def test_missing_timings_take_notebooks_and_site(stamped, tmp_path, name):
    (tmp_path / "results/smoke" / name).unlink()
    assert left(stamped) == set(CELLS)


def test_missing_executed_notebook_is_run_again_and_the_site_built(stamped):
    graph.executed("smoke", "a").unlink()
    assert left(stamped) == {*CELLS, "speed"}


def test_site_of_another_profile_is_built_again(stamped):
    graph.site_profile().write_text("digits\n")
    assert "site" not in left(stamped)
    assert left(stamped) == {*CELLS, "speed", "notebook-a"}


def test_shown_from_records_cells_and_speed_are_not_asked_for(stamped, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "why_not", lambda cell: "absent")
    (tmp_path / "results/smoke/speed.json").unlink()
    graph.clear_stale("smoke", {}, ["a"])
    assert {path.name for path in stamped.iterdir()} == {*CELLS, "speed", "notebook-a", "site"}
