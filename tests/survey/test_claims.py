"""The claims: their verdicts follow the tables, so a changed table changes them."""

import pytest

from vitstudy.conditions import FAILS, HOLDS, OPEN, PARTLY, UNTOLD
from vitstudy.survey import claims, judging
from vitstudy.survey.judging import Cell, difference


@pytest.fixture(scope="module")
def found(counts):
    return claims.claims(counted=counts)


def verdict(found, words):
    fits = found[found["claim"].str.contains(words, regex=False)]
    assert len(fits) == 1, words
    return fits.iloc[0]["verdict"]


def test_every_section_is_gone_through_in_the_order_of_the_text(found):
    assert list(found) == claims.COLUMNS
    order = list(dict.fromkeys(found["section"]))
    assert order == ["4", "4.1", "4.2", "4.3", "4.4", "4.5", "6.3"]
    assert len(found) >= 60
    assert set(found["verdict"]) == {HOLDS, PARTLY, UNTOLD, FAILS, OPEN}
    assert not found.duplicated(["section", "claim"]).any()


def test_only_what_has_no_table_cannot_be_checked(found):
    open_ = found[found["verdict"] == OPEN]
    assert (open_["computed"] == "").all() and (open_["note"] != "").all()
    assert (found[found["verdict"] != OPEN]["computed"] != "").all()


# Worked by hand from the survey's tables.
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("MViTv2-L has the highest Top-1", HOLDS),
        ("4.2 times lower than MViTv2-L's", HOLDS),  # 245.5 / 57.8 = 4.25
        ("9.2 times better", HOLDS),  # 245.5 / 26.7 = 9.19
        ("on average 1.8 points above", HOLDS),  # 84.1 - 82.33
        ("29.9 % of Swin's FLOPs", HOLDS),  # 29.96, cut off
        ("51.3 % of DeiT's FLOPs", UNTOLD),  # 51.13
        ("2.6 points of Top-1 on average", HOLDS),
        ("Manifold distillation adds 1.5", HOLDS),
        ("DearKD adds 1.7", HOLDS),
        ("the ViT-B variant is 2.3 points below", UNTOLD),  # 82.3 - 84.7
        ("the DeiT-B variant is 4.0 points below", HOLDS),
        ("1.1 points above TinyViT-21M", FAILS),  # 84.1 - 83.1 = 1.0
        ("is increased by 10.9", FAILS),  # it falls
        ("2.1 above TinyViT-21M's", HOLDS),
        ("21.4 % smaller", HOLDS),
        ("UperNet has 28 M parameters more", PARTLY),  # 26 and 28
        ("5.4 times smaller", HOLDS),
        ("ViT-B/16 is 330 MB", PARTLY),
        ("ViT-B/16 counts 86.6 M", HOLDS),
        ("reaches 83.0 at an EER of 28.9", PARTLY),
        ("Castling-MViTv2-T is the Pareto optimum of accuracy and EER", PARTLY),
        ("unpruned, is more accurate", OPEN),
    ],
)
def test_verdicts_that_were_worked_by_hand(found, words, expected):
    assert verdict(found, words) == expected


@pytest.mark.parametrize(
    ("number", "model", "column", "value", "words", "expected"),
    [
        (2, "PVT-Tiny", "top1_percent", "90.0", "MViTv2-L has the highest Top-1", FAILS),
        (2, "PVT-Tiny", "top1_percent", "85.3", "MViTv2-L has the highest Top-1", PARTLY),
        (2, "MViTv2-L", "eer_percent", "300.0", "4.2 times lower than", FAILS),
        (2, "PVT-Tiny", "top1_percent", "86.0", "is the Pareto optimum of accuracy and", FAILS),
        (4, "DearKD-DeiT-S", "flops_G", "4.4", "both leave #Par. and FLOPs", PARTLY),
        (8, "TinyViT-21M", "top1_percent", "83.0", "1.1 points above TinyViT-21M", HOLDS),
        (8, "NoisyQuant-PTQ4ViT-Swin-B", "eer_all_percent", "34.7", "increased by 10.9", HOLDS),
        (9, "PVT-Tiny", "ap_box", "52.0", "more accurate: box AP", FAILS),
    ],
)
def test_a_changed_table_changes_the_verdict(copied, number, model, column, value, words, expected):
    changed = claims.claims(copied(number, model, column, value))
    assert verdict(changed, words) == expected


@pytest.mark.parametrize(
    ("stated", "first", "second", "expected"),
    [
        ("1.2", 85.3, 84.1, HOLDS),
        ("-1.2", 84.1, 85.3, HOLDS),
        ("1.3", 85.3, 84.1, UNTOLD),  # 1.2 give or take 0.1
        ("-1.2", 85.3, 84.1, FAILS),  # the other way
        ("1.4", 85.3, 84.1, FAILS),
    ],
)
def test_a_number_holds_as_printed_cannot_be_told_within_rounding_and_else_fails(
    stated, first, second, expected
):
    cells = [Cell(first, 0.05), Cell(second, 0.05)]
    assert judging.number(stated, difference, cells).verdict == expected
