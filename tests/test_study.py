"""Cells: computed once, found again, healed, and the same however often they were killed."""

import contextlib
import csv
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import processes
import pytest
from commands import invoke, one_line

from vitstudy import baseline, data, files, methods, profiles, study, training
from vitstudy.errors import UserError
from vitstudy.record import TIMES, Record
from vitstudy.report import tables
from vitstudy.study import Cell, computing, staleness

VANILLA = Cell("smoke", "digits", "vanilla", 0)
DYNAMIC = Cell("smoke", "digits", "dynamic", 0)
PAIRS = Cell("smoke", "digit-pairs", "vanilla", 0)
PAIRS_DYNAMIC = Cell("smoke", "digit-pairs", "dynamic", 0)
FIRST = (VANILLA, DYNAMIC, PAIRS, PAIRS_DYNAMIC)
"""The cells that these tests are of; the other methods' have theirs beside their methods."""
FIRST_ROWS = ("smoke/*/vanilla", "smoke/*/dynamic")
FIRST_OF_DIGITS = ("smoke/digits/vanilla", "smoke/digits/dynamic")


@pytest.fixture
def first(with_cells):
    """A copy of those cells, to be damaged."""
    return with_cells("vanilla", "dynamic")


def lasting(record: Record) -> dict:
    """What two runs of a cell have in common; the tests may be run while somebody commits."""
    left_out = (*TIMES, "commit")
    return {name: value for name, value in record.to_json().items() if name not in left_out}


def recorded(cell: Cell, home) -> dict:
    path = home / cell.record_path.relative_to(files.root())
    return lasting(Record.from_json(json.loads(path.read_text())))


def written(folder) -> dict:
    """Each file with the time of its last writing."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def partial_files(folder) -> list:
    return [path for path in folder.rglob("*") if ".partial" in path.name]


def test_the_smoke_study_says_what_is_running_and_what_remains(smoke_home):
    lines = (smoke_home / "digit-pairs.txt").read_text().splitlines()
    count = len(study.select(["smoke/digit-pairs"]))
    assert [line for line in lines if f"[1/{count}] smoke/digit-pairs/vanilla/seed0" in line]
    assert any(f"[3/{count}] " in line and line.endswith(" s left") for line in lines)
    assert lines[-1] == f"vitstudy: {count} cells: {count} computed, 0 as they were"


def test_a_second_run_computes_nothing_and_writes_nothing(in_smoke):
    before = written(in_smoke)
    done = invoke("run", "smoke")
    assert done.code == 0
    count = len(study.cells("smoke"))
    said = [line for line in done.err.splitlines() if "not run: " not in line]
    assert said == [f"vitstudy: {count} cells: 0 computed, {count} as they were"]
    assert written(in_smoke) == before


def test_two_fresh_runs_give_the_same_records_but_for_times(with_data, smoke_home):
    assert invoke("run", *FIRST_ROWS).code == 0
    for cell in FIRST:
        record = study.read(cell)
        assert record.status == "done"
        assert lasting(record) == recorded(cell, smoke_home)
        assert record.command == f"python -m vitstudy run {cell}"
    assert partial_files(with_data) == []
    assert not VANILLA.checkpoints.exists()


def test_the_record_says_what_its_files_say(in_smoke):
    for cell in FIRST:
        record, found = study.read(cell), study.predictions(cell)
        assert record.size_bytes == cell.artifact_path.stat().st_size
        assert record.artifact_sha256 == files.sha256(cell.artifact_path)
        assert record.predictions_sha256 == files.sha256(cell.predictions_path)
        assert found["classes"].shape == found["probabilities"].shape == (128, 5)
        assert record.accuracy == (found["classes"][:, 0] == found["labels"]).mean()
        assert (np.diff(found["probabilities"].astype(float)) <= 0).all()
        assert record.accuracy_low <= record.accuracy <= record.accuracy_high
        assert record.threads == 1 and record.seed == 0
        assert record.options["recipe"]["steps"] == 30
    assert study.read(DYNAMIC).parents == {"vanilla": study.read(VANILLA).artifact_sha256}
    assert study.read(VANILLA).analysis_sha256 == files.sha256(VANILLA.analysis_path)
    assert study.read(VANILLA).accuracy_interval == "wilson"
    assert study.read(PAIRS).accuracy_interval == "bootstrap over source images"
    vanilla, quantized = (
        study.predictions(cell)["classes"][:, 0] for cell in (PAIRS, PAIRS_DYNAMIC)
    )
    assert study.read(PAIRS_DYNAMIC).flips == (vanilla != quantized).sum()


def test_a_record_counts_the_training_of_its_own_cell_only(in_smoke):
    assert (study.read(VANILLA).steps, study.read(VANILLA).images_seen) == (30, 480)
    assert (study.read(DYNAMIC).steps, study.read(DYNAMIC).training_seconds) == (0, 0)


# -- hits and misses ------------------------------------------------------------------------------


def truncate(path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("what", "harm", "told"),
    [
        ("artifact_path", truncate, "its artifact is damaged"),
        ("artifact_path", os.unlink, "its artifact is absent"),
        ("record_path", truncate, "its record is damaged"),
        ("record_path", os.unlink, ""),
        ("predictions_path", truncate, "its predictions file is damaged"),
        ("predictions_path", os.unlink, "its predictions file is absent"),
        ("analysis_path", truncate, "its analysis file is damaged"),
        ("analysis_path", os.unlink, "its analysis file is absent"),
    ],
)
def test_a_damaged_file_is_found_said_and_made_again(first, smoke_home, what, harm, told):
    path, elsewhere = getattr(VANILLA, what), written(first / "artifacts/smoke/digit-pairs")
    whole = path.read_bytes()
    harm(path)
    done = invoke("run", *FIRST_ROWS)
    assert done.code == 0
    if told:
        assert f"smoke/digits/vanilla/seed0 is computed again: {told}" in done.err
    assert recorded(VANILLA, first) == recorded(VANILLA, smoke_home)
    assert recorded(DYNAMIC, first) == recorded(DYNAMIC, smoke_home)
    if what != "record_path":
        assert path.read_bytes() == whole
    assert written(first / "artifacts/smoke/digit-pairs") == elsewhere
    assert invoke("run", *FIRST_ROWS).err.endswith("4 cells: 0 computed, 4 as they were\n")


def test_a_damaged_parent_is_a_reason_for_its_children(first):
    truncate(VANILLA.artifact_path)
    assert study.why_not(DYNAMIC) == "vanilla: its artifact is damaged"
    assert study.why_not(PAIRS_DYNAMIC) is None


@pytest.fixture
def package(tmp_path):
    """A copy of the package's files, to be changed."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(files.SOURCE, tmp_path / "vitstudy", ignore=ignore)
    return tmp_path / "vitstudy"


