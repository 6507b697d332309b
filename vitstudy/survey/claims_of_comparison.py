"""The claims of Sections 4 (the reference), 4.5 (all categories) and 6.3 (other data sets)."""

from __future__ import annotations

from vitstudy.survey import models
from vitstudy.survey.audit import ALL, network, row_metrics
from vitstudy.survey.claims import (
    HOLDS,
    NOT,
    Claim,
    Tables,
    best,
    difference,
    extreme,
    judged,
    number,
    numbers,
    quotient,
    unknown,
)
from vitstudy.survey.claims_of_categories import FLOPS, NAMED, PAR, SIZE, TOP1
from vitstudy.survey.eer import VIT_B16, eer

NO_TABLE = "no table says anything of it"


def section_4(t: Tables) -> list[Claim]:
    """The data set, the protocol and the reference."""
    known = t.known
    beyond = known[(known["eer_printed"] > 100) | (known["eer"] > 100)]
    heavier = known[(known["parameters"] > VIT_B16["parameters"].value)]
    quantized = t.frame[7].groupby(t.frame[7]["model"].map(network))[TOP1].max()
    full = {name: t.value(2, name, TOP1) for name in quantized.index}
    names = {network(name) for number in (5, 6, 7) for name in t.frame[number]["model"]}
    families = {name.partition("-")[0] for name in names}
    return [
        unknown("4", 357, "ImageNet-1K has 1.3 M training and 50 K validation images", NO_TABLE),
        judged(
            "4",
            357,
            "all values are of networks trained on ImageNet-1K alone, at 224 × 224",
            "; ".join(
                f"{name} {full[name]:g} in Table 2, up to {top:g} quantized in Table 7"
                for name, top in quantized.items()
            ),
            [top <= full[name] for name, top in quantized.items()],
            "a quantized network does not gain: Table 7 starts from other weights, so the "
            "categories are not trained alike",
        ),
        _reference(t),
        _unit_of_size(t),
        judged(
            "4",
            369,
            "ViT-B/16 is the upper bound of the models that are compared",
            f"EER above 100: {', '.join(beyond['model'])}; more parameters: "
            f"{', '.join(heavier['model'].drop_duplicates())}",
            [len(beyond) < len(known) / 10, beyond.empty],
        ),
        judged(
            "4",
            363,
            "quantization methods are usually compared on three pretrained models",
            f"{len(families)} families: {', '.join(sorted(families))}; {len(names)} networks",
            [len(families) == 3, len(names) == 3],
            "three families, each in several sizes",
        ),
    ]


def _reference(t: Tables) -> Claim:
    claim = "ViT-B/16 counts 86.6 M parameters and 17.6 GFLOPs"
    if t.counted is None:
        return unknown("4", 369, claim, "nothing was counted: python -m vitstudy survey --count")
    row = t.counted.set_index("timm").loc["vit_base_patch16_224"]
    counted = row["parameters_M"], row["macs_G"]
    return judged(
        "4",
        369,
        claim,
        f"{counted[0]:.2f} M, {counted[1]:.2f} G multiply-accumulates",
        [round(counted[0], 1) == 86.6, round(counted[1], 1) == 17.6],
        "counted here in timm's network; its FLOPs are multiply-accumulates",
    )


def _unit_of_size(t: Tables) -> Claim:
    """Whether the reference's 330 MB and the tables' sizes are in one unit."""
    parameters = VIT_B16["parameters"].value
    million_bytes = parameters * 4
    mebibytes = parameters * 4e6 / 2**20
    exact = [
        abs(row[SIZE] - row[PAR] * row["weight_bits"] / 8) <= 0.05 + 0.05 * row["weight_bits"] / 8
        for row in t.frame[8].to_dict("records")
    ]
    return judged(
        "4",
        369,
        "ViT-B/16 is 330 MB at 32 bits",
        f"{mebibytes:.1f} × 2^20 bytes, {million_bytes:.1f} × 10^6 bytes",
        [round(mebibytes) == 330, not all(exact)],
        f"the sizes of Table 8 ({sum(exact)} of {len(exact)}) and of Tables 5 to 7 are #Par. × W / "
        "8 in 10^6 bytes, the reference's alone in 2^20: each Size ratio is "
        f"{100 * (million_bytes / VIT_B16['size'].value - 1):.1f} % too high"
        if all(exact)
        else "",
    )


