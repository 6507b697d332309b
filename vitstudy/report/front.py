"""The first page: what to take, on what evidence, in half a minute's reading.

Six rows of the papers, each with a verb that follows from what was measured, a figure and a table.
All of it is computed from the committed records of one profile.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from vitstudy import data, profiles, speed
from vitstudy.report import tables, transfer
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import markdown
from vitstudy.report.significance import GAINS, MARGIN, NO_LOSS, UNTOLD, difference

TAKE, WEIGH, LEAVE = "Take", "Weigh", "Leave out"
"""What to do with a row: its gain is free, or has a price, or another row has it for less."""
TEACHER = "teacher"
ALT = "Accuracy lost on CIFAR-100 against bytes and milliseconds, published values hollow"


@dataclass(frozen=True)
class Choice:
    """A row of the papers that the first page speaks of, and which two numbers it gives."""

    key: str
    name: str
    where: str
    tells: tuple[str, str]
    control: str = ""


CHOICES = (
    Choice("dynamic", "dynamic int8", "where nothing may be trained", ("file", "speed")),
    Choice("lsq-w4", "LSQ at 4 bits", "where the file has to be small", ("file", "accuracy")),
    Choice(
        "deit-base", "DeiT base", "where accuracy counts", ("accuracy", "control"), "token-labels"
    ),
    Choice("deit-tiny", "DeiT tiny", "where speed decides", ("speed", "accuracy")),
    Choice("vtp-r0.2", "pruning of a fifth", "at this size", ("speed", "accuracy")),
    Choice("nystrom-m32", "Nyström attention", "at this number of tokens", ("speed", "file")),
)


@dataclass(frozen=True)
class Measured:
    """What one row of the papers costs and gives against vanilla, on both data sets."""

    points: tuple[float, float]
    outcomes: tuple[str, str]
    """What the tests say of them: of `significance.OUTCOMES`."""
    size: float
    """Bytes of the file over vanilla's."""
    speed: float
    """Images per second on the CPU over vanilla's; NaN where its arithmetic is simulated."""


def measured(profile: str) -> dict[str, Measured]:
    """The rows of CHOICES that are measured on `profile`, by key; none without vanilla."""
    frames = [tables.compared(profile, table).set_index("key") for table in tables.TABLES]
    ratios = tables.ratios(profile, 2).set_index("key")
    rows = {}
    for choice in CHOICES:
        points = tuple(float(frame.at[choice.key, "difference"]) for frame in frames)
        if not any(map(pd.isna, points)):
            outcomes = tuple(frame.at[choice.key, "outcome"] for frame in frames)
            size, ratio = (ratios.at[choice.key, name] for name in ("size_ratio", "cpu_ratio"))
            rows[choice.key] = Measured(points, outcomes, float(size), float(ratio))
    return rows


def verb(key: str, rows: dict[str, Measured], *, proven: bool = True) -> str:
    """What to do with the row `key` of `rows`.

    Leave it out where another row has a file as small, as many images per second and no accuracy
    worth naming less; else weigh it where it loses, where a loss cannot be told from none, or where
    its gain over its control is not `proven`; else take it.
    """
    row = rows[key]
    if any(_dominates(other, row) for name, other in rows.items() if name != key):
        return LEAVE
    free = all(outcome in (NO_LOSS, GAINS) for outcome in row.outcomes)
    return TAKE if free and proven else WEIGH


def _dominates(one: Measured, other: Measured) -> bool:
    accurate = all(
        mine >= theirs - MARGIN for mine, theirs in zip(one.points, other.points, strict=True)
    )
    return accurate and one.size < other.size and one.speed > other.speed


