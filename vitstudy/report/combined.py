"""What notebook 07 says of pairs of methods: each pair against its parts, and the Pareto front."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pandas as pd

from vitstudy import methods
from vitstudy.report import significance
from vitstudy.report.evidence import Evidence
from vitstudy.report.readable import interval, table
from vitstudy.survey import pareto

SINGLES = {
    "distillation": "deit-base",
    "pruning 0.2": "vtp-r0.2",
    "LSQ W4": "lsq-w4",
    "dynamic int8": "dynamic",
    "Nyström 32": "nystrom-m32",
}
"""The methods that are paired, and the row that each is alone."""


@dataclass(frozen=True)
class Pair:
    first: str
    second: str
    key: str = ""
    """The cell that has both; empty where they do not go together in this order."""
    parts: tuple[str, str] = ("", "")
    """The rows that have one of them each."""
    why_not: str = ""


def _done(first: str, second: str) -> Pair:
    parts = SINGLES[first], SINGLES[second]
    return Pair(first, second, "+".join(parts), parts)


def _taught(first: str) -> Pair:
    key = SINGLES[first]
    return Pair(first, "distillation", f"{key}+taught", (key, "taught"))


_NO_GRADIENT = "integers cannot be trained further"
_PLAIN = "pruning cuts plain float layers and plain attention: it goes first"
_TWICE = "both replace the same weights by integers"
PAIRS = (
    _done("distillation", "pruning 0.2"),
    _taught("pruning 0.2"),
    _done("distillation", "LSQ W4"),
    _taught("LSQ W4"),
    _done("distillation", "dynamic int8"),
    Pair("dynamic int8", "distillation", why_not=_NO_GRADIENT),
    _done("distillation", "Nyström 32"),
    _taught("Nyström 32"),
    _done("pruning 0.2", "LSQ W4"),
    Pair("LSQ W4", "pruning 0.2", why_not=_PLAIN),
    _done("pruning 0.2", "dynamic int8"),
    Pair("dynamic int8", "pruning 0.2", why_not=_PLAIN),
    _done("pruning 0.2", "Nyström 32"),
    Pair("Nyström 32", "pruning 0.2", why_not=_PLAIN),
    Pair("LSQ W4", "dynamic int8", why_not=_TWICE),
    Pair("dynamic int8", "LSQ W4", why_not=_TWICE),
    _done("LSQ W4", "Nyström 32"),
    _done("Nyström 32", "LSQ W4"),
    _done("Nyström 32", "dynamic int8"),
    Pair("dynamic int8", "Nyström 32", "dynamic+nystrom-m32", ("dynamic", "nystrom-m32-dropin")),
)
"""Every two of them in both orders: first the one, then the other on what it made."""


def pairs(profile: str, which: int) -> pd.DataFrame:
    """The measured pairs of Table 1's or 2's data set, a row each.

    `change` from vanilla in points; `sum_of_parts`, what its parts change alone, added up;
    `together`, the one less the other, with `low` and `high` of its 95 % interval over the images
    of the trained models, and `p_holm` after the correction over these pairs;
    `size_share` of vanilla's file in percent, beside the product of the parts' (`size_product`);
    `cpu_ratio` to vanilla's images per second, NaN where it is simulated or not timed.
    """
    evidence, rows = Evidence(profile), []
    dataset = evidence.dataset(which)
    compared = significance.comparison(profile, dataset)
    for pair in PAIRS:
        if not pair.key:
            continue
        # One weight a row, though a row may stand on both sides.
        together: dict[str, float] = {}
        for key, weight in ((pair.key, 1), ("vanilla", 1), *((part, -1) for part in pair.parts)):
            together[key] = together.get(key, 0) + weight
        both = compared.contrast(together)
        if both is None:
            continue
        change = compared.contrast({pair.key: 1, "vanilla": -1})[0]
        shares = [evidence.size_share(dataset, part) for part in pair.parts]
        rows.append(
            {
                "first": pair.first,
                "second": pair.second,
                "key": pair.key,
                "accuracy": compared.contrast({pair.key: 1})[0],
                "change": change,
                "sum_of_parts": change - both[0],
                "together": both[0],
                "low": both[1],
                "high": both[2],
                "p_holm": both[3],
                "size_share": evidence.size_share(dataset, pair.key),
                "size_product": shares[0] * shares[1] / 100,
                "cpu_ratio": evidence.cpu_ratio(dataset, pair.key),
            }
        )
    columns = ["first", "second", "key", "accuracy", "change", "sum_of_parts", "together", "low"]
    columns += ["high", "p_holm", "size_share", "size_product", "cpu_ratio"]
    frame = pd.DataFrame(rows, columns=columns).astype({"cpu_ratio": float})
    return frame.assign(p_holm=significance.holm(frame["p_holm"]))


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """`pairs` as text under headings for a reader."""
    intervals = [interval(row.together, row.low, row.high) for row in frame.itertuples()]
    columns = {
        "First": "first",
        "Then": "second",
        "Accuracy, %": ("accuracy", "{:.2f}"),
        "Change, points": ("change", "{:+.2f}"),
        "Sum of its parts": ("sum_of_parts", "{:+.2f}"),
        "Beyond the sum (95 %)": "interval",
        "File, % of vanilla's": ("size_share", "{:.1f}"),
        "Product of its parts": ("size_product", "{:.1f}"),
        "CPU speed ratio": ("cpu_ratio", "{:.2f}"),
    }
    return table(frame.assign(interval=intervals), columns)


def impossible() -> pd.DataFrame:
    """The pairs that do not go together in their order, and why."""
    rows = [(pair.first, pair.second, pair.why_not) for pair in PAIRS if pair.why_not]
    return pd.DataFrame(rows, columns=["First", "Then", "Why not"])


# -- the Pareto front -----------------------------------------------------------------------------


def field(profile: str, which: int) -> pd.DataFrame:
    """Every measured cell of a data set but the teacher: `key`, `model`, `family`, `accuracy` in
    percent, `size_mib`, `pair`, and whether it is on the front (`front`); means over the seeds."""
    evidence, rows = Evidence(profile), []
    dataset = evidence.dataset(which)
    combined = {pair.key for pair in PAIRS if pair.key}
    for method in methods.available():
        accuracy = evidence.accuracy(dataset, method.key)
        if accuracy is not None and method.key != "teacher":
            size = evidence.mean(dataset, method.key, "size_mib")
            pair = method.key in combined
            rows.append((method.key, method.title, method.method, accuracy, size, pair))
    frame = pd.DataFrame(rows, columns=["key", "model", "family", "accuracy", "size_mib", "pair"])
    return frame.assign(front=on_front(frame["accuracy"], frame["size_mib"]))


def on_front(accuracy: pd.Series, size: pd.Series) -> list[bool]:
    """Whether no other is at least as accurate and at most as large, and better in one of them."""
    return pareto.front(size, accuracy).tolist()


def orders(frame: pd.DataFrame) -> pd.DataFrame:
    """The pairs that were measured in both orders, and by how much the orders differ, in points."""
    by_names = {(row.first, row.second): row for row in frame.itertuples()}
    rows = [
        {
            "Pair": f"{first} and {second}",
            "First first, %": by_names[first, second].accuracy,
            "Second first, %": by_names[second, first].accuracy,
            "Difference, points": by_names[first, second].accuracy
            - by_names[second, first].accuracy,
        }
        for first, second in itertools.combinations(SINGLES, 2)
        if (first, second) in by_names and (second, first) in by_names
    ]
    return pd.DataFrame(rows).round(2)


def findings(frame: pd.DataFrame, everything: pd.DataFrame) -> list[str]:
    """Sentences of what the pairs and the front come to; `pairs` and `field` of one data set."""
    if frame.empty:
        return ["- No pair is measured on this profile yet."]
    apart = frame[frame["p_holm"] < significance.LEVEL]
    worse, better = apart[apart["together"] < 0], apart[apart["together"] > 0]
    best = frame.loc[frame["accuracy"].idxmax()]
    smallest = frame.loc[frame["size_share"].idxmin()]
    lines = [
        f"- Of {len(frame)} pairs, {len(worse)} lose more than the sum of their parts and "
        f"{len(better)} less, significantly after Holm's correction over them"
        + (": " + _names(pd.concat([worse, better])) if len(worse) + len(better) else "")
        + ".",
        f"- The most accurate is {best['first']}, then {best['second']}: {best['accuracy']:.2f} % "
        f"({best['change']:+.2f} points from vanilla) at {best['size_share']:.1f} % of its file.",
        f"- The smallest is {smallest['first']}, then {smallest['second']}: "
        f"{smallest['size_share']:.1f} % of vanilla's file, {smallest['change']:+.2f} points.",
    ]
    if (timed := frame.dropna(subset="cpu_ratio")).size:
        fastest = timed.loc[timed["cpu_ratio"].idxmax()]
        lines.append(
            f"- The fastest on the CPU is {fastest['first']}, then {fastest['second']}: "
            f"{fastest['cpu_ratio']:.2f} times vanilla's images per second."
        )
    front = everything[everything["front"]]
    lines.append(
        f"- {int(front['pair'].sum())} of the {len(front)} models on the front over all "
        f"{len(everything)} are pairs."
    )
    return lines


def _names(frame: pd.DataFrame) -> str:
    return "; ".join(
        f"{row.first}, then {row.second} ({row.together:+.2f})" for row in frame.itertuples()
    )
