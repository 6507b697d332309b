"""The papers' Tables 1 and 2, published and measured side by side, from records alone.

Nothing here needs an artifact; nor a data set, but for test images that share sources.
"""

from __future__ import annotations

import statistics

import pandas as pd

from vitstudy import data, files, methods, profiles, speed, study
from vitstudy.methods import METHODS, Method, Published, not_installed
from vitstudy.record import Record
from vitstudy.report import latex, manifest, significance, surveyed
from vitstudy.report.evidence import TABLES, Evidence
from vitstudy.report.readable import markdown, notes_below, significant, written
from vitstudy.report.readable import table as text_table
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
    "p_equivalent": "p_equivalent",
    "outcome": "outcome",
    "covers": "covers",
}
"""What `compared` adds, by the column of `significance.differences` that it comes from."""
SIGNIFICANT = "*"
NOT_PUBLISHED = Published(None, None, None, None)
PUBLISHED_ON = ("CIFAR-10", "CIFAR-100")

HEADINGS = {
    "model": ("Model", "", "Model"),
    "method": ("Method", "", "Method"),
    "accuracy_published": ("Accuracy published, %", "Accuracy, %", "published"),
    "accuracy": ("Accuracy, %", "Accuracy, %", "measured"),
    "difference": ("Against vanilla, points", "Accuracy, %", "against vanilla"),
    "outcome": ("Outcome", "Accuracy, %", "outcome"),
    "gpu_speed_published": ("GPU published, it/s", "GPU, it/s", "published"),
    "gpu_speed": ("GPU, it/s", "GPU, it/s", "measured"),
    "cpu_speed_published": ("CPU published, it/s", "CPU, it/s", "published"),
    "cpu_speed": ("CPU, it/s", "CPU, it/s", "measured"),
    "cpu_ratio": ("CPU ratio to vanilla", "CPU, it/s", "ratio"),
    "size_published": ("Size published, MB", "Size, MiB", "published"),
    "size_mib": ("Size, MiB", "Size, MiB", "measured"),
}
"""Of the columns that are shown: the heading, and in LaTeX the group and the heading below it."""


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
    "p_equivalent": "{:.3g}".format,
    "p_equivalent_holm": "{:.3g}".format,
    "size_published": "{:.0f}".format,
    "size_mib": significant,
}


def table(profile: str, which: int) -> pd.DataFrame:
    """Table 1 (10 classes) or 2 (100 classes): the papers' thirteen rows, in their order.

    Accuracy in percent, the mean over the profile's seeds; speeds in iterations per second; sizes
    in MiB. What is not there is NaN or None, with the reason in `note`. Raises UserError for an
    unknown profile or table.
    """
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    rows = [_row(evidence, dataset, method, which) for method in METHODS]
    return pd.DataFrame(rows, columns=COLUMNS)


def _variants(evidence: Evidence, dataset: str) -> list[Method]:
    """The variants and controls that the profile computes, and those that it has a record of."""
    computed = methods.computed(evidence.known.tiers)
    return [
        method
        for method in methods.VARIANTS
        if method.key in computed or any(evidence.attempts(dataset, method.key).values())
    ]


def beneath(profile: str, which: int) -> pd.DataFrame:
    """The variants and controls of Table 1's or 2's rows, as `table` and with their bits.

    Those that the profile computes by name only have a row once they have a record.

    `beneath` is the key of the papers' row. Bits are the mean over the seeds, of what is quantized.
    """
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    rows = []
    for method in _variants(evidence, dataset):
        row = {"beneath": method.beneath, **_row(evidence, dataset, method, which)}
        for name in ("weight_bits", "activation_bits"):
            row[name] = evidence.mean(dataset, method.key, name)
        rows.append(row)
    return pd.DataFrame(rows, columns=["beneath", *COLUMNS, "weight_bits", "activation_bits"])


def compared(profile: str, which: int) -> pd.DataFrame:
    """`table` with each row's difference from vanilla on the same images, in points.

    Also its 95 % interval, p, p after Holm's correction over the table, whether that is
    significant, and the test: see `significance`. Empty for vanilla and where nothing was measured.
    """
    found = significance.against_vanilla(profile, Evidence(profile).dataset(which))
    return _with_differences(table(profile, which), found)


