"""Prints what the engines gain over PyTorch in float32: python tests/benchmarks/engines.py.

ViT-B/16 at 224 pixels, batch 8, two threads: some minutes. `--profile digits` takes that profile's
network instead, in seconds. Nothing else should run meanwhile.
"""

import argparse
from statistics import median

import torch
from torch import nn

from vitstudy import measure, models, profiles, speed
from vitstudy.quantization import dynamic, lsq, onnx_four_bits, onnx_runtime, torchao_int8

WANTED = 2.5
"""How many times faster than PyTorch float ONNX Runtime's int8 is to be at ViT-B/16."""


def engines(model: nn.Module) -> dict[str, nn.Module]:
    """The same network in every engine; the weights are random, for speed alone."""
    exported = onnx_runtime.export(model)
    four_bits = lsq.prepare(model, 4)[0]
    contents = {
        "ONNX Runtime float32": exported,
        "ONNX Runtime int8": onnx_runtime.quantize(exported),
        "ONNX Runtime W4": onnx_four_bits.convert(four_bits),
        "ONNX Runtime W4A8": onnx_four_bits.convert(four_bits, activation_bits=8),
    }
    return {
        "PyTorch float32": model,
        "PyTorch dynamic int8": dynamic.quantize(model),
        "torchao int8": torchao_int8.quantize(model),
        **{name: onnx_runtime.run(each, model) for name, each in contents.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="paper", choices=profiles.PROFILES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    architecture = profiles.get(given.profile).architecture
    model = models.build(architecture, 10, 3).eval()
    images = torch.randn(given.batch, 3, architecture.image_size, architecture.image_size)
    pairs = {name: (each, images) for name, each in engines(model).items()}
    turns = speed.interleave(pairs, given.rounds)
    base = turns["PyTorch float32"]["images_per_second"]
    print(f"{measure.cpu()}, {' '.join(measure.instruction_sets())}")
    print(f"{given.profile}'s network, batch {given.batch}, {given.threads} threads")
    for name, each in turns.items():
        rate, ratio = median(each["images_per_second"]), median(each["images_per_second"] / base)
        print(f"  {name:22} {rate:9.2f} images/s, {ratio:5.2f}x")
    print(f"wanted of ONNX Runtime int8 at ViT-B/16: at least {WANTED}x")


if __name__ == "__main__":
    main()
