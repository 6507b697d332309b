"""Whether the papers' claims hold, by their own tables and by what was measured on a profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pandas as pd

from vitstudy import conditions, files, profiles
from vitstudy.conditions import ABOUT, Value, jointly, judge
from vitstudy.profiles import Profile
from vitstudy.report.claims import BOUNDS, CLAIMS, Claim
from vitstudy.report.conditions import Condition
from vitstudy.report.measured import SHAPE, TRAINED, Measured, Read, Unmeasured

VERDICTS = HOLDS, CONSTRUCTED, PARTLY, UNTOLD, FAILS, OPEN = conditions.VERDICTS
ILLUSTRATES = "illustrates only"
"""The verdict wherever the profile's data are not the papers'."""
WITHIN_CHANCE = "within chance"
OTHER_SCALE = "another scale, which decides no number"

COLUMNS = [
    *("id", "papers", "section", "claim", "read_as", "own_tables", "own_verdict"),
    *("profile", "standing", "measured", "scale", "finding", "verdict", "note"),
]
LISTED = 6
"""So many numbers of a table are all written out; of more, the count and those that speak against
the claim."""


def standing(profile: Profile) -> str:
    """What the profile's measurements are worth as a check of the papers."""
    if profile.datasets != profiles.CIFAR:
        return "illustration: other data than the papers'"
    if profile.architecture.timm_name:
        return "the papers' own setting"
    return "the papers' data, another network"


