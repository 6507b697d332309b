"""Whether a small study predicts a big one: how alike two scales rank the papers' thirteen rows.

Kendall's τ of two rankings by accuracy, with one interval over test images and one over rows. Rows
within the noise have no ranking: which single losses transfer is `transfer`'s to say. The records
and predictions of the profiles that are evidence are read, the digits' committed summary and the
papers' print, so that every clone says the same until it computes something itself.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vitstudy import files, profiles
from vitstudy.methods import METHODS
from vitstudy.report import significance
from vitstudy.report.evidence import TABLES
from vitstudy.report.readable import table

FOLDER = "scales"
"""Of `results` and `figures`: agreement belongs to no profile of the study."""
SUMMARISED, PRINT = "digits", "print"
SUMMARY = files.REPOSITORY / "results" / SUMMARISED / "summary.json"
SCALES = (
    *(name for name, known in profiles.PROFILES.items() if known.committed or name == SUMMARISED),
    PRINT,
)
"""From the smallest to the largest; then the papers, of which nothing but their tables is known."""
CLASSES = {1: "10 classes", 2: "100 classes"}
"""What the rows of Tables 1 and 2 tell apart, at any scale."""

LEAST_ROWS = 3
"""Of fewer rows that both scales have, no τ is given."""
ENOUGH = 0.5
"""A ranking predicts another one where τ is above it: at least three pairs of rows of four, (1 + τ)
/ 2, then stand in the same order."""
AGREES, OPEN, DIFFERS = "predicts", "may or may not predict", "does not predict"
NOT_MEASURED = "not measured"
COLUMNS = [
    *("table", "first", "second", "rows", "tau"),
    *("low", "high", "rows_low", "rows_high", "verdict", "note"),
]
_Z = 1.959964  # of the normal distribution, for 95 %


# -- the mathematics ------------------------------------------------------------------------------


def kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Kendall's τ-b of two lots of values, (…, M) each, over the last axis: (…), -1 to 1.

    Pairs in the same order less pairs in opposite orders, over the geometric mean of how many pairs
    either side does not tie; NaN where a side ties all of them. Kendall, The Treatment of Ties in
    Ranking Problems, 1945.
    """
    i, j = np.triu_indices(first.shape[-1], 1)
    ours, theirs = (np.sign(each[..., i] - each[..., j]) for each in (first, second))  # (…, pairs)
    untied = (ours**2).sum(-1) * (theirs**2).sum(-1)
    with np.errstate(invalid="ignore"):
        return (ours * theirs).sum(-1) / np.sqrt(untied)


def over_images(tau: float, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of τ from the resampled values of both sides, (B, M) or (1, M) each.

    Resampled values carry the images' noise twice, and noise pulls τ towards 0. So the lower end,
    the 2.5 percentile of their τ, is on the safe side where the rankings are alike, but the 97.5
    percentile is no upper one: that is at least the τ there would be if all pairs which the images
    cannot tell apart stood in the same order. Below 0 the lower end is at most that with all of
    them in opposite orders.
    """
    low, high = np.nanpercentile(kendall(*np.broadcast_arrays(first, second)), [2.5, 97.5])
    orders = told_apart(first) * told_apart(second)  # 0 where one side cannot tell
    alike, opposite = (np.where(orders == 0, each, orders).mean() for each in (1, -1))
    low = min(low, opposite) if tau < 0 else low
    return min(tau, float(low)), max(tau, float(high), float(alike))


def told_apart(draws: np.ndarray) -> np.ndarray:
    """The order of every pair in draws (B, M): 1 or -1 where 97.5 % of them agree, else 0."""
    i, j = np.triu_indices(draws.shape[-1], 1)
    signs = np.sign(draws[:, i] - draws[:, j])  # (B, pairs)
    return ((signs > 0).mean(0) >= 0.975).astype(int) - ((signs < 0).mean(0) >= 0.975)


def over_rows(tau: float, rows: int) -> tuple[float, float] | None:
    """A 95 % interval of τ where the rows are a sample of the methods that there could be.

    Fisher's z with variance 0.437 / (rows - 4) (Fieller, Hartley and Pearson, Tests for Rank
    Correlation Coefficients I, 1957), so None of fewer than five rows. A perfect τ has no z; it is
    taken as if half a pair were in the other order, so that its interval is no point, as a
    bootstrap's or a jackknife's would be. Rows that are settings of one method are taken as
    independent: the interval is rather too narrow.
    """
    if rows <= 4:
        return None
    most = 1 - 1 / math.comb(rows, 2)
    centre, reach = math.atanh(min(most, max(-most, tau))), _Z * math.sqrt(0.437 / (rows - 4))
    return min(tau, math.tanh(centre - reach)), max(tau, math.tanh(centre + reach))


def verdict(*intervals: tuple[float, float] | None) -> str:
    """Whether one ranking predicts the other: what all of τ's intervals say alike, else OPEN."""
    if not all(intervals):
        return OPEN
    if min(low for low, _ in intervals) > ENOUGH:
        return AGREES
    return DIFFERS if max(high for _, high in intervals) < ENOUGH else OPEN


