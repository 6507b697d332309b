"""CONTRIBUTING.md, followed to the letter: a method added by a stranger is a row of the study."""

import json
import os
import re
import shutil
import subprocess
import sys
from textwrap import indent

from vitstudy import files

TEXT = (files.REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks() -> dict[str, str]:
    """The example's code by what the comment before it says that it is."""
    return dict(re.findall(r"<!-- (.+?) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL))


def test_a_method_added_as_it_says_is_computed_tested_and_listed(with_cells, tmp_path):
    home, found = with_cells("vanilla"), blocks()
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("vitstudy", "tests"):
        shutil.copytree(files.REPOSITORY / folder, tmp_path / folder, ignore=ignored)
    for name, text in found.items():
        if name.startswith("file: "):
            (tmp_path / name.removeprefix("file: ")).write_text(text, encoding="utf-8")
    methods = tmp_path / "vitstudy" / "methods" / "attention.py"
    before = methods.read_text(encoding="utf-8")
    opened = "SURVEYED = (\n"
    assert before.count(opened) == 1
    entry = indent(found["entry: SURVEYED"].rstrip(), "    ") + ",\n"
    methods.write_text(before.replace(opened, opened + entry), encoding="utf-8")

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env={**os.environ, "VITSTUDY_HOME": str(home), "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "1 passed" in run(
        "pytest", "-q", "-p", "no:cacheprovider", "tests/attention/test_mean.py"
    )
    assert "mean-attention" in run("vitstudy", "list", "methods")
    command = found["run"].split()
    assert command[:2] == ["python", "-m"]
    run(*command[2:])
    record = json.loads(
        (home / "results/smoke/records/digits/mean-attention/seed0.json").read_text()
    )
    assert record["status"] == "done" and len(record["layers_touched"]) == 2
    assert "attention/mean.py" in record["sources"]
