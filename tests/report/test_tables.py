import csv
import math
import statistics
import subprocess
import sys

import pytest

from vitstudy import files
from vitstudy.errors import UserError
from vitstudy.methods import METHODS
from vitstudy.report import tables
from vitstudy.report.readable import significant
from vitstudy.study import Cell

COLUMNS = (
    "key,model,method,accuracy_published,accuracy,accuracy_std,gpu_speed_published,gpu_speed,"
    "cpu_speed_published,cpu_speed,cpu_ratio,size_published,size_mib,simulated,note"
).split(",")
COMPARED = (
    "difference,difference_low,difference_high,p_value,p_holm,significant,test,"
    "p_equivalent,outcome,covers"
).split(",")


def row(profile, which, key):
    frame = tables.table(profile, which)
    return frame[frame["key"] == key].iloc[0]


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_thirteen_rows_in_the_papers_order_where_nothing_was_measured(home):
    frame = tables.table("digits", 1)
    assert list(frame.columns) == COLUMNS
    assert list(frame["key"]) == [method.key for method in METHODS]
    assert len(frame) == 13
    assert frame["accuracy"].isna().all()
    assert set(frame["note"]) == {"not measured on this profile"}


def test_published_numbers_are_written_as_the_papers_print_them(home):
    tables.write("digits")
    first, second = (rows_of(home / f"results/digits/tables/table{n}.csv") for n in (1, 2))
    assert list(first[0]) == [*COLUMNS[:-1], *COMPARED, COLUMNS[-1]]
    vanilla = [first[0][f"{name}_published"] for name in ("accuracy", "gpu_speed", "cpu_speed")]
    assert vanilla == ["98.94", "4.48", "0.050"]
    assert (first[3]["gpu_speed_published"], first[3]["size_published"]) == ("2.10", "41")
    assert second[1]["cpu_speed_published"] == "0.122"
    assert second[2]["size_published"] == ""
    assert first[12]["model"] == "DeiT base + Dynamic Quantization"
    assert first[12]["method"] == "Knowledge Distillation + PTQ"


def test_measured_numbers_stand_beside_the_published_ones(add, add_speed, home):
    add("digits", "digits", "vanilla", accuracy=0.98765, size_mib=0.49731)
    add_speed("digits", {"digits/vanilla/seed0": (1.0, 1.0)})
    add_speed("digits", {"digits/vanilla/seed0": (12.3456, 1.0004)})
    tables.write("digits")
    found = rows_of(home / "results/digits/tables/table1.csv")[0]
    assert (found["accuracy"], found["accuracy_std"]) == ("98.77", "")
    assert (found["cpu_speed"], found["cpu_ratio"]) == ("12.35", "1.000")
    assert (found["size_mib"], found["simulated"]) == ("0.4973", "False")
    assert found["note"] == "GPU speed not measured: no GPU"


def test_several_seeds_give_mean_and_standard_deviation(add):
    accuracies = (0.91, 0.92, 0.96)
    for seed, accuracy in enumerate(accuracies):
        add("cifar", "cifar10", "vanilla", seed, accuracy=accuracy, size_mib=20 + seed)
    found = row("cifar", 1, "vanilla")
    assert found["accuracy"] == pytest.approx(93)
    assert found["accuracy_std"] == pytest.approx(100 * statistics.stdev(accuracies))
    assert found["size_mib"] == pytest.approx(21)
    low, high = tables.intervals("cifar", 1)["vanilla"]
    assert (low, high) == pytest.approx((93 - found["accuracy_std"], 93 + found["accuracy_std"]))


def test_seeds_that_are_absent_or_failed_are_named(add):
    add("cifar", "cifar10", "vanilla", 0)
    add("cifar", "cifar10", "vanilla", 1, status="failed", error="loss is NaN")
    found = row("cifar", 1, "vanilla")
    assert found["accuracy"] == pytest.approx(90)
    assert math.isnan(found["accuracy_std"])
    assert "seed 1 failed: loss is NaN" in found["note"]
    assert "not measured yet: seed 2" in found["note"]