def section_4_5(t: Tables) -> list[Claim]:
    """Table 8: the best of each category against each other."""
    eighth = t.frame[8]
    castling, dynamic, tiny = "Castling-MViTv2-T", "DynamicViT-LV-S/07", "TinyViT-21M"
    noisy, all_ = "NoisyQuant-PTQ4ViT-Swin-B", "eer_all_percent"

    def cell(model, column):
        return t.cell(8, model, column)

    def less(column, stated, words):
        cells = [cell(tiny, column), cell(dynamic, column)]
        return number(
            "4.5",
            630,
            f"TinyViT-21M has {words} than DynamicViT-LV-S/07",
            stated,
            difference,
            cells,
        )

    metrics = {
        "weight_bits": "min",
        SIZE: "min",
        PAR: "min",
        FLOPS: "min",
        TOP1: "max",
        "eer_category_percent": "min",
        all_: "min",
    }
    wins = [
        column
        for column, which in metrics.items()
        if getattr(eighth[column], which)() == t.value(8, castling, column)
    ]
    change = t.value(8, castling, all_) - t.value(8, noisy, all_)
    everything = t.known
    mine = everything[everything["model"].eq(tiny)].iloc[0]
    better = everything[
        (everything["eer_all"] < mine["eer_all"]) & (everything["top1"] >= mine["top1"])
    ]
    cheaper = map(models.label, better.to_dict("records"))
    gap = t.value(8, castling, TOP1) - t.value(8, dynamic, TOP1)
    plus = t.value(8, castling, TOP1) - t.value(8, tiny, TOP1)
    follows = [eer(row_metrics(row, ALL)) for row in eighth.to_dict("records")]
    recomputed = dict(zip(eighth["model"], follows, strict=True))
    return [
        numbers(
            "4.5",
            630,
            "TinyViT-21M and DynamicViT-LV-S/07 both reach about 83",
            [("83", cell(tiny, TOP1)), ("83", cell(dynamic, TOP1))],
        ),
        less(PAR, "-5.9", "5.9 M parameters less"),
        less(FLOPS, "-0.3", "0.3 GFLOPs less"),
        less(SIZE, "-23.6", "23.6 MB less"),
        extreme(
            "4.5",
            630,
            "TinyViT-21M has the lowest EER over all metrics of Table 8, 43.5",
            eighth,
            all_,
            tiny,
            "min",
            "43.5",
            "true of the four of Table 8, into which each category sends one; as accurate and "
            f"cheaper in Tables 2 to 7: {', '.join(cheaper)}",
        ),
        judged(
            "4.5",
            632,
            "more FLOPs at 6 bits can be good for size and accuracy (NoisyQuant, TinyViT)",
            f"{t.value(8, noisy, FLOPS):g} against {t.value(8, tiny, FLOPS):g} GFLOPs",
            [
                t.value(8, noisy, FLOPS) > t.value(8, tiny, FLOPS),
                t.value(8, noisy, SIZE) < t.value(8, tiny, SIZE),
                t.value(8, noisy, TOP1) > t.value(8, tiny, TOP1),
            ],
        ),
        extreme(
            "4.5",
            632,
            "NoisyQuant-PTQ4ViT-Swin-B has the highest Top-1 of Table 8, 84.7",
            eighth,
            TOP1,
            noisy,
            "max",
            "84.7",
        ),
        numbers(
            "4.5",
            632,
            "66.0 MB against TinyViT-21M's 84.0",
            [("66.0", cell(noisy, SIZE)), ("84.0", cell(tiny, SIZE))],
        ),
        number(
            "4.5",
            632,
            "it is 1.6 points above TinyViT-21M",
            "1.6",
            difference,
            [cell(noisy, TOP1), cell(tiny, TOP1)],
        ),
        number(
            "4.5",
            632,
            "and 21.4 % smaller",
            "-21.4",
            lambda first, second: 100 * (first / second - 1),
            [cell(noisy, SIZE), cell(tiny, SIZE)],
        ),
        best(
            t,
            634,
            "Castling-MViTv2-T is the Pareto optimum of Top-1 and the EER over all metrics",
            (NAMED["the four of Table 8"],),
            "DynamicViT-LV-S/07 alone of the four is dominated",
        ),
        numbers("4.5", 646, "Castling-MViTv2-T reaches 84.1", [("84.1", cell(castling, TOP1))]),
        judged(
            "4.5",
            646,
            "Castling-MViTv2-T is 1.1 points above TinyViT-21M",
            f"{plus:.1f}",
            [f"{plus:.1f}" == "1.1"],
            f"{gap:.1f} is the gap to DynamicViT-LV-S/07 to the digit: rounding did not make it",
        ),
        number(
            "4.5",
            646,
            "its EER over all metrics is 2.1 above TinyViT-21M's",
            "2.1",
            difference,
            [cell(castling, all_), cell(tiny, all_)],
        ),
        number(
            "4.5",
            646,
            "Castling-MViTv2-T is 0.6 points below NoisyQuant-PTQ4ViT-Swin-B",
            "-0.6",
            difference,
            [cell(castling, TOP1), cell(noisy, TOP1)],
        ),
        Claim(
            "4.5",
            646,
            "its EER over all metrics is increased by 10.9 against NoisyQuant-PTQ4ViT-Swin-B's",
            f"{change:+.1f}",
            HOLDS if abs(change - 10.9) < 0.05 else NOT,
            "the size of the change is right, its sign is not: it falls; with the EERs that follow "
            f"from Table 8's own inputs by {recomputed[noisy] - recomputed[castling]:.1f}",
        ),
        judged(
            "4.5",
            646,
            "Castling-MViTv2-T is the best in no metric of Table 8",
            f"best in {len(wins)} of {len(metrics)}",
            [not wins],
        ),
    ]


