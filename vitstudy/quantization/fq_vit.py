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
from accelerate import Accelerator
from timm.layers import LayerNorm, LayerNormFp32
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn

from vitstudy import models
from vitstudy.context import Context
from vitstudy.errors import UserError
from vitstudy.quantization import calibration, figure1
from vitstudy.quantization.configs import FQViT
from vitstudy.quantization.fq_vit_layers import (
    ActivationQuantizer,
    Options,
    QuantAttention,
    QuantBlock,
    QuantConv2d,
    QuantLayerNorm,
    QuantLinear,
    WeightLayer,
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
from vitstudy.quantization.layers import (
    Skipped,
    attentions,
    calibration_images,
    copy_of_float_model,
    fold_batch_norm,
    layers_left,
    note_skipped,
    replace_layers,
)
from vitstudy.quantization.packing import pack_tensors, unpack_tensors
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

LAYER_NORMS = (nn.LayerNorm, LayerNorm, LayerNormFp32)
"""Those over the last axis: timm has others, over channels that come first."""
EMBEDDINGS = ("cls_token", "dist_token", "reg_token", "pos_embed")


@torch.no_grad()
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
    quantized values; biases, gains and layer scales stay float. Raises ValueError for no images,
    for NaN or infinity, naming the layer, and for a model already quantized; UserError for a model
    without attention and for a layer that the images never reach.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            f"the calibration set is empty or no batch of images: shape {tuple(images.shape)}"
        )
    device = next(model.parameters()).device
    model = copy_of_float_model(model)
    if not attentions(model):
        raise UserError(
            f"{type(model).__name__} has no attention: FQ-ViT quantizes Vision Transformers, lsq "
            "and diffq any model"
        )
    skipped = _convert(model, options or Options())
    calibrate(model.to(device), images.to(device), batch_size)
    return model, skipped


def calibrate(model: nn.Module, images: Tensor, batch_size: int = 64) -> None:
    """Set every ActivationQuantizer of `model` from `images` (N, C, H, W), in place."""
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, ActivationQuantizer)}
    for phase in ("range", "factors"):
        if phase == "factors" and all(q.channels is None for q in quantizers.values()):
            continue
        for name, quantizer in quantizers.items():
            quantizer.phase, quantizer.name = phase, name
        for batch in images.split(batch_size):
            model(batch)
    for quantizer in quantizers.values():
        quantizer.settle()
        quantizer.phase = "on"


def _convert(model: nn.Module, options: Options) -> Skipped:
    """Fold BatchNorm and put quantized layers in the place of float ones, in place."""
    fold_batch_norm(model)

    def convert(name: str, module: nn.Module) -> nn.Module | None:
        if type(module) is nn.Linear:
            return QuantLinear(module, options.bits, name)
        if type(module) is nn.Conv2d:
            return QuantConv2d(module, options.bits, name)
        if type(module) in LAYER_NORMS and len(module.normalized_shape) == 1:
            return QuantLayerNorm(module, options)
        if type(module) is Attention and _is_plain(module):
            return QuantAttention(module, options, name)
        return None

    replace_layers(model, convert)
    reason = "the products within this attention are left in float"
    skipped = [
        (name, f"{type(module).__name__}: {reason}")
        for name, module in attentions(model).items()
        if not isinstance(module, QuantAttention)
    ]
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
    handled = (QuantLayerNorm, WeightLayer, QuantAttention)
    skipped += layers_left(model, handled)
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


def _is_plain(attention: Attention) -> bool:
    """Whether timm's attention has none of its optional parts."""
    parts = [getattr(attention, part, None) for part in ("q_norm", "k_norm", "norm", "gate")]
    return all(part is None or isinstance(part, nn.Identity) for part in parts)


# -- its file -------------------------------------------------------------------------------------


def pack(model: nn.Module) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a `quantize_model`, its integers packed, and what `unpack` needs."""
    options: Options = model.fq_vit
    tensors, widths = dict(model.state_dict()), {}
    if options.bits != IDENTITY_BITS:
        width = (options.bits, quantization_range(options.bits, signed=True)[0])
        for name, module in model.named_modules():
            if isinstance(module, WeightLayer):
                widths[f"{name}.weight"] = width
        for name in EMBEDDINGS:
            if f"{name}_scale" in tensors:
                steps = torch.round(tensors[name] / tensors[f"{name}_scale"])
                tensors[name], widths[name] = steps.to(torch.int32), width
    packed, layout = pack_tensors(tensors, widths)
    return packed, {**models.described(model), "fq_vit": asdict(options), "packed": layout}


def why_not_exported(model: nn.Module) -> str:
    """Why `torch.export` takes no such model; empty where it does."""
    if any(getattr(module, "log_int", False) for module in model.modules()):
        return "Log-Int-Softmax looks its exponentials up in a table as long as the logits need"
    return ""


def unpack(tensors: dict[str, Tensor], description: dict) -> nn.Module:
    """The quantized model that `pack` took apart, with the same logits to the bit.

    Where the tensors and the description do not make one, `models.load` says so in one line.
    """
    tensors = unpack_tensors(tensors, description["packed"])
    for name in EMBEDDINGS:
        if f"{name}_scale" in tensors:
            tensors[name] = tensors[name] * tensors[f"{name}_scale"]
    model = models.skeleton(description)
    _convert(model, Options(**description["fq_vit"]))
    model.load_state_dict(tensors)
    return model


# -- the row of the study -------------------------------------------------------------------------


def _options(config: FQViT) -> Options:
    """The settings less those that say on what images, which are not the quantizer's."""
    return Options(config.bits, config.attention_bits, config.power_of_two, config.log_int_softmax)


def compress(context: Context[FQViT]) -> nn.Module:
    """Quantize the baseline, calibrated on the calibration split alone; nothing is trained."""
    options = _options(context.config)
    images = calibration_images(context, context.config.calibration_images)
    dense = context.model().to(Accelerator().device)
    model, skipped = quantize_model(dense, images, options)
    changed = (QuantLayerNorm, WeightLayer, QuantAttention)
    for name, module in model.named_modules():
        if isinstance(module, changed):
            context.touched(name)
    for name, module in dense.named_modules():
        if isinstance(module, nn.BatchNorm2d):  # folded into the convolution before it
            context.touched(name)
    for name in EMBEDDINGS:
        if getattr(dense, name, None) is not None:
            context.touched(name)
    note_skipped(context, dense, skipped)
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
