"""What notebook 06 says of Nyström attention: rank, error, accuracy and cost, from cells' files."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch

from vitstudy import data, formulas, methods, profiles
from vitstudy.attention import nystrom, scaling
from vitstudy.profiles import Architecture
from vitstudy.record import Record
from vitstudy.report import published
from vitstudy.report.evidence import Evidence

FAMILY = tuple(
    method
    for method in methods.available()
    if method.key.startswith("nystrom-") and method not in methods.COMBINED
)
ROWS = tuple(method for method in FAMILY if method.published)
BASE, CONTROL, ANALYSED = "vanilla", "continued", "nystrom-all"
INVERSES = {
    "error": "6 iterations",
    "error_exact": "exact inverse",
    "error_class": "6 iterations, class token a landmark",
}
BEST = "best of rank m (Eckart and Young)"


def missing(profile: str) -> str:
    """What to run for what is not measured on the profile; empty where all of it is."""
    cells = Evidence(profile).missing(method.key for method in FAMILY)
    absent = {cell.method for cell in cells}
    runs = [method.key for method in FAMILY if method.key in absent]
    lines = []
    if runs:
        lines.append(
            f"Not measured on this profile: {', '.join(runs)}. They are made with "
            f"`python -m vitstudy run '{profile}/*/nystrom-*'`."
        )
    if not scaling.read(profile):
        lines.append(
            "Attention has not been timed on this profile; it is, with all models, with "
            f"`python -m vitstudy speed {profile}`."
        )
    return "\n\n".join(lines)


def analyses(profile: str, key: str = ANALYSED) -> dict[str, dict[str, np.ndarray]]:
    """What the cell `key` left of its attention, by the data sets' titles; none where not made."""
    found = Evidence(profile).analyses(key)
    return {data.spec(dataset).title: arrays for dataset, arrays in found.items()}


# -- the formula ----------------------------------------------------------------------------------


def segments(tokens: int, num_landmarks: int, own: int = 0) -> list[int]:
    """How many tokens each landmark is the mean of: measured, by what one token changes."""
    weights = nystrom.landmarks(torch.eye(tokens, dtype=torch.float64), num_landmarks, own)
    return (weights > 0).sum(-1).tolist()


def worked_example(num_landmarks: int) -> dict[str, list]:
    """Six tokens of two dimensions by hand-sized matrices, rounded to four places."""
    angles = torch.arange(6, dtype=torch.float64)
    q = torch.stack([angles.cos(), angles.sin()], -1)[None, None]
    k = 2 * torch.stack([angles.sin(), angles.cos()], -1)[None, None]
    scale = 2**-0.5
    a = nystrom.landmark_kernel(
        nystrom.landmarks(q, num_landmarks), nystrom.landmarks(k, num_landmarks), scale
    )
    z = nystrom.iterative_inverse(a)
    matrix = nystrom.softmax_matrix(q, k, scale)
    found = {
        "A": a,
        "Z": z,
        "row 0 of softmax": matrix[..., :1, :],
        "row 0 by landmarks": nystrom.nystrom_matrix(q, k, num_landmarks, scale)[..., :1, :],
    }
    found = {
        name: [[round(x, 4) + 0.0 for x in row] for row in t[0, 0].tolist()]
        for name, t in found.items()
    }
    found["error"] = [round(error_of(matrix, q, k, num_landmarks, scale), 4)]
    return found


def error_of(matrix: torch.Tensor, q, k, num_landmarks: int, scale: float, **options) -> float:
    """The relative error of the approximated matrix, Frobenius."""
    approximation = nystrom.nystrom_matrix(q, k, num_landmarks, scale, **options)
    return nystrom.relative_error(approximation, matrix).item()


# -- rank, error, convergence ---------------------------------------------------------------------


def ranks(found: dict[str, dict], error: float = 0.01) -> pd.DataFrame:
    """For each layer, the rank that leaves at most so much of the matrix, and what it is of n."""
    rows = []
    for title, analysis in found.items():
        tokens = analysis["singular_values"].shape[1]
        for layer, left in enumerate(analysis["best_error"]):
            rank = int(np.argmax(left <= error))
            second = analysis["singular_values"][layer, 1]
            rows.append((title, layer + 1, tokens, rank, rank / tokens, float(second)))
    columns = ["data set", "layer", "tokens", "rank", "share of tokens", "second singular value"]
    return pd.DataFrame(rows, columns=columns)


