"""Twin uniform quantization: the recorded vectors, and the paper's form by hand.

Vectors: hahnyuan/PTQ4ViT@b42c790 run on small inputs; values within 1e-6. Its softmax form adds
both halves for every value, which is not the paper's.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vitstudy.quantization.ptq4vit import GELU_LOWEST, twin_gelu, twin_softmax

REFERENCE = Path(__file__).parents[1] / "reference" / "ptq4vit_twin.npz"


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_softmax_of_the_authors_code_equals_the_recorded():
    with np.load(REFERENCE) as r:
        for case in json.loads(str(r["meta"]))["cases"]:
            tag, bits = case["tag"], int(case["tag"].split("_")[1][1:])
            for kind, source in (("soft", "softmax"), ("edge", "edge")):
                x = torch.from_numpy(r[f"in__{source}"])
                y = twin_softmax(x, case["split"], bits, overlapping=True)
                close(y, r[f"{tag}_{kind}__out"])


@pytest.mark.parametrize("bits", [4, 6, 8])
@pytest.mark.parametrize("case", ["f1.0", "f0.6", "na2"])
def test_gelu_equals_the_recorded(bits, case):
    with np.load(REFERENCE) as r:
        x = torch.from_numpy(r["in__gelu"])
        step = torch.from_numpy(r[f"gelu_b{bits}_{case}__a_interval"])
        step = step.repeat_interleave(x.shape[-1] // step.numel(), 0).view(-1)  # blocks of channels
        close(twin_gelu(x, step, bits), r[f"gelu_b{bits}_{case}__out"])


def test_softmax_of_the_paper_by_hand():
    x = torch.tensor([0.0, 0.03, 0.2, 0.25, 0.6, 1.0])  # steps 1/32 below 1/4, 1/8 above
    expected = [0.0, 1 / 32, 6 / 32, 2 / 8, 5 / 8, 7 / 8]
    close(twin_softmax(x, 0.25, 4), expected)


def test_gelu_keeps_its_least_value():
    x = torch.tensor([-GELU_LOWEST, 0.0, 2.0, 100.0])
    close(twin_gelu(x, 1.0, 4), [-GELU_LOWEST, 0.0, 2.0, 7.0])


def test_bad_input_is_refused():
    for bits in (1, 17, 4.0):
        with pytest.raises(ValueError, match="2 to 16"):
            twin_gelu(torch.ones(1), 1.0, bits)
    for split in (0, 1.5):
        with pytest.raises(ValueError, match="split"):
            twin_softmax(torch.ones(1), split, 4)
