"""Fine-tuning of other methods under a teacher."""

from dataclasses import replace

import pytest
import torch
from commands import invoke, one_line

from vitstudy import methods, models, study
from vitstudy.distillation import taught
from vitstudy.study import Cell


def cell(key):
    return Cell("smoke", "digits", key, 0)


@pytest.mark.parametrize(
    "key", ["taught", "lsq-w4+taught", "vtp-r0.2+taught", "nystrom-m32+taught"]
)
def test_the_teacher_changes_the_training_and_nothing_else(in_smoke, key):
    alone = "continued" if key == "taught" else key.removesuffix("+taught")
    told, plain = study.read(cell(key)), study.read(cell(alone))
    assert (told.steps, told.parameters, told.macs) == (plain.steps, plain.parameters, plain.macs)
    assert abs(told.size_bytes - plain.size_bytes) < 100
    assert {*told.layers_touched} == {*plain.layers_touched}
    one, other = (models.load(cell(each).artifact_path) for each in (key, alone))
    assert not torch.equal(one.blocks[0].norm1.weight, other.blocks[0].norm1.weight)


def test_only_methods_that_learn_from_labels_alone_are_taught():
    rows = [each for each in methods.available() if each.module == taught.__name__]
    assert len(rows) == 4
    assert {row.options["method"] for row in rows} == set(taught.METHODS)


def test_a_temperature_of_nought_is_one_line(with_cells, monkeypatch):
    with_cells("vanilla", "teacher")
    row = methods.get("taught")
    changed = replace(row, config=replace(row.config, temperature=0.0))
    rows = [changed if each.key == row.key else each for each in methods.VARIANTS]
    monkeypatch.setattr(methods, "VARIANTS", tuple(rows))
    assert "temperature τ is 0" in one_line(invoke("run", str(cell("taught"))))
