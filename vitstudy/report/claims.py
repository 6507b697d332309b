"""What the three papers claim, in our words: every statement with a number or an ordering in it.

Papers A (Zheng and Li), B (Chen, Xie, Li and Ren) and C (Chen, Luo, Zhou, Pan and Jiang), from
abstract to conclusion, in the order of their sections. What can be checked has conditions, whose
numbers `conditions` reads off the papers' tables and off the records; `verdicts` judges. Words
without a number are read by the bounds below, the same wherever they stand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitstudy.methods import METHODS
from vitstudy.report.conditions import (
    Condition,
    Region,
    about,
    above,
    accuracy,
    analysed,
    at_least,
    at_most,
    attention_share,
    below,
    between_tables,
    both,
    cpu,
    growth,
    parameters,
    removed,
    seconds,
    size,
    top1,
)

LITTLE = 1.0
"""Points of accuracy: minor, minimal, almost no loss, accuracy preserved."""
ACCEPTABLE = 5.0
"""Points of accuracy: an acceptable or manageable loss, not too much; more is a significant one."""
SHRUNK = 0.75
"""Of vanilla's size, at most: a substantial or great reduction."""
SMALL_SHARE = 0.1
"""At most: a small share."""
LOW_RANK = 0.1
"""Of a matrix, at most, that a quarter of its rank leaves out: low rank."""


def quoted(accuracy: float) -> Region:
    """An accuracy, percent, that is quoted as a number."""
    return Region(accuracy - LITTLE, accuracy + LITTLE)


KEPT, TOLERATED = at_least(-LITTLE), at_least(-ACCEPTABLE)
PRUNED = ("vtp-r0.1", "vtp-r0.2")
NYSTROM = ("nystrom-m24", "nystrom-m32", "nystrom-m64")
DISTILLED = ("deit-base", "deit-tiny")
OTHERS = tuple(each.key for each in METHODS if each.key not in ("vanilla", *DISTILLED))
MIXED = "deit-base+dynamic"


@dataclass(frozen=True)
class Claim:
    id: str
    papers: str
    """Those of A, B and C that say it."""
    section: str
    says: str
    conditions: tuple[Condition, ...] = ()
    """None where nothing that the study measures could tell."""
    tables: tuple[int, ...] = (1, 2)
    """Those of the papers' tables that it is about."""
    need: str = "all"
    """How many of the conditions it takes: `all`, `most` or `any`."""
    note: str = ""


