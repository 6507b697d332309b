"""A job of the graph that fails: what it leaves, and what its exit code says."""

import signal
import subprocess
import sys
import time

import pytest

from vitstudy import files, job
from vitstudy.errors import FULL_LINE


@pytest.fixture
def does(monkeypatch):
    """Let every job run this Python code in place of `python -m vitstudy`; the exit code."""
    start = job._run
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def run(code: str, name: str = "cells-a") -> int:
        monkeypatch.setattr(job, "_run", lambda command: start([sys.executable, "-c", code]))
        return job.run("smoke", name, ["run", "smoke"])

    return run


def test_job_that_ends_well_leaves_nothing_and_takes_its_old_note_away(does):
    files.write(job.folder("smoke") / "cells-a", "old\n")
    assert does("") == 0
    assert job.failures("smoke") == {}


def test_job_that_raises_leaves_the_error_and_lets_the_graph_go_on(does, capfd):
    assert does("print('vitstudy: begun', flush=True); raise ValueError('no such thing')") == 0
    assert job.failures("smoke") == {"cells-a": "ValueError: no such thing"}
    assert "Traceback" in (job.folder("smoke") / "cells-a").read_text()
    assert "Traceback" in capfd.readouterr().err


def test_job_that_is_killed_says_at_which_cell_and_that_memory_may_be_why(does):
    says = "import os, sys; print('vitstudy: [2/3] smoke/digits/x/seed0, about 2 s left', "
    assert does(says + "file=sys.stderr, flush=True); os.kill(os.getpid(), 9)") == 0
    (reason,) = job.failures("smoke").values()
    assert reason.startswith("killed by SIGKILL, at smoke/digits/x/seed0;")
    assert "memory" in reason


def test_notebook_that_raises_is_told_in_its_own_line(does):
    line = "failed: 03_qat, cell 5: ValueError: b"
    says = f"import sys; print({line!r}, file=sys.stderr); sys.exit(1)"
    assert does(says, "notebook-03_qat") == 0
    assert job.failures("smoke") == {"notebook-03_qat": "03_qat, cell 5: ValueError: b"}


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.exit(2)",
        "raise OSError(28, 'No space left on device')",
        "raise RuntimeError('write failed: Disk quota exceeded')",
    ],
)
def test_what_a_user_has_to_mend_ends_the_run(does, code, capsys):
    assert does(code) == 2
    assert job.failures("smoke") == {}
    if "raise" in code:
        assert capsys.readouterr().err.endswith(f"error: {FULL_LINE}\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_job_that_is_told_to_end_takes_its_command_along_and_leaves_no_note(home, number):
    mark = home / "begun"
    sleep = f"import time; open({str(mark)!r}, 'w').close(); time.sleep(60)"
    code = (
        "from vitstudy import job; import signal, sys; start = job._run\n"
        # A shell that starts the tests in its background has them ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sleep = {sleep!r}\n"
        "job._run = lambda command: start([sys.executable, '-c', sleep])\n"
        "sys.exit(job.run('smoke', 'cells-a', []))"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", code], **pipes)
    while not mark.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=20)  # the command has the pipe too: its end is that of both
    assert process.returncode != 0
    assert job.failures("smoke") == {}
