"""What notebook 05 shows of pruning: scores, cuts and their cost, from records and analysis files.

A profile may hold some of the rows alone: what is not there is left out, and `missing` says it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from vitstudy import data, measure, methods, profiles, speed, study, training
from vitstudy.profiles import Recipe
from vitstudy.pruning import importance, slim
from vitstudy.pruning.slim import KINDS, Shape
from vitstudy.record import Record
from vitstudy.report import tables
from vitstudy.study import Cell

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


def cell(profile: str, dataset: str, key: str) -> Cell:
    """The first seed's cell."""
    return Cell(profile, dataset, key, profiles.get(profile).seeds[0])


def record(profile: str, dataset: str, key: str) -> Record | None:
    """The record of a success; None where there is none."""
    found = study.read(cell(profile, dataset, key))
    return found if found and found.status == "done" else None


def accuracy(profile: str, dataset: str, key: str) -> float | None:
    """Percent, the mean over the seeds that are measured; None where none is."""
    found = [study.read(Cell(profile, dataset, key, seed)) for seed in profiles.get(profile).seeds]
    done = [each.accuracy for each in found if each and each.status == "done"]
    return 100 * float(np.mean(done)) if done else None


def analysis(profile: str, dataset: str, key: str) -> dict[str, np.ndarray] | None:
    """What the cell left beside its record; None where it is not here."""
    path = cell(profile, dataset, key).analysis_path
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def keys() -> list[str]:
    """The rows that cut something, before and after fine-tuning."""
    found = [f"{row}-r{r}{end}" for row in ROWS for r in RATES for end in ("-cut", "")]
    return [key for key in found if key in {each.key for each in methods.available()}]


