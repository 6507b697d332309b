"""What notebook 05 shows of pruning: scores, cuts and their cost, from records and analysis files.

A profile may hold some of the rows alone: what is not there is left out, and `missing` says it.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from vitstudy import data, formulas, methods, profiles, training
from vitstudy.profiles import Recipe
from vitstudy.pruning import importance, slim
from vitstudy.pruning.slim import KINDS, Shape
from vitstudy.report import published, tables
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import table

ROWS = {
    "vtp": "gates",
    "vtp-slow": "slow gates",
    "taylor": "Eq. 7",
    "kl": "Eq. 8",
    "magnitude": "magnitude",
    "random": "chance",
}
"""The scores, by what their rows' keys begin with; the last two are controls."""
GATES = ("vtp", "vtp-slow")
RATES = (0.1, 0.2)
CONTROL = "continued-twice"
"""As many steps in all as every row that was cut and fine-tuned, and nothing cut."""
CUTS = tuple(itertools.product(ROWS, RATES))
"""Each score at each rate."""
IMPORTANT = 0.99
"""Above it the papers call a score important."""
KIND_NAMES = {
    "attention_input": "attention input",
    "query_key": "queries, keys",
    "value": "values",
    "mlp_input": "MLP input",
    "hidden": "MLP hidden",
}


# -- what there is --------------------------------------------------------------------------------


def keys() -> list[str]:
    """The rows that cut something, before and after fine-tuning."""
    known = {method.key for method in methods.available()}
    every = [f"{row}-r{r}{end}" for row in ROWS for r in RATES for end in ("-cut", "")]
    return [key for key in every if key in known]


def missing(profile: str) -> str:
    """Which rows of pruning the profile has no record of, and the command that makes them."""
    absent = dict.fromkeys(cell.method for cell in Evidence(profile).missing([*keys(), CONTROL]))
    if not absent:
        return f"All rows of pruning are measured on the profile **{profile}**."
    return (
        f"Not measured on the profile **{profile}**: {', '.join(absent)}. `python -m vitstudy run "
        f'"{profile}/*/*-r0.*" "{profile}/*/{CONTROL}"` makes them; what follows shows the rest.'
    )


def title(dataset: str) -> str:
    return data.spec(dataset).title


# -- by hand --------------------------------------------------------------------------------------


def eq7_example(weights: list[list[float]], gradients: list[list[float]]) -> pd.DataFrame:
    """Eq. 7 of blocks of weights, as printed and with the square inside the sum."""
    w, g = torch.tensor(weights), torch.tensor(gradients)
    outside = importance.taylor_importance(w, g).tolist()
    inside = (w * g).square().sum(1).tolist()
    rows = zip(weights, gradients, outside, inside, strict=True)
    return pd.DataFrame(rows, columns=["weights", "gradients", "(Σ g w)²", "Σ (g w)²"])


def eq8_example(pruned: list[float], full: list[float]) -> dict[str, float]:
    """Eq. 8 of one image, in the direction that is printed and in the other."""
    p, q = torch.tensor([pruned]).log(), torch.tensor([full]).log()
    return {
        "KL(pruned || full)": round(importance.kl_importance(p, q).item(), 4),
        "KL(full || pruned)": round(importance.kl_importance(q, p).item(), 4),
    }


def weights_of_a_dimension(profile: str) -> pd.DataFrame:
    """By kind: dimensions in a block, parameters that go with one, and their share of the model."""
    shape = shape_of(profile, profiles.get(profile).datasets[0])
    everything = slim.parameters(slim.full(shape), shape)
    rows = []
    for kind, count in shape.sizes().items():
        masks = slim.full(shape)
        masks[f"blocks.0.{kind}"][0] = False
        cost = everything - slim.parameters(masks, shape)
        share = 100 * cost / everything
        rows.append((KIND_NAMES[kind], count, cost, f"{share:.3g} %"))
    columns = ["kind", "dimensions in a block", "parameters with one", "of the model"]
    return pd.DataFrame(rows, columns=columns)


def shape_of(profile: str, dataset: str) -> Shape:
    """The shape of the profile's baseline, from its architecture alone."""
    architecture, spec = profiles.get(profile).architecture, data.spec(dataset)
    shape = Shape(
        architecture.width,
        architecture.depth,
        architecture.heads,
        architecture.width // architecture.heads,
        round(architecture.width * architecture.mlp_ratio),
    )
    everything = formulas.vit_parameters(architecture, spec.num_classes, spec.channels)
    fixed = everything - slim.parameters(slim.full(shape), shape)
    return Shape(**{**vars(shape), "fixed": fixed})


# -- figure 3 -------------------------------------------------------------------------------------