CLAIMS = (
    # -- abstracts and introductions --------------------------------------------------------------
    Claim(
        "vit-beats-cnn",
        "A B C",
        "abstract, 1",
        "Vision Transformers are as accurate as convolutional networks, or more accurate.",
        (accuracy("vanilla", KEPT, "teacher"),),
        note="the study's CNN is chosen as the stronger one, so that it can teach",
    ),
    Claim(
        "hundreds-of-millions",
        "B C",
        "1",
        "A ViT has hundreds of millions of parameters.",
        (parameters(at_least(100)),),
    ),
    Claim(
        "attention-small-share",
        "B C",
        "1",
        "Images are short sequences, so attention is a small share of a ViT's arithmetic.",
        (attention_share(at_most(SMALL_SHARE)),),
        note="by formula, from the shape of the network",
    ),
    Claim(
        "less-studied",
        "A B C",
        "1",
        "Compression of ViTs has been studied less than that of other networks.",
        note="about the literature; nothing to measure",
    ),
    Claim(
        "decent-trade-off",
        "A B C",
        "abstract, 1",
        "The methods save size or time at a good exchange for accuracy.",
        tuple(accuracy(key, TOLERATED) for key in (*OTHERS, *DISTILLED)),
        need="most",
        note="good: at an acceptable loss",
    ),
    # -- 2, related work, and 3, methods: quantization --------------------------------------------
    Claim(
        "low-bits-cheap",
        "A B C",
        "2.1",
        "Fewer bits take less computing and memory at little loss of accuracy.",
        (
            size("dynamic", below(1)),
            cpu("dynamic", above(1)),
            *(accuracy(key, KEPT) for key in ("dynamic", "fq-vit", "lsq-w4", "diffq")),
        ),
    ),
    Claim(
        "qat-remedies",
        "A B C",
        "2.1, 3.1.3",
        "Training with the quantizer makes up for the accuracy that quantizing costs.",
        (accuracy("lsq-w4", above(0), "rounded-w4"),),
        note="at equal bits; the papers' QAT rows have 4 bits and fewer, their PTQ rows 8, so "
        "their tables cannot tell",
    ),
    Claim(
        "ptq-costs-no-training",
        "A B C",
        "3.1.2",
        "Post-training quantization needs no fine-tuning; what it takes is next to nothing.",
        (seconds("dynamic", at_most(0.1)),),
    ),
    Claim(
        "ptq-can-cost-accuracy",
        "A B C",
        "3.1.2",
        "Post-training quantization can cost much accuracy.",
        tuple(accuracy(key, below(-ACCEPTABLE)) for key in ("dynamic", "fq-vit")),
        need="any",
    ),
    Claim(
        "norm-and-softmax-are-hard",
        "A B C",
        "3.1.2",
        "Quantizing LayerNorm and softmax uniformly costs much accuracy.",
        tuple(accuracy(key, below(-ACCEPTABLE)) for key in ("fq-vit-minmax", "fq-vit-w6m3-minmax")),
        need="any",
        note="FQ-ViT's network without its two remedies, at two widths",
    ),
    Claim(
        "fq-vit-remedies",
        "A B C",
        "3.1.2",
        "Power-of-two factors and log-int-softmax cure what uniform quantizing costs.",
        (
            accuracy("fq-vit", above(0), "fq-vit-minmax"),
            accuracy("fq-vit-w6m3", above(0), "fq-vit-w6m3-minmax"),
        ),
    ),
    Claim(
        "attention-values-small",
        "A B C",
        "3.1.2, figure 1",
        "Most attention values are small; only a few are near 1.",
        (
            analysed(
                "share of attention values below 0.1, {}",
                "fq-vit",
                ("attention__vanilla",),
                lambda values: np.mean(values < 0.1),
                above(0.5),
                "figure 1 shows it, no number is printed",
            ),
            analysed(
                "share of attention values above 0.9, {}",
                "fq-vit",
                ("attention__vanilla",),
                lambda values: np.mean(values > 0.9),
                below(0.01),
                "figure 1 shows it, no number is printed",
            ),
        ),
    ),
    Claim(
        "lsq-state-of-the-art",
        "A B C",
        "3.1.3",
        "LSQ is the most accurate of the quantizers that are trained.",
        (accuracy("lsq-w4", above(0), "diffq"), accuracy("lsq-w4", above(0), "diffq-finetuned")),
        note="DiffQ is the other one here; their files differ in size",
    ),
    # -- low-rank approximation -------------------------------------------------------------------
    Claim(
        "attention-quadratic",
        "A B C",
        "2.2, 3.4",
        "Time and memory of plain attention grow as the square of the tokens.",
        growth("explicit", about(2)),
        tables=(1,),
        note="3.4 of B says otherwise",
    ),
    Claim(
        "attention-linear",
        "B",
        "3.4",
        "Plain attention takes time and memory linear in the tokens.",
        growth("explicit", about(1)),
        tables=(1,),
        note="by formula the products QKᵀ and with V take 2 n² d; 2.2 of the same paper says "
        "quadratic",
    ),
    Claim(
        "attention-low-rank",
        "A B C",
        "2.2, 3.4",
        "Attention matrices are of low rank.",
        (
            analysed(
                "error of the best approximation by a quarter of the rank, {}",
                "nystrom-all",
                ("best_error",),
                lambda error: error[:, (error.shape[1] - 1) // 4].mean(),
                at_most(LOW_RANK),
                "the papers print no singular values",
            ),
        ),
        note="mean over the layers, relative, in the Frobenius norm",
    ),
    Claim(
        "low-rank-with-sparse",
        "A B C",
        "2.2, 3.4",
        "Low-rank and sparse attention together approximate better than either.",
        note="the study has no such row, nor have the papers' tables",
    ),
    Claim(
        "low-rank-linear",
        "A B C",
        "3.4",
        "Low-rank attention takes time and memory about linear in the tokens.",
        growth("nystrom-m64", about(1)),
        tables=(1,),
    ),
    Claim(
        "low-rank-keeps-accuracy",
        "A B C",
        "3.4",
        "Low-rank attention costs no more than an acceptable loss of accuracy.",
        tuple(accuracy(key, TOLERATED) for key in NYSTROM),
    ),
    Claim(
        "low-rank-saves-time",
        "A B C",
        "3.4",
        "A pretrained model with approximate attention runs faster.",
        tuple(each for key in NYSTROM for each in both(key, above(1))),
    ),
    Claim(
        "low-rank-training-time",
        "B",
        "3.4",
        "Training from scratch with approximate attention is much faster.",
        note="no row is trained from scratch so, here or there",
    ),
    Claim(
        "low-rank-size",
        "A B C",
        "3.4",
        "Low-rank attention leaves the model's size as it is.",
        tuple(size(key, Region(0.99, 1.01)) for key in NYSTROM),
    ),
    # -- distillation -----------------------------------------------------------------------------
    Claim(
        "soft-labels-better",
        "A B C",
        "2.3",
        "Soft labels teach a student more than hard ones.",
        (accuracy("soft", above(0), "hard"),),
        note="as printed, KL(student ‖ teacher); 3.2 of B says otherwise",
    ),
    Claim(
        "hard-labels-better",
        "B",
        "3.2",
        "Hard distillation is a better choice than soft.",
        (accuracy("hard", above(0), "soft"),),
        note="2.3 of the same paper says otherwise",
    ),
    Claim(
        "distillation-helps",
        "A B C",
        "2.3",
        "A student gains accuracy by its teacher.",
        (accuracy("deit-base", above(0)), accuracy("soft", above(0)), accuracy("hard", above(0))),
        note="against the same network trained as long without a teacher",
    ),
    Claim(
        "token-beats-plain",
        "A B C",
        "2.3, 3.2",
        "A distillation token does better than distillation without one, by far.",
        tuple(accuracy("deit-base", above(0), key) for key in ("hard", "soft")),
    ),
    # -- pruning ----------------------------------------------------------------------------------
    Claim(
        "pruning-keeps-accuracy",
        "A B C",
        "2.4",
        "Unimportant dimensions can go in number without a significant loss of accuracy.",
        tuple(accuracy(key, TOLERATED) for key in PRUNED),
    ),
    Claim(
        "pruned-beats-whole",
        "A B C",
        "2.4",
        "A pruned model may be better than the whole one.",
        tuple(accuracy(key, above(0)) for key in PRUNED),
        need="any",
    ),
    Claim(
        "redistribution-helps",
        "A B C",
        "2.4",
        "Redistributing dimensions while pruning does better still.",
        note="the study has no such row, nor have the papers' tables",
    ),
    # -- 4.2, model size --------------------------------------------------------------------------
    Claim(
        "quantization-and-pruning-shrink",
        "A B C",
        "4.2",
        "Quantization and pruning make the model much smaller without losing too much accuracy.",
        tuple(
            condition
            for key in ("dynamic", "lsq-w4", "diffq", *PRUNED)
            for condition in (size(key, at_most(SHRUNK)), accuracy(key, TOLERATED))
        ),
    ),
    Claim(
        "quantization-beats-pruning",
        "A B C",
        "4.2",
        "Quantization gives the better accuracy for the size, pruning does not.",
        tuple(
            condition
            for key in PRUNED
            for condition in (size("dynamic", below(1), key), accuracy("dynamic", above(0), key))
        ),
    ),
    Claim(
        "dynamic-a-quarter",
        "A B C",
        "4.2",
        "Dynamic quantization brings the size down to 25 %.",
        (size("dynamic", about(0.25)),),
        note='A and C break off after "25"',
    ),
    Claim(
        "dynamic-minor-loss",
        "A B C",
        "4.2",
        "Dynamic quantization costs little accuracy.",
        (accuracy("dynamic", KEPT),),
    ),
    Claim(
        "fq-vit-acceptable",
        "B",
        "4.2",
        "FQ-ViT quantizes the whole model at an acceptable loss of accuracy.",
        (accuracy("fq-vit", TOLERATED),),
    ),
    Claim(
        "diffq-smaller-but-worse",
        "B",
        "4.2",
        "The two DIFFQ rows are smaller than dynamic quantization's, and less accurate.",
        tuple(
            condition
            for key in ("lsq-w4", "diffq")
            for condition in (size(key, below(1), "dynamic"), accuracy(key, below(0), "dynamic"))
        ),
    ),
    Claim(
        "lsq-12-percent",
        "B",
        "4.2",
        "DIFFQ with LSQ has 93.37 % accuracy at almost 12 % of the size.",
        (top1("lsq-w4", quoted(93.37)), size("lsq-w4", about(0.12))),
        tables=(1,),
    ),
    Claim(
        "diffq-2-mb",
        "B",
        "4.2",
        "A ViT trained from scratch with DIFFQ has 60.29 % accuracy in 2 MB.",
        (top1("diffq", quoted(60.29)), size("diffq", at_most(0.01))),
        tables=(1,),
        note="2 MB are less than a hundredth of vanilla's file",
    ),
    Claim(
        "pruning-rate",
        "A B C",
        "4.2",
        "A pruning rate of 0.1 means that a tenth of the parameters are pruned.",
        (removed("vtp-r0.1", about(0.1)), removed("vtp-r0.2", about(0.2))),
        note="r = 0.2 read alike",
    ),
    Claim(
        "pruning-costs-10",
        "B",
        "4.2",
        "Pruning a tenth costs ten points on CIFAR-10.",
        (accuracy("vtp-r0.1", about(-10)),),
        tables=(1,),
    ),
    Claim(
        "pruning-costs-20",
        "B",
        "4.2",
        "Pruning a tenth costs almost twenty points on CIFAR-100.",
        (accuracy("vtp-r0.1", about(-20)),),
        tables=(2,),
    ),
    Claim(
        "pruning-hurts",
        "A C",
        "4.2",
        "Pruning a tenth costs much accuracy on both data sets.",
        (accuracy("vtp-r0.1", below(-ACCEPTABLE)),),
    ),
    Claim(
        "most-gates-matter",
        "A B C",
        "4.2, figure 3",
        "Most parameters have an importance score above 0.99.",
        (
            *(
                analysed(
                    "share of parameters whose gate is above 0.99, {}",
                    key,
                    ("score", "parameters"),
                    lambda score, parameters: np.average(score > 0.99, weights=parameters),
                    above(0.5),
                    "figure 3 shows it, no number is printed",
                )
                for key in ("vtp-r0.1-cut", "vtp-slow-r0.2-cut")
            ),
        ),
        note="gates that learn fast, and gates that learn at the network's own rate",
    ),
    Claim(
        "better-scores-help",
        "A B C",
        "4.2",
        "Better importance scores would prune better.",
        tuple(accuracy(f"kl-r{r}", above(0), f"vtp-r{r}") for r in (0.1, 0.2)),
        note="Eq. 8 against gates, fine-tuned alike",
    ),
    # -- 4.2, inference speed ---------------------------------------------------------------------
    Claim(
        "most-are-faster",
        "A B C",
        "4.2",
        "Most of the methods speed the model up.",
        tuple(condition for key in (*OTHERS, *DISTILLED) for condition in both(key, above(1))),
        need="most",
    ),
    Claim(
        "distillation-fastest",
        "A B C",
        "4.2",
        "The distilled models gain most speed.",
        tuple(
            condition
            for key in DISTILLED
            for other in OTHERS
            if other != MIXED
            for condition in both(other, below(1), key)
        ),
    ),
    Claim(
        "deit-base-twice-as-fast",
        "A B C",
        "4.2",
        "DeiT base is almost twice as fast as the vanilla ViT.",
        both("deit-base", about(2)),
        note="one shape: DeiT base has a token and a small head more, so more arithmetic, not less",
    ),
    Claim(
        "deit-base-size",
        "A B C",
        "4.2",
        "DeiT base is not much smaller.",
        (size("deit-base", above(SHRUNK)),),
    ),
    Claim(
        "deit-base-accuracy",
        "A B C",
        "4.2",
        "DeiT base loses almost no accuracy.",
        (accuracy("deit-base", KEPT),),
    ),
    Claim(
        "deit-tiny-four-times",
        "A B C",
        "4.2",
        "DeiT tiny is four times as fast.",
        both("deit-tiny", about(4)),
        tables=(1,),
    ),
    Claim(
        "deit-tiny-6-percent",
        "A B C",
        "4.2",
        "DeiT tiny has 6 % of the size.",
        (size("deit-tiny", about(0.06)),),
        tables=(1,),
    ),
    Claim(
        "deit-tiny-accuracy",
        "A B C",
        "4.2",
        "DeiT tiny has 95.43 % accuracy on CIFAR-10, close to the vanilla ViT's.",
        (top1("deit-tiny", quoted(95.43)), accuracy("deit-tiny", TOLERATED)),
        tables=(1,),
        note="B gives the number alone",
    ),
    Claim(
        "more-landmarks-better",
        "A B C",
        "4.2",
        "More landmarks approximate better.",
        (
            accuracy("nystrom-m32", above(0), "nystrom-m24"),
            accuracy("nystrom-m64", above(0), "nystrom-m32"),
        ),
    ),
    Claim(
        "more-landmarks-slower",
        "A B C",
        "4.2",
        "More landmarks are slower.",
        (
            *both("nystrom-m32", below(1), "nystrom-m24"),
            *both("nystrom-m64", below(1), "nystrom-m32"),
        ),
    ),
    Claim(
        "dynamic-10-to-20",
        "A B C",
        "4.2",
        "Dynamic quantization is 10 to 20 % faster on a CPU.",
        (cpu("dynamic", Region(1.1, 1.2)),),
    ),
    # -- 4.3, combinations, and 5, conclusions ----------------------------------------------------
    Claim(
        "mixed-twice-as-fast",
        "A B C",
        "4.3, 5",
        "DeiT base with dynamic quantization is more than twice as fast.",
        (cpu(MIXED, above(2)),),
        note='"over one times faster" in B',
    ),
    Claim(
        "mixed-a-quarter",
        "A B C",
        "4.3, 5",
        "DeiT base with dynamic quantization has a quarter of the size.",
        (size(MIXED, about(0.25)),),
    ),
    Claim(
        "mixed-acceptable",
        "A B C",
        "4.3, 5",
        "DeiT base with dynamic quantization loses an acceptable amount of accuracy.",
        (accuracy(MIXED, TOLERATED),),
    ),
    Claim(
        "mixed-adds-up",
        "A B C",
        "4.3",
        "The combination has the small size of quantization and the speed of DeiT base.",
        (cpu(MIXED, at_least(1), "deit-base"), size(MIXED, at_most(1.05), "dynamic")),
    ),
    Claim(
        "mixed-better-on-cifar10",
        "A B C",
        "5",
        "The combination works best on CIFAR-10.",
        (
            between_tables(
                accuracy(MIXED, above(0)),
                above(0),
                "accuracy of {} on 10 classes less on 100, each less vanilla",
            ),
            between_tables(
                cpu(MIXED, above(0)),
                above(0),
                "CPU speed of {} on 10 classes less on 100, each over vanilla",
            ),
        ),
        tables=(1,),
    ),
    Claim(
        "ptq-and-distillation-best",
        "A B C",
        "5",
        "Post-training quantization and distillation are the best: much smaller or faster at an "
        "acceptable loss of accuracy.",
        (
            size("dynamic", at_most(SHRUNK)),
            accuracy("dynamic", TOLERATED),
            *(each for key in DISTILLED for each in both(key, above(1))),
            *(accuracy(key, TOLERATED) for key in DISTILLED),
        ),
    ),
)
