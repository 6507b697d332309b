"""The surveyed methods on this study's own network, against the control that trains as long."""

from __future__ import annotations

import pandas as pd

from vitstudy import data, files, methods
from vitstudy.report import readable, significance
from vitstudy.report.evidence import TABLES, Evidence

CONTROL = "continued"
"""The baseline trained on for as long as these methods are fine-tuned."""
COLUMNS = [
    *("key", "model", "method", "reference", "accuracy", "difference", "difference_low"),
    *("difference_high", "p_holm", "size_mib", "macs", "cpu_ratio", "note"),
]
HEADINGS = {
    "Model": "model",
    "Method": "method",
    "Accuracy, %": ("accuracy", "{:.2f}"),
    "Against its control, points": ("difference", "{:+.2f}"),
    "95 % interval": "interval",
    "p (Holm)": ("p_holm", "{:.3g}"),
    "Size, MiB": ("size_mib", readable.significant),
    "Million MACs": ("macs", lambda macs: readable.significant(macs / 1e6)),
    "CPU ratio to vanilla": ("cpu_ratio", "{:.3f}"),
    "Note": "note",
}


def table(profile: str, which: int) -> pd.DataFrame:
    """The surveyed methods that have a record on the set of Table 1 or 2, in the list's order.

    Accuracy in percent and differences in points, means over the profile's seeds; the difference
    from `CONTROL` is paired on the same test images (`significance`), p after Holm's correction
    over the table. MACs are products, as torch counts them.
    """
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    rows = [
        {
            "key": method.key,
            "model": method.title,
            "method": method.method,
            "reference": method.reference,
            "accuracy": evidence.accuracy(dataset, method.key),
            "size_mib": evidence.mean(dataset, method.key, "size_mib"),
            "macs": evidence.mean(dataset, method.key, "macs"),
            "cpu_ratio": evidence.cpu_ratio(dataset, method.key),
            "note": method.note,
        }
        for method in methods.SURVEYED
        if evidence.records(dataset, method.key)
    ]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    pairs = [(key, CONTROL) for key in frame["key"]]
    found = significance.differences(profile, dataset, pairs).set_index("first")
    for name, column in (
        ("difference", "points"),
        ("difference_low", "low"),
        ("difference_high", "high"),
        ("p_holm", "p_holm"),
    ):
        frame[name] = frame["key"].map(found[column])
    return frame


def shown(profile: str, which: int) -> pd.DataFrame:
    """`table` as text under headings for a reader."""
    frame = table(profile, which)
    ends = frame[["difference_low", "difference_high"]].itertuples(index=False)
    intervals = ["" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}" for low, high in ends]
    return readable.table(frame.assign(interval=intervals), HEADINGS)


def write(profile: str) -> None:
    """Write `tables/surveyed1` and `surveyed2`, each `.csv` and `.md`, where anything is done."""
    folder = files.results(profile) / "tables"
    for which in TABLES:
        frame = table(profile, which)
        paths = [folder / f"surveyed{which}.{kind}" for kind in ("csv", "md")]
        if frame.empty:
            for path in paths:
                path.unlink(missing_ok=True)
            continue
        files.write_csv(paths[0], COLUMNS, frame.to_dict("records"))
        text = shown(profile, which)
        evidence = Evidence(profile)
        lines = [
            f"# Surveyed methods: {data.spec(evidence.dataset(which)).title}",
            "",
            f"Profile `{profile}`: {evidence.known.title}. Each starts from the trained baseline "
            "and is fine-tuned; its control is the baseline trained on for as many steps. MACs are "
            "those of products: elementwise work has none.",
            "",
            *readable.markdown(text, text.itertuples(index=False), ("Model", "Method", "Note")),
            "",
        ]
        files.write(paths[1], "\n".join(lines))
