"""Where things lie, and how a file is written: whole, or not at all."""

import contextlib
import csv
import hashlib
import io
import json
import os
from pathlib import Path

SOURCE = Path(__file__).resolve().parent
"""The package's own folder."""
REPOSITORY = SOURCE.parent
"""Where the notebooks, the site's pages and the pinned versions are."""


def root() -> Path:
    """The repository, or `$VITSTUDY_HOME`: results, artifacts, figures and site lie below it."""
    return Path(os.environ.get("VITSTUDY_HOME") or REPOSITORY).resolve()


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
