"""The surveyed methods' table: what has a record, against the control, in files of its own."""

import pytest

from vitstudy import files, methods, study
from vitstudy.report import surveyed, tables


def test_every_surveyed_method_with_a_record_has_a_row_against_its_control(in_smoke):
    for which, dataset in ((1, "digits"), (2, "digit-pairs")):
        frame = surveyed.table("smoke", which).set_index("key")
        assert list(frame.index) == [each.key for each in methods.SURVEYED]
        for key, row in frame.iterrows():
            record = study.read(study.Cell("smoke", dataset, key, 0))
            control = study.read(study.Cell("smoke", dataset, surveyed.CONTROL, 0))
            assert row["accuracy"] == pytest.approx(100 * record.accuracy)
            gain = 100 * (record.accuracy - control.accuracy)
            assert row["difference"] == pytest.approx(gain, abs=1e-9)
            assert row["difference_low"] <= gain <= row["difference_high"]
            assert (
                row["macs"]
                == record.macs
                < study.read(study.Cell("smoke", dataset, "vanilla", 0)).macs
            )


def test_the_files_are_written_with_the_tables_and_go_with_the_records(with_cells):
    home = with_cells("vanilla", "continued", "hydra")
    tables.write("smoke")
    path = home / "results/smoke/tables/surveyed1.md"
    assert "| Hydra Attention | Efficient Attention |" in path.read_text(encoding="utf-8")
    assert path.with_suffix(".csv").exists()
    for cell in study.cells("smoke"):
        if cell.method == "hydra":
            cell.record_path.unlink()
    tables.write("smoke")
    assert not path.exists() and not path.with_suffix(".csv").exists()
    assert (files.results("smoke") / "tables" / "table1.md").exists()
