"""The smoke study that the tests share: what is in it, how it is made, notebooks that show it."""

from pathlib import Path

import nbformat
from commands import finish, start

from vitstudy import notebooks, study
from vitstudy.profiles import DIGITS

VARIANTS = (
    *("lsq-w4a4", "lsq-w8", "diffq-gaussian", "small-as-diffq-finetuned", "hard"),
    *("taylor-r0.2-cut", "taylor-r0.2", "kl-r0.2-cut", "kl-r0.2", "skip-r0.2"),
    *("vtp-gates-slow", "vtp-slow-r0.2-cut", "vtp-slow-r0.2"),
    *("taught", "lsq-w4+taught", "vtp-r0.2+taught", "nystrom-m32+taught"),
    *("lsq-w4-onnx", "torchao-int8"),
)
"""What tests look at besides the methods of the profile's tiers; on the digits alone."""


def patterns(dataset: str) -> list[str]:
    """What the command line is given to make it."""
    more = VARIANTS if dataset == "digits" else ()
    return [f"smoke/{dataset}", *(f"smoke/{dataset}/{key}" for key in more)]


def cells(*keys: str) -> list[tuple[str, str]]:
    """The pairs of key and data set, of the methods `keys`, that it has."""
    made = {(cell.method, name) for name in DIGITS for cell in study.select(patterns(name))}
    return [(key, name) for name in DIGITS for key in keys if (key, name) in made]


def make(folder: Path) -> None:
    """Compute it, both data sets side by side; what each said is in `SET.txt`."""
    running = {name: start(folder, "run", *patterns(name)) for name in DIGITS}
    for name, process in running.items():
        done = finish(process)
        (folder / f"{name}.txt").write_text(done.err, encoding="utf-8")
        if done.code:
            (folder / "failed.txt").write_text(done.err, encoding="utf-8")


def notebook(name: str, folder: Path) -> Path:
    """A copy of the committed notebook, its outputs included, told as papermill does to show it."""
    copy = nbformat.read(notebooks.path(name), as_version=4)
    tags = [cell.metadata.get("tags", []) for cell in copy.cells]
    position = next(place for place, own in enumerate(tags) if "parameters" in own)
    injected = nbformat.v4.new_code_cell('# Parameters\nprofile = "smoke"\n')
    copy.cells.insert(position + 1, injected)
    nbformat.write(copy, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"