# -- the scales -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """The papers' rows that were measured at one scale, for one of the two tables."""

    name: str
    accuracy: dict[str, float]
    """By row, percent; of several seeds the mean."""
    resampled: dict[str, np.ndarray]
    """The same, (significance.DRAWS,) each; empty where there are no images to resample."""
    how: str
    """What was resampled, in words."""

    def values(self, keys: list[str]) -> np.ndarray:
        """Accuracies of `keys`, (M,)."""
        return _rounded(np.array([self.accuracy[key] for key in keys]))

    def draws(self, keys: list[str]) -> np.ndarray:
        """Resampled accuracies, (DRAWS, M), or the accuracies themselves, (1, M)."""
        if not self.resampled:
            return self.values(keys)[None]
        return _rounded(np.stack([self.resampled[key] for key in keys], axis=-1))


def _rounded(values: np.ndarray) -> np.ndarray:
    # Equal shares of right images are a tie, whatever the last bits of a mean over seeds.
    return np.round(values.astype(np.float64), 6)


def read() -> dict[int, list[Scale]]:
    """Every one of SCALES for either table, by the table's number."""
    return {which: [_scale(name, which) for name in SCALES] for which in TABLES}


def _scale(name: str, which: int) -> Scale:
    if name == PRINT:
        printed = {method.key: method.published[which - 1].accuracy for method in METHODS}
        return Scale(name, printed, {}, "print: no images, as printed")
    return _summarised(which) if name == SUMMARISED else _recorded(name, which)


def _recorded(name: str, which: int) -> Scale:
    """From predictions: images are resampled, the same for all rows, and seeds where several.

    Profiles on the same test images draw the same ones as well, as their number is the same; their
    seeds are drawn apart, having nothing to do with each other.
    """
    known = profiles.get(name)
    every = significance.comparison(name, known.datasets[which - 1])
    found = {each.key: every.row(each.key, stream=1 + SCALES.index(name)) for each in METHODS}
    measured = {key: row for key, row in found.items() if row is not None}
    what = "test images and seeds" if len(known.seeds) > 1 else "test images"
    return Scale(
        name,
        {key: 100 * accuracy for key, (accuracy, _) in measured.items()},
        {key: 100 * draws for key, (_, draws) in measured.items()},
        f"{name}: {what} resampled, the same for all rows",
    )


def _summarised(which: int) -> Scale:
    """From the committed summary, which has no predictions: each row drawn within its own interval.

    Normally, with the deviation that its 95 % interval stands for, which for pairs of digits counts
    the digits that they share; a binomial draw of 2,000 pairs would not. What rows have in common
    on the same images cancels in their differences, and is drawn apart here: τ's interval is rather
    too wide.
    """
    summary = files.read_json(SUMMARY) or {"rows": []}
    dataset = profiles.get(SUMMARISED).datasets[which - 1]
    accuracy, resampled = {}, {}
    generator = np.random.RandomState(which)  # the legacy generator: its stream is frozen for ever
    for row in summary["rows"]:
        if row["dataset"] == dataset:
            deviation = (row["accuracy_high"] - row["accuracy_low"]) / (2 * _Z)
            accuracy[row["method"]] = 100 * row["accuracy"]
            noise = generator.standard_normal(significance.DRAWS)
            resampled[row["method"]] = 100 * (row["accuracy"] + deviation * noise)
    return Scale(SUMMARISED, accuracy, resampled, f"{SUMMARISED}: each row within its own interval")


def ranks(found: dict[int, list[Scale]]) -> pd.DataFrame:
    """Where each row stands, of `read`: `table, scale, key, model, method, accuracy, rank`.

    Rank 1 is the most accurate; rows that tie share the mean of their ranks. Scales with fewer than
    LEAST_ROWS rows are left out.
    """
    rows = [
        {
            "table": which,
            "scale": scale.name,
            "key": method.key,
            "model": method.title,
            "method": method.method,
            "accuracy": float(scale.values([method.key])[0]),
        }
        for which, each in found.items()
        for scale in each
        if len(scale.accuracy) >= LEAST_ROWS
        for method in METHODS
        if method.key in scale.accuracy
    ]
    frame = pd.DataFrame(rows)
    order = frame.groupby(["table", "scale"])["accuracy"].rank(ascending=False)
    return frame.assign(rank=order)


# -- the table ------------------------------------------------------------------------------------


