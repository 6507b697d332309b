"""`python -m vitstudy reproduce`: checks what a user may have got wrong, then runs Snakemake."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitstudy import data, files, graph, notebooks, profiles, study
from vitstudy.errors import FULL, FULL_LINE, UserError, unknown

log = logging.getLogger(__name__)

_OURS = re.compile(r"^vitstudy: ")
_WRONG = re.compile(r"(?:^|: )error: (.*)")
_RAISED = re.compile(r"^UserError in file")
_STARTED = re.compile(r"^(?:local)?rule \w+:$")
_STEPS = re.compile(r"^(\d+) of (\d+) steps \(.*\) done")
_LOOKS = (
    *("-n", "--dry-run", "--dryrun", "-h", "--help", "-v", "--version", "--dag", "--rulegraph"),
    *("--filegraph", "--d3dag", "-l", "--list-rules", "--list-target-rules", "--lt", "-S"),
    *("--summary", "-D", "--detailed-summary", "--list-changes", "--lc", "--lint", "--unlock"),
    "--print-compilation",
)
"""Snakemake's options that run nothing: what they print is what was asked for."""
_NUMBERS = (("cores", "-c"), ("jobs", "-j"), ("local-cores",), ("max-threads",))
"""Snakemake's options for which it waits for ever where their number is 0."""


def duration_path(profile: str) -> Path:
    """Return the file in which a run from nothing leaves its seconds, set-up included."""
    return files.results(profile) / "duration.json"


def done_line(seconds: int) -> str:
    """Return the line to expect at the end of a run."""
    return f"done in {_minutes_and_seconds(seconds)}"


def _minutes_and_seconds(seconds: int) -> str:
    return f"{seconds // 60} min {seconds % 60:02} s"


def reproduce(
    profile: str, from_records: bool, options: list[str], every_tier: bool = False
) -> int:
    """Make every record, table, figure, notebook and page of `profile`; return the exit code.

    Of Snakemake's own lines only progress is shown; all of them are in `.snakemake/log`. The exit
    code is 1 where something failed: all that does not need it is made, and the last lines say what
    is missing.

    from_records: whether committed records are shown and nothing is computed.
    options: further options of Snakemake.
    every_tier: add the methods that the profile computes only by name.

    Raises UserError where the profile is unknown, its data or its records are absent, or an option
    or a job says that the user has something to mend.
    """
    known = profiles.get(profile)
    looks = _check(options)
    started = float(os.environ.get("VITSTUDY_STARTED") or time.time())
    cells = study.cells(profile, left_out=every_tier)
    from_nothing = not any(study.read(cell) for cell in cells)
    if from_records and from_nothing:
        raise UserError(
            f"no records of {profile} in {files.results(profile) / 'records'}; without "
            "--from-records they are computed"
        )
    if not from_records:
        for name in known.datasets:
            data.dataset_hash(name)
    code = _snakemake(profile, from_records, every_tier, options, looks)
    if code or looks:
        return code
    seconds = round(time.time() - started)
    unmade = graph.unmade(profile, [] if from_records else cells, notebooks.shown(profile))
    failed = graph.missing(profile, every_tier)
    if unmade:
        log.info(
            "ended after %s; of %s not made: %s",
            _minutes_and_seconds(seconds),
            profile,
            ", ".join(unmade),
        )
    else:
        if from_nothing and not failed:
            files.write_json(duration_path(profile), {"seconds": seconds})
        log.info("%s", done_line(seconds))
    for key, reason in study.not_run([profile]).items():
        log.info("not run: %s: %s", key, reason)
    for line in outside(profile):
        log.warning("%s", line)
    _tell_places(profile)
    for what, reason in failed.items():
        log.error("failed: %s: %s", what, reason)
    if failed:
        rest = "" if unmade else "all else is made, and "
        log.error("%d failed; %sthe next run tries them again", len(failed), rest)
    return 1 if failed else 0


def _tell_places(profile: str) -> None:
    """Log where the profile's products lie, and what to do next."""
    results, tables = files.results(profile), files.results(profile) / "tables"
    places = {
        "records": [results / "records.csv"],
        "figures": [files.figures(profile)],
        "tables": [tables / f"table{number}.md" for number in (1, 2)],
        "site": [files.root() / "site" / "index.html"] * (graph.site_shows() == profile),
    }
    for kind, paths in places.items():
        if made := [str(path.relative_to(files.root())) for path in paths if path.exists()]:
            log.info("%-8s %s", kind, ", ".join(made))
    if not places["site"]:
        return
    jupyter = Path(sys.executable).with_name("jupyter")
    if jupyter.is_relative_to(files.REPOSITORY):
        jupyter = jupyter.relative_to(files.REPOSITORY)
    log.info("%-8s open that page in a browser; to explore: %s lab notebooks", "next", jupyter)
    if profiles.get(profile).datasets == profiles.DIGITS:
        log.info("%-8s more of CIFAR: ./run_all.sh cifar-cpu --from-records", "")


def outside(profile: str) -> list[str]:
    """Return a line for each number of the profile's notebooks that lies outside its band."""
    return [
        f"outside its band: {path.stem}: {notebooks.sentence(entry)}"
        for path in sorted((files.results(profile) / "outside").glob("*.json"))
        for entry in _entries(path)
    ]