def missing(profile: str) -> str:
    """Which rows of pruning the profile has no record of, and the command that makes them."""
    known = profiles.get(profile)
    computed = methods.computed(known.tiers)
    absent = [
        (dataset, key)
        for dataset in known.datasets
        for key in [*keys(), CONTROL]
        if key in computed and record(profile, dataset, key) is None
    ]
    if not absent:
        return f"All rows of pruning are measured on the profile **{profile}**."
    names = ", ".join(dict.fromkeys(key for _, key in absent))
    return (
        f"Not measured on the profile **{profile}**: {names}. `python -m vitstudy run "
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
    everything = measure.vit_parameters(architecture, spec.num_classes, spec.channels)
    fixed = everything - slim.parameters(slim.full(shape), shape)
    return Shape(**{**vars(shape), "fixed": fixed})


# -- figure 3 -------------------------------------------------------------------------------------


def units(profile: str) -> pd.DataFrame:
    """Every unit's score: `dataset`, `row`, `score`, `block`, `kind`, `parameters`, `stays`.

    They are those of the cut at r = 0.2; the scores do not depend on r.
    """
    frames = []
    for dataset in profiles.get(profile).datasets:
        for row in ROWS:
            found = analysis(profile, dataset, f"{row}-r0.2-cut")
            if found is None:
                continue
            columns = ("score", "block", "kind", "parameters", "stays")
            frame = pd.DataFrame({name: found[name] for name in columns})
            frames.append(frame.assign(dataset=dataset, row=row))
    columns = ["score", "block", "kind", "parameters", "stays", "dataset", "row"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def important(found: pd.DataFrame) -> pd.DataFrame:
    """By score and data set: quartiles, and the share of parameters scored above 0.99.

    A gate has a scale of its own; the others are taken relative to their largest value. `spread` is
    the 90th percentile over the 10th: how far a score tells dimensions apart.
    """
    rows = []
    for (row, dataset), frame in found.groupby(["row", "dataset"], sort=False):
        scores, weights = frame["score"].to_numpy(float), frame["parameters"].to_numpy(float)
        scale = 1.0 if row in GATES else scores.max() or 1.0
        low, high = np.percentile(scores, [10, 90])
        rows.append(
            {
                "row": row,
                "dataset": dataset,
                "above": float(weights[scores / scale > IMPORTANT].sum() / weights.sum()),
                "least": scores.min(),
                "median": np.median(scores),
                "greatest": scores.max(),
                "spread": high / low if low > 0 else np.inf,
            }
        )
    columns = ["row", "dataset", "above", "least", "median", "greatest", "spread"]
    return pd.DataFrame(rows, columns=columns)


def reach(profile: str, dataset: str) -> float | None:
    """How far from 1 a gate can go that learns at the network's own rate; None if not measured.

    Adam moves a parameter by about the learning rate a step: they are summed over the schedule.
    """
    found = record(profile, dataset, "vtp-gates-slow")
    if found is None:
        return None
    pretrained = bool(found.options["architecture"]["timm_name"])  # then its rates stay
    recipe = replace(Recipe(**found.options["recipe"]), steps=found.steps)
    rate = recipe.learning_rate * (1 if pretrained else found.options["rate"])
    factor = training.warmup_then_linear(recipe)
    return rate * sum(factor(step) for step in range(recipe.steps))


def readable_reach(profile: str) -> str:
    """`reach` on both data sets as a sentence."""
    found = {dataset: reach(profile, dataset) for dataset in profiles.get(profile).datasets}
    parts = [f"{far:.2g} ({title(each)})" for each, far in found.items() if far is not None]
    if not parts:
        return "Gates at the network's rate: not measured."
    return f"At the network's rate a gate can get about so far from 1: {', '.join(parts)}."


def readable_important(found: pd.DataFrame) -> pd.DataFrame:
    """`important` under headings for a reader."""
    frame = important(found)
    shown = {
        "score": frame["row"].map(ROWS),
        "data set": frame["dataset"].map(title),
        "parameters above 0.99": [f"{100 * each:.1f} %" for each in frame["above"]],
        **{name: [f"{v:.3g}" for v in frame[name]] for name in ("least", "median", "greatest")},
        "90th / 10th percentile": [f"{v:.3g}" for v in frame["spread"]],
    }
    return pd.DataFrame(shown)


# -- what goes ------------------------------------------------------------------------------------


def selected(found: pd.DataFrame, shape: Shape, r: float) -> np.ndarray:
    """(depth, kinds): the share of each kind's dimensions that the scores of one row remove at r.

    Raises UserError where r would empty a layer.
    """
    scores = {}
    for (block, kind), frame in found.groupby(["block", "kind"]):
        scores[f"blocks.{block}.{KINDS[kind]}"] = torch.tensor(frame["score"].tolist())
    masks = slim.select(scores, shape, r)
    gone = [
        [1 - masks[f"blocks.{block}.{kind}"].double().mean().item() for kind in KINDS]
        for block in range(shape.depth)
    ]
    return np.array(gone)


def by_kind(found: pd.DataFrame, shape: Shape, r: float) -> pd.DataFrame:
    """By row and kind, the share of the dimensions of all blocks that go at r, percent."""
    rows = {}
    for row, frame in found.groupby("row", sort=False):
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
    rows = []
    for line, what, key in lines:
        found = record(profile, dataset, key)
        rows.append(
            {
                "line": line,
                "what": what,
                "cell": key,
                "steps": found.steps if found else None,
                "parameters": found.parameters if found else None,
                "accuracy, %": round(100 * found.accuracy, 2) if found else None,
            }
        )
    return pd.DataFrame(rows).astype({"steps": "Int64", "parameters": "Int64"})


def deltas(profile: str) -> pd.DataFrame:
    """Eq. 6's delta of every cut, in nats on the calibration images, which no training sees.

    `sum` is Eq. 6's: what each layer, cut alone, adds to the loss, summed; `whole` is what cutting
    all of them adds; `tuned` is what is left of it after fine-tuning.
    """
    rows = []
    for dataset in profiles.get(profile).datasets:
        for row in ROWS:
            for r in RATES:
                found = analysis(profile, dataset, f"{row}-r{r}-cut")
                if found is None:
                    continue
                tuned = analysis(profile, dataset, f"{row}-r{r}")
                before = float(found["loss_before"])
                rows.append(
                    {
                        **{"dataset": dataset, "row": row, "r": r, "before": before},
                        "sum": float(found["delta_layers"].sum()),
                        "whole": float(found["loss_after"]) - before,
                        "tuned": float(tuned["loss"]) - before if tuned else np.nan,
                    }
                )
    return pd.DataFrame(rows, columns=["dataset", "row", "r", "before", "sum", "whole", "tuned"])


def readable_deltas(profile: str) -> pd.DataFrame:
    """`deltas` under headings for a reader."""
    frame = deltas(profile)
    shown = {
        "data set": frame["dataset"].map(title),
        "score": frame["row"].map(ROWS),
        "r": frame["r"],
        "loss before": [f"{v:.4f}" for v in frame["before"]],
        "δ, layers apart and summed": [f"{v:+.4f}" for v in frame["sum"]],
        "δ, all at once": [f"{v:+.4f}" for v in frame["whole"]],
        "δ, fine-tuned": ["" if np.isnan(v) else f"{v:+.4f}" for v in frame["tuned"]],
    }
    return pd.DataFrame(shown)


# -- accuracy, size and speed ---------------------------------------------------------------------


def accuracies(profile: str) -> pd.DataFrame:
    """Accuracy in percent before and after fine-tuning, `dataset`, `row`, `r`, `cut`, `tuned`."""
    rows = []
    for dataset in profiles.get(profile).datasets:
        for row in ROWS:
            for r in RATES:
                if f"{row}-r{r}" in keys():
                    found = [accuracy(profile, dataset, f"{row}-r{r}{end}") for end in ("-cut", "")]
                    if any(each is not None for each in found):
                        rows.append((dataset, row, r, *found))
    frame = pd.DataFrame(rows, columns=["dataset", "row", "r", "cut", "tuned"])
    return frame.astype({"cut": float, "tuned": float})


def unpruned(profile: str) -> dict[str, float]:
    """By data set, the accuracy of the control that trained as long and lost nothing, percent."""
    found = {
        dataset: accuracy(profile, dataset, CONTROL) for dataset in profiles.get(profile).datasets
    }
    return {dataset: value for dataset, value in found.items() if value is not None}


def against_the_papers(profile: str) -> pd.DataFrame:
    """What pruning costs in the papers and here, in points against vanilla and the control."""
    rows = []
    for r in RATES:
        for place, dataset in enumerate(profiles.get(profile).datasets):
            printed = [methods.get(key).published[place] for key in ("vanilla", f"vtp-r{r}")]
            lost, smaller = (
                printed[1].accuracy - printed[0].accuracy,
                printed[1].size / printed[0].size - 1,
            )
            measured = accuracy(profile, dataset, f"vtp-r{r}")
            references = [accuracy(profile, dataset, key) for key in ("vanilla", CONTROL)]
            changes = [
                "" if measured is None or each is None else f"{measured - each:+.2f}"
                for each in references
            ]
            both = [record(profile, dataset, key) for key in ("vanilla", f"vtp-r{r}")]
            size = both[1].size_bytes / both[0].size_bytes - 1 if all(both) else None
            rows.append(
                {
                    "r": r,
                    "published on": tables.PUBLISHED_ON[place],
                    "published, points": f"{lost:+.2f}",
                    "published, size": f"{100 * smaller:+.0f} %",
                    "measured on": title(dataset),
                    "against vanilla, points": changes[0],
                    "against the control, points": changes[1],
                    "size": "" if size is None else f"{100 * size:+.1f} %",
                }
            )
    return pd.DataFrame(rows)


def costs(profile: str) -> pd.DataFrame:
    """Size, parameters, MACs and CPU speed of what is left, against vanilla of the same data."""
    rows = []
    for dataset in profiles.get(profile).datasets:
        dense = record(profile, dataset, "vanilla")
        for row, r in ((row, r) for r in RATES for row in (*ROWS, "skip")):
            found = record(profile, dataset, f"{row}-r{r}")
            if dense is None or found is None:
                continue
            timed = speed.latest(cell(profile, dataset, f"{row}-r{r}"))
            rows.append(
                {
                    "data set": title(dataset),
                    "score": ROWS.get(row, "skip-dimension model"),
                    "r": r,
                    "accuracy, %": f"{100 * found.accuracy:.2f}",
                    "file": f"{found.size_bytes / dense.size_bytes:.3f}",
                    "parameters": f"{found.parameters / dense.parameters:.3f}",
                    "MACs": f"{found.macs / dense.macs:.3f}",
                    "CPU speed": f"{timed['ratio_to_vanilla']:.2f}" if timed else "",
                }
            )
    columns = ["data set", "score", "r", "accuracy, %", "file", "parameters", "MACs", "CPU speed"]
    return pd.DataFrame(rows, columns=columns)


def skip_gates(profile: str) -> pd.DataFrame:
    """The skip-dimension model's gates: around each block, and the mean of those within it."""
    rows = []
    for dataset in profiles.get(profile).datasets:
        found = analysis(profile, dataset, "skip-r0.2")
        if found is None:
            continue
        for block in range(found["block"].max() + 1):
            here, whole = found["block"] == block, found["kind"] == len(KINDS)
            rows.append(
                {
                    "data set": title(dataset),
                    "block": block,
                    "gate around it": f"{found['score'][here & whole].item():.3f}",
                    "mean gate within": f"{found['score'][here & ~whole].mean():.3f}",
                    "dimensions that stay": f"{100 * found['stays'][here & ~whole].mean():.0f} %",
                    "the block stays": "yes" if found["stays"][here & whole].item() else "no",
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
    frame, control, found = accuracies(profile), unpruned(profile), []
    for dataset in control:
        rows = frame[(frame["dataset"] == dataset) & (frame["row"] == "vtp")]
        parts = [f"{row.tuned - control[dataset]:+.2f} at r = {row.r}" for row in rows.itertuples()]
        if parts:
            found.append(
                f"{title(dataset)}: cut by gates and fine-tuned, against the control that trained "
                f"as long, {' and '.join(parts)} points; the papers print "
                f"{_published(dataset, profile)} against vanilla."
            )
    return found


def _published(dataset: str, profile: str) -> str:
    place = profiles.get(profile).datasets.index(dataset)
    vanilla = methods.get("vanilla").published[place].accuracy
    losses = [methods.get(f"vtp-r{r}").published[place].accuracy - vanilla for r in RATES]
    return " and ".join(f"{each:+.1f}" for each in losses)


def _says_scores(profile: str) -> list[str]:
    frame, found = accuracies(profile), []
    for dataset in dict.fromkeys(frame["dataset"]):
        rows = frame[(frame["dataset"] == dataset) & (frame["r"] == 0.2)].set_index("row")
        before = ", ".join(f"{ROWS[row]} {each:.1f}" for row, each in rows["cut"].items())
        spread = rows["tuned"].max() - rows["tuned"].min()
        found.append(
            f"{title(dataset)}, r = 0.2, before fine-tuning, %: {before}. After it all lie within "
            f"{spread:.2f} points."
        )
    return found


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
