"""The claims: what they say of the papers' own tables, and every verdict from made-up records."""

import csv

import numpy as np
import pytest

from vitstudy import profiles
from vitstudy.errors import UserError
from vitstudy.methods import METHODS, VARIANTS
from vitstudy.report import comparison_figures, conditions, style, twice, verdicts
from vitstudy.report.claims import CLAIMS
from vitstudy.report.verdicts import (
    CONSTRUCTED,
    FAILS,
    HOLDS,
    ILLUSTRATES,
    OPEN,
    OTHER_SCALE,
    PARTLY,
    UNTOLD,
)
from vitstudy.study import Cell


@pytest.mark.parametrize(
    ("met", "need", "verdict"),
    [
        ([True, True], "all", HOLDS),
        ([True, False], "all", PARTLY),
        ([True, None], "all", UNTOLD),
        ([True, False, None], "all", PARTLY),
        ([False, None], "all", FAILS),
        ([False, False], "all", FAILS),
        ([None, None], "all", OPEN),
        ([], "all", OPEN),
        ([True, True, False], "most", HOLDS),
        ([True, True, None], "most", HOLDS),
        ([True, False], "most", FAILS),
        ([True, None], "most", UNTOLD),
        ([None, None], "most", OPEN),
        ([True, False, False], "any", HOLDS),
        ([False, False], "any", FAILS),
        ([False, None], "any", OPEN),
        ([], "any", OPEN),
    ],
)
def test_a_verdict_follows_from_what_is_met(met, need, verdict):
    assert verdicts.judge(met, need) == verdict


def test_an_unknown_need_is_an_error():
    with pytest.raises(ValueError, match="valid: all, most, any"):
        verdicts.judge([True], "some")


def test_every_claim_has_its_own_id_and_its_place_in_the_papers():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) > 50
    for claim in CLAIMS:
        assert set(claim.papers.split()) <= {"A", "B", "C"} and claim.papers, claim.id
        assert claim.section and claim.says.endswith("."), claim.id
        assert claim.conditions or claim.note, claim.id
        assert set(claim.tables) <= {1, 2}


def test_claims_ask_for_rows_that_the_study_has_or_awaits():
    known = {method.key for method in (*METHODS, *VARIANTS)}
    conditions = [condition for claim in CLAIMS for condition in claim.conditions]
    asked = {key for condition in conditions for key in (condition.key, condition.base) if key}
    assert asked <= known


def own_verdicts():
    frame = verdicts.claims("smoke")
    return frame.set_index("id")["own_verdict"], frame.set_index("id")["own_tables"]


def test_what_the_papers_own_tables_say_of_their_claims():
    own, text = own_verdicts()
    assert own["dynamic-a-quarter"] == HOLDS  # 84 / 327 = 0.257
    assert own["dynamic-10-to-20"] == FAILS  # 1.24 and 1.31
    assert own["deit-base-twice-as-fast"] == PARTLY  # 1.92 on one CPU, 1.57 to 1.61 elsewhere
    assert own["deit-tiny-four-times"] == HOLDS  # 3.75
    assert own["deit-tiny-6-percent"] == HOLDS  # 21 / 327
    assert own["mixed-twice-as-fast"] == HOLDS  # 2.34 and 2.11
    assert own["mixed-a-quarter"] == HOLDS
    assert own["pruning-rate"] == FAILS  # 8.0 and 7.6 %, 22.3 and 16.8 %
    assert own["pruning-hurts"] == HOLDS
    assert own["pruning-costs-10"] == own["pruning-costs-20"] == HOLDS
    assert own["more-landmarks-better"] == own["more-landmarks-slower"] == HOLDS
    assert own["most-are-faster"] == HOLDS
    assert own["distillation-fastest"] == PARTLY  # DiffQ is faster than DeiT base
    assert own["hundreds-of-millions"] == FAILS
    assert own["attention-small-share"] == HOLDS
    assert own["qat-remedies"] == OPEN
    assert "0.257: met" in text["dynamic-a-quarter"]
    assert "1.24: not met" in text["dynamic-10-to-20"]


