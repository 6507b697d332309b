"""The papers' Tables 1 and 2, published and measured side by side, from records alone.

Nothing here needs an artifact; nor a data set or torch, but for test images that share sources.
"""

from __future__ import annotations

import dataclasses
import statistics
from decimal import Decimal

import pandas as pd

from vitstudy import data, files, methods, profiles, speed, study
from vitstudy.errors import unknown
from vitstudy.methods import METHODS, Method, Published, not_installed
from vitstudy.profiles import Profile
from vitstudy.record import Record
from vitstudy.report import latex, manifest, significance
from vitstudy.study import Cell

COLUMNS = [
    *("key", "model", "method", "accuracy_published", "accuracy", "accuracy_std"),
    *("gpu_speed_published", "gpu_speed", "cpu_speed_published", "cpu_speed", "cpu_ratio"),
    *("size_published", "size_mib", "simulated", "note"),
]
SIGNIFICANCE = {
    "points": "difference",
    "low": "difference_low",
    "high": "difference_high",
    "p_value": "p_value",
    "p_holm": "p_holm",
    "significant": "significant",
    "test": "test",
}
"""What `compared` adds, by the column of `significance.differences` that it comes from."""
SIGNIFICANT = "*"
NOT_PUBLISHED = Published(None, None, None, None)
TABLES = (1, 2)
PUBLISHED_ON = ("CIFAR-10", "CIFAR-100")


def significant(value: float, digits: int = 4) -> str:
    """`value` to so many significant digits, never with an exponent."""
    return f"{Decimal(f'{value:.{digits}g}'):f}"


# How each column of numbers is written; the published ones as the papers print them.
FORMATS = {
    "accuracy_published": "{:.2f}".format,
    "accuracy": "{:.2f}".format,
    "accuracy_std": "{:.2f}".format,
    "gpu_speed_published": "{:.2f}".format,
    "gpu_speed": significant,
    "cpu_speed_published": "{:.3f}".format,
    "cpu_speed": significant,
    "cpu_ratio": "{:.3f}".format,
    "difference": "{:+.2f}".format,
    "difference_low": "{:+.2f}".format,
    "difference_high": "{:+.2f}".format,
    "p_value": "{:.3g}".format,
    "p_holm": "{:.3g}".format,
    "size_published": "{:.0f}".format,
    "size_mib": significant,
}


def table(profile: str, which: int) -> pd.DataFrame:
    """Table 1 (10 classes) or 2 (100 classes): the papers' thirteen rows, in their order.

    Accuracy in percent, the mean over the profile's seeds; speeds in iterations per second; sizes
    in MiB. What is not there is NaN or None, with the reason in `note`. Raises UserError for an
    unknown profile or table.
    """
    known, dataset = profiles.get(profile), _dataset(profile, which)
    rows = [_row(known, dataset, method, which) for method in METHODS]
    return pd.DataFrame(rows, columns=COLUMNS)


def _variants(profile: Profile, dataset: str) -> list[Method]:
    """The variants and controls that the profile computes, and those that it has a record of."""
    computed = methods.computed(profile.tiers)
    return [
        method
        for method in methods.VARIANTS
        if method.key in computed or any(seeds(profile.name, dataset, method.key).values())
    ]


def beneath(profile: str, which: int) -> pd.DataFrame:
    """The variants and controls of Table 1's or 2's rows, as `table` and with their bits.

    Those that the profile computes by name only have a row once they have a record.

    `beneath` is the key of the papers' row. Bits are the mean over the seeds, of what is quantized.
    """
    known, dataset = profiles.get(profile), _dataset(profile, which)
    rows = []
    for method in _variants(known, dataset):
        row = {"beneath": method.beneath, **_row(known, dataset, method, which)}
        found = seeds(profile, dataset, method.key).values()
        done = [record for record in found if record and record.status == "done"]
        if done:
            row["weight_bits"] = statistics.fmean(record.weight_bits for record in done)
            row["activation_bits"] = statistics.fmean(record.activation_bits for record in done)
        rows.append(row)
    return pd.DataFrame(rows, columns=["beneath", *COLUMNS, "weight_bits", "activation_bits"])


def compared(profile: str, which: int) -> pd.DataFrame:
    """`table` with each row's difference from vanilla on the same images, in points.

    Also its 95 % interval, p, p after Holm's correction over the table, whether that is
    significant, and the test: see `significance`. Empty for vanilla and where nothing was measured.
    """
    found = significance.against_vanilla(profile, _dataset(profile, which))
    return _with_differences(table(profile, which), found)


