"""The errors that a user can cause, and the one that training can."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from numbers import Integral

FULL = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b")
"""Matches the message of a full disk, the system's or a library's own."""
FULL_LINE = (
    "no space left on the disk; free some and run again: what is finished is kept, the rest is "
    "computed"
)


class UserError(Exception):
    """Raised for what a user can mend: one line says what is wrong, what is valid, what to do.

    The command line exits with code 2.
    """

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of the error: its line, without the stack."""
        return [f"error: {self}"]


class TrainingFailed(Exception):
    """Raised where training leaves the finite numbers; the cell then gets a `failed` record."""


class NotebookFailed(Exception):
    """Raised where a cell of a notebook raises an error."""


def unknown(kind: str, name: object, valid: Iterable[object]) -> UserError:
    """Make the error for a name that is none of `valid`."""
    return UserError(f"unknown {kind} {name!r}; valid: {', '.join(map(str, valid))}")


def check_bits(bits: object, lowest: int = 2) -> None:
    """Raise UserError unless `bits`, which a reader chooses, is a whole number from `lowest` to 16.

    More bits would make a list of 2^bits values before anything else could complain.
    """
    if isinstance(bits, bool) or not isinstance(bits, Integral) or not lowest <= int(bits) <= 16:
        raise UserError(f"bits={bits!r}: valid are whole numbers from {lowest} to 16")


def to_mend(error: Exception) -> str | None:
    """Return the line for a user who can mend the cause of `error`; None for other errors."""
    if isinstance(error, UserError):
        return str(error)
    # numpy's own message of a write that was cut short carries no number.
    cut_short = isinstance(error, OSError) and " requested and " in str(error)
    number = getattr(error, "errno", None)
    if cut_short or number in (errno.ENOSPC, errno.EDQUOT) or FULL.search(str(error)):
        where = getattr(error, "filename", None)
        return FULL_LINE.replace("disk;", f"disk for {where};") if where else FULL_LINE
    if isinstance(error, OSError) and number in (errno.EACCES, errno.EPERM, errno.EROFS):
        from vitstudy import files

        where = f" for {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}; the study writes below {files.root()}"
    return None
