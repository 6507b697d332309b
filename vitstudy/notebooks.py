"""Runs notebooks (papermill) and checks them (nbval), which nothing else does."""

from __future__ import annotations

import ast
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vitstudy import files, graph, profiles, study
from vitstudy.errors import NotebookFailed, UserError, unknown
from vitstudy.study import Cell

log = logging.getLogger(__name__)

JUDGE = "VITSTUDY_JUDGE"
"""Environment variable, 1 in a kernel where a number outside its band is an error, not a note."""


def folder() -> Path:
    """Return the folder of the committed notebooks."""
    return files.repository() / "notebooks"


def names() -> list[str]:
    """List the notebooks' names, in order."""
    return sorted(path.stem for path in folder().glob("*.ipynb"))


def path(name: str) -> Path:
    """Return the file of the notebook `name`; raise UserError where there is none."""
    if name not in names():
        raise unknown("notebook", name, names())
    return folder() / f"{name}.ipynb"


def parameters(notebook: Path) -> list[str]:
    """List the names that the notebook's cell tagged `parameters` assigns."""
    assigned: list[str] = []
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            for node in ast.parse("".join(cell["source"])).body:
                if isinstance(node, ast.Assign):
                    assigned += [
                        target.id for target in node.targets if isinstance(target, ast.Name)
                    ]
    return assigned


def needs(name: str) -> list[str]:
    """List the methods whose records the notebook cannot do without, as its metadata say."""
    metadata = json.loads(path(name).read_text(encoding="utf-8"))["metadata"]
    keys: list[str] = metadata.get("vitstudy", {}).get("needs", [])
    return keys


def lacks(name: str, profile: str) -> list[str]:
    """List the methods that the notebook needs and of which the profile has no record."""
    known = profiles.get(profile)

    def measured(method: str) -> bool:
        cells = (Cell(profile, dataset, method, known.seeds[0]) for dataset in known.datasets)
        return any((record := study.read(cell)) and record.status == "done" for cell in cells)

    return [method for method in needs(name) if not measured(method)]


def shown(profile: str) -> list[str]:
    """List the notebooks that have something to show of a profile."""
    return [name for name in names() if not lacks(name, profile)]


def execute(name: str, profile: str, output: Path | None = None, **given: Any) -> Path:
    """Run the notebook `name` on `profile` from a clean kernel; return its executed copy's path.

    given: further parameters of the notebook.

    Raises UserError where the notebook has no such parameter or nothing to show of the profile,
    NotebookFailed where a cell of it raises an error.
    """
    source = path(name)
    if absent := lacks(name, profile):
        raise UserError(
            f"{name} has nothing to show of {profile}: no record of {', '.join(absent)}; make it "
            f"with 'python -m vitstudy run \"{profile}/*/{absent[0]}\"'"
        )
    known = parameters(source)
    for parameter in given:
        if parameter not in known:
            raise unknown(f"parameter of {name}", parameter, known)
    output = output or graph.executed(profile, name)
    output.parent.mkdir(parents=True, exist_ok=True)
    log.info("notebook %s on %s", name, profile)
    _papermill(source, output, {"profile": profile, **given})
    return output


def skip_iri_grammars() -> None:
    """Keep jsonschema from building 38 grammars of addresses, seconds of every process's start.

    Notebooks are checked against a schema that has no addresses in it; without that package
    jsonschema leaves the check of those out.
    """
    modules: dict[str, Any] = sys.modules
    modules.setdefault("rfc3987_syntax", None)  # an import of it then fails


def _papermill(source: Path, output: Path, given: dict[str, Any]) -> None:
    skip_iri_grammars()
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        papermill.execute_notebook(
            source, output, given, cwd=folder(), progress_bar=False, kernel_name="python3"
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"{source.stem}, cell {error.exec_count}: {error.ename}: {error.evalue} (see {output})"
        ) from error
    except DeadKernelError as error:
        raise NotebookFailed(
            f"{source.stem}: its kernel died, as it does where memory runs out (see {output})"
        ) from error


def sentence(entry: dict[str, Any]) -> str:
    """Put into words which number lies outside its band.

    entry: one of a file in `results/<profile>/outside`.
    """
    value = "no finite number" if entry["value"] is None else f"{entry['value']:.4g}"
    return (
        f"{entry['name']} is {value}, its band {entry['low']:.4g} to {entry['high']:.4g} "
        f"(made on {'; '.join(entry['made_on'])})"
    )


def refresh() -> None:
    """Execute every notebook on its own default profile and write its outputs into it."""
    for name in names():
        refresh_one(name)


def refresh_one(name: str) -> None:
    """Execute the notebook `name` on its own default profile and write its outputs into it.

    Metadata that a run leaves besides outputs (times, versions, widgets) are removed.
    """
    skip_iri_grammars()
    import nbformat

    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / f"{name}.ipynb"
        log.info("notebook %s, its committed outputs", name)
        _papermill(path(name), output, {})
        notebook = nbformat.read(output, as_version=4)
    for key in ("papermill", "widgets"):
        notebook.metadata.pop(key, None)
    notebook.metadata.language_info.pop("version", None)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.NotebookNode({"tags": tags} if tags else {})
    files.write(path(name), nbformat.writes(notebook) + "\n")


def check(notebooks: list[Path]) -> int:
    """Run executed notebooks again under nbval and compare marked outputs; return the exit code.

    Only here a number outside its band is an error.
    """
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "-q"]
    command += ["-p", "no:cacheprovider", "--override-ini=testpaths="]
    command += ["--rootdir", str(files.REPOSITORY)]
    command += map(str, notebooks)
    return subprocess.run(command, env={**os.environ, JUDGE: "1"}, check=False).returncode
