"""`reproduce`, from outside: everything once, nothing twice, and what a user may have wrong."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from vitstudy import data, files, graph, job, notebooks, study, workflow
from vitstudy.errors import UserError
from vitstudy.record import TIMES
from vitstudy.study import computing


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
            name: value for name, value in record.items() if name not in (*TIMES, "commit")
        }
    return found


HARMED = ("digits/vanilla", "digits/lsq-w4", "digit-pairs/lsq-w4", "digit-pairs/dynamic")
"""The cells of `whole` that are made again: a damaged artifact, absent files, a damaged record."""


def forget(home, *cells) -> None:
    """Take away what a home has of cells."""
    for cell in cells:
        for folder in home.glob(f"*/smoke/**/{cell}"):
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def whole(smoke_home, tmp_path_factory):
    """A home in which `smoke` was made whole, what it printed, and its environment.

    It began with the records of a study of which a few are harmed: computing all of them anew
    takes minutes, and shows no more.
    """
    home = shutil.copytree(smoke_home, tmp_path_factory.mktemp("whole"), dirs_exist_ok=True)
    artifact = home / "artifacts/smoke/digits/vanilla/seed0/model.safetensors"
    artifact.write_bytes(artifact.read_bytes()[:1000])
    forget(home, "digits/lsq-w4", "digit-pairs/lsq-w4")
    record = home / "results/smoke/records/digit-pairs/dynamic/seed0.json"
    record.write_text('{"schema', encoding="utf-8")
    environment = {**os.environ, "VITSTUDY_HOME": str(home)}
    code, printed = reproduce(environment, "smoke")
    assert code == 0, printed
    return home, printed, environment


def test_everything_is_made_and_the_end_says_where_it_is(whole):
    home, printed, _ = whole
    lines = printed.splitlines()
    for kind, place in (
        ("records", "results/smoke/records.csv"),
        ("tables", "results/smoke/tables/table1.md"),
        ("figures", "figures/smoke"),
        ("site", "site/index.html"),
    ):
        assert (home / place).exists()
        assert any(kind in line and place in line for line in lines[-7:])
    assert any("next" in line and "jupyter" in line for line in lines[-2:])
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
        for cell in cells:
            made = f"{cell.dataset}/{cell.method}" in HARMED
            assert (f"] {cell}" in printed) == made
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
    assert "[1/" not in printed and "vitstudy: notebook " not in printed
    assert "jobs done" not in printed
    assert {path: path.stat().st_mtime_ns for path in files} == before


def test_damaged_files_are_found_said_and_made_again(whole, smoke_home):
    home, printed, _ = whole
    assert "smoke/digits/vanilla/seed0 is computed again: its artifact is damaged" in printed
    assert "smoke/digit-pairs/dynamic/seed0 is computed again: its record is damaged" in printed
    assert "notebook 08_tables" in printed
    assert records(home) == records(smoke_home)


def test_shown_from_records_without_artifacts_nothing_is_computed(whole, tmp_path):
    home, _, environment = whole
    shutil.copytree(home / "results", tmp_path / "results")
    kept = ("vanilla", "dynamic")
    for folder in tmp_path.glob("results/smoke/*/*/*/"):
        if folder.name not in kept:
            shutil.rmtree(folder)
    environment = {**environment, "VITSTUDY_HOME": str(tmp_path)}
    code, printed = reproduce(environment, "smoke", "--from-records")
    assert code == 0, printed
    found = {path: each for path, each in records(home).items() if path.split("/")[4] in kept}
    assert records(tmp_path) == found and len(found) == 4
    assert not (tmp_path / "artifacts" / "smoke").exists()
    assert (tmp_path / "site/index.html").exists()
    pages = {path.stem for path in (tmp_path / "site/notebooks").glob("*.html")}
    assert "00_baselines" in pages and "03_qat" not in pages  # which shows LSQ


def test_killed_at_any_moment_it_finishes_with_the_same_records(smoke, smoke_home):
    forget(smoke, *HARMED, "digits/fq-vit", "digits/continued", "digit-pairs/vanilla")
    environment = {**os.environ, "VITSTUDY_HOME": str(smoke)}
    for wait in (random.Random(1).uniform(3, 6), random.Random(2).uniform(6, 12)):
        process = start(environment, "smoke", start_new_session=True)
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, printed = reproduce(environment, "smoke", "--until", "cells")
    assert code == 0, printed
    assert records(smoke) == records(smoke_home)
    assert not list(smoke.rglob("*.partial"))


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


# In this process, with what Snakemake would do in its place.


@pytest.fixture
def ended(home, monkeypatch, caplog):
    """Let Snakemake end well having done what is given; the exit code and the lines."""
    caplog.set_level("INFO", logger="vitstudy")
    monkeypatch.setattr(data, "dataset_hash", lambda name: "d" * 64)

    def end(*arguments, does=lambda: None, **options):
        caplog.clear()
        monkeypatch.setattr(workflow, "_snakemake", lambda *_: does() or 0)
        code = workflow.reproduce(*arguments, **options)
        return code, [record.getMessage() for record in caplog.records]

    return end


def make_whole():
    """What a whole run of `smoke` leaves, as far as the end looks at it."""
    for cell in study.cells("smoke"):
        record = computing._blank(cell, {}, "done")
        record.accuracy, record.accuracy_low, record.accuracy_high = 0.5, 0.4, 0.6
        record.accuracy_interval, record.test_images = "wilson", 128
        record.per_class_accuracy, record.calibration_error = [0.5], 0.1
        record.size_bytes, record.size_mib = 104_858, 0.1
        record.parameters = record.macs = record.steps = record.images_seen = 1
        record.weight_bits = record.activation_bits = 32
        record.simulated, record.layers_touched, record.layers_skipped = False, [], []
        record.training_seconds = record.seconds = 1.0
        record.artifact_sha256 = record.predictions_sha256 = "a" * 64
        if cell.method != "vanilla":
            record.flips = record.flips_to_wrong = record.flips_to_right = 0
        files.write_json(cell.record_path, record.to_json())
    names = notebooks.shown("smoke")
    for name in ("speed", "site", *(f"notebook-{name}" for name in names)):
        files.write(graph.stamps("smoke") / name, "")
    for name in names:
        files.write(graph.executed("smoke", name), "{}")
    files.write(graph.site_profile(), "smoke\n")
    files.write(files.root() / "site" / "index.html", "")
    files.write(files.results("smoke") / "tables" / "table1.md", "")


def test_end_of_nothing_made_names_nothing_and_leaves_no_duration(ended):
    code, lines = ended("smoke", False, ["--touch"])
    assert code == 0
    (line,) = lines
    assert line.startswith("ended after ")
    assert line.endswith("of smoke not made: records, speeds, notebooks, site")
    assert not workflow.duration_path("smoke").exists()


def test_end_of_a_whole_run_from_nothing_is_done_and_only_what_is_there_is_named(ended):
    code, lines = ended("smoke", False, [], does=make_whole)
    assert code == 0
    assert lines[0].startswith("done in")
    assert lines[1:3] == ["tables   results/smoke/tables/table1.md", "site     site/index.html"]
    assert lines[3].startswith("next ")
    duration = workflow.duration_path("smoke")
    assert files.read_json(duration)["seconds"] >= 0
    duration.unlink()
    assert ended("smoke", False, [])[1][0].startswith("done in")
    assert not duration.exists()


def test_what_failed_is_said_last_and_the_exit_code_is_1(ended):
    first = study.cells("smoke")[0]

    def fail():
        make_whole()
        study.fail(first, "loss is nan")
        files.write(job.folder("smoke") / "notebook-03_qat", "cell 5: ValueError: b\n")

    code, lines = ended("smoke", False, [], does=fail)
    assert code == 1
    assert lines[-3:] == [
        f"failed: {first}: loss is nan",
        "failed: notebook 03_qat: cell 5: ValueError: b",
        "2 failed; all else is made, and the next run tries them again",
    ]
    assert not workflow.duration_path("smoke").exists()


def test_number_outside_its_band_is_a_line_and_no_failure(ended):
    entry = {"name": "SQNR of x", "value": -0.57, "low": 2.9, "high": 13.0, "made_on": ["a CPU"]}
    folder = files.results("smoke") / "outside"
    files.write_json(folder / "02_ptq_fqvit.json", [entry, {"name": "half an entry"}])
    files.write(folder / "03_qat.json", "[{")
    make_whole()
    code, lines = ended("smoke", False, [])
    assert code == 0
    (said,) = [line for line in lines if "outside" in line]
    assert "02_ptq_fqvit: SQNR of x is -0.57, its band 2.9 to 13 (made on a CPU)" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cores", "0"], "--cores 0: valid are whole numbers of at least 1, and all"),
        (["--cores=0"], "--cores 0: valid"),
        (["-c0"], "--cores 0: valid"),
        (["--cores", "-1"], "--cores -1: valid"),
        (["--cores", "x"], "--cores x: valid"),
        (["-j", "0"], "--jobs 0: valid"),
        (["--max-threads", "0"], "--max-threads 0: valid"),
        (["--cores"], "expected one argument"),
        (["--until", "nope"], "unknown rule 'nope'; valid: all, cells, speed, survey"),
        (["-O", "site", "nope"], "unknown rule 'nope'"),
    ],
)
def test_option_that_waits_for_ever_or_is_passed_over_in_silence_is_one_line(
    home, options, message
):
    with pytest.raises(UserError, match=message):
        workflow.reproduce("smoke", False, options)


@pytest.mark.parametrize(
    ("options", "looks"),
    [
        (["-n"], True),
        (["-np"], True),
        (["--dry-run"], True),
        (["--summary", "--cores", "2"], True),
        (["--forceall", "--cores", "all"], False),
        (["--until", "survey", "-F"], False),
        (["--touch"], False),
        (["results/smoke/stamps/survey"], False),
    ],
)
def test_options_that_only_look_are_told_from_those_that_make(options, looks):
    assert workflow._check(options) is looks


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("No rule to produce cifar (if you use input", "unknown target 'cifar'; valid: all, cells"),
        ("ValueError: Invalid config definition: x", "^Invalid config definition: x; valid: see"),
        ("Error: profile directory given", "^profile directory given; valid: see"),
    ],
)
def test_snakemakes_own_complaint_about_its_options_is_one_line(said, message):
    assert re.search(message, workflow._complaint(["Traceback", "  File", said, ""]))


def test_run_that_is_told_to_end_takes_all_that_it_started_along(tmp_path):
    """SIGTERM reaches this process alone, not Snakemake nor its jobs."""
    mark = tmp_path / "begun"
    inner = f"import time; open({str(mark)!r}, 'w').write('x'); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    code = (
        "import subprocess, sys; from vitstudy import workflow\n"
        f"process = subprocess.Popen([sys.executable, '-c', {outer!r}], stdout=subprocess.PIPE)\n"
        "with workflow._ended_with_this(process): process.stdout.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while not mark.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.terminate()
    process.communicate(timeout=20)  # whatever it started has the pipe, too
    assert process.returncode == 128 + signal.SIGTERM
