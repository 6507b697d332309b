"""What notebook 02 shows of FQ-ViT: its remedies one by one, its calibration, the papers' Figure 1.

Accuracies are of records, on test; what depends on a choice (calibration images, nearness to the
float model) was measured on validation, by `fq_vit.analyse`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vitstudy import data, methods
from vitstudy.errors import check_bits
from vitstudy.quantization import figure1, fq_vit, uniform
from vitstudy.report.evidence import Evidence
from vitstudy.report.published import PUBLISHED_ON, change, printed
from vitstudy.report.readable import interval, table
from vitstudy.report.significance import LEVEL, difference, holm
from vitstudy.study import Cell

TABLES_OF_FOUR = (
    ("fq-vit-minmax", "fq-vit-ptf", "fq-vit-lis", "fq-vit"),
    ("fq-vit-w6m3-minmax", "fq-vit-w6m3-ptf", "fq-vit-w6m3-lis", "fq-vit-w6m3"),
)
SETTINGS = ("min/max", "power-of-two factors", "Log-Int-Softmax", "both")


def widths(key: str) -> str:
    """The bits of weights, activations and attention maps of a table of four, by its first row."""
    options = methods.get(key).options
    return f"W{options['bits']}A{options['bits']}, maps of {options['attention_bits']} bits"


# -- the tables of four ---------------------------------------------------------------------------


def remedies(profile: str) -> pd.DataFrame:
    """Each remedy alone, none and both, by `dataset` and `bits`, one row each.

    `accuracy`, its interval (`low`, `high`) and `baseline` in percent, means over the seeds that
    are done; `flips` against the baseline, of the first; `gain` over min/max in points, with the
    95 % interval of the paired difference (`gain_low`, `gain_high`) and its p after Holm's
    correction over all rows (`gain_p`; NaN for min/max itself and where min/max is absent). On
    validation, first seed: `agreement` with the baseline in percent and `sqnr` of the logits in
    dB. Rows without a record are left out (`missing` names them). Raises UserError, with the
    command to run, where there is none at all.
    """
    evidence, rows = Evidence(profile), []
    for dataset in evidence.datasets:
        for keys in TABLES_OF_FOUR:
            for setting, key in zip(SETTINGS, keys, strict=True):
                if row := _row(evidence, dataset, key, keys[0]):
                    rows.append({"bits": widths(key), "setting": setting, **row})
    if not rows:
        raise evidence.absent("record of FQ-ViT", "fq-vit", "fq-vit-*", them="them")
    frame = pd.DataFrame(rows)
    tested = frame["gain_p"].notna()
    frame.loc[tested, "gain_p"] = holm(frame.loc[tested, "gain_p"])
    return frame


def missing(profile: str) -> list[str]:
    """The cells of the tables of four whose record is not at hand."""
    evidence = Evidence(profile)
    return [
        str(evidence.cell(dataset, key))
        for dataset in evidence.datasets
        for keys in TABLES_OF_FOUR
        for key in keys
        if evidence.record(dataset, key) is None
    ]


def _row(evidence: Evidence, dataset: str, key: str, plain: str) -> dict | None:
    done = evidence.records(dataset, key)
    if not done:
        return None
    base = evidence.attempts(dataset, "vanilla")
    before = [base[seed].accuracy if base[seed] else np.nan for seed in done]
    row = {
        "dataset": dataset,
        "key": key,
        "accuracy": 100 * np.mean([record.accuracy for record in done.values()]),
        "low": 100 * np.mean([record.accuracy_low for record in done.values()]),
        "high": 100 * np.mean([record.accuracy_high for record in done.values()]),
        "baseline": 100 * np.mean(before),
        "flips": next(iter(done.values())).flips,
        **dict.fromkeys(("gain", "gain_low", "gain_high", "gain_p"), np.nan),
    }
    if key != plain and (gain := difference(evidence.profile, dataset, key, plain)):
        row |= {"gain": gain.points, "gain_low": gain.low, "gain_high": gain.high}
        row["gain_p"] = gain.p_value
    found = evidence.analysis(dataset, key)
    row["agreement"] = 100 * float(found["agreement"]) if found else np.nan
    row["sqnr"] = float(found["logit_sqnr"]) if found else np.nan
    return row


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """`remedies` of one data set and width as text under headings for a reader."""
    gains = zip(frame["gain"], frame["gain_low"], frame["gain_high"], strict=True)
    frame = frame.assign(
        change=frame["accuracy"] - frame["baseline"],
        gained=["" if np.isnan(each[0]) else interval(*each) for each in gains],
    )
    columns = {
        "remedy": "setting",
        "accuracy, %": ("accuracy", "{:.2f}"),
        "change from float, points": ("change", "{:+.2f}"),
        "gain over min/max, points (95 %)": "gained",
        "flips": "flips",
        "agreement on validation, %": ("agreement", "{:.1f}"),
        "SQNR of logits, dB": ("sqnr", "{:.1f}"),
    }
    return table(frame, columns)


def published() -> pd.DataFrame:
    """What papers A, B and C print for vanilla and for FQ-ViT, accuracy in percent."""
    return pd.DataFrame(
        {
            "data set": title,
            "vanilla ViT, %": printed("vanilla", which).accuracy,
            "FQ-ViT, %": printed("fq-vit", which).accuracy,
            "change, points": round(change("fq-vit", which), 2),
        }
        for which, title in enumerate(PUBLISHED_ON, 1)
    )


def factors(profile: str) -> pd.DataFrame:
    """Of all channels of all LayerNorm inputs, the share (percent) that takes each factor.

    A factor a below the largest K gives a channel the 2^(K-a)-th part of the scale that min/max
    gives all. Rows whose cells, with power-of-two factors and without, are not both at hand are
    left out.
    """
    evidence, rows, most = Evidence(profile), [], fq_vit.Options().max_factor
    for dataset in evidence.datasets:
        for plain, factored, *_ in TABLES_OF_FOUR:
            one, other = (evidence.analysis(dataset, key) for key in (plain, factored))
            if not (one and other):
                continue
            names = [name for name in one if name.startswith("norm_scale__")]
            shifts = np.concatenate([np.log2(other[name] / one[name]).ravel() for name in names])
            counts = np.bincount((most + np.round(shifts)).astype(int), minlength=most + 1)
            shares = {
                f"{2**-k:g} of the scale, %": round(100 * float(counts[most - k] / counts.sum()), 1)
                for k in range(most + 1)
            }
            rows.append({"data set": data.spec(dataset).title, "bits": widths(plain), **shares})
    return pd.DataFrame(rows)


def findings(
    four: pd.DataFrame, shares: pd.DataFrame, draws: pd.DataFrame, errors: pd.DataFrame
) -> list[str]:
    """What `remedies`, `factors`, `calibration` and `attention_error` (at 2 and 4 bits) found.

    In sentences; of rows that are absent, nothing.
    """
    at = errors.set_index(["quantizer", "bits"])
    zero, kept = at["zero"], 100 * at["kept"]
    said = [
        f"At 4 bits an even grid turns {zero['uniform', 4]:.0f} % of the first block's attention "
        f"values into 0 and keeps {kept['uniform', 4]:.0f} % of the attention; log2 turns "
        f"{zero['log2', 4]:.0f} % into 0 and keeps {kept['log2', 4]:.0f} %.",
        f"With 2 bits the least value that log2 has is {2.0 ** -(2**2 - 1):g}: the attention of "
        f"the first block grows to {kept['log2', 2]:.0f} % of what it was.",
    ]
    for (dataset, bits), part in four.groupby(["dataset", "bits"], sort=False):
        rows = {row.setting: row for row in part.itertuples()}
        plain, both = rows.get("min/max"), rows.get("both")
        if plain and both:
            certain = "significant" if both.gain_p < LEVEL else "not significant"
            said.append(
                f"{data.spec(dataset).title}, {bits}: min/max changes the accuracy by "
                f"{plain.accuracy - plain.baseline:+.2f} points, both remedies by "
                f"{both.accuracy - both.baseline:+.2f}. Their gain of "
                f"{interval(both.gain, both.gain_low, both.gain_high)} points is {certain} after "
                "Holm's correction."
            )
        alone = [rows.get(name) for name in SETTINGS[1:3]]
        if plain and all(alone):
            changes = [f"{each.setting} {each.sqnr - plain.sqnr:+.1f} dB" for each in alone]
            said.append(f"There, over the logits' SQNR by min/max: {', '.join(changes)}.")
    whole = [name for name in shares if name.startswith("1 of")]
    for row in shares.to_dict("records"):
        said.append(
            f"{row['data set']}, {row['bits']}: {100 - row[whole[0]]:.1f} % of the channels take a "
            "finer scale than the common one."
        )
    for dataset, part in draws.groupby("dataset", sort=False):
        sizes = part.groupby("images")["accuracy"]
        means, spread = sizes.mean(), (sizes.max() - sizes.min()).max() / part["image"].iloc[0]
        said.append(
            f"{data.spec(dataset).title}: from {means.index[0]} to {means.index[-1]} calibration "
            f"images the mean validation accuracy changes by {means.iloc[-1] - means.iloc[0]:+.2f} "
            f"points; draws of one size differ by at most {spread:.0f} validation images."
        )
    return said


# -- calibration ----------------------------------------------------------------------------------


def calibration(profile: str) -> pd.DataFrame:
    """Every draw of calibration images: `dataset`, `images`, `draw`; measured on validation.

    `accuracy` and `float`, the baseline's, in percent; `agreement` in percent; `sqnr` of the logits
    in dB; `image`, the points that one validation image is worth. Empty where there is no analysis.
    """
    evidence, rows = Evidence(profile), []
    for dataset in evidence.datasets:
        found = evidence.analysis(dataset, "fq-vit")
        for position, size in enumerate(found.get("calibration_sizes", ())):
            measured = {
                "accuracy": 100 * found["calibration_validation_accuracy"][position],
                "agreement": 100 * found["calibration_agreement"][position],
                "sqnr": found["calibration_logit_sqnr"][position],
            }
            frame = pd.DataFrame(measured)
            frame.insert(0, "dataset", dataset)
            frame.insert(1, "images", int(size))
            frame.insert(2, "draw", range(len(frame)))
            frame["float"] = 100 * float(found["validation_accuracy_float"])
            frame["image"] = 100 / int(found["validation_images"])
            rows.append(frame)
    columns = ["dataset", "images", "draw", "accuracy", "agreement", "sqnr", "float", "image"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def by_size(draws: pd.DataFrame) -> pd.DataFrame:
    """`calibration` by data set and size: accuracy's mean and ends, SQNR and its spread."""
    grouped = draws.groupby(["dataset", "images"], sort=False)
    found = pd.DataFrame(
        {
            "draws": grouped["draw"].count(),
            "accuracy on validation, %": grouped["accuracy"].mean().round(2),
            "worst draw, %": grouped["accuracy"].min().round(2),
            "best draw, %": grouped["accuracy"].max().round(2),
            "float, %": grouped["float"].first().round(2),
            "one image, points": grouped["image"].first().round(3),
            "SQNR of logits, dB": grouped["sqnr"].mean().round(1),
            "its std over draws, dB": grouped["sqnr"].std().round(2),
        }
    ).reset_index()
    found["dataset"] = [data.spec(name).title for name in found["dataset"]]
    return found.rename(columns={"dataset": "data set", "images": "calibration images"})