def errors(found: dict[str, dict]) -> pd.DataFrame:
    """Relative error of each layer's matrix by landmarks and inverse, the best rank's beside it.

    Columns `data set`, `layer` (from 1), `landmarks`, `inverse`, `error`.
    """
    rows = []
    for title, analysis in found.items():
        for position, number in enumerate(analysis["landmarks"]):
            for layer, best in enumerate(analysis["best_error"]):
                for name, label in INVERSES.items():
                    value = analysis[name][layer, position]
                    rows.append((title, layer + 1, int(number), label, float(value)))
                rows.append((title, layer + 1, int(number), BEST, float(best[number])))
    return pd.DataFrame(rows, columns=["data set", "layer", "landmarks", "inverse", "error"])


def convergence(found: dict[str, dict], iterations: int) -> pd.DataFrame:
    """The inverse's residual at the papers' m: at the start, after so many iterations, and last."""
    return pd.DataFrame(
        {
            "data set": title,
            "landmarks": number,
            "at the start": left[0].mean(),
            f"after {iterations}": left[iterations].mean(),
            "greatest of a layer": left[iterations].max(),
            f"after {len(left) - 1}": left[-1].mean(),
        }
        for title, analysis in found.items()
        for number in _papers(analysis)
        for left in [residual(analysis, number)]
    )


def _papers(analysis: dict) -> list[int]:
    return [int(m) for m in analysis["landmarks"] if m in scaling.LANDMARKS]


def residual(analysis: dict, num_landmarks: int) -> np.ndarray:
    """(iterations + 1, layers) for a number of landmarks."""
    position = list(analysis["landmarks"]).index(num_landmarks)
    return analysis["residual"][:, position].T


def matrices(analysis: dict, num_landmarks: int) -> list[dict]:
    """The first image's first head, by layer: the softmax matrix and what landmarks make of it."""
    shown = []
    for layer, q, k in zip(
        analysis["shown_layers"], analysis["shown_q"], analysis["shown_k"], strict=True
    ):
        q, k = (torch.from_numpy(each).double()[None, None] for each in (q, k))
        scale = q.shape[-1] ** -0.5
        exact = nystrom.softmax_matrix(q, k, scale)
        shown.append(
            {
                "layer": int(layer) + 1,
                "softmax": exact[0, 0].numpy(),
                "landmarks": nystrom.nystrom_matrix(q, k, num_landmarks, scale)[0, 0].numpy(),
                "error": error_of(exact, q, k, num_landmarks, scale),
            }
        )
    return shown


# -- accuracy -------------------------------------------------------------------------------------


def accuracies(profile: str) -> pd.DataFrame:
    """Vanilla, its control and every Nyström row that is measured, percent and points.

    `change` is against vanilla, with the published change beside it; `wrong` and `right` count the
    test images whose answer became so.
    """
    evidence, rows = Evidence(profile), []
    wanted = [methods.get(key) for key in (BASE, CONTROL)]
    for which, dataset in enumerate(evidence.datasets, 1):
        base = evidence.record(dataset, BASE)
        for method in (*wanted, *FAMILY):
            record = evidence.record(dataset, method.key)
            if record is None or base is None:
                continue
            printed = published.change(method.key, which) if method.published else math.nan
            rows.append(
                {
                    "data set": data.spec(dataset).title,
                    "key": method.key,
                    "landmarks": landmarks_of(record),
                    "class token": record.options.get("class_token", ""),
                    "trained": bool(record.options.get("steps")),
                    "accuracy": 100 * record.accuracy,
                    "change": 100 * (record.accuracy - base.accuracy),
                    "wrong": record.flips_to_wrong,
                    "right": record.flips_to_right,
                    "published change": printed,
                    "MACs, share of vanilla's": record.macs / base.macs,
                }
            )
    columns = ["data set", "key", "landmarks", "class token", "trained", "accuracy", "change"]
    columns += ["wrong", "right", "published change", "MACs, share of vanilla's"]
    return pd.DataFrame(rows, columns=columns)


def landmarks_of(record: Record) -> float:
    """NaN where the row has none; all tokens where it says so."""
    if "num_landmarks" not in record.options:
        return math.nan
    number = record.options["num_landmarks"]
    if number is None:
        number = published.tokens(Architecture(**record.options["architecture"]))
    return float(number)


def layer_errors(profile: str) -> pd.DataFrame:
    """The matrices' error within each measured model, drop-in and fine-tuned, mean over layers."""
    rows = []
    for method in FAMILY:
        if method.key == ANALYSED:
            continue
        for title, analysis in analyses(profile, method.key).items():
            error, left = analysis["error"], float(analysis["residual"].mean())
            rows.append((title, method.key, float(error.mean()), float(error.max()), left))
    columns = ["data set", "key", "error of the matrices", "greatest of a layer"]
    return pd.DataFrame(rows, columns=[*columns, "residual of the inverse"])


