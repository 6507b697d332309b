"""The command line: `python -m vitstudy`."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from vitstudy import __version__, files
from vitstudy.errors import NotebookFailed, UserError, to_mend

if TYPE_CHECKING:
    from vitstudy.study import Cell


class _Group(click.Group):
    """Ends errors that a user can cause in one line and exit code 2."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _one_line():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with _one_line():
            return super().invoke(context)


@contextlib.contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except NotebookFailed as error:
        click.echo(f"failed: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            raise
        command = error.ctx.command_path if error.ctx else "python -m vitstudy"
        _fail(f"{error.format_message()} Valid: see {command} --help")
    except Exception as error:
        if (line := to_mend(error)) is None:
            raise
        _fail(line)


def _fail(line: str) -> None:
    click.echo(f"error: {' '.join(line.split())}", err=True)
    sys.exit(2)


class _Lines(logging.StreamHandler[TextIO]):
    """Writes log lines that leave a progress bar on the terminal whole."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def _speak_utf8() -> None:
    """Let every process that this one starts read and write UTF-8, whatever the locale.

    A sign that this one's own terminal cannot show, such as `α`, becomes a question mark.
    """
    os.environ["PYTHONUTF8"] = "1"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Reproduce a study of Vision-Transformer compression."""
    if sys.version_info < (3, 11) or sys.version_info >= (3, 14):
        raise UserError(
            f"Python {sys.version.split()[0]} is not supported; valid: 3.11, 3.12, 3.13"
        )
    _speak_utf8()
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
        for row in (*methods.METHODS, *methods.SURVEYED):
            for method in (row, *methods.beneath(row.key)):
                state = method.method
                if reason := methods.not_installed(method):
                    state = f"not run here: {reason}"
                name = f"{'  ' if method.beneath else ''}{method.key}"
                click.echo(f"  {name:18} {method.title} ({state})")


@main.command()
@click.argument("cells", nargs=-1, required=True)
@click.option("--missing", is_flag=True, help="Take a committed record as done.")
@click.option("--keep-going", is_flag=True, help="Exit with 0 although cells failed.")
@click.option(
    "--no-parents", is_flag=True, help="A cell whose parent is not up to date fails, at once."
)
def run(cells: tuple[str, ...], missing: bool, keep_going: bool, no_parents: bool) -> None:
    """Compute CELLS: profile[/dataset[/method[/seedK]]], globs allowed, parents first.

    A cell whose record and artifact are up to date is read, not computed. A cell that fails leaves
    a record that says why, and what starts from it fails with it; the others go on.
    """
    from vitstudy import data, study

    chosen = study.select(list(cells))
    log = logging.getLogger("vitstudy")
    for key, not_installed in study.not_run(list(cells)).items():
        log.info("not run: %s: %s", key, not_installed)
    tried: list[Cell] = []
    failed: list[Cell] = []
    # A parent that has to be made again may take others' records with it: those come next.
    while waiting := [cell for cell in _waiting(chosen, missing) if cell not in tried]:
        for name in dict.fromkeys(cell.dataset for cell in waiting):
            data.dataset_hash(name)  # absent data are an error now, not after hours of training
        started = time.monotonic()
        for position, cell in enumerate(waiting):
            left = _seconds_left(waiting, position, time.monotonic() - started)
            log.info("[%d/%d] %s%s", position + 1, len(waiting), cell, left)
            tried.append(cell)
            before = next((parent for parent in cell.parents() if parent in failed), None)
            if before is not None:
                record = study.fail(cell, f"{before.method} failed: {study.recorded(before).error}")
            elif no_parents and (reason := study.lacks_parent(cell)):
                record = study.fail(cell, reason)
            else:
                record = study.attempt(cell, missing=missing)
            if record.status != "done":
                failed.append(cell)
                log.error("failed: %s: %s", cell, record.error)
            else:
                accuracy = 100 * (record.accuracy or 0)
                measured = (accuracy, record.size_mib, record.seconds)
                log.info("        accuracy %.2f %%, %.3f MiB, %.1f s", *measured)
    counts = f"{len(tried) - len(failed)} computed, {len(chosen) - len(tried)} as they were"
    log.info("%d cells: %s%s", len(chosen), counts, f", {len(failed)} failed" if failed else "")
    if failed and not keep_going:
        sys.exit(1)


def _waiting(cells: list[Cell], missing: bool) -> list[Cell]:
    """List those of `cells` that have to be computed."""
    from vitstudy import study

    return [cell for cell in cells if not (missing and study.is_done(cell)) and study.why_not(cell)]


def _seconds_left(waiting: list[Cell], position: int, spent: float) -> str:
    """Estimate how long the rest takes: by its cells' records, else by the cells just computed."""
    from vitstudy import study

    records = [record for cell in waiting[position:] if (record := study.read(cell))]
    known = [record.seconds for record in records if record.seconds]
    if len(known) == len(waiting) - position:
        return f", about {sum(known):.0f} s left"
    if position:
        return f", about {spent / position * (len(waiting) - position):.0f} s left"
    return ""


@main.command()
@click.argument("cells", nargs=-1, required=True)
@click.option("--since", metavar="COMMIT", help="Where they were made; by default as they name it.")
def adopt(cells: tuple[str, ...], since: str | None) -> None:
    """Re-mark the records of CELLS that a change of the code leaves true, proven by computing.

    Each method is computed for a few steps on a few images, with the code as it was and as it is;
    where anything differs that comes out, its records stay stale, and the exit code is 1.
    """
    files.repository()
    from vitstudy import study
    from vitstudy.study import adoption

    log = logging.getLogger("vitstudy")
    chosen = study.select(list(cells))
    adopted, refused = adoption.adopt(chosen, since)
    for cell, reason in refused.items():
        log.error("not adopted: %s: %s", cell, reason)
    rest = len(chosen) - len(adopted) - len(refused)
    log.info("%d adopted, %d not, %d as they were", len(adopted), len(refused), rest)
    if refused:
        sys.exit(1)


@main.command()
@click.argument("profile")
def speed(profile: str) -> None:
    """Time all models of PROFILE in turn, then attention; nothing else should run meanwhile."""
    from vitstudy import profiles

    profiles.get(profile)
    from vitstudy import speed
    from vitstudy.attention import scaling

    speed.run(profile)
    scaling.run(profile)


@main.command()
@click.option("--speed", is_flag=True, help="Time them in turn; nothing else should run meanwhile.")
@click.option("--rounds", type=click.IntRange(1), help="Turns of the timing; 7 if not given.")
def costs(speed: bool, rounds: int | None) -> None:
    """Count what the papers' rows cost at ViT-B/16's size, weights random: results/paper."""
    from vitstudy import costs

    if rounds and not speed:
        raise click.UsageError("--rounds counts the turns of a timing: give --speed too")
    costs.make((rounds or costs.ROUNDS) if speed else None)
    logging.getLogger("vitstudy").info("%s", costs.path().relative_to(files.root()))


@main.command()
@click.option("--count", is_flag=True, help="Count the networks that timm has again.")
@click.option("--speed", is_flag=True, help="Time them in turn; nothing else should run meanwhile.")
@click.option("--rounds", default=3, type=click.IntRange(1), help="Turns of the timing.")
@click.option("--only", multiple=True, help="Time this timm network alone, with ViT-B/16.")
@click.option("--data", type=click.Path(path_type=Path), help="Tables other than the survey's.")
def survey(count: bool, speed: bool, rounds: int, only: tuple[str, ...], data: Path | None) -> None:
    """Audit the survey: results/survey, figures/survey."""
    from vitstudy.report import survey
    from vitstudy.survey import counted, tables

    if count or counted.is_missing():
        counted.make()
    if speed:
        counted.time(only, rounds)
    for path in survey.write(data or tables.DATA):
        logging.getLogger("vitstudy").info("%s", path.relative_to(files.root()))


@main.command()
@click.option("--weight", "weights", multiple=True, help="NAME=SHARE of a metric; default: equal.")
@click.option("--reference", "references", multiple=True, help="NAME=VALUE instead of ViT-B/16's.")
@click.option("--limit", "limits", multiple=True, help="NAME=VALUE that must not be exceeded.")
@click.option("--top1", default=0.0, help="Least Top-1, percent.")
@click.option("--rows", default=20, type=click.IntRange(1), help="How many models to show.")
def rank(
    weights: tuple[str, ...],
    references: tuple[str, ...],
    limits: tuple[str, ...],
    top1: float,
    rows: int,
) -> None:
    """Rank the surveyed models by a weighted EER: parameters (M), flops (G), bits, size (MB)."""
    from vitstudy.survey import ranking

    shown = ranking.from_options(weights, references, limits, top1)
    click.echo(ranking.as_text(shown.head(rows)).to_string(index=False))
    click.echo(f"{len(shown)} models keep the limits")


@main.command()
@click.argument("name")
@click.argument("profile", default="digits")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The executed copy.")
@click.option("-p", "parameters", type=(str, str), multiple=True, help="A parameter and its value.")
@click.option("--if-measured", is_flag=True, help="Do nothing where there is nothing to show.")
def notebook(
    name: str,
    profile: str,
    output: Path | None,
    parameters: tuple[tuple[str, str], ...],
    if_measured: bool,
) -> None:
    """Run the notebook NAME on PROFILE from a clean kernel, into a copy."""
    files.repository()
    from vitstudy import graph, notebooks, profiles

    profiles.get(profile)
    if if_measured and (absent := notebooks.lacks(name, profile)):
        graph.executed(profile, name).unlink(missing_ok=True)
        logging.getLogger("vitstudy").info(
            "notebook %s is left out: no record of %s on %s", name, ", ".join(absent), profile
        )
        return
    notebooks.execute(name, profile, output, **dict(parameters))


@main.command()
@click.argument("profile", default="digits")
@click.option("--all", "every_tier", is_flag=True, help="Tell what failed of every method's cells.")
def site(profile: str, every_tier: bool) -> None:
    """Build site/ from the executed notebooks of PROFILE and the committed results on CIFAR."""
    files.repository()
    from vitstudy import profiles

    profiles.get(profile)
    from vitstudy.report import site

    logging.getLogger("vitstudy").info("site of %s", profile)
    site.build(profile, every_tier)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def reproduce(arguments: tuple[str, ...]) -> None:
    """Make everything of a profile: [PROFILE] [--from-records] [--all] [SNAKEMAKE OPTIONS].

    With --all also the methods that the profile computes only when they are asked for.
    """
    files.repository()
    from vitstudy import workflow

    rest = list(arguments)
    profile = rest.pop(0) if rest and not rest[0].startswith("-") else "digits"
    from_records, every_tier = "--from-records" in rest, "--all" in rest
    rest = [argument for argument in rest if argument not in ("--from-records", "--all")]
    sys.exit(workflow.reproduce(profile, from_records, rest, every_tier))


@main.command()
@click.option("--seeds", default="0,1,2", show_default=True, help="Numbers, with commas between.")
@click.option(
    "--instructions",
    "sets",
    default="default,avx2,avx512",
    show_default=True,
    help="Those that this processor lacks are left out.",
)
@click.option("--anew", is_flag=True, help="Forget all samples first: a recipe has changed.")
def bands(seeds: str, sets: str, anew: bool) -> None:
    """Make the bands of the notebooks' numbers from several seeds and instruction sets.

    The cells of the digits study that the numbers come from are computed once for each, and kept as
    samples in notebooks/reference.json. Samples that are still true are not computed again.
    """
    files.repository()
    from vitstudy.report import bands

    numbers = seeds.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise UserError(f"--seeds {seeds!r} are no whole numbers with commas between, as in 0,1,2")
    names = [name.strip() for name in sets.split(",")]
    if failed := bands.make([int(number) for number in numbers], names, anew=anew):
        log = logging.getLogger("vitstudy")
        log.error("%d samples failed; the others are kept", failed)
        sys.exit(1)


@main.command()
@click.argument("profile", default="digits")
@click.option(
    "--images", type=click.IntRange(1), help="Number of the first test images; all if not given."
)
def portability(profile: str, images: int | None) -> None:
    """Compare PROFILE's models under this processor's instruction sets and with others' records.

    Records of other machines are compared by their predictions. The table is
    results/PROFILE/tables/portability.csv.
    """
    from vitstudy import profiles

    profiles.get(profile)
    from vitstudy import portability

    written = portability.make(profile, images)
    logging.getLogger("vitstudy").info("%s", written.relative_to(files.root()))


@main.command()
def support() -> None:
    """Try every kind of method on every family of models: the page docs/own_model.md."""
    files.repository()
    from vitstudy.library import support

    logging.getLogger("vitstudy").info("%s", support.write().relative_to(files.REPOSITORY))


@main.command("check-notebooks")
def check_notebooks() -> None:
    """Run the committed notebooks again and compare what must not change (nbval); judge bands."""
    files.repository()
    from vitstudy import notebooks

    sys.exit(notebooks.check([notebooks.path(name) for name in notebooks.names()]))


@main.command()
@click.option(
    "--from-records",
    is_flag=True,
    help="Only what follows from committed records: the README, the notebook on scales.",
)
def refresh(from_records: bool) -> None:
    """Write the committed notebooks' outputs and the README's numbers anew.

    The numbers of the digits need their study, made from nothing in this folder.
    """
    files.repository()
    from vitstudy import notebooks
    from vitstudy.report import readme

    readme.refresh(made_here=not from_records)
    if from_records:
        notebooks.refresh_one("10_scales")
    else:
        notebooks.refresh()
