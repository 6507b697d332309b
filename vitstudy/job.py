"""Tries one job of the graph; one that fails leaves a note, and jobs that do not need it go on.

    python -m vitstudy.job PROFILE JOB COMMAND...    runs `python -m vitstudy COMMAND...`

The exit code is 0 although the job failed, so that Snakemake goes on; 2 where a user has something
to mend, which ends the run. It is a process of its own, since a job may be killed for its memory.
"""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from vitstudy import files
from vitstudy.errors import FULL, FULL_LINE

LINES_KEPT = 60
"""Number of the last printed lines of a failed job that its note keeps."""
_CELL = re.compile(r"\[\d+/\d+\] (\S+?),?(?: |$)")
_OURS = "vitstudy: "


def folder(profile: str) -> Path:
    """Return the folder of the failed jobs' notes, each under its job's name."""
    return files.results(profile) / "failures"


def failures(profile: str) -> dict[str, str]:
    """Read, by job, why it failed when it was last tried, in one line."""
    notes = sorted(folder(profile).glob("*")) if folder(profile).is_dir() else []
    return {note.name: note.read_text(encoding="utf-8").partition("\n")[0] for note in notes}


def run(profile: str, job: str, command: list[str]) -> int:
    """Run `python -m vitstudy` with the arguments `command`; return the exit code."""
    note = folder(profile) / job
    note.unlink(missing_ok=True)
    code, printed = _run([sys.executable, "-m", "vitstudy", *command])
    if code in (0, 2):
        return code
    if any(FULL.search(line) for line in printed):
        print(f"error: {FULL_LINE}", file=sys.stderr)
        return 2
    try:
        files.write(note, "\n".join([reason(code, printed), "", *printed, ""]))
    except OSError as error:
        print(f"error: {error.strerror} for {note}", file=sys.stderr)
        return 2
    return 0


def _run(command: list[str]) -> tuple[int, list[str]]:
    """Run `command`, pass its stderr on; return its exit code and the last lines of its stderr.

    Every signal that ends this process, except SIGKILL, ends the command too.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    printed: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace"
    ) as process:

        def pass_on() -> None:
            for line in process.stderr or ():
                sys.stderr.write(line)
                sys.stderr.flush()
                printed.append(line.rstrip())

        # A kernel that outlives the command holds its stderr open: the command's end counts.
        reader = threading.Thread(target=pass_on, daemon=True)
        reader.start()
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        reader.join(timeout=5)
    return code, list(printed)


def reason(code: int, printed: list[str]) -> str:
    """Say in one line why a command that printed these lines ended with `code`."""
    cells = [match[1] for line in printed if (match := _CELL.search(line))]
    at = f", at {cells[-1]}" if cells else ""
    if code < 0:
        killed = signal.Signals(-code).name
        memory = "; that is how the kernel ends what takes too much memory"
        return f"killed by {killed}{at}{memory if killed == 'SIGKILL' else ''}"
    last = next((line for line in reversed(printed) if line and not line.startswith(_OURS)), "")
    last = " ".join(last.removeprefix("failed: ").split())
    return (last or f"it ended with code {code}") + at


if __name__ == "__main__":
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="replace")
    try:
        sys.exit(run(sys.argv[1], sys.argv[2], sys.argv[3:]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
