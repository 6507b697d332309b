"""The manifest says what a profile's records took, from the records alone."""

import json

import pytest

from vitstudy import methods, profiles, study
from vitstudy.errors import UserError
from vitstudy.report import manifest


def wanted(profile: str) -> list[study.Cell]:
    """The cells that a profile says are not measured where it has none."""
    cells = study.cells(profile, not_installed=True)
    return [cell for cell in cells if methods.get(cell.method).tier != "survey"]


def test_a_manifest_sums_what_the_records_say(add, home):
    add("cifar-cpu", "cifar10", "vanilla", seconds=100.0, commit="abc", cpu="one", threads=1)
    given = {"energy_joules": {"package-0": 5.0}, "created": "2026-01-02T00:00:00+00:00"}
    add("cifar-cpu", "cifar10", "dynamic", seconds=2.5, commit="abd", cpu="one", **given)
    add("cifar-cpu", "cifar100", "vanilla", status="failed", error="nan")
    found = manifest.manifest("cifar-cpu")
    assert found["seconds"] == 102.5
    assert found["commits"] == ["abc", "abd"] and found["cpus"] == ["one"]
    assert found["energy"] == manifest.ENERGY
    assert set(found["cells"]) == {"cifar10/vanilla/seed0", "cifar10/dynamic/seed0"}
    assert found["cells"]["cifar10/dynamic/seed0"]["energy_joules"] == {"package-0": 5.0}
    assert "energy_joules" not in found["cells"]["cifar10/vanilla/seed0"]
    cells = {str(cell) for cell in wanted("cifar-cpu")}
    assert set(found["not_measured"]) == cells - {
        "cifar-cpu/cifar10/vanilla/seed0",
        "cifar-cpu/cifar10/dynamic/seed0",
    }


def test_what_was_computed_side_by_side_is_elapsed_once(add):
    at = "2026-01-02T00:{}+00:00".format
    # Ten minutes to 00:20; within them, four; half beside it, half before; and one apart.
    for key, seconds, created in (
        ("vanilla", 600.0, at("20:00")),
        ("dynamic", 240.0, at("16:00")),
        ("fq-vit", 300.0, at("12:30")),
        ("lsq-w4", 60.0, at("30:00")),
    ):
        add("cifar-cpu", "cifar10", key, seconds=seconds, created=created)
    found = manifest.manifest("cifar-cpu")
    assert found["elapsed_seconds"] == 600 + 150 + 60
    assert found["seconds"] == 1_200


def test_energy_that_no_counter_gave_is_said_not_guessed(add):
    add("cifar-cpu", "cifar10", "vanilla", seconds=1.0)
    assert manifest.manifest("cifar-cpu")["energy"] == manifest.NO_ENERGY


def test_a_profile_without_records_has_a_manifest_of_nothing(home):
    found = manifest.manifest("cifar")
    assert found["cells"] == {} and found["seconds"] == 0 and found["first"] is None
    assert len(found["not_measured"]) == len(wanted("cifar"))


def test_a_surveyed_method_counts_once_it_is_measured(add):
    before = manifest.manifest("cifar-cpu")["not_measured"]
    assert not [name for name in before if "hydra" in name]
    add("cifar-cpu", "cifar10", "hydra", seconds=1.0)
    found = manifest.manifest("cifar-cpu")
    assert list(found["cells"]) == ["cifar10/hydra/seed0"] and found["not_measured"] == before


def test_it_is_written_as_json(add, home):
    add("cifar-cpu", "cifar10", "vanilla", seconds=1.0)
    manifest.write("cifar-cpu")
    written = json.loads((home / "results/cifar-cpu/manifest.json").read_text())
    assert written == manifest.manifest("cifar-cpu")


def test_an_unknown_profile_is_refused(home):
    with pytest.raises(UserError, match="smok"):
        manifest.manifest("smok")


def test_how_much_of_a_network_is_its_stem_by_hand():
    # Six convolutions of 3 x 3 hold 314,208 weights and 960 of their norms, of 855,082 in all.
    parameters, macs = manifest.stem_share("cifar-cpu")
    assert parameters == pytest.approx(315_168 / 855_082)
    assert macs == pytest.approx(38_633_472 / 77_039_872)
    # Linear patches of ViT-B/16, with their bias.
    assert manifest.stem_share("paper")[0] == pytest.approx(590_592 / 85_806_346)


def test_what_a_profile_computes_by_name_only_is_not_computed_until_it_has_a_record(add):
    absent = manifest.not_computed("digits")
    assert "lsq-w8" in absent and not {"vanilla", "dynamic", "rounded-w4"} & set(absent)
    computed = methods.computed(profiles.get("digits").tiers)
    every = (*methods.METHODS, *methods.VARIANTS, *methods.SURVEYED)
    assert len(absent) + len([row for row in every if row.key in computed]) == len(every)
    add("digits", "digits", "lsq-w8")
    assert [key for key in absent if key not in manifest.not_computed("digits")] == ["lsq-w8"]
