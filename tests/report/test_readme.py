"""The README and the site's pages with numbers are what the records say."""

import re

import pytest

from vitstudy import files
from vitstudy.errors import UserError
from vitstudy.report import front, readme, scales

SUMMARY = scales.SUMMARY


@pytest.fixture(autouse=True)
def committed_records(home, monkeypatch):
    """The records that are in the repository, not an empty home's."""
    monkeypatch.delenv("VITSTUDY_HOME")


def page(name):
    return (files.REPOSITORY / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", readme.PAGES)
def test_page_says_what_the_committed_summary_and_records_say(name):
    made = readme.made_part(page(name), name)
    assert made == readme.PAGES[name](files.read_json(SUMMARY)), (
        f"{name} is stale: run python -m vitstudy refresh --from-records"
    )


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{n}.md" for n in ("findings", "guide"))])
def test_links_of_a_page_lead_to_files_that_exist(name):
    folder = (files.REPOSITORY / name).parent
    linked = [link for link in re.findall(r"\]\(([^)]+)\)", page(name)) if "://" not in link]
    assert linked and [link for link in linked if not (folder / link).exists()] == []


def test_paths_that_the_guide_names_exist():
    named = re.findall(r"`((?:vitstudy|notebooks|scripts)/[\w./]+)`", page("docs/guide.md"))
    assert "vitstudy/profiles.py" in named
    assert all((files.REPOSITORY / name).exists() for name in named)


def test_what_stands_above_the_table_is_read_in_half_a_minute():
    above, _ = page("README.md").split("| Row of the papers |")
    assert len(above.split()) <= 400


def test_six_lines_have_a_verb_each_and_at_most_two_numbers_and_the_table_six_rows():
    made = readme.made_part(page("README.md"))
    lines = [line for line in made.splitlines() if line.startswith("- ")]
    verbs = "|".join((front.TAKE, front.WEIGH, front.LEAVE))
    assert len(lines) == 6 and all(re.match(rf"- \*\*({verbs}) ", line) for line in lines)
    for line in lines:  # the name of a data set or of a setting is no measured number
        told = line.split("**")[2].replace("CIFAR-100", "")
        assert 1 <= len(re.findall(r"[+-]?\d+(?:\.\d+)?", told)) <= 2
    assert sum(line.startswith("| ") for line in made.splitlines()) == 2 + 6


def test_the_readme_says_once_that_this_is_not_the_papers_setting():
    assert page("README.md").count("not the papers' setting") == 1
    assert "τ" not in page("README.md")


def test_changed_summary_makes_a_page_stale():
    summary = files.read_json(SUMMARY)
    first, *others = summary["runs"]
    changed = {**summary, "runs": [{**first, "seconds": first["seconds"] + 60}, *others]}
    made = readme.made_part(page("docs/reproducing.md"))
    assert made != readme.profiles_page(changed)


@pytest.mark.parametrize("text", ["# vitstudy\n", f"{readme.BEGIN}\n", f"{readme.BEGIN}\n" * 2])
def test_page_without_its_marks_is_refused(text):
    with pytest.raises(UserError, match="lacks the line"):
        readme.made_part(text)


def test_a_page_whose_made_part_is_empty_is_filled_between_its_marks(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    monkeypatch.setattr(readme, "PAGES", {"a.md": lambda summary: "made"})
    monkeypatch.setattr(front, "points", lambda profile: None)
    monkeypatch.setattr(front, "vanilla", lambda profile: None)
    from vitstudy.report import comparison_figures, style

    monkeypatch.setattr(comparison_figures, "overview", lambda rows, vanilla: None)
    monkeypatch.setattr(style, "render", lambda figure, kind: kind)
    (tmp_path / "a.md").write_text(f"before\n{readme.BEGIN}\n\n{readme.END}\nafter\n")
    for _ in range(2):
        readme.refresh(made_here=False)
        written = (tmp_path / "a.md").read_text()
        assert written == f"before\n{readme.BEGIN}\n\nmade\n\n{readme.END}\nafter\n"
