"""Hydra attention against a recorded case and by hand."""

import torch
from recorded import assert_recorded, recorded

from vitstudy.attention.hydra import Hydra, hydra_attention


def test_two_tokens_of_two_features_by_hand():
    q = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).double()
    k = torch.tensor([[1.0, 0.0], [3.0, 4.0]]).double()
    v = torch.tensor([[10.0, 20.0], [5.0, 10.0]]).double()
    # k̂ ⊙ v sums to (10 + 0.6 · 5, 0.8 · 10) = (13, 8); q̂ is (0.6, 0.8) and (0, 1)
    assert torch.allclose(hydra_attention(q, k, v), torch.tensor([[7.8, 6.4], [0.0, 8.0]]).double())


def test_the_recorded_case_of_a_third_partys_code():
    tensors, meta = recorded("hydra__n65")
    weight, bias = tensors["w.qkv.weight"].double(), tensors["w.qkv.bias"].double()
    x = tensors["in_x"].double() @ weight.T + bias  # (B, n, 3 D): no head anywhere
    q, k, v = x.unflatten(-1, (3, -1)).unbind(-2)
    assert_recorded(hydra_attention(q, k, v), tensors, meta, "out_core")
    split = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in (q, k, v))
    merged = Hydra().attend(*split, scale=1.0, prefix=1).transpose(1, 2).flatten(2)
    assert_recorded(merged, tensors, meta, "out_core")
