"""The list of the papers' rows."""

import importlib

import pytest

from vitstudy import methods, profiles, study
from vitstudy.errors import UserError


def test_rows_stand_in_the_papers_order_under_different_keys():
    keys = [method.key for method in methods.METHODS]
    assert len(set(keys)) == len(keys)
    papers = [
        "Vanilla ViT",
        "Dynamic Quantization",
        "FQ-ViT",
        "DIFFQ with LSQ",
        "DIFFQ with diffq",
        "DeiT base",
        "DeiT tiny",
        "ViT-Pruning(r=0.1)",
        "ViT-Pruning(r=0.2)",
        "ViT-Nyströmformer(m=24)",
        "ViT-Nyströmformer(m=32)",
        "ViT-Nyströmformer(m=64)",
        "DeiT base + Dynamic Quantization",
    ]
    titles = [method.title for method in methods.METHODS]
    assert [title for title in titles if title in papers] == papers


def test_published_numbers_that_the_papers_argue_from():
    rows = {method.key: method.published for method in methods.METHODS}
    assert rows["vanilla"][0] == methods.Published(98.94, 4.48, 0.050, 327)
    assert rows["dynamic"][1] == methods.Published(90.87, None, 0.122, 84)
    # The same model's size is printed differently in the two tables, here alone.
    assert [each.size for each in rows["vtp-r0.2"]] == [254, 272]


@pytest.mark.parametrize("method", methods.available(), ids=lambda each: each.key)
def test_a_row_that_can_be_measured_has_its_functions_and_its_parents(method):
    assert callable(importlib.import_module(method.module).compress)
    packer = importlib.import_module(method.packer)
    assert callable(packer.pack) and callable(packer.unpack)
    for parent in method.parents:
        assert methods.get(parent).module
    assert methods.get(method.key) is method


def test_a_method_that_the_study_does_not_have_is_refused_naming_those_it_has():
    with pytest.raises(UserError, match=r"unknown method 'nope'; valid: vanilla, dynamic"):
        methods.get("nope")


def test_cells_come_after_their_parents_in_every_profile():
    for name in profiles.PROFILES:
        seen = set()
        for cell in study.cells(name):
            assert seen >= set(cell.parents())
            seen.add(cell)
        known = profiles.get(name)
        here = {each.key for each in methods.available() if not methods.not_installed(each)}
        here -= set() if known.sweep else {each.key for each in methods.SWEEP}
        sets = len(set(known.datasets) - set(known.leaves_out_data))
        seeds = len(here - set(known.leaves_out)) * len(known.seeds) + len(known.vanilla_seeds)
        assert len(seen) == sets * seeds


def test_variants_and_controls_stand_beneath_a_row_of_the_papers():
    rows, keys = {row.key for row in methods.METHODS}, [each.key for each in methods.VARIANTS]
    beneath = (*methods.VARIANTS, *methods.SWEEP)
    assert not rows & {each.key for each in beneath}
    assert len({each.key for each in beneath}) == len(beneath)
    for each in beneath:
        assert each.beneath in rows and each.published is None and each.module and each.note
    assert sorted(keys) == sorted(e.key for row in rows for e in methods.beneath(row))
    assert not any(row.beneath for row in methods.METHODS)


def test_a_profile_leaves_out_variants_alone_and_none_that_another_starts_from():
    variants = {each.key for each in methods.VARIANTS}
    for profile in profiles.PROFILES.values():
        assert variants >= set(profile.leaves_out)
        parents = {cell.method for each in study.cells(profile.name) for cell in each.parents()}
        assert not parents & set(profile.leaves_out)
        everything = study.cells(profile.name, left_out=True)
        less = profile.leaves_out or not profile.sweep
        assert set(everything) > set(study.cells(profile.name)) or not less


def test_a_point_of_the_sweep_is_computed_where_the_profile_has_the_sweep_or_by_name():
    points = {each.key for each in methods.SWEEP}
    assert {cell.method for cell in study.cells("digits")} > points
    assert not {cell.method for cell in study.cells("smoke")} & points
    assert [cell.method for cell in study.select(["smoke/digits/lsq-w3"])] == ["lsq-w3"]


def test_fine_tuning_and_its_control_train_as_long():
    tuned = [each for each in methods.available() if each.options.get("steps")]
    assert "continued" in {each.key for each in tuned} and len(tuned) > 3
    assert {(each.options["steps"], each.options["rate"]) for each in tuned} == {
        tuple(methods.FINE_TUNING.values())
    }
