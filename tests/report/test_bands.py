import json
import math

import numpy as np
import pytest
from commands import invoke, one_line

from vitstudy import files, instructions, methods, notebooks, profiles, study
from vitstudy.report import bands, notebook
from vitstudy.report.bands import Kind, Quantity

DIGITS = profiles.get("digits")
POINTS = Kind(floor=0.5, shows=5.0)
NAME = "00_baselines"


def samples(*values, cpu="a CPU") -> list[dict]:
    """Samples of as many seeds, on one instruction set."""
    return [
        {"seed": seed, "instructions": "avx2", "cpu": cpu, "torch": "2", "value": value}
        for seed, value in enumerate(values)
    ]


@pytest.fixture
def shown(monkeypatch):
    """What was displayed."""
    found = []
    monkeypatch.setattr(notebook, "display", lambda value, **_: found.append(value))
    monkeypatch.delenv(notebooks.JUDGE, raising=False)
    return found


@pytest.fixture
def reference(tmp_path, monkeypatch):
    """A reference file with samples around 98 of the only quantity that there is."""
    monkeypatch.setattr(bands, "REFERENCE", tmp_path / "reference.json")
    kept = {NAME: {"accuracy, %": samples(97.8, 98.0, 98.2, 98.0)}}
    files.write_json(bands.REFERENCE, kept)
    return bands.REFERENCE


@pytest.fixture
def given(monkeypatch):
    """Let the notebook's only quantity have a value."""

    def give(value: float, kind: Kind = POINTS) -> None:
        quantity = Quantity("accuracy, %", value, kind)
        monkeypatch.setitem(bands.QUANTITIES, NAME, lambda profile: iter([quantity]))

    return give


def said(shown) -> str:
    return " ".join(each.data for each in shown if hasattr(each, "data"))


def test_a_value_within_its_band_is_shown_beside_it_and_nothing_else_is_said(
    home, shown, reference, given
):
    files.write(bands.outside_path("digits", NAME), "[]")
    given(98.9)
    bands.check(DIGITS, NAME)
    assert "98.9" in shown[0]["text/plain"] and "a CPU: avx2" in shown[0]["text/plain"]
    assert len(shown) == 1
    assert not bands.outside_path("digits", NAME).exists()


@pytest.mark.parametrize("value", [90.0, 101.0, math.nan])
def test_a_value_outside_is_said_where_it_stands_and_written_and_is_no_error(
    home, shown, reference, given, value
):
    given(value)
    bands.check(DIGITS, NAME)
    assert "accuracy, % is" in said(shown) and "made on a CPU: avx2; seeds 0, 1, 2, 3" in said(
        shown
    )
    (entry,) = json.loads(bands.outside_path("digits", NAME).read_text(encoding="utf-8"))
    assert set(entry) == {"name", "value", "low", "high", "made_on"}
    assert entry["value"] == (None if math.isnan(value) else value)
    assert 94 < entry["low"] < 98 < entry["high"] < 101


def test_a_value_outside_is_an_error_where_bands_are_judged(
    home, shown, reference, given, monkeypatch
):
    monkeypatch.setenv(notebooks.JUDGE, "1")
    given(98.1)
    bands.check(DIGITS, NAME)
    given(90.0)
    with pytest.raises(AssertionError, match="accuracy, % is 90, its band 9"):
        bands.check(DIGITS, NAME)


@pytest.mark.parametrize("taken", [(), (98.0, 98.0)])
def test_a_quantity_without_samples_enough_has_no_band_yet_and_is_not_judged(
    home, shown, reference, given, monkeypatch, taken
):
    files.write_json(reference, {NAME: {"accuracy, %": samples(*taken)}})
    given(98.0)
    monkeypatch.setenv(notebooks.JUDGE, "1")
    bands.check(DIGITS, NAME)
    assert "none yet" in shown[0]["text/plain"]
    assert not bands.outside_path("digits", NAME).exists()


def test_a_quantity_that_varies_more_than_what_it_shows_has_no_band_and_is_not_judged(
    home, shown, reference, given, monkeypatch
):
    files.write_json(reference, {NAME: {"accuracy, %": samples(-0.6, 8.0, 3.0)}})
    monkeypatch.setenv(notebooks.JUDGE, "1")
    given(100.0)
    bands.check(DIGITS, NAME)
    assert "vary too much to show a change of 5" in shown[0]["text/plain"]
    assert not bands.outside_path("digits", NAME).exists()


def test_only_the_digits_are_held_against_bands(home, shown, reference, given):
    given(0.0)
    bands.check(profiles.get("smoke"), NAME)
    assert shown == [] and not bands.outside_path("smoke", NAME).exists()


def test_check_notebooks_alone_judges(monkeypatch):
    told = []

    class Done:
        returncode = 0

    monkeypatch.setattr(
        notebooks.subprocess, "run", lambda command, **given: told.append(given["env"]) or Done
    )
    assert notebooks.check([]) == 0
    assert told[0][notebooks.JUDGE] == "1"


# -- bands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "exact"), [(6, 7.337), (9, 5.899), (12, 5.291), (20, 4.614)])
def test_the_tolerance_factor_is_that_of_the_tables_and_never_below(count, exact):
    """Exact two-sided factors for 99.9 % of a normal distribution with 95 % confidence."""
    assert exact <= bands.tolerance_factor(count) <= 1.03 * exact


