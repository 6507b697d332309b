"""Cells, each a profile, data set, method and seed: which there are, and where their files lie."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vitstudy import files, methods, profiles
from vitstudy.errors import UserError, unknown


@dataclass(frozen=True, order=True)
class Cell:
    """The unit of work: one method, computed on one data set of a profile from one seed."""

    profile: str
    dataset: str
    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.profile}/{self.dataset}/{self.method}/{self.seed_name}"

    @property
    def seed_name(self) -> str:
        """The last part of the cell's name, `seedK`."""
        return f"seed{self.seed}"

    @property
    def _place(self) -> Path:
        return Path(self.dataset) / self.method / self.seed_name

    @property
    def record_path(self) -> Path:
        """The JSON file of what was measured."""
        return files.results(self.profile) / "records" / self._place.with_suffix(".json")

    @property
    def predictions_path(self) -> Path:
        """The file of the five likeliest classes of every test image."""
        return self.record_path.with_suffix(".npz")

    @property
    def analysis_path(self) -> Path:
        """The file of the arrays that a notebook shows."""
        return files.results(self.profile) / "analysis" / self._place.with_suffix(".npz")

    @property
    def artifact_path(self) -> Path:
        """The file of the model."""
        return files.artifacts(self.profile) / self._place / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of an unfinished training, removed once the artifact is safe."""
        return files.artifacts(self.profile) / self._place / "checkpoints"

    def parents(self) -> list[Cell]:
        """List the cells that it starts from, and vanilla, against which flips are counted."""
        method = methods.get(self.method)
        parents, pretrained = method.parents, profiles.get(self.profile).architecture.timm_name
        if pretrained and method.parents_of_pretrained is not None:
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
    """List the cells of a profile, each after its parents.

    One seed of every method comes before the next seed, and further seeds of vanilla come last.

    left_out: add methods of tiers that the profile computes only by name.
    left_out_data: add data sets that it computes only by name.
    not_installed: add methods whose engine this machine lacks.
    """
    known = profiles.get(profile)
    left_out_names = () if left_out_data else known.leaves_out_data
    datasets = [name for name in known.datasets if name not in left_out_names]
    computed = methods.computed(methods.TIERS if left_out else known.tiers)
    by_seed = [
        Cell(profile, dataset, method.key, seed)
        for seed in known.seeds
        for dataset in datasets
        for method in _in_order()
        if method.key in computed and (not_installed or not methods.not_installed(method))
    ]
    more = [(seed, dataset) for seed in known.vanilla_seeds for dataset in datasets]
    return by_seed + [Cell(profile, dataset, "vanilla", seed) for seed, dataset in more]


@cache
def _in_order() -> tuple[methods.Method, ...]:
    """Sort the available methods so that each follows its parents, else in the papers' order."""
    ordered: dict[str, methods.Method] = {}

    def add(method: methods.Method) -> None:
        for parent in method.parents:
            add(methods.get(parent))
        ordered.setdefault(method.key, method)

    for method in methods.available():
        add(method)
    return tuple(ordered.values())


def select(patterns: list[str]) -> list[Cell]:
    """List the cells that match any of `patterns`, parents first.

    A pattern is `profile[/dataset[/method[/seedK]]]`, each part a glob.

    Cells whose engine is not installed are left out. Raises UserError where a part of a pattern
    matches nothing, naming what is valid, and where no engine of what it matches is installed.
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
    """List the methods that match `patterns` and lack their engine, each with the reason."""
    keys = {cell.method: None for pattern in patterns for cell in _matching_cells(pattern)}
    reasons = {key: methods.not_installed(methods.get(key)) for key in keys}
    return {key: reason for key, reason in reasons.items() if reason}


def _matching_cells(pattern: str) -> list[Cell]:
    """List the cells that match a pattern, also those whose engine is not installed."""
    parts = pattern.strip("/").split("/")
    if len(parts) > 4:
        raise UserError(f"{pattern!r} has more than the four parts of profile/dataset/method/seedK")
    parts += ["*"] * (4 - len(parts))
    names = _matching("profile", parts[0], profiles.PROFILES)
    data_named, method_named = (not set("*?[") & set(part) for part in parts[1:3])
    named = {"left_out": method_named, "left_out_data": data_named, "not_installed": True}
    chosen = [cell for name in names for cell in cells(name, **named)]
    # Each part is looked for among what the parts before it leave.
    for kind, field, part in (
        ("data set", "dataset", parts[1]),
        ("method", "method", parts[2]),
        ("seed", "seed_name", parts[3]),
    ):
        valid = dict.fromkeys(getattr(cell, field) for cell in chosen)
        names = _matching(kind, part, valid)
        chosen = [cell for cell in chosen if getattr(cell, field) in names]
    return chosen


def _matching(kind: str, pattern: str, names: Iterable[str]) -> list[str]:
    matching = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not matching:
        raise unknown(kind, pattern, names)
    return matching