def advice(profile: str) -> list[str]:
    """A sentence for each of CHOICES that is measured: a verb, when, and two numbers."""
    known, rows, said = profiles.get(profile), measured(profile), []
    for choice in CHOICES:
        if choice.key not in rows:
            continue
        row, proven, over = rows[choice.key], True, ""
        if choice.control:
            gain = difference(profile, known.datasets[1], choice.key, choice.control)
            if gain is None:
                over = "of which its control, not measured, would tell the teacher's share"
            else:
                proven = gain.significant
                over = f"of which its teacher gives {gain.points:+.2f}"
                over += "" if proven else f" ({UNTOLD})"
        told = {
            "file": f"its file is {100 * row.size:.0f} % of vanilla's",
            "speed": f"it classifies {row.speed:.2f} times the images per second on the CPU",
            "accuracy": f"accuracy on CIFAR-100 {_change(row)}",
            "control": over,
        }
        action = verb(choice.key, rows, proven=proven)
        first, second = (told[name] for name in choice.tells)
        numbers = (
            f"{first}, {second}" if second.startswith("of which") else f"{first}, and {second}"
        )
        said.append(f"**{action} {choice.name}** {choice.where}: {numbers}.")
    return said


def _change(row: Measured) -> str:
    """What becomes of the accuracy on the second data set, in words."""
    if row.outcomes[1] == NO_LOSS:
        return "falls by less than half a point"  # MARGIN
    untold = f" ({UNTOLD})" if row.outcomes[1] == UNTOLD else ""
    return f"changes by {row.points[1]:+.2f} points{untold}"


def setting(profile: str) -> str:
    """On what the advice rests, and that it is not the papers' setting; empty without vanilla."""
    evidence = Evidence(profile)
    accuracy = [evidence.accuracy(dataset, "vanilla") for dataset in evidence.datasets]
    if None in accuracy:
        return ""
    printed = [tables.table(profile, table)["accuracy_published"][0] for table in tables.TABLES]
    network = evidence.known.title.split(", ")[-1]
    return (
        f"This is not the papers' setting: they fine-tune a pretrained ViT-B/16 of 86 M "
        f"parameters at 224 pixels, and here it is {network}, at 32 pixels. It has "
        f"{accuracy[0]:.2f} % on CIFAR-10 and {accuracy[1]:.2f} % on CIFAR-100; theirs has "
        f"{printed[0]:.2f} and {printed[1]:.2f} %."
    )


def other_network(profile: str) -> str:
    """What the CNN that teaches has to offer, where it is measured; else empty."""
    evidence = Evidence(profile)
    dataset = evidence.dataset(2)
    ratio, accuracy = evidence.cpu_ratio(dataset, TEACHER), evidence.accuracy(dataset, TEACHER)
    if ratio is None or accuracy is None or evidence.record(dataset, "vanilla") is None:
        return ""
    return (
        "Where it need not be a Transformer, compare with the CNN that teaches here: "
        f"{accuracy:.2f} % on CIFAR-100, {evidence.size_share(dataset, TEACHER):.0f} % of "
        f"vanilla's file and {ratio:.2f} times its images per second."
    )


def table(profile: str) -> list[str]:
    """The rows of CHOICES against vanilla, published in brackets, as a Markdown table."""
    evidence = Evidence(profile)
    frames = [tables.compared(profile, table).set_index("key") for table in tables.TABLES]
    ratios = [tables.ratios(profile, table).set_index("key") for table in tables.TABLES]
    lines = []
    for choice in CHOICES:
        cells = [frames[0].at[choice.key, "model"]]
        for dataset, frame, ratio in zip(evidence.datasets, frames, ratios, strict=True):
            row, printed = frame.loc[choice.key], ratio.at[choice.key, "accuracy_change_published"]
            points = f"not measured ({printed:+.2f})"
            if pd.notna(row["difference"]):
                place = tables.record_place(evidence, dataset, choice.key)
                mark = tables.SIGNIFICANT if row["significant"] else ""
                here = f"[{row['difference']:+.2f}{mark}](results/{profile}/{place})"
                points = f"{here} ({printed:+.2f})"
            cells.append(points)
        for name in ("size_ratio", "cpu_ratio"):
            value, printed = (
                ratios[1].at[choice.key, each] for each in (name, f"{name}_published")
            )
            beside = "" if pd.isna(printed) else f" ({printed:.2f})"
            cells.append("-" if pd.isna(value) else f"{value:.2f}{beside}")
        lines.append(cells)
    headings = ["Row of the papers"]
    headings += [f"{data.spec(name).title}, points" for name in evidence.datasets]
    headings += ["File, share", "Images/s, share"]
    return markdown(headings, lines, words=(headings[0],))