def compared_beneath(profile: str, which: int) -> pd.DataFrame:
    """`beneath` with each row's difference from the papers' row that it stands beneath."""
    found = significance.against_their_row(profile, Evidence(profile).dataset(which))
    return _with_differences(beneath(profile, which), found)


def _with_differences(frame: pd.DataFrame, tested: pd.DataFrame) -> pd.DataFrame:
    tested = tested.set_index("first")
    frame = frame.assign(
        **{name: frame["key"].map(tested[column]) for column, name in SIGNIFICANCE.items()}
    )
    order = [name for name in frame if name != "note"]  # the note is long: last
    return frame[[*order, "note"]]


def pairs(profile: str, which: int) -> pd.DataFrame:
    """Every pair of the papers' rows: `significance.all_pairs` of the table's data set."""
    return significance.all_pairs(profile, Evidence(profile).dataset(which))


def readable_beneath(profile: str, which: int) -> pd.DataFrame:
    """`compared_beneath` as text under headings for a reader."""
    frame = compared_beneath(profile, which)
    text, titles = _shown(frame), {method.key: method.title for method in METHODS}
    bits = frame[["weight_bits", "activation_bits"]].itertuples(index=False)
    return pd.DataFrame(
        {
            "Beneath": frame["beneath"].map(titles),
            "Model": text["model"],
            "Accuracy, %": text["accuracy"],
            "Against its row, points": text["difference"],
            "Outcome": text["outcome"],
            "Size, MiB": text["size_mib"],
            "CPU ratio to vanilla": text["cpu_ratio"],
            "Bits (weights / activations)": [
                "" if pd.isna(w) else f"{w:.3g} / {a:.3g}" for w, a in bits
            ],
            "Note": text["note"],
        }
    )


def _row(evidence: Evidence, dataset: str, method: Method, which: int) -> dict:
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
    done = list(evidence.records(dataset, method.key).values())
    notes = _what_is_missing(evidence, dataset, method)
    if done:
        row |= dict(zip(("accuracy", "accuracy_std"), mean_and_std(done), strict=True))
        row["size_mib"] = evidence.mean(dataset, method.key, "size_mib")
        row["simulated"] = any(record.simulated for record in done)
        if method.note:
            notes.insert(0, method.note)
        if method.key == "vanilla" and (again := trained_again(evidence, dataset)):
            notes.append("{} seeds: {:.2f} ± {:.2f} %".format(len(again), *mean_and_std(again)))
        if method.batch_dependent:
            notes.append(_batch_note(done))
        if row["simulated"]:
            notes.append("simulated: no speed")
        elif not method.timed:
            notes.append("speed not measured: another row has this shape")
        else:
            notes += _add_speed(row, method, evidence.cell(dataset, method.key))
    row["note"] = "; ".join(notes)
    return row


def mean_and_std(records: list[Record]) -> tuple[float, float | None]:
    """The records' accuracy in percent, its mean and standard deviation; None of a single one."""
    accuracies = [100 * record.accuracy for record in records]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return statistics.fmean(accuracies), spread


def _batch_note(done: list[Record]) -> str:
    """What an accuracy is worth whose images were classified beside others."""
    batch = done[0].evaluation_batch or profiles.EVALUATION_BATCH
    note = f"depends on the images beside it: in batches of {batch}"
    alone = [record.accuracy_alone for record in done if record.accuracy_alone is not None]
    if len(alone) < len(done):
        return f"{note}; one by one not measured"
    return f"{note}; one by one {100 * statistics.fmean(alone):.2f} %"


def trained_again(evidence: Evidence, dataset: str) -> list[Record]:
    """Every vanilla, where the profile trains it alone from more seeds.

    They show what the luck of a training does, which an interval over test images does not have in
    it. Empty where there are fewer than two.
    """
    known = evidence.known
    numbers = (*known.seeds, *known.vanilla_seeds) if known.vanilla_seeds else ()
    done = list(evidence.records(dataset, "vanilla", numbers).values())
    return done if len(done) > 1 else []


