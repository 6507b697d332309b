"""What notebook 09 and `python -m vitstudy survey` show of the survey, and the files they leave."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd

from vitstudy import files, profiles, speed
from vitstudy.errors import UserError
from vitstudy.methods import METHODS, VARIANTS
from vitstudy.report import quantizer, style
from vitstudy.report import tables as study_tables
from vitstudy.survey import audit, claims, counted, models, pareto, tables
from vitstudy.survey.eer import UNITS, eer, mean_bits, quantities

log = logging.getLogger(__name__)

PROFILE = "survey"
"""The folder of `results` and `figures`: the survey belongs to no profile of the study."""
PARAM_SIZES = ((10, "10M"), (25, "25M"), (50, "50M"), (100, "100M"))
FLOP_SIZES = ((2.5, "2.5G"), (5, "5G"), (10, "10G"), (15, "15G"))
FILE_SIZES = ((10, "10MB"), (50, "50MB"), (100, "100MB"), (300, "300MB"))
FIGURES = {
    "CA": ("figure_5_compact", "parameters", PARAM_SIZES),
    "P": ("figure_6_pruning", "flops", FLOP_SIZES),
    "KD": ("figure_7_distillation", "parameters", PARAM_SIZES),
}
QUANTIZERS = ("Liu_Q", "PTQ4ViT", "APQ-ViT", "NoisyQuant-PTQ4ViT")


def known_counts() -> pd.DataFrame | None:
    """What was counted, None where nothing was."""
    try:
        return counted.read()
    except UserError as error:
        log.warning("%s", error)
        return None


def category(name: str, counts: pd.DataFrame | None = None, folder: Path = tables.DATA):
    """The models of one category that have a Top-1 and an EER, and the survey's best of them.

    The EER is the recomputed one.
    """
    known = models.classification(counts, folder)
    chosen = known[(known["category"] == name)].dropna(subset=["eer", "top1"])
    best = next(each.model for each in pareto.BEST if each.scope == name)
    return chosen.reset_index(drop=True), best


def quantized(counts: pd.DataFrame | None = None, folder: Path = tables.DATA):
    """The quantized models with quantizer and label, and where the survey's three best are."""
    known = models.classification(counts, folder)
    chosen = known[known["category"] == "Q"].dropna(subset=["eer", "top1"]).reset_index(drop=True)
    chosen["quantizer"] = [_quantizer(name) for name in chosen["model"]]
    chosen["label"] = [models.label(row) for row in chosen.to_dict("records")]
    return chosen, _positions(chosen, [each for each in pareto.BEST if each.scope.startswith("Q")])


def _quantizer(model: str) -> str:
    return max((name for name in QUANTIZERS if model.startswith(name)), key=len)


def everything(counts: pd.DataFrame | None = None, folder: Path = tables.DATA):
    """Every model with all four metrics, each once, and where Table 8's four are."""
    known = models.classification(counts, folder).dropna(subset=["eer_all", "top1"])
    known = known.drop_duplicates(["model", "weight_bits", "activation_bits"])
    known = known.reset_index(drop=True)
    known["label"] = [models.label(row) for row in known.to_dict("records")]
    eighth = tables.load(8, folder)
    wanted = zip(eighth["model"], eighth["weight_bits"], eighth["activation_bits"], strict=True)
    return known, [_at(known, *each) for each in wanted]


def _positions(frame: pd.DataFrame, named: list[pareto.Named]) -> list[int]:
    return sorted({_at(frame, each.model, *each.bits) for each in named})


def _at(frame: pd.DataFrame, model: str, weights: float, activations: float) -> int:
    fits = (frame["model"] == model) & (frame["weight_bits"] == weights)
    return int(np.flatnonzero(fits & (frame["activation_bits"] == activations))[0])


def bubble_figures(counts: pd.DataFrame | None = None, folder: Path = tables.DATA) -> dict:
    """Figures 5 to 7, quantization and all categories, by the name of their files."""
    from vitstudy.report import survey_figures

    drawn = {}
    for name, (title, area, reference) in FIGURES.items():
        chosen, best = category(name, counts, folder)
        drawn[title] = survey_figures.bubbles(chosen, best, area, reference)
    chosen, named = quantized(counts, folder)
    drawn["quantization"] = survey_figures.many_bubbles(
        chosen, "eer", "EER of #Bit and Size, %", "quantizer", named, "size", FILE_SIZES
    )
    chosen, named = everything(counts, folder)
    drawn["all_categories"] = survey_figures.many_bubbles(
        chosen,
        "eer_all",
        "EER of #Bit, Size, #Par. and FLOPs, %",
        "category",
        named,
        "parameters",
        PARAM_SIZES,
    )
    return drawn


# -- for a reader ---------------------------------------------------------------------------------