@pytest.fixture
def row(add, add_predictions):
    """Write a row of a profile, with so many of 1,000 test images right, the first ones."""

    def write(profile, key, right, tables=(1, 2), **given) -> None:
        labels = np.arange(1_000) % 10
        classes = np.where(np.arange(1_000) < right, labels, (labels + 1) % 10)
        for which in tables:
            dataset = profiles.get(profile).datasets[which - 1]
            add(profile, dataset, key, accuracy=right / 1_000, **given)
            add_predictions(Cell(profile, dataset, key, 0), labels, classes)

    return write


def found(profile):
    return verdicts.claims(profile).set_index("id")


def test_every_verdict_is_reached_from_records_and_costs(row):
    rights = {
        **{"vanilla": 900, "dynamic": 898, "vtp-r0.1": 895},
        **{"fq-vit": 890, "fq-vit-minmax": 850, "fq-vit-w6m3": 700, "fq-vit-w6m3-minmax": 800},
        **{"lsq-w4": 700, "rounded-w4": 800, "rounded-w4-mse": 800},
    }
    for key, right in rights.items():
        row("cifar-cpu", key, right)
    rows = found("cifar-cpu")
    assert rows.at["dynamic-minor-loss", "verdict"] == HOLDS
    assert rows.at["fq-vit-remedies", "verdict"] == PARTLY  # at 8 bits, not at 6
    assert rows.at["low-bits-cheap", "verdict"] == UNTOLD  # DiffQ is not measured
    assert rows.at["qat-remedies", "verdict"] == FAILS
    assert rows.at["pruning-rate", "verdict"] == CONSTRUCTED
    assert "until the share r of all parameters is gone" in rows.at["pruning-rate", "note"]
    assert rows.at["more-landmarks-better", "verdict"] == OPEN
    assert "not measured: nystrom-m32, nystrom-m64" in rows.at["more-landmarks-better", "note"]
    assert rows.at["less-studied", "verdict"] == OPEN
    assert set(rows["standing"]) == {"the papers' data, another network"}


def test_a_shape_is_judged_where_the_claim_is_about_it(row):
    row("cifar-cpu", "vanilla", 900, size_bytes=1_000, parameters=900_000)
    row("cifar-cpu", "dynamic", 898, size_bytes=541)
    rows = found("cifar-cpu")
    assert rows.at["dynamic-a-quarter", "verdict"] == HOLDS
    assert rows.at["dynamic-a-quarter", "measured"] == (
        "Table 1: size, dynamic / vanilla 0.258: met | Table 2: size, dynamic / vanilla 0.258: met"
    )
    assert rows.at["dynamic-a-quarter", "scale"] == "ViT-B/16: size"
    assert rows.at["low-bits-cheap", "scale"] == (
        "ViT-B/16: size, CPU speed; 0.9 M parameters: accuracy"
    )
    assert rows.at["deit-tiny-6-percent", "verdict"] == HOLDS  # 21.10 / 327.34
    assert rows.at["hundreds-of-millions", "verdict"] == FAILS  # 85.8
    assert rows.at["lsq-12-percent", "verdict"] == UNTOLD  # the size holds: 41.86 / 327.34
    assert rows.at["diffq-2-mb", "verdict"] == OPEN
    assert rows.at["deit-tiny-four-times", "verdict"] == OPEN  # of a GPU
    assert rows.at["low-rank-size", "verdict"] == CONSTRUCTED


def test_another_scale_refutes_no_number(row):
    row("cifar-cpu", "vanilla", 900)
    row("cifar-cpu", "vtp-r0.1", 895)
    rows = found("cifar-cpu")
    for claim in ("pruning-costs-10", "pruning-costs-20", "pruning-hurts"):
        assert rows.at[claim, "verdict"] == OPEN
        assert f"not met ({OTHER_SCALE})" in rows.at[claim, "measured"]
    row("cifar-cpu", "vtp-r0.1", 800)  # ten points, by another network: no confirmation either
    assert found("cifar-cpu").at["pruning-costs-10", "verdict"] == OPEN
    row("paper", "vanilla", 990)
    row("paper", "vtp-r0.1", 985)
    assert found("paper").at["pruning-hurts", "verdict"] == FAILS


