"""Which of the study's methods a user's own model can be given to, and what each needs for it."""

from __future__ import annotations

from dataclasses import dataclass

from vitstudy import methods
from vitstudy.errors import UserError
from vitstudy.methods import Method

GIVEN, TEACHER = "vanilla", "teacher"
"""The methods in whose place stand the user's model and the user's teacher."""

FROM_SCRATCH = {
    "vitstudy.baseline": "continued",
    "vitstudy.small": "diffq-finetuned",
    "vitstudy.distillation.teacher": "continued",
    "vitstudy.distillation.soft": "taught",
    "vitstudy.distillation.deit": "taught",
}
"""The modules that train networks of the study's own, and what to take for another network."""
NEEDS_IMAGES = ("vitstudy.quantization.lsq", "vitstudy.quantization.fq_vit")


@dataclass(frozen=True)
class Choice:
    """A method that `compress` takes, as `list_methods` tells of it."""

    key: str
    title: str
    kind: str
    needs: tuple[str, ...]
    """Of `calibration`, `labels` (of the calibration images), `train` and `teacher`."""
    note: str


def list_methods() -> list[Choice]:
    """The methods that `compress` takes, those of the papers' tables first."""
    return [
        Choice(each.key, each.title, each.method, needs(each), each.note)
        for each in methods.available()
        if not _from_scratch(each)
    ]


def get(key: str) -> Method:
    """The method `key`; raises UserError, in one line, where it cannot be used for a user's model.

    That is an unknown one, one that trains a network of the study's own, and one whose engine is
    not installed.
    """
    if not isinstance(key, str):
        raise UserError(f"the method is a {type(key).__name__}; give its name, such as 'lsq-w4'")
    try:
        method = methods.get(key)
    except UserError:
        keys = ", ".join(each.key for each in list_methods())
        raise UserError(f"unknown method {key!r}; valid: {keys}") from None
    if reason := _from_scratch(method):
        raise UserError(reason)
    if reason := methods.not_installed(method):
        raise UserError(f"{key} cannot be used here: {reason}")
    return method


def _from_scratch(method: Method) -> str:
    """Why `method` has no use for a user's model; empty where it has."""
    instead = FROM_SCRATCH.get(method.module, "diffq-finetuned")
    if method.module in FROM_SCRATCH or "width" in method.options:
        return (
            f"{method.key} trains a network of the study's own from scratch, so it can make nothing"
            f" of another model; for one of your own take {instead}"
        )
    for key in method.parents:
        if key not in (GIVEN, TEACHER) and _from_scratch(methods.get(key)):
            return (
                f"{method.key} starts from {key}, which is a network of the study's own: take a "
                "method that starts from your model"
            )
    return ""


def stages(method: Method) -> list[Method]:
    """The methods that are applied to the given model, one after the other, `method` last."""
    before = [methods.get(key) for key in method.parents if key not in (GIVEN, TEACHER)]
    order = [stage for each in before for stage in stages(each)]
    return list({each.key: each for each in (*order, method)}.values())


def needs(method: Method) -> tuple[str, ...]:
    """What `method` and those that it starts from need: see `Choice.needs`."""
    wanted = [each for stage in stages(method) for each in _own_needs(stage)]
    return tuple(dict.fromkeys(wanted))


def _own_needs(method: Method) -> list[str]:
    options, found = method.options, []
    if options.get("method", method.module) in NEEDS_IMAGES or options.get("score") == "kl":
        found.append("calibration")
    if options.get("score") == "taylor":
        found += ["calibration", "labels"]
    if share_of_steps(method):
        found.append("train")
    if TEACHER in method.parents:
        found.append("teacher")
    return found


def share_of_steps(method: Method) -> float:
    """The share of a recipe's steps that `method` trains for; 0 where it does not train."""
    return method.options.get("steps", 0)
