"""FQ-ViT: post-training quantization of a whole Vision Transformer.

Lin et al., FQ-ViT: Post-Training Quantization for Fully Quantized Vision Transformer, IJCAI 2022.
Two remedies for what min/max does to a ViT: power-of-two factors, a shift a channel, where the
inputs of LayerNorm differ from channel to channel; and Log-Int-Softmax, attention maps as powers of
two, where almost all of their values are small. The mathematics is in `fq_vit_maths`, the layers in
`fq_vit_layers`; here are `quantize_model` and the study's `compress`.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from vitstudy.context import Context
from vitstudy.packing import Codes, pack_model, unpack_model
from vitstudy.quantization import calibration, figure1, harness
from vitstudy.quantization.configs import FQViT
from vitstudy.quantization.fq_vit_layers import (
    ActivationQuantizer,
    Layers,
    Options,
    QuantAttention,
    QuantBlock,
    QuantLayerNorm,
)
from vitstudy.quantization.fq_vit_maths import (
    affine_range,
    factor_errors,
    integer_exp,
    integer_layer_norm,
    log2_dequantize,
    log2_quantize,
    log_int_softmax,
    log_int_softmax_exponents,
    multiplier_and_shift,
    power_of_two_factors,
)
from vitstudy.quantization.harness import QuantConv2d, QuantizedLayer, QuantLinear, calibrate
from vitstudy.quantization.layers import Skipped, layers_left
from vitstudy.quantization.uniform import (
    IDENTITY_BITS,
    choose_params,
    min_max,
    quantization_range,
    quantize,
)

__all__ = [
    "ActivationQuantizer",
    "Options",
    "QuantAttention",
    "QuantBlock",
    "QuantConv2d",
    "QuantLayerNorm",
    "QuantLinear",
    "affine_range",
    "analyse",
    "calibrate",
    "compress",
    "factor_errors",
    "integer_exp",
    "integer_layer_norm",
    "log2_dequantize",
    "log2_quantize",
    "log_int_softmax",
    "log_int_softmax_exponents",
    "multiplier_and_shift",
    "pack",
    "power_of_two_factors",
    "quantize_model",
    "unpack",
]

# -- the whole model ------------------------------------------------------------------------------

EMBEDDINGS = ("cls_token", "dist_token", "reg_token", "pos_embed")


def quantize_model(
    model: nn.Module, images: Tensor, options: Options | None = None, batch_size: int = 64
) -> tuple[nn.Module, Skipped]:
    """A fully quantized copy of a timm VisionTransformer, and the layers left in float.

    Of another transformer (EVA, BEiT, Swin), and of blocks of another kind, the layers and norms
    are quantized, each with grids of its own; what lies between them is left, and listed.

    images: calibration images (N, C, H, W), normalised as the model wants them. They set every
    grid of the activations: ranges first, then power-of-two factors, over all images (the authors'
    code takes the factors from the last batch alone). Bits, remedies: see `Options`.

    The arithmetic is imitated in float: GELU and, without Log-Int-Softmax, softmax are computed on
    quantized values; biases, gains and layer scales stay float. Raises as `harness.quantized` does.
    """

    def convert(model: nn.Module) -> Skipped:
        return _convert(model, options or Options())

    return harness.quantized(model, images, convert, title="FQ-ViT", batch_size=batch_size)


@torch.no_grad()
def _convert(model: nn.Module, options: Options) -> Skipped:
    """Fold BatchNorm and put quantized layers in the place of float ones, in place."""
    skipped = Layers(options).convert(model)
    stem = getattr(model, "patch_embed", nn.Identity())
    convolutions = [m for m in stem.modules() if isinstance(m, QuantConv2d)]
    if convolutions:
        convolutions[-1].output_quantizer = ActivationQuantizer(options.bits)
    for name, block in _blocks(model):
        if type(block) is not Block or not isinstance(block.norm1, QuantLayerNorm):
            reason = f"{type(block).__name__}: its residual sums are left in float"
            skipped.append((name, reason))
            continue
        # what the norm gives is on its grid already
        if isinstance(block.attn, QuantAttention):
            block.attn.qkv.input_quantizer = nn.Identity()
        for part in ("fc1", "fc1_g", "fc1_x"):
            if isinstance(getattr(block.mlp, part, None), QuantLinear):
                getattr(block.mlp, part).input_quantizer = nn.Identity()
        if isinstance(getattr(block.mlp, "fc2", None), QuantLinear):
            block.mlp.fc2.output_quantizer = ActivationQuantizer(options.bits)
        model.set_submodule(name, QuantBlock(block))
    for name in EMBEDDINGS:
        value = getattr(model, name, None)
        if value is not None and options.bits != IDENTITY_BITS:
            grid = choose_params(
                *min_max(value, name=name), options.bits, symmetric=True, signed=True
            )
            value.data = (quantize(value, grid) * grid.scale).to(value.dtype)
            model.register_buffer(f"{name}_scale", grid.scale)
    skipped += layers_left(model, (QuantizedLayer,))
    model.fq_vit = options
    model.eval()
    return skipped


def _blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The transformer blocks of `model` by name: those of timm's ViT, and what holds an `attn`."""
    listed = set(getattr(model, "blocks", ()))
    return [
        (name, module)
        for name, module in model.named_modules()
        if name and (module in listed or hasattr(module, "attn"))
    ]


