import pytest
import torch

from vitstudy.report import notebook, teaching


@pytest.fixture
def said(monkeypatch):
    """What was said."""
    lines = []
    monkeypatch.setattr(notebook, "say", lines.append)
    return lines


def test_a_model_that_is_not_here_is_one_line_with_the_command_that_makes_it(home, said):
    assert teaching.model("smoke", "vtp-gates") is None
    (line,) = said
    assert "smoke/digits/vtp-gates/seed0 is not here" in line
    assert 'python -m vitstudy run "smoke/digits/vtp-gates"' in line


def test_images_that_are_not_here_are_one_line_and_not_fetched(home, said, monkeypatch):
    monkeypatch.setenv("VITSTUDY_DATA", "nowhere")
    assert teaching.pictures("cifar") is None
    assert said == ["The images of cifar10 are not here, so the method is not shown."]


def test_a_model_that_is_here_is_the_artifact_without_gradients(in_smoke, said):
    model, pictures = teaching.model("smoke"), teaching.pictures("smoke", 4)
    assert said == [] and not any(p.requires_grad for p in model.parameters())
    assert pictures.raw.dtype == torch.uint8 and len(pictures.labels) == 4
    assert model(pictures.images).shape == (4, len(pictures.names))


@pytest.mark.parametrize("block", [0, -1])
def test_heads_are_those_that_the_block_attends_with(vit, block):
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    q, k, v = teaching.heads(vit, block, images)
    attention = vit.blocks[block].attn
    tokens = teaching.given(vit, f"blocks.{block % len(vit.blocks)}.attn", images)
    seen = (q @ k.mT * attention.scale).softmax(-1) @ v
    by_hand = attention.proj(seen.transpose(1, 2).flatten(2))
    torch.testing.assert_close(by_hand, attention(tokens))