def test_a_failed_cell_is_empty_with_the_reason(add):
    add("digits", "digit-pairs", "vanilla", status="failed", error="loss is NaN at step 3")
    found = row("digits", 2, "vanilla")
    assert math.isnan(found["accuracy"])
    assert found["note"] == "failed: loss is NaN at step 3"
    assert tables.intervals("digits", 2) == {}


def test_a_simulated_row_has_no_speed_even_where_one_was_timed(add, add_speed):
    add("digits", "digits", "fq-vit", simulated=True)
    add_speed("digits", {"digits/fq-vit/seed0": (5.0, 1.2)})
    found = row("digits", 1, "fq-vit")
    assert found["simulated"]
    assert math.isnan(found["cpu_speed"]) and math.isnan(found["cpu_ratio"])
    assert "simulated: no speed" in found["note"]


def test_gpu_speeds_come_from_runs_on_cuda(add, add_speed):
    add("digits", "digits", "vanilla")
    add("digits", "digits", "dynamic")
    add_speed("digits", {"digits/vanilla/seed0": (500.0, 1.0)}, device="cuda")
    assert row("digits", 1, "vanilla")["gpu_speed"] == 500
    assert "CPU speed not measured yet" in row("digits", 1, "vanilla")["note"]
    assert "no GPU speed" in row("digits", 1, "dynamic")["note"]


def test_further_seeds_of_vanilla_are_in_its_note_and_leave_its_accuracy(add):
    add("cifar-cpu", "cifar10", "vanilla", accuracy=0.88)
    assert "seeds" not in row("cifar-cpu", 1, "vanilla")["note"]
    add("cifar-cpu", "cifar10", "vanilla", seed=1, accuracy=0.87)
    add("cifar-cpu", "cifar10", "vanilla", seed=2, accuracy=0.86)
    found = row("cifar-cpu", 1, "vanilla")
    assert found["accuracy"] == pytest.approx(88) and math.isnan(found["accuracy_std"])
    assert "3 seeds: 87.00 ± 1.00 %" in found["note"]


def test_ratios_are_to_the_vanilla_of_the_same_source(add, add_speed):
    add("digits", "digits", "vanilla", accuracy=0.98, size_mib=0.5)
    add("digits", "digits", "dynamic", accuracy=0.97, size_mib=0.2)
    add_speed("digits", {"digits/vanilla/seed0": (8, 1), "digits/dynamic/seed0": (11, 1.3)})
    found = tables.ratios("digits", 1).set_index("key").loc["dynamic"]
    assert found["accuracy_change"] == pytest.approx(-1)
    assert found["accuracy_change_published"] == pytest.approx(98.73 - 98.94)
    assert found["size_ratio"] == pytest.approx(0.4)
    assert found["size_ratio_published"] == pytest.approx(84 / 327)
    assert found["cpu_ratio"] == 1.3
    assert found["cpu_ratio_published"] == pytest.approx(0.062 / 0.050)


def test_the_markdown_links_a_number_to_its_record(add, home):
    add("digits", "digits", "vanilla", accuracy=0.9875)
    tables.write("digits")
    text = (home / "results/digits/tables/table1.md").read_text()
    place = "../records/digits/vanilla/seed0.json"
    assert f"| 98.94 | [98.75]({place}) |" in text
    assert (home / "results/digits/tables" / place).exists()


def test_an_empty_cell_has_its_reason_in_the_note(add, add_speed):
    for method in METHODS:
        simulated = method.simulated
        add("digits", "digits", method.key, simulated=simulated)
    add("digits", "digit-pairs", "vanilla", status="failed", error="loss is NaN")
    reasons = {
        "gpu_speed": ("simulated", "GPU speed not measured", "no GPU speed"),
        "cpu_speed": ("simulated", "CPU speed not measured"),
        "accuracy": ("failed", "not measured", "not in the study"),
    }
    for which in tables.TABLES:
        for each in tables.table("digits", which).to_dict("records"):
            for column, valid in reasons.items():
                if each["accuracy"] is None or math.isnan(each["accuracy"]):
                    valid = reasons["accuracy"]
                if each[column] is None or math.isnan(each[column]):
                    assert any(reason in each["note"] for reason in valid), (column, each)


