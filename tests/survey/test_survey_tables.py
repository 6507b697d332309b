"""The survey's tables: counted and summed apart from how they were written down."""

from collections import Counter

import pytest

from vitstudy.errors import UserError
from vitstudy.survey import tables
from vitstudy.survey.eer import eer, mean_bits, quantities

ROWS = {1: 32, 2: 40, 3: 23, 4: 24, 5: 27, 6: 28, 7: 22, 8: 4, 9: 15, 10: 18}
# Printed cells and their sum, taken column by column from the survey's text with awk.
SUMS = {
    2: {"parameters_M": (39, 1686.80), "flops_G": (40, 288.73), "top1_percent": (40, 3277.80)}
    | {"eer_percent": (39, 1775.40)},
    3: {"parameters_M": (23, 1007.70), "flops_G": (23, 139.70), "top1_percent": (23, 1867.70)}
    | {"eer_percent": (23, 984.80)},
    4: {"parameters_M": (24, 659.40), "flops_G": (22, 144.20), "top1_percent": (24, 1943.50)}
    | {"eer_percent": (22, 774.10)},
    5: {"weight_bits": (27, 174), "activation_bits": (27, 174), "size_MB": (27, 1496.60)},
    6: {"weight_bits": (28, 178), "activation_bits": (28, 178), "size_MB": (28, 1038.20)}
    | {"top1_percent": (28, 2038.10), "eer_percent": (28, 431.50)},
    7: {"weight_bits": (22, 144), "activation_bits": (22, 144), "size_MB": (22, 1101.90)}
    | {"top1_percent": (22, 1807.80), "eer_percent": (22, 391.70)},
    8: {"size_MB": (4, 354.00), "parameters_M": (4, 160.00), "flops_G": (4, 28.80)}
    | {"top1_percent": (4, 334.90), "eer_category_percent": (4, 99.3), "eer_all_percent": (4, 193)},
    9: {"parameters_M": (15, 951.80), "ap_box": (15, 666.40), "ap_mask": (15, 608.10)},
    10: {"parameters_M": (18, 943.20), "miou_percent": (18, 803.20)},
}
# What stands in the one column that the damaged Table 5 has for Top-1 and EER, and the two
# accuracies that stand where its last two lines have their sizes; in the order of the text.
LOOSE = """75.2 75.5 76.9 76.4 78.6 81.6 81.0 15.8 17.6 47.9 41.4 38.6 67.2 11.9 59.4 72.3 19.2 69.5
79.1 11.9 74.8 13.3 15.8 84.3 25.6 78.6 19.2 82.3 15.8 84.2 11.9""".split()


@pytest.mark.parametrize("number", tables.NUMBERS)
def test_a_table_has_every_printed_row_in_the_order_of_the_text(number):
    frame = tables.load(number)
    assert len(frame) == ROWS[number]
    assert tuple(frame) == tables.COLUMNS[number]
    assert frame["line"].is_monotonic_increasing and frame["line"].is_unique


@pytest.mark.parametrize("number", SUMS)
def test_columns_sum_to_what_the_text_sums_to(number):
    frame = tables.load(number)
    for column, (count, total) in SUMS[number].items():
        assert frame[column].notna().sum() == count, column
        assert frame[column].sum() == pytest.approx(total, abs=1e-6), column


@pytest.mark.parametrize(
    ("number", "row", "cells"),
    [
        (2, 0, ["PVT-Tiny", "13.2", "1.9", "75.1", "13.0"]),
        (2, 28, ["Flowformer", "", "6.3", "80.6", ""]),
        (3, 0, ["VTP-DeiT-B (τ=0.2)", "86.4", "13.8", "81.3", "88.5"]),
        (4, 12, ["CivT-Ti", "6", "", "74.9", ""]),
        (6, 12, ["APQ-ViT-DeiT-Ti", "8", "4", "3.7", "yes", "56.3", "9.9"]),
        (7, 18, ["NoisyQuant-PTQ4ViT-Swin-B", "6", "6", "66.0", "no", "84.7", "19.4"]),
        (9, 12, ["XCiT-T12/16→SimA", "44.3", "44.8", "40.3"]),
        (10, 16, ["Ortho-S", "UperNet", "54", "48.5"]),
    ],
)
def test_cells_are_as_printed(number, row, cells):
    assert list(tables.printed(number).iloc[row])[: len(cells)] == cells


def test_sizes_are_estimated_where_the_survey_puts_its_star():
    starred = {
        number: (tables.printed(number)["estimated"] == "yes").sum() for number in range(5, 9)
    }
    assert starred == {5: 6, 6: 6, 7: 0, 8: 0}


def test_table_5_uses_every_number_of_the_text_once_and_invents_none():
    frame = tables.printed(5)
    used = Counter()
    for column in ("top1", "eer"):
        sources = frame[f"{column}_source"]
        values, lines = frame[f"{column}_percent"], frame[f"{column}_line"]
        assert set(sources) <= {"printed", "inferred", "missing"}
        assert (values[sources == "missing"] == "").all()
        assert (values[sources != "missing"] != "").all()
        own = sources == "printed"
        assert (lines[own] == frame["line"][own]).all()
        used.update(values[lines != ""])
    assert used == Counter(LOOSE)
    inferred = (frame["top1_source"] == "inferred") | (frame["eer_source"] == "inferred")
    assert (frame["basis"][inferred] != "").all()


def test_every_eer_of_table_5_is_the_one_that_bits_and_size_give():
    for row in tables.load(5).to_dict("records"):
        bits = mean_bits(row["weight_bits"], row["activation_bits"])
        value = eer(quantities(bits=bits, size=row["size_MB"]))
        assert row["eer_percent"] == pytest.approx(value, abs=0.07), row["model"]


def test_table_1_gives_every_model_a_category():
    frame = tables.printed(1)
    assert set(frame["category"]) == {"CA", "CA + Q", "P", "P + KD", "KD", "Q", "Q + P + KD"}
    by_model = frame.set_index("model")["category"]
    assert by_model["EcoFormer"] == "CA + Q" and by_model["Castling-ViT"] == "CA"


def test_half_a_unit_of_the_last_digit():
    assert [tables.half_unit(each) for each in ("29", "4.5", "0.49")] == [0.5, 0.05, 0.005]


def test_a_missing_column_is_one_line(copied):
    folder = copied(2, "Swin-T", "da", "")
    path = tables.path(2, folder)
    path.write_text(path.read_text().replace("flops_G", "flops"))
    with pytest.raises(UserError, match=r"table_02\.csv has no column 'flops_G'; valid: model, "):
        tables.load(2, folder)


def test_a_cell_that_is_no_number_is_one_line(copied):
    folder = copied(2, "Swin-S", "flops_G", "8,7")
    with pytest.raises(UserError, match=r"table_02\.csv, row 6: flops_G is '8,7', no number"):
        tables.load(2, folder)
    with pytest.raises(UserError, match="flops_G is 'nan', no number"):
        tables.load(2, copied_again(folder))


def copied_again(folder):
    path = tables.path(2, folder)
    path.write_text(path.read_text().replace('"8,7"', "nan"))
    return folder


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a,b\n"1,2\n'])
def test_what_is_no_csv_is_one_line(tmp_path, content):
    tables.path(3, tmp_path).write_bytes(content)
    with pytest.raises(UserError, match=r"table_03\.csv (is no CSV table|has no column)"):
        tables.load(3, tmp_path)


def test_an_absent_or_unknown_table_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"table_04\.csv is absent"):
        tables.load(4, tmp_path)
    with pytest.raises(UserError, match="unknown table of the survey '11'"):
        tables.load(11)