def units(profile: str) -> pd.DataFrame:
    """Every unit's score: `dataset`, `row`, `score`, `block`, `kind`, `parameters`, `stays`.

    They are those of the cut at r = 0.2; the scores do not depend on r.
    """
    evidence, frames = Evidence(profile), []
    names = ["score", "block", "kind", "parameters", "stays"]
    for dataset in evidence.datasets:
        for row in ROWS:
            if arrays := evidence.analysis(dataset, f"{row}-r0.2-cut"):
                frame = pd.DataFrame({name: arrays[name] for name in names})
                frames.append(frame.assign(dataset=dataset, row=row))
    columns = [*names, "dataset", "row"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def important(scored: pd.DataFrame) -> pd.DataFrame:
    """By score and data set: quartiles, and the share of parameters scored above 0.99.

    A gate has a scale of its own; the others are taken relative to their largest value. `spread` is
    the 90th percentile over the 10th: how far a score tells dimensions apart.
    """
    rows = []
    for (row, dataset), frame in scored.groupby(["row", "dataset"], sort=False):
        scores, weights = frame["score"].to_numpy(float), frame["parameters"].to_numpy(float)
        scale = 1.0 if row in GATES else scores.max() or 1.0
        low, high = np.percentile(scores, [10, 90])
        above = float(weights[scores / scale > IMPORTANT].sum() / weights.sum())
        levels = scores.min(), np.median(scores), scores.max()
        rows.append((row, dataset, above, *levels, high / low if low > 0 else np.inf))
    columns = ["row", "dataset", "above", "least", "median", "greatest", "spread"]
    return pd.DataFrame(rows, columns=columns)


def reach(profile: str, dataset: str) -> float | None:
    """How far from 1 a gate can go that learns at the network's own rate; None if not measured.

    Adam moves a parameter by about the learning rate a step: they are summed over the schedule.
    """
    record = Evidence(profile).record(dataset, "vtp-gates-slow")
    if record is None:
        return None
    pretrained = bool(record.options["architecture"]["timm_name"])  # then its rates stay
    recipe = replace(Recipe(**record.options["recipe"]), steps=record.steps)
    rate = recipe.learning_rate * (1 if pretrained else record.options["rate"])
    factor = training.warmup_then_linear(recipe)
    return rate * sum(factor(step) for step in range(recipe.steps))


def readable_reach(profile: str) -> str:
    """`reach` on both data sets as a sentence."""
    found = {dataset: reach(profile, dataset) for dataset in profiles.get(profile).datasets}
    parts = [f"{far:.2g} ({title(each)})" for each, far in found.items() if far is not None]
    if not parts:
        return "Gates at the network's rate: not measured."
    return f"At the network's rate a gate can get about so far from 1: {', '.join(parts)}."


def readable_important(scored: pd.DataFrame) -> pd.DataFrame:
    """`important` under headings for a reader."""
    columns = {
        "score": ("row", ROWS.get),
        "data set": ("dataset", title),
        "parameters above 0.99": ("above", lambda share: f"{100 * share:.1f} %"),
        **{name: (name, "{:.3g}") for name in ("least", "median", "greatest")},
        "90th / 10th percentile": ("spread", "{:.3g}"),
    }
    return table(important(scored), columns)


# -- what goes ------------------------------------------------------------------------------------


def selected(scored: pd.DataFrame, shape: Shape, r: float) -> np.ndarray:
    """(depth, kinds): the share of each kind's dimensions that the scores of one row remove at r.

    Raises UserError where r would empty a layer.
    """
    scores = {}
    for (block, kind), frame in scored.groupby(["block", "kind"]):
        scores[f"blocks.{block}.{KINDS[kind]}"] = torch.tensor(frame["score"].tolist())
    masks = slim.select(scores, shape, r)
    gone = [
        [1 - masks[f"blocks.{block}.{kind}"].double().mean().item() for kind in KINDS]
        for block in range(shape.depth)
    ]
    return np.array(gone)


def by_kind(scored: pd.DataFrame, shape: Shape, r: float) -> pd.DataFrame:
    """By row and kind, the share of the dimensions of all blocks that go at r, percent."""
    rows = {}
    for row, frame in scored.groupby("row", sort=False):
        rows[ROWS[row]] = 100 * selected(frame, shape, r).mean(axis=0)
    return pd.DataFrame(rows, index=[KIND_NAMES[kind] for kind in KINDS]).T


# -- Algorithm 1 and Eq. 6 ------------------------------------------------------------------------


def algorithm(profile: str, dataset: str) -> pd.DataFrame:
    """The lines of the survey's Algorithm 1, the cells that do them here, steps and images."""
    lines = (
        ("1-2", "initialise, train", "vanilla"),
        ("2", "train on, behind soft gates", "vtp-gates"),
        ("3", "score, cut to r = 0.2", "vtp-r0.2-cut"),
        ("after", "fine-tune what is left", "vtp-r0.2"),
        ("control", "train on, no gates", "continued"),
        ("control", "train on again, nothing cut", CONTROL),
    )
    evidence, rows = Evidence(profile), []
    for line in lines:
        record = evidence.record(dataset, line[-1])
        numbers = [None] * 3
        if record:
            numbers = record.steps, record.parameters, round(100 * record.accuracy, 2)
        rows.append((*line, *numbers))
    columns = ["line", "what", "cell", "steps", "parameters", "accuracy, %"]
    return pd.DataFrame(rows, columns=columns).astype({"steps": "Int64", "parameters": "Int64"})


def deltas(profile: str) -> pd.DataFrame:
    """Eq. 6's delta of every cut, in nats on the calibration images, which no training sees.

    `sum` is Eq. 6's: what each layer, cut alone, adds to the loss, summed; `whole` is what cutting
    all of them adds; `tuned` is what is left of it after fine-tuning.
    """
    evidence, rows = Evidence(profile), []
    for dataset, (row, r) in itertools.product(evidence.datasets, CUTS):
        cut = evidence.analysis(dataset, f"{row}-r{r}-cut")
        if not cut:
            continue
        tuned = evidence.analysis(dataset, f"{row}-r{r}")
        before = float(cut["loss_before"])
        apart = float(cut["delta_layers"].sum())
        whole = float(cut["loss_after"]) - before
        left = float(tuned["loss"]) - before if tuned else np.nan
        rows.append((dataset, row, r, before, apart, whole, left))
    return pd.DataFrame(rows, columns=["dataset", "row", "r", "before", "sum", "whole", "tuned"])


def readable_deltas(profile: str) -> pd.DataFrame:
    """`deltas` under headings for a reader."""
    columns = {
        "data set": ("dataset", title),
        "score": ("row", ROWS.get),
        "r": "r",
        "loss before": ("before", "{:.4f}"),
        "δ, layers apart and summed": ("sum", "{:+.4f}"),
        "δ, all at once": ("whole", "{:+.4f}"),
        "δ, fine-tuned": ("tuned", "{:+.4f}"),
    }
    return table(deltas(profile), columns)


# -- accuracy, size and speed ---------------------------------------------------------------------


def accuracies(profile: str) -> pd.DataFrame:
    """Accuracy in percent before and after fine-tuning, `dataset`, `row`, `r`, `cut`, `tuned`."""
    evidence, known, rows = Evidence(profile), keys(), []
    for dataset, (row, r) in itertools.product(evidence.datasets, CUTS):
        if f"{row}-r{r}" in known:
            percents = [evidence.accuracy(dataset, f"{row}-r{r}{end}") for end in ("-cut", "")]
            if percents != [None, None]:
                rows.append((dataset, row, r, *percents))
    frame = pd.DataFrame(rows, columns=["dataset", "row", "r", "cut", "tuned"])
    return frame.astype({"cut": float, "tuned": float})


def unpruned(profile: str) -> dict[str, float]:
    """By data set, the accuracy of the control that trained as long and lost nothing, percent."""
    evidence = Evidence(profile)
    measured = {dataset: evidence.accuracy(dataset, CONTROL) for dataset in evidence.datasets}
    return {dataset: value for dataset, value in measured.items() if value is not None}


def against_the_papers(profile: str) -> pd.DataFrame:
    """What pruning costs in the papers and here, in points against vanilla and the control."""
    evidence, rows = Evidence(profile), []
    for r, (which, dataset) in itertools.product(RATES, enumerate(evidence.datasets, 1)):
        row = f"vtp-r{r}"
        before, after = (published.printed(key, which).size for key in ("vanilla", row))
        measured = evidence.accuracy(dataset, row)
        references = [evidence.accuracy(dataset, key) for key in ("vanilla", CONTROL)]
        changes = [
            "" if None in (measured, reference) else f"{measured - reference:+.2f}"
            for reference in references
        ]
        dense, cut = (evidence.record(dataset, key) for key in ("vanilla", row))
        smaller = cut.size_bytes / dense.size_bytes - 1 if dense and cut else None
        rows.append(
            {
                "r": r,
                "published on": tables.PUBLISHED_ON[which - 1],
                "published, points": f"{published.change(row, which):+.2f}",
                "published, size": f"{100 * (after / before - 1):+.0f} %",
                "measured on": title(dataset),
                "against vanilla, points": changes[0],
                "against the control, points": changes[1],
                "size": "" if smaller is None else f"{100 * smaller:+.1f} %",
            }
        )
    return pd.DataFrame(rows)


def costs(profile: str) -> pd.DataFrame:
    """Size, parameters, MACs and CPU speed of what is left, against vanilla of the same data."""
    evidence, rows = Evidence(profile), []
    for dataset, r, row in itertools.product(evidence.datasets, RATES, (*ROWS, "skip")):
        dense, pruned = (evidence.record(dataset, key) for key in ("vanilla", f"{row}-r{r}"))
        if dense is None or pruned is None:
            continue
        speed = evidence.cpu_ratio(dataset, f"{row}-r{r}")
        rows.append(
            {
                "data set": title(dataset),
                "score": ROWS.get(row, "skip-dimension model"),
                "r": r,
                "accuracy, %": f"{100 * pruned.accuracy:.2f}",
                "file": f"{pruned.size_bytes / dense.size_bytes:.3f}",
                "parameters": f"{pruned.parameters / dense.parameters:.3f}",
                "MACs": f"{pruned.macs / dense.macs:.3f}",
                "CPU speed": "" if speed is None else f"{speed:.2f}",
            }
        )
    columns = ["data set", "score", "r", "accuracy, %", "file", "parameters", "MACs", "CPU speed"]
    return pd.DataFrame(rows, columns=columns)


def skip_gates(profile: str) -> pd.DataFrame:
    """The skip-dimension model's gates: around each block, and the mean of those within it."""
    rows = []
    for dataset, arrays in Evidence(profile).analyses("skip-r0.2").items():
        for block in range(arrays["block"].max() + 1):
            here, whole = arrays["block"] == block, arrays["kind"] == len(KINDS)
            rows.append(
                {
                    "data set": title(dataset),
                    "block": block,
                    "gate around it": f"{arrays['score'][here & whole].item():.3f}",
                    "mean gate within": f"{arrays['score'][here & ~whole].mean():.3f}",
                    "dimensions that stay": f"{100 * arrays['stays'][here & ~whole].mean():.0f} %",
                    "the block stays": "yes" if arrays["stays"][here & whole].item() else "no",
                }
            )
    return pd.DataFrame(rows)


# -- what the numbers say -------------------------------------------------------------------------


def says(profile: str) -> str:
    """The sentences that the notebook ends with, each from what is measured on the profile."""
    parts = (_says_accuracy, _says_scores, _says_gates, _says_delta)
    sentences = [sentence for part in parts for sentence in part(profile)]
    return "\n".join(f"- {each}" for each in sentences) or f"- {missing(profile)}"


def _says_accuracy(profile: str) -> list[str]:
    frame, control, sentences = accuracies(profile), unpruned(profile), []
    for dataset in control:
        rows = frame[(frame["dataset"] == dataset) & (frame["row"] == "vtp")]
        parts = [f"{row.tuned - control[dataset]:+.2f} at r = {row.r}" for row in rows.itertuples()]
        if parts:
            sentences.append(
                f"{title(dataset)}: cut by gates and fine-tuned, against the control that trained "
                f"as long, {' and '.join(parts)} points; the papers print "
                f"{_published(dataset, profile)} against vanilla."
            )
    return sentences


def _published(dataset: str, profile: str) -> str:
    which = profiles.get(profile).datasets.index(dataset) + 1
    return " and ".join(f"{published.change(f'vtp-r{r}', which):+.1f}" for r in RATES)


def _says_scores(profile: str) -> list[str]:
    frame, sentences = accuracies(profile), []
    for dataset in dict.fromkeys(frame["dataset"]):
        rows = frame[(frame["dataset"] == dataset) & (frame["r"] == 0.2)].set_index("row")
        before = ", ".join(f"{ROWS[row]} {each:.1f}" for row, each in rows["cut"].items())
        spread = rows["tuned"].max() - rows["tuned"].min()
        sentences.append(
            f"{title(dataset)}, r = 0.2, before fine-tuning, %: {before}. After it all lie within "
            f"{spread:.2f} points."
        )
    return sentences


def _says_gates(profile: str) -> list[str]:
    frame = important(units(profile))
    frame = frame[frame["row"].isin(GATES)]
    parts = [
        f"{100 * each.above:.0f} % ({ROWS[each.row]}, {title(each.dataset)})"
        for each in frame.itertuples()
    ]
    if not parts:
        return []
    return [
        f"Share of parameters whose gate ends above {IMPORTANT}: {', '.join(parts)}. "
        f"{readable_reach(profile)} A cut uses the gates' order, not their level."
    ]


def _says_delta(profile: str) -> list[str]:
    frame = deltas(profile)
    frame = frame[(frame["r"] == 0.2) & frame["row"].isin(("vtp", "random"))]
    parts = [
        f"{ROWS[each.row]} {each.whole:+.3f}, layers apart {each.sum:+.3f} ({title(each.dataset)})"
        for each in frame.itertuples(index=False)
    ]
    return [f"Eq. 6's δ at r = 0.2 before fine-tuning: {'; '.join(parts)}."] if parts else []
