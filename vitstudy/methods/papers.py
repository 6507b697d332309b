"""The rows of the papers' Tables 1 and 2, in their order."""

from __future__ import annotations

from vitstudy.attention.configs import Nystromformer
from vitstudy.configs import Vanilla
from vitstudy.distillation.configs import DeiT
from vitstudy.methods.method import Method
from vitstudy.methods.published import by_papers
from vitstudy.methods.references import DEFOSSEZ, ESSER, LIN, TOUVRON, XIONG, ZHU
from vitstudy.pruning.configs import Tune
from vitstudy.quantization.configs import LSQ, Dynamic, FQViT, NarrowDiffQ

QUARTER = 0.25
"""Of the width: ViT-B to DeiT-Ti, which at three bits a weight is a file of 2 MB."""


def _nystrom(num_landmarks: int) -> Method:
    key = f"nystrom-m{num_landmarks}"
    return Method(
        key=key,
        title=f"ViT-Nyströmformer(m={num_landmarks})",
        method="Low-rank Approximation",
        reference=XIONG,
        published=by_papers(key),
        tier="paper",
        config=Nystromformer(num_landmarks=num_landmarks),
        parents=("vanilla",),
        note="landmarks: segment means, the class token in the first; fine-tuned from the baseline",
    )


METHODS = (
    Method(
        key="vanilla",
        title="Vanilla ViT",
        method="-",
        reference="Dosovitskiy et al., An Image Is Worth 16x16 Words, 2021",
        published=by_papers("vanilla"),
        tier="paper",
        config=Vanilla(),
    ),
    Method(
        key="dynamic",
        title="Dynamic Quantization",
        method="Quantization (PTQ)",
        reference="PyTorch's dynamic quantization of linear layers",
        published=by_papers("dynamic"),
        tier="paper",
        config=Dynamic(),
        packer="vitstudy.quantization.dynamic",
        parents=("vanilla",),
        batch_dependent=True,
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        note="W8 per tensor; activations quantized at run time to 7 of 8 bits (reduced range)",
    ),
    Method(
        key="fq-vit",
        title="FQ-ViT",
        method="Quantization (PTQ)",
        reference=LIN,
        published=by_papers("fq-vit"),
        tier="paper",
        config=FQViT(bits=8, attention_bits=4, calibration_draws=5),
        packer="vitstudy.quantization.fq_vit",
        parents=("vanilla",),
        simulated=True,
        weight_bits=8,
        activation_bits=8,
        note="W8 per channel, A8 per layer, attention maps of 4 bits",
    ),
    Method(
        key="lsq-w4",
        title="DIFFQ with LSQ",
        method="Quantization (QAT)",
        reference=ESSER,
        published=by_papers("lsq-w4"),
        tier="paper",
        config=LSQ(weight_bits=4),
        packer="vitstudy.quantization.lsq",
        parents=("vanilla",),
        simulated=True,
        weight_bits=4,
        note="W4 with learned steps, activations in float; fine-tuned from the baseline",
    ),
    Method(
        key="diffq",
        title="DIFFQ with diffq",
        method="Quantization (QAT)",
        reference=DEFOSSEZ,
        published=by_papers("diffq"),
        tier="paper",
        config=NarrowDiffQ(width=QUARTER),
        packer="vitstudy.quantization.diffq",
        simulated=True,
        weight_bits=None,
        note="a quarter of vanilla's width, from scratch; bits learned in groups of 8 weights",
    ),
    Method(
        key="deit-base",
        title="DeiT base",
        method="Knowledge Distillation",
        reference=TOUVRON,
        published=by_papers("deit-base"),
        survey_model="DeiT-B",
        tier="paper",
        config=DeiT(),
        parents=("teacher",),
        parents_of_pretrained=(),  # the papers' rows fine-tune what others distilled
        reads=("distilled",),
        note="vanilla's shape and one token more; as many steps from scratch, both heads averaged",
    ),
    Method(
        key="deit-tiny",
        title="DeiT tiny",
        method="Knowledge Distillation",
        reference=TOUVRON,
        published=by_papers("deit-tiny"),
        survey_model="DeiT-Ti",
        tier="paper",
        config=DeiT(width=QUARTER),
        parents=("teacher",),
        parents_of_pretrained=(),
        reads=("distilled",),
        note="DeiT base at a quarter of the width, as in its paper",
    ),
    Method(
        key="vtp-r0.1",
        title="ViT-Pruning(r=0.1)",
        method="Pruning",
        reference=ZHU,
        published=by_papers("vtp-r0.1"),
        tier="paper",
        config=Tune(),
        parents=("vtp-r0.1-cut",),
        note="a tenth of all parameters removed by gates, then fine-tuned",
    ),
    Method(
        key="vtp-r0.2",
        title="ViT-Pruning(r=0.2)",
        method="Pruning",
        reference=ZHU,
        published=by_papers("vtp-r0.2"),
        tier="paper",
        config=Tune(),
        parents=("vtp-r0.2-cut",),
        note="a fifth of all parameters removed by gates, then fine-tuned",
    ),
    _nystrom(24),
    _nystrom(32),
    _nystrom(64),
    Method(
        key="deit-base+dynamic",
        title="DeiT base + Dynamic Quantization",
        method="Knowledge Distillation + PTQ",
        reference="Touvron et al., 2021, and PyTorch's dynamic quantization",
        published=by_papers("deit-base+dynamic"),
        tier="paper",
        config=Dynamic(),
        packer="vitstudy.quantization.dynamic",
        parents=("deit-base",),
        batch_dependent=True,
        weight_bits=8,
        activation_bits=8,
        device="cpu",
        note="as Dynamic Quantization",
    ),
)