def _entries(path: Path) -> list[dict[str, Any]]:
    """Read the whole entries of a list in JSON; none where the file is damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return []
    wanted = {"name", "value", "low", "high", "made_on"}
    return [entry for entry in entries if isinstance(entry, dict) and wanted <= entry.keys()]


# -- Snakemake ------------------------------------------------------------------------------------


def rules() -> list[str]:
    """List the names of the Snakefile's rules."""
    text = (files.REPOSITORY / "Snakefile").read_text(encoding="utf-8")
    return re.findall(r"^rule (\w+):", text, re.MULTILINE)


def _check(options: list[str]) -> bool:
    """Tell whether Snakemake's `options` run nothing and only show something.

    Raises UserError where one of them names a rule that does not exist, or a number of processors
    with which Snakemake waits for ever.
    """
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument(*_LOOKS, dest="looks", action="store_true")
    parser.add_argument("-p", "-k", "-F", "-f", dest="flags", action="store_true")
    for long, *abbreviations in _NUMBERS:
        parser.add_argument(f"--{long}", *abbreviations)
    for long, short in (("until", "-U"), ("omit-from", "-O"), ("forcerun", "-R")):
        parser.add_argument(f"--{long}", short, nargs="*", default=[])
    try:
        given, _ = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; valid: see ./run_all.sh --help and snakemake --help") from error
    for long, *_ in _NUMBERS:
        value = getattr(given, long.replace("-", "_"))
        if value not in (None, "all", "unlimited") and not re.fullmatch(r"0*[1-9]\d*", value):
            raise UserError(f"--{long} {value}: valid are whole numbers of at least 1, and all")
    for name in (*given.until, *given.omit_from, *given.forcerun):
        if name not in rules() and "/" not in name:
            raise unknown("rule", name, rules())
    return bool(given.looks)


def _take_config(options: list[str]) -> tuple[list[str], list[str]]:
    """Split options into the user's `--config` settings and the rest.

    Of several `--config` Snakemake takes the last one only.
    """
    settings: list[str] = []
    rest: list[str] = []
    taking = False
    for option in options:
        if option in ("-C", "--config"):
            taking = True
        elif taking and not option.startswith("-"):
            settings.append(option)
        else:
            taking = False
            rest.append(option)
    return settings, rest


def _take_until(options: list[str]) -> tuple[list[str], list[str]]:
    """Split options into the rules and files of the user's `--until` and the rest."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--until", "-U", nargs="+", action="extend", default=[])
    given, rest = parser.parse_known_args(options)
    return given.until, rest


def _snakemake(
    profile: str, from_records: bool, every_tier: bool, options: list[str], looks: bool
) -> int:
    settings, options = _take_config(options)
    until, options = _take_until(options)
    # The user's come first: a target behind an option of several values would be one of those.
    command = [sys.executable, "-m", "snakemake", *options]
    command += ["--snakefile", str(files.REPOSITORY / "Snakefile")]
    command += ["--directory", str(files.root())]
    settings = [f"from_records={from_records}", f"all={every_tier}", *settings]
    settings += [f"until={' '.join(until)}"] * bool(until)
    command += ["--config", f"profile={profile}", *settings]
    # run_all.sh's lock dies with its process, Snakemake's does not; a job that was cut off is
    # taken up again; and whether a cell is up to date is for its stamp to say, not for Snakemake.
    command += ["--nolock", "--rerun-incomplete", "--rerun-triggers", "mtime"]
    cores = ("-c", "--cores", "-j", "--jobs", "--executor", "-e", "--profile", "--help", "-h")
    if not any(option.split("=")[0] in cores for option in options):
        command += ["--cores", "all"]
    if looks:
        return subprocess.run(command, check=False).returncode
    errors: list[str] = []
    last, begun = deque([""], maxlen=30), False
    with _ended_with_this(
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    ) as process:
        for line in process.stdout or ():
            line = line.rstrip()
            if _OURS.match(line):
                log.info("%s", _OURS.sub("", line))
            elif match := _STEPS.match(line):
                log.info("%s of %s jobs done", *match.groups())
            elif match := _WRONG.search(line):
                errors.append(match[1])
            elif _RAISED.match(last[-1]):  # by the Snakefile: its message is the next line
                errors.append(line)
            elif FULL.search(line):
                errors.append(FULL_LINE)
            begun = begun or bool(_STARTED.match(line))
            last.append(line)
    if process.returncode and errors:
        raise UserError(errors[0])
    if process.returncode and not begun:  # it did not like what it was given
        raise UserError(_complaint(list(last)))
    if process.returncode:
        for line in last:
            print(line, file=sys.stderr)
        log.error("Snakemake ended with code %d; its log is in .snakemake/log", process.returncode)
        return 1
    return 0


def _complaint(lines: list[str]) -> str:
    """Return what Snakemake says last of its options, and what is valid."""
    text = next((line for line in reversed(lines) if line.strip()), "Snakemake did not start")
    text = re.sub(r"^(\w*(Error|Exception): )+", "", text.strip())
    if match := re.match(r"No rule to produce (\S+)", text):
        return (
            f"unknown target {match[1]!r}; valid: {', '.join(rules())}; the profile comes first, "
            "one at a time"
        )
    return f"{text.rstrip('.')}; valid: see ./run_all.sh --help and snakemake --help"


@contextlib.contextmanager
def _ended_with_this(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """End `process`, and all that it started, where this process is told to end."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with process:
            try:
                yield process
            except BaseException:
                _kill_tree(process.pid)
                raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill_tree(pid: int) -> None:
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
