"""What the Snakefile asks: which cells a job takes, and which stamps no longer hold."""

from __future__ import annotations

import contextlib
from pathlib import Path

from vitstudy import files, study
from vitstudy.errors import unknown
from vitstudy.study import Cell

Jobs = dict[str, list[Cell]]

GROUPS = ("chain", "cell")


def jobs(profile: str, group: str = "chain") -> Jobs:
    """The cells of a profile by job: those of one data set and seed (`chain`), or each (`cell`)."""
    if group not in GROUPS:
        raise unknown("group", group, GROUPS)
    found: Jobs = {}
    for cell in study.cells(profile):
        name = f"{cell.dataset}-seed{cell.seed}"
        if group == "cell":
            name = f"{cell.dataset}-{cell.method}-seed{cell.seed}"
        found.setdefault(name, []).append(cell)
    return found


def before(jobs: Jobs, name: str) -> list[str]:
    """The jobs that must be done before the job `name`: those with its cells' parents."""
    parents = {parent for cell in jobs[name] for parent in cell.parents()}
    return [other for other, cells in jobs.items() if other != name and parents & {*cells}]


def stamps(profile: str) -> Path:
    return files.results(profile) / "stamps"


def site_profile() -> Path:
    """The file in which the site says which profile it shows."""
    return files.root() / "site" / "profile.txt"


def clear_stale(profile: str, jobs: Jobs) -> None:
    """Remove the stamps of jobs whose cells are no longer up to date, and of a site that shows
    another profile, so that Snakemake runs them again."""
    stale = [name for name, cells in jobs.items() if any(map(study.why_not, cells))]
    gone = [stamps(profile) / f"cells-{name}" for name in stale]
    if not (files.results(profile) / "speed.json").exists():
        gone.append(stamps(profile) / "speed")
    shown = site_profile()
    if not shown.exists() or shown.read_text().strip() != profile:
        gone.append(stamps(profile) / "site")
    for stamp in gone:
        with contextlib.suppress(FileNotFoundError):
            stamp.unlink()
