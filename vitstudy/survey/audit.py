"""Every EER that the survey prints in Tables 2 to 8, computed again from what it prints beside it.

An input is what it is printed as, give or take half a unit of its last digit, and a printed EER may
have been rounded or cut off: whatever lies within that is no error.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pandas as pd

from vitstudy.survey import tables
from vitstudy.survey.eer import VIT_B16, Metrics, eer, mean_bits, quantities

COLUMNS = [
    *("table", "row", "model", "printed_eer", "recomputed_eer", "difference", "verdict", "note"),
    "column",
]
AGREES, ROUNDING, LAST_DIGIT, OFF = "agrees", "rounding", "last digit", "off"
NOT_PRINTED = "not printed"
WORSE_THAN = 0.1
"""Points of EER beyond which a row is `off`; below, and beyond rounding, it is `last digit`."""
NUMBER_COLUMNS = {"parameters": "parameters_M", "flops": "flops_G", "size": "size_MB"}
TITLES = {"parameters": "#Par.", "flops": "FLOPs", "bits": "#Bit", "size": "Size"}
COST, STORED = ("parameters", "flops"), ("bits", "size")
ALL = ("bits", "size", "parameters", "flops")
METRICS = {2: COST, 3: COST, 4: COST, 5: STORED, 6: STORED, 7: STORED}
"""Which metrics a table's EER averages, as `metric_sets` finds from the numbers."""
BIT_RULES = {
    "mean of W and A": mean_bits,
    "W alone": lambda weights, activations: weights,
    "A alone": lambda weights, activations: activations,
    "the larger": max,
    "the smaller": min,
    "root of W × A": lambda weights, activations: math.sqrt(weights * activations),
}
TWO_METRICS = "W and A as two metrics"


def row_metrics(row, names: tuple[str, ...], bit_rule=mean_bits) -> Metrics | None:
    """The metrics `names` of a row (of strings or numbers); None where one is not printed."""
    values = {}
    for name in names:
        columns = [NUMBER_COLUMNS.get(name, name)]
        if name == "bits":
            columns = ["weight_bits", "activation_bits"]
        cells = [row[column] for column in columns]
        if any(pd.isna(cell) or cell == "" for cell in cells):
            return None
        numbers = [float(cell) for cell in cells]
        values[name] = bit_rule(*numbers) if name == "bits" else numbers[0]
    return quantities(**values)


def limits(row, names: tuple[str, ...]) -> tuple[float, float]:
    """Least and greatest EER of a row of printed text whose inputs were rounded; bits are exact."""
    found = []
    for sign in (-1, 1):
        moved = {
            name: value + sign * (0 if name == "bits" else tables.half_unit(_text(row, name)))
            for name, (value, _) in row_metrics(row, names).items()
        }
        found.append(eer(quantities(**moved)))
    return found[0], found[1]


def _text(row, name: str) -> str:
    return row[NUMBER_COLUMNS[name]]


def judge(text: str, value: float, low: float, high: float) -> tuple[str, str]:
    """Verdict and note on the EER printed as `text`, computed as `value` and within `low`, `high`.

    `agrees`: the computed one rounds to the printed. `rounding`: it is the printed one when it is
    cut off, or when the inputs are taken anywhere within their rounding; else `last digit`, `off`.
    """
    shown, half = float(text), tables.half_unit(text)
    slip = 1e-9
    if abs(shown - value) <= half + slip:
        return AGREES, ""
    if shown - slip <= value < shown + 2 * half:
        return ROUNDING, "cut off where it should be rounded"
    if low - 2 * half - slip <= shown <= high + half + slip:
        return ROUNDING, f"inputs as printed allow {low:.2f} to {high:.2f}"
    return (LAST_DIGIT if abs(shown - value) <= WORSE_THAN + slip else OFF), ""


