"""Computes cells of a shortened profile and prints what came out: a script, not to be imported.

    PYTHONPATH=REPOSITORY python -P probe.py < request > answers

`adoption` runs it with the package as it was and as it is. It therefore uses of the package only
what every version has: `profiles.get`, `profiles.PROFILES`, `study.Cell` and `study.run`.

The request is JSON: `profile`, and `cells`, a list of (data set, method). The answers are a line of
JSON for each cell: its record, and `training`, the SHA-256 of the losses and gradients of each
step; or `failed`, the error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from vitstudy.profiles import Profile

STEPS = 12
"""Enough that the shortest fine-tuning, a share of it, still has a step."""
BATCH = 8
IMAGES = (256, 64, 64, 64)
"""Images of train, calibration, validation and test."""


def shortened(profile: Profile) -> Profile:
    """Return the profile with a few steps on a few images, everything else as it is."""
    first, second = (
        dataclasses.replace(recipe, steps=STEPS, batch_size=BATCH) for recipe in profile.recipes
    )
    recipes = (first, second)
    return dataclasses.replace(profile, recipes=recipes, limit=IMAGES, threads=1, committed=False)


def watch_training() -> hashlib._Hash:
    """Return a hash that takes in every loss and every gradient from now on."""
    seen, backward = hashlib.sha256(), torch.Tensor.backward

    def watched(loss: torch.Tensor, *arguments: Any, **options: Any) -> None:
        seen.update(loss.detach().double().numpy().tobytes())
        backward(loss, *arguments, **options)

    def before_step(optimiser: torch.optim.Optimizer, *_: object) -> None:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    seen.update(parameter.grad.double().numpy().tobytes())

    torch.Tensor.backward = watched
    register_optimizer_step_pre_hook(before_step)
    return seen


def main() -> None:
    """Answer the request on stdin."""
    from vitstudy import profiles, study

    request = json.load(sys.stdin)
    profile = shortened(profiles.get(request["profile"]))
    profiles.PROFILES[profile.name] = profile
    seen = watch_training()
    for dataset, method in request["cells"]:
        before = seen.hexdigest()
        try:
            record = study.run(study.Cell(profile.name, dataset, method, profile.seeds[0]))
            answer = dataclasses.asdict(record)
        except Exception as error:  # the other cells can still be compared
            answer = {"failed": f"{type(error).__name__}: {error}"}
        if answer.get("error"):
            answer = {"failed": answer["error"]}
        elif seen.hexdigest() != before:
            answer["training"] = seen.hexdigest()
        print(json.dumps({"dataset": dataset, "method": method, **answer}), flush=True)


if __name__ == "__main__":
    main()
