"""Prints what the quantizers cost: python tests/benchmarks/quantization.py (about a minute)."""

import resource
import time
from statistics import median

import torch
import torch.nn.functional as F

from vitstudy import models, profiles
from vitstudy.packing import pack, unpack
from vitstudy.quantization import diffq, fq_vit, lsq


def seconds(function, repeats: int = 5) -> float:
    """Median time of `repeats` calls after one that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times[1:])


def power_of_two_factors() -> None:
    x = torch.randn(8, 197, 384) * torch.randn(384).exp()

    def loop():
        scale, zero_point = fq_vit.affine_range(x.min(), x.max(), 8)
        for channel in range(x.shape[-1]):
            for factor in range(4):
                step = scale / 8 * 2**factor
                q = (torch.round(x[..., channel] / step) + zero_point).clamp(0, 255)
                ((q - zero_point) * step - x[..., channel]).square().mean()

    fast, slow = seconds(lambda: fq_vit.power_of_two_factors(x, 8)), seconds(loop)
    print(
        f"power-of-two factors of (8, 197, 384): {1e3 * fast:.1f} ms, {slow / fast:.1f}x the loop"
    )


def training_steps(profile: str) -> None:
    recipe = profiles.get(profile).recipes[0]
    images = torch.randn(recipe.batch_size, 3, 32, 32)
    labels = torch.randint(0, 10, (recipe.batch_size,))
    model = models.build(profiles.get(profile).architecture, 10, 3)

    def step(trained, penalty=lambda: 0.0):
        optimizer = torch.optim.AdamW(trained.train().parameters(), lr=1e-4)

        def run():
            optimizer.zero_grad()
            (F.cross_entropy(trained(images), labels) + penalty()).backward()
            optimizer.step()

        return seconds(run)

    base, noisy = step(model), diffq.DiffQ(model)
    ends = {"first_last_bits": 8, "images": images}
    print(f"one training step at {profile}, float: {1e3 * base:.0f} ms; over that,")
    print(f"  LSQ W4    {step(lsq.prepare(model, 4)[0]) / base:.2f}x")
    print(f"  LSQ W4A4  {step(lsq.prepare(model, 4, 4, **ends)[0]) / base:.2f}x")
    print(f"  DiffQ     {step(noisy, noisy.size_mb) / base:.2f}x")


def packing() -> None:
    codes = torch.randint(0, 16, (86_000_000,), dtype=torch.uint8)
    start = time.perf_counter()
    packed = pack(codes, 4)
    middle = time.perf_counter()
    same = torch.equal(unpack(packed, 4, tuple(codes.shape)), codes)
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"86 M values at 4 bits: packed in {middle - start:.2f} s, "
        f"unpacked in {end - middle:.2f} s, equal: {same}, peak memory {peak:.2f} GiB"
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    packing()
    power_of_two_factors()
    for profile in ("digits", "cifar-cpu"):
        training_steps(profile)
