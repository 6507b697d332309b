"""Where things lie, and how a file is written: whole, or not at all."""

import contextlib
import csv
import hashlib
import io
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from vitstudy.errors import UserError

SOURCE = Path(__file__).resolve().parent
"""The package's own folder."""
REPOSITORY = SOURCE.parent
"""The folder of the notebooks, pages and pinned versions, if the package lies in it."""


def in_repository() -> bool:
    """Tell whether the package lies in the study's repository, not among installed packages."""
    return (REPOSITORY / "Snakefile").is_file() and (REPOSITORY / "notebooks").is_dir()


def repository() -> Path:
    """Return the repository; raise UserError where the package is installed without it."""
    if not in_repository():
        raise UserError(
            "this needs the study's repository, its notebooks and pages, and vitstudy is installed "
            "without it: clone the repository and run ./run_all.sh there"
        )
    return REPOSITORY


def root() -> Path:
    """Return the folder below which results, artifacts, figures and the site lie.

    That is `$VITSTUDY_HOME`, else the repository, else, for a package that is installed without
    it, the current folder.
    """
    return _root(os.environ.get("VITSTUDY_HOME"), os.getcwd(), REPOSITORY)


@lru_cache(maxsize=64)  # asked for every path: resolving it each time cost notebooks seconds
def _root(home: str | None, working: str, repository: Path) -> Path:
    return Path(home or (repository if in_repository() else working)).resolve()


def results(profile: str) -> Path:
    """Return the folder of the profile's records, predictions, tables and timings."""
    return root() / "results" / profile


def artifacts(profile: str) -> Path:
    """Return the folder of the profile's model files."""
    return root() / "artifacts" / profile


def figures(profile: str) -> Path:
    """Return the folder of the profile's figures."""
    return root() / "figures" / profile


def write(path: Path, content: bytes | str) -> None:
    """Write `content` to `path` by rename: a reader sees the old file or the new one, never half.

    The rename comes after an fsync, so a power cut cannot leave an empty file under the name. A
    write that fails (a full disk) leaves nothing behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()


def forget_partial(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` left.

    The caller must be the only one that writes `path`.
    """
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value by rename; raise ValueError for NaN and Infinity, which JSON lacks."""
    write(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write `rows` with `columns` in that order; None becomes an empty cell."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())


def read_json(path: Path) -> dict[str, Any] | None:
    """Read the JSON object in `path`; None where it is absent or damaged.

    NaN and Infinity are not JSON: a file that has them is damaged.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_no_number)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
