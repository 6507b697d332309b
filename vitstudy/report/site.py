"""The site: the executed notebooks of a profile as static pages, by Sphinx and MyST-NB."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from vitstudy import data, files, graph, notebooks, profiles, speed, study
from vitstudy.errors import UserError
from vitstudy.report import tables

log = logging.getLogger(__name__)


def build(profile: str) -> Path:
    """Build `site/` from the profile's executed notebooks and records; the page to open first.

    Raises UserError where a notebook has not been executed.
    """
    folder = files.root() / "site"
    with tempfile.TemporaryDirectory() as name:
        source, pages = Path(name) / "docs", Path(name) / "site"
        shutil.copytree(files.REPOSITORY / "docs", source)
        for each in notebooks.shown(profile):
            executed = graph.executed(profile, each)
            if not executed.exists():
                raise UserError(f"{executed} is absent: run ./run_all.sh {profile} first")
            (source / "notebooks").mkdir(exist_ok=True)
            shutil.copy(executed, source / "notebooks")
        files.write(source / "generated" / "summary.md", _summary(profile, source))
        files.write(source / "generated" / "run.md", _run(profile))
        command = [sys.executable, "-m", "sphinx", "-q", "-j", "auto", "-b", "html"]
        done = subprocess.run(
            [*command, str(source), str(pages)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise UserError(f"Sphinx could not build the site: {done.stderr.strip()[-500:]}")
        for line in done.stderr.splitlines():
            log.warning("sphinx: %s", line)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pages, folder, ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
    files.write(graph.site_profile(), f"{profile}\n")
    return folder / "index.html"


def _html(table: pd.DataFrame) -> str:
    shown = table.to_html(index=False, na_rep="", border=0, escape=True)
    return f'<div class="table-wide">\n{shown}\n</div>\n'


def _summary(profile: str, source: Path) -> str:
    """The first page's part that depends on the profile: a caveat, tables, figures."""
    known = profiles.get(profile)
    parts = [f"**Profile `{profile}`**: {known.title}; {known.machine}."]
    if known.datasets == profiles.DIGITS:
        images = data.spec("digits").sizes[-1] if known.limit is None else known.limit[-1]
        parts.append(
            "```{admonition} What these numbers are good for\n"
            f"The digits show that everything works. {images} test images are never evidence for "
            "a claim about a method; the CIFAR profiles are.\n```"
        )
    for which, dataset in enumerate(known.datasets, 1):
        shown = _html(tables.readable(profile, which))
        parts.append(f"## Table {which}: {data.spec(dataset).title}\n\n{shown}")
    drawn = sorted(files.figures(profile).glob("table*.svg"))
    if drawn:
        parts.append("## The tables, drawn")
        folder = source / "generated" / "figures"  # beside the text that shows them
        folder.mkdir(parents=True)
        for path in drawn:
            shutil.copy(path, folder)
            parts.append(f"![{path.stem.replace('_', ', ')}](/generated/figures/{path.name})")
    return "\n\n".join(parts) + "\n"


def _run(profile: str) -> str:
    """Tables of the cells and of the timings: what, on what, when and how long."""
    rows = []
    for cell in study.cells(profile, not_installed=True):
        if record := study.read(cell):
            rows.append(
                {
                    "data set": cell.dataset,
                    "method": cell.method,
                    "seed": cell.seed,
                    "status": record.status,
                    "accuracy, %": record.accuracy and round(100 * record.accuracy, 2),
                    "size, MiB": record.size_mib,
                    "steps": record.steps,
                    "seconds": record.seconds,
                    "when (UTC)": (record.created or "")[:16].replace("T", " "),
                    "commit": record.commit,
                    "made again by": record.command,
                }
            )
    parts = [f"Profile `{profile}`."]
    if rows:
        last = next(record for cell in study.cells(profile) if (record := study.read(cell)))
        versions = ", ".join(f"{name} {number}" for name, number in (last.versions or {}).items())
        total = sum(row["seconds"] or 0 for row in rows)
        parts += [
            f"Computed on {last.cpu}, GPU: {last.gpu or 'none'}; {versions}.",
            f"{len(rows)} cells, {total:,.0f} s of computing.",
            _html(pd.DataFrame(rows)),
        ]
    runs = speed.read(profile)
    if runs:
        columns = {"started": "when", "device": "device", "cpu": "CPU", "gpu": "GPU"}
        columns |= {"threads": "threads", "torch": "torch", "batch": "batch", "rounds": "rounds"}
        table = pd.DataFrame([{**run, "models": len(run["models"])} for run in runs])
        shown = table[[*columns, "models"]].rename(columns=columns)
        parts += ["## Speed, measured alone", _html(shown)]
    return "\n\n".join(parts) + "\n"
