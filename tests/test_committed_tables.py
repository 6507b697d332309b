"""Committed tables are what the committed records give, made again in another folder."""

import shutil

import pytest

from vitstudy import files, profiles
from vitstudy.report import tables, verdicts

COMMITTED = [
    name
    for name, known in profiles.PROFILES.items()
    if known.committed and (files.REPOSITORY / "results" / name / "records").is_dir()
]


@pytest.mark.parametrize("profile", COMMITTED)
def test_committed_tables_are_what_the_committed_records_give(home, profile):
    committed = files.REPOSITORY / "results" / profile
    for name in ("records", "analysis"):
        shutil.copytree(committed / name, home / "results" / profile / name)
    for path in committed.glob("*speed.json"):
        shutil.copy(path, home / "results" / profile)
    tables.write(profile)
    verdicts.write(profile)
    made = {
        path.relative_to(home / "results" / profile): path
        for path in (home / "results" / profile).rglob("*")
        if path.suffix in (".csv", ".md", ".tex") or path.name == "manifest.json"
    }
    assert len(made) >= 10
    stale = [str(name) for name, path in made.items() if differs(path, committed / name)]
    assert stale == [], f"run ./run_all.sh {profile} --from-records"


def differs(made, committed) -> bool:
    return not committed.exists() or committed.read_bytes() != made.read_bytes()
