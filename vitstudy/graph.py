"""What the Snakefile asks: which cells a job takes, and which stamps no longer hold."""

from __future__ import annotations

import re
from pathlib import Path

from vitstudy import files, methods, study
from vitstudy.errors import unknown
from vitstudy.study import Cell

Jobs = dict[str, list[Cell]]

GROUPS = ("family", "cell")


def jobs(profile: str, group: str = "family") -> Jobs:
    """The cells of a profile by job: those of one data set, seed and family of methods, or each.

    Starting Python with torch costs more than a small cell does, and the families of one data set
    can be computed side by side.
    """
    if group not in GROUPS:
        raise unknown("group", group, GROUPS)
    found: Jobs = {}
    for cell in study.cells(profile):
        part = cell.method if group == "cell" else family(cell.method)
        found.setdefault(f"{cell.dataset}-{part}-seed{cell.seed}", []).append(cell)
    return found


def family(key: str) -> str:
    """What kind of method `key` is, or is a variant of: the Method column as a plain name."""
    method = methods.get(key)
    row = methods.get(method.beneath) if method.beneath else method
    return re.sub("[^a-z]+", "-", row.method.lower()).strip("-") or row.key


def before(jobs: Jobs, name: str) -> list[str]:
    """The jobs that must be done before the job `name`: those with its cells' parents."""
    parents = {parent for cell in jobs[name] for parent in cell.parents()}
    return [other for other, cells in jobs.items() if other != name and parents & {*cells}]


def stamps(profile: str) -> Path:
    return files.results(profile) / "stamps"


def site_profile() -> Path:
    """The file in which the site says which profile it shows."""
    return files.root() / "site" / "profile.txt"


def executed(profile: str, notebook: str) -> Path:
    """The executed copy of a notebook."""
    return files.results(profile) / "notebooks" / f"{notebook}.ipynb"


def clear_stale(profile: str, jobs: Jobs, notebooks: list[str]) -> None:
    """Remove the stamps of what is no longer up to date, and of all that follows from it.

    Snakemake alone would not go back for a missing stamp whose followers have theirs. Without
    jobs, a profile shown from its records, cells and speed are as they are.
    """
    folder = stamps(profile)
    stale = [f"cells-{name}" for name, cells in jobs.items() if any(map(study.why_not, cells))]
    timed = [files.results(profile) / name for name in ("speed.json", "attention_speed.json")]
    if stale or (jobs and not all(path.exists() for path in timed)):
        stale += ["speed", *(f"notebook-{name}" for name in notebooks)]
    stale += [f"notebook-{name}" for name in notebooks if not executed(profile, name).exists()]
    shown = site_profile()
    if stale or not shown.exists() or shown.read_text().strip() != profile:
        stale.append("site")
    for name in stale:
        (folder / name).unlink(missing_ok=True)
