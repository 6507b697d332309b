"""What the tests share: a folder of their own to compute in, and one smoke study to copy."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from commands import command
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