def test_a_significant_difference_is_marked_in_every_form(add, add_predictions, home):
    labels = [number % 10 for number in range(200)]
    wrong = [(label + (place < 20)) % 10 for place, label in enumerate(labels)]
    for key, classes in (("vanilla", labels), ("dynamic", wrong), ("fq-vit", labels)):
        add("cifar-cpu", "cifar10", key)
        add_predictions(Cell("cifar-cpu", "cifar10", key, 0), labels, classes)
    tables.write("cifar-cpu")
    folder = home / "results/cifar-cpu/tables"
    rows = {each["key"]: each for each in rows_of(folder / "table1.csv")}
    assert (rows["dynamic"]["difference"], rows["dynamic"]["significant"]) == ("-10.00", "True")
    assert (rows["fq-vit"]["difference"], rows["fq-vit"]["significant"]) == ("+0.00", "False")
    assert rows["vanilla"]["difference"] == rows["lsq-w4"]["significant"] == ""
    # Two tests in the table: the smaller p counts twice.
    p_value, p_holm = (float(rows["dynamic"][name]) for name in ("p_value", "p_holm"))
    assert p_holm == pytest.approx(2 * p_value, rel=0.01)
    assert "| -10.00* |" in (folder / "table1.md").read_text()
    assert "& $-$10.00* &" in (folder / "table1.tex").read_text()
    shown = tables.readable("cifar-cpu", 1)["Against vanilla, points"]
    assert shown.tolist()[:3] == ["", "-10.00*", "+0.00"]
    pairs = rows_of(folder / "differences1.csv")
    assert len(pairs) == 3 and pairs[0]["difference"] == "-10.00"
    assert "McNemar" in tables.significance_caption("cifar-cpu", 1)


def test_records_csv_has_a_row_a_cell_with_path_and_hash(add, home):
    add("digits", "digit-pairs", "vanilla")
    add("digits", "digits", "dynamic")
    add("digits", "digits", "vanilla")
    broken = Cell("digits", "digits", "fq-vit", 0).record_path
    files.write(broken, '{"schema": 1, "prof')
    tables.write("digits")
    rows = rows_of(home / "results/digits/records.csv")
    order = [(each["dataset"], each["method"]) for each in rows]
    assert order == [
        ("digits", "vanilla"),
        ("digits", "dynamic"),
        ("digits", "fq-vit"),
        ("digit-pairs", "vanilla"),
    ]
    assert [each["status"] for each in rows] == ["done", "done", "damaged", "done"]
    assert rows[0]["path"] == "results/digits/records/digits/vanilla/seed0.json"
    assert rows[0]["sha256"] == files.sha256(home / rows[0]["path"])
    assert rows[0]["accuracy"] == "0.9"
    assert not {"options", "per_class_accuracy", "sources"} & rows[0].keys()


def test_writing_again_changes_no_byte(add, home):
    add("digits", "digits", "vanilla")
    tables.write("digits")
    folder = home / "results/digits"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    tables.write("digits")
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(("profile", "which"), [("digits", 3), ("digitz", 1)])
def test_an_unknown_table_or_profile_names_the_valid_ones(home, profile, which):
    with pytest.raises(UserError, match="valid: "):
        tables.table(profile, which)


def test_large_and_small_numbers_are_written_without_exponent():
    assert significant(123456.7) == "123500"
    assert significant(0.00001234567) == "0.00001235"
    assert significant(0.49731) == "0.4973"


def test_tables_need_neither_torch_nor_matplotlib(home):
    code = (
        "import sys; from vitstudy.report import tables; tables.write('smoke'); "
        "assert not {'torch', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_matplotlib_is_imported_by_the_report_alone():
    report = files.SOURCE / "report"
    others = [path for path in files.SOURCE.rglob("*.py") if report not in path.parents]
    assert len(others) > 10
    for path in others:
        assert "matplotlib" not in path.read_text(), path
