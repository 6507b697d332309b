"""`reproduce`, from outside: everything once, nothing twice, and what a user may have wrong."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from vitstudy import graph, study
from vitstudy.record import TIMES


def start(environment, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "vitstudy", "reproduce", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def reproduce(environment, *arguments):
    process = start(environment, *arguments)
    _, errors = process.communicate()
    return process.returncode, errors


def records(home) -> dict[str, dict]:
    found = {}
    for path in sorted((home / "results" / "smoke" / "records").glob("*/*/*.json")):
        record = json.loads(path.read_text())
        found[str(path.relative_to(home))] = {
            name: value for name, value in record.items() if name not in TIMES
        }
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A home in which the smoke study was made whole, what it printed, and its environment."""
    home = tmp_path_factory.mktemp("whole")
    environment = {**os.environ, "VITSTUDY_HOME": str(home)}
    code, printed = reproduce(environment, "smoke")
    assert code == 0, printed
    return home, printed, environment


def test_everything_is_made_and_the_end_says_where_it_is(whole):
    home, printed, _ = whole
    lines = printed.splitlines()
    for kind, place in (
        ("records", "results/smoke/records.csv"),
        ("tables", "results/smoke/tables"),
        ("figures", "figures/smoke"),
        ("site", "site/index.html"),
    ):
        assert (home / place).exists()
        assert any(kind in line and place in line for line in lines[-4:])
    assert {path.name for path in (home / "results/smoke/tables").iterdir()} >= {
        "table1.csv",
        "table1.md",
        "table2.csv",
        "table2.md",
    }
    assert list((home / "figures/smoke").glob("*.svg"))
    assert list((home / "figures/smoke").glob("*.png"))
    assert all(line.startswith("vitstudy: ") for line in lines)


def test_progress_says_what_runs_and_what_remains(whole):
    _, printed, _ = whole
    for cells in graph.jobs("smoke").values():
        assert f"[1/{len(cells)}] {cells[0]}" in printed
    assert "2 of " in printed and "jobs done" in printed


def test_site_has_every_notebook_and_no_address_to_fetch_scripts_from(whole):
    home, _, _ = whole
    page = (home / "site/index.html").read_text()
    for name in ("00_baselines", "01_quantization_basics", "08_tables"):
        assert f"notebooks/{name}.html" in page
    assert 'src="http' not in page
    assert "table" in page and "smoke/digits/vanilla" in (home / "site/run.html").read_text()


def test_second_run_computes_nothing(whole):
    home, _, environment = whole
    folders = [home / "results" / "smoke", home / "artifacts" / "smoke"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    code, printed = reproduce(environment, "smoke")
    assert code == 0, printed
    assert "[1/" not in printed and "notebook" not in printed
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_damaged_files_are_found_said_and_made_again(whole):
    home, _, environment = whole
    before = records(home)
    artifact = home / "artifacts/smoke/digits/vanilla/seed0/model.safetensors"
    artifact.write_bytes(artifact.read_bytes()[:1000])
    record = home / "results/smoke/records/digit-pairs/dynamic/seed0.json"
    record.write_text('{"schema')
    code, printed = reproduce(environment, "smoke")
    assert code == 0, printed
    assert "smoke/digits/vanilla/seed0 is computed again: its artifact is damaged" in printed
    assert "smoke/digit-pairs/dynamic/seed0 is computed again: its record is damaged" in printed
    assert "notebook 08_tables" in printed
    assert records(home) == before


def test_shown_from_records_without_artifacts_nothing_is_computed(whole, tmp_path):
    home, _, environment = whole
    subprocess.run(["cp", "-a", str(home / "results"), str(tmp_path)], check=True)
    code, printed = reproduce(
        {**environment, "VITSTUDY_HOME": str(tmp_path)}, "smoke", "--from-records"
    )
    assert code == 0, printed
    assert records(tmp_path) == records(home)
    assert not (tmp_path / "artifacts" / "smoke").exists()
    assert (tmp_path / "site/index.html").exists()


def test_killed_at_any_moment_it_finishes_with_the_same_records(whole, tmp_path):
    home, _, environment = whole
    environment = {**environment, "VITSTUDY_HOME": str(tmp_path)}
    for wait in (random.Random(1).uniform(3, 6), random.Random(2).uniform(6, 12)):
        process = start(environment, "smoke", start_new_session=True)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, printed = reproduce(environment, "smoke")
    assert code == 0, printed
    assert records(tmp_path) == records(home)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smok"], "unknown profile 'smok'; valid: smoke, digits"),
        (["smoke", "--bogus"], "unrecognized arguments: --bogus"),
        (["cifar", "--from-records"], "no records of cifar"),
        (["smoke", "--config", "group=row"], "unknown group 'row'; valid: family, cell"),
    ],
)
def test_what_a_user_has_wrong_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    code, printed = reproduce({**os.environ, "VITSTUDY_HOME": str(tmp_path)}, *arguments)
    assert code == 2
    assert len(printed.splitlines()) == 1
    assert printed.startswith("error: ") and message in printed
    assert not (tmp_path / "results").exists()


def test_data_that_are_not_there_are_said_before_anything_runs(tmp_path):
    environment = {**os.environ, "VITSTUDY_HOME": str(tmp_path)}
    code, printed = reproduce({**environment, "VITSTUDY_DATA": "nowhere"}, "cifar-cpu")
    assert code == 2
    assert printed.startswith("error: VITSTUDY_DATA=nowhere is no folder")
    assert len(printed.splitlines()) == 1


def test_config_of_the_user_is_added_and_a_dry_run_shows_every_cell_as_a_job(tmp_path):
    environment = {**os.environ, "VITSTUDY_HOME": str(tmp_path)}
    process = start(environment, "smoke", "--config", "group=cell", "--dry-run")
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert "cells-digit-pairs-dynamic-seed0" in printed
    assert ["cells", str(len(study.cells("smoke")))] in [
        line.split() for line in printed.splitlines()
    ]
    assert not (tmp_path / "results").exists()
