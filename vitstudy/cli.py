"""The command line: `python -m vitstudy`."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time

import click

from vitstudy import __version__
from vitstudy.errors import UserError


class _Group(click.Group):
    """Errors that a user can cause end in one line and exit code 2."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except UserError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" for {error.filename}" if error.filename else ""
            _fail(
                f"no space left on the disk{where}; free some and run again: what is finished is "
                "kept, the rest is computed"
            )


def _fail(line: str) -> None:
    click.echo(f"error: {' '.join(line.split())}", err=True)
    sys.exit(2)


class _Lines(logging.StreamHandler):
    """Log lines that leave a progress bar on the terminal whole."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A reproducible study of Vision-Transformer compression."""
    if sys.version_info < (3, 11) or sys.version_info >= (3, 14):
        raise UserError(
            f"Python {sys.version.split()[0]} is not supported; valid: 3.11, 3.12, 3.13"
        )
    handler = _Lines()
    handler.setFormatter(logging.Formatter("vitstudy: %(message)s"))
    logger = logging.getLogger("vitstudy")
    logger.handlers[:] = [handler]
    # Where several processes compute together, one of them speaks.
    logger.setLevel(logging.INFO if int(os.environ.get("RANK", 0)) == 0 else logging.ERROR)
    logger.propagate = False


@main.command("list")
@click.argument("what", required=False, default="all")
def list_(what: str) -> None:
    """List profiles, datasets or methods; all three where nothing is named."""
    from vitstudy import data, methods, profiles
    from vitstudy.errors import unknown

    kinds = ("profiles", "datasets", "methods")
    if what not in (*kinds, "all"):
        raise unknown("list", what, kinds)
    if what in ("profiles", "all"):
        click.echo("profiles")
        for profile in profiles.PROFILES.values():
            click.echo(f"  {profile.name:18} {profile.title} ({profile.machine})")
    if what in ("datasets", "all"):
        click.echo("datasets")
        for spec in data.SPECS.values():
            counts = " + ".join(f"{size:,}" for size in spec.sizes)
            click.echo(f"  {spec.name:18} {spec.num_classes} classes, {counts} images")
    if what in ("methods", "all"):
        click.echo("methods")
        for method in methods.METHODS:
            state = method.method if method.module else "not in the study yet"
            click.echo(f"  {method.key:18} {method.title} ({state})")


@main.command()
@click.argument("cells", nargs=-1, required=True)
@click.option("--missing", is_flag=True, help="Take a committed record as done.")
def run(cells: tuple[str, ...], missing: bool) -> None:
    """Compute CELLS: profile[/dataset[/method[/seedK]]], globs allowed, parents first.

    A cell whose record and artifact are up to date is read, not computed.
    """
    from vitstudy import study

    chosen = study.select(list(cells))
    log = logging.getLogger("vitstudy")
    waiting = [cell for cell in chosen if study.why_not(cell)]
    if missing:
        waiting = [
            cell
            for cell in waiting
            if (record := study.read(cell)) is None or record.status != "done"
        ]
    started, failed = time.monotonic(), []
    for position, cell in enumerate(waiting):
        left = _seconds_left(waiting, position, time.monotonic() - started)
        log.info("[%d/%d] %s%s", position + 1, len(waiting), cell, left)
        record = study.run(cell, missing=missing)
        if record.status != "done":
            failed.append(cell)
            log.error("failed: %s: %s", cell, record.error)
        else:
            log.info(
                "        accuracy %.2f %%, %.3f MiB, %.1f s",
                100 * record.accuracy,
                record.size_mib,
                record.seconds,
            )
    log.info(
        "%d cells: %d computed, %d as they were",
        len(chosen),
        len(waiting),
        len(chosen) - len(waiting),
    )
    if failed:
        sys.exit(1)


def _seconds_left(waiting: list, position: int, spent: float) -> str:
    """How long the rest takes, by what its cells took before, else by those just computed."""
    from vitstudy import study

    known = [record.seconds for cell in waiting[position:] if (record := study.read(cell))]
    known = [seconds for seconds in known if seconds]
    if len(known) == len(waiting) - position:
        return f", about {sum(known):.0f} s left"
    if position:
        return f", about {spent / position * (len(waiting) - position):.0f} s left"
    return ""


@main.command()
@click.argument("profile")
def speed(profile: str) -> None:
    """Time all models of PROFILE in turn; nothing else should run meanwhile."""
    from vitstudy import profiles

    profiles.get(profile)
    from vitstudy import speed

    speed.run(profile)
