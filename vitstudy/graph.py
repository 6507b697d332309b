"""Answers the Snakefile: which cells a job takes, which stamps no longer hold, what failed."""

from __future__ import annotations

import math
import re
from pathlib import Path

from vitstudy import files, job, methods, profiles, study
from vitstudy.errors import unknown
from vitstudy.study import Cell

Jobs = dict[str, list[Cell]]

GROUPS = ("family", "cell")


def jobs(profile: str, group: str = "family", every_tier: bool = False) -> Jobs:
    """Group the cells of a profile by job.

    group: "family" for jobs of one data set, seed and family of methods, "cell" for one cell each.
    Starting Python with torch costs more than a small cell does, and the families of one data set
    can be computed side by side. Of a data set in the profile's `one_job` all families are one.
    every_tier: add the methods that the profile computes only by name.
    """
    if group not in GROUPS:
        raise unknown("group", group, GROUPS)
    by_job: Jobs = {}
    for cell in study.cells(profile, left_out=every_tier):
        part = cell.method if group == "cell" else family(cell.method)
        if group == "family" and cell.dataset in profiles.get(profile).one_job:
            part = "all"
        by_job.setdefault(f"{cell.dataset}-{part}-seed{cell.seed}", []).append(cell)
    return by_job


def family(key: str) -> str:
    """Return the Method column of `key`, or of the method it is a variant of, as a plain name.

    Controls that are trained from scratch are a family of their own: they wait for nothing, and
    would make the longest job longer.
    """
    method = methods.get(key)
    if method.reference == "none" and not method.parents:
        return "controls"
    row = methods.get(method.beneath) if method.beneath else method
    return re.sub("[^a-z]+", "-", row.method.lower()).strip("-") or row.key


def before(jobs: Jobs, name: str) -> list[str]:
    """List the jobs that must be done before the job `name`: those with its cells' parents."""
    parents = {parent for cell in jobs[name] for parent in cell.parents()}
    return [other for other, cells in jobs.items() if other != name and parents & {*cells}]


def priorities(profile: str, jobs: Jobs) -> dict[str, int]:
    """Return, by job, how much there is to do along the longest path that begins with it.

    A cell counts the steps that it trains for, and a tenth of its data set's recipe for all else. A
    job that much waits for goes first, and so does a long one, since a long job that begins last
    leaves all cores but one idle.
    """
    known = profiles.get(profile)
    lengths: dict[str, int] = {}
    followers = {name: [other for other in jobs if name in before(jobs, other)] for name in jobs}

    def path(name: str) -> int:
        if name not in lengths:
            own = sum(
                known.recipe(cell.dataset).steps * (0.1 + _share_of_steps(cell.method))
                for cell in jobs[name]
            )
            lengths[name] = math.ceil(own) + max(map(path, followers[name]), default=0)
        return lengths[name]

    for name in jobs:
        path(name)
    return lengths


def _share_of_steps(key: str) -> float:
    """Return the share of the recipe's steps that a method trains for.

    It is the setting `steps` of what goes on from a trained model; without one, all where a method
    starts from scratch, with a teacher or without, and none where it starts from another model.
    """
    method = methods.get(key)
    from_scratch = 1.0 if set(method.parents) <= {"teacher"} else 0.0
    share: float = method.options.get("steps", from_scratch)
    return share


def stamps(profile: str) -> Path:
    """Return the folder of the stamps, one a job that is done."""
    return files.results(profile) / "stamps"


def site_profile() -> Path:
    """Return the file in which the site says which profile it shows."""
    return files.root() / "site" / "profile.txt"


def site_shows() -> str | None:
    """Return the profile whose notebooks the site shows; None where there is no site."""
    shown = site_profile()
    return shown.read_text(encoding="utf-8").strip() if shown.exists() else None


def executed(profile: str, notebook: str) -> Path:
    """Return the path of a notebook's executed copy."""
    return files.results(profile) / "notebooks" / f"{notebook}.ipynb"


def clear_stale(profile: str, jobs: Jobs, notebooks: list[str]) -> None:
    """Remove the stamps of jobs that failed or are out of date, and of all that follows from them.

    Snakemake alone would not go back for a missing stamp whose followers have theirs. Where there
    are no jobs, since a profile is shown from its records, cells and timings stay as they are.
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
    """List the cells and the jobs of the profile that failed, each with the reason in one line."""
    reasons = {}
    for cell in study.cells(profile, left_out=every_tier):
        record = study.read(cell)
        if record and record.status != "done":
            reasons[str(cell)] = record.error or "no reason is kept"
    cells = jobs(profile, every_tier=every_tier)
    for name, reason in job.failures(profile).items():
        kind, _, what = name.partition("-")
        if absent := [str(cell) for cell in cells.get(what, ()) if study.read(cell) is None]:
            reason += f"; without a record: {', '.join(absent)}"
        reasons[f"{kind} {what}".strip()] = reason
    return reasons


def unmade(profile: str, cells: list[Cell], notebooks: list[str]) -> list[str]:
    """List the kinds of products of the profile that are not made, or not all of them.

    A product whose job failed counts as made, since `missing` lists it.
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
