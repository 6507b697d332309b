"""Whether a cell is up to date: its record, its files and its fingerprint.

A cell is a *hit* when its record, the files whose hashes the record names, and its fingerprint
(options, data, versions, the code that made it, its parents' artifacts) are all as they were.

Of the package's code the fingerprint takes what computes: each file's syntax tree, without
comments, docstrings, layout, and the folders in which the package's own modules lie. Tidying and
moving a file therefore leaves every cell up to date.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import struct
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from vitstudy import data, files, methods, profiles
from vitstudy.errors import UserError
from vitstudy.record import SCHEMA, Record, problem
from vitstudy.study.cell import Cell

DAMAGED_PREDICTIONS = "its predictions file is damaged"
PACKAGE = "vitstudy"

GROUND = ("context", "training", "measure", "statistics")
"""The modules that every cell is made and measured with, besides its own method's."""
RESOLVED = {"profiles", "methods", "configs", "record", "cli", "errors", "files", "__init__"}
"""Modules whose code is left out, as is the folder `study`.

The profile's values and the method's options enter the fingerprint as they are, so that a new
method leaves the cells of the others alone.
"""
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "safetensors", "scikit-learn")


# -- code -----------------------------------------------------------------------------------------


class _Meaning(ast.NodeTransformer):
    """Takes imports and docstrings out of a syntax tree.

    `imports` is then what was imported. A module of the package has only its own name there, since
    the folder that it lies in computes nothing. `modules` are the names that may be modules.
    """

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self.modules: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self.modules |= {alias.name for alias in node.names}
        self.imports |= {f"{alias.name} as {alias.asname}" for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        self.modules |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        if module.partition(".")[0] == PACKAGE:
            module = "" if _path(module).with_suffix("").is_dir() else module.rpartition(".")[2]
        self.imports |= {f"{module}.{alias.name} as {alias.asname}" for alias in node.names}

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        value = node.value
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        return None if is_text else node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return node

    # Nothing to be taken out is below a name or an attribute either.
    def visit_Name(self, node: ast.Name) -> ast.Name:
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            vars(node)["body"] = [ast.Pass()]  # a docstring was all that it had
        return node


@cache
def _meaning(path: Path) -> tuple[str, frozenset[Path]]:
    """Return SHA-256 of what a Python file computes, and the package's own files it imports."""
    meaning = _Meaning()
    tree = meaning.visit(ast.parse(path.read_bytes()))
    text = "\n".join([*sorted(meaning.imports), ast.unparse(tree)])
    ours = (_path(name) for name in meaning.modules if name.startswith(f"{PACKAGE}."))
    imports = frozenset(path for path in ours if path.is_file())
    return hashlib.sha256(text.encode()).hexdigest(), imports


def digest(path: Path) -> str:
    """Return SHA-256 of what the Python file in `path` computes.

    Comments, docstrings, layout, the order of imports and the folders of the package's own modules
    do not count.
    """
    return _meaning(path)[0]


def _module(value: object) -> str:
    """Return the package's module that a value names; empty where it names none.

    value: an option or an entry of a file's header; a name is `module` or `module:Class`.
    """
    if isinstance(value, str) and value.startswith(f"{PACKAGE}."):
        return value.partition(":")[0]
    return ""


def _path(module: str) -> Path:
    """Return the path of the package's module `module`; the file need not exist."""
    return files.SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def _digests(*modules: str) -> dict[str, str]:
    """Return, by file below the package's folder, the digests of `modules` and all they import."""
    waiting = [_path(f"{PACKAGE}.{name}") for name in GROUND] + [_path(name) for name in modules]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen and path.stem not in RESOLVED and path.parent.name != "study":
            seen.add(path)
            waiting += _meaning(path)[1]
    return {str(path.relative_to(files.SOURCE)): digest(path) for path in sorted(seen)}


def sources(cell: Cell) -> dict[str, str]:
    """Return, by file, the digests of the code that makes, keeps and measures the cell.

    That is its method's module and packer, what its options name (a method that is applied under
    another), and what builds the models that it starts from: the packer and the changes of
    structure that their files name.
    """
    method = methods.get(cell.method)
    modules = {method.module, method.packer, *map(_module, method.options.values())} - {""}
    for parent in cell.parents():
        modules |= set(_builders(parent.artifact_path, _state(parent.artifact_path)))
    return _digests(*sorted(modules))


@lru_cache(maxsize=4_096)
def _builders(artifact: Path, state: tuple[int, ...] | None) -> tuple[str, ...]:
    """List the package's modules that build the model in a file: its packer and its changes.

    There are none where there is no whole file: a cell that starts from it is no hit then.
    """
    if state is None:
        return ()
    try:
        with open(artifact, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, 100_000_000)))
        described = json.loads(header["__metadata__"]["vitstudy"])
        named = [described, *described.get("changes", [])]
        modules = {_module(value) for entry in named for value in entry.values()}
        return tuple(name for name in modules if name and _path(name).is_file())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return ()


# -- fingerprints ---------------------------------------------------------------------------------


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that every cell computes with."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def made_with(cell: Cell) -> dict[str, str]:
    """Return the versions of all that the cell is made with, its engine included."""
    by_package = dict(versions())
    for name in methods.get(cell.method).requires:
        try:
            by_package[name] = version(name)
        except PackageNotFoundError:
            by_package[name] = "not installed"
    return by_package


def options(cell: Cell) -> dict[str, Any]:
    """Return every option of the cell: its method's, and its profile's values."""
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    return {**method.options, **profile.describe(cell.dataset, method.reads)}


