"""What was found on real data, in a dozen lines that are computed from the records.

A page of the site shows them. Every number in them is of the profile's committed records; where a
row or a control is not measured, the line says less.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vitstudy import profiles, speed
from vitstudy.methods import METHODS
from vitstudy.report import tables, verdicts
from vitstudy.report.evidence import Evidence
from vitstudy.report.significance import NO_LOSS, UNTOLD, Difference, corrected, difference


@dataclass(frozen=True)
class Finding:
    """One line: some of the papers' rows and, where there is one, the control of their gain."""

    name: str
    keys: tuple[str, ...]
    control: str = ""
    control_is: str = ""


FINDINGS = (
    Finding("Dynamic int8", ("dynamic",)),
    Finding("FQ-ViT (W8A8, simulated)", ("fq-vit",), "fq-vit-minmax", "min/max at the same bits"),
    Finding("LSQ at 4 bits (simulated)", ("lsq-w4",), "rounded-w4", "plain rounding"),
    Finding(
        "DiffQ on a quarter of the width (simulated)",
        ("diffq",),
        "small-as-diffq",
        "a dense network of as many bytes",
    ),
    Finding("DeiT base", ("deit-base",), "token-labels", "the same token without a teacher"),
    Finding("DeiT tiny", ("deit-tiny",), "tiny-labels", "the same network without a teacher"),
    Finding(
        "Pruning a tenth and a fifth",
        ("vtp-r0.1", "vtp-r0.2"),
        "continued-twice",
        "the baseline trained as long",
    ),
    Finding(
        "Nyström attention, m = 24, 32, 64",
        ("nystrom-m24", "nystrom-m32", "nystrom-m64"),
        "continued",
        "the baseline trained as long",
    ),
    Finding("DeiT base with dynamic int8", ("deit-base+dynamic",), "deit-base", "DeiT base"),
)


def shown_profile() -> str:
    """The profile of CIFAR with the most of the papers' rows measured, of several the largest."""
    return max(("paper", "cifar", "cifar-cpu"), key=_rows_measured)


def _rows_measured(profile: str) -> int:
    evidence = Evidence(profile)
    keys = [method.key for method in METHODS]
    return sum(
        evidence.record(dataset, key) is not None for dataset in evidence.datasets for key in keys
    )


def lines(profile: str) -> list[str]:
    """The findings on `profile` as lines of Markdown, without bullets."""
    known, frames = profiles.get(profile), _compared(profile)
    ratios = [tables.ratios(profile, which).set_index("key") for which in tables.TABLES]
    if not frames:
        return []
    found = [_setting(known, frames)]
    found += [_line(known, each, frames, ratios) for each in FINDINGS if _measured(each, frames)]
    return [*found, _too_small(known, frames), _claims(profile)]


def _compared(profile: str) -> list[pd.DataFrame]:
    """`tables.compared` of both tables, by key; none where one of them has no vanilla."""
    frames = [tables.compared(profile, which).set_index("key") for which in tables.TABLES]
    unmeasured = any(pd.isna(frame.at["vanilla", "accuracy"]) for frame in frames)
    return [] if unmeasured else frames


def on_a_gpu(profile: str) -> list[str]:
    """A line on the papers' rows that were measured on a GPU; none where vanilla was not."""
    known, frames = profiles.get(profile), _compared(profile)
    if not frames:
        return []
    accuracy = " / ".join(f"{frame.at['vanilla', 'accuracy']:.2f}" for frame in frames)
    gpu = Evidence(profile).record(known.datasets[0], "vanilla").gpu
    parts = []
    for frame, title in zip(frames, tables.PUBLISHED_ON, strict=True):
        apart = frame[frame["significant"].eq(True)]
        told = ", ".join(f"{row.model} {row.difference:+.2f}" for row in apart.itertuples())
        parts.append(f"{told or 'none'} ({title})")
    count = " / ".join(str(frame["difference"].notna().sum()) for frame in frames)
    return [
        f"**On a GPU**, `{profile}` ({known.title.split(', ')[-1]}, {gpu}): vanilla has {accuracy} "
        f"%. Of {count} rows beside it significantly apart, in points: {'; '.join(parts)}."
        f"{_gpu_speeds(known, frames[0])}"
    ]


def _gpu_speeds(known: profiles.Profile, frame: pd.DataFrame) -> str:
    """The rows' GPU speeds against vanilla's in the interleaved run, beside the printed ones'."""
    printed = frame["gpu_speed_published"] / frame.at["vanilla", "gpu_speed_published"]
    evidence, parts = Evidence(known.name), []
    for key in frame.index.drop("vanilla"):
        if found := speed.latest(evidence.cell(known.datasets[0], key), "cuda"):
            ratio = found["ratio_to_vanilla"]
            parts.append(f"{frame.at[key, 'model']} {ratio:.2f} ({printed[key]:.2f})")
    return f" Times its images/s there (as printed): {', '.join(parts)}." if parts else ""


def _measured(finding: Finding, frames: list[pd.DataFrame]) -> bool:
    return all(pd.notna(frame.at[key, "difference"]) for frame in frames for key in finding.keys)


def _setting(known: profiles.Profile, frames: list[pd.DataFrame]) -> str:
    measured = " and ".join(f"{frame.at['vanilla', 'accuracy']:.2f}" for frame in frames)
    printed = " and ".join(f"{frame.at['vanilla', 'accuracy_published']:.2f}" for frame in frames)
    return (
        f"**Setting.** {known.title}: vanilla has {measured} % on CIFAR-10 and CIFAR-100, the "
        f"papers' pretrained ViT-B/16 {printed} %. What follows is against vanilla, in points on "
        "CIFAR-10 / CIFAR-100, * where significant; in brackets, what the papers print."
        + _stem(known)
    )