def audit(folder: Path = tables.DATA, counted: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for every EER of Tables 2 to 8, `COLUMNS`; Table 8 has two, told by `column`.

    `row` counts from 1. `counted` (`counted.read`) adds what was counted to the values in which an
    explanation is looked for. Raises UserError as `tables.printed` does.
    """
    pool, rows = known_values(folder, counted), []
    for number in METRICS:
        for position, row in _rows(number, folder):
            text = row["eer_percent"]
            if number == 5 and row["eer_source"] != "printed" and not row["eer_line"]:
                text = ""  # by the rule: to judge it by the rule would prove nothing
            note = row.get("basis", "") if number == 5 else ""
            rows.append(_audited(number, position, row, text, METRICS[number], pool, note))
    for position, row in _rows(8, folder):
        names = STORED if row["category"] == "Q" else COST
        text = row["eer_category_percent"]
        rows.append(_audited(8, position, row, text, names, pool, "", "EER_catg"))
        rows.append(_audited(8, position, row, row["eer_all_percent"], ALL, pool, "", "EER_all"))
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(number: int, folder: Path) -> list[tuple[int, dict]]:
    frame = tables.printed(number, folder)
    return list(enumerate(frame.to_dict("records"), 1))


def _audited(number, position, row, text, names, pool, note, column="EER") -> dict:
    metrics = row_metrics(row, names)
    found = {"table": number, "row": position, "model": row["model"], "column": column}
    found["printed_eer"] = float(text) if text else math.nan
    if metrics is None:
        missing = [TITLES[name] for name in names if row_metrics(row, (name,)) is None]
        without = f"{' and '.join(missing)} not printed"
        return {**found, "verdict": NOT_PRINTED, "note": without}
    found["recomputed_eer"] = value = eer(metrics)
    if not text:
        return {**found, "verdict": NOT_PRINTED, "note": note}
    verdict, said = judge(text, value, *limits(row, names))
    if verdict in (OFF, LAST_DIGIT):
        said = explain(text, row, metrics, pool)
    found["difference"] = float(text) - value
    return {**found, "verdict": verdict, "note": "; ".join(filter(None, [said, note]))}


# -- what would explain a printed value -----------------------------------------------------------


def network(model: str) -> str:
    """The network that a model is made from, `DeiT-B` of `VTP-DeiT-B (τ=0.2)`; '' where unnamed."""
    match = re.search(r"(LV-ViT|LV|DeiT|Swin|MViTv2|LeViT|ViT)-(Ti|T|S|M|B|L|H|\d+)\b", model)
    if not match:
        return ""
    family = {"LV": "LV-ViT"}.get(match[1], match[1])
    return f"{family}-{match[2]}"


def known_values(folder: Path, counted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every value of a metric that the survey prints, and where: `metric, value, network, place`.

    With those of the reference, and, of `counted`, the parameters with and without the last layer
    and the sizes at 4, 6 and 8 bits.
    """
    rows = [(name, value, "", "the reference's own") for name, (value, _) in VIT_B16.items()]
    for number in (2, 3, 4, 5, 6, 7, 8):
        for _, row in _rows(number, folder):
            for name in ALL:
                if set(NUMBER_COLUMNS.get(name, "weight_bits").split()) - set(row):
                    continue
                if metrics := row_metrics(row, (name,)):
                    bits = (
                        f" W{row['weight_bits']}A{row['activation_bits']}" if name in STORED else ""
                    )
                    place = f"printed for {row['model']}{bits} (Table {number})"
                    rows.append((name, metrics[name].value, network(row["model"]), place))
    for row in [] if counted is None else counted.to_dict("records"):
        for model in filter(None, map(network, row["models"].split("; "))):
            count = row["parameters_M"]
            bare = row["parameters_without_head_M"]
            rows.append(("parameters", count, model, f"counted in {row['timm']}"))
            rows.append(("parameters", bare, model, f"counted in {row['timm']} without its head"))
            for bits in (4, 6, 8):
                place = f"{count:.1f} M counted in {row['timm']} × {bits} / 8"
                rows.append(("size", count * bits / 8, model, place))
    return pd.DataFrame(rows, columns=["metric", "value", "network", "place"]).drop_duplicates()


def needed(text: str, metrics: Metrics, name: str) -> tuple[float, float]:
    """The values of metric `name` for which the EER, rounded or cut off, is printed as `text`."""
    shown, half = float(text), tables.half_unit(text)
    rest = sum(
        value / VIT_B16[other].value for other, (value, _) in metrics.items() if other != name
    )
    low, high = (
        (len(metrics) * percent / 100 - rest) * VIT_B16[name].value
        for percent in (shown - half, shown + 2 * half)
    )
    return low, high


def explain(text: str, row: dict, metrics: Metrics, pool: pd.DataFrame) -> str:
    """Which one input would have to be what for the printed EER, and who has that value.

    Known values count where they belong to the same network, or are the reference's own.
    """
    wanted, found = [], []
    own = network(row["model"])
    for name, (value, unit) in metrics.items():
        low, high = needed(text, metrics, name)
        if high <= 0:
            continue
        wanted.append(f"{TITLES[name]} {max(low, 0):.4g} to {high:.4g} {unit}")
        fits = pool[(pool["metric"] == name) & (pool["value"] >= low) & (pool["value"] < high)]
        fits = fits[((fits["network"] == own) & (own != "")) | (fits["network"] == "")]
        found += [
            f"{TITLES[name]} {each.value:.4g} in place of {value:.4g} {unit} ({each.place})"
            for each in fits.head(1).itertuples()
        ]
    said = f"needs {' or '.join(wanted)}"
    if found:
        return f"{said}; explained by {' or by '.join(found)}"
    return f"{said}; no value known of this network fits"


# -- which metrics, which bits --------------------------------------------------------------------


def _explained(rows: list[tuple[dict, str]], names: tuple[str, ...], bit_rule=mean_bits) -> int:
    """How many printed EERs the metrics `names` give, within rounding."""
    count = 0
    for row, text in rows:
        metrics = row_metrics(row, names, bit_rule)
        if metrics is None or not text:
            continue
        low, high = limits(row, names) if bit_rule is mean_bits else (eer(metrics),) * 2
        count += judge(text, eer(metrics), low, high)[0] in (AGREES, ROUNDING)
    return count


def metric_sets(folder: Path = tables.DATA) -> pd.DataFrame:
    """For each table and EER column, how many printed EERs each set of its metrics gives.

    Columns `table, column, metrics, explained, rows`, the set that gives most first. Of Table 5,
    only what is printed is asked.
    """
    columns = [(number, "EER", "eer_percent", None) for number in METRICS]
    columns += [(8, "EER_catg", "eer_category_percent", kind) for kind in ("CA, P, KD", "Q")]
    columns += [(8, "EER_all", "eer_all_percent", None)]
    found = []
    for number, title, column, kind in columns:
        rows = [
            (row, row[column])
            for _, row in _rows(number, folder)
            if (kind is None or (row["category"] == "Q") == (kind == "Q"))
            and (number != 5 or row["eer_line"] or row["eer_source"] == "printed")
            and row[column]
        ]
        has = [name for name in ALL if NUMBER_COLUMNS.get(name, "weight_bits") in rows[0][0]]
        asked = [row for row in rows if row_metrics(row[0], tuple(has))]
        sets = [
            {
                "table": number,
                "column": title + (f" ({kind})" if kind else ""),
                "metrics": ", ".join(names),
                "explained": _explained(asked, names),
                "rows": len(asked),
            }
            for size in range(1, len(has) + 1)
            for names in itertools.combinations(has, size)
        ]
        found += sorted(sets, key=lambda each: (-each["explained"], each["metrics"]))
    return pd.DataFrame(found)


def bit_rules(folder: Path = tables.DATA) -> pd.DataFrame:
    """For each way to make one #Bit of W and A, how many EERs of Tables 6 and 7 it gives.

    Rows whose two widths differ are counted apart: the others cannot tell.
    """
    rows = [(row, row["eer_percent"]) for number in (6, 7) for _, row in _rows(number, folder)]
    mixed = [each for each in rows if each[0]["weight_bits"] != each[0]["activation_bits"]]
    same = [each for each in rows if each[0]["weight_bits"] == each[0]["activation_bits"]]
    found = [
        {
            "#Bit": title,
            "explained, W = A": _explained(same, STORED, rule),
            "rows, W = A": len(same),
            "explained, W ≠ A": _explained(mixed, STORED, rule),
            "rows, W ≠ A": len(mixed),
        }
        for title, rule in BIT_RULES.items()
    ]
    two = {
        "#Bit": TWO_METRICS,
        "explained, W = A": _two_metrics(same),
        "rows, W = A": len(same),
        "explained, W ≠ A": _two_metrics(mixed),
        "rows, W ≠ A": len(mixed),
    }
    return pd.DataFrame([*found, two])


def _two_metrics(rows: list[tuple[dict, str]]) -> int:
    count = 0
    for row, text in rows:
        widths = [float(row["weight_bits"]), float(row["activation_bits"])]
        shares = [width / VIT_B16["bits"].value for width in widths]
        shares.append(float(row["size_MB"]) / VIT_B16["size"].value)
        value = 100 * sum(shares) / 3
        count += judge(text, value, value, value)[0] in (AGREES, ROUNDING)
    return count


def cuts(found: pd.DataFrame) -> tuple[int, int, int]:
    """How many audited rows cutting off explains, how many rounding, and how many there are."""
    known = found.dropna(subset=["printed_eer", "recomputed_eer"])
    shown, value = known["printed_eer"], known["recomputed_eer"]
    cut = (value - shown > -1e-9) & (value - shown < 0.1)
    rounded = (shown - value).abs() <= 0.05 + 1e-9
    return int(cut.sum()), int(rounded.sum()), len(known)


def written(found: pd.DataFrame) -> pd.DataFrame:
    """The audit as `eer_audit.csv` has it: printed with one digit, computed with three."""
    shown = found.copy()
    for column, digits in (("printed_eer", 1), ("recomputed_eer", 3), ("difference", 3)):
        values = shown[column].astype(float)
        shown[column] = ["" if math.isnan(each) else f"{each:.{digits}f}" for each in values]
    return shown
