"""The site: committed results on CIFAR and the executed notebooks of a profile as static pages.

Sphinx and MyST-NB build it. The first page and a page a profile show the committed evidence, whose
tables and figures are taken as they lie there, so that nothing is computed; what the profile's own
run made stands apart.
"""

from __future__ import annotations

import html
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
from vitstudy.report import tables, verdicts

log = logging.getLogger(__name__)

EVIDENCE = ("cifar-cpu", "cifar", "cifar224", "paper")
"""Profiles whose committed results the site shows, where there are any; the first leads."""
_LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


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
            (source / "notebooks").mkdir(exist_ok=True)
            shutil.copy(executed, source / "notebooks")
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
    """What is below the first page's title: what failed, what was found on CIFAR, and the way."""
    parts = [_missing(failed)]
    if told:
        parts += [
            "## Found on CIFAR",
            "From committed records, on whole test sets; nothing of it was computed by this run.",
            "\n".join(_found(each) for each in told),
            *_overview(source),
            *_row_by_row(),
        ]
    elsewhere = [each for each in told if each != profile]
    if elsewhere:
        parts.append(_toctree("CIFAR results", [f"/results/{each}" for each in elsewhere]))
    run = [f"/results/{profile}", *(f"/notebooks/{each}" for each in shown), "/run"]
    if _is_digits(profile):
        parts += [
            "## The digits run on this machine",
            "Below, and apart from the above: what `./run_all.sh` just computed here, from "
            f"scikit-learn's digits. {_caveat(profile)}",
            _toctree("The digits run on this machine", run),
        ]
    else:
        parts += [f"## The profile `{profile}`", _toctree(f"The profile {profile}", run)]
    return "\n\n".join(part for part in parts if part) + "\n"


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


def _found(profile: str) -> str:
    """What a profile's committed tables say of the papers' rows, in three sentences."""
    known = profiles.get(profile)
    frames = [pd.read_csv(_table_path(files.REPOSITORY, profile, n, "csv")) for n in tables.TABLES]
    vanilla = " and ".join(f"{frame['accuracy'].iloc[0]:.2f}" for frame in frames)
    titles = [data.spec(dataset).title for dataset in known.datasets]
    apart = []
    for frame, title in zip(frames, titles, strict=True):
        rows = frame[frame["significant"].astype(str) == "True"]
        names = ", ".join(f"{row.model} {row.difference:+.2f}" for row in rows.itertuples())
        apart.append(f"on {title} {names or 'none'}")
    count = frames[0]["difference"].notna().sum()
    network = known.title.split(", ")[-1]
    said = (
        f"**{network[:1].upper()}{network[1:]}** (`{profile}`) has {vanilla} % on "
        f"{' and '.join(titles)}. Of {count} compressed or distilled rows, those that differ from "
        f"it significantly, in points: {'; '.join(apart)}; the others cannot be told from it."
    )
    path = files.REPOSITORY / "results" / profile / "tables" / "claims.csv"
    if path.exists():
        found = pd.read_csv(path)["finding"].value_counts()
        holds, partly, fails = verdicts.three(found)
        said += (
            f" Of the papers' {found.sum()} claims {holds} hold on it, {partly} hold partly, "
            f"{fails} do not hold, and the rest cannot be checked."
        )
    return f"- {said}"


def _overview(source: Path) -> list[str]:
    """The README's figure."""
    drawn = files.REPOSITORY / "figures" / "overview.svg"
    if not drawn.exists():
        return []
    return [_figures(source, [drawn], "Accuracy of every row against vanilla, as printed and here")]


def _row_by_row() -> list[str]:
    """The README's table and findings, which a test keeps true to the committed records."""
    from vitstudy.report import readme

    lines = readme.made_part(readme.path().read_text(encoding="utf-8")).splitlines()
    table = []
    for line in lines:  # the first of its tables
        if line.startswith("|"):
            table.append(line)
        elif table:
            break
    found = [_linked(line, "") for line in lines if line.startswith("- **")]
    return ["### The papers' rows", _html_table(table, ""), "### Row by row", "\n".join(found)]


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
            parts.append(_written(path, f"results/{profile}/tables/"))
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


def _written(path: Path, folder: str) -> str:
    """A written table as a part of a page: its title left out, its tables as HTML."""
    parts: list[str] = []
    table: list[str] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("| "):
            table.append(line)
            continue
        if table:
            parts.append(_html_table(table, folder))
            table = []
        if line.startswith("## "):
            parts.append(f"#{line}")
        elif line and not line.startswith("# "):
            parts.append(line)
    return "\n\n".join(parts)


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


def _html_table(lines: list[str], folder: str) -> str:
    """A Markdown table as one of HTML that can be sorted; its links count from `folder`."""
    head, rules, *body = ([cell.strip() for cell in _cells(line)] for line in lines)
    sides = ["" if rule.endswith(":") else ' class="text"' for rule in rules]

    def row(kind: str, cells: list[str]) -> str:
        parts = (
            f"<{kind}{side}>{_inline(cell, folder)}</{kind}>"
            for cell, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{''.join(parts)}</tr>\n"

    rows = "".join(row("td", cells) for cells in body)
    return (
        '<div class="table-wide">\n<table class="dataframe marked">\n'
        f"<thead>{row('th', head)}</thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
    )


def _cells(line: str) -> list[str]:
    bare = line.strip().removeprefix("|").removesuffix("|")
    return [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", bare)]


def _inline(text: str, folder: str) -> str:
    """A Markdown cell as HTML: links, code and bold are all that the study's tables have."""
    text = _linked(html.escape(text, quote=False), folder)
    return _BOLD.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", text))


def _linked(text: str, folder: str) -> str:
    """Links to the repository's files as they lie, from a page of the site.

    `folder` is where in the repository the text is from, with a slash at its end.
    """
    up = "../" * (2 if folder else 1)
    below = os.path.relpath(files.REPOSITORY, files.root())

    def link(match: re.Match) -> str:
        place = os.path.normpath(f"{below}/{folder}{match[2]}").replace(os.sep, "/")
        return f'<a href="{up}{place}">{match[1]}</a>'

    return _LINK.sub(link, text)


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