# -- its file -------------------------------------------------------------------------------------


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a `quantize_model`, its integers packed, and what `unpack` needs."""
    options: Options = model.fq_vit
    codes = harness.codes(model)
    if options.bits != IDENTITY_BITS:
        lowest = quantization_range(options.bits, signed=True)[0]
        for name in EMBEDDINGS:
            scale = getattr(model, f"{name}_scale", None)
            if scale is not None:
                steps = torch.round(getattr(model, name).detach() / scale).to(torch.int32)
                codes[name] = Codes(steps, options.bits, lowest)
    return pack_model(model, codes, fq_vit=asdict(options))


def why_not_exported(model: nn.Module) -> str:
    """Why `torch.export` takes no such model; empty where it does."""
    if any(getattr(module, "log_int", False) for module in model.modules()):
        return "Log-Int-Softmax looks its exponentials up in a table as long as the logits need"
    return ""


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The quantized model that `pack` took apart, with the same logits to the bit.

    Where the tensors and the description do not make one, `models.load` says so in one line.
    """

    def convert(model: nn.Module) -> None:
        _convert(model, Options(**description["fq_vit"]))

    def restore(model: nn.Module, name: str, tensors: dict[str, Tensor]) -> Tensor:
        return tensors[name] * tensors[f"{name}_scale"] if name in EMBEDDINGS else tensors[name]

    return unpack_model(tensors, description, convert, restore)


# -- the row of the study -------------------------------------------------------------------------


def _options(config: FQViT) -> Options:
    """The settings less those that say on what images, which are not the quantizer's."""
    return Options(config.bits, config.attention_bits, config.power_of_two, config.log_int_softmax)


def compress(context: Context[FQViT]) -> nn.Module:
    """Quantize the baseline, calibrated on the calibration split alone; nothing is trained."""
    config = context.config

    def quantize(dense: nn.Module, images: Tensor) -> tuple[nn.Module, Skipped]:
        return quantize_model(dense, images, _options(config))

    model = harness.compress(context, config.calibration_images, quantize)
    for name in EMBEDDINGS:
        if getattr(model, name, None) is not None:
            context.touched(name)
    return model


def analyse(context: Context[FQViT], model: nn.Module) -> dict[str, np.ndarray]:
    """What notebook 02 asks of the weights: how near the model is to its baseline on validation.

    And `norm_scale__<layer>`, the scales of each LayerNorm's input: (D,) with power-of-two factors,
    else (). Where the settings say how many `calibration_draws`, as the row itself does, also how
    near it is after calibration on fewer images, and what the papers' Figure 1 draws.
    """
    dense, options = context.model(), _options(context.config)
    logits = context.evaluate(dense, context.data.validation)
    found = calibration.on_validation(context, logits, model)
    for name, module in model.named_modules():
        if isinstance(module, QuantLayerNorm):
            found[f"norm_scale__{name}"] = module.input_quantizer.scale.cpu().numpy()
    if draws := context.config.calibration_draws:

        def quantized(images: Tensor) -> nn.Module:
            return quantize_model(dense, images, options)[0]

        found |= calibration.by_size(context, logits, quantized, draws)
        found |= figure1.observe(context, dense)
    return found
