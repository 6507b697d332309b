"""Tiny models of timm's that the study does not build, and what each method makes of them.

`VARIANTS` gives, by name, a model with random weights, none of them 0 or 1, so that whatever a
method drops shows in the logits. `REFUSED` says, by method, which it refuses and which layer its
one line names first; whatever is not listed there has to work.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.layers import GluMlp, RmsNorm, SwiGLU
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import (
    Attention,
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from torch import Tensor, nn

from vitstudy.errors import UserError

TINY = dict(img_size=32, patch_size=8, num_classes=5, embed_dim=32, depth=2, num_heads=2)
vit, eva, beit = (partial(kind, **TINY) for kind in (VisionTransformer, Eva, Beit))
WINDOWS = dict(img_size=32, patch_size=4, num_classes=5, embed_dim=16, window_size=4)


class GatedOutput(Attention):
    """timm's attention with a sigmoid gate on its output."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options, gated=True)


def two_depths_of_mlp() -> VisionTransformer:
    """Blocks that are not alike: the second has the wider MLP."""
    model = vit()
    model.blocks[1].mlp = vit(mlp_ratio=3).blocks[1].mlp
    return model


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "plain": vit,
    "no qkv bias": partial(vit, qkv_bias=False),
    "no proj bias": partial(vit, proj_bias=False),
    "layer scale": partial(vit, init_values=0.1),
    "registers": partial(vit, reg_tokens=2),
    "no class token": partial(vit, class_token=False, global_pool="avg"),
    "pre norm": partial(vit, pre_norm=True),
    "fc norm": partial(vit, fc_norm=True),
    "no final norm": partial(vit, final_norm=False),
    "no embedded class": partial(vit, no_embed_class=True, reg_tokens=1),
    "no positions": partial(vit, pos_embed="none"),
    "any image size": partial(vit, dynamic_img_size=True),
    "dropout": partial(vit, drop_rate=0.1, pos_drop_rate=0.1, proj_drop_rate=0.3),
    "attention dropout": partial(vit, attn_drop_rate=0.3),
    "drop path": partial(vit, drop_path_rate=0.3),
    "patch drop": partial(vit, patch_drop_rate=0.25),
    "no classes": partial(vit, num_classes=0),
    "all tokens": partial(vit, global_pool=""),
    "rectangle": partial(vit, img_size=(32, 16)),
    "norm without bias": partial(vit, norm_layer=partial(nn.LayerNorm, bias=False)),
    "norm without affine": partial(
        vit, norm_layer=partial(nn.LayerNorm, elementwise_affine=False), init_values=0.1
    ),
    "rms norm": partial(vit, norm_layer=RmsNorm),
    "relu": partial(vit, act_layer=nn.ReLU),
    "map pooling": partial(vit, global_pool="map"),
    "distilled": partial(VisionTransformerDistilled, **TINY),
    "qk norm": partial(vit, qk_norm=True),
    "attention norm": partial(vit, scale_attn_norm=True),
    "mlp norm": partial(vit, scale_mlp_norm=True),
    "gated attention": partial(vit, attn_layer=GatedOutput),
    "diff attention": partial(vit, attn_layer="diff"),
    "swiglu": partial(vit, mlp_layer=SwiGLU, act_layer=nn.SiLU),
    "swiglu packed": partial(vit, mlp_layer=partial(GluMlp, gate_last=False), act_layer=nn.SiLU),
    "unlike blocks": two_depths_of_mlp,
    "parallel": partial(vit, block_fn=ParallelScalingBlock),
    "diff parallel": partial(vit, block_fn=DiffParallelScalingBlock),
    "parallel things": partial(vit, block_fn=ParallelThingsBlock),
    "post norm": partial(vit, block_fn=ResPostBlock),
    "relative positions": partial(VisionTransformerRelPos, **TINY),
    "eva": eva,
    "eva02": partial(eva, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True, qkv_fused=False),
    "eva02 fused": partial(eva, swiglu_mlp=True, use_rot_pos_emb=True, init_values=0.1),
    "eva rope": partial(eva, attn_type="rope", use_rot_pos_emb=True, num_reg_tokens=2),
    "eva post norm": partial(eva, use_post_norm=True),
    "beit": partial(beit, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.1),
    "beit shared": partial(beit, use_shared_rel_pos_bias=True),
    "beit no bias": partial(beit, qkv_bias=False),
    "swin": partial(SwinTransformer, **WINDOWS, depths=(1, 1), num_heads=(2, 4)),
    "swin v2": partial(SwinTransformerV2, **WINDOWS, depths=(1, 1), num_heads=(2, 4)),
}