def compared_beneath(profile: str, which: int) -> pd.DataFrame:
    """`beneath` with each row's difference from the papers' row that it stands beneath."""
    found = significance.against_their_row(profile, _dataset(profile, which))
    return _with_differences(beneath(profile, which), found)


def _with_differences(frame: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    found = found.set_index("first")
    frame = frame.assign(
        **{name: frame["key"].map(found[column]) for column, name in SIGNIFICANCE.items()}
    )
    order = [name for name in frame if name != "note"]  # the note is long: last
    return frame[[*order, "note"]]


def pairs(profile: str, which: int) -> pd.DataFrame:
    """Every pair of the papers' rows: `significance.all_pairs` of the table's data set."""
    return significance.all_pairs(profile, _dataset(profile, which))


def readable_beneath(profile: str, which: int) -> pd.DataFrame:
    """`compared_beneath` as text under headings for a reader."""
    frame = compared_beneath(profile, which)
    text, titles = as_text(frame), {method.key: method.title for method in METHODS}
    bits = frame[["weight_bits", "activation_bits"]]
    shown = {
        "Beneath": frame["beneath"].map(titles),
        "Model": text["model"],
        "Accuracy, %": text["accuracy"]
        + [f" ± {std}" if std else "" for std in text["accuracy_std"]],
        "Against its row, points": marked(text),
        "Size, MiB": text["size_mib"],
        "CPU ratio to vanilla": text["cpu_ratio"],
        "Bits (weights / activations)": [
            "" if pd.isna(w) else f"{w:.3g} / {a:.3g}" for w, a in bits.itertuples(index=False)
        ],
        "Note": text["note"],
    }
    return pd.DataFrame(shown)


def _dataset(profile: str, which: int) -> str:
    if which not in TABLES:
        raise unknown("table", which, TABLES)
    return profiles.get(profile).datasets[which - 1]


def seeds(profile: str, dataset: str, method: str) -> dict[int, Record | None]:
    """The records of a row, one a seed of the profile; None where there is no whole one."""
    numbers = profiles.get(profile).seeds
    return {number: study.read(Cell(profile, dataset, method, number)) for number in numbers}


def _row(profile: Profile, dataset: str, method: Method, which: int) -> dict:
    published = method.published[which - 1] if method.published else NOT_PUBLISHED
    row = {
        "key": method.key,
        "model": method.title,
        "method": method.method,
        "accuracy_published": published.accuracy,
        "gpu_speed_published": published.gpu_speed,
        "cpu_speed_published": published.cpu_speed,
        "size_published": published.size,
    }
    found = seeds(profile.name, dataset, method.key)
    done = [record for record in found.values() if record and record.status == "done"]
    notes = _what_is_missing(method, found)
    if done:
        accuracies = [100 * record.accuracy for record in done]
        row["accuracy"] = statistics.fmean(accuracies)
        row["accuracy_std"] = statistics.stdev(accuracies) if len(done) > 1 else None
        row["size_mib"] = statistics.fmean(record.size_mib for record in done)
        row["simulated"] = any(record.simulated for record in done)
        if method.note:
            notes.insert(0, method.note)
        if method.key == "vanilla" and (again := trained_again(profile, dataset)):
            mean, std = statistics.fmean(again), statistics.stdev(again)
            notes.append(f"{len(again)} seeds: {mean:.2f} ± {std:.2f} %")
        if method.batch_dependent:
            notes.append(_batch_note(done))
        if row["simulated"]:
            notes.append("simulated: no speed")
        elif not method.timed:
            notes.append("speed not measured: another row has this shape")
        else:
            cell = Cell(profile.name, dataset, method.key, profile.seeds[0])
            notes += _add_speed(row, method, cell)
    row["note"] = "; ".join(notes)
    return row


def _batch_note(done: list[Record]) -> str:
    """What an accuracy is worth whose images were classified beside others."""
    batch = done[0].evaluation_batch or profiles.EVALUATION_BATCH
    note = f"depends on the images beside it: in batches of {batch}"
    alone = [record.accuracy_alone for record in done if record.accuracy_alone is not None]
    if len(alone) < len(done):
        return f"{note}; one by one not measured"
    return f"{note}; one by one {100 * statistics.fmean(alone):.2f} %"


def trained_again(profile: Profile, dataset: str) -> list[float]:
    """Accuracies in percent of every vanilla, where the profile trains it alone from more seeds.

    They show what the luck of a training does, which an interval over test images does not have in
    it. Empty where there are fewer than two.
    """
    numbers = (*profile.seeds, *profile.vanilla_seeds) if profile.vanilla_seeds else ()
    records = [study.read(Cell(profile.name, dataset, "vanilla", number)) for number in numbers]
    done = [100 * record.accuracy for record in records if record and record.status == "done"]
    return done if len(done) > 1 else []


def _what_is_missing(method: Method, found: dict[int, Record | None]) -> list[str]:
    failed = {seed: record for seed, record in found.items() if record and record.status != "done"}
    absent = [seed for seed, record in found.items() if record is None]
    if len(absent) == len(found):
        reason = not_installed(method)
        return [f"not run: {reason}" if reason else "not measured on this profile"]
    if len(found) == 1:
        return [f"failed: {record.error}" for record in failed.values()]
    notes = [f"seed {seed} failed: {record.error}" for seed, record in failed.items()]
    if absent:
        notes.append(f"not measured yet: seed {', '.join(map(str, absent))}")
    return notes


# -- speed ----------------------------------------------------------------------------------------


def _add_speed(row: dict, method: Method, cell: Cell) -> list[str]:
    """Fill in the speeds that were measured; notes for those that were not."""
    notes = []
    if found := speed.latest(cell, "cpu"):
        row["cpu_speed"] = found["iterations_per_second"]
        row["cpu_ratio"] = found["ratio_to_vanilla"]
    elif method.device in (None, "cpu"):
        notes.append("CPU speed not measured yet")
    if found := speed.latest(cell, "cuda"):
        row["gpu_speed"] = found["iterations_per_second"]
    elif method.device == "cpu":
        notes.append("no GPU speed: this arithmetic is the CPU's only")
    elif any(run["device"] == "cuda" for run in speed.read(cell.profile)):
        notes.append("GPU speed not measured yet")
    else:
        notes.append("GPU speed not measured: no GPU")
    return notes


# -- the same, to be read -------------------------------------------------------------------------


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with every cell as the text that is written; empty where there is nothing."""
    text = pd.DataFrame(index=frame.index)
    for column in frame:
        write = FORMATS.get(column, str)
        text[column] = ["" if pd.isna(value) else write(value) for value in frame[column]]
    return text


def marked(text: pd.DataFrame) -> pd.Series:
    """The differences of a `compared` table as text, marked where they are significant."""
    return text["difference"] + text["significant"].map({"True": SIGNIFICANT}).fillna("")


def readable(profile: str, which: int) -> pd.DataFrame:
    """`compared` as text under headings for a reader, published beside measured."""
    text = as_text(compared(profile, which))
    spread = [f" ± {std}" if std else "" for std in text["accuracy_std"]]
    shown = {
        "Model": text["model"],
        "Method": text["method"],
        "Accuracy published, %": text["accuracy_published"],
        "Accuracy, %": text["accuracy"] + spread,
        "Against vanilla, points": marked(text),
        "GPU published, it/s": text["gpu_speed_published"].replace("", "-"),
        "GPU, it/s": text["gpu_speed"],
        "CPU published, it/s": text["cpu_speed_published"].replace("", "-"),
        "CPU, it/s": text["cpu_speed"],
        "CPU ratio to vanilla": text["cpu_ratio"],
        "Size published, MB": text["size_published"].replace("", "-"),
        "Size, MiB": text["size_mib"],
        "Note": text["note"],
    }
    return pd.DataFrame(shown)


def ratios(profile: str, which: int) -> pd.DataFrame:
    """Each row against vanilla, published and measured: what can be compared across networks.

    `accuracy_change` in points, `size_ratio` and `cpu_ratio` to vanilla's. The measured CPU ratio
    is that of the interleaved run, the published one the quotient of two printed speeds.
    """
    frame = table(profile, which)
    numbers = frame[[name for name in FORMATS if name in frame]].astype(float)
    base = numbers.iloc[frame.index[frame["key"] == "vanilla"][0]]
    return pd.DataFrame(
        {
            "key": frame["key"],
            "model": frame["model"],
            "method": frame["method"],
            "accuracy_change_published": numbers["accuracy_published"] - base["accuracy_published"],
            "accuracy_change": numbers["accuracy"] - base["accuracy"],
            "size_ratio_published": numbers["size_published"] / base["size_published"],
            "size_ratio": numbers["size_mib"] / base["size_mib"],
            "cpu_ratio_published": numbers["cpu_speed_published"] / base["cpu_speed_published"],
            "cpu_ratio": numbers["cpu_ratio"],
        }
    )


def readable_ratios(profile: str, which: int) -> pd.DataFrame:
    """`ratios` as text under headings for a reader; empty where nothing was measured."""
    frame = ratios(profile, which)
    headings = {
        "accuracy_change_published": ("Accuracy change published, points", "{:+.2f}"),
        "accuracy_change": ("Accuracy change, points", "{:+.2f}"),
        "size_ratio_published": ("Size ratio published", "{:.3f}"),
        "size_ratio": ("Size ratio", "{:.3f}"),
        "cpu_ratio_published": ("CPU speed ratio published", "{:.2f}"),
        "cpu_ratio": ("CPU speed ratio", "{:.2f}"),
    }
    shown = pd.DataFrame({"Model": frame["model"]})
    for column, (heading, write) in headings.items():
        shown[heading] = ["" if pd.isna(each) else write.format(each) for each in frame[column]]
    return shown


def intervals(profile: str, which: int) -> dict[str, tuple[float, float]]:
    """By row, the accuracy's 95 % interval over images, percent; of several seeds the mean's ± std.

    Rows that are not measured are left out.
    """
    found = {}
    for row in table(profile, which).itertuples():
        done = [
            record
            for record in seeds(profile, _dataset(profile, which), row.key).values()
            if record and record.status == "done"
        ]
        if len(done) == 1:
            found[row.key] = (100 * done[0].accuracy_low, 100 * done[0].accuracy_high)
        elif done:
            found[row.key] = (row.accuracy - row.accuracy_std, row.accuracy + row.accuracy_std)
    return found


def significance_caption(profile: str, which: int) -> str:
    """What the mark of a significant difference means in this table, and how it was found."""
    found = significance.against_vanilla(profile, _dataset(profile, which))
    tests = ", ".join(dict.fromkeys(found["test"])) or "none made"
    return (
        f"{SIGNIFICANT}: accuracy differs from that of the row it is held against with p < "
        f"{significance.LEVEL:g} after Holm's correction over the table (paired on the same "
        f"images; {tests})."
    )


def _markdown(profile: str, which: int) -> str:
    """The readable tables, each measured accuracy linked to its record."""
    known, dataset = profiles.get(profile), _dataset(profile, which)
    lines = [
        f"# Table {which}: {data.spec(dataset).title}",
        "",
        f"Profile `{profile}`: {known.title}. Published: the papers' {PUBLISHED_ON[which - 1]}. "
        "Accuracy links to the record that it comes from. it/s: iterations per second. "
        f"{significance_caption(profile, which)}",
        "",
        *_linked(known, dataset, METHODS, readable(profile, which)),
        "",
        "## Beneath the papers' rows: variants and controls",
        "",
        *_linked(known, dataset, _variants(known, dataset), readable_beneath(profile, which)),
        "",
        *_by_name_only(known, dataset),
    ]
    return "\n".join(lines) + "\n"


def _by_name_only(known: Profile, dataset: str) -> list[str]:
    """A sentence on the variants that have no row, where there are any."""
    shown = {method.key for method in _variants(known, dataset)}
    others = [method.key for method in methods.VARIANTS if method.key not in shown]
    if not others:
        return []
    return [f"Computed by name only, and not measured on this profile: {', '.join(others)}."]


def record_place(known: Profile, dataset: str, key: str) -> str:
    """Where a row's record is, or of several seeds the folder of them, from `results/<profile>`."""
    record = Cell(known.name, dataset, key, known.seeds[0]).record_path
    place = record if len(known.seeds) == 1 else record.parent
    return place.relative_to(files.results(known.name)).as_posix()


def _linked(known: Profile, dataset: str, rows, shown: pd.DataFrame) -> list[str]:
    """The lines of a Markdown table of the methods `rows`, its accuracies linked to records."""
    for position, method in enumerate(rows):
        if accuracy := shown.at[position, "Accuracy, %"]:
            place = record_place(known, dataset, method.key)
            shown.at[position, "Accuracy, %"] = f"[{accuracy}](../{place})"
    words = ("Beneath", "Model", "Method", "Note")
    return [
        _pipes(shown.columns),
        _pipes("---" if name in words else "---:" for name in shown),
        *(_pipes(row) for row in shown.itertuples(index=False)),
    ]


def _tex(profile: str, which: int) -> str:
    """The table and what stands beneath it as two LaTeX tables for `booktabs`."""
    known, dataset = profiles.get(profile), _dataset(profile, which)
    title = f"{data.spec(dataset).title}, profile {profile} ({known.title})"
    caption = (
        f"Published (CIFAR tables of the papers, {PUBLISHED_ON[which - 1]}) beside measured: "
        f"{title}. {significance_caption(profile, which)}"
    )
    text, published = as_text(compared(profile, which)), "published"
    spread = [f" ± {std}" if std else "" for std in text["accuracy_std"]]
    rows = [
        ("", "Model", text["model"]),
        ("", "Method", text["method"]),
        ("Accuracy, %", published, text["accuracy_published"]),
        ("Accuracy, %", "measured", text["accuracy"] + spread),
        ("Accuracy, %", "against vanilla", marked(text)),
        ("GPU, it/s", published, text["gpu_speed_published"].replace("", "-")),
        ("GPU, it/s", "measured", text["gpu_speed"]),
        ("CPU, it/s", published, text["cpu_speed_published"].replace("", "-")),
        ("CPU, it/s", "measured", text["cpu_speed"]),
        ("CPU, it/s", "ratio", text["cpu_ratio"]),
        ("Size, MiB", published, text["size_published"].replace("", "-")),
        ("Size, MiB", "measured", text["size_mib"]),
    ]
    shown = readable_beneath(profile, which)
    words = [("", name, shown[name]) for name in shown if name != "Note"]
    label = f"tab:{profile}-{which}"
    beneath_caption = f"Variants and controls beneath the rows of Table~\\ref{{{label}}}"
    return (
        latex.table(rows, text["note"], latex.escape(caption), label, words=2)
        + "\n"
        + latex.table(words, shown["Note"], beneath_caption, f"{label}-beneath", words=2)
    )


def _pipes(cells) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


# -- files ----------------------------------------------------------------------------------------


def record_rows(profile: str) -> tuple[list[str], list[dict]]:
    """Columns and rows of `records.csv`: each record on disk with its plain fields, path and hash.

    A damaged record is a row too, with the status `damaged`.
    """
    plain = [
        field.name
        for field in dataclasses.fields(Record)
        if not field.type.startswith(("dict", "list"))
    ]
    rows = []
    for path in (files.results(profile) / "records").glob("*/*/seed*.json"):
        value = files.read_json(path)
        record = Record.from_json(value) if value else None
        place = path.relative_to(files.results(profile) / "records")
        row = {"profile": profile, "dataset": place.parts[0], "method": place.parts[1]}
        row |= {"seed": int(path.stem.removeprefix("seed")), "status": "damaged"}
        if record:
            row = {name: getattr(record, name) for name in plain}
        row["path"] = path.relative_to(files.root()).as_posix()
        row["sha256"] = files.sha256(path)
        rows.append(row)
    datasets = profiles.get(profile).datasets
    keys = [method.key for method in (*METHODS, *methods.VARIANTS)]

    def order(row: dict) -> tuple:
        return _place(datasets, row["dataset"]), _place(keys, row["method"]), row["seed"]

    return [*plain, "path", "sha256"], sorted(rows, key=order)


def _place(names, name: str) -> tuple[int, str]:
    """Where `name` stands in `names`; behind all of them, by its letters, where it does not."""
    return (list(names).index(name) if name in names else len(names), name)


def write(profile: str) -> None:
    """Write a profile's `tables/table1` and `table2`, each `.csv`, `.md` and `.tex`, the pairs of
    its rows as `differences1.csv` and `differences2.csv`, `records.csv` and `manifest.json`.
    """
    folder = files.results(profile) / "tables"
    for which in TABLES:
        frame = as_text(compared(profile, which))
        files.write_csv(folder / f"table{which}.csv", list(frame), frame.to_dict("records"))
        files.write(folder / f"table{which}.md", _markdown(profile, which))
        files.write(folder / f"table{which}.tex", _tex(profile, which))
        frame = as_text(pairs(profile, which).rename(columns=SIGNIFICANCE))
        files.write_csv(folder / f"differences{which}.csv", list(frame), frame.to_dict("records"))
    files.write_csv(files.results(profile) / "records.csv", *record_rows(profile))
    manifest.write(profile)