@pytest.fixture
def changed(package, monkeypatch):
    """Within it, the copy of the package is the one whose files are read."""

    @contextlib.contextmanager
    def at():
        with monkeypatch.context() as patch:
            patch.setattr(files, "SOURCE", package)
            staleness._digests.cache_clear()
            yield
        staleness._digests.cache_clear()

    return at


def reasons() -> dict[str, str | None]:
    return {str(cell): study.why_not(cell) for cell in study.cells("smoke")}


def test_a_changed_method_recomputes_its_own_cells_and_no_others(
    smoke, smoke_home, package, changed
):
    with open(package / "quantization" / "dynamic.py", "a", encoding="utf-8") as file:
        file.write("CHANGED = True\n")
    why = "quantization/dynamic.py changed"
    with changed():
        found = reasons()
        vanilla = {path: time for path, time in written(smoke).items() if "vanilla" in str(path)}
        done = invoke("run", *FIRST_OF_DIGITS)
    made = [
        each.key
        for each in methods.available()
        if each.module.endswith(".dynamic") or each.packer.endswith(".dynamic")
    ]
    own = [str(cell) for cell in study.cells("smoke") if cell.method in made]
    assert {cell for cell in found if found[cell]} == set(own) >= {str(DYNAMIC), str(PAIRS_DYNAMIC)}
    assert found[str(DYNAMIC)] == found[str(PAIRS_DYNAMIC)] == why
    assert done.code == 0
    assert f"smoke/digits/dynamic/seed0 is computed again: {why}" in done.err
    assert "2 cells: 1 computed, 1 as they were" in done.err
    assert {path: time for path, time in written(smoke).items() if path in vanilla} == vanilla
    before, after = recorded(DYNAMIC, smoke_home), recorded(DYNAMIC, smoke)
    different = {name for name in after if after[name] != before[name]}
    assert different == {"fingerprint", "sources"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("training.py", "training.py changed"),
        ("measure.py", "measure.py changed"),
        ("baseline.py", "baseline.py changed"),
    ],
)
def test_a_changed_source_that_vanilla_is_made_by_recomputes_what_follows(
    in_smoke, package, changed, name, told
):
    with open(package / name, "a", encoding="utf-8") as file:
        file.write("CHANGED = True\n")
    with changed():
        found = reasons()
    assert found[str(VANILLA)] == told and found[str(DYNAMIC)] == f"vanilla: {told}"
    assert all(reason.endswith(told) for reason in found.values())