_EVA = ("eva", "eva02", "eva02 fused", "eva rope")
_BEIT = ("beit", "beit shared", "beit no bias")
_ONLY_VIT = {
    **dict.fromkeys(_EVA, r"blocks\.0 is EvaBlock"),
    "eva post norm": r"blocks\.0 is EvaBlockPostNorm",
    **dict.fromkeys(_BEIT, r"blocks\.0 is (timm\.models\.beit\.)?Block"),
    "relative positions": r"blocks\.0 is RelPosBlock",
}
REFUSED: dict[str, dict[str, str]] = {
    "pruning": {
        **_ONLY_VIT,
        "swin": "SwinTransformer has no `blocks`",
        "swin v2": "SwinTransformerV2 has no `blocks`",
        "qk norm": r"blocks\.0\.attn\.q_norm is LayerNorm",
        "attention norm": r"blocks\.0\.attn\.norm is LayerNorm",
        "mlp norm": r"blocks\.0\.mlp\.norm is LayerNorm",
        "gated attention": r"blocks\.0\.attn is GatedOutput",
        "diff attention": r"blocks\.0\.attn is DiffAttention",
        "swiglu": r"blocks\.0\.mlp is SwiGLU",
        "swiglu packed": r"blocks\.0\.mlp is GluMlp",
        "unlike blocks": r"blocks\.1 has other dimensions than blocks\.0",
        "parallel": r"blocks\.0 is ParallelScalingBlock",
        "diff parallel": r"blocks\.0 is DiffParallelScalingBlock",
        "parallel things": r"blocks\.0 is ParallelThingsBlock",
        "post norm": r"blocks\.0 is ResPostBlock",
    },
    "nystrom": {
        **_ONLY_VIT,
        "swin": "SwinTransformer has no transformer blocks",
        "swin v2": "SwinTransformerV2 has no transformer blocks",
        "attention dropout": r"blocks\.0\.attn has a gate or dropout",
        "gated attention": r"blocks\.0\.attn has a gate or dropout",
        "diff attention": r"blocks\.0\.attn is DiffAttention",
        "parallel": r"blocks\.0 is ParallelScalingBlock",
        "diff parallel": r"blocks\.0 is DiffParallelScalingBlock",
        "parallel things": r"blocks\.0 is ParallelThingsBlock",
    },
    "fq_vit": {},
    "lsq": {},
    "diffq": {},
    "dynamic": {},
}
"""By method and variant: what the one line says."""


def build(variant: str) -> nn.Module:
    """The model of that name, in evaluation mode, its parameters drawn anew."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VARIANTS[variant]().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                gain = parameter.ndim == 1 and not name.endswith("bias")
                parameter.normal_(1.0 if gain else 0.0, 0.3 if parameter.ndim < 2 else 0.15)
    return model


def images_for(model: nn.Module, count: int = 4) -> Tensor:
    """Random images (count, 3, H, W) of the size that `model` was made for."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, *model.patch_embed.img_size, generator=generator)


def check_refused(method: str, variant: str, call: Callable[[], object]) -> bool:
    """Whether `method` refuses `variant`; then `call` must say so in one line, as listed."""
    if (told := REFUSED[method].get(variant)) is None:
        return False
    with pytest.raises(UserError, match=told) as raised:
        call()
    assert "\n" not in str(raised.value)
    return True


def assert_close(found: Tensor, wanted: Tensor) -> None:
    """Equal but for the order of sums in float32, and numbers at all."""
    assert torch.isfinite(wanted).all() and wanted.std() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