def _what_is_missing(evidence: Evidence, dataset: str, method: Method) -> list[str]:
    attempts = evidence.attempts(dataset, method.key)
    absent = [seed for seed, record in attempts.items() if record is None]
    damages = {seed: study.damage(evidence.cell(dataset, method.key, seed)) for seed in absent}
    damaged = [
        f"the record of seed {seed} is damaged: {damage}"
        for seed, damage in damages.items()
        if damage
    ]
    if damaged:
        return damaged
    failed = {s: each for s, each in attempts.items() if each and each.status != "done"}
    if len(absent) == len(attempts):
        reason = not_installed(method)
        return [f"not run: {reason}" if reason else "not measured on this profile"]
    if len(attempts) == 1:
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
    text = {column: written(frame[column], FORMATS.get(column, str)) for column in frame}
    return pd.DataFrame(text, index=frame.index)


def _shown(frame: pd.DataFrame) -> pd.DataFrame:
    """A `compared` table as text for a reader: the accuracy with its spread over seeds, differences
    marked where they are significant, a dash where the papers print none."""
    text = as_text(frame)
    text["accuracy"] += [f" ± {std}" if std else "" for std in text["accuracy_std"]]
    text["difference"] += text["significant"].map({"True": SIGNIFICANT}).fillna("")
    for name in ("gpu_speed_published", "cpu_speed_published", "size_published"):
        text[name] = text[name].replace("", "-")
    return text


def readable(profile: str, which: int) -> pd.DataFrame:
    """`compared` as text under headings for a reader, published beside measured."""
    text = _shown(compared(profile, which))
    shown = {heading: text[name] for name, (heading, *_) in HEADINGS.items()}
    return pd.DataFrame({**shown, "Note": text["note"]})


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
    columns = {
        "Model": "model",
        "Accuracy change published, points": ("accuracy_change_published", "{:+.2f}"),
        "Accuracy change, points": ("accuracy_change", "{:+.2f}"),
        "Size ratio published": ("size_ratio_published", "{:.3f}"),
        "Size ratio": ("size_ratio", "{:.3f}"),
        "CPU speed ratio published": ("cpu_ratio_published", "{:.2f}"),
        "CPU speed ratio": ("cpu_ratio", "{:.2f}"),
    }
    return text_table(ratios(profile, which), columns)


def intervals(profile: str, which: int) -> dict[str, tuple[float, float]]:
    """By row, the accuracy's 95 % interval over images, percent; of several seeds the mean's ± std.

    Rows that are not measured are left out.
    """
    evidence, limits = Evidence(profile), {}
    dataset = evidence.dataset(which)
    for method in METHODS:
        done = list(evidence.records(dataset, method.key).values())
        if len(done) == 1:
            limits[method.key] = (100 * done[0].accuracy_low, 100 * done[0].accuracy_high)
        elif done:
            mean, std = mean_and_std(done)
            limits[method.key] = (mean - std, mean + std)
    return limits


def significance_caption(profile: str, which: int) -> str:
    """What the mark of a significant difference means in this table, and how it was found."""
    found = significance.against_vanilla(profile, Evidence(profile).dataset(which))
    tests = ", ".join(dict.fromkeys(found["test"])) or "none made"
    covers = "; ".join(dict.fromkeys(found["covers"])) or "nothing yet"
    return (
        f"{SIGNIFICANT}: accuracy differs from that of the row it is held against with p < "
        f"{significance.LEVEL:g} after Holm's correction over the table (paired on the same "
        f"images; {tests}). Outcome: {significance.NO_LOSS} is equivalence by two one-sided tests, "
        f"each with p < {significance.LEVEL:g} of its own; else {significance.LOSES} or "
        f"{significance.GAINS} where the difference is marked, and {significance.UNTOLD} where "
        f"neither test says so. Intervals cover: {covers}."
    )


