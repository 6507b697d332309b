"""What notebook 09 and `python -m vitstudy survey` show of the survey, and the files they leave."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vitstudy import files
from vitstudy.conditions import FAILS, HOLDS, OPEN, PARTLY, UNTOLD, VERDICTS
from vitstudy.errors import UserError
from vitstudy.report import quantizer, style, survey_figures, survey_schematics
from vitstudy.report.readable import table
from vitstudy.survey import audit, claims, counted, models, pareto, tables

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


def bubble_figure(name: str, counts=None, folder: Path = tables.DATA) -> Figure:
    """Figure 5, 6 or 7: the category CA, P or KD."""
    chosen, best = category(name, counts, folder)
    _, area, reference = FIGURES[name]
    return survey_figures.bubbles(chosen, best, area, reference)


def quantized_figure(counts=None, folder: Path = tables.DATA) -> Figure:
    """The quantized models of Tables 5 to 7, which the survey does not draw."""
    chosen, named = quantized(counts, folder)
    title = "EER of #Bit and Size, %"
    return survey_figures.many_bubbles(chosen, "eer", title, "quantizer", named, "size", FILE_SIZES)


def everything_figure(counts=None, folder: Path = tables.DATA) -> Figure:
    """All categories, by the EER of all four metrics."""
    chosen, named = everything(counts, folder)
    title = "EER of #Bit, Size, #Par. and FLOPs, %"
    return survey_figures.many_bubbles(
        chosen, "eer_all", title, "category", named, "parameters", PARAM_SIZES
    )


def bubble_figures(counts=None, folder: Path = tables.DATA) -> dict[str, Figure]:
    """Figures 5 to 7, quantization and all categories, by the name of their files."""
    drawn = {FIGURES[name][0]: bubble_figure(name, counts, folder) for name in FIGURES}
    drawn["quantization"] = quantized_figure(counts, folder)
    drawn["all_categories"] = everything_figure(counts, folder)
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
    counts = pd.crosstab(found[by], found["verdict"], margins=True, margins_name="all")
    order = [*AUDIT_VERDICTS, *VERDICTS, "all"]
    shown = counts[[verdict for verdict in order if verdict in counts]]
    return shown.rename_axis(index=by, columns=None).reset_index()


AUDIT_VERDICTS = (audit.AGREES, audit.ROUNDING, audit.LAST_DIGIT, audit.OFF, audit.NOT_PRINTED)


def wrong(found: pd.DataFrame) -> pd.DataFrame:
    """The EERs that rounding does not explain, furthest off first, as text."""
    chosen = found[found["verdict"].isin([audit.OFF, audit.LAST_DIGIT])]
    chosen = chosen.sort_values("difference", key=lambda each: -each.abs(), kind="stable")
    columns = ["" if each == "EER" else f" ({each})" for each in chosen["column"]]
    shown = {
        "Table": "place",
        "Model": "model",
        "Printed": ("printed_eer", "{:.1f}"),
        "Recomputed": ("recomputed_eer", "{:.2f}"),
        "Difference": ("difference", "{:+.2f}"),
        "Verdict": "verdict",
        "What would explain it": "note",
    }
    return table(chosen.assign(place=chosen["table"].astype(str) + columns), shown)


def doubtful(found: pd.DataFrame) -> pd.DataFrame:
    """The claims that do not simply hold, those that fail first."""
    rank = {FAILS: 0, PARTLY: 1, UNTOLD: 2, OPEN: 3}
    chosen = found[found["verdict"] != HOLDS]
    chosen = chosen.sort_values("verdict", key=lambda each: each.map(rank), kind="stable")
    columns = ["section", "line", "claim", "computed", "verdict", "note"]
    return chosen[columns].rename(columns=str.capitalize)


def beside(counts: pd.DataFrame) -> pd.DataFrame:
    """`counted.beside` as text under headings for a reader."""
    columns = {
        "Table": "table",
        "Model": "model",
        "#Par. printed, M": "parameters_printed",
        "counted": ("parameters_counted", "{:.2f}"),
        "#Par.": "#Par.",
        "FLOPs printed, G": "flops_printed",
        "MACs counted, G": ("macs_counted", "{:.3g}"),
        "FLOPs": "FLOPs",
        "File, MB": ("size_MB", "{:.1f}"),
        "EER printed": "eer_printed",
        "EER counted": ("eer_counted", "{:.1f}"),
        "The print fits": "fits",
    }
    return table(counted.beside(counts), columns)


def sizes(counts: pd.DataFrame) -> pd.DataFrame:
    """`counted.quantized_sizes` where W and A differ: the print against both ways to count."""
    frame = counted.quantized_sizes(counts)
    frame = frame[frame["weight_bits"] != frame["activation_bits"]]
    marks = ["*" if each == "yes" else "" for each in frame["estimated"]]
    columns = {
        "Table": "table",
        "Network": "network",
        "W": "weight_bits",
        "A": "activation_bits",
        "Printed, MB": "printed",
        "Weights at W bits, MB": ("by_weights", "{:.1f}"),
        "at the mean of W and A, MB": ("by_mean", "{:.1f}"),
    }
    return table(frame.assign(printed=frame["size_printed"].map("{:.1f}".format) + marks), columns)


def speed_conditions(timed: dict) -> str:
    """On what, and how, the networks were timed."""
    return (
        f"CPU speeds of {len(timed['models'])} networks, timed in turn on {timed['cpu']}, "
        f"{timed['threads']} threads, torch {timed['torch']}, {timed['rounds']} rounds, batch "
        f"{timed['batch']}, {timed['image_size']} × {timed['image_size']}; load before: "
        f"{timed['load_before']}. EER averages #Par. and MACs, and with latency those two and the "
        "median latency at batch 1, ViT-B/16's being the reference."
    )


def readable_latency(counts: pd.DataFrame, timed: dict) -> pd.DataFrame:
    """`counted.with_latency` as text under headings, least EER with latency first."""
    columns = {
        "Network": "timm",
        "images/s": ("images_per_second", "{:.2f}"),
        "Latency, ms": ("latency_ms", "{:.1f}"),
        "EER": ("eer", "{:.1f}"),
        "EER with latency": ("eer_latency", "{:.1f}"),
    }
    return table(counted.with_latency(counts, timed).sort_values("eer_latency"), columns)


def conclusion(
    found: pd.DataFrame, said: pd.DataFrame, fronts: pd.DataFrame, counts: pd.DataFrame
) -> str:
    """What the audit, the claims, the fronts and the counts say, as Markdown."""
    judged = found[found["verdict"] != audit.NOT_PRINTED]
    off = judged[judged["verdict"] == audit.OFF]
    worst = off.loc[off["difference"].abs().idxmax()]
    far = judged[judged["difference"].abs() > audit.WORSE_THAN]
    explained = off["note"].str.contains("explained by").sum()
    verdict = said["verdict"].value_counts()
    alone = fronts["recomputed EER"].eq(pareto.ON_ALONE).sum()
    beaten = fronts[fronts["recomputed EER"] == pareto.OFF]
    beside_ = counted.beside(counts)
    agree = (beside_["#Par."].eq("agrees") & beside_["FLOPs"].eq("agrees")).sum()
    other = beside_[beside_["fits"] != ""]
    sizes_ = counted.quantized_sizes(counts)
    mixed = sizes_[sizes_["weight_bits"] != sizes_["activation_bits"]]
    ratio = (mixed["size_printed"] / mixed["by_weights"]).agg(["min", "max"])
    lines = [
        f"Of {len(judged)} printed EERs, {len(judged) - len(off)} follow from their row within "
        f"rounding or one last digit; {len(off)} are off by more than {audit.WORSE_THAN}, the "
        f"worst {worst.model} (Table {worst.table}): {worst.printed_eer:.1f} printed, "
        f"{worst.recomputed_eer:.1f} computed. One known value explains {explained} of them. "
        f"{len(far) - len(off)} more are as far off, but within their inputs' rounding.",
        f"Of {len(said)} sentences with a number, {verdict.get(HOLDS, 0)} hold, "
        f"{verdict.get(PARTLY, 0)} in a part, {verdict.get(UNTOLD, 0)} only within the rounding of "
        f"what they are made of, {verdict.get(FAILS, 0)} do not, and "
        f"{verdict.get(OPEN, 0)} cannot be checked from the tables.",
        f"Of {len(fronts)} best trade-offs, {len(fronts) - len(beaten)} are on their front and "
        f"{alone} alone on it: a front does not single out one model, a weighting does."
        + "".join(
            f" Among {row.among}, {row.model} is beaten by {row.others}."
            for row in beaten.itertuples()
        ),
        f"Of {len(beside_)} rows that can be counted, {agree} print the #Par. and FLOPs that are "
        "counted."
        + "".join(
            f" {row.model} prints {row.parameters_printed} M and {row.flops_printed} G, which are "
            f"{row.fits}'s; its own are {row.parameters_counted:.1f} and {row.macs_counted:.1f}."
            for row in other.itertuples()
        ),
        "The printed sizes of models whose weights and activations differ in bits are "
        f"{ratio['min']:.2f} to {ratio['max']:.2f} times what their weights take.",
    ]
    return "\n".join(f"- {line}" for line in lines)


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
