"""What notebook 00 says of other machines: what comes back there, and how closely."""

from __future__ import annotations

import re

import pandas as pd

from vitstudy import data, methods, portability
from vitstudy.report import bands
from vitstudy.report.evidence import Evidence

EVIDENCE = "cifar-cpu"
"""The profile whose committed table is shown where one has none of its own."""
SETS = {"default": "none (default)", "avx2": "AVX2", "avx512": "AVX-512"}


def table(profile: str) -> tuple[str, pd.DataFrame]:
    """The profile's `tables/portability.csv`, else that of `EVIDENCE`, and whose it is; without
    either an empty table."""
    for name in (profile, EVIDENCE):
        if portability.path(name).exists():
            return name, pd.read_csv(portability.path(name), encoding="utf-8")
    return profile, pd.DataFrame(columns=portability.COLUMNS)


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The table under headings for a reader."""
    same_file = frame["what"].eq("artifact")
    against = frame["against"].map(lambda name: SETS.get(name, name))
    return pd.DataFrame(
        {
            "Data set": [data.spec(name).title for name in frame["dataset"]],
            "Model": [methods.get(key).title for key in frame["method"]],
            "Compared": same_file.map({True: "one file, held to", False: "the record, made on"}),
            "Which": frame["instructions"].map(SETS).where(same_file, against),
            "Against": against.where(same_file, "this kind of machine"),
            "Largest difference": frame["largest_difference"].map("{:.3g}".format),
            "of": frame["of"],
            "Answers that differ": [
                f"{flips} of {images:,}"
                for flips, images in zip(frame["flips"], frame["images"], strict=True)
            ],
            "On": frame["cpu"],
        }
    )


def recipe(profile: str) -> pd.DataFrame:
    """Accuracy of vanilla in percent for each seed and instruction set it was trained with.

    Of the samples of the bands where the profile is theirs, else of the records. Columns as in
    `portability.RECIPE_COLUMNS`.
    """
    evidence, rows = Evidence(profile), []
    known = evidence.known
    for dataset in known.datasets:
        if profile == bands.PROFILE:
            samples = bands.references().get("00_baselines", {}).get(f"accuracy {dataset}, %", [])
            rows += [
                (dataset, each["seed"], each["instructions"], each["cpu"], each["value"])
                for each in samples
            ]
            continue
        seeds = (*known.seeds, *known.vanilla_seeds)
        for seed, record in evidence.records(dataset, "vanilla", seeds).items():
            where = record.gpu or (record.cpu or "").rpartition(" (")[0]
            accuracy = round(100 * record.accuracy, 4)
            held = "" if record.gpu else _held_to(record.cpu)
            rows.append((dataset, seed, held, where, accuracy))
    return pd.DataFrame(rows, columns=portability.RECIPE_COLUMNS)


def _held_to(cpu: str | None) -> str:
    """The instruction set in a record's `cpu`, as `instructions.SETS` names it."""
    found = re.search(r", (\w+)\)$", cpu or "")
    return found[1].lower() if found else ""


def readable_recipe(frame: pd.DataFrame) -> pd.DataFrame:
    """Accuracies by data set and instruction set, a column a seed."""
    if frame.empty:
        return frame
    shown = pd.DataFrame(
        {
            "Data set": [data.spec(name).title for name in frame["dataset"]],
            "On": frame["cpu"],
            "Held to": frame["instructions"].map(lambda name: SETS.get(name, name)),
            "seed": [f"seed {seed}, %" for seed in frame["seed"]],
            "accuracy": frame["accuracy"],
        }
    )
    index = ["Data set", "On", "Held to"]
    wide = shown.pivot_table(index=index, columns="seed", values="accuracy", sort=False)
    return wide.round(2).reset_index().rename_axis(columns=None)


def says(profile: str) -> str:
    """What of a study may be expected to come back on another machine, from the tables."""
    name, frame = table(profile)
    lines = [*_says_files(name, frame), *_says_recipe(recipe(profile))]
    return " ".join(lines) or (
        "Not measured on this profile; "
        f"`python -m vitstudy portability {profile}` compares this machine's instruction sets."
    )


def _says_files(name: str, frame: pd.DataFrame) -> list[str]:
    lines = []
    for what, how in (
        ("artifact", "The same file under older instructions of one processor"),
        ("record", "What was computed here against the records of another kind of machine"),
    ):
        part = frame[frame["what"].eq(what)]
        if part.empty:
            continue
        share = 100 * part["flips"] / part["images"]
        is_float = part["method"].eq("vanilla")
        told = [f"{how} (profile {name})"]
        if is_float.any():
            told.append(f"changes at most {_answers(part[is_float])} of the float model")
        if (~is_float).any():
            worst = part.loc[share[~is_float].idxmax()]
            told.append(
                f"{'and' if is_float.any() else 'changes'} at most {_answers(part[~is_float])} of "
                f"those that round ({methods.get(worst['method']).title})"
            )
        lines.append(f"{told[0]} {' '.join(told[1:])}.")
    return lines


def _answers(part: pd.DataFrame) -> str:
    worst = part.loc[(part["flips"] / part["images"]).idxmax()]
    return f"{worst['flips']} of {worst['images']:,} answers"


def _says_recipe(frame: pd.DataFrame) -> list[str]:
    """How far instruction sets move a trained model's accuracy, beside what seeds do."""
    lines = []
    for dataset, part in frame.groupby("dataset", sort=False):
        by_set = part.groupby(["cpu", "instructions"])["accuracy"]
        over_seeds = (by_set.max() - by_set.min())[by_set.count() > 1]
        by_seed = part.groupby("seed")["accuracy"]
        over_sets = (by_seed.max() - by_seed.min())[by_seed.count() > 1]
        told = []
        if len(over_sets):
            told.append(f"up to {over_sets.max():.2f} points apart on other processors")
        if len(over_seeds):
            told.append(f"up to {over_seeds.max():.2f} points apart from other seeds")
        if told:
            title = data.spec(dataset).title
            lines.append(f"Trained anew, vanilla on {title} ends {' and '.join(told)}.")
    return lines