def _markdown(profile: str, which: int) -> str:
    """The readable tables, each measured accuracy linked to its record."""
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    variants = _variants(evidence, dataset)
    lines = [
        f"# Table {which}: {data.spec(dataset).title}",
        "",
        f"Profile `{profile}`: {evidence.known.title}. "
        f"Published: the papers' {PUBLISHED_ON[which - 1]}. Accuracy links to the record that it "
        f"comes from. it/s: iterations per second. {significance_caption(profile, which)}",
        "",
        stem(profile),
        "",
        *_linked(evidence, dataset, METHODS, readable(profile, which)),
        "",
        "## Beneath the papers' rows: variants and controls",
        "",
        *_linked(evidence, dataset, variants, readable_beneath(profile, which)),
        "",
    ]
    if unshown := [method.key for method in methods.VARIANTS if method not in variants]:
        names = ", ".join(unshown)
        lines.append(f"Computed by name only, and not measured on this profile: {names}.")
    return "\n".join(lines) + "\n"


def stem(profile: str) -> str:
    """How much of the network is what the methods leave alone."""
    parameters, macs = manifest.stem_share(profile)
    what = "a convolutional stem" if profiles.get(profile).architecture.stem else "linear patches"
    return (
        f"Of vanilla's parameters {parameters:.0%}, and of its multiply-accumulates {macs:.0%}, "
        f"are those of {what}, which dynamic int8, pruning and Nyström attention leave as they are."
    )


def record_place(evidence: Evidence, dataset: str, key: str) -> str:
    """Where a row's record is, or of several seeds the folder of them, from `results/<profile>`."""
    record = evidence.cell(dataset, key).record_path
    place = record if len(evidence.known.seeds) == 1 else record.parent
    return place.relative_to(files.results(evidence.profile)).as_posix()


def _linked(evidence: Evidence, dataset: str, rows, shown: pd.DataFrame) -> list[str]:
    """The lines of a Markdown table of the methods `rows`, its accuracies linked to records."""
    for position, method in enumerate(rows):
        if accuracy := shown.at[position, "Accuracy, %"]:
            place = record_place(evidence, dataset, method.key)
            shown.at[position, "Accuracy, %"] = f"[{accuracy}](../{place})"
    words = ("Beneath", "Model", "Method", "Outcome", "Note")
    shown, notes = notes_below(shown)
    return [*markdown(shown, shown.itertuples(index=False), words), "", notes]


def _tex(profile: str, which: int) -> str:
    """The table and what stands beneath it as two LaTeX tables for `booktabs`."""
    known, dataset = profiles.get(profile), Evidence(profile).dataset(which)
    title = f"{data.spec(dataset).title}, profile {profile} ({known.title})"
    caption = (
        f"Published (CIFAR tables of the papers, {PUBLISHED_ON[which - 1]}) beside measured: "
        f"{title}. {significance_caption(profile, which)}"
    )
    text = _shown(compared(profile, which))
    rows = [(group, heading, text[name]) for name, (_, group, heading) in HEADINGS.items()]
    shown = readable_beneath(profile, which)
    words = [("", name, shown[name]) for name in shown if name != "Note"]
    label = f"tab:{profile}-{which}"
    beneath_caption = f"Variants and controls beneath the rows of Table~\\ref{{{label}}}"
    return (
        latex.table(rows, text["note"], latex.escape(caption), label, words=2)
        + "\n"
        + latex.table(words, shown["Note"], beneath_caption, f"{label}-beneath", words=2)
    )


# -- files ----------------------------------------------------------------------------------------


def write(profile: str) -> None:
    """Write a profile's `tables/table1` and `table2`, each `.csv`, `.md` and `.tex`, the pairs of
    its rows as `differences1.csv` and `differences2.csv`, the surveyed methods'
    tables, `records.csv` and `manifest.json`.
    """
    folder = files.results(profile) / "tables"
    for which in TABLES:
        frame = as_text(compared(profile, which))
        files.write_csv(folder / f"table{which}.csv", list(frame), frame.to_dict("records"))
        files.write(folder / f"table{which}.md", _markdown(profile, which))
        files.write(folder / f"table{which}.tex", _tex(profile, which))
        frame = as_text(pairs(profile, which).rename(columns=SIGNIFICANCE))
        files.write_csv(folder / f"differences{which}.csv", list(frame), frame.to_dict("records"))
    surveyed.write(profile)
    manifest.write(profile)
