"""The README's first screen, made from records: what came out, on what, and how long it took.

`results/digits/summary.json` keeps what the default study gave when it was last refreshed; the
records of the other profiles are in the repository themselves.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vitstudy import data, files, methods, profiles, study, workflow
from vitstudy.errors import UserError
from vitstudy.report import findings, manifest, scales, tables
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import markdown, significant

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
    """An entry for each of the papers' rows measured on a profile: its accuracy."""
    evidence = Evidence(profile)
    return [
        {
            "dataset": cell.dataset,
            "method": cell.method,
            "accuracy": record.accuracy,
            "accuracy_low": record.accuracy_low,
            "accuracy_high": record.accuracy_high,
        }
        for cell in study.cells(profile)
        if cell == evidence.cell(cell.dataset, cell.method)  # of the first seed
        and methods.get(cell.method).tier == "paper"  # the others are in the tables
        and (record := evidence.record(cell.dataset, cell.method))
    ]


def render(summary: dict) -> str:
    """The README's made part, from `summary` and the committed records."""
    shown = findings.shown_profile()
    found = [*findings.lines(shown), *findings.on_a_gpu(GPU), scales.conclusion()]
    lines = [
        f"![Accuracy of every row against vanilla, measured and published]({FIGURE}.svg)",
        "",
        *(f"- {line}" for line in found),
        "",
        *_headline_table(shown),
        "",
        f"Measured on `{shown}`. An accuracy links to its record; in brackets is its 95 % interval "
        "over test images, or of several seeds the mean ± the standard deviation. Variants, "
        f"controls and tests are in [results/{shown}/tables](results/{shown}/tables), what it took "
        f"in [its manifest](results/{shown}/manifest.json).",
        "",
        *_profile_table(summary),
        "",
        "`./run_all.sh` from nothing, set-up included:",
        "",
        *_run_table(summary["runs"]),
    ]
    return "\n".join(lines)


def _headline_table(profile: str) -> list[str]:
    """The papers' thirteen rows on both data sets: published and measured."""
    evidence = Evidence(profile)
    known = evidence.known
    frames = [tables.table(profile, which) for which in tables.TABLES]
    intervals = [tables.intervals(profile, which) for which in tables.TABLES]
    titles = [data.spec(dataset).title for dataset in known.datasets]
    headings = ["Model"]
    for title in titles:
        headings += [f"{title} published, %", "measured, %"]
    headings += ["File, MiB (published)", "Images/s against vanilla, CPU"]
    rows = []
    for position, method in enumerate(methods.METHODS):
        cells = [method.title]
        for dataset, frame, limits in zip(known.datasets, frames, intervals, strict=True):
            row = frame.iloc[position]
            cells.append(f"{row['accuracy_published']:.2f}")
            if method.key not in limits:
                cells.append("not measured")
                continue
            low, high = limits[method.key]
            place = tables.record_place(evidence, dataset, method.key)
            said = f"{row['accuracy']:.2f} ({low:.2f} to {high:.2f})"
            cells.append(f"[{said}](results/{profile}/{place})")
        first = frames[0].iloc[position]
        published = first["size_published"]
        beside = "" if pd.isna(published) else f" ({published:.0f})"
        measured = pd.notna(first["size_mib"])
        cells.append(significant(first["size_mib"]) + beside if measured else "not measured")
        ratio = first["cpu_ratio"]
        simulated = pd.notna(first["simulated"]) and first["simulated"]
        absent = "none: simulated" if simulated else "not measured"
        cells.append(absent if pd.isna(ratio) else f"{ratio:.2f}")
        rows.append(cells)
    return markdown(headings, rows, words=("Model",))


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


def made_part(text: str) -> str:
    """The part of the README's `text` between the marks; raises UserError where they are gone."""
    if text.count(BEGIN) != 1 or END not in text.split(BEGIN)[1]:
        raise UserError(f"README.md lacks the line {BEGIN} or the line {END} after it")
    return text.split(BEGIN)[1].split(END)[0].strip("\n")


def refresh(*, made_here: bool = True) -> None:
    """Write the summary, the README's made part and its figure anew.

    Without `made_here` the summary stays as it was last written, and the rest follows the records.
    """
    from vitstudy.report import comparison_figures, style

    if made_here:
        files.write_json(scales.SUMMARY, summarise())
    summary = files.read_json(scales.SUMMARY)
    if summary is None:
        raise UserError(f"{scales.SUMMARY} is absent or damaged: git checkout it")
    text = path().read_text(encoding="utf-8")
    files.write(path(), text.replace(made_part(text), render(summary)))
    shown = findings.shown_profile()
    titles = [data.spec(dataset).title for dataset in profiles.get(shown).datasets]
    frames = [tables.compared(shown, which) for which in tables.TABLES]
    published = [
        tables.ratios(shown, which)["accuracy_change_published"] for which in tables.TABLES
    ]
    figure = comparison_figures.overview(frames, published, titles)
    for kind in ("svg", "png"):
        files.write(files.REPOSITORY / f"{FIGURE}.{kind}", style.render(figure, kind))
