"""What the papers' rows cost at the papers' own scale, to be read: published beside counted."""

from __future__ import annotations

import pandas as pd

from vitstudy import costs, data
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import significant, written
from vitstudy.report.tables import FORMATS, PUBLISHED_ON

CLOSE = 0.01
"""How far a size may be off the printed one, for a line not to name it."""


def readable(which: int) -> pd.DataFrame:
    """The costs of Table 1's or 2's rows as text under headings, an empty cell where there is none.

    Weights are random: see `costs`. Raises UserError for another table, and where nothing was
    counted.
    """
    classes = data.spec(Evidence(costs.PROFILE).dataset(which)).num_classes
    frame = costs.read()
    frame = frame[frame["num_classes"] == classes].reset_index(drop=True)
    vanilla = frame.set_index("key").loc["vanilla"]
    printed = frame["cpu_speed_published"]
    shown = {
        "Model": frame["model"],
        "Weight bits": written(frame["weight_bits"], "{:.0f}", "-"),
        "Parameters, M": written(frame["parameters"] / 1e6, "{:.2f}"),
        "MACs, G": written(frame["macs"] / 1e9, "{:.2f}"),
        "Size published, MB": written(frame["size_published"], FORMATS["size_published"], "-"),
        "Size, MiB": written(frame["size_mib"], "{:.1f}"),
        "CPU ratio published": written(printed / vanilla["cpu_speed_published"], "{:.2f}", "-"),
        "CPU ratio to vanilla": written(frame["images_ratio"], "{:.3f}"),
        "CPU, images/s": written(frame["images_per_second"], significant),
        "CPU published, it/s": written(printed, FORMATS["cpu_speed_published"], "-"),
        "CPU, it/s": written(frame["iterations_per_second"], significant),
        "Note": frame["note"],
    }
    return pd.DataFrame(shown)


def caption() -> str:
    """What the counts are of, and on what machine, when and beside what the speeds were timed."""
    said = (
        "Counted from files with random weights; no accuracy can be had of them. Sizes are "
        "published in MB of 2^20 bytes."
    )
    found = costs.read_speed()
    if found is None:
        return f"{said} Speeds are not measured yet."
    batch, elsewhere = found["batch"], found["busy_elsewhere"]
    beside = "" if elsewhere is None else f"; other processes had {elsewhere:.1%} of it meanwhile"
    return (
        f"{said} Speeds: {found['started'][:10]}, {found['cpu']}, {found['threads']} threads, "
        f"torch {found['torch']}{beside}. Images/s at batch {batch['images']}, it/s at batch "
        f"{batch['iterations']}; {found['rounds']} turns each, medians."
    )


def lines() -> list[str]:
    """What the counts and timings say of the printed ones, a line each."""
    frame = costs.read()
    sized = frame.dropna(subset=["size_mib", "size_published"])
    off = sized["size_mib"] / sized["size_published"] - 1
    same = sized["size_mib"].round() == sized["size_published"]
    far = off[~same & (off.abs() > CLOSE)]
    named = [
        f"{row.model} {off[index]:+.1%} ({row.num_classes} classes)"
        for index, row in sized.loc[far.index].iterrows()
    ]
    said = [
        f"At the papers' own size, {same.sum()} of {len(sized)} printed file sizes are those of "
        f"the files to the megabyte, {len(sized) - same.sum() - len(far)} within {CLOSE:.0%} of "
        "them" + (f"; the others: {', '.join(named)}." if named else ".")
    ]
    rows = frame[frame["num_classes"] == frame["num_classes"].iloc[0]].set_index("key")
    printed = rows["cpu_speed_published"] / rows.loc["vanilla", "cpu_speed_published"]
    found, timed = costs.read_speed(), {"images": [], "iterations": []}
    for key, row in rows.iterrows():
        if key == "vanilla" or pd.isna(printed[key]):
            continue
        unit = "images" if pd.isna(row.iterations_ratio) else "iterations"  # the papers' batch
        if pd.notna(row[f"{unit}_ratio"]):
            timed[unit].append(f"{row.model} {row[f'{unit}_ratio']:.2f} ({printed[key]:.2f})")
    if any(timed.values()):
        parts = [
            f"at batch {found['batch'][unit]} {', '.join(named)}"
            for unit, named in timed.items()
            if named
        ]
        said.append(
            f"CPU speed against vanilla there, and as printed for {PUBLISHED_ON[0]}: "
            f"{'; '.join(parts)}."
        )
    return said