HEADINGS = {
    "parameters_M": "#Par. [M]",
    "flops_G": "FLOPs [G]",
    "size_MB": "Size [MB]",
    "weight_bits": "W",
    "activation_bits": "A",
    "top1_percent": "Top-1 [%]",
    "eer_percent": "EER [%]",
    "eer_category_percent": "EER catg [%]",
    "eer_all_percent": "EER all [%]",
    "ap_box": "AP box",
    "ap_mask": "AP mask",
    "miou_percent": "mIoU [%]",
    "da": "DA",
}


def shown(number: int, folder: Path = tables.DATA) -> pd.DataFrame:
    """Table `number` as it is printed, `*` where the survey estimates a size.

    In Table 5, inferred cells are in brackets and missing ones a question mark.
    """
    frame = tables.printed(number, folder)
    if "estimated" in frame:
        frame["size_MB"] += ["*" if each == "yes" else "" for each in frame["estimated"]]
    for column in ("top1", "eer") if number == 5 else ():
        sources = zip(frame[f"{column}_percent"], frame[f"{column}_source"], strict=True)
        marks = {"printed": "{}", "inferred": "({})", "missing": "?"}
        frame[f"{column}_percent"] = [marks[source].format(text) for text, source in sources]
    hidden = {"line", "estimated", "basis", "category_printed", "category_basis"}
    hidden |= {name for name in frame if name.endswith(("_source", "_line"))}
    return frame[[name for name in frame if name not in hidden]].rename(columns=HEADINGS)


def verdicts(found: pd.DataFrame, by: str) -> pd.DataFrame:
    """How many rows of an audit have each verdict, a row for each value of the column `by`."""
    counts = pd.crosstab(found[by], found["verdict"])
    order = [*AUDIT_VERDICTS, claims.HOLDS, claims.PARTLY, claims.NOT, claims.UNKNOWN]
    counts = counts[[each for each in order if each in counts]]
    counts.columns.name = None
    total = counts.sum().rename("all")
    return pd.concat([counts, total.to_frame().T]).rename_axis(by).reset_index()


AUDIT_VERDICTS = (audit.AGREES, audit.ROUNDING, audit.LAST_DIGIT, audit.OFF, audit.NOT_PRINTED)


def wrong(found: pd.DataFrame) -> pd.DataFrame:
    """The EERs that rounding does not explain, furthest off first, as text."""
    chosen = found[found["verdict"].isin([audit.OFF, audit.LAST_DIGIT])]
    chosen = chosen.sort_values("difference", key=lambda each: -each.abs(), kind="stable")
    return pd.DataFrame(
        {
            "Table": chosen["table"].astype(str)
            + ["" if each == "EER" else f" ({each})" for each in chosen["column"]],
            "Model": chosen["model"],
            "Printed": chosen["printed_eer"].map("{:.1f}".format),
            "Recomputed": chosen["recomputed_eer"].map("{:.2f}".format),
            "Difference": chosen["difference"].map("{:+.2f}".format),
            "Verdict": chosen["verdict"],
            "What would explain it": chosen["note"],
        }
    )


def doubtful(found: pd.DataFrame) -> pd.DataFrame:
    """The claims that do not simply hold, those that fail first."""
    rank = {claims.NOT: 0, claims.PARTLY: 1, claims.UNKNOWN: 2}
    chosen = found[found["verdict"] != claims.HOLDS]
    chosen = chosen.sort_values("verdict", key=lambda each: each.map(rank), kind="stable")
    columns = ["section", "line", "claim", "computed", "verdict", "note"]
    return chosen[columns].rename(columns=str.capitalize)


def beside(counts: pd.DataFrame) -> pd.DataFrame:
    """`counted.beside` as text under headings for a reader."""
    frame = counted.beside(counts)
    return pd.DataFrame(
        {
            "Table": frame["table"],
            "Model": frame["model"],
            "#Par. printed, M": frame["parameters_printed"],
            "counted": frame["parameters_counted"].map("{:.2f}".format),
            "#Par.": frame["#Par."],
            "FLOPs printed, G": frame["flops_printed"],
            "MACs counted, G": frame["macs_counted"].map("{:.3g}".format),
            "FLOPs": frame["FLOPs"],
            "File, MB": frame["size_MB"].map("{:.1f}".format),
            "EER printed": frame["eer_printed"],
            "EER counted": frame["eer_counted"].map("{:.1f}".format),
            "The print fits": frame["fits"],
        }
    )


def sizes(counts: pd.DataFrame) -> pd.DataFrame:
    """`counted.quantized_sizes` where W and A differ: the print against both ways to count."""
    frame = counted.quantized_sizes(counts)
    frame = frame[frame["weight_bits"] != frame["activation_bits"]]
    return pd.DataFrame(
        {
            "Table": frame["table"],
            "Network": frame["network"],
            "W": frame["weight_bits"],
            "A": frame["activation_bits"],
            "Printed, MB": frame["size_printed"].map("{:.1f}".format)
            + ["*" if each == "yes" else "" for each in frame["estimated"]],
            "Weights at W bits, MB": frame["by_weights"].map("{:.1f}".format),
            "at the mean of W and A, MB": frame["by_mean"].map("{:.1f}".format),
        }
    )


# -- the study's own rows -------------------------------------------------------------------------


