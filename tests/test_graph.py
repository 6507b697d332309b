"""Which cells a job takes, and which stamps no longer hold."""

from graphlib import TopologicalSorter

import pytest

from vitstudy import data, files, graph, job, methods, profiles, study
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


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("every_tier", [False, True])
def test_what_a_job_starts_from_is_made_by_jobs_before_it(profile, every_tier):
    jobs = graph.jobs(profile, every_tier=every_tier)
    made = {cell for cells in jobs.values() for cell in cells}
    assert all(set(cell.parents()) <= made for cell in made)


def test_cell_jobs_wait_for_the_jobs_of_their_parents():
    jobs = graph.jobs("smoke", "cell")
    assert all(len(cells) == 1 for cells in jobs.values())
    assert graph.before(jobs, "digits-dynamic-seed0") == ["digits-vanilla-seed0"]
    assert graph.before(jobs, "digits-vanilla-seed0") == []


def test_jobs_of_every_tier_hold_what_the_profile_leaves_out():
    every = {cell for cells in graph.jobs("digits", every_tier=True).values() for cell in cells}
    assert every == set(study.cells("digits", left_out=True)) > set(study.cells("digits"))


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


@pytest.mark.parametrize(
    ("failed", "taken"),
    [
        ("notebook-a", {"notebook-a", "site"}),
        ("survey", {"survey", "notebook-09_eer_survey", "site"}),
        ("speed", {"speed", "notebook-a", "notebook-09_eer_survey", "site"}),
        (CELLS[0], {CELLS[0], "speed", "notebook-a", "notebook-09_eer_survey", "site"}),
        ("site", {"site"}),
    ],
)
def test_what_failed_is_tried_again_with_what_follows_from_it_and_nothing_else(
    stamped, failed, taken
):
    for name in ("survey", "notebook-09_eer_survey"):
        (stamped / name).touch()
    graph.executed("smoke", "09_eer_survey").touch()
    files.write(job.folder("smoke") / failed, "ValueError: no\n")
    graph.clear_stale("smoke", graph.jobs("smoke"), ["a", "09_eer_survey"])
    there = {*CELLS, "survey", "speed", "notebook-a", "notebook-09_eer_survey", "site"}
    assert {path.name for path in stamped.iterdir()} == there - taken
    assert job.failures("smoke") == {}


def test_missing_names_failed_cells_and_jobs_with_the_reason_and_what_has_no_record(
    stamped, monkeypatch
):
    monkeypatch.setattr(data, "dataset_hash", lambda name: "d" * 64)
    cells = graph.jobs("smoke")
    name, first = next((name, each[0]) for name, each in cells.items() if len(each) > 1)
    study.fail(first, "loss is nan")
    files.write(job.folder("smoke") / f"cells-{name}", "killed by SIGKILL\n")
    files.write(job.folder("smoke") / "notebook-03_qat", "cell 5: ValueError: b\n")
    found = graph.missing("smoke")
    assert found[str(first)] == "loss is nan"
    assert found["notebook 03_qat"] == "cell 5: ValueError: b"
    assert found[f"cells {name}"].startswith("killed by SIGKILL; without a record: smoke/")
    assert str(first) not in found[f"cells {name}"]
    assert str(cells[name][1]) in found[f"cells {name}"]


def test_whole_is_only_what_has_every_product(stamped):
    cells = study.cells("smoke")
    assert graph.unmade("smoke", cells, ["a"]) == ["records"]
    assert graph.unmade("smoke", [], ["a"]) == []
    (stamped / "site").unlink()
    graph.executed("smoke", "a").unlink()
    (stamped / "speed").unlink()
    assert graph.unmade("smoke", cells, ["a"]) == ["records", "speeds", "notebooks", "site"]
    files.write(job.folder("smoke") / "notebook-a", "no\n")
    assert "notebooks" not in graph.unmade("smoke", cells, ["a"])


@pytest.mark.parametrize("group", graph.GROUPS)
def test_what_much_waits_for_goes_first_and_the_longer_set_before_the_shorter(group):
    jobs = graph.jobs("digits", group)
    found = graph.priorities("digits", jobs)
    for name in jobs:
        for other in graph.before(jobs, name):
            assert found[other] > found[name] > 0
        longer = name.replace("digits-", "digit-pairs-", 1)
        assert longer == name or longer not in jobs or found[longer] > found[name]


def test_a_short_data_set_is_one_job_unless_every_cell_is_one():
    jobs = graph.jobs("digits")
    assert [name for name in jobs if name.startswith("digits")] == ["digits-all-seed0"]
    assert graph.before(jobs, "digits-all-seed0") == []
    assert all(len(cells) == 1 for cells in graph.jobs("digits", "cell").values())
