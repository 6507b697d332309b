"""README.md and the pages of the site that hold numbers: their made parts, from the records.

`results/digits/summary.json` keeps what the default study gave when it was last refreshed; the
records of the other profiles are in the repository themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vitstudy import files, methods, profiles, study, workflow
from vitstudy.errors import UserError
from vitstudy.report import findings, front, manifest, scales, tables, transfer
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import markdown

BEGIN, END = "<!-- made from records: python -m vitstudy refresh -->", "<!-- end -->"
FIGURE = "figures/overview"
GPU = "cifar"
"""The profile whose GPU speeds are told."""


def path() -> Path:
    return files.REPOSITORY / "README.md"


def summarise() -> dict:
    """What the default study gave here, for the README and for the comparison of scales.

    `runs` says how long it took from nothing, by processor: those that other machines left stay.
    Raises UserError where it was not made whole, from nothing, in this folder.
    """
    duration = files.read_json(workflow.duration_path("digits"))
    cells = study.cells("digits")
    if not duration or any(study.why_not(cell) for cell in cells):
        raise UserError(
            "the digits study was not made from nothing here: remove results/digits/records and "
            "artifacts/digits, run ./run_all.sh, then refresh"
        )
    first = study.read(cells[0])
    before = files.read_json(scales.SUMMARY) or {}
    run = {
        "cpu": first.cpu,
        "seconds": duration["seconds"],
        "cells": len(cells),
        "torch": first.versions["torch"],
        "commit": first.commit,
    }
    others = [each for each in before.get("runs", []) if each["cpu"] != first.cpu]
    return {"runs": [run, *others], "rows": rows("digits")}


def rows(profile: str) -> list[dict]:
    """An entry for each of the papers' rows measured on a profile.

    Its accuracy, 0 to 1, and its difference from vanilla, in points, each with its 95 % interval.
    """
    evidence = Evidence(profile)
    differences = {
        (evidence.dataset(which), row["key"]): {
            name: row[name]
            for name in ("difference", "difference_low", "difference_high", "significant")
        }
        for which in tables.TABLES
        for row in tables.compared(profile, which).dropna(subset="difference").to_dict("records")
    }
    return [
        {
            "dataset": cell.dataset,
            "method": cell.method,
            "accuracy": record.accuracy,
            "accuracy_low": record.accuracy_low,
            "accuracy_high": record.accuracy_high,
            **differences.get((cell.dataset, cell.method), {}),
        }
        for cell in study.cells(profile)
        if cell == evidence.cell(cell.dataset, cell.method)  # of the first seed
        and methods.get(cell.method).tier == "paper"  # the others are in the tables
        and (record := evidence.record(cell.dataset, cell.method))
    ]


# -- the pages -------------------------------------------------------------------------------------


def first_page(summary: dict) -> str:
    """The README's: what to take, the figure and six rows."""
    return front.render(findings.shown_profile(), FIGURE)


def findings_page(summary: dict) -> str:
    """All that was found: row by row, on a GPU, and from scale to scale."""
    shown, losses = findings.shown_profile(), transfer.losses()
    resolved = transfer.readable(losses)
    lines = [
        "## Row by row",
        "",
        *(f"- {line}" for line in [*findings.lines(shown), *findings.on_a_gpu(GPU)]),
        "",
        "## From scale to scale",
        "",
        *(f"- {line}" for line in transfer.lines(losses)),
        "",
        "The rows with a difference from vanilla that is resolved at some scale, in points, with "
        f"95 % intervals; {tables.SIGNIFICANT} where it is resolved:",
        "",
        *markdown(resolved, resolved.itertuples(index=False), ("Data", "Model", "Transfers")),
    ]
    return _from_docs("\n".join(lines))


def profiles_page(summary: dict) -> str:
    """What each profile is, how long it took and where."""
    lines = [
        *_profile_table(summary),
        "",
        "The default study from nothing, set-up included:",
        "",
        *_run_table(summary["runs"]),
    ]
    return "\n".join(lines)


PAGES: dict[str, Callable[[dict], str]] = {
    "README.md": first_page,
    "docs/findings.md": findings_page,
    "docs/reproducing.md": profiles_page,
}
"""The files with a made part, from the repository's root, and what makes it of the summary."""


def _from_docs(text: str) -> str:
    """Links to the repository's files, as a page in `docs` has to write them."""
    return re.sub(r"\]\((?=results/)", "](../", text)


def _run_table(runs: list[dict]) -> list[str]:
    """How long the default study takes where: a line for each processor that it was timed on."""
    words = ("Processor", "torch", "It says at the end")
    rows = []
    for run in runs:
        said = f"`vitstudy: {workflow.done_line(run['seconds'])}`"
        rows.append((run["cpu"], run["torch"], run["cells"], said))
    return markdown(("Processor", "torch", "Cells", "It says at the end"), rows, words)


def _profile_table(summary: dict) -> list[str]:
    rows = []
    for name, known in profiles.PROFILES.items():
        if name == "smoke":
            continue
        cells = study.cells(name, not_installed=True)
        if name == "digits":
            times = [run["seconds"] for run in summary["runs"]]
            shortest, longest = _duration(min(times)), _duration(max(times))
            span = shortest if shortest == longest else f"{shortest} to {longest}"
            took, count, total = f"{span}, the whole run", summary["runs"][0]["cells"], len(cells)
        else:
            made = manifest.manifest(name)
            count = sum(str(cell).removeprefix(f"{name}/") in made["cells"] for cell in cells)
            total = count + len(made["not_measured"])
            elapsed, summed = (_duration(made[name]) for name in ("elapsed_seconds", "seconds"))
            took = f"{elapsed}; {summed}, sum of the cells" if count else "not measured"
        absent = len(manifest.not_computed(name))
        cells_told = f"{count} of {total}; {absent} rows of the study are not computed"
        rows.append((f"`{name}`", known.title, known.machine, took, cells_told))
    words = ("Profile", "What", "Machine")
    return markdown((*words, "Time", "Cells measured"), rows, words)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 3_600 else f"{seconds / 3_600:.1f} h"


def made_part(text: str, name: str = "README.md") -> str:
    """The part of a page's `text` between the marks; raises UserError where they are gone."""
    if text.count(BEGIN) != 1 or END not in text.split(BEGIN)[1]:
        raise UserError(f"{name} lacks the line {BEGIN} or the line {END} after it")
    return text.split(BEGIN)[1].split(END)[0].strip("\n")


def refresh(*, made_here: bool = True) -> None:
    """Write the summary, the pages' made parts and the first page's figure anew.

    Without `made_here` the summary stays as it was last written, and the rest follows the records.
    """
    from vitstudy.report import comparison_figures, style

    if made_here:
        files.write_json(scales.SUMMARY, summarise())
    summary = files.read_json(scales.SUMMARY)
    if summary is None:
        raise UserError(f"{scales.SUMMARY} is absent or damaged: git checkout it")
    for name, render in PAGES.items():
        page = files.REPOSITORY / name
        text = page.read_text(encoding="utf-8")
        made_part(text, name)
        before, after = text.split(BEGIN)[0], text.split(END)[-1]
        files.write(page, f"{before}{BEGIN}\n\n{render(summary)}\n\n{END}{after}")
    shown = findings.shown_profile()
    figure = comparison_figures.overview(front.points(shown), front.vanilla(shown))
    for kind in ("svg", "png"):
        files.write(files.REPOSITORY / f"{FIGURE}.{kind}", style.render(figure, kind))
