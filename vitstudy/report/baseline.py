"""What notebook 00 says of the baselines: tables from records and predictions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from vitstudy import data, files, profiles, statistics, study
from vitstudy.errors import UserError
from vitstudy.methods import METHODS
from vitstudy.record import Record
from vitstudy.report.evidence import Evidence
from vitstudy.report.published import tokens
from vitstudy.study import Cell


def class_names(dataset: str) -> list[str]:
    """What each class shows; its number where that is too much to say."""
    if dataset == "cifar100":
        return [str(number) for number in range(100)]
    return data.class_names(dataset)


def measured(profile: str) -> list[Cell]:
    """The first seed's vanilla of each data set whose record is at hand.

    Raises UserError, with the command to run, where there is none.
    """
    return Evidence(profile).needed("vanilla")


def images(cell: Cell) -> data.Dataset | None:
    """The cell's data set, or None where only its records are here: nothing is downloaded."""
    try:
        if not data.at_hand(cell.dataset):
            return None
    except UserError:  # VITSTUDY_DATA names a folder that does not exist
        return None
    return data.load(cell.dataset, profiles.get(cell.profile).limit)


def _measured(profile: str) -> Iterator[tuple[Cell, Record, data.Spec]]:
    """Each cell of `measured` with its record and what is known of its data set."""
    for cell in measured(profile):
        yield cell, study.read(cell), data.spec(cell.dataset)


def splits(profile: str) -> pd.DataFrame:
    """Images in each split, classes, and what shows that it is the same data."""
    evidence, rows = Evidence(profile), []
    known = evidence.known
    for dataset in known.datasets:
        spec, record = data.spec(dataset), study.read(evidence.cell(dataset, "vanilla"))
        sizes = [min(pair) for pair in zip(spec.sizes, known.limit or spec.sizes, strict=True)]
        row = {"data set": spec.title, "classes": spec.num_classes}
        row |= dict(zip(data.SPLITS, sizes, strict=True))
        row["channels"] = spec.channels
        row["hash"] = record.dataset_hash[:12] if record else "not measured"
        rows.append(row)
    return pd.DataFrame(rows)


def architecture(profile: str) -> pd.DataFrame:
    """The network of each baseline; parameters and MACs by formula and as counted on the file."""
    from vitstudy import formulas

    shape = profiles.get(profile).architecture
    return pd.DataFrame(
        {
            "data set": spec.title,
            "width": shape.width,
            "blocks": shape.depth,
            "heads": shape.heads,
            "tokens": tokens(shape),
            "parameters by formula": formulas.vit_parameters(
                shape, spec.num_classes, spec.channels
            ),
            "parameters counted": record.parameters,
            "MACs by formula": formulas.vit_macs(shape, spec.num_classes, spec.channels),
            "MACs counted": record.macs,
        }
        for _, record, spec in _measured(profile)
    )


def training(profile: str) -> pd.DataFrame:
    """What each baseline's training took; seconds are of one seed on the record's machine."""
    return pd.DataFrame(
        {
            "data set": spec.title,
            "steps": record.steps,
            "batch": record.options["recipe"]["batch_size"],
            "epochs": round(record.images_seen / _training_images(record, spec), 1),
            "training, s": record.training_seconds,
            "images/s": round(record.images_seen / max(record.training_seconds, 1e-9)),
            "machine": record.gpu or record.cpu,
            "made again by": record.command,
        }
        for _, record, spec in _measured(profile)
    )


def _training_images(record: Record, spec: data.Spec) -> int:
    return min(spec.sizes[0], (record.options["limit"] or spec.sizes)[0])


def accuracy(profile: str) -> pd.DataFrame:
    """Test accuracy of each baseline and seed with its 95 % interval, percent."""
    evidence = Evidence(profile)
    return pd.DataFrame(
        {
            "data set": spec.title,
            "seed": seed,
            "test images": record.test_images,
            "accuracy, %": round(100 * record.accuracy, 2),
            "low": round(100 * record.accuracy_low, 2),
            "high": round(100 * record.accuracy_high, 2),
            "interval": record.accuracy_interval,
        }
        for cell, _, spec in _measured(profile)
        for seed, record in evidence.records(cell.dataset, "vanilla").items()
    )


def mean_accuracy(profile: str, dataset: str) -> float:
    """Percent, over the seeds that are done."""
    return Evidence(profile).accuracy(dataset, "vanilla")


def interval_widths(cell: Cell) -> tuple[float, float]:
    """Points from low to high: of the record's interval, and of one that takes every image for
    independent (Wilson's)."""
    record, correct = study.read(cell), outcomes(cell)[1]
    low, high = statistics.wilson(int(correct.sum()), len(correct))
    return 100 * (record.accuracy_high - record.accuracy_low), 100 * (high - low)


def outcomes(cell: Cell) -> tuple[np.ndarray, np.ndarray]:
    """Of each test image, how sure the model was (0..1) and whether it was right."""
    found = study.predictions(cell)
    return found["probabilities"][:, 0].astype(float), found["classes"][:, 0] == found["labels"]


def confused(cell: Cell, count: int = 5) -> pd.DataFrame:
    """The mistakes that are made most often."""
    predictions, names = study.predictions(cell), class_names(cell.dataset)
    pairs = {"label": predictions["labels"], "predicted": predictions["classes"][:, 0]}
    wrong = pd.DataFrame(pairs).query("label != predicted")
    times = wrong.groupby(["label", "predicted"]).size().reset_index(name="times")
    times = times.sort_values("times", ascending=False, kind="stable").head(count)
    shown = {name: [names[number] for number in times[name]] for name in pairs}
    return pd.DataFrame({**shown, "times": times["times"].to_numpy()})


def flips(profile: str) -> pd.DataFrame:
    """For every other measured row of the first seed: images whose predicted class changed."""
    evidence = Evidence(profile)
    rows = [
        {
            "data set": data.spec(base.dataset).title,
            "model": method.title,
            "test images": record.test_images,
            "flips": record.flips,
            "right to wrong": record.flips_to_wrong,
            "wrong to right": record.flips_to_right,
        }
        for base in measured(profile)
        for method in METHODS
        if (record := evidence.record(base.dataset, method.key)) and record.flips is not None
    ]
    columns = ["data set", "model", "test images", "flips", "right to wrong", "wrong to right"]
    return pd.DataFrame(rows, columns=columns)


def size(profile: str) -> pd.DataFrame:
    """Bytes of each baseline's file against four for each parameter, MiB."""
    return pd.DataFrame(
        {
            "data set": spec.title,
            "file, MiB": record.size_mib,
            "4 bytes a parameter, MiB": round(4 * record.parameters / 2**20, 4),
            "file": cell.artifact_path.relative_to(files.root()).as_posix(),
        }
        for cell, record, spec in _measured(profile)
    )
