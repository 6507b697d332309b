"""Prints what pruning buys at ViT-B/16: python tests/benchmarks/pruning.py (about two minutes).

Random weights; dense and slim models in turn in one process, on an idle machine. A `uniform` cut
keeps the same share of every head and hidden layer, so nothing is gathered; `uneven` is cut at
random over all kinds of dimensions, which is the costliest layout that a score can leave.
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vitstudy import measure, models, profiles, speed
from vitstudy.pruning import importance, slim

R = 0.2


def uniform(shape: slim.Shape) -> slim.Masks:
    """The masks of the greatest keep ratio at which R of the parameters go."""
    kinds = ("query_key", "value", "hidden")
    ratios = [step / shape.head_dim for step in range(shape.head_dim, 0, -1)]
    cuts = (slim.uniform(shape, keep, kinds) for keep in ratios)
    return next(masks for masks in cuts if slim.removed(masks, shape) >= R)


def main() -> None:
    torch.manual_seed(0)
    architecture = profiles.get("paper").architecture
    dense = models.build(architecture, 10, 3).eval()
    shape = slim.shape_of(dense)
    started = time.perf_counter()
    uneven = slim.select(importance.random_scores(shape, 0), shape, R)
    print(f"choosing dimensions at r = {R}: {time.perf_counter() - started:.1f} s")
    built = {"dense": dense}
    for name, masks in (("uniform", uniform(shape)), ("uneven", uneven)):
        started = time.perf_counter()
        built[name] = slim.slim(dense, masks).eval()
        print(f"removing them, {name}: {time.perf_counter() - started:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        sizes = {}
        for name, model in built.items():
            path = Path(folder) / name
            models.save(model, path)
            sizes[name] = path.stat().st_size
    images = torch.randn(4, 3, architecture.image_size, architecture.image_size)
    turns = speed.interleave({name: (model, images) for name, model in built.items()}, rounds=5)
    base = turns["dense"]["images_per_second"]
    macs = {name: measure.count_macs(model, 224, 3) for name, model in built.items()}
    parameters = {name: measure.count_parameters(model) for name, model in built.items()}
    for name, found in turns.items():
        ratio = np.median(found["images_per_second"] / base)
        print(
            f"{name:8} {np.median(found['images_per_second']):7.2f} images/s, {ratio:.3f}x dense; "
            f"file {sizes[name] / sizes['dense']:.4f}, "
            f"parameters {parameters[name] / parameters['dense']:.4f}, "
            f"MACs {macs[name] / macs['dense']:.4f}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{torch.get_num_threads()} threads, batch {len(images)}, peak memory {peak:.1f} GiB")


if __name__ == "__main__":
    main()
