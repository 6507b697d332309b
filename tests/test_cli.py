"""The command line from outside: what it lists, and one line for each thing a user gets wrong."""

import os
import subprocess
import sys
import time

import pytest
from commands import command, invoke, one_line

from vitstudy import __version__, data, files, methods, profiles

WITHOUT_TORCH = ("vitstudy", "vitstudy.cli", "vitstudy.study", "vitstudy.methods", "vitstudy.data")


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_importing_does_not_load_torch(module):
    code = (
        f"import sys, {module}; print([m for m in ('torch', 'timm', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_fresh_interpreter_imports_the_package_in_under_half_a_second():
    def seconds(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    # The best of five: a busy machine makes it slower, never faster.
    assert min(seconds("import vitstudy") for _ in range(5)) < 0.5


def test_list_names_everything_there_is(home):
    done = command(home, "list")
    assert done.code == 0 and done.err == ""
    for name in (*profiles.PROFILES, *data.SPECS, *(method.key for method in methods.METHODS)):
        assert f"\n  {name} " in done.out
    assert "Nyströmformer(m=24)" in done.out
    assert os.listdir(home) == []


@pytest.mark.parametrize("what", ["profiles", "datasets", "methods"])
def test_list_of_one_kind_has_that_kind_alone(what):
    whole, part = invoke("list").out, invoke("list", what).out
    assert part.startswith(f"{what}\n") and part in whole
    assert (
        len(part.splitlines())
        == {
            "profiles": len(profiles.PROFILES) + 1,
            "datasets": 5,
            "methods": len(methods.METHODS) + len(methods.VARIANTS) + len(methods.SURVEYED) + 1,
        }[what]
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nope"], "unknown profile 'nope'; valid: smoke, digits"),
        (["run", "smoke/mnist"], "unknown data set 'mnist'; valid: digits, digit-pairs"),
        (["run", "smoke/digits/lsq"], "unknown method 'lsq'; valid: vanilla, dynamic"),
        (["run", "smoke/digits/vanilla/seed9"], "unknown seed 'seed9'; valid: seed0"),
        (["run", "smoke", "nope"], "unknown profile 'nope'"),
        (["run", "1/2/3/4/5"], "four parts of profile/dataset/method/seedK"),
        (["run"], "CELLS"),
        (["run", "--fast", "smoke"], "--fast"),
        (["--fast"], "--fast"),
        (["walk"], "No such command 'walk'"),
        (["list", "animals"], "unknown list 'animals'; valid: profiles, datasets, methods"),
        (["speed", "nope"], "unknown profile 'nope'; valid: smoke"),
        (["speed"], "PROFILE"),
        (["site", "nope"], "unknown profile 'nope'; valid: smoke"),
        (["notebook", "99_nothing"], "unknown notebook '99_nothing'"),
        (["notebook", "00_baselines", "nope"], "unknown profile 'nope'; valid: smoke"),
        (["reproduce", "nope"], "unknown profile 'nope'; valid: smoke"),
        (["reproduce", "smoke", "--from-records"], "no records of smoke"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_input_ends_in_one_line_with_code_2_and_nothing_written(home, arguments, told):
    assert told in one_line(invoke(*arguments))
    assert os.listdir(home) == []


def test_the_real_command_ends_bad_input_the_same_way(home):
    done = command(home, "run", "smok")
    assert one_line(done) == (
        "unknown profile 'smok'; valid: smoke, digits, cifar-cpu, cifar, cifar224, paper"
    )
    assert done.out == "" and len(done.err.splitlines()) == 1
    assert one_line(command(home, "run", "--nope")).startswith("No such option '--nope'")


def test_a_folder_that_cannot_be_written_is_told(with_cells, monkeypatch):
    smoke = with_cells("vanilla", "dynamic")

    def refused(*arguments):
        raise PermissionError(13, "Permission denied", str(smoke / "results"))

    (smoke / "results/smoke/records/digits/dynamic/seed0.json").unlink()
    monkeypatch.setattr(files, "write", refused)
    line = one_line(invoke("run", "smoke/digits/dynamic"))
    assert "Permission denied" in line and str(smoke / "results") in line


@pytest.mark.parametrize("version", [(3, 10, 9, "final", 0), (3, 14, 0, "final", 0)])
def test_a_python_too_old_or_too_new_is_refused(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    assert "valid: 3.11, 3.12, 3.13" in one_line(invoke("list"))


def test_help_is_given_and_is_no_error():
    for arguments in (["--help"], ["-h"], ["run", "--help"]):
        done = invoke(*arguments)
        assert done.code == 0 and done.out.startswith("Usage:") and done.err == ""
    assert "run" in invoke("--help").out


def test_the_version_is_the_packages():
    assert __version__ in invoke("--version").out


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "latin-1"])
def test_a_locale_that_cannot_show_a_sign_is_no_error(home, encoding):
    names = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C"}
    # What reads or writes a file of ours by the locale's encoding is an error here.
    warned = {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning:vitstudy"}
    options = {"PYTHONCOERCECLOCALE": "0", **warned}
    done = command(home, "list", "methods", env={**names, **options}, encoding=encoding)
    assert done.code == 0, done.err
    assert "DeiT base" in done.out and "Traceback" not in done.err
