"""The README's first screen is what the records say."""

import re

import pytest

from vitstudy import files
from vitstudy.errors import UserError
from vitstudy.report import readme, scales


@pytest.fixture(autouse=True)
def committed_records(home, monkeypatch):
    """The records that are in the repository, not an empty home's."""
    monkeypatch.delenv("VITSTUDY_HOME")


def test_readme_says_what_the_committed_summary_and_records_say():
    made = readme.made_part(readme.path().read_text())
    assert made == readme.render(files.read_json(scales.SUMMARY)), (
        "README.md is stale: run python -m vitstudy refresh --from-records"
    )


def test_readme_figure_is_there():
    made = readme.made_part(readme.path().read_text())
    figures = re.findall(r"!\[.*?\]\((.*?)\)", made)
    assert figures
    assert all((files.REPOSITORY / figure).stat().st_size for figure in figures)


def test_paths_that_the_readme_names_exist():
    named = re.findall(r"`((?:vitstudy|notebooks|scripts)/[\w./]+)`", readme.path().read_text())
    assert "vitstudy/profiles.py" in named
    assert all((files.REPOSITORY / name).exists() for name in named)


def test_changed_summary_makes_the_readme_stale():
    summary = files.read_json(scales.SUMMARY)
    first, *others = summary["runs"]
    changed = {**summary, "runs": [{**first, "seconds": first["seconds"] + 60}, *others]}
    assert readme.made_part(readme.path().read_text()) != readme.render(changed)


def test_readme_without_its_marks_is_refused():
    with pytest.raises(UserError, match="lacks the line"):
        readme.made_part("# vitstudy\n")
