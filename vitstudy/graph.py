"""What the Snakefile asks: which cells a job takes, which stamps no longer hold, what failed."""

from __future__ import annotations

import re
from pathlib import Path

from vitstudy import files, job, methods, profiles, study
from vitstudy.errors import unknown
from vitstudy.study import Cell

Jobs = dict[str, list[Cell]]

GROUPS = ("family", "cell")


def jobs(profile: str, group: str = "family", every_tier: bool = False) -> Jobs:
    """The cells of a profile by job: those of one data set, seed and family of methods, or each.

    With `every_tier` also those of methods that the profile leaves out else. Starting Python with
    torch costs more than a small cell does, and the families of one data set can be computed side
    by side. Of a data set in the profile's `one_job` all families are one.
    """
    if group not in GROUPS:
        raise unknown("group", group, GROUPS)
    found: Jobs = {}
    for cell in study.cells(profile, left_out=every_tier):
        part = cell.method if group == "cell" else family(cell.method)
        if group == "family" and cell.dataset in profiles.get(profile).one_job:
            part = "all"
        found.setdefault(f"{cell.dataset}-{part}-seed{cell.seed}", []).append(cell)
    return found


def family(key: str) -> str:
    """What kind of method `key` is, or is a variant of: the Method column as a plain name.

    Controls that are trained from scratch are a kind of their own: they wait for nothing, and
    would make the longest job longer.
    """
    method = methods.get(key)
    if method.reference == "none" and not method.parents:
        return "controls"
    row = methods.get(method.beneath) if method.beneath else method
    return re.sub("[^a-z]+", "-", row.method.lower()).strip("-") or row.key


def before(jobs: Jobs, name: str) -> list[str]:
    """The jobs that must be done before the job `name`: those with its cells' parents."""
    parents = {parent for cell in jobs[name] for parent in cell.parents()}
    return [other for other, cells in jobs.items() if other != name and parents & {*cells}]


def priorities(profile: str, jobs: Jobs) -> dict[str, int]:
    """By job, how much there is to do along the longest path that begins with it.

    A cell counts as many as its data set's recipe has steps. What much waits for goes first, and so
    does what is long itself: a long job that begins last leaves all cores but one idle.
    """
    known, found = profiles.get(profile), {}
    followers = {name: [other for other in jobs if name in before(jobs, other)] for name in jobs}

    def path(name: str) -> int:
        if name not in found:
            own = sum(known.recipe(cell.dataset).steps for cell in jobs[name])
            found[name] = own + max(map(path, followers[name]), default=0)
        return found[name]

    for name in jobs:
        path(name)
    return found


def stamps(profile: str) -> Path:
    return files.results(profile) / "stamps"


def site_profile() -> Path:
    """The file in which the site says which profile it shows."""
    return files.root() / "site" / "profile.txt"


def site_shows() -> str | None:
    """The profile whose notebooks the site shows; None where there is no site."""
    shown = site_profile()
    return shown.read_text(encoding="utf-8").strip() if shown.exists() else None


def executed(profile: str, notebook: str) -> Path:
    """The executed copy of a notebook."""
    return files.results(profile) / "notebooks" / f"{notebook}.ipynb"


def clear_stale(profile: str, jobs: Jobs, notebooks: list[str]) -> None:
    """Remove the stamps of what is no longer up to date or failed, and of all that follows from it.

    Snakemake alone would not go back for a missing stamp whose followers have theirs. Without
    jobs, a profile shown from its records, cells and speed are as they are.
    """
    folder, failed = stamps(profile), job.failures(profile)
    stale = [
        name
        for name, cells in ((f"cells-{name}", cells) for name, cells in jobs.items())
        if name in failed or not (folder / name).exists() or any(map(study.why_not, cells))
    ]
    timed = [files.results(profile) / name for name in ("speed.json", "attention_speed.json")]
    timed.append(folder / "speed")
    if stale or (jobs and ("speed" in failed or not all(path.exists() for path in timed))):
        stale += ["speed", *(f"notebook-{name}" for name in notebooks)]
    stale += [f"notebook-{name}" for name in notebooks if not executed(profile, name).exists()]
    stale += failed
    if "survey" in failed:
        stale.append("notebook-09_eer_survey")
    if stale or site_shows() != profile:
        stale.append("site")
    for name in stale:
        (folder / name).unlink(missing_ok=True)
        (job.folder(profile) / name).unlink(missing_ok=True)


def missing(profile: str, every_tier: bool = False) -> dict[str, str]:
    """The cells and the jobs of the profile that failed, each with the reason in one line."""
    found = {}
    for cell in study.cells(profile, left_out=every_tier):
        record = study.read(cell)
        if record and record.status != "done":
            found[str(cell)] = record.error
    cells = jobs(profile, every_tier=every_tier)
    for name, reason in job.failures(profile).items():
        kind, _, what = name.partition("-")
        if absent := [str(cell) for cell in cells.get(what, ()) if study.read(cell) is None]:
            reason += f"; without a record: {', '.join(absent)}"
        found[f"{kind} {what}".strip()] = reason
    return found


def unmade(profile: str, cells: list[Cell], notebooks: list[str]) -> list[str]:
    """The kinds of products that are not made of the profile, or not all; none where it is whole.

    A product whose job failed counts as made: `missing` tells it.
    """
    folder, failed = stamps(profile), job.failures(profile)
    noted = any(name.startswith("cells-") for name in failed)
    made = {
        "records": noted or all(study.read(cell) for cell in cells),
        "speeds": not cells or (folder / "speed").exists(),
        "notebooks": all(
            (folder / f"notebook-{name}").exists() and executed(profile, name).exists()
            for name in notebooks
            if f"notebook-{name}" not in failed
        ),
        "site": "site" in failed or ((folder / "site").exists() and site_shows() == profile),
    }
    return [kind for kind, there in made.items() if not there]
