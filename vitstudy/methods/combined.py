"""Pairs of methods, the second on what the first has made, with the settings of its own row.

Where the second is distillation, that is the first's own training with the teacher's soft targets
too (`distillation.taught`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitstudy.distillation.configs import Taught
from vitstudy.methods import attention, papers, pruning, quantization
from vitstudy.methods.method import Method

SHORT = {
    "deit-base": "DeiT base",
    "vtp-r0.2": "pruning 0.2",
    "lsq-w4": "LSQ W4",
    "dynamic": "dynamic int8",
    "nystrom-m32": "Nyström 32",
}
"""What the titles of pairs call a row."""
ROWS = {
    method.key: method
    for method in (
        *papers.METHODS,
        *quantization.VARIANTS,
        *pruning.VARIANTS,
        *attention.VARIANTS,
    )
}
BENEATH = "deit-base+dynamic"


def _title(first: str, second: str) -> str:
    title = f"{SHORT[first]} + {SHORT[second]}"
    return title[0].upper() + title[1:]


def _pair(first: str, second: str, **changes: Any) -> Method:
    """The row `second` with `first` in the place of vanilla."""
    common: dict[str, Any] = {
        "key": f"{first}+{second}",
        "title": _title(first, second),
        "tier": "sweep",
        "published": None,
        "beneath": BENEATH,
        "parents": (first,),
        "note": f"{SHORT[second]} as in its own row, from the model of {SHORT[first]}",
    }
    return replace(ROWS[second], **{**common, **changes})


def _pruned_after(first: str) -> tuple[Method, ...]:
    """The three steps of pruning by gates, from the model of `first`."""
    gates, cut = f"{first}+vtp-gates", f"{first}+vtp-r0.2-cut"
    title = f"{SHORT[first]} + {SHORT['vtp-r0.2']}"
    return (
        replace(
            ROWS["vtp-gates"],
            key=gates,
            title=f"{title}, gates",
            tier="sweep",
            beneath=BENEATH,
            parents=(first,),
        ),
        replace(
            ROWS["vtp-r0.2-cut"],
            key=cut,
            title=f"{title}, cut",
            tier="sweep",
            beneath=BENEATH,
            parents=(gates,),
        ),
        _pair(first, "vtp-r0.2", parents=(cut,)),
    )


def _taught(row: str, key: str, title: str) -> Method:
    """The row `row`, fine-tuned with the teacher's soft targets."""
    plain = ROWS[row]
    return replace(
        plain,
        key=key,
        title=title,
        tier="sweep",
        published=None,
        beneath=BENEATH,
        config=Taught(method=plain.config),
        parents=(*plain.parents, "teacher"),
        timed=False,
        note="its own fine-tuning, with the teacher's soft targets (Eq. 4)",
    )


COMBINED = (
    _taught("continued", "taught", "Vanilla ViT, distilled while trained on"),
    *_pruned_after("deit-base"),
    _taught("vtp-r0.2", "vtp-r0.2+taught", "Pruning 0.2 + distillation"),
    _pair("deit-base", "lsq-w4"),
    _taught("lsq-w4", "lsq-w4+taught", "LSQ W4 + distillation"),
    _pair("deit-base", "nystrom-m32"),
    _taught("nystrom-m32", "nystrom-m32+taught", "Nyström 32 + distillation"),
    _pair("vtp-r0.2", "lsq-w4"),
    _pair("vtp-r0.2", "dynamic", tier="control"),
    _pair("vtp-r0.2", "nystrom-m32"),
    _pair("nystrom-m32", "lsq-w4"),
    _pair(
        "lsq-w4",
        "nystrom-m32",
        packer="vitstudy.quantization.lsq",
        simulated=True,
        weight_bits=4,
    ),
    _pair("nystrom-m32", "dynamic", tier="control"),
    _pair(
        "dynamic",
        "nystrom-m32",
        tier="control",
        packer="vitstudy.quantization.dynamic",
        device="cpu",
        batch_dependent=True,
        weight_bits=8,
        activation_bits=8,
        config=ROWS["nystrom-m32-dropin"].config,
        note="drop-in: integers cannot be fine-tuned",
    ),
)