def between_scales() -> str:
    """Which losses at the shown scale a larger one repeats, in a sentence; empty without any."""
    moved = transfer.transfers(transfer.losses())
    own = moved[moved["table"].eq(2) & moved["first"].ne(transfer.SUMMARISED)]
    parts = [f"{row.model} ({row.transfer})" for row in own.itertuples()]
    if not parts:
        return ""
    first, second = own.iloc[-1][["first", "second"]]
    return (
        f"Of the differences on CIFAR-100 that are resolved on `{first}`, this comes back on "
        f"`{second}`, {profiles.get(second).title.split(', ')[-1]}: {', '.join(parts)}."
    )


def render(profile: str, figure: str) -> str:
    """The README's made part: `figure` is where its picture lies, without an ending."""
    lines = [
        setting(profile),
        "",
        *(f"- {line}" for line in advice(profile)),
        "",
        other_network(profile),
        "",
        f"![{ALT}]({figure}.svg)",
        "",
        *table(profile),
        "",
        f"Against vanilla, measured on `{profile}`; in brackets, what the papers print. File and "
        "images per second (CPU, batch 64) are those of CIFAR-100. A star marks a difference that "
        "is more than chance, after Holm's correction; each links to its record. LSQ's integers "
        "are simulated in float, so it has no speed.",
        "",
        between_scales(),
    ]
    return "\n".join(lines).strip("\n")


# -- the figure -----------------------------------------------------------------------------------


def points(profile: str, which: int = 2) -> pd.DataFrame:
    """For the figure: each row of a table, and the CNN that teaches, against vanilla.

    Columns `key`, `family`, and measured and published `points`, `size` and `time`, the latter two
    as shares of vanilla's; NaN where there is none.
    """
    frame, evidence = tables.ratios(profile, which), Evidence(profile)
    against = tables.compared(profile, which).set_index("key")["difference"]
    shown = pd.DataFrame(
        {
            "key": frame["key"],
            "family": frame["method"],
            "points": frame["key"].map(against),  # as the table beside it has them
            "points_published": frame["accuracy_change_published"],
            "size": frame["size_ratio"],
            "size_published": frame["size_ratio_published"],
            "time": 1 / frame["cpu_ratio"],
            "time_published": 1 / frame["cpu_ratio_published"],
        }
    )[1:]
    dataset = evidence.dataset(which)
    gain = difference(profile, dataset, TEACHER, "vanilla")
    if gain is None:
        return shown
    ratio = evidence.cpu_ratio(dataset, TEACHER)
    cnn = {
        "key": TEACHER,
        "family": "CNN",
        "points": gain.points,
        "size": evidence.size_share(dataset, TEACHER) / 100,
        "time": 1 / ratio if ratio else None,
    }
    return pd.concat([shown, pd.DataFrame([cnn])], ignore_index=True)


def vanilla(profile: str, which: int = 2) -> dict[str, float]:
    """Vanilla's own `size` in MiB and `time` in ms an image, for the figure's second axes."""
    evidence = Evidence(profile)
    dataset = evidence.dataset(which)
    timed = speed.latest(evidence.cell(dataset, "vanilla"), "cpu")
    time = 1000 / timed["images_per_second"] if timed else float("nan")
    return {"size": evidence.mean(dataset, "vanilla", "size_mib"), "time": time}
