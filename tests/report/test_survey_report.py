"""What notebook 09 says of the study's own rows, and the fields in which a reader re-ranks."""

import math

import pytest
from test_notebook import Shell

from vitstudy.report import notebook, survey, survey_own
from vitstudy.survey import audit, counted


@pytest.fixture
def shown(monkeypatch):
    """Everything that a notebook would display."""
    found = []
    monkeypatch.setattr(notebook, "display", lambda each, **options: found.append(each))
    return found


def measured(bits, size, parameters=25_000, macs=1_000_000, **given):
    return {
        "weight_bits": bits,
        "activation_bits": bits,
        "size_bytes": size,
        "parameters": parameters,
        "macs": macs,
        **given,
    }


def test_own_rows_are_against_vanilla_by_two_four_and_five_metrics(add, home):
    from vitstudy import files

    add("digits", "digits", "vanilla", **measured(32, 100_000))
    add("digits", "digits", "dynamic", **measured(8, 50_000))
    add("digits", "digits", "fq-vit", **measured(8, 30_000, simulated=True))
    found = {
        f"digits/{key}/seed0": {
            "artifact_sha256": "a" * 64,
            "latency_ms_p50": milliseconds,
            "images_per_second": 1_000 / milliseconds,
        }
        for key, milliseconds in (("vanilla", 2.0), ("dynamic", 4.0))
    }
    run = {"started": "today", "device": "cpu", "models": found}
    files.write_json(files.results("digits") / "speed.json", {"runs": [run]})
    rows = survey_own.rows("digits", 1).set_index("key")
    assert list(rows.loc["vanilla", ["two", "four", "five"]]) == pytest.approx([100, 100, 100])
    # (1 + 1 + 8/32 + 50/100) / 4, and with 4 ms against 2 ms as the fifth
    assert rows.loc["dynamic", "four"] == pytest.approx(68.75)
    assert rows.loc["dynamic", "five"] == pytest.approx(100 * (2.75 + 2) / 5)
    assert math.isnan(rows.loc["fq-vit", "five"])
    assert rows.loc["fq-vit", "note"] == "simulated: no latency"
    text = survey_own.readable(survey_own.rows("digits", 1))
    assert text.loc[text["Model"] == "FQ-ViT", "EER: and latency"].iloc[0] == ""


def test_a_row_that_was_not_timed_says_so(add):
    add("digits", "digits", "vanilla", **measured(32, 100_000))
    rows = survey_own.rows("digits", 1)
    assert list(rows["note"]) == ["latency not measured"]
    said = survey_own.conclusion("digits", {1: rows})
    assert "nothing but vanilla has a record" in said


def test_without_vanilla_there_is_nothing_to_hold_the_rows_against(home):
    rows = survey_own.rows("digits", 1)
    assert rows.empty and survey_own.readable(rows).empty
    assert "not even vanilla" in survey_own.conclusion("digits", {1: rows})


@pytest.mark.parametrize("number", range(1, 11))
def test_tables_for_a_reader_have_every_row_and_no_column_of_ours(number):
    frame = survey.shown(number)
    assert len(frame) > 3
    assert not {"line", "basis", "estimated"} & set(frame)
    assert not [name for name in frame if name.endswith("_source")]


def test_inferred_and_missing_cells_of_table_5_are_marked():
    frame = survey.shown(5)
    assert (frame["Top-1 [%]"] == "?").sum() == 6
    assert (frame["Top-1 [%]"] == "(82.3)").sum() == 1
    assert frame["Size [MB]"].str.endswith("*").sum() == 6


def test_counts_of_verdicts_sum_to_the_rows():
    found = audit.audit()
    table = survey.verdicts(found, "table")
    assert table.iloc[-1]["all"] == len(found)
    parts = table.drop(columns=["table", "all"]).sum(axis=1)
    assert (parts == table["all"]).all()


def test_a_timing_is_told_with_the_machine_it_ran_on():
    timed = {
        "models": {
            counted.REFERENCE: {"latency_ms_p50": 10.0, "images_per_second": 100.0},
            "deit_tiny_patch16_224": {"latency_ms_p50": 2.0, "images_per_second": 500.0},
        },
        **{"cpu": "a CPU", "threads": 2, "torch": "2", "rounds": 3, "batch": 4},
        **{"image_size": 224, "load_before": 0.1},
    }
    assert "2 networks, timed in turn on a CPU, 2 threads" in survey.speed_conditions(timed)
    frame = survey.readable_latency(counted.read(), timed)
    assert list(frame["Network"]) == ["deit_tiny_patch16_224", counted.REFERENCE]


def test_fields_call_once_with_what_is_set_where_nobody_is_there(shown, monkeypatch):
    monkeypatch.setattr(notebook, "get_ipython", lambda: None)
    called = []
    notebook.fields(lambda **given: called.append(given), {"size": 0.5}, {"size at most": 50})
    assert called == [{"size": 0.5, "size at most": 50}] and shown == []


def test_fields_are_widgets_in_a_front_end(shown, monkeypatch):
    import ipywidgets

    monkeypatch.setattr(notebook, "get_ipython", lambda: Shell({"cellId": "rank"}))
    notebook.fields(lambda **given: None, {"size": 0.5}, {"size at most": 50})
    box = next(each for each in shown if isinstance(each, ipywidgets.VBox))
    sliders, numbers = box.children[0].children
    assert (sliders.children[0].value, numbers.children[0].value) == (0.5, 50)
