"""Which losses of accuracy are resolved at each scale, and which of them a larger scale repeats.

A loss is a row's accuracy less vanilla's, in points. Rows that lie within the noise of the test
images have no ranking worth predicting; a loss that is resolved at a small scale either comes back
at a large one, in sign and size or in sign alone, or it does not. The profiles' records and
predictions are read, and of the digits the committed summary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from vitstudy import files
from vitstudy.methods import METHODS
from vitstudy.report import tables
from vitstudy.report.evidence import TABLES
from vitstudy.report.scales import CLASSES, PRINT, SCALES, SUMMARISED, SUMMARY
from vitstudy.report.tables import SIGNIFICANT

SIGN_AND_SIZE, SIGN, NOT, OPEN = "sign and size", "sign alone", "not", "cannot be told"
"""What of a loss that is resolved at a smaller scale a larger one repeats."""
COLUMNS = ["table", "scale", "key", "model", "points", "low", "high", "resolved"]


@dataclass(frozen=True)
class Loss:
    """Accuracy less vanilla's, in points, with its 95 % interval."""

    points: float
    low: float
    high: float
    resolved: bool
    """Whether it is more than chance, after Holm's correction over its table."""

    def __str__(self) -> str:
        return f"{self.points:+.2f}{SIGNIFICANT if self.resolved else ''}"


def transfer(small: Loss, large: Loss) -> str:
    """What the loss at a larger scale repeats of one that is resolved at a smaller scale.

    `sign and size` where both are resolved with one sign and the interval of their difference holds
    0; `sign alone` where it does not; `not` where the larger scale has no resolved loss of this
    sign and the interval leaves 0 out; else it cannot be told. That interval takes the two as
    independent, half the width of each added in squares: where both scales are tested on the same
    images, it is rather too wide.
    """
    reach = math.hypot((small.high - small.low) / 2, (large.high - large.low) / 2)
    same_size = abs(small.points - large.points) <= reach
    if large.resolved and small.points * large.points > 0:
        return SIGN_AND_SIZE if same_size else SIGN
    return OPEN if same_size else NOT


def losses() -> pd.DataFrame:
    """COLUMNS: every loss that is measured, by table, scale and row; vanilla itself has none."""
    rows = []
    for which in TABLES:
        for scale in (name for name in SCALES if name != PRINT):
            frame = _summarised(which) if scale == SUMMARISED else tables.compared(scale, which)
            for row in frame.dropna(subset="difference").itertuples():
                loss = (row.difference, row.difference_low, row.difference_high)
                rows.append((which, scale, row.key, row.model, *loss, bool(row.significant)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _summarised(which: int) -> pd.DataFrame:
    """The differences that the digits' committed summary has, under the names of `compared`."""
    summary = files.read_json(SUMMARY) or {"rows": []}
    dataset = tables.profiles.get(SUMMARISED).datasets[which - 1]
    kept = {row["method"]: row for row in summary["rows"] if row["dataset"] == dataset}
    names = ("difference", "difference_low", "difference_high", "significant")
    rows = [
        {"key": method.key, "model": method.title}
        | {name: kept.get(method.key, {}).get(name) for name in names}
        for method in METHODS
    ]
    return pd.DataFrame(rows)


def _by_row(frame: pd.DataFrame, which: int) -> dict[str, dict[str, Loss]]:
    """The losses of one table, by row and scale, the smallest scale first."""
    rows: dict[str, dict[str, Loss]] = {}
    for row in frame[frame["table"].eq(which)].itertuples():
        loss = Loss(row.points, row.low, row.high, row.resolved)
        rows.setdefault(row.key, {})[row.scale] = loss
    return rows


def transfers(frame: pd.DataFrame) -> pd.DataFrame:
    """`table, model, first, second, transfer`: what comes of each resolved loss, of `losses`.

    It is held against the largest scale at which its row is measured.
    """
    titles = {method.key: method.title for method in METHODS}
    found = []
    for which in TABLES:
        for key, by_scale in _by_row(frame, which).items():
            *smaller, largest = by_scale
            for scale in smaller:
                if by_scale[scale].resolved:
                    verdict = transfer(by_scale[scale], by_scale[largest])
                    found.append((which, titles[key], scale, largest, verdict))
    return pd.DataFrame(found, columns=["table", "model", "first", "second", "transfer"])


# -- to be read -----------------------------------------------------------------------------------


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with a loss that is resolved at some scale, a column a scale, for a reader."""
    measured = [name for name in SCALES if name in set(frame["scale"])]
    moved = transfers(frame)
    shown = []
    for which in TABLES:
        for key, by_scale in _by_row(frame, which).items():
            if not any(loss.resolved for loss in by_scale.values()):
                continue
            model = next(method.title for method in METHODS if method.key == key)
            own = moved[moved["table"].eq(which) & moved["model"].eq(model)].itertuples()
            cells = {name: _with_interval(by_scale.get(name)) for name in measured}
            told = "; ".join(f"{row.first} to {row.second}: {row.transfer}" for row in own)
            shown.append({"Data": CLASSES[which], "Model": model, **cells, "Transfers": told})
    return pd.DataFrame(shown, columns=["Data", "Model", *measured, "Transfers"])


def _with_interval(loss: Loss | None) -> str:
    return f"{loss} ({loss.low:+.2f} to {loss.high:+.2f})" if loss else ""


def lines(frame: pd.DataFrame) -> list[str]:
    """Which losses are resolved at each scale, and which transfer, a sentence each, of `losses`."""
    said = []
    for which in TABLES:
        parts = []
        for scale, own in frame[frame["table"].eq(which)].groupby("scale", sort=False):
            resolved = own[own["resolved"]]
            named = ", ".join(f"{row.model} {row.points:+.2f}" for row in resolved.itertuples())
            parts.append(f"at {scale} {len(resolved)} of {len(own)} ({named or 'none'})")
        if parts:
            said.append(
                f"**Differences from vanilla that are resolved with {CLASSES[which]}**, in "
                f"points: {'; '.join(parts)}."
            )
    return said + [line for which in TABLES if (line := _moved(frame, which))]


def _moved(frame: pd.DataFrame, which: int) -> str:
    """What becomes of the resolved losses of one table at the largest scale of each."""
    moved = transfers(frame)
    own = moved[moved["table"].eq(which)]
    parts = [
        f"{first} to {second}: "
        + ", ".join(f"{row.model} ({row.transfer})" for row in group.itertuples())
        for (first, second), group in own.groupby(["first", "second"], sort=False)
    ]
    return f"**What transfers with {CLASSES[which]}**, from {'; from '.join(parts)}." * bool(parts)