def test_something_saved_and_little_lost_have_to_be_so_of_one_row(row):
    for key in ("vanilla", "dynamic", "deit-base", "nystrom-m24"):
        row("cifar-cpu", key, 900)
    measured = conditions.Measured("cifar-cpu")
    (claim,) = (each for each in CLAIMS if each.id == "decent-trade-off")
    rows = {}
    for condition in claim.conditions:
        rows.setdefault(condition.joint, []).append(condition)
    assert len(rows) == 12 and all(len(each) == 2 for each in rows.values())
    told = {
        key: [each.region.holds(each.measured(measured, 1)) for each in rows[key]]
        for key in ("dynamic", "deit-base")
    }
    assert told["dynamic"] == [True, True]
    assert told["deit-base"][1] is not False and told["deit-base"][0] is not True  # saves nothing


def test_a_difference_within_chance_decides_nothing(row):
    row("cifar-cpu", "vanilla", 900)
    row("cifar-cpu", "vtp-r0.1", 849)  # 5.1 points less, and the claim is of more than 5
    rows = found("cifar-cpu")
    assert rows.at["pruning-hurts", "finding"] == OPEN
    assert verdicts.WITHIN_CHANCE in rows.at["pruning-hurts", "measured"]


def test_a_row_that_is_not_measured_keeps_a_claim_from_holding(row):
    row("cifar-cpu", "vanilla", 900)
    row("cifar-cpu", "dynamic", 900, tables=(1,))
    rows = found("cifar-cpu")
    assert rows.at["dynamic-minor-loss", "verdict"] == UNTOLD
    assert rows.at["dynamic-minor-loss", "note"].endswith("not measured (Table 2): dynamic")
    # It takes no more to refute an ordering.
    for key, right in (("lsq-w4", 700), ("rounded-w4", 800), ("rounded-w4-mse", 800)):
        row("cifar-cpu", key, right, tables=(1,))
    assert found("cifar-cpu").at["qat-remedies", "verdict"] == FAILS


def test_the_digits_illustrate_and_give_no_verdict_but_on_shapes(row):
    row("digits", "vanilla", 900)
    row("digits", "dynamic", 900)
    rows = found("digits")
    assert rows.at["dynamic-minor-loss", "finding"] == HOLDS
    assert rows.at["dynamic-minor-loss", "verdict"] == ILLUSTRATES
    assert rows.at["dynamic-a-quarter", "verdict"] == HOLDS  # at ViT-B/16, on no data at all
    assert rows["standing"].str.startswith("illustration").all()
    assert "What this profile shows" in verdicts.readable(rows.reset_index())


def test_three_counts_say_what_a_sentence_has_room_for():
    found = {HOLDS: 3, CONSTRUCTED: 1, PARTLY: 2, FAILS: 5, OPEN: 7}
    assert verdicts.three(found) == (4, 2, 5)


def test_the_papers_own_setting_is_named():
    assert verdicts.standing(profiles.get("paper")) == "the papers' own setting"


def test_claims_csv_has_a_row_a_claim_and_is_written_the_same_again(row, home):
    row("cifar-cpu", "vanilla", 900)
    frame = verdicts.write("cifar-cpu")
    path = home / "results/cifar-cpu/tables/claims.csv"
    before = path.read_bytes()
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [each["id"] for each in rows] == [claim.id for claim in CLAIMS]
    assert list(rows[0]) == verdicts.COLUMNS
    assert {each["verdict"] for each in rows} <= {*verdicts.VERDICTS, ILLUSTRATES}
    verdicts.write("cifar-cpu")
    assert path.read_bytes() == before
    counts = verdicts.counts(frame)
    assert counts["as measured here"].sum() == counts["by their own tables"].sum() == len(CLAIMS)


