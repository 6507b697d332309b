"""Training throughput of `fit` against a bare loop over timm's model with the data in memory.

`fit` is timed in float32 and in bfloat16: a profile of the CPU takes float32, which every CPU has.

    python tests/benchmarks/training_throughput.py [profile] [data set] [steps]

Both train the same model with the same optimisers on the same number of images, in turn. The bare
loop's images are normalised beforehand and not augmented; it keeps no checkpoint and shows nothing.
"""

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

from vitstudy import data, models, profiles, training

ROUNDS = 5


def bare(model, recipe, images, labels) -> float:
    optimisers = training.optimisers(model, recipe)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    order = torch.randperm(len(images))
    model.train()
    started = time.perf_counter()
    for step in range(recipe.steps):
        chosen = order[torch.arange(recipe.batch_size).add(step * recipe.batch_size) % len(order)]
        loss(model(images[chosen]), labels[chosen]).backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
    return recipe.steps * recipe.batch_size / (time.perf_counter() - started)


def main() -> None:
    name, dataset, steps = (*sys.argv[1:], *("digits", "digits", "100")[len(sys.argv) - 1 :])
    profile = profiles.get(name)
    given = data.load(dataset)
    recipe = replace(profile.recipe(dataset), steps=int(steps))
    images = given.normalise(given.train.images)
    rates = {"bare": [], "fit": [], "fit in bfloat16": []}

    def fresh():
        return models.build(profile.architecture, given.spec.num_classes, given.spec.channels)

    with training.threads(profile.threads), tempfile.TemporaryDirectory() as folder:
        for each in range(ROUNDS):
            rates["bare"].append(bare(fresh(), recipe, images, given.train.labels))
            for kind, bf16 in (("fit", False), ("fit in bfloat16", True)):
                took = training.fit(
                    fresh(),
                    given,
                    replace(recipe, bf16=bf16),
                    seed=0,
                    name=kind,
                    checkpoint=Path(folder) / f"{each} {kind}.pt",
                )
                rates[kind].append(took["images_seen"] / took["seconds"])
    for kind, found in rates.items():
        print(f"{kind:15} {median(found):8.0f} images/s (of {min(found):.0f} to {max(found):.0f})")
    for kind in ("bare", "fit in bfloat16"):
        ratios = [fit / other for fit, other in zip(rates["fit"], rates[kind], strict=True)]
        print(f"fit / {kind}: {median(ratios):.3f}")


if __name__ == "__main__":
    main()
