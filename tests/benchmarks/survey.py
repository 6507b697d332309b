"""Prints what the survey costs: python tests/benchmarks/survey.py (a minute on two idle cores).

The notebook's target is under 60 seconds there, without the optional timing of networks.
"""

import os
import tempfile
import time
from pathlib import Path

from vitstudy import notebooks
from vitstudy.report import survey
from vitstudy.survey import counted


def seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


if __name__ == "__main__":
    output = Path(tempfile.mkdtemp()) / "09_eer_survey.ipynb"
    run = seconds(lambda: notebooks.execute("09_eer_survey", "digits", output))
    print(f"notebook 09 on digits: {run:.1f} s (target: 60)")
    os.environ["VITSTUDY_HOME"] = tempfile.mkdtemp()
    print(f"audit, claims, fronts and eight figures: {seconds(survey.write):.1f} s")
    print(f"one network counted: {seconds(lambda: counted.count(counted.BUILDABLE[0])):.2f} s")