def test_an_unknown_profile_names_the_valid_ones():
    with pytest.raises(UserError, match="valid: "):
        verdicts.write("digitz")


def test_a_claim_is_read_in_words_once_for_all_its_rows():
    rows = found("smoke")
    assert rows.at["pruning-hurts", "read_as"] == (
        "accuracy, vtp-r0.1 - vanilla: below -5.00 (Tables 1 and 2)"
    )
    read = rows.at["most-are-faster", "read_as"]
    assert read.startswith("most of: GPU speed, dynamic, fq-vit,") and read.count("above 1") == 2


# -- DeiT base against the ViT of its shape, and the figures --------------------------------------


def test_deit_bases_speed_stands_beside_what_its_arithmetic_allows(row, add_speed):
    row("cifar-cpu", "vanilla", 900, macs=1_000)
    row("cifar-cpu", "deit-base", 900, tables=(1,), macs=1_010)
    add_speed("cifar-cpu", {"cifar10/deit-base/seed0": (1, 0.98)})
    frame = twice.ratios("cifar-cpu").set_index("source")
    assert frame.at["published, CIFAR-10, CPU", "ratio"] == pytest.approx(0.096 / 0.050)
    assert frame.at["published, CIFAR-10, CPU", "arithmetic"] == pytest.approx(0.995, abs=1e-3)
    assert frame.at["measured, CIFAR-10, CPU", "ratio"] == pytest.approx(0.98)
    assert frame.at["measured, CIFAR-10, CPU", "arithmetic"] == pytest.approx(1_000 / 1_010)
    assert frame.at["measured, CIFAR-100, CPU", "note"] == "deit-base not measured"
    assert frame.at["measured, CIFAR-10, GPU", "note"] == "deit-base not timed on cuda"


def test_the_scatter_of_one_network_is_over_all_its_runs(row, add_speed):
    row("cifar-cpu", "vanilla", 900)
    assert twice.scatter("cifar-cpu").set_index("source").at["measured, CPU", "times measured"] == 0
    add_speed("cifar-cpu", {"cifar10/vanilla/seed0": (10, 1), "cifar10/dynamic/seed0": (90, 9)})
    add_speed("cifar-cpu", {"cifar10/vanilla/seed0": (15, 1), "cifar100/vanilla/seed0": (12, 1)})
    frame = twice.scatter("cifar-cpu").set_index("source")
    assert frame.at["measured, CPU", "times measured"] == 3
    assert frame.at["measured, CPU", "factor"] == 1.5
    assert frame.at["published, CPU", "factor"] == pytest.approx(0.093 / 0.050)
    # What was timed of a vanilla that was trained anew since is another network's.
    row("cifar-cpu", "vanilla", 910, artifact_sha256="0" * 64)
    assert twice.scatter("cifar-cpu").set_index("source").at["measured, CPU", "times measured"] == 0


def test_figures_are_drawn_of_the_rows_that_are_measured(row):
    from vitstudy.report import tables

    for key in ("vanilla", "dynamic", "lsq-w4"):
        row("cifar-cpu", key, 900 if key == "vanilla" else 700, tables=(1,))
    with pytest.raises(ValueError, match="no two rows"):
        comparison_figures.differences(tables.pairs("cifar-cpu", 2))
    figure = comparison_figures.differences(tables.pairs("cifar-cpu", 1))
    assert len(style.render(figure, "png")) > 1_000
    assert [text.get_text() for text in figure.axes[0].texts] == ["-20*", "-20*", "+0.0"]
    counts = verdicts.counts(verdicts.claims("cifar-cpu"))
    drawn = comparison_figures.verdicts(counts, len(CLAIMS)).axes[0]
    assert sum(bar.get_width() for bar in drawn.patches) == 2 * len(CLAIMS)