# -- Figure 1 -------------------------------------------------------------------------------------


def observed(profile: str) -> tuple[Cell, dict[str, np.ndarray]]:
    """The first FQ-ViT cell that holds the data of Figure 1, and its arrays.

    Raises UserError, with the command to run, where there is none.
    """
    evidence = Evidence(profile)
    for dataset in evidence.datasets:
        if "attention__vanilla" in (found := evidence.analysis(dataset, "fq-vit")):
            return evidence.cell(dataset, "fq-vit"), found
    raise evidence.absent("analysis of fq-vit", "fq-vit")


def timms(found: dict[str, np.ndarray]) -> dict[str, str]:
    """Why each of the papers' two models of Figure 1 is not in `found`; empty where both are."""
    absent = {}
    for name, part in ((figure1.SWIN_B, "norm_min"), (figure1.VIT_L, "attention")):
        if f"{part}__{name}" not in found:
            why = found.get(f"absent__{name}", "this profile trains its own model from scratch")
            absent[name] = str(why)
    return absent


def levels(greatest: float, bits: int) -> dict[str, np.ndarray]:
    """The values that attention maps in [0, greatest] can take, by quantizer; at most 2^bits."""
    check_bits(bits, lowest=1)
    codes = torch.arange(2**bits, dtype=torch.float64)
    return {
        "uniform": (codes * _scale(greatest, bits)).numpy(),
        "log2": fq_vit.log2_dequantize(codes).numpy(),
    }


