"""Processes of their own that start at once: torch is loaded by the server that they fork from."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["accelerate", "sklearn.datasets", "timm.models.vision_transformer", "vitstudy.cli"]
)


@contextlib.contextmanager
def running(home: Path, function, *arguments) -> Iterator[multiprocessing.Process]:
    """`function(*arguments)` in another process that computes in `home`; killed at the end."""
    process = _server.Process(target=_begin, args=(str(home), function, arguments))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _begin(home: str, function, arguments) -> None:
    os.environ["VITSTUDY_HOME"] = home
    os.chdir(home)
    sys.stderr = open(f"stderr.{os.getpid()}", "w", encoding="utf-8", buffering=1)  # noqa: SIM115, open to the end
    function(*arguments)


def finish(home: Path, function, *arguments) -> tuple[int, str]:
    """The exit code of `function(*arguments)` in another process, and what it wrote to stderr."""
    with running(home, function, *arguments) as process:
        process.join(300)
        return process.exitcode, said(home)


def said(home: Path) -> str:
    """What the processes in `home` wrote to stderr so far."""
    return "".join(path.read_text() for path in sorted(home.glob("stderr.*")))


# What they do


def study(*arguments: str) -> None:
    """The command line."""
    from vitstudy.cli import main

    main(list(arguments), standalone_mode=True)


def study_killed_at_write(number: int, after: bool, *arguments: str) -> None:
    """The command line, ended by the kernel at the `number`th file that it puts in place."""
    replace, calls = os.replace, []

    def killing(source, target):
        calls.append(target)
        if len(calls) == number:
            if after:
                replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = killing
    from vitstudy import training

    training.SECONDS_BETWEEN_CHECKPOINTS = 1e6  # so that each number is one and the same file
    study(*arguments)


def study_with_checkpoints(*arguments: str) -> None:
    """The command line, with a checkpoint after each step."""
    from vitstudy import training

    training.SECONDS_BETWEEN_CHECKPOINTS = 0
    study(*arguments)


def load_data(name: str) -> None:
    from vitstudy import data

    found = data.load(name)
    print(found.hash, len(found.test), file=sys.stderr)
