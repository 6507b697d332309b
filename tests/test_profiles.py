"""Profiles: frozen values, and the one difference between the sizes of the study."""

import dataclasses

import pytest

from vitstudy import data, profiles
from vitstudy.errors import UserError


def test_an_unknown_profile_is_refused_and_the_valid_ones_are_named():
    with pytest.raises(UserError) as raised:
        profiles.get("smok")
    for name in ("smok'", "smoke", "digits", "cifar-cpu", "cifar", "cifar224", "paper"):
        assert name in str(raised.value)


def test_profiles_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.get("digits").threads = 4
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.get("digits").architecture.width = 1


@pytest.mark.parametrize("profile", profiles.PROFILES.values(), ids=lambda each: each.name)
def test_a_profile_names_a_10_class_set_a_100_class_set_and_a_recipe_for_each(profile):
    assert profiles.PROFILES[profile.name] is profile
    assert [data.spec(name).num_classes for name in profile.datasets] == [10, 100]
    assert len(profile.recipes) == 2
    assert profile.seeds[0] == 0 and len(set(profile.seeds)) == len(profile.seeds)
    assert profile.architecture.width % profile.architecture.heads == 0
    for dataset in profile.datasets:
        described = profile.describe(dataset)
        assert described["recipe"] == dataclasses.asdict(profile.recipe(dataset))
        assert set(described) == {"architecture", "recipe", "limit", "threads"}


def test_only_what_is_no_evidence_stays_out_of_the_repository():
    assert {p.name for p in profiles.PROFILES.values() if not p.committed} == {"smoke", "digits"}


def test_profiles_that_are_evidence_on_gpus_have_three_seeds():
    assert all(len(profiles.get(name).seeds) == 3 for name in ("cifar", "cifar224", "paper"))


@pytest.mark.parametrize("name", ["smoke", "digits", "cifar-cpu"])
def test_profiles_of_a_cpu_fix_their_threads_since_results_depend_on_them(name):
    assert profiles.get(name).threads >= 1
