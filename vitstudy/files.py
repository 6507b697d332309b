"""Where things lie, and how a file is written: whole, or not at all."""

import contextlib
import csv
import hashlib
import io
import json
import os
from functools import lru_cache
from pathlib import Path

from vitstudy.errors import UserError

SOURCE = Path(__file__).resolve().parent
"""The package's own folder."""
REPOSITORY = SOURCE.parent
"""Where the notebooks, the site's pages and the pinned versions are, if the package lies there."""


def in_repository() -> bool:
    """Whether the package lies in the study's repository, and not among installed packages."""
    return (REPOSITORY / "Snakefile").is_file() and (REPOSITORY / "notebooks").is_dir()


def repository() -> Path:
    """The repository; raises UserError where the package is installed without it."""
    if not in_repository():
        raise UserError(
            "this needs the study's repository, its notebooks and pages, and vitstudy is installed "
            "without it: clone the repository and run ./run_all.sh there"
        )
    return REPOSITORY


def root() -> Path:
    """The folder below which results, artifacts, figures and the site lie.

    `$VITSTUDY_HOME`, else the repository; of a package that is installed without it, the folder in
    which it is used.
    """
    return _root(os.environ.get("VITSTUDY_HOME"), os.getcwd(), REPOSITORY)


@lru_cache(maxsize=64)  # asked for every path: resolving it each time cost notebooks seconds
def _root(home: str | None, working: str, repository: Path) -> Path:
    return Path(home or (repository if in_repository() else working)).resolve()


def results(profile: str) -> Path:
    return root() / "results" / profile


def artifacts(profile: str) -> Path:
    return root() / "artifacts" / profile


def figures(profile: str) -> Path:
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
    """Remove what a process that was killed while writing `path` left; for who holds it alone."""
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        partial.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    write(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Write `rows` with `columns` in that order; None becomes an empty cell."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())


def read_json(path: Path) -> dict | None:
    """The JSON object in `path`, or None where it is absent or damaged.

    NaN and Infinity are no JSON: whoever wrote them had no number to write.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=_no_number)
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