# -- cost -----------------------------------------------------------------------------------------


def macs(architecture: Architecture, iterations: int = nystrom.ITERATIONS) -> pd.DataFrame:
    """MACs of one image by formula, in millions: one layer's attention, and the network's ratio.

    `network` is vanilla's MACs over those with landmarks: the speed-up if only MACs counted.
    """
    width, heads, count = architecture.width, architecture.heads, published.tokens(architecture)
    exact = nystrom.nystrom_macs(count, count, width, heads, iterations)
    whole = formulas.vit_macs(architecture, 10, 3)
    rows = []
    for number in (*(m for m in scaling.LANDMARKS if m < count), count):
        found = nystrom.nystrom_macs(count, number, width, heads, iterations)
        inverse = 0 if number == count else 4 * iterations * heads * number**3
        with_landmarks = whole + architecture.depth * (found - exact)
        rows.append(
            {
                "landmarks": number if number < count else "softmax",
                "attention, M": found / 1e6,
                "of it the inverse, M": inverse / 1e6,
                "over softmax's": found / exact,
                "network": whole / with_landmarks,
            }
        )
    return pd.DataFrame(rows)


def published_speeds() -> pd.DataFrame:
    """The papers' GPU speeds over vanilla's in the same table, and what MACs alone would give."""
    by_macs = macs(profiles.get("paper").architecture).set_index("landmarks")["network"]
    rows = []
    for method in ROWS:
        number, ratios = method.options["num_landmarks"], published.gpu_ratios(method.key)
        rows.append((number, *ratios, by_macs[number]))
    columns = ["landmarks", "published, Table 1", "published, Table 2", "by MACs"]
    return pd.DataFrame(rows, columns=columns)


def timings(profile: str, device: str = "cpu") -> pd.DataFrame:
    """`attention`, `tokens`, `milliseconds`, `mib` of one image; empty where nothing was timed."""
    rows = [row for run in scaling.read(profile) if run["device"] == device for row in run["rows"]]
    return pd.DataFrame(rows, columns=["attention", "tokens", "batch", "milliseconds", "mib"])


def crossing(frame: pd.DataFrame, attention: str, against: str, column: str) -> float:
    """The number of tokens from which `attention` takes less than `against`, of `timings`.

    Between the two lengths measured around it the logarithms are taken for straight lines. NaN
    where it never does, the least measured length where it always does.
    """
    wide = frame.pivot(index="tokens", columns="attention", values=column).sort_index()
    wide = wide[[attention, against]].dropna()
    gap = (np.log(wide[attention]) - np.log(wide[against])).to_numpy()
    tokens = wide.index.to_numpy(dtype=float)
    if not len(gap) or gap[-1] >= 0:
        return math.nan
    last = np.flatnonzero(gap >= 0)
    if not len(last):
        return float(tokens[0])
    low = last[-1]
    share = gap[low] / (gap[low] - gap[low + 1])
    return float(np.exp(np.log(tokens[low]) + share * np.log(tokens[low + 1] / tokens[low])))


def crossings(frame: pd.DataFrame) -> pd.DataFrame:
    """From how many tokens on each number of landmarks is faster, and smaller, than softmax."""
    rows = []
    for name in dict.fromkeys(frame["attention"]):
        if name in ("explicit", "fused"):
            continue
        row = {"attention": name}
        for column, words in (("milliseconds", "faster"), ("mib", "smaller")):
            for against in ("explicit", "fused"):
                row[f"{words} than {against} from"] = crossing(frame, name, against, column)
        rows.append(row)
    return pd.DataFrame(rows)


def ratio(frame: pd.DataFrame, attention: str, against: str, tokens: int) -> float:
    """How many times longer `against` takes than `attention` at so many tokens."""
    at = frame[frame["tokens"] == tokens].set_index("attention")["milliseconds"]
    return float(at[against] / at[attention])


# -- what the numbers say -------------------------------------------------------------------------


def conclusions(profile: str) -> list[str]:
    """The sentences that end the notebook, each from what was measured; fewer where less was."""
    found = analyses(profile)
    told = [*_on_rank(found), *_on_error(found), *_on_accuracy(accuracies(profile))]
    speeds = published_speeds()
    share = published.attention_share(profiles.get("paper").architecture, 10, 3)
    told.append(
        "By MACs alone ViT-B/16 would run "
        + _listed(f"{each:.3f}" for each in speeds["by MACs"])
        + f" times as fast as vanilla with m = {_listed(speeds['landmarks'])}; the papers print "
        + _listed(f"{each:.3f}" for each in speeds["published, Table 1"])
        + " (Table 1) and "
        + _listed(f"{each:.3f}" for each in speeds["published, Table 2"])
        + f" (Table 2). Attention's products are {100 * share:.1f} % of that network's, so "
        "little can be won."
    )
    frame = timings(profile)
    return [*told, *_on_time(frame)] if len(frame) else told


