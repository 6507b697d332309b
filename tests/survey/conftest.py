"""A copy of the survey's tables, to be damaged, and what was counted."""

import shutil

import pandas as pd
import pytest

from vitstudy.survey import counted, tables


@pytest.fixture
def copied(tmp_path):
    """The tables in a folder of the test's own, and a function that changes one cell."""
    folder = shutil.copytree(tables.DATA, tmp_path / "tables")

    def change(number, model, column, value):
        path = tables.path(number, folder)
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        fits = frame["encoder" if "encoder" in frame else "model"] == model
        assert fits.any()
        frame.loc[fits, column] = value
        frame.to_csv(path, index=False)
        return folder

    return change


@pytest.fixture(scope="session")
def counts():
    return counted.read()
