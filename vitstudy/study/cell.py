"""Cells: profile, data set, method and seed; which of them there are, and where their files lie."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitstudy import files, methods, profiles
from vitstudy.errors import UserError, unknown


@dataclass(frozen=True, order=True)
class Cell:
    profile: str
    dataset: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.profile}/{self.dataset}/{self.method}/{self.seed_name}"

    @property
    def seed_name(self) -> str:
        return f"seed{self.seed}"

    @property
    def _place(self) -> Path:
        return Path(self.dataset) / self.method / self.seed_name

    @property
    def record_path(self) -> Path:
        return files.results(self.profile) / "records" / self._place.with_suffix(".json")

    @property
    def predictions_path(self) -> Path:
        return self.record_path.with_suffix(".npz")

    @property
    def analysis_path(self) -> Path:
        return files.results(self.profile) / "analysis" / self._place.with_suffix(".npz")

    @property
    def artifact_path(self) -> Path:
        return files.artifacts(self.profile) / self._place / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        return files.artifacts(self.profile) / self._place / "checkpoints"

    def parents(self) -> list[Cell]:
        """What it starts from; and vanilla always, since flips are counted against it."""
        method, parents = methods.get(self.method), methods.get(self.method).parents
        if profiles.get(self.profile).architecture.timm_name:
            if method.parents_of_pretrained is not None:
                parents = method.parents_of_pretrained
        keys = dict.fromkeys((*parents, "vanilla"))
        keys.pop(self.method, None)
        return [Cell(self.profile, self.dataset, key, self.seed) for key in keys]


def cells(
    profile: str,
    *,
    left_out: bool = False,
    left_out_data: bool = False,
    not_installed: bool = False,
) -> list[Cell]:
    """Every cell of a profile, each after its parents; one seed of every row before the next, and
    further seeds of vanilla last.

    With `left_out` also the methods of tiers that the profile computes only by name, with
    `left_out_data` such data sets, with `not_installed` those whose engine this machine lacks.
    """
    known = profiles.get(profile)
    left_out_names = () if left_out_data else known.leaves_out_data
    datasets = [name for name in known.datasets if name not in left_out_names]
    computed = methods.computed(methods.TIERS if left_out else known.tiers)
    found = [
        Cell(profile, dataset, method.key, seed)
        for seed in known.seeds
        for dataset in datasets
        for method in _in_order()
        if method.key in computed and (not_installed or not methods.not_installed(method))
    ]
    more = [(seed, dataset) for seed in known.vanilla_seeds for dataset in datasets]
    return found + [Cell(profile, dataset, "vanilla", seed) for seed, dataset in more]


@cache
def _in_order() -> tuple[methods.Method, ...]:
    """The available methods, each after its parents, else in the papers' order."""
    ordered: dict[str, methods.Method] = {}

    def add(method: methods.Method) -> None:
        for parent in method.parents:
            add(methods.get(parent))
        ordered.setdefault(method.key, method)

    for method in methods.available():
        add(method)
    return tuple(ordered.values())


def select(patterns: list[str]) -> list[Cell]:
    """The cells that match any of `patterns`, each `profile[/dataset[/method[/seedK]]]`, globs
    allowed, in an order in which parents come first.

    Those whose engine is not installed are left out. Raises UserError where a part of a pattern
    matches nothing, naming what is valid, and where nothing is left of what it matches.
    """
    chosen: dict[Cell, None] = {}
    for pattern in patterns:
        matching = _matching_cells(pattern)
        here = [cell for cell in matching if not methods.not_installed(methods.get(cell.method))]
        if not here:
            check_installed(matching[0])
        chosen |= dict.fromkeys(here)
    return list(chosen)


def check_installed(cell: Cell) -> None:
    """Raise UserError where this machine lacks the engine that the cell's method needs."""
    method = methods.get(cell.method)
    if reason := methods.not_installed(method):
        wanted = " ".join(method.requires)
        raise UserError(f"{cell} is not run: {reason}; pip install -c requirements.lock {wanted}")


def not_run(patterns: list[str]) -> dict[str, str]:
    """The methods that `patterns` take in but for their engines, each with the reason."""
    keys = {cell.method: None for pattern in patterns for cell in _matching_cells(pattern)}
    reasons = {key: methods.not_installed(methods.get(key)) for key in keys}
    return {key: reason for key, reason in reasons.items() if reason}


def _matching_cells(pattern: str) -> list[Cell]:
    """The cells that match a pattern, those whose engine is not installed included."""
    parts = pattern.strip("/").split("/")
    if len(parts) > 4:
        raise UserError(f"{pattern!r} has more than the four parts of profile/dataset/method/seedK")
    parts += ["*"] * (4 - len(parts))
    names = _matching("profile", parts[0], profiles.PROFILES)
    data_named, method_named = (not set("*?[") & set(part) for part in parts[1:3])
    given = {"left_out": method_named, "left_out_data": data_named, "not_installed": True}
    found = [cell for name in names for cell in cells(name, **given)]
    # Each part is looked for among what the parts before it leave.
    for kind, field, part in (
        ("data set", "dataset", parts[1]),
        ("method", "method", parts[2]),
        ("seed", "seed_name", parts[3]),
    ):
        valid = dict.fromkeys(getattr(cell, field) for cell in found)
        names = _matching(kind, part, valid)
        found = [cell for cell in found if getattr(cell, field) in names]
    return found


def _matching(kind: str, pattern: str, names) -> list[str]:
    found = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        raise unknown(kind, pattern, names)
    return found