def own_rows(profile: str, which: int) -> pd.DataFrame:
    """EER of the rows of Table 1 or 2, and beneath them, that have a record, against vanilla.

    Columns `key, model, accuracy` (percent, mean over the seeds), `two` (parameters and MACs),
    `four` (bits and file size as well), `five` (latency at batch 1 as well; NaN where there is
    none), `note`. Raises UserError where vanilla itself has no record.
    """
    known = profiles.get(profile)
    dataset = known.datasets[which - 1]
    base = _costs(profile, dataset, "vanilla")
    if base is None:
        raise UserError(
            f"no record of vanilla on {profile}/{dataset}; make it with "
            f"'python -m vitstudy run {profile}/{dataset}/vanilla'"
        )
    reference, rows = {name: value for name, value in base.items() if name in UNITS}, []
    for method in (*METHODS, *VARIANTS):
        costs = _costs(profile, dataset, method.key)
        if costs is None:
            continue
        row = {"key": method.key, "model": method.title, "accuracy": costs["accuracy"]}
        for name, metrics in (("two", audit.COST), ("four", audit.ALL)):
            row[name] = _eer(costs, reference, metrics)
        latency = _latency(profile, dataset, method.key)
        row["five"], row["note"] = math.nan, ""
        if latency:
            own, vanilla = latency
            row["five"] = _eer(
                {**costs, "latency": own},
                {**reference, "latency": vanilla},
                (*audit.ALL, "latency"),
            )
        else:
            row["note"] = "simulated: no latency" if costs["simulated"] else "latency not measured"
        rows.append(row)
    return pd.DataFrame(rows)


def _costs(profile: str, dataset: str, key: str) -> dict | None:
    """Means over the seeds with a record: accuracy, percent, and the four metrics; else None."""
    found = study_tables.seeds(profile, dataset, key).values()
    done = [record for record in found if record and record.status == "done"]
    if not done:
        return None
    return {
        "accuracy": 100 * np.mean([record.accuracy for record in done]),
        "simulated": any(record.simulated for record in done),
        "parameters": np.mean([record.parameters for record in done]) / 1e6,
        "flops": np.mean([record.macs for record in done]) / 1e9,
        "bits": np.mean([mean_bits(each.weight_bits, each.activation_bits) for each in done]),
        "size": np.mean([record.size_bytes for record in done]) / 1e6,
    }


def _eer(costs: dict, reference: dict, names: tuple[str, ...]) -> float:
    metrics = quantities(**{name: costs[name] for name in names})
    return eer(metrics, quantities(**{name: reference[name] for name in names}))


def _latency(profile: str, dataset: str, key: str) -> tuple[float, float] | None:
    """Milliseconds at batch 1 of a row's first seed and of vanilla's, in the same run on the CPU."""
    seed = profiles.get(profile).seeds[0]
    names = [f"{dataset}/{each}/seed{seed}" for each in (key, "vanilla")]
    for run in reversed(speed.read(profile)):
        if run["device"] == "cpu" and all(name in run["models"] for name in names):
            own, vanilla = (run["models"][name]["latency_ms_p50"] for name in names)
            return own, vanilla
    return None


def readable_own(frame: pd.DataFrame) -> pd.DataFrame:
    """`own_rows` as text under headings for a reader."""
    text = pd.DataFrame({"Model": frame["model"]})
    headings = {
        "accuracy": ("Accuracy, %", "{:.2f}"),
        "two": ("EER: #Par., MACs", "{:.1f}"),
        "four": ("EER: and #Bit, file", "{:.1f}"),
        "five": ("EER: and latency", "{:.1f}"),
    }
    for column, (heading, write) in headings.items():
        text[heading] = ["" if math.isnan(each) else write.format(each) for each in frame[column]]
    text["Note"] = frame["note"]
    return text


# -- figure 3's tensor ----------------------------------------------------------------------------


def first_weights(profile: str) -> tuple[str, np.ndarray]:
    """Where a real weight matrix of the profile comes from, and the matrix (out, in)."""
    cell, found = quantizer.tensors(profile)
    return str(cell), found["fc1_weight"].numpy()


# -- files ----------------------------------------------------------------------------------------


def write(folder: Path = tables.DATA) -> list[Path]:
    """Write the audit, the claims, the fronts and the figures; the paths.

    Raises UserError where a table of `folder` is damaged; then nothing is written.
    """
    from vitstudy.report import survey_schematics

    counts = known_counts()
    results = files.results(PROFILE)
    frames = {
        "eer_audit.csv": audit.written(audit.audit(folder, counts)),
        "claims.csv": claims.claims(folder, counts),
        "fronts.csv": pareto.best_tradeoffs(counts, folder),
    }
    drawn = {**bubble_figures(counts, folder), **survey_schematics.schematics()}
    paths = []
    for name, frame in frames.items():
        files.write_csv(results / name, list(frame), frame.to_dict("records"))
        paths.append(results / name)
    for name, figure in drawn.items():
        paths.append(style.save(figure, PROFILE, name))
    return paths
