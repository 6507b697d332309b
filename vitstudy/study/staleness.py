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

import numpy as np

from vitstudy import data, files, methods, profiles
from vitstudy.record import SCHEMA, Record, problem
from vitstudy.study.cell import Cell

OTHER_PREDICTIONS = "its predictions file is damaged"
PACKAGE = "vitstudy"

GROUND = ("context", "training", "measure", "statistics")
"""The modules that every cell is made and measured with, besides its own method's."""
RESOLVED = {"profiles", "methods", "configs", "record", "cli", "errors", "files", "__init__"}
"""Modules whose code is left out, as is the folder `study`: the profile's values and the method's
options enter the fingerprint as they are, so that a new row leaves the others' cells alone."""
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "safetensors", "scikit-learn")


# -- code -----------------------------------------------------------------------------------------


class _Meaning(ast.NodeTransformer):
    """Takes imports and docstrings out of a syntax tree.

    `imports` is then what was imported, a module of the package by its own name alone, since it
    computes nothing in which folder it lies; `modules` are the names that may be modules.
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

    visit_Name = visit_Attribute = visit_Constant  # nothing to be taken out is below these

    def generic_visit(self, node: ast.AST) -> ast.AST:
        node = super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # nothing but a docstring was in it
        return node


@cache
def _meaning(path: Path) -> tuple[str, frozenset[Path]]:
    """Of a Python file: SHA-256 of what it computes, and the package's own files it imports."""
    meaning = _Meaning()
    tree = meaning.visit(ast.parse(path.read_bytes()))
    text = "\n".join([*sorted(meaning.imports), ast.unparse(tree)])
    ours = (_path(name) for name in meaning.modules if name.startswith(f"{PACKAGE}."))
    imports = frozenset(path for path in ours if path.is_file())
    return hashlib.sha256(text.encode()).hexdigest(), imports


def digest(path: Path) -> str:
    """SHA-256 of what the Python file in `path` computes.

    Comments, docstrings, layout, the order of imports and the folders of the package's own modules
    do not count.
    """
    return _meaning(path)[0]


def _module(value: object) -> str:
    """The package's module that an option or a file's header names, as `module` or `module:Class`;
    empty for any other value."""
    is_name = isinstance(value, str) and value.startswith(f"{PACKAGE}.")
    return value.partition(":")[0] if is_name else ""


def _path(module: str) -> Path:
    """The file of the package's module `module`; it need not exist."""
    return files.SOURCE.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def _digests(*modules: str) -> dict[str, str]:
    """By file, below the package's folder, the digest of `modules` and of all that they import."""
    waiting = [_path(f"{PACKAGE}.{name}") for name in GROUND] + [_path(name) for name in modules]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in seen and path.stem not in RESOLVED and path.parent.name != "study":
            seen.add(path)
            waiting += _meaning(path)[1]
    return {str(path.relative_to(files.SOURCE)): digest(path) for path in sorted(seen)}


def sources(cell: Cell) -> dict[str, str]:
    """By file, the digest of the package's code that the cell is made, kept and measured by.

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
def _builders(artifact: Path, state: tuple | None) -> tuple[str, ...]:
    """The package's modules that build the model in a file: its packer and changes of structure.

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
        modules = {_module(value) for each in named for value in each.values()}
        return tuple(name for name in modules if name and _path(name).is_file())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return ()


# -- fingerprints ---------------------------------------------------------------------------------


@cache
def versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def made_with(cell: Cell) -> dict[str, str]:
    """Of what the cell is made with, its engine included."""
    found = dict(versions())
    for name in methods.get(cell.method).requires:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def options(cell: Cell) -> dict:
    method, profile = methods.get(cell.method), profiles.get(cell.profile)
    return {**method.options, **profile.describe(cell.dataset, method.reads)}


def fingerprint(
    cell: Cell,
    parents: dict[str, str],
    versions: dict[str, str] | None = None,
    code: dict[str, str] | None = None,
) -> str:
    """What a cell's result depends on, as one hash.

    parents: SHA-256 of its parents' artifacts, by method. versions: those of the packages, as a
    record has them; by default those of this machine. code: digests by file, by default `sources`.
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


def _named(value):
    """An option's value; for the name of one of the package's modules the digest of its code."""
    module = _module(value)
    return [digest(_path(module)), value.partition(":")[2]] if module else value


def read(cell: Cell) -> Record | None:
    """The cell's record as it lies there, up to date or not; None where there is no sound one."""
    return _examined(cell)[0]


def damage(cell: Cell) -> str:
    """What is wrong with the cell's record; empty where it is sound or absent.

    It is held against its schema, its place, its predictions and the length of its artifact, where
    those are at hand: a record that somebody edited is none.
    """
    return _examined(cell)[1]


def _examined(cell: Cell) -> tuple[Record | None, str]:
    paths = (cell.record_path, cell.predictions_path, cell.artifact_path)
    return _examine(cell, tuple(map(_state, paths)), *paths)


def _state(path: Path) -> tuple[int, int, int] | None:
    """What tells a file from one that was written in its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@lru_cache(maxsize=4_096)
def _examine(
    cell: Cell, states: tuple, path: Path, predictions: Path, artifact: Path
) -> tuple[Record | None, str]:
    """A record and what is wrong with it, kept while its files are as `states` has them."""
    if states[0] is None:
        return None, ""
    value = files.read_json(path)
    if value is None:
        return None, "it is no whole JSON object"
    if found := problem(value):
        return None, found
    record = Record(**value)
    for name in ("profile", "dataset", "method", "seed"):
        if getattr(record, name) != getattr(cell, name):
            return None, f"its {name} is {getattr(record, name)!r}, where {cell} lies"
    if record.status != "done":
        return record, ""
    if states[1] is not None:
        if files.sha256(predictions) != record.predictions_sha256:
            return None, OTHER_PREDICTIONS
        with np.load(predictions, allow_pickle=False) as kept:
            right = kept["classes"][:, 0] == kept["labels"]
        counted = {"accuracy": float(right.mean()), "test_images": len(right)}
        for name, number in counted.items():
            if getattr(record, name) != number:
                return None, f"{name} is {getattr(record, name)}, its predictions give {number}"
    # An artifact of another hash is damaged or older: that is for `why_not` to say.
    if states[2] is not None and states[2][1] != record.size_bytes:
        if files.sha256(artifact) == record.artifact_sha256:
            return None, f"size_bytes is {record.size_bytes}, its artifact has {states[2][1]}"
    return record, ""


def is_done(cell: Cell) -> bool:
    """Whether there is a whole record of a success, made from the parents' artifacts as recorded.

    It may have been made by other sources: that is what `run --missing` asks.
    """
    record = read(cell)
    if record is None or record.status != "done":
        return False
    parents = {parent.method: read(parent) for parent in cell.parents()}
    return all(
        found is not None and found.artifact_sha256 == record.parents.get(key)
        for key, found in parents.items()
    )


def why_not(cell: Cell) -> str | None:
    """Why the cell has to be computed; None for a hit."""
    if not cell.record_path.exists():
        return "not measured yet"
    record = read(cell)
    if record is None:
        wrong = damage(cell)
        return wrong if wrong == OTHER_PREDICTIONS else f"its record is damaged: {wrong}"
    if record.status != "done":
        return f"it failed before: {record.error}"
    parents = {}
    for parent in cell.parents():
        if reason := why_not(parent):
            return f"{parent.method}: {reason}"
        parents[parent.method] = read(parent).artifact_sha256
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
