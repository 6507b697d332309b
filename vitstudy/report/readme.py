"""The README's first screen, made from records: what came out, on what, and how long it took.

`results/digits/summary.json` keeps what the default study gave when it was last refreshed; the
records of the other profiles are in the repository themselves.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vitstudy import data, files, methods, profiles, speed, study, workflow
from vitstudy.errors import UserError
from vitstudy.report import tables

BEGIN, END = "<!-- made from records: python -m vitstudy refresh -->", "<!-- end -->"
FIGURE = "figures/overview"


def path() -> Path:
    return files.REPOSITORY / "README.md"


def summary_path() -> Path:
    return files.REPOSITORY / "results" / "digits" / "summary.json"


def summarise() -> dict:
    """What the default study gave here, for the README and for its figure.

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
    return {
        "seconds": duration["seconds"],
        "cpu": first.cpu,
        "torch": first.versions["torch"],
        "commit": first.commit,
        "cells": len(cells),
        "rows": rows("digits"),
    }


def rows(profile: str) -> list[dict]:
    """An entry for each of the papers' rows measured on a profile: accuracy, size, speed."""
    found = []
    for cell in study.cells(profile):
        record = study.read(cell)
        if record is None or record.status != "done" or cell.seed != profiles.get(profile).seeds[0]:
            continue
        if methods.get(cell.method).beneath:  # variants and controls are in the tables
            continue
        timed = speed.latest(cell) or {}
        found.append(
            {
                "dataset": cell.dataset,
                "method": cell.method,
                "accuracy": record.accuracy,
                "accuracy_low": record.accuracy_low,
                "accuracy_high": record.accuracy_high,
                "size_mib": record.size_mib,
                "simulated": record.simulated,
                "images_per_second": timed.get("images_per_second"),
                "ratio_to_vanilla": timed.get("ratio_to_vanilla"),
                "record": str(cell.record_path.relative_to(files.root())),
            }
        )
    return found


def render(summary: dict) -> str:
    """The README's made part, from `summary` and the committed records."""
    lines = [
        f"![Accuracy of every measured row, and what the papers print]({FIGURE}.svg)",
        "",
        f"`./run_all.sh` on {summary['cpu']}, torch {summary['torch']}, set-up included, ends with",
        "",
        "```",
        f"vitstudy: {workflow.done_line(summary['seconds'])}",
        "```",
        "",
        *_measured_table(summary),
        "",
        *_profile_table(summary),
    ]
    return "\n".join(lines)


def committed() -> dict[str, list[dict]]:
    """The measured rows of every profile whose records are in the repository."""
    return {name: rows(name) for name, known in profiles.PROFILES.items() if known.committed}


def _measured_table(summary: dict) -> list[str]:
    lines = [
        "| Data set | Model | Accuracy, % (95 % interval) | File, MiB | Images/s against vanilla |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for profile, found in {"digits": summary["rows"], **committed()}.items():
        for row in found:
            low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
            accuracy = f"{100 * row['accuracy']:.2f} ({low:.2f} to {high:.2f})"
            if profile != "digits":  # those records are in the repository, to be read
                accuracy = f"[{accuracy}]({row['record']})"
            ratio = row["ratio_to_vanilla"]
            missing = "none: simulated" if row["simulated"] else "not measured"
            title = methods.get(row["method"]).title
            lines.append(
                f"| {data.spec(row['dataset']).title} | {title} | {accuracy} | "
                f"{tables.significant(row['size_mib'])} | "
                f"{missing if ratio is None else format(ratio, '.2f')} |"
            )
    return lines


def _profile_table(summary: dict) -> list[str]:
    lines = [
        "| Profile | What | Machine | Computing time | Cells measured |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for name, known in profiles.PROFILES.items():
        if name == "smoke":
            continue
        cells = study.cells(name, not_installed=True)
        if name == "digits":
            seconds, count = summary["seconds"], summary["cells"]
        else:
            records = [record for cell in cells if (record := study.read(cell))]
            seconds, count = sum(record.seconds or 0 for record in records), len(records)
        took = f"{seconds / 60:.0f} min" if count else "not measured"
        lines.append(
            f"| `{name}` | {known.title} | {known.machine} | {took} | {count} of {len(cells)} |"
        )
    return lines


def made_part(text: str) -> str:
    """The part of the README's `text` between the marks; raises UserError where they are gone."""
    if text.count(BEGIN) != 1 or END not in text.split(BEGIN)[1]:
        raise UserError(f"README.md lacks the line {BEGIN} or the line {END} after it")
    return text.split(BEGIN)[1].split(END)[0].strip("\n")


def refresh() -> None:
    """Write the summary, the README's made part and its figure anew."""
    from vitstudy.report import figures, style

    summary = summarise()
    files.write_json(summary_path(), summary)
    text = path().read_text()
    files.write(path(), text.replace(made_part(text), render(summary)))
    figure = figures.overview(_figure_rows(summary))
    for kind in ("svg", "png"):
        files.write(files.REPOSITORY / f"{FIGURE}.{kind}", style.render(figure, kind))


def _figure_rows(summary: dict) -> pd.DataFrame:
    found = []
    for profile, rows_of_profile in {"digits": summary["rows"], **committed()}.items():
        for row in rows_of_profile:
            method = methods.get(row["method"])
            which = profiles.get(profile).datasets.index(row["dataset"])
            numbers = ("accuracy", "accuracy_low", "accuracy_high")
            found.append(
                {
                    "label": f"{data.spec(row['dataset']).title}: {method.title}",
                    "accuracy_published": method.published[which].accuracy,
                    "size_mib": row["size_mib"],
                    **{name: 100 * row[name] for name in numbers},
                }
            )
    return pd.DataFrame(found)
