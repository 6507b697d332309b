"""The survey's ten tables, as it prints them: `data/table_01.csv` to `table_10.csv`.

Units are in the column names; a cell that the survey prints as "-" is empty; `estimated` says
where it prints its `*`; `line` is the line of the survey's text that the row comes from. Table 1's
`overview` is in our words. In Table 5 the text is damaged, so there each cell says whether it is
`printed` in its row, `inferred` (with where it stands instead, or by which rule, in `basis`) or
`missing`.
"""

from __future__ import annotations

import io
import math
from pathlib import Path

import pandas as pd

from vitstudy.errors import UserError, unknown

DATA = Path(__file__).resolve().parent / "data"
_CLASSIFICATION = ("model", "parameters_M", "flops_G", "top1_percent", "eer_percent", "da", "line")
_QUANTIZED = (
    *("model", "weight_bits", "activation_bits", "size_MB", "estimated"),
    *("top1_percent", "eer_percent", "line"),
)
COLUMNS = {
    1: (
        *("category", "category_printed", "category_basis", "model", "authors", "year"),
        *("overview", "code", "line"),
    ),
    2: _CLASSIFICATION,
    3: _CLASSIFICATION,
    4: _CLASSIFICATION,
    5: (
        *("model", "weight_bits", "activation_bits", "bits_source", "size_MB", "size_source"),
        *("estimated", "top1_percent", "top1_source", "top1_line"),
        *("eer_percent", "eer_source", "eer_line", "basis", "line"),
    ),
    6: _QUANTIZED,
    7: _QUANTIZED,
    8: (
        *("category", "model", "weight_bits", "activation_bits", "size_MB", "estimated"),
        *("parameters_M", "flops_G", "top1_percent"),
        *("eer_category_percent", "eer_all_percent", "line"),
    ),
    9: ("encoder", "parameters_M", "ap_box", "ap_mask", "line"),
    10: ("encoder", "decoder", "parameters_M", "miou_percent", "line"),
}
_WORDS = {
    *("category", "category_printed", "category_basis", "model", "authors", "overview", "code"),
    *("bits_source", "size_source", "top1_source", "eer_source", "basis"),
    *("estimated", "da", "encoder", "decoder"),
}
NUMBERS = tuple(COLUMNS)
CATEGORIES = {2: "CA", 3: "P", 4: "KD", 5: "Q", 6: "Q", 7: "Q"}
"""The category of the classification tables: compact architecture, pruning, distillation and
quantization."""


def path(number: int, folder: Path = DATA) -> Path:
    return folder / f"table_{number:02}.csv"


def printed(number: int, folder: Path = DATA) -> pd.DataFrame:
    """Table `number` with every cell as the text that is printed; empty where nothing is.

    Raises UserError where the table is unknown or its file absent, no CSV or without a column.
    """
    if number not in COLUMNS:
        raise unknown("table of the survey", str(number), NUMBERS)
    return _read(path(number, folder), COLUMNS[number])


def load(number: int, folder: Path = DATA) -> pd.DataFrame:
    """Table `number` with numbers as floats, NaN where nothing is printed; raises as `printed`.

    Raises UserError, too, where a cell of a column of numbers is none.
    """
    frame = printed(number, folder)
    for column in frame:
        if column in _WORDS:
            continue
        for position, text in enumerate(frame[column]):
            if text and not _is_number(text):
                raise UserError(
                    f"{path(number, folder)}, row {position + 1}: {column} is {text!r}, no number; "
                    "leave it empty where nothing is printed"
                )
        frame[column] = [float(text) if text else math.nan for text in frame[column]]
    return frame


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def half_unit(text: str) -> float:
    """Half a unit of the last digit of a printed number: how far rounding may have moved it."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _read(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        text = file.read_text(encoding="utf-8")
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, index_col=False)
    except FileNotFoundError:
        raise UserError(f"{file} is absent; the tables are table_01.csv to table_10.csv") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise UserError(f"{file} is no CSV table: {' '.join(str(error).split())}") from error
    for column in columns:
        if column not in frame:
            raise UserError(f"{file} has no column {column!r}; valid: {', '.join(columns)}")
    return frame[list(columns)]
