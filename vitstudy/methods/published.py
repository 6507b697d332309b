"""Numbers that others print of a method: the papers' two tables, and the survey's rows.

The papers' numbers are in `published.toml`, the survey's tables in `survey/data`. An entry of the
list of methods names what is printed of it; here it is looked up.
"""

from __future__ import annotations

import csv
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SURVEY = HERE.parent / "survey" / "data"
DATASETS = ("CIFAR-10", "CIFAR-100")
"""Of Tables 1 and 2."""


@dataclass(frozen=True)
class Published:
    """What the papers print of a row on one data set; None where they print "-"."""

    accuracy: float | None = None
    """Percent."""
    gpu_speed: float | None = None
    """Iterations per second, as is the next."""
    cpu_speed: float | None = None
    size: float | None = None
    """MB of 2^20 bytes."""


@cache
def _papers() -> dict[str, tuple[Published, Published]]:
    tables = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))
    first, second = DATASETS
    return {key: (Published(**row[first]), Published(**row[second])) for key, row in tables.items()}


def by_papers(key: str) -> tuple[Published, Published]:
    """What the papers print of the row `key` in Table 1 and in Table 2; KeyError for no row."""
    return _papers()[key]


@cache
def by_survey(model: str) -> dict[str, dict[str, str]]:
    """What the survey prints of `model`: its rows as they stand, by the table's number.

    Empty where it prints none: many of the methods that it discusses are in no table.
    """
    rows = {}
    for path in sorted(SURVEY.glob("table_*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row.get("model") == model:
                    rows[str(int(path.stem.removeprefix("table_")))] = row
    return rows
