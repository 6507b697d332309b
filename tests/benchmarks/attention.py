"""Prints softmax attention's time over Nyström attention's: python tests/benchmarks/attention.py

Each number of tokens in turn, softmax with its matrix written out and by PyTorch's fused kernel, at
the heads of the digits' and of the papers' network. The target, on an idle CPU: at 4,096 tokens and
64 landmarks at least 5 times as fast as either.
"""

from statistics import median

import torch

from vitstudy import profiles
from vitstudy.attention import scaling

LENGTHS = (65, 197, 1024, 4096)
ROUNDS = 3
TARGET = 5.0


def times(tokens: int, heads: int, head_dim: int) -> dict[str, float]:
    """Seconds a call of each attention, the median of turns taken one after the other."""
    q, k, v = torch.randn(3, 1, heads, tokens, head_dim)
    timed = scaling.attentions(tokens)
    turns = {name: [] for name in timed}
    with torch.inference_mode():
        for position in range(ROUNDS + 1):
            for name, each in timed.items():
                seconds = scaling._seconds(lambda each=each: each(q, k, v), 1, "cpu")
                if position:  # the first turn warms up
                    turns[name].append(seconds)
    return {name: median(each) for name, each in turns.items()}


def main() -> None:
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in ("digits", "paper"):
        shape = profiles.get(name).architecture
        print(f"{shape.heads} heads of {shape.width // shape.heads} dimensions ({name}):")
        for tokens in LENGTHS:
            found = times(tokens, shape.heads, shape.width // shape.heads)
            for number in scaling.LANDMARKS:
                nystrom = found[f"nystrom-m{number}"]
                explicit, fused = found["explicit"] / nystrom, found["fused"] / nystrom
                target = ""
                if (tokens, number) == (4096, 64):
                    reached = "reached" if min(explicit, fused) >= TARGET else "missed"
                    target = f"  (target {TARGET:g}x: {reached})"
                print(
                    f"  n = {tokens:4}, m = {number:2}: {1e3 * nystrom:8.2f} ms, softmax written "
                    f"out takes {explicit:6.2f}x, the fused kernel {fused:6.2f}x{target}"
                )


if __name__ == "__main__":
    main()