def _listed(values) -> str:
    *first, last = map(str, values)
    return f"{', '.join(first)} and {last}" if first else last


def _on_rank(found: dict[str, dict]) -> list[str]:
    if not found:
        return []
    table = ranks(found)
    shuffled = [a["singular_values_shuffled"][:, 1:].mean() for a in found.values()]
    values = [a["singular_values"][:, 1:].mean() for a in found.values()]
    return [
        f"Low rank: {table['rank'].min()} to {table['rank'].max()} of {table['tokens'].max()} "
        "singular values leave 1 % of a layer's attention matrix; beyond the first they are "
        f"{np.mean(shuffled) / np.mean(values):.1f} times smaller on average than those of the "
        "same rows shuffled."
    ]


def _on_error(found: dict[str, dict]) -> list[str]:
    if not found:
        return []
    frame = errors(found)
    mean = frame.groupby(["inverse", "landmarks"])["error"].mean()
    told = []
    for number in _papers(next(iter(found.values()))):
        iterative, exact, best = (mean[each, number] for each in (*_iterated(), BEST))
        told.append(
            f"m = {number}: error {100 * iterative:.1f} % with six iterations, {100 * exact:.2g} % "
            f"with the exact inverse, {100 * best:.2g} % for the best matrix of that rank"
        )
    return ["; ".join(told) + "."]


def _iterated() -> tuple[str, str]:
    return INVERSES["error"], INVERSES["error_exact"]


def _on_accuracy(frame: pd.DataFrame) -> list[str]:
    told = []
    for title, part in frame.groupby("data set", sort=False):
        by_key = part.set_index("key")["change"]
        some = [
            f"m = {number}: {by_key[f'nystrom-m{number}-dropin']:+.2f} as drop-in, "
            f"{by_key[f'nystrom-m{number}']:+.2f} fine-tuned"
            for number in scaling.LANDMARKS
            if {f"nystrom-m{number}-dropin", f"nystrom-m{number}"} <= set(by_key.index)
        ]
        if not some:
            continue
        line = f"{title}, points against vanilla: {'; '.join(some)}"
        if CONTROL in by_key:
            line += f"; the baseline trained on, {by_key[CONTROL]:+.2f}"
        if {"nystrom-m8-dropin", "nystrom-m8-class-dropin"} <= set(by_key.index):
            line += (
                f". With 8 landmarks {by_key['nystrom-m8-dropin']:+.2f}, and with the class token "
                f"one of them {by_key['nystrom-m8-class-dropin']:+.2f}"
            )
        told.append(line + ".")
    return told


def attention_name(attention: str, landmarks: str = "m = ") -> str:
    """What a reader is told of an attention of `attention.scaling` but softmax's own."""
    number = attention.removeprefix("nystrom-m")
    return methods.get(attention).title if number == attention else landmarks + number


def _on_time(frame: pd.DataFrame) -> list[str]:
    told, most = [], int(frame["tokens"].max())
    for row in crossings(frame).itertuples():
        times = [row[2], row[3]]
        words = ["never" if math.isnan(n) else f"from {n:.0f} tokens on" for n in times]
        name = attention_name(row.attention)
        told.append(
            f"{name} is faster than softmax written out {words[0]} and than the fused kernel "
            f"{words[1]}"
        )
    name = [each for each in dict.fromkeys(frame["attention"]) if each.startswith("nystrom")][-1]
    ratios = [ratio(frame, name, against, most) for against in ("explicit", "fused")]
    told.append(
        f"at {most:,} tokens {name.replace('nystrom-m', 'm = ')} is {ratios[0]:.1f} and "
        f"{ratios[1]:.1f} times as fast"
    )
    small = [n for n in (65, 197) if n in set(frame["tokens"])]
    for tokens in small:
        at = frame[frame["tokens"] == tokens].set_index("attention")["milliseconds"]
        names = [each for each in at.index if each.startswith("nystrom")]
        quotients = _listed(f"{at['fused'] / at[each]:.2f}" for each in names)
        marks = _listed(each.removeprefix("nystrom-m") for each in names)
        told.append(f"at {tokens} tokens m = {marks}: {quotients} times the fused kernel's speed")
    return ["; ".join(told) + "."]
