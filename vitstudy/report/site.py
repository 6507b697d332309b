"""The site: the README first, the executed notebooks of a profile, and pages of the code.

Sphinx and MyST-NB build it. The first page is the README; a page a profile shows the committed
evidence, whose tables and figures are taken as they lie there, so that nothing is computed; what
the profile's own run made stands apart.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from vitstudy import data, files, graph, job, notebooks, profiles, speed, study
from vitstudy.errors import UserError
from vitstudy.report import readme, tables

log = logging.getLogger(__name__)

EVIDENCE = ("cifar-cpu", "cifar", "cifar224", "paper")
"""Profiles whose committed results the site shows, where there are any; the first leads."""
APART = ("index", "run", "findings")
"""The pages of `docs` that have a place of their own in the site."""
FOLD = "fold"
"""The tag of a notebook's cells that set up, check or plot: their code is folded."""
FAMILIES = ("attention", "quantization", "pruning", "distillation")
"""The packages whose modules, one a paper, have a page of the code together."""
MODULES = {
    "vitstudy": ("", ".methods", ".methods.method", ".protocol", ".context", ".models", ".measure"),
    "survey": (".eer", ".pareto", ".audit", ".ranking"),
}
"""The other pages of the code, and what stands on them: what a reader of a method needs."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def build(profile: str, every_tier: bool = False) -> Path:
    """Build `site/` from the profile's executed notebooks and records; the page to open first.

    A notebook whose job failed is left out, and the page says so, as it does of failed cells.
    Raises UserError where another notebook has not been executed.
    """
    folder = files.root() / "site"
    failed, skipped = graph.missing(profile, every_tier), job.failures(profile)
    with tempfile.TemporaryDirectory() as name:
        source, pages = Path(name) / "docs", Path(name) / "site"
        shutil.copytree(files.REPOSITORY / "docs", source)
        shown = [each for each in notebooks.shown(profile) if f"notebook-{each}" not in skipped]
        for each in shown:
            executed = graph.executed(profile, each)
            if not executed.exists():
                raise UserError(f"{executed} is absent: run ./run_all.sh {profile} first")
            notebook = json.loads(executed.read_text(encoding="utf-8"))
            files.write_json(source / "notebooks" / executed.name, folded(notebook))
        for page in source.glob("*.md"):
            files.write(page, _linked(page.read_text(encoding="utf-8"), "docs", page.stem))
        for each, text in api().items():
            files.write(source / f"{each}.md", text)
        told = evidence()
        for each in dict.fromkeys((*told, profile)):
            place = files.REPOSITORY if each in told and each != profile else files.root()
            files.write(source / "results" / f"{each}.md", _results(each, place, source))
        files.write(source / "generated" / "front.md", _front(profile, told, shown, failed, source))
        files.write(source / "generated" / "run.md", _missing(failed) + _run(profile))
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


def evidence() -> list[str]:
    """The profiles on CIFAR whose tables are committed, the one that leads first."""
    return [name for name in EVIDENCE if _table_path(files.REPOSITORY, name, 1).exists()]


def _table_path(place: Path, profile: str, which: int, kind: str = "md") -> Path:
    return place / "results" / profile / "tables" / f"table{which}.{kind}"


# -- the first page -------------------------------------------------------------------------------


def _front(
    profile: str, told: list[str], shown: list[str], failed: dict[str, str], source: Path
) -> str:
    """What is below the first page's title: what failed, the README, and the way to all else."""
    parts = [_missing(failed), _readme(source)]
    elsewhere = [f"/results/{each}" for each in told if each != profile]
    parts.append(_toctree("What was found", ["/findings", *elsewhere]))
    run = [f"/results/{profile}", *(f"/notebooks/{each}" for each in shown), "/run"]
    if _is_digits(profile):
        parts += [
            "## The digits run on this machine",
            "What `./run_all.sh` just computed here, from scikit-learn's digits, stands apart from "
            f"the above. {_caveat(profile)}",
            _toctree("The digits run on this machine", run),
        ]
    else:
        parts += [f"## The profile `{profile}`", _toctree(f"The profile {profile}", run)]
    pages = sorted(path.stem for path in source.glob("*.md") if path.stem not in APART)
    parts.append(_toctree("How to", [f"/{each}" for each in pages]))
    parts.append(_toctree("The code", [f"/{each}" for each in api()]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _readme(source: Path) -> str:
    """The README below its title and above its links, which the site has in its margin."""
    text = readme.path().read_text(encoding="utf-8")
    text = text.split("\n", 1)[1].split("## Read on")[0].strip()

    def picture(match: re.Match) -> str:
        return _figures(source, [files.REPOSITORY / match[2]], match[1])

    return _linked(_IMAGE.sub(picture, text), "", "index")


def _toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["```{toctree}", ":maxdepth: 1", f":caption: {caption}", "", *pages, "```"])


def _missing(failed: dict[str, str]) -> str:
    """A warning that names what failed; empty where nothing did."""
    if not failed:
        return ""
    lines = [f"- **{what}**: {_plain(reason)}" for what, reason in failed.items()]
    said = "Some of this run failed; all that does not need it is here. The next run tries again:"
    return "\n".join(["````{warning}", said, "", *lines, "````", "", ""])


def _plain(text: str) -> str:
    """Text of an error as Markdown that shows it as it is."""
    return f"``{text.replace('`', chr(39))}``"


def _is_digits(profile: str) -> bool:
    return profiles.get(profile).datasets == profiles.DIGITS


def _caveat(profile: str) -> str:
    known = profiles.get(profile)
    images = data.spec("digits").sizes[-1] if known.limit is None else known.limit[-1]
    return (
        f"The digits show that everything works. {images} test images are never evidence for a "
        "claim about a method; the CIFAR profiles are."
    )


# -- a page a profile -----------------------------------------------------------------------------


def _results(profile: str, place: Path, source: Path) -> str:
    """A profile's page: its tables, drawn and written, the papers' claims, and its figures.

    Tables and figures are those that lie below `place`; a table that is not there is made.
    """
    known, committed = profiles.get(profile), profile in evidence()
    title = f"CIFAR results: {profile}" if committed else f"Results: {profile}"
    parts = [f"# {title}", f"{known.title}; {known.machine}."]
    if _is_digits(profile):
        parts.append(f"```{{admonition}} What these numbers are good for\n{_caveat(profile)}\n```")
    figures = sorted((place / "figures" / profile).glob("*.svg"))
    for which, dataset in enumerate(known.datasets, 1):
        parts.append(f"## Table {which}: {data.spec(dataset).title}")
        drawn = [path for path in figures if path.stem.startswith(f"table{which}_")]
        parts.append(_figures(source, drawn, f"Table {which}"))
        path = _table_path(place, profile, which)
        if path.exists():
            parts.append(_written(path, profile))
        else:
            parts.append(_html(tables.readable(profile, which)))
    parts += _claims(place / "results" / profile / "tables" / "claims.csv")
    rest = [path for path in figures if not path.stem.startswith("table")]
    if rest:
        parts += ["## All other figures", "The notebooks that draw them say what they show."]
        parts.append(_figures(source, rest, profile))
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(source: Path, paths: list[Path], alt: str) -> str:
    """Pictures, one beneath the other, copied into a folder of their profile's."""
    lines = []
    for path in paths:
        place = source / "generated" / "figures" / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        said = f"{alt}: {path.stem.replace('_', ' ')}"
        lines.append(f"![{said}](/generated/figures/{path.parent.name}/{path.name})")
    return "\n\n".join(lines)


def _written(path: Path, profile: str) -> str:
    """A written table as a part of a page: without its title, its headings a level lower."""
    text = re.sub(r"^# .*\n+", "", path.read_text(encoding="utf-8"))
    text = re.sub("^## ", "### ", text, flags=re.MULTILINE)
    return _linked(text, f"results/{profile}/tables", f"results/{profile}")


def _claims(path: Path) -> list[str]:
    """The papers' claims one by one: what was measured, and whether they hold."""
    if not path.exists():
        return []
    frame = pd.read_csv(path, dtype=str)
    columns = {"papers": "Papers", "claim": "Claim", "finding": "On this profile"}
    columns |= {"measured": "Measured", "own_verdict": "By the papers' own tables", "note": "Note"}
    return ["## The papers' claims", _html(frame[[*columns]].rename(columns=columns))]


def _html(table: pd.DataFrame) -> str:
    with pd.option_context("display.max_colwidth", None, "display.max_rows", None):
        shown = table.to_html(index=False, na_rep="", border=0, escape=True)
    return f'<div class="table-wide">\n{shown}\n</div>\n'


def _linked(text: str, folder: str, page: str) -> str:
    """Links of a text from the repository's `folder`, as the site's `page` has to write them.

    A page of `docs` stays a page; any other file is linked as it lies in the repository.
    """
    up = "../" * (page.count("/") + 1)
    below = os.path.relpath(files.REPOSITORY, files.root())

    def link(match: re.Match) -> str:
        place = Path(os.path.normpath(Path(folder) / match[2]))
        if place.parent == Path("docs"):
            return f"[{match[1]}](/{place.name})"
        lies = os.path.normpath(Path(below) / place).replace(os.sep, "/")
        return f'<a href="{up}{lies}">{match[1]}</a>'

    return _LINK.sub(link, text)


# -- notebooks and code ---------------------------------------------------------------------------


def folded(notebook: dict) -> dict:
    """The notebook with MyST-NB's tags: cells that set up or check hide their code.

    Those are cells tagged `fold`, those whose output nbval checks, and the one that begins. Where
    a run injected its parameters, the cell with the default ones is left out.
    """
    cells = notebook.get("cells", [])
    injected = any("injected-parameters" in _tags(cell) for cell in cells)
    for cell in cells:
        tags, source = _tags(cell), "".join(cell["source"])
        marked = {FOLD, "parameters", "injected-parameters"} & set(tags)
        if injected and "parameters" in tags:
            tags.append("remove-cell")
        elif cell["cell_type"] == "code" and (
            marked or "NBVAL_CHECK_OUTPUT" in source or "notebook.begin(" in source
        ):
            tags.append("hide-input")
    return notebook


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].setdefault("tags", [])


def api() -> dict[str, str]:
    """The pages of the code by their place: signatures, docstrings and sources of its modules."""
    pages = {"vitstudy": [f"vitstudy{name}" for name in MODULES["vitstudy"]]}
    for family in FAMILIES:
        names = sorted(path.stem for path in (files.SOURCE / family).glob("[!_]*.py"))
        pages[family] = [f"vitstudy.{family}.{name}" for name in names]
    pages["survey"] = [f"vitstudy.survey{name}" for name in MODULES["survey"]]
    return {f"api/{name}": _api_page(name, modules) for name, modules in pages.items()}


def _api_page(name: str, modules: list[str]) -> str:
    parts = [f"# The code: {name}"]
    for module in modules:
        parts += [f"## {module}", f"```{{eval-rst}}\n.. automodule:: {module}\n```"]
    return "\n\n".join(parts) + "\n"


# -- what was run ---------------------------------------------------------------------------------


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
