"""`survey` and `rank` from outside: what they leave, and one line for bad input."""

import os

import pandas as pd
import pytest
from commands import invoke, one_line

from vitstudy import files
from vitstudy.survey import tables


def test_survey_makes_the_committed_files_again(home):
    done = invoke("survey")
    assert done.code == 0, done.err
    made, committed = home / "results/survey", files.REPOSITORY / "results/survey"
    for name in ("eer_audit.csv", "claims.csv", "fronts.csv"):
        assert (made / name).read_text() == (committed / name).read_text(), name
    drawn = {path.name for path in (home / "figures/survey").iterdir()}
    committed = {path.name for path in (files.REPOSITORY / "figures/survey").iterdir()}
    assert drawn == committed and len(drawn) == 16
    audit = pd.read_csv(made / "eer_audit.csv")
    expected = ["table", "row", "model", "printed_eer", "recomputed_eer", "difference"]
    assert list(audit)[:8] == [*expected, "verdict", "note"]


def test_a_table_without_a_column_is_one_line_and_nothing_is_written(home, copied):
    folder = copied(7, "PTQ4ViT-Swin-T", "size_MB", "21.7")
    path = tables.path(7, folder)
    path.write_text(path.read_text().replace("size_MB", "size"))
    line = one_line(invoke("survey", "--data", str(folder)))
    assert "table_07.csv has no column 'size_MB'" in line
    assert os.listdir(home) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["survey", "--data", "nowhere"], "table_02.csv is absent"),
        (["survey", "--speed", "--only", "resnet50"], "unknown surveyed network 'resnet50'"),
        (["survey", "--rounds", "0"], "--rounds"),
        (["rank", "--weight", "watts=1"], "unknown metric 'watts'"),
        (["rank", "--reference", "size=0"], "the reference of size is 0"),
        (["rank", "--limit", "size"], "'size' is no NAME=VALUE"),
        (["rank", "--weight", "latency=1"], "survey --speed"),
        (["rank", "--top1", "many"], "--top1"),
    ],
    ids=" ".join,
)
def test_bad_input_ends_in_one_line_with_code_2_and_nothing_written(
    home, monkeypatch, arguments, told
):
    monkeypatch.setattr("vitstudy.survey.counted.read_speed", lambda: None)
    assert told in one_line(invoke(*arguments))
    assert os.listdir(home) == []


def test_rank_shows_who_keeps_the_limits():
    done = invoke("rank", "--limit", "size=50", "--top1", "82", "--rows", "3")
    assert done.code == 0
    lines = done.out.splitlines()
    assert "NoisyQuant-PTQ4ViT-Swin-S W6A6" in lines[1]
    assert len(lines) == 5 and lines[-1].endswith("models keep the limits")
