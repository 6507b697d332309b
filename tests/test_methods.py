"""The list of the papers' rows."""

import importlib
import subprocess
import sys

import pytest

from vitstudy import methods, profiles, protocol, study
from vitstudy.attention import replace
from vitstudy.attention.configs import Replacement
from vitstudy.errors import UserError
from vitstudy.methods import published
from vitstudy.quantization.configs import LSQ

COMPUTED = {name: methods.computed(known.tiers) for name, known in profiles.PROFILES.items()}


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


def test_what_the_papers_print_is_of_their_rows_alone():
    assert list(published._papers()) == [method.key for method in methods.METHODS]
    for method in methods.METHODS:
        assert method.published == published.by_papers(method.key)


def test_what_the_survey_prints_of_a_method_is_in_its_tables():
    named = [method for method in methods.available() if method.survey_model]
    assert {"hydra", "deit-base", "deit-tiny"} <= {method.key for method in named}
    for method in named:
        assert published.by_survey(method.survey_model)
    assert published.by_survey("DeiT-B")["4"]["top1_percent"] == "83.4"
    assert published.by_survey("Hydra Attention").keys() == {"1"}
    assert published.by_survey("no such model") == {}


def test_settings_that_are_misspelt_or_missing_are_no_entry():
    with pytest.raises(TypeError, match="weight_bit"):
        LSQ(weight_bit=4)
    with pytest.raises(TypeError, match="weight_bits"):
        LSQ()


def test_settings_of_plain_rounding_name_nothing_that_only_training_reads():
    assert methods.get("rounded-w4").options.keys().isdisjoint(LSQ.of_training)
    assert methods.get("lsq-w4").options.keys() >= {"rate", "step_range"}


def test_every_attention_has_the_settings_that_its_entry_gives_it():
    for method in methods.SURVEYED:
        if isinstance(method.config, Replacement):
            assert replace.named(method.config.attention, **method.config.settings)


def test_the_list_is_read_without_torch():
    code = "import sys, vitstudy.methods; print({'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("method", methods.available(), ids=lambda each: each.key)
def test_a_row_that_can_be_measured_has_its_functions_and_its_parents(method):
    module, packer = map(importlib.import_module, (method.module, method.packer))
    assert isinstance(module, protocol.Method) and isinstance(packer, protocol.Packer)
    assert isinstance(module, protocol.LearnsBits) or method.weight_bits is not None
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
        here = {key for key in COMPUTED[name] if not methods.not_installed(methods.get(key))}
        sets = len(set(known.datasets) - set(known.leaves_out_data))
        assert len(seen) == sets * (len(here) * len(known.seeds) + len(known.vanilla_seeds))


def test_variants_and_controls_stand_beneath_a_row_of_the_papers():
    rows, keys = {row.key for row in methods.METHODS}, [each.key for each in methods.VARIANTS]
    beneath = (*methods.VARIANTS, *methods.SWEEP)
    assert not rows & {each.key for each in beneath}
    assert len({each.key for each in beneath}) == len(beneath)
    for each in beneath:
        assert each.beneath in rows and each.published is None and each.module and each.note
    assert sorted(keys) == sorted(e.key for row in rows for e in methods.beneath(row))
    assert not any(row.beneath for row in methods.METHODS)


def test_a_surveyed_method_is_a_row_of_its_own():
    for each in methods.SURVEYED:
        assert each.tier == "survey" and not each.beneath and each.published is None
        assert each.module and each.reference and each.note
    assert not {each.key for each in methods.SURVEYED} & {each.key for each in methods.METHODS}


def test_the_papers_rows_and_they_alone_are_of_the_first_tier():
    for method in methods.available():
        assert method.tier in methods.TIERS
        assert (method.tier == "paper") == (method in methods.METHODS)
    assert {method.tier for method in methods.SWEEP} == {"sweep"}


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_a_profile_computes_its_tiers_and_all_that_they_start_from(name):
    known, computed = profiles.get(name), {cell.method for cell in study.cells(name)}
    assert set(known.tiers) <= set(methods.TIERS)
    for method in methods.available():
        if method.tier in known.tiers and not methods.not_installed(method):
            assert {method.key, *method.parents} <= computed
    everything = {cell.method for cell in study.cells(name, left_out=True)}
    assert everything - computed == {
        each.key for each in methods.available() if each.key not in COMPUTED[name]
    }


def test_what_a_tier_starts_from_is_computed_whatever_its_own_tier():
    assert {"teacher", "vtp-gates", "vtp-r0.1-cut"} <= methods.computed(("paper",))
    assert "soft-t8" not in methods.computed(("paper", "control"))


def test_a_method_of_another_tier_is_computed_by_name():
    assert "lsq-w3" not in {cell.method for cell in study.cells("smoke")}
    assert [cell.method for cell in study.select(["smoke/digits/lsq-w3"])] == ["lsq-w3"]


def test_fine_tuning_and_its_control_train_as_long():
    tuned = [each for each in methods.available() if each.options.get("steps")]
    assert "continued" in {each.key for each in tuned} and len(tuned) > 3
    assert {(each.options["steps"], each.options["rate"]) for each in tuned} == {
        tuple(methods.FINE_TUNING.values())
    }