def _stem(known: profiles.Profile) -> str:
    """How much of the network is a convolutional stem, in a sentence; empty where there is none.

    The stem's convolutions and norms are counted by formula, against vanilla's record.
    """
    record, *_ = Evidence(known.name).records(known.datasets[0], "vanilla").values()
    channels, side = 3, known.architecture.image_size
    parameters = macs = 0
    for out, kernel, stride in known.architecture.stem:
        side = -(-side // stride)
        weights = channels * out * kernel**2
        parameters, macs = parameters + weights + 2 * out, macs + weights * side**2
        channels = out
    if not parameters:
        return ""
    return (
        f" {parameters / record.parameters:.0%} of its parameters and {macs / record.macs:.0%} of "
        "its arithmetic are a convolutional stem, which dynamic int8, pruning and Nyström "
        "attention leave alone."
    )


def _line(known, finding: Finding, frames, ratios) -> str:
    parts = []
    for key in finding.keys:
        here = " / ".join(
            f"{frame.at[key, 'difference']:+.2f}"
            + (tables.SIGNIFICANT if frame.at[key, "significant"] else "")
            for frame in frames
        )
        printed = " / ".join(f"{each.at[key, 'accuracy_change_published']:+.2f}" for each in ratios)
        costs = _costs(key, ratios)
        parts.append(f"{here} ({printed})" + (f", {costs}" if costs else ""))
    said = f"**{finding.name}**: {'; '.join(parts)}"
    if gains := _gains(known, finding):
        said += f". Over {finding.control_is}: {gains}"
    elif finding.control:
        said += f". Its control, {finding.control_is}, is not measured"
    return f"{said}."


def _costs(key: str, ratios: list[pd.DataFrame]) -> str:
    """File and CPU speed of the row on CIFAR-10, as shares of vanilla's."""
    row, parts = ratios[0].loc[key], []
    for column, what in (
        ("size_ratio", "of the file"),
        ("cpu_ratio", "times the images/s on the CPU"),
    ):
        if pd.isna(row[column]):
            continue
        printed = row[f"{column}_published"]
        beside = "" if pd.isna(printed) else f" ({printed:.2f})"
        parts.append(f"{row[column]:.2f}{beside} {what}")
    return ", ".join(parts)


def _gains(known: profiles.Profile, finding: Finding) -> str:
    """How far the rows lie above their control, with the interval, on both data sets; marked where
    that is significant among all that these findings tell.
    """
    family, parts = _over_controls(known), []
    for key in finding.keys:
        found = [family.get((name, key, finding.control)) for name in known.datasets]
        if all(found):
            marks = [tables.SIGNIFICANT if each.significant else "" for each in found]
            parts.append(" / ".join(f"{a}{b}" for a, b in zip(found, marks, strict=True)))
    return "; ".join(parts)


def _over_controls(known: profiles.Profile) -> dict[tuple[str, str, str], Difference]:
    """Each row against its control, by data set, row and control: one family of tests."""
    family = {
        (name, key, each.control): difference(known.name, name, key, each.control)
        for each in FINDINGS
        for key in each.keys
        for name in known.datasets
        if each.control
    }
    family = {place: found for place, found in family.items() if found}
    return dict(zip(family, corrected(family.values()), strict=True))


def _too_small(known: profiles.Profile, frames: list[pd.DataFrame]) -> str:
    """Which rows surely lose no more than the margin, and which cannot be told from vanilla."""
    done = list(Evidence(known.name).records(known.datasets[0], "vanilla").values())

    def told(outcome: str) -> str:
        parts = []
        for frame, title in zip(frames, tables.PUBLISHED_ON, strict=True):
            rows = frame[frame["outcome"].eq(outcome)]["model"].tolist()
            parts.append(f"{', '.join(rows) or 'none'} ({title})")
        return "; ".join(parts)

    return (
        f"**{NO_LOSS.capitalize()}**, by tests of equivalence: {told(NO_LOSS)}. **Too small to "
        f"call** with {done[0].test_images:,} test images and "
        f"{'one seed' if len(done) == 1 else f'{len(done)} seeds'}: {told(UNTOLD)}.{_luck(known)}"
    )


def _luck(known: profiles.Profile) -> str:
    """What vanilla has when it is trained again from other seeds, on both data sets."""
    evidence = Evidence(known.name)
    again = [tables.trained_again(evidence, dataset) for dataset in known.datasets]
    if not all(again):
        return ""
    told = ["{:.2f} ± {:.2f}".format(*tables.mean_and_std(records)) for records in again]
    count = " / ".join(dict.fromkeys(str(len(each)) for each in again))
    return f" Vanilla itself, trained from {count} seeds, has {' / '.join(told)} %."


def _claims(profile: str) -> str:
    """How many of the papers' claims get each verdict."""
    frame = verdicts.claims(profile)
    count = frame["finding"].value_counts()
    numbers = ", ".join(f"{count.get(verdict, 0)}: {verdict}" for verdict in verdicts.VERDICTS)
    return (
        f"**The papers' {len(frame)} claims**, on this profile: {numbers}. One by one they are in "
        f"[claims.csv](results/{profile}/tables/claims.csv)."
    )