def claims(profile: str, listed: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """A row a claim, COLUMNS: what it says, by its own tables, as measured, and the verdict.

    `scale` says of which networks the measured numbers are. `finding` is what they say; it is the
    verdict too where the profile's data are the papers', CIFAR, or where no number depends on data.
    Raises UserError for an unknown profile.
    """
    known, measured = profiles.get(profile), Measured(profile)
    rows = []
    for claim in listed:
        own, own_verdict, _ = _side(
            claim, lambda condition, which: condition.printed(which), _told_at_home
        )
        numbered: list[Condition] = []

        def tell(condition: Condition, value: Value, numbered: list = numbered) -> Told:
            numbered.append(condition)
            return _told(condition, value, measured)

        found, finding, reasons = _side(
            claim, lambda condition, which: condition.measured(measured, which), tell
        )
        if finding == HOLDS and claim.construction:
            finding, reasons = CONSTRUCTED, [claim.construction, *reasons]
        shapes = claim.conditions and all(each.of == SHAPE for each in claim.conditions)
        is_evidence = known.datasets == profiles.CIFAR or finding == OPEN or shapes
        rows.append(
            {
                "id": claim.id,
                "papers": claim.papers,
                "section": claim.section,
                "claim": claim.says,
                "read_as": _reading(claim),
                "own_tables": own,
                "own_verdict": own_verdict,
                "profile": profile,
                "standing": standing(known),
                "measured": found,
                "scale": _scales(numbered, measured),
                "finding": finding,
                "verdict": finding if is_evidence else ILLUSTRATES,
                "note": "; ".join(filter(None, (claim.note, *reasons))),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _reading(claim: Claim) -> str:
    """The claim's conditions in words."""
    if not claim.conditions:
        return ""
    which = " and ".join(map(str, claim.tables))
    alike: dict[tuple, list[Condition]] = {}
    for condition in claim.conditions:
        alike.setdefault((condition.what, condition.region), []).append(condition)
    wanted = "; ".join(
        group[0].wanted([condition.key for condition in group]) for group in alike.values()
    )
    need = "" if claim.need == "all" else f"{claim.need} of: "
    return f"{need}{wanted} (Table{'s' if len(claim.tables) > 1 else ''} {which})"


Told = tuple[bool | None, str]
"""What a number says of its condition, and that in words."""


def _told_at_home(condition: Condition, value: Value) -> Told:
    """What a number says of a condition on the very network that it is of."""
    holds = condition.region.holds(value)
    return holds, {True: "met", False: "not met", None: WITHIN_CHANCE}[holds]


def _told(condition: Condition, value: Value, measured: Measured) -> Told:
    """What a measured number says of a condition on the papers' network."""
    holds, words = _told_at_home(condition, value)
    if condition.of != TRAINED or measured.own:
        return holds, words
    there = conditions.elsewhere(condition.region, holds)
    return there, words if there is holds else f"{words} ({OTHER_SCALE})"


def _scales(numbered: list[Condition], measured: Measured) -> str:
    """Of which networks the numbers of these conditions are, each with what is read there."""
    places: dict[str, list[str]] = {}
    for condition in numbered:
        if place := measured.scale(condition.of):
            places.setdefault(place, []).append(condition.what.partition(",")[0].split(" of {")[0])
    parts = [f"{place}: {', '.join(dict.fromkeys(what))}" for place, what in places.items()]
    return "; ".join(parts)


def _side(
    claim: Claim,
    read: Callable[[Condition, int], Read],
    tell: Callable[[Condition, Value], Told],
) -> tuple[str, str, list[str]]:
    """The claim's numbers on one side as text, the verdict, and the reasons for those missing.

    A number that could be measured, and is not yet, leaves its condition open; one that cannot be
    had (a simulated model's speed, a device that is not there) is no condition of the verdict.
    """
    met: list[bool | None] = []
    parts: list[str] = []
    reasons: dict[str, list[int]] = {}
    for which in claim.tables:
        texts: list[str] = []
        against: list[str] = []
        counted: dict[str | int, list[bool | None]] = {}  # those that are one, by their name
        for place, condition in enumerate(claim.conditions):
            found, one = read(condition, which), condition.joint or place
            if isinstance(found, str):
                reasons.setdefault(found, []).append(which)
                if isinstance(found, Unmeasured):
                    counted.setdefault(one, []).append(None)
                continue
            holds, said = tell(condition, found)
            text = f"{condition.label} {condition.write(found)}: {said}"
            counted.setdefault(one, []).append(holds)
            texts.append(text)
            against += [] if holds else [text]
        here = [jointly(holds) for holds in counted.values()]
        if len(texts) > LISTED:
            rest = f"; {'; '.join(against)}" if against else ""
            texts = [f"{here.count(True)} of {len(here)} met{rest}"]
        if texts:
            parts.append(f"Table {which}: {'; '.join(texts)}")
        met += here
    return " | ".join(parts), judge(met, claim.need), _reasons(reasons, claim.tables)


def _reasons(found: dict[str, list[int]], tables: tuple[int, ...]) -> list[str]:
    """Each reason once, with the table where it is not true of all; rows alike together."""
    together: dict[str, list[str]] = {}
    for reason, where in found.items():
        row, ending, _ = reason.rpartition(" not measured")
        suffix = "" if len(set(where)) == len(tables) else f" (Table {where[0]})"
        together.setdefault(f"not measured{suffix}" if ending else f"{reason}{suffix}", [])
        if ending:
            together[f"not measured{suffix}"].append(row)
    return [f"{said}: {', '.join(rows)}" if rows else said for said, rows in together.items()]


def write(profile: str) -> pd.DataFrame:
    """Write `results/<profile>/tables/claims.csv`; its rows."""
    frame = claims(profile)
    path = files.results(profile) / "tables" / "claims.csv"
    files.write_csv(path, COLUMNS, frame.to_dict("records"))
    return frame


# -- to be read -----------------------------------------------------------------------------------


def rules() -> str:
    """How numbers, and words without one, are read."""
    return (
        f"A number counts as met within {ABOUT:.0%} of it (`almost`, `nearly` and `about` too); a "
        f"minor or almost no loss is at most {BOUNDS['little']:g} point, an acceptable one at most "
        f"{BOUNDS['acceptable']:g}, a larger one significant; a substantial reduction leaves at "
        f"most {BOUNDS['shrunk']:.0%}; a small share is at most {BOUNDS['small_share']:.0%}; of "
        "low rank is a matrix of which a quarter of the rank leaves out at most "
        f"{BOUNDS['low_rank']:.0%}. A measured difference of accuracy has to lie in the claim's "
        "range with its whole 95 % interval, and so has a measured speed; else it is within "
        "chance. Sizes, counts and speeds are judged at the papers' ViT-B/16, whose weights are "
        "random here. An accuracy of another network decides an ordering there as here and may "
        "bear a bound out; it refutes no number. A claim holds partly where some of its conditions "
        "fail, or where those that can be told are met and others cannot be told."
    )


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """`claims` under headings for a reader."""
    heading = "Verdict" if (frame["verdict"] != ILLUSTRATES).all() else "What this profile shows"
    return pd.DataFrame(
        {
            "Papers": frame["papers"].str.replace(" ", ", ") + ": " + frame["section"],
            "Claim": frame["claim"],
            "Their own tables": frame["own_tables"].str.replace(" | ", "; "),
            "By their own tables": frame["own_verdict"],
            "Measured": frame["measured"].str.replace(" | ", "; "),
            "Of": frame["scale"],
            heading: frame["finding"],
            "Note": frame["note"],
        }
    )


def three(found: Mapping[str, int]) -> tuple[int, int, int]:
    """Of counts by verdict: how many claims hold, hold partly (either way), and do not hold."""
    groups = (HOLDS, CONSTRUCTED), (PARTLY, UNTOLD), (FAILS,)
    return tuple(sum(int(found.get(each, 0)) for each in group) for group in groups)


def counts(frame: pd.DataFrame) -> pd.DataFrame:
    """How many claims get each verdict, by the papers' own tables and as measured."""
    own, found = Counter(frame["own_verdict"]), Counter(frame["finding"])
    return pd.DataFrame(
        {
            "verdict": VERDICTS,
            "by their own tables": [own[verdict] for verdict in VERDICTS],
            "as measured here": [found[verdict] for verdict in VERDICTS],
        }
    )