def fingerprint(
    cell: Cell,
    parents: dict[str, str],
    versions: dict[str, str] | None = None,
    code: dict[str, str] | None = None,
) -> str:
    """Hash all that a cell's result depends on.

    parents: SHA-256 of its parents' artifacts, by method.
    versions: the packages' versions, as a record has them; by default this machine's.
    code: digests by file; by default `sources`.
    """
    method, versions = methods.get(cell.method), versions or made_with(cell)
    python = ".".join(versions["python"].split(".")[:2])
    parts = [
        SCHEMA,
        str(cell),
        {name: _named(value) for name, value in options(cell).items()},
        [_named(method.module), _named(method.packer), method.parents, method.device],
        [method.weight_bits, method.activation_bits, method.simulated],
        data.dataset_hash(cell.dataset),
        {**versions, "python": python},
        sorted((code or sources(cell)).values()),
        parents,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _named(value: Any) -> Any:
    """Replace the name of one of the package's modules by the digest of its code."""
    module = _module(value)
    return [digest(_path(module)), value.partition(":")[2]] if module else value


def read(cell: Cell) -> Record | None:
    """Read the cell's record, up to date or not; None where there is no sound one."""
    return _examined(cell)[0]


def recorded(cell: Cell) -> Record:
    """Read the cell's record; raise UserError where there is no sound one."""
    record = read(cell)
    if record is None:
        raise UserError(f"{cell} has no sound record: {damage(cell) or 'not measured yet'}")
    return record


def artifact_hash(cell: Cell) -> str:
    """Return SHA-256 of the cell's artifact by its record; empty where that names none."""
    record = read(cell)
    return (record.artifact_sha256 or "") if record else ""


def damage(cell: Cell) -> str:
    """Say what is wrong with the cell's record; empty where it is sound or absent.

    It is held against its schema, its place, its predictions and the length of its artifact, where
    those are at hand: a record that somebody edited does not count.
    """
    return _examined(cell)[1]


def _examined(cell: Cell) -> tuple[Record | None, str]:
    paths = (cell.record_path, cell.predictions_path, cell.artifact_path)
    return _examine(cell, tuple(map(_state, paths)), *paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from one that replaces it; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=4_096)
def _examine(
    cell: Cell,
    states: tuple[tuple[int, int, int] | None, ...],
    path: Path,
    predictions: Path,
    artifact: Path,
) -> tuple[Record | None, str]:
    """Read a record and say what is wrong with it; kept while its files are as in `states`."""
    if states[0] is None:
        return None, ""
    value = files.read_json(path)
    if value is None:
        return None, "it is no whole JSON object"
    if reason := problem(value):
        return None, reason
    record = Record(**value)
    for name in ("profile", "dataset", "method", "seed"):
        if getattr(record, name) != getattr(cell, name):
            return None, f"its {name} is {getattr(record, name)!r}, where {cell} lies"
    if record.status != "done":
        return record, ""
    if states[1] is not None:
        if files.sha256(predictions) != record.predictions_sha256:
            return None, DAMAGED_PREDICTIONS
        with np.load(predictions, allow_pickle=False) as kept:
            right = kept["classes"][:, 0] == kept["labels"]
        counted = {"accuracy": float(right.mean()), "test_images": len(right)}
        for name, number in counted.items():
            if getattr(record, name) != number:
                return None, f"{name} is {getattr(record, name)}, its predictions give {number}"
    # An artifact of another hash is damaged or older: that is for `why_not` to say.
    size = states[2][1] if states[2] else record.size_bytes
    if size != record.size_bytes and files.sha256(artifact) == record.artifact_sha256:
        return None, f"size_bytes is {record.size_bytes}, its artifact has {size}"
    return record, ""


def is_done(cell: Cell) -> bool:
    """Tell whether the cell succeeded and started from what its parents' records name.

    The code may have been another: this is the question of `run --missing`.
    """
    record = read(cell)
    if record is None or record.status != "done":
        return False
    return all(
        artifact_hash(parent) == record.parents.get(parent.method) for parent in cell.parents()
    )


def why_not(cell: Cell) -> str | None:
    """Say why the cell has to be computed; None for a hit."""
    if not cell.record_path.exists():
        return "not measured yet"
    record = read(cell)
    if record is None:
        wrong = damage(cell)
        return wrong if wrong == DAMAGED_PREDICTIONS else f"its record is damaged: {wrong}"
    if record.status != "done":
        return f"it failed before: {record.error}"
    parents = {}
    for parent in cell.parents():
        if reason := why_not(parent):
            return f"{parent.method}: {reason}"
        parents[parent.method] = artifact_hash(parent)
    if record.fingerprint != fingerprint(cell, parents):
        return _what_changed(cell, record, parents)
    kept = {
        "artifact": (cell.artifact_path, record.artifact_sha256),
        "predictions file": (cell.predictions_path, record.predictions_sha256),
        "analysis file": (cell.analysis_path, record.analysis_sha256),
    }
    for kind, (path, digest) in kept.items():
        if digest and not path.exists():
            return f"its {kind} is absent"
        if digest and files.sha256(path) != digest:
            return f"its {kind} is damaged"
    return None


def _what_changed(cell: Cell, record: Record, parents: dict[str, str]) -> str:
    """Say what differs between the cell and what its record was made with."""
    before, now = record.sources or {}, sources(cell)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        return f"{', '.join(changed)} changed"
    if record.dataset_hash != data.dataset_hash(cell.dataset):
        return "the data changed"
    if record.parents != parents:
        return f"{', '.join(record.parents) or 'what it starts from'} changed"
    before, now = record.versions or {}, made_with(cell)
    moved = [name for name in now if before.get(name) != now[name] and name != "python"]
    return f"{', '.join(moved)} changed" if moved else "its options changed"
