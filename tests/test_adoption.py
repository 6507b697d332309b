"""Records that a change of the code leaves true are adopted by proof; the others are not."""

import json
import shutil
import subprocess
import sys

import pytest

from vitstudy import files
from vitstudy.record import Record
from vitstudy.study import Cell, adoption

DYNAMIC = Cell("smoke", "digits", "dynamic", 0)
VANILLA = Cell("smoke", "digits", "vanilla", 0)


def git(folder, *arguments) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *author, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository with the package alone, whose notebooks and graph are empty."""
    folder = tmp_path_factory.mktemp("repository")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(files.SOURCE, folder / "vitstudy", ignore=ignored)
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "none.txt").write_text("")
    (folder / "Snakefile").write_text("")
    (folder / ".gitignore").write_text("__pycache__\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.fixture
def before(repository, with_cells):
    """The repository as it was, some cells that name its first commit, and how to change it."""
    first = git(repository, "rev-list", "--max-parents=0", "HEAD")
    git(repository, "reset", "-q", "--hard", first)
    with_cells("vanilla", "dynamic")
    for cell in (VANILLA, DYNAMIC):
        value = json.loads(cell.record_path.read_text())
        files.write_json(cell.record_path, {**value, "commit": first[:12]})
    return repository, first[:12]


def change(repository, name: str, old: str, new: str) -> None:
    path = repository / "vitstudy" / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def run(repository, *arguments) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "vitstudy", *arguments],
        cwd=repository,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stderr


ROWS = ("smoke/digits/vanilla", "smoke/digits/dynamic")


def test_a_change_that_computes_the_same_is_adopted_and_its_cells_are_hits_again(before):
    repository, first = before
    change(
        repository,
        "quantization/dynamic.py",
        "def compress(context",
        "SAME = 1\n\n\ndef compress(context",
    )
    change(repository, "statistics.py", "z: float = 1.959964", "z: float = 3.919928 / 2")
    code, said = run(repository, "adopt", *ROWS)
    assert code == 0, said
    assert said.splitlines()[-1] == "vitstudy: 2 adopted, 0 not, 0 as they were"
    for cell in (VANILLA, DYNAMIC):
        record = Record.from_json(json.loads(cell.record_path.read_text()))
        assert record.adopted["since"] == first
    code, said = run(repository, "run", *ROWS)
    assert said.splitlines()[-1] == "vitstudy: 2 cells: 0 computed, 2 as they were"
    code, said = run(repository, "adopt", *ROWS)
    assert said.splitlines()[-1] == "vitstudy: 0 adopted, 0 not, 2 as they were"


def test_a_change_that_computes_something_else_is_refused_and_told(before):
    repository, _ = before
    change(repository, "muon.py", "ITERATIONS = 5", "ITERATIONS = 4")
    kept = {cell: cell.record_path.read_bytes() for cell in (VANILLA, DYNAMIC)}
    code, said = run(repository, "adopt", *ROWS)
    assert code == 1
    assert "smoke/digits/vanilla/seed0: the losses or the gradients of its training differ" in said
    assert "not adopted: smoke/digits/dynamic/seed0: it gives another " in said
    assert said.splitlines()[-1] == "vitstudy: 0 adopted, 2 not, 0 as they were"
    assert {cell: cell.record_path.read_bytes() for cell in kept} == kept


def test_a_commit_that_cannot_be_had_is_said(before):
    repository, _ = before
    change(repository, "statistics.py", "z: float = 1.959964", "z: float = 1.96")
    code, said = run(repository, "adopt", "smoke/digits/vanilla", "--since", "0" * 12)
    assert code == 1
    assert f"commit {'0' * 12} is not in this repository" in said


def test_answers_that_differ_in_what_came_out_are_told_by_field():
    answer = {"accuracy": 0.5, "artifact_sha256": "a", "commit": "1", "seconds": 1.0}
    assert adoption.difference(answer, {**answer, "commit": "2", "seconds": 9.0}) == ""
    assert adoption.difference(answer, {**answer, "artifact_sha256": "b"}) == ""
    other = {**answer, "accuracy": 0.4, "artifact_sha256": "b"}
    assert adoption.difference(answer, other) == "it gives another accuracy, artifact_sha256"
    training = adoption.difference({**answer, "training": "a"}, {**answer, "training": "b"})
    assert training == "the losses or the gradients of its training differ"
    failed = adoption.difference(answer, {"failed": "no kernel"})
    assert failed == "it could not be computed now: no kernel"