def pairs(found: dict[int, list[Scale]]) -> pd.DataFrame:
    """A row a table and pair of scales, COLUMNS, the smaller scale first and the print last.

    `rows` are those that both have; `low` and `high` τ's interval over images, `rows_low` and
    `rows_high` that over rows. `note` says what the first one covers, or why there is no τ.
    """
    rows = [
        {"table": which, "first": first.name, "second": second.name, **_compared(first, second)}
        for which, each in found.items()
        for first, second in itertools.combinations(each, 2)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _compared(first: Scale, second: Scale) -> dict:
    both = first.accuracy.keys() & second.accuracy.keys()
    keys = [each.key for each in METHODS if each.key in both]
    blank = {"rows": len(keys), "verdict": NOT_MEASURED}
    if len(keys) < LEAST_ROWS:
        absent = [each.name for each in (first, second) if not each.accuracy]
        lacking = f"{' and '.join(absent)} {NOT_MEASURED}"
        few = f"rows in common: {len(keys)}, and it takes {LEAST_ROWS}"
        return {**blank, "note": lacking if absent else few}
    tau = float(kendall(first.values(keys), second.values(keys)))
    if math.isnan(tau):
        return {**blank, "note": "one of them ties all rows"}
    images = over_images(tau, first.draws(keys), second.draws(keys))
    rows = over_rows(tau, len(keys))
    notes = [first.how, second.how] + ([] if rows else ["too few rows for an interval over them"])
    return {
        "rows": len(keys),
        "tau": tau,
        **dict(zip(("low", "high"), images, strict=True)),
        **dict(zip(("rows_low", "rows_high"), rows or (None, None), strict=True)),
        "verdict": verdict(images, rows),
        "note": "; ".join(notes),
    }


def write(frame: pd.DataFrame) -> None:
    """Write `results/scales/agreement.csv`, of `pairs`."""
    files.write_csv(files.results(FOLDER) / "agreement.csv", COLUMNS, as_text(frame))


def as_text(frame: pd.DataFrame) -> list[dict[str, str]]:
    """The rows of `pairs` as they are written; empty where there is nothing."""
    numbers = COLUMNS[COLUMNS.index("tau") : COLUMNS.index("verdict")]
    return [
        {
            name: "" if pd.isna(value) else f"{value:.3f}" if name in numbers else str(value)
            for name, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


# -- to be read -----------------------------------------------------------------------------------


def rule() -> str:
    """How τ is read, and when one ranking is said to predict another."""
    return (
        f"One ranking **{AGREES}** another where τ is above {ENOUGH:g}, that is where at least "
        f"{(1 + ENOUGH) / 2:.0%} of the pairs of rows stand in the same order, by the lower ends "
        f"of both intervals. It **{DIFFERS}** it where both upper ends lie below. Else it "
        f"**{OPEN}** it."
    )


def coverage(found: dict[int, list[Scale]]) -> pd.DataFrame:
    """How many of the papers' rows each scale has in either table, for a reader."""
    titles = {name: known.title for name, known in profiles.PROFILES.items()}
    titles[PRINT] = "The papers' Tables 1 and 2: ViT-B/16 on CIFAR-10 and CIFAR-100"
    counts = {
        f"Rows of {len(METHODS)}, {CLASSES[which]}": [len(scale.accuracy) for scale in each]
        for which, each in found.items()
    }
    return pd.DataFrame({"Scale": SCALES, "What": [titles[name] for name in SCALES], **counts})


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs of `pairs` that have a τ, as text under headings for a reader."""
    frame = frame.dropna(subset="tau")
    columns = {
        "Data": ("table", CLASSES.get),
        "Scale": "first",
        "Against": "second",
        "Rows": "rows",
        "τ": ("tau", "{:.2f}"),
        "95 % over images": "images",
        "95 % over rows": "sampled",
        "Verdict": "verdict",
        "Over images, that is": "note",
    }
    intervals = {
        "images": _intervals(frame, "low", "high"),
        "sampled": _intervals(frame, "rows_low", "rows_high"),
    }
    return table(frame.assign(**intervals), columns)


def _intervals(frame: pd.DataFrame, low: str, high: str) -> list[str]:
    ends = frame[[low, high]].astype(float).itertuples(index=False)
    return ["" if pd.isna(one) else f"{one:.2f} to {other:.2f}" for one, other in ends]


def missing(frame: pd.DataFrame) -> str:
    """How many pairs have no τ, and why, in a sentence; empty where all have one."""
    left = frame[frame["tau"].isna()]
    absent = left["note"].str.endswith(NOT_MEASURED)
    reasons = [f"{absent.sum()} with a scale that is not measured"] if absent.any() else []
    reasons += [
        f"{row.first} and {row.second}, {CLASSES[row.table]} ({row.note})"
        for row in left[~absent].itertuples()
    ]
    return f"No τ for {len(left)} of {len(frame)} pairs: {'; '.join(reasons)}." if reasons else ""
