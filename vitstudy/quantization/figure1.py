"""What the papers' Figure 1 draws: the last LayerNorm's inputs and the first attention maps.

After Lin et al., FQ-ViT, IJCAI 2022, who drew timm's Swin-B (left) and ViT-L (right).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vitstudy import weights
from vitstudy.context import Context
from vitstudy.errors import UserError

log = logging.getLogger(__name__)

SWIN_B, VIT_L = "swin_base_patch4_window7_224", "vit_large_patch16_224"
IMAGES = 64
"""Calibration images that the models are shown."""
SAMPLES = 16_384
"""Attention values kept of each model."""


def observe(context: Context, model: nn.Module) -> dict[str, np.ndarray]:
    """Figure 1 of `model` (as `vanilla`) and, where the profile is pretrained, of timm's two.

    `norm_min__<name>` and `norm_max__<name>` (D,); `attention__<name>` (samples,), and the greatest
    of all values, from which they were drawn, as `attention_max__<name>` (). Where timm's weights
    cannot be had, `absent__<name>` says why.
    """
    found = {**norm_range(context, model, "vanilla"), **attention(context, model, "vanilla")}
    if not context.profile.architecture.timm_name:
        return found
    for name, side in ((SWIN_B, norm_range), (VIT_L, attention)):
        try:
            published = weights.timm_model(name, 0, context.data.spec.channels).eval()
        except UserError as error:
            log.warning("Figure 1 is drawn without %s: %s", name, error)
            found[f"absent__{name}"] = np.array(str(error))
        else:
            found |= side(context, published, name)
    return found


def norm_range(context: Context, model: nn.Module, name: str) -> dict[str, np.ndarray]:
    """Least and greatest input of each channel of `model.norm`, over tokens and images."""
    low: list[Tensor] = []
    high: list[Tensor] = []

    def look(x: Tensor) -> None:  # (..., D)
        low.append(x.flatten(0, -2).amin(0).cpu())
        high.append(x.flatten(0, -2).amax(0).cpu())

    _show(context, model, model.norm, look)
    return {
        f"norm_min__{name}": torch.stack(low).amin(0).numpy(),
        f"norm_max__{name}": torch.stack(high).amax(0).numpy(),
    }


def attention(context: Context, model: nn.Module, name: str) -> dict[str, np.ndarray]:
    """A random sample of the values of the first block's attention maps, and the greatest."""
    layer = model.blocks[0].attn
    kept: list[Tensor] = []
    greatest: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)

    def look(x: Tensor) -> None:  # (B, N, D)
        values = attention_maps(layer, x).flatten()
        greatest.append(values.max().cpu())
        places = torch.randint(len(values), (SAMPLES,), generator=generator)
        kept.append(values[places.to(values.device)].cpu())

    _show(context, model, layer, look)
    values = torch.cat(kept)
    values = values[torch.randperm(len(values), generator=generator)[:SAMPLES]]
    return {
        f"attention__{name}": values.numpy(),
        f"attention_max__{name}": torch.stack(greatest).max().numpy(),
    }


def attention_maps(layer: nn.Module, x: Tensor) -> Tensor:
    """Softmax of timm's `Attention` layer for tokens x (B, N, D): (B, heads, N, N)."""
    b, n, _ = x.shape
    q, k, _ = layer.qkv(x).reshape(b, n, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return (layer.q_norm(q) @ layer.k_norm(k).transpose(-2, -1) * layer.scale).softmax(-1)


def _show(
    context: Context, model: nn.Module, module: nn.Module, look: Callable[[Tensor], None]
) -> None:
    """Call `look` with the inputs of `module` while `model` sees the first calibration images."""
    with _hooked(module, look):
        context.evaluate(model, context.data.calibration.head(IMAGES))


@contextmanager
def _hooked(module: nn.Module, look: Callable[[Tensor], None]):
    hook = module.register_forward_pre_hook(lambda _, given: look(given[0].detach()))
    try:
        yield
    finally:
        hook.remove()