def section_6_3(t: Tables) -> list[Claim]:
    """COCO (Table 9) and ADE20K (Table 10)."""
    ninth = t.frame[9]
    tiny, large, pvt = "MViTv2-T", "MViTv2-L", "PVT-Tiny"
    fpn, uper = "Semantic FPN", "UperNet"

    def coco(first, second, column):
        return [t.cell(9, first, column), t.cell(9, second, column)]

    def ade(model, column):
        return [t.cell(10, model, column, decoder=each) for each in (uper, fpn)]

    more = [
        t.value(10, each, PAR, decoder=uper) - t.value(10, each, PAR, decoder=fpn)
        for each in ("Ortho-S", "Ortho-B")
    ]
    lightest = ninth.loc[ninth[PAR].idxmin()]
    rows = [
        unknown(
            "6.3", 804, "COCO has 118 K training and 5 K validation images, 800 × 1333", NO_TABLE
        ),
        unknown("6.3", 804, "ADE20K has 20 K, 2 K and 3 K images, 512 × 512", NO_TABLE),
        unknown(
            "6.3", 806, "Mask R-CNN (1x) is the most used decoder and the best trade-off", NO_TABLE
        ),
        unknown(
            "6.3",
            810,
            "RetinaNet has 10 M fewer parameters than Mask R-CNN, Cascade 33 M more",
            NO_TABLE,
        ),
        best(
            t,
            806,
            "MViTv2-T with Mask R-CNN is the best trade-off of AP and the encoder's EER",
            (NAMED["COCO, box AP"], NAMED["COCO, mask AP"]),
        ),
        extreme("6.3", 806, "MViTv2-L is the more accurate: box AP", ninth, "ap_box", large, "max"),
        extreme(
            "6.3", 806, "MViTv2-L is the more accurate: mask AP", ninth, "ap_mask", large, "max"
        ),
    ]
    stated = (
        ("-3.6", "ap_box", large),
        ("-2.4", "ap_mask", large),
        ("11.5", "ap_box", pvt),
        ("8.7", "ap_mask", pvt),
    )
    for text, column, other in stated:
        names = {"ap_box": "box AP", "ap_mask": "mask AP"}
        way = "below" if text.startswith("-") else "above"
        rows.append(
            number(
                "6.3",
                806,
                f"MViTv2-T's {names[column]} is {text.lstrip('-')} {way} {other}'s",
                text,
                difference,
                coco(tiny, other, column),
            )
        )
    return [
        *rows,
        number(
            "6.3",
            806,
            "MViTv2-T's structure is 5.4 times smaller than MViTv2-L's",
            "5.4",
            quotient,
            coco(large, tiny, PAR),
        ),
        judged(
            "6.3",
            806,
            "PVT-Tiny is the lighter model",
            f"{t.value(9, pvt, PAR):g} M against MViTv2-T's {t.value(9, tiny, PAR):g}",
            [t.value(9, pvt, PAR) < t.value(9, tiny, PAR)],
            f"the lightest of Table 9 is {lightest['encoder']} ({lightest[PAR]:g} M)",
        ),
        judged(
            "6.3",
            832,
            "UperNet has 28 M parameters more than Semantic FPN",
            ", ".join(f"{each:g}" for each in more),
            [each == 28 for each in more],
            "on Ortho-S and Ortho-B, the two encoders that have both",
        ),
        number(
            "6.3",
            832,
            "UperNet gains 0.3 on Ortho-S",
            "0.3",
            difference,
            ade("Ortho-S", "miou_percent"),
        ),
        number(
            "6.3",
            832,
            "UperNet gains 0.8 on Ortho-B",
            "0.8",
            difference,
            ade("Ortho-B", "miou_percent"),
        ),
        best(t, 834, "Ortho-S with Semantic FPN is the best encoder-decoder", (NAMED["ADE20K"],)),
        numbers(
            "6.3",
            834,
            "it reaches 48.2 mIoU with 28 M parameters",
            [
                ("48.2", t.cell(10, "Ortho-S", "miou_percent", decoder=fpn)),
                ("28", t.cell(10, "Ortho-S", PAR, decoder=fpn)),
            ],
        ),
    ]
