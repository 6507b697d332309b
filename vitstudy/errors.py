"""The errors that a user can cause, and the one that training can."""

import errno
import re
from numbers import Integral

FULL = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b")
"""How a full disk is told, by the system or by a library in its own words."""
FULL_LINE = (
    "no space left on the disk; free some and run again: what is finished is kept, the rest is "
    "computed"
)


class UserError(Exception):
    """One line: what is wrong, what is valid, what to do. The command line exits with code 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the line, without the way there."""
        return [f"error: {self}"]


class TrainingFailed(Exception):
    """Training left the finite numbers; the cell gets a `failed` record, the others go on."""


class NotebookFailed(Exception):
    """A cell of a notebook raised an error."""


def unknown(kind: str, name: str, valid) -> UserError:
    """The error for a name that is none of `valid`."""
    return UserError(f"unknown {kind} {name!r}; valid: {', '.join(map(str, valid))}")


def check_bits(bits: object, lowest: int = 2) -> None:
    """Raise UserError unless `bits`, which a reader turns, is a whole number from `lowest` to 16.

    More would make a list of 2^bits values before anything else could complain.
    """
    if isinstance(bits, bool) or not isinstance(bits, Integral) or not lowest <= bits <= 16:
        raise UserError(f"bits={bits!r}: valid are whole numbers from {lowest} to 16")


def to_mend(error: Exception) -> str | None:
    """The line for a user who has something to mend before it can go on; None for other errors."""
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