@pytest.mark.parametrize(
    "name", ["cli.py", "speed.py", "report/tables.py", "methods/papers.py", "graph.py"]
)
def test_a_changed_source_that_no_cell_is_made_by_recomputes_nothing(
    in_smoke, package, changed, name
):
    with open(package / name, "a", encoding="utf-8") as file:
        file.write("CHANGED = True\n")
    with changed():
        assert set(reasons().values()) == {None}


def test_comments_docstrings_and_layout_change_no_cell(in_smoke, package, changed):
    for path in package.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").replace('"""', '"""Reworded: ', 1)
        path.write_text(f"# Reworded.\n\n\n{lines}\n\n# The end.\n", encoding="utf-8")
    with changed():
        assert set(reasons().values()) == {None}


def test_a_file_that_lies_elsewhere_changes_no_cell(in_smoke, package, changed):
    (package / "packing.py").rename(package / "quantization" / "packing.py")
    old, new = "from vitstudy.packing import", "from vitstudy.quantization.packing import"
    moved = 0
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        moved += old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
    assert moved > 1
    with changed():
        assert set(reasons().values()) == {None}


def test_another_number_in_a_function_is_another_digest(package):
    path = package / "statistics.py"
    before = staleness.digest(path)
    staleness._meaning.cache_clear()
    text = path.read_text(encoding="utf-8")
    assert "1.959964" in text
    path.write_text(text.replace("1.959964", "1.96"), encoding="utf-8")
    assert staleness.digest(path) != before


def test_the_file_that_packs_a_model_is_among_its_sources(in_smoke, monkeypatch):
    other = dataclasses.replace(
        methods.get("vanilla"), key="other", packer="vitstudy.quantization.dynamic"
    )
    monkeypatch.setattr(methods, "METHODS", (*methods.METHODS, other))
    assert "quantization/dynamic.py" in study.sources(Cell("smoke", "digits", "other", 0))
    assert "quantization/dynamic.py" not in study.sources(VANILLA)


def test_what_changed_the_structure_that_a_cell_starts_from_is_among_its_sources(in_smoke):
    after = {key: study.sources(Cell("smoke", "digits", key, 0)) for key in STARTED_FROM}
    for key, (module, other) in STARTED_FROM.items():
        assert module in after[key] and other not in after[key]


STARTED_FROM = {
    "nystrom-m32+dynamic": ("attention/nystrom.py", "pruning/slim.py"),
    "vtp-r0.2+dynamic": ("pruning/slim.py", "attention/nystrom.py"),
    "nystrom-m32+taught": ("attention/nystrom.py", "pruning/importance.py"),
}


def test_another_recipe_or_another_library_is_a_reason(in_smoke, monkeypatch):
    known = profiles.get("smoke")
    recipe = dataclasses.replace(known.recipes[0], learning_rate=1e-3)
    changed = dataclasses.replace(known, recipes=(recipe, known.recipes[1]))
    monkeypatch.setitem(profiles.PROFILES, "smoke", changed)
    assert study.why_not(VANILLA) == "its options changed"
    assert study.why_not(PAIRS) is None
    monkeypatch.setitem(profiles.PROFILES, "smoke", known)
    monkeypatch.setattr(
        staleness, "versions", lambda: {**study.read(PAIRS).versions, "timm": "0.1"}
    )
    assert study.why_not(PAIRS) == "timm changed"


def test_missing_takes_a_record_as_done_and_computes_the_rest(first, smoke_home):
    shutil.rmtree(first / "artifacts" / "smoke")
    DYNAMIC.record_path.unlink()
    PAIRS_DYNAMIC.record_path.write_text("{")
    before = written(PAIRS.record_path.parent)
    assert study.why_not(PAIRS) == "its artifact is absent"
    done = invoke("run", "--missing", "smoke/digit-pairs/vanilla", *FIRST_OF_DIGITS)
    assert done.code == 0
    assert "3 cells: 1 computed, 2 as they were" in done.err
    assert written(PAIRS.record_path.parent) == before
    assert not PAIRS.artifact_path.exists()
    # What it started from was made again, and is what the record named.
    assert recorded(DYNAMIC, first) == recorded(DYNAMIC, smoke_home)
    assert study.why_not(VANILLA) is None


def test_missing_needs_no_data_where_every_record_is_there(first, monkeypatch):
    def absent(name):
        raise UserError("no data")

    monkeypatch.setattr(data, "dataset_hash", absent)
    assert invoke("run", "--missing", *FIRST_ROWS).code == 0


def test_a_committed_cell_that_is_measured_again_leaves_a_line(first, monkeypatch):
    path = first / "results" / "CHANGES.csv"
    before = study.read(DYNAMIC)
    DYNAMIC.artifact_path.unlink()
    study.run(DYNAMIC)
    assert not path.exists()
    evidence = dataclasses.replace(profiles.get("smoke"), committed=True)
    monkeypatch.setitem(profiles.PROFILES, "smoke", evidence)
    study.run(DYNAMIC)
    assert not path.exists()
    for number in (1, 2):
        DYNAMIC.artifact_path.unlink()
        record = study.run(DYNAMIC)
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert len(rows) == number
        assert rows[-1] == {
            "when": record.created,
            "cell": "smoke/digits/dynamic/seed0",
            "accuracy_before": str(before.accuracy),
            "accuracy": str(record.accuracy),
            "size_before": str(before.size_bytes),
            "size": str(record.size_bytes),
            "why": "its artifact is absent",
        }


def test_the_record_is_of_the_reloaded_artifact(with_data, monkeypatch):
    # What `compress` returns is written, and then thrown away: the file's model is measured.
    from vitstudy import models

    load = models.load

    def altered(path):
        model = load(path)
        if path == VANILLA.artifact_path:
            model.head.bias.data[3] += 1_000
        return model

    monkeypatch.setattr(models, "load", altered)
    record = study.run(VANILLA)
    assert (study.predictions(VANILLA)["classes"][:, 0] == 3).all()
    assert record.per_class_accuracy == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]


# -- failures -------------------------------------------------------------------------------------


def test_a_failed_training_fails_what_follows_and_no_other_cell(with_data, smoke_home, monkeypatch):
    good = training.cross_entropy

    def broken(smoothing):
        def loss(model, images, labels, indices):
            logits = model(images)
            return logits.sum() * (float("nan") if logits.shape[1] == 10 else 1)

        return loss

    monkeypatch.setattr(training, "cross_entropy", broken)
    done = invoke("run", *FIRST_OF_DIGITS, "smoke/digit-pairs/vanilla")
    assert done.code == 1
    assert "failed: smoke/digits/vanilla/seed0: the loss of smoke/digits/vanilla/seed0 is nan" in (
        done.err
    )
    assert study.read(VANILLA).status == "failed"
    assert "nan at step 10" in study.read(VANILLA).error
    assert study.read(VANILLA).accuracy is None
    assert study.read(DYNAMIC).error.startswith("vanilla failed: the loss of")
    assert study.read(PAIRS).status == "done"
    assert not VANILLA.artifact_path.exists()
    assert study.why_not(VANILLA).startswith("it failed before: the loss of")
    monkeypatch.setattr(training, "cross_entropy", good)
    assert invoke("run", *FIRST_OF_DIGITS).code == 0
    for cell in (VANILLA, DYNAMIC):
        assert recorded(cell, with_data) == recorded(cell, smoke_home)


def raising(monkeypatch, error: Exception, cell: Cell = VANILLA) -> list[Cell]:
    """Let the computing of `cell` raise `error`; the cells whose computing began, as they do."""
    compute, begun = computing._compute, []

    def broken(each, parents):
        begun.append(each)
        if each == cell:
            raise error
        return compute(each, parents)

    monkeypatch.setattr(computing, "_compute", broken)
    return begun


def test_unexpected_error_in_a_cell_fails_what_follows_once_and_takes_no_other_along(
    smoke, monkeypatch
):
    for cell in (VANILLA, DYNAMIC, PAIRS_DYNAMIC):
        cell.record_path.unlink()
    begun = raising(monkeypatch, RuntimeError("no such\nkernel"))
    done = invoke("run", *FIRST_ROWS, "--keep-going")
    assert done.code == 0
    assert begun == [VANILLA, PAIRS_DYNAMIC]
    assert study.read(VANILLA).status == "failed"
    assert study.read(VANILLA).error.startswith("RuntimeError: no such kernel (test_study.py:")
    assert study.read(DYNAMIC).error.startswith("vanilla failed: RuntimeError: no such kernel")
    assert study.read(PAIRS_DYNAMIC).status == "done"
    assert study.why_not(DYNAMIC).startswith("it failed before")
    assert invoke("run", *FIRST_ROWS).code == 1


def test_cell_whose_parent_is_absent_fails_at_once_where_parents_are_not_to_be_made(
    smoke, monkeypatch
):
    VANILLA.record_path.unlink()
    DYNAMIC.record_path.unlink()
    begun = raising(monkeypatch, RuntimeError("never reached"))
    assert invoke("run", str(DYNAMIC), "--no-parents", "--keep-going").code == 0
    assert begun == []
    assert study.read(DYNAMIC).error == "it starts from vanilla: not measured yet"


@pytest.mark.parametrize(
    "error", [UserError("mend this"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_what_a_user_has_to_mend_stops_all_cells_and_fails_none(smoke, monkeypatch, error):
    VANILLA.record_path.unlink()
    raising(monkeypatch, error)
    one_line(invoke("run", *FIRST_ROWS, "--keep-going"))
    assert not VANILLA.record_path.exists()


def test_a_model_whose_outputs_are_no_numbers_is_a_failed_cell(with_data, monkeypatch):
    compress = baseline.compress

    def broken(context):
        model = compress(context)
        model.head.bias.data[:] = float("inf")
        return model

    monkeypatch.setattr(baseline, "compress", broken)
    assert study.run(VANILLA).status == "failed"
    assert "no finite numbers" in study.read(VANILLA).error


@pytest.mark.parametrize("number", range(1, 8))
def test_a_full_disk_gives_one_line_and_the_next_run_goes_on(
    with_data, smoke_home, monkeypatch, number
):
    """The disk is full at the `number`th write: those of the artifact, predictions and record."""
    writes, fsync = [], os.fsync

    def full(descriptor):
        writes.append(descriptor)
        if len(writes) >= number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(training, "SECONDS_BETWEEN_CHECKPOINTS", 1e6)
    monkeypatch.setattr(files.os, "fsync", full)
    done = invoke("run", "smoke/digits/vanilla")
    monkeypatch.setattr(files.os, "fsync", fsync)
    # The mark of the checkpoints, one checkpoint, artifact, predictions, analysis, record.
    if number == 7:
        assert done.code == 0 and len(writes) == 6
    else:
        assert "no space left on the disk" in one_line(done)
        assert not VANILLA.record_path.exists()
    assert partial_files(with_data) == []
    assert invoke("run", "smoke/digits/vanilla").code == 0
    assert recorded(VANILLA, with_data) == recorded(VANILLA, smoke_home)


# -- kills and company ----------------------------------------------------------------------------


# The mark of the checkpoints, the last checkpoint, artifact, predictions, analysis, record; then
# the quantized cell's four, which has no training and no analysis.
MOMENTS = [(number, False) for number in range(1, 11)] + [(3, True), (10, True)]


@pytest.mark.parametrize(("number", "after"), MOMENTS)
def test_a_run_killed_at_any_write_is_finished_by_the_next_with_the_same_records(
    with_data, smoke_home, number, after
):
    order = ("run", *FIRST_OF_DIGITS)
    with processes.running(
        with_data, processes.study_killed_at_write, number, after, *order
    ) as process:
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, processes.said(with_data)
    assert invoke(*order).code == 0
    for cell in (VANILLA, DYNAMIC):
        assert recorded(cell, with_data) == recorded(cell, smoke_home)
        assert study.why_not(cell) is None
    assert partial_files(with_data) == []


def test_a_training_killed_in_its_middle_goes_on_from_its_checkpoint(with_data, smoke_home):
    checkpoint = VANILLA.checkpoints / "stage0.pt"
    arguments = ("run", str(VANILLA))
    with processes.running(with_data, processes.study_with_checkpoints, *arguments) as process:
        while not checkpoint.exists():
            assert process.is_alive(), processes.said(with_data)
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
    done = invoke(*arguments)
    assert done.code == 0
    assert "going on from step" in done.err
    assert recorded(VANILLA, with_data) == recorded(VANILLA, smoke_home)


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(with_data, smoke_home, monkeypatch):
    known = profiles.get("smoke")
    recipe = dataclasses.replace(known.recipes[0], learning_rate=1e-4, matrix_learning_rate=1e-4)
    changed = dataclasses.replace(known, recipes=(recipe, recipe))
    monkeypatch.setitem(profiles.PROFILES, "smoke", changed)
    monkeypatch.setattr(computing, "_measure", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        study.run(VANILLA)
    assert (VANILLA.checkpoints / "stage0.pt").exists()
    monkeypatch.undo()
    monkeypatch.setenv("VITSTUDY_HOME", str(with_data))
    study.run(VANILLA)
    assert recorded(VANILLA, with_data) == recorded(VANILLA, smoke_home)


def test_of_two_runs_at_once_one_computes_and_the_other_waits_and_reads(with_data, smoke_home):
    made = (smoke_home / "artifacts/smoke/digits/vanilla/seed0", VANILLA.artifact_path.parent)
    with contextlib.ExitStack() as lock:
        lock.enter_context(computing._locked(VANILLA))
        with processes.running(with_data, processes.study, "run", str(VANILLA)) as other:
            while "computed by another process; waiting for it" not in processes.said(with_data):
                assert other.is_alive()
                time.sleep(0.01)
            shutil.copytree(*made, dirs_exist_ok=True, ignore=shutil.ignore_patterns("lock"))
            shutil.copytree(smoke_home / "results", with_data / "results")
            before = written(with_data / "results")
            artifact = VANILLA.artifact_path.stat().st_mtime_ns
            assert other.is_alive()
            lock.close()
            other.join(300)
            assert other.exitcode == 0
    assert written(with_data / "results") == before
    assert VANILLA.artifact_path.stat().st_mtime_ns == artifact


def test_two_processes_that_start_together_agree(with_data, smoke_home):
    order = ("run", *FIRST_OF_DIGITS)
    with (
        processes.running(with_data, processes.study, *order) as one,
        processes.running(with_data, processes.study, *order) as two,
    ):
        one.join(300)
        two.join(300)
    assert (one.exitcode, two.exitcode) == (0, 0), processes.said(with_data)
    for cell in (VANILLA, DYNAMIC):
        assert recorded(cell, with_data) == recorded(cell, smoke_home)
        assert study.why_not(cell) is None


# -- selection ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["smoke"], tuple(study.cells("smoke"))),
        (["smoke/"], tuple(study.cells("smoke"))),
        (["smoke/digits"], tuple(c for c in study.cells("smoke") if c.dataset == "digits")),
        (["smoke/digits/lsq-w2a2"], (Cell("smoke", "digits", "lsq-w2a2", 0),)),
        (["smoke/*/dyna?ic"], (DYNAMIC, PAIRS_DYNAMIC)),
        (["smoke/digit-pairs/vanilla/seed0"], (PAIRS,)),
        (["smoke/digits/dy*ic/seed0", "smoke/digits/vanilla"], (DYNAMIC, VANILLA)),
        (["smok?/*/vanilla", "smoke/*/d?namic"], (VANILLA, PAIRS, DYNAMIC, PAIRS_DYNAMIC)),
    ],
)  # fmt: skip
def test_patterns_select_cells(patterns, expected):
    assert tuple(study.select(patterns)) == expected


def test_a_pattern_over_profiles_takes_those_that_have_what_it_asks_for():
    assert {cell.profile for cell in study.select(["*/digits/vanilla"])} == {"smoke", "digits"}
    with_three_seeds = {"cifar", "cifar224", "paper"}
    assert {cell.profile for cell in study.select(["*/*/dynamic/seed2"])} == with_three_seeds


def test_further_seeds_of_vanilla_alone_come_last():
    every = study.cells("cifar-cpu")
    seeds = [cell.seed for cell in every]
    assert seeds[-4:] == [1, 1, 2, 2] and set(seeds[:-4]) == {0}
    assert {(cell.dataset, cell.method) for cell in every[-4:]} == {
        ("cifar10", "vanilla"),
        ("cifar100", "vanilla"),
    }
    assert study.select(["cifar-cpu/cifar10/vanilla/seed1"]) == [every[-4]]


def test_a_data_set_that_a_profile_leaves_out_is_computed_by_name():
    assert {cell.dataset for cell in study.cells("cifar224")} == {"cifar10"}
    assert {cell.dataset for cell in study.select(["cifar224/*/vanilla"])} == {"cifar10"}
    assert len(study.select(["cifar224/cifar100/vanilla"])) == 3


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("smok", "unknown profile 'smok'; valid: smoke, digits, cifar-cpu, cifar, cifar224, paper"),
        ("", "unknown profile ''; valid: smoke"),
        ("smoke/cifar10", "unknown data set 'cifar10'; valid: digits, digit-pairs"),
        ("smoke/digits/deit-huge", "unknown method 'deit-huge'; valid: vanilla, dynamic"),
        ("smoke/*/van", "unknown method 'van'; valid: vanilla, dynamic"),
        ("smoke/digits/vanilla/seed3", "unknown seed 'seed3'; valid: seed0"),
        ("*/digits/*/seed2", "unknown seed 'seed2'; valid: seed0"),
        ("a/b/c/d/e", "more than the four parts of profile/dataset/method/seedK"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_naming_what_is_valid(pattern, told):
    with pytest.raises(UserError) as raised:
        study.select([pattern])
    assert told in str(raised.value)


@pytest.mark.parametrize("place", ["record_path", "predictions_path", "analysis_path"])
def test_outputs_lie_where_others_look_for_them(home, place):
    folder = {"analysis_path": "analysis"}.get(place, "records")
    suffix = {"record_path": ".json"}.get(place, ".npz")
    expected = home / "results" / "smoke" / folder / "digits" / "dynamic" / f"seed0{suffix}"
    assert getattr(DYNAMIC, place) == expected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"accuracy": 0.5}, "accuracy is 0.5, "),
        ({"accuracy": "high"}, "accuracy is 'high', no number or null"),
        ({"accuracy": float("nan")}, "it is no whole JSON object"),
        ({"size_bytes": 2**20, "size_mib": 1.0}, "size_bytes is 1048576, its artifact has"),
        ({"macs": ...}, "it has no macs"),
        ({"method": "vanilla", "flips": None}, "its method is 'vanilla'"),
        ({"seed": 1}, "its seed is 1"),
    ],
    ids=str,
)
def test_an_edited_record_is_no_hit_and_has_no_row(first, change, told):
    value = {**json.loads(DYNAMIC.record_path.read_text()), **change}
    value = {name: each for name, each in value.items() if each is not ...}
    assert study.why_not(DYNAMIC) is None
    DYNAMIC.record_path.write_text(json.dumps(value))
    assert told in study.why_not(DYNAMIC)
    assert study.read(DYNAMIC) is None
    row = tables.table("smoke", 1).set_index("key").loc["dynamic"]
    assert np.isnan(row["accuracy"])
    assert "the record of seed 0 is damaged: " in row["note"] and told in row["note"]


def git(folder, *arguments) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *author, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("tracked", [True, False])
def test_the_commit_is_the_studys_own_and_not_that_of_a_repository_around_it(
    tmp_path, monkeypatch, tracked
):
    inside = tmp_path if tracked else tmp_path / "unpacked"
    (inside / "vitstudy" / "study").mkdir(parents=True)
    (inside / "vitstudy" / "study" / "computing.py").write_text("")
    (tmp_path / "other.txt").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", "--all" if tracked else "other.txt")
    git(tmp_path, "commit", "-m", "first")
    monkeypatch.setattr(files, "SOURCE", inside / "vitstudy")
    monkeypatch.setattr(files, "REPOSITORY", inside)
    study.commit.cache_clear()
    try:
        assert bool(study.commit()) == tracked
    finally:
        study.commit.cache_clear()


def test_missing_takes_ancestors_as_they_are_however_far_up(with_cells, monkeypatch):
    with_cells("vanilla", "continued", "continued-twice")
    once, twice = (Cell("smoke", "digits", key, 0) for key in ("continued", "continued-twice"))
    monkeypatch.setattr(
        staleness, "fingerprint", lambda cell, parents: "0" * 64
    )  # other sources now
    before = VANILLA.record_path.read_bytes()
    once.artifact_path.unlink()
    twice.record_path.unlink()
    computed, compute = [], computing._compute
    monkeypatch.setattr(
        computing, "_compute", lambda cell, parents: computed.append(cell) or compute(cell, parents)
    )
    assert study.run(twice, missing=True).status == "done"
    assert computed == [once, twice]
    assert VANILLA.record_path.read_bytes() == before
    assert study.run(twice, missing=True).status == "done" and len(computed) == 2
