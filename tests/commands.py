"""The command line, started as a user starts it, or in this process."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that are not progress."""
        return [line for line in self.err.splitlines() if not line.startswith("vitstudy: ")]


def start(home: Path, *arguments: str, code: str = "", **options) -> subprocess.Popen:
    """Start `python -m vitstudy …`, or `code` in its place, with `home` to compute in."""
    command = [sys.executable, *(("-c", code) if code else ("-m", "vitstudy")), *arguments]
    environment = {**os.environ, "VITSTUDY_HOME": str(home), **options.pop("env", {})}
    return subprocess.Popen(
        command,
        env=environment,
        cwd=options.pop("cwd", home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding=options.pop("encoding", "utf-8"),
        errors="replace",
        **options,
    )


def finish(process: subprocess.Popen) -> Done:
    out, err = process.communicate(timeout=900)
    return Done(process.returncode, out, err)


def command(home: Path, *arguments: str, **options) -> Done:
    """Run `python -m vitstudy …` as a user does."""
    return finish(start(home, *arguments, **options))


def invoke(*arguments: str) -> Done:
    """Run the command line in this process: as `command`, without the seconds torch takes to load.

    An exception that the command line does not turn into a line is raised here.
    """
    from vitstudy.cli import main

    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def one_line(done: Done) -> str:
    """The one line that a user who made an error gets; fails where it is not one."""
    assert done.code == 2, done
    assert len(done.errors) == 1, done.err
    assert done.errors[0].startswith("error: ")
    return done.errors[0].removeprefix("error: ")
