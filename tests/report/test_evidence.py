"""The one reader of a profile's records, predictions and analysis files."""

import numpy as np
import pytest

from vitstudy.errors import UserError
from vitstudy.report.evidence import Evidence
from vitstudy.study import Cell

CIFAR = Evidence("cifar")


def test_a_cell_without_a_seed_is_the_first_seeds():
    assert CIFAR.cell("cifar10", "vtp-r0.1") == Cell("cifar", "cifar10", "vtp-r0.1", 0)
    assert CIFAR.cell("cifar10", "vanilla", 2) == Cell("cifar", "cifar10", "vanilla", 2)


def test_a_table_that_the_papers_do_not_have_is_an_error():
    assert [CIFAR.dataset(table) for table in (1, 2)] == ["cifar10", "cifar100"]
    with pytest.raises(UserError, match="table"):
        CIFAR.dataset(0)


def test_records_are_of_successes_and_attempts_of_failures_too(add):
    add("cifar", "cifar10", "vanilla", 0, accuracy=0.9)
    add("cifar", "cifar10", "vanilla", 1, status="failed", error="NaN")
    assert list(CIFAR.records("cifar10", "vanilla")) == [0]
    statuses = [each and each.status for each in CIFAR.attempts("cifar10", "vanilla").values()]
    assert statuses == ["done", "failed", None]
    assert CIFAR.record("cifar10", "vanilla").accuracy == 0.9
    assert CIFAR.record("cifar10", "vanilla", 1) is None


def test_a_mean_is_over_the_seeds_that_are_done(add):
    add("cifar", "cifar10", "vanilla", 0, accuracy=0.9, steps=10)
    add("cifar", "cifar10", "vanilla", 2, accuracy=0.92, steps=30)
    assert CIFAR.accuracy("cifar10", "vanilla") == pytest.approx(91)
    assert CIFAR.mean("cifar10", "vanilla", "steps") == 20
    assert CIFAR.accuracy("cifar10", "dynamic") is None


def test_seeds_beyond_the_profiles_are_read_where_they_are_asked_for(add):
    evidence = Evidence("cifar-cpu")
    for seed in (0, 1, 2):
        add("cifar-cpu", "cifar10", "vanilla", seed)
    assert list(evidence.records("cifar10", "vanilla")) == [0]
    assert list(evidence.records("cifar10", "vanilla", (0, 2, 5))) == [0, 2]


def test_files_beside_a_record_are_read_and_absent_ones_are_empty(add, add_predictions):
    add("cifar", "cifar10", "vanilla")
    cell = CIFAR.cell("cifar10", "vanilla")
    add_predictions(cell, [1, 2, 3], [1, 2, 4])
    assert CIFAR.predictions("cifar10", "vanilla")["classes"][:, 0].tolist() == [1, 2, 4]
    assert CIFAR.analysis("cifar10", "vanilla") == CIFAR.analyses("vanilla") == {}
    cell.analysis_path.parent.mkdir(parents=True)
    np.savez(cell.analysis_path, step=np.array([2.0]))
    assert CIFAR.analysis("cifar10", "vanilla")["step"] == 2
    assert list(CIFAR.analyses("vanilla")) == ["cifar10"]


def test_a_size_and_a_speed_are_shares_of_vanillas(add, add_speed):
    add("digits", "digits", "vanilla", size_mib=2.0)
    add("digits", "digits", "dynamic", size_mib=0.5)
    evidence = Evidence("digits")
    assert evidence.size_share("digits", "dynamic") == pytest.approx(25)
    assert evidence.cpu_ratio("digits", "dynamic") is None
    add_speed("digits", {"digits/vanilla/seed0": (8, 1), "digits/dynamic/seed0": (12, 1.5)})
    assert evidence.cpu_ratio("digits", "dynamic") == 1.5


def test_what_is_missing_is_what_the_profile_computes(add):
    add("digits", "digits", "vanilla")
    missing = Evidence("digits").missing(["vanilla", "no-such-method"])
    assert list(map(str, missing)) == ["digits/digit-pairs/vanilla/seed0"]


def test_without_a_record_that_is_needed_the_command_that_makes_it_is_said(add):
    evidence = Evidence("digits")
    with pytest.raises(UserError) as error:
        evidence.needed("vanilla")
    assert str(error.value) == (
        "no record of vanilla on the profile digits; make it with "
        "'python -m vitstudy run \"digits/*/vanilla\"'"
    )
    add("digits", "digits", "vanilla")
    assert evidence.needed("vanilla") == [evidence.cell("digits", "vanilla")]
