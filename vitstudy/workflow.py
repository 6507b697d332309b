"""`python -m vitstudy reproduce`: checks what a user may have wrong, then lets Snakemake run."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

from vitstudy import data, files, profiles, study
from vitstudy.errors import UserError

log = logging.getLogger(__name__)

_OURS = re.compile(r"^vitstudy: ")
_WRONG = re.compile(r"(?:^|: )error: (.*)")
_RAISED = re.compile(r"^UserError in file")
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
LOOKING = {"-n", "--dry-run", "--dryrun", "-h", "--help", "-v", "--version", "--dag", "--rulegraph"}
LOOKING |= {"-l", "--list-rules", "-S", "--summary", "--lint", "--unlock"}
"""Snakemake's options that run nothing: what they print is what was asked for."""
_STEPS = re.compile(r"^(\d+) of (\d+) steps \(.*\) done")


def duration_path(profile: str) -> Path:
    """Where a run from nothing leaves how many seconds it took, set-up included."""
    return files.results(profile) / "duration.json"


def done_line(seconds: int) -> str:
    return f"done in {seconds // 60} min {seconds % 60:02} s"


def reproduce(profile: str, from_records: bool, options: list[str]) -> int:
    """Make every record, table, figure, notebook and page of `profile`; the exit code.

    Of Snakemake's own lines only progress is shown; all of them are in `.snakemake/log`.
    Raises UserError where the profile is unknown, its data or its records are not to be had, or an
    option or a job says that the user has something to mend.
    """
    known = profiles.get(profile)
    started = float(os.environ.get("VITSTUDY_STARTED") or time.time())
    if from_records:
        if not any(study.read(cell) for cell in study.cells(profile)):
            raise UserError(
                f"no records of {profile} in {files.results(profile) / 'records'}; without "
                "--from-records they are computed"
            )
        from_nothing = False
    else:
        for name in known.datasets:
            data.dataset_hash(name)
        from_nothing = not any(study.read(cell) for cell in study.cells(profile))
    code = _snakemake(profile, from_records, options)
    if code == 0 and not LOOKING & set(options):
        failed = _failed(profile)
        seconds = round(time.time() - started)
        if from_nothing:
            files.write_json(duration_path(profile), {"seconds": seconds})
        log.info("%s", done_line(seconds))
        for kind, place in (
            ("records", files.results(profile) / "records.csv"),
            ("tables", files.results(profile) / "tables"),
            ("figures", files.figures(profile)),
            ("site", files.root() / "site" / "index.html"),
        ):
            log.info("%-8s %s", kind, place.relative_to(files.root()))
        for key, reason in study.not_run([profile]).items():
            log.info("not run: %s: %s", key, reason)
        for cell in failed:
            log.error("failed: %s: %s", cell, study.read(cell).error)
        code = 1 if failed else 0
    return code


def _failed(profile: str) -> list[study.Cell]:
    records = ((cell, study.read(cell)) for cell in study.cells(profile))
    return [cell for cell, record in records if record and record.status != "done"]


def _take_config(options: list[str]) -> tuple[list[str], list[str]]:
    """The user's `--config` settings, and the other options; Snakemake takes the last one alone."""
    settings, rest, taking = [], [], False
    for option in options:
        if option in ("-C", "--config"):
            taking = True
        elif taking and not option.startswith("-"):
            settings.append(option)
        else:
            taking = False
            rest.append(option)
    return settings, rest


def _snakemake(profile: str, from_records: bool, options: list[str]) -> int:
    command = [sys.executable, "-m", "snakemake"]
    command += ["--snakefile", str(files.REPOSITORY / "Snakefile")]
    command += ["--directory", str(files.root())]
    settings, options = _take_config(options)
    command += ["--config", f"profile={profile}", f"from_records={from_records}", *settings]
    # run_all.sh's lock dies with its process, Snakemake's does not; a job that was cut off is
    # taken up again; and whether a cell is up to date is for its stamp to say, not for Snakemake.
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
    cores = ("-c", "--cores", "-j", "--jobs", "--executor", "-e", "--profile", "--help", "-h")
    if not any(option.split("=")[0] in cores for option in options):
        command += ["--cores", "all"]
    if LOOKING & set(options):
        return subprocess.run([*command, *options], check=False).returncode
    errors, last = [], deque([""], maxlen=30)
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            line = line.rstrip()
            if _OURS.match(line):
                log.info("%s", _OURS.sub("", line))
            elif match := _STEPS.match(line):
                log.info("%s of %s jobs done", *match.groups())
            elif match := _WRONG.search(line):
                errors.append(match[1])
            elif _RAISED.match(last[-1]):  # by the Snakefile: its message is the next line
                errors.append(line)
            elif _FULL.search(line):
                errors.append(
                    "no space left on the disk; free some and run again: what is finished is kept"
                )
            last.append(line)
    if process.returncode and errors:
        raise UserError(errors[0])
    if process.returncode:
        for line in last:
            print(line, file=sys.stderr)
        log.error("Snakemake ended with code %d; its log is in .snakemake/log", process.returncode)
        return 1
    return 0
