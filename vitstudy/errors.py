"""The errors that a user can cause, and the one that training can."""


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
