"""What the tests share: a folder of their own to compute in, one smoke study, small models."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import networks
import pytest
import smoke_study
import torch
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


LONGEST = ("test_workflow.py", "test_notebooks.py")
"""They take minutes in other processes: begun first, they are not what all workers wait for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Iterator[Path]:
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
    """The smoke study as the command line computed it, once for all workers; for reading only."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "smoke"
    with open(shared / "smoke.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            smoke_study.make(folder)
    failed = folder / "failed.txt"
    assert not failed.exists(), failed.read_text(encoding="utf-8")
    return folder


@pytest.fixture
def in_smoke(smoke_home, monkeypatch) -> Iterator[Path]:
    """The smoke study itself as the folder to compute in: for tests that write nothing."""

    def last_writings() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in smoke_home.rglob("*") if path.is_file()}

    monkeypatch.setenv("VITSTUDY_HOME", str(smoke_home))
    before = last_writings()
    yield smoke_home
    assert last_writings() == before, "what all tests share was changed"


@pytest.fixture
def smoke(smoke_home, home) -> Path:
    """A copy of the smoke study, to be damaged."""
    return shutil.copytree(smoke_home, home, dirs_exist_ok=True)


@pytest.fixture
def with_data(smoke_home, home) -> Path:
    """The decoded digits alone: nothing is computed yet."""
    shutil.copytree(smoke_home / "artifacts" / "data", home / "artifacts" / "data")
    return home


@pytest.fixture
def with_cells(with_data, smoke_home) -> Callable[..., Path]:
    """Copies what the smoke study has of some methods, to be damaged; much sooner than all."""

    def copy(*keys: str) -> Path:
        for key in keys:
            for folder in smoke_home.glob(f"*/smoke/**/{key}"):
                shutil.copytree(folder, with_data / folder.relative_to(smoke_home))
        return with_data

    return copy


@pytest.fixture
def vit() -> torch.nn.Module:
    """A small Vision Transformer for images (B, 3, 16, 16)."""
    return networks.vit()
