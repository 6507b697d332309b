"""The package installed without its repository, and on a system that it does not run on."""

import os
import shutil
import subprocess
import sys
import tomllib

import pytest

from vitstudy import files

RUN = [sys.executable, "-m", "vitstudy"]


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory):
    """A folder that holds the package as an installation has it, and nothing else of the study."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(files.SOURCE, folder / "vitstudy", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def call(site_packages, where, *arguments, code=""):
    environment = {**os.environ, "PYTHONPATH": str(site_packages), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("VITSTUDY_HOME", None)
    command = [sys.executable, "-c", code] if code else [*RUN, *arguments]
    return subprocess.run(
        command, cwd=where, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def listing(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("notebook", "00_baselines"),
        ("site",),
        ("reproduce",),
        ("check-notebooks",),
        ("refresh",),
        ("bands",),
        ("support",),
    ],
    ids=lambda each: each[0],
)
def test_what_needs_the_repository_says_so_in_one_line(site_packages, tmp_path, arguments):
    before = listing(site_packages)
    done = call(site_packages, tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this needs the study's repository")
    assert listing(tmp_path) == set() and listing(site_packages) == before


def test_a_cell_that_is_run_elsewhere_lies_where_it_was_run(site_packages, tmp_path):
    before = listing(site_packages)
    code = "from vitstudy import files; print(files.root())"
    assert call(site_packages, tmp_path, code=code).stdout.strip() == str(tmp_path.resolve())
    assert call(site_packages, tmp_path, "list", "methods").returncode == 0
    done = call(site_packages, tmp_path, "rank", "--rows", "1")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)  # nothing is counted here yet
    assert listing(site_packages) == before


def test_a_model_of_ones_own_is_compressed_and_loaded_where_there_is_no_repository(
    site_packages, tmp_path
):
    before = listing(site_packages)
    code = """
import torch, vitstudy
layers = [torch.nn.Flatten(), torch.nn.Linear(12, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)]
model, images = torch.nn.Sequential(*layers), torch.randn(4, 3, 2, 2)
small = vitstudy.compress(model, "rounded-w4", calibration=images)
small.save("small.safetensors")
again = vitstudy.load("small.safetensors", like=model)
assert torch.equal(again(images), small(images)) and again.report == small.report
print(vitstudy.list_methods()[0].key, vitstudy.__file__)
"""
    done = call(site_packages, tmp_path, code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["dynamic", str(site_packages / "vitstudy" / "__init__.py")]
    assert listing(tmp_path) == {"small.safetensors"} and listing(site_packages) == before


def test_a_wheel_takes_every_file_of_data_that_the_package_reads():
    project = tomllib.loads((files.REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["vitstudy"]
    taken = {path for pattern in patterns for path in files.SOURCE.glob(pattern)}
    data = {
        path
        for path in files.SOURCE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    assert {path.suffix for path in data} >= {".csv", ".json", ".toml"}
    assert data <= taken


def test_a_system_without_locks_is_told_which_systems_are_supported(home):
    code = (
        "import sys; sys.modules['fcntl'] = None; sys.argv[0] = 'vitstudy'\n"
        "from vitstudy.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "smoke/digits/vanilla"],
        env={**os.environ, "VITSTUDY_HOME": str(home)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 2
    assert "vitstudy runs on Linux, macOS and WSL" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
