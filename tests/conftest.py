"""What the tests share: a folder of their own to compute in, and one smoke study to copy."""

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

OURS = ("VITSTUDY_DATA", "VITSTUDY_WEIGHTS", "VITSTUDY_HOME", "RANK", "WORLD_SIZE")
for _name in OURS:
    os.environ.pop(_name, None)

torch.set_num_threads(1)

# The same examples each time, and no clock: a slow machine is no failure.
settings.register_profile(
    "study", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("study")


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that are not progress."""
        return [line for line in self.err.splitlines() if not line.startswith("vitstudy: ")]


def start(home: Path, *arguments: str, code: str = "", **options) -> subprocess.Popen:
    """Start `python -m vitstudy …`, or `code` in its place, with `home` to compute in."""
    command = [sys.executable, *(("-c", code) if code else ("-m", "vitstudy")), *arguments]
    environment = {**os.environ, "VITSTUDY_HOME": str(home), **options.pop("env", {})}
    return subprocess.Popen(
        command,
        env=environment,
        cwd=options.pop("cwd", home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finish(process: subprocess.Popen) -> Done:
    out, err = process.communicate(timeout=300)
    return Done(process.returncode, out, err)


def command(home: Path, *arguments: str, **options) -> Done:
    """Run `python -m vitstudy …` as a user does."""
    return finish(start(home, *arguments, **options))


def invoke(*arguments: str) -> Done:
    """Run the command line in this process: as `command`, without the seconds torch takes to load.

    An exception that the command line does not turn into a line is raised here.
    """
    from vitstudy.cli import main

    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def one_line(done: Done) -> str:
    """The one line that a user who made an error gets; fails where it is not one."""
    assert done.code == 2, done
    assert len(done.errors) == 1, done.err
    assert done.errors[0].startswith("error: ")
    return done.errors[0].removeprefix("error: ")


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Path:
    """An empty folder in which this test's results and artifacts lie, and nobody else's."""
    folder = tmp_path_factory.mktemp("home")
    for name in OURS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VITSTUDY_HOME", str(folder))
    logger = logging.getLogger("vitstudy")
    before = logger.handlers[:], logger.propagate, logger.level
    yield folder
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def smoke_home(tmp_path_factory) -> Path:
    """The smoke study as the command line computed it; for reading only."""
    folder = tmp_path_factory.mktemp("smoke")
    done = command(folder, "run", "smoke")
    assert done.code == 0, done.err
    (folder / "stderr.txt").write_text(done.err)
    return folder


@pytest.fixture
def smoke(smoke_home, home) -> Path:
    """A copy of the smoke study, to be damaged."""
    shutil.copytree(smoke_home, home, dirs_exist_ok=True)
    return home


@pytest.fixture
def with_data(smoke) -> Path:
    """The decoded digits alone: nothing is computed yet."""
    shutil.rmtree(smoke / "results")
    shutil.rmtree(smoke / "artifacts" / "smoke")
    return smoke
