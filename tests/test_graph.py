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


def test_clear_stale_removes_only_the_stamps_that_no_longer_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(tmp_path))
    folder = graph.stamps("smoke")
    folder.mkdir(parents=True)
    names = ["cells-digits-seed0", "cells-digit-pairs-seed0", "speed", "site"]
    for name in names:
        (folder / name).touch()
    (tmp_path / "results" / "smoke" / "speed.json").write_text("{}")
    (tmp_path / "site").mkdir()
    graph.site_profile().write_text("digits\n")
    jobs = graph.jobs("smoke")
    monkeypatch.setattr(study, "why_not", lambda cell: cell.dataset == "digits" or None)
    graph.clear_stale("smoke", jobs)
    assert {path.name for path in folder.iterdir()} == {"cells-digit-pairs-seed0", "speed"}