def _scale(greatest: float, bits: int) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64)
    return fq_vit.affine_range(zero, zero + float(greatest), bits)[0]


def quantized(values: np.ndarray, greatest: float, bits: int) -> dict[str, np.ndarray]:
    """Attention values as each quantizer of `bits` bits gives them back, by quantizer."""
    check_bits(bits, lowest=1)
    x, scale = torch.from_numpy(values).double(), _scale(greatest, bits)
    codes, _ = fq_vit.log2_quantize(x, bits)
    return {
        "uniform": (torch.round(x / scale).clamp(0, 2**bits - 1) * scale).numpy(),
        "log2": fq_vit.log2_dequantize(codes).numpy(),
    }


def attention_error(values: np.ndarray, greatest: float, bits: tuple[int, ...]) -> pd.DataFrame:
    """What each quantizer makes of attention values, a row for every width.

    `zero`: percent of the values that become 0; `kept`: the sum afterwards over the sum before (a
    query's attention sums to 1 in float); `levels`: how many different values are left; `sqnr` in
    dB.
    """
    rows = []
    for width in bits:
        for name, after in quantized(values, greatest, width).items():
            rows.append(
                {
                    "bits": width,
                    "quantizer": name,
                    "levels": len(np.unique(after)),
                    "zero": 100 * float((after == 0).mean()),
                    "kept": float(after.sum() / values.sum(dtype=np.float64)),
                    "sqnr": uniform.sqnr_db(torch.from_numpy(values), torch.from_numpy(after)),
                }
            )
    return pd.DataFrame(rows)


def levels_of_channels(low: np.ndarray, high: np.ndarray, bits: int) -> tuple[int, int]:
    """Levels that the narrowest and the widest channel use of one grid for all; (D,) each."""
    check_bits(bits, lowest=1)
    steps = (high - low) / ((high.max() - low.min()) / (2**bits - 1))
    return int(np.floor(steps.min())) + 1, int(np.floor(steps.max())) + 1