def test_a_band_of_normal_samples_holds_what_it_is_to_hold_as_surely_as_it_says():
    drawn = np.random.RandomState(0).randn(4_000, 9)
    half = bands.tolerance_factor(9) * drawn.std(1, ddof=1)
    mean = drawn.mean(1)

    def below(limits):
        return np.array([0.5 * math.erfc(-limit / math.sqrt(2)) for limit in limits])

    content = below(mean + half) - below(mean - half)
    assert 0.94 < (content >= bands.CONTENT).mean() < 0.98


def test_what_does_not_vary_has_its_floor_for_a_band():
    found = bands.band([0.5, 0.5, 0.5], Kind(floor=0.001, shows=0.01))
    assert (found.low, found.high) == (pytest.approx(0.499), pytest.approx(0.501))
    assert bands.band([0.5, 0.5], Kind(floor=0.001, shows=0.01)) is None


def test_a_processor_that_rounds_as_another_adds_no_sample():
    once = samples(97.0, 98.0, 97.5, 97.5)
    assert bands.distinct(once) == [97.0, 97.5, 97.5, 98.0]
    again = [{**each, "cpu": "another"} for each in once]
    assert bands.distinct(once + again) == bands.distinct(once)
    other = [{**each, "cpu": "another", "value": each["value"] + 0.1} for each in once]
    assert len(bands.distinct(once + other)) == 8


# -- making them ----------------------------------------------------------------------------------


def test_a_sample_replaces_the_one_like_it_and_leaves_those_of_others():
    kept = {NAME: {"a": samples(1.0, 2.0) + samples(3.0, cpu="another"), "gone": samples(1.0)}}
    of = {"seed": 1, "instructions": "avx2", "cpu": "a CPU", "torch": "3"}
    found = bands.merged(kept, {NAME: {"a": 5.0, "new": 6.0}}, of)
    assert [each["value"] for each in found[NAME]["a"]] == [1.0, 5.0, 3.0]
    assert found[NAME]["new"] == [{**of, "value": 6.0}]
    assert "gone" not in found[NAME]


@pytest.fixture
def called(home, tmp_path, monkeypatch):
    """Samples are made up; what was asked for, and those that are to fail."""
    monkeypatch.setattr(bands, "REFERENCE", tmp_path / "reference.json")
    monkeypatch.setattr(instructions, "available", lambda: ["default", "avx2"])
    asked, fails = [], set()

    def call(code, name, folder):
        asked.append((code, name))
        if name in fails:
            return "no memory"
        files.write_json(folder / "values.json", {NAME: {"a": float(len(asked))}})
        return ""

    monkeypatch.setattr(instructions, "call", call)
    return asked, fails


def test_every_seed_is_sampled_on_every_instruction_set_that_is_here(called):
    done = invoke("bands", "--seeds", "0,3")
    assert done.code == 0 and "this processor has no avx512" in done.err
    kept = bands.references()[NAME]["a"]
    assert {(each["seed"], each["instructions"]) for each in kept} == {
        (seed, name) for seed in (0, 3) for name in ("default", "avx2")
    }
    assert all(each["cpu"] == instructions.processor() for each in kept)


def test_a_sample_that_fails_leaves_the_others_and_the_exit_code_says_so(called):
    called[1].add("default")
    done = invoke("bands", "--seeds", "0")
    assert done.code == 1 and "seed 0, default: no memory" in done.err
    assert [each["instructions"] for each in bands.references()[NAME]["a"]] == ["avx2"]


def test_what_another_processor_left_in_the_folder_is_not_taken(called, home):
    left = home / "artifacts/bands/seed0-avx2"
    files.write(left / "processor", "another CPU")
    files.write(left / "artifacts/digits/record", "")
    invoke("bands", "--seeds", "0", "--instructions", "avx2")
    assert not (left / "artifacts/digits").exists()


def test_bad_options_are_one_line(called):
    assert "whole numbers" in one_line(invoke("bands", "--seeds", "0;1"))
    assert "unknown instruction set 'sse'" in one_line(invoke("bands", "--instructions", "sse"))
    assert "has none of avx512" in one_line(invoke("bands", "--instructions", "avx512"))


# -- quantities -----------------------------------------------------------------------------------


def test_the_cells_of_the_quantities_are_those_of_the_profile():
    assert set(bands.QUANTITIES) == set(bands.METHODS) <= set(notebooks.names())
    for keys in bands.METHODS.values():
        assert all(methods.get(key).key == key for key in keys)
    assert set(bands.cells(DIGITS)) <= set(study.cells("digits"))


def test_each_notebook_has_quantities_of_the_cells_that_it_names(smoke_home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(smoke_home))
    smoke = profiles.get("smoke")
    assert all(study.read(cell) for cell in bands.cells(smoke))
    found = bands.measured(smoke)
    assert len(found["00_baselines"]) == 4 and len(found["01_quantization_basics"]) == 2
    for name, keys in bands.METHODS.items():
        assert found[name]
        for key in keys:
            if name > "02" and "nystrom-all" not in key:
                assert any(key in quantity for quantity in found[name])


def test_the_committed_samples_are_of_quantities_that_notebooks_have():
    kept = bands.references()
    assert set(kept) == set(bands.QUANTITIES)
    for quantities in kept.values():
        for taken in quantities.values():
            for each in taken:
                assert set(each) == {"seed", "instructions", "cpu", "torch", "value"}
                assert each["instructions"] in instructions.SETS
