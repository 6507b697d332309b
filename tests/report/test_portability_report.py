import pandas as pd
import pytest

from vitstudy import files, portability
from vitstudy.report import bands
from vitstudy.report import portability as report


def row(what, method, flips, against="avx2", difference=0.5):
    return {
        **{"what": what, "dataset": "digits", "method": method, "instructions": "default"},
        **{"against": against, "of": "logits", "largest_difference": difference},
        **{"flips": flips, "images": 360, "cpu": "a CPU"},
    }


@pytest.fixture
def reference(tmp_path, monkeypatch):
    monkeypatch.setattr(bands, "REFERENCE", tmp_path / "reference.json")
    return bands.REFERENCE


def test_the_prose_has_the_worst_of_float_and_of_what_rounds(home, reference):
    rows = [
        row("artifact", "vanilla", 0, difference=1e-5),
        row("artifact", "dynamic", 2),
        row("artifact", "fq-vit", 5),
        row("record", "vanilla", 1, against="another (2 cores, AVX512)"),
    ]
    files.write_csv(portability.path("digits"), portability.COLUMNS, rows)
    told = report.says("digits")
    assert "at most 0 of 360 answers of the float model and at most 5 of 360 answers of" in told
    assert "(FQ-ViT)" in told
    assert "another kind of machine (profile digits) changes at most 1 of 360 answers" in told
    name, frame = report.table("digits")
    shown = report.readable(frame)
    assert name == "digits" and list(shown["Answers that differ"])[2] == "5 of 360"
    assert shown["Which"].iloc[0] == "none (default)" and "AVX512" in shown["Which"].iloc[3]


def test_a_profile_without_a_table_shows_that_of_the_evidence_or_says_how_to_make_one(
    home, reference
):
    assert "python -m vitstudy portability smoke" in report.says("smoke")
    assert len(report.table("smoke")[1]) == 0
    rows = [row("artifact", "vanilla", 3)]
    files.write_csv(portability.path(report.EVIDENCE), portability.COLUMNS, rows)
    assert report.table("smoke")[0] == report.EVIDENCE


def test_instruction_sets_are_told_beside_seeds(home, reference):
    taken = [
        {"seed": seed, "instructions": name, "cpu": "a CPU", "torch": "2", "value": value}
        for seed, name, value in (
            *((0, "default", 98.0), (0, "avx2", 98.5)),
            *((1, "default", 97.0), (1, "avx2", 97.25)),
        )
    ]
    files.write_json(reference, {"00_baselines": {"accuracy digits, %": taken}})
    told = report.says("digits")
    assert "0.50 points apart on other processors" in told
    assert "1.25 points apart from other seeds" in told
    wide = report.readable_recipe(report.recipe("digits"))
    assert list(wide["seed 1, %"]) == [97.0, 97.25]
    assert report.readable_recipe(pd.DataFrame(columns=portability.RECIPE_COLUMNS)).empty


def test_other_profiles_have_their_records_seeds(add, reference):
    for seed, accuracy in ((0, 0.80), (1, 0.81), (2, 0.83)):
        cpu = "AMD EPYC (2 cores, AVX512)"
        add("cifar-cpu", "cifar10", "vanilla", seed=seed, accuracy=accuracy, cpu=cpu)
    found = report.recipe("cifar-cpu")
    assert list(found["accuracy"]) == [80.0, 81.0, 83.0]
    assert set(found["instructions"]) == {"avx512"} and set(found["cpu"]) == {"AMD EPYC"}
    assert "ends up to 3.00 points apart from other seeds" in report.says("cifar-cpu")
