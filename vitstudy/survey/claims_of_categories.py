"""The claims of Sections 4.1 to 4.4: compact architectures, pruning, distillation, quantization."""

from __future__ import annotations

import numpy as np

from vitstudy.survey import pareto
from vitstudy.survey.audit import network
from vitstudy.survey.claims import (
    Cell,
    Claim,
    Tables,
    _less_percent,
    _mean_of,
    best,
    difference,
    extreme,
    judged,
    number,
    numbers,
    quotient,
)
from vitstudy.survey.eer import eer, quantities

NAMED = {named.scope: named for named in pareto.BEST}
TOP1, EER, PAR, FLOPS, SIZE = "top1_percent", "eer_percent", "parameters_M", "flops_G", "size_MB"
APQ, NOISY, PTQ = "APQ-ViT", "NoisyQuant-PTQ4ViT", "PTQ4ViT"


def section_4_1(t: Tables) -> list[Claim]:
    """Compact architectures, Table 2."""
    second = t.frame[2]
    large, base, tiny = "MViTv2-L", "Castling-MViTv2-B", "Castling-MViTv2-T"

    def cell(model, column):
        return t.cell(2, model, column)

    on = dict(zip(second["model"], pareto.front(second[EER], second[TOP1]), strict=True))
    spread = second[EER].dropna()
    beyond = float(spread.quantile(0.75) + 1.5 * (spread.quantile(0.75) - spread.quantile(0.25)))
    constrained = ("XCit-T12/8 (SimA)", "EfficientViT-B1", "Castling-LeViT-128")
    two = constrained[1:]
    least_flops = set(second.nsmallest(2, FLOPS)["model"])
    pvt2, medium, small = "PVTv2-B2-LiSRA", "PVT-Medium", "PVT-Small"
    similar = ("Swin-T", "MViTv2-T", "Ortho-S")
    boost = [cell(each, TOP1) for name in similar for each in (tiny, name)]
    heavier = second[(second[TOP1] - 79.5).abs() <= 0.5]
    heavier = heavier[~heavier["model"].isin(two)]
    return [
        extreme(
            "4.1",
            375,
            "MViTv2-L has the highest Top-1 of Table 2, 85.3",
            second,
            TOP1,
            large,
            "max",
            "85.3",
        ),
        extreme("4.1", 424, "MViTv2-L has the most parameters", second, PAR, large, "max"),
        extreme("4.1", 424, "MViTv2-L has the most FLOPs", second, FLOPS, large, "max"),
        extreme("4.1", 424, "MViTv2-L has the highest EER", second, EER, large, "max"),
        judged(
            "4.1",
            424,
            "MViTv2-L is an outlier where the Pareto front of accuracy and EER is looked for",
            f"EER {t.value(2, large, EER):g}; quartiles put outliers above {beyond:.1f}; "
            f"{'on' if on[large] else 'not on'} the front",
            [t.value(2, large, EER) > beyond, not on[large]],
            "the model with the highest Top-1 is on every front",
        ),
        number(
            "4.1",
            424,
            "Castling-MViTv2-B's EER is 4.2 times lower than MViTv2-L's",
            "4.2",
            quotient,
            [cell(large, EER), cell(base, EER)],
        ),
        numbers(
            "4.1",
            424,
            "Castling-MViTv2-B reaches 85.0 and so nearly as much",
            [("85.0", cell(base, TOP1))],
        ),
        judged(
            "4.1",
            424,
            "Castling-MViTv2-B is to be preferred to MViTv2-L",
            f"Top-1 {t.value(2, base, TOP1) - t.value(2, large, TOP1):+.1f}, "
            f"EER {t.value(2, base, EER) - t.value(2, large, EER):+.1f}",
            [t.value(2, base, EER) < t.value(2, large, EER), on[base]],
            "a preference, not a dominance: both are on the front",
        ),
        numbers(
            "4.1",
            426,
            "Ortho-T has 3.9 M parameters and 0.7 GFLOPs",
            [("3.9", cell("Ortho-T", PAR)), ("0.7", cell("Ortho-T", FLOPS))],
        ),
        judged(
            "4.1",
            430,
            "XCiT-T12/8 (SimA), EfficientViT-B1 and Castling-LeViT-128 are alternatives where "
            "hardware is constrained",
            ", ".join(f"{name} {'on' if on[name] else 'off'} the front" for name in constrained),
            [on[name] for name in constrained],
            "Castling-LeViT-128 and EfficientViT-B1 beat XCiT-T12/8 or equal it in Top-1 at less "
            "than half its EER",
        ),
        numbers(
            "4.1",
            430,
            "EfficientViT-B1 and Castling-LeViT-128 count 0.52 and 0.49 GFLOPs",
            [(text, cell(name, FLOPS)) for text, name in zip(("0.52", "0.49"), two, strict=True)],
            f"the two least of Table 2: {', '.join(sorted(least_flops))}",
        ),
        numbers(
            "4.1",
            430,
            "EfficientViT-B1 and Castling-LeViT-128 have an EER of 6.7 and 7.4",
            [(text, cell(name, EER)) for text, name in zip(("6.7", "7.4"), two, strict=True)],
        ),
        numbers(
            "4.1",
            430,
            "EfficientViT-B1 and Castling-LeViT-128 reach 79.4 and 79.6",
            [(text, cell(name, TOP1)) for text, name in zip(("79.4", "79.6"), two, strict=True)],
        ),
        judged(
            "4.1",
            430,
            "they reach what much heavier models reach",
            f"within half a point of 79.5: {', '.join(heavier['model'])}, "
            f"EER {heavier[EER].min():g} to {heavier[EER].max():g}",
            [len(heavier) > 0, bool((heavier[EER] > t.value(2, two[1], EER)).all())],
        ),
        judged(
            "4.1",
            432,
            "PVTv2 is as accurate as PVT-Medium at an EER like PVT-Small's",
            f"Top-1 {t.value(2, pvt2, TOP1):g} against {t.value(2, medium, TOP1):g}, "
            f"EER {t.value(2, pvt2, EER):g} against {t.value(2, small, EER):g}",
            [
                t.value(2, pvt2, TOP1) >= t.value(2, medium, TOP1),
                t.value(2, pvt2, EER) <= t.value(2, small, EER),
            ],
            "it is better in both",
        ),
        best(t, 434, "Castling-MViTv2-T is the Pareto optimum of accuracy and EER", (NAMED["CA"],)),
        numbers("4.1", 434, "Castling-MViTv2-T reaches 84.1", [("84.1", cell(tiny, TOP1))]),
        number(
            "4.1",
            434,
            "Castling-MViTv2-T is 1.2 points below MViTv2-L",
            "-1.2",
            difference,
            [cell(tiny, TOP1), cell(large, TOP1)],
        ),
        number(
            "4.1",
            434,
            "Castling-MViTv2-T's EER is 9.2 times better than MViTv2-L's",
            "9.2",
            quotient,
            [cell(large, EER), cell(tiny, EER)],
        ),
        numbers(
            "4.1",
            434,
            "Swin-T, MViTv2-T, Ortho-S and Castling-MViTv2-T have EERs of 29.5, 27.2, 26.6, 26.7",
            [
                (text, cell(name, EER))
                for text, name in zip(
                    ("29.5", "27.2", "26.6", "26.7"), (*similar, tiny), strict=True
                )
            ],
        ),
        number(
            "4.1",
            434,
            "Castling-MViTv2-T is on average 1.8 points above Swin-T, MViTv2-T and Ortho-S",
            "1.8",
            _mean_of(difference),
            boost,
        ),
    ]


def section_4_2(t: Tables) -> list[Claim]:
    """Pruning, Table 3; unpruned Swin from Table 2, DeiT from Table 4, as the text says."""
    third = t.frame[3]
    bases = {"Swin-T": 2, "Swin-S": 2, "DeiT-Ti": 4, "DeiT-S": 4, "DeiT-B": 4}

    def pairs(names, column):
        return [
            cell
            for name in names
            for cell in (t.cell(3, f"X-Pruner-{name}", column), t.cell(bases[name], name, column))
        ]

    swin, deit = ("Swin-T", "Swin-S"), ("DeiT-Ti", "DeiT-S", "DeiT-B")
    known = [
        (row["model"], row[PAR], row[FLOPS], name)
        for row in third.to_dict("records")
        if (name := network(row["model"])) in bases
    ]
    same = [par == t.value(bases[name], name, PAR) for _, par, _, name in known]
    fewer = [flops < t.value(bases[name], name, FLOPS) for _, _, flops, name in known]
    nvit = third[third["model"].str.startswith("NViT")]
    accurate = third[third[TOP1] >= 83.5]["model"]
    lv = [
        (f"{way}-LV-ViT-{a}", f"{way}-DeiT-{b}") for way in ("PS", "DPS") for a, b in ("SS", "MB")
    ]
    better = [t.value(3, a, TOP1) > t.value(3, b, TOP1) for a, b in lv]
    faster = [t.value(3, a, FLOPS) < t.value(3, b, FLOPS) for a, b in lv]
    chosen, tiny = "DynamicViT-LV-S/07", "X-Pruner-DeiT-Ti"
    lower = third[third[EER] < t.value(3, chosen, EER)]["model"]
    row = third[third["model"] == chosen].iloc[0]
    follows = round(eer(quantities(parameters=row[PAR], flops=row[FLOPS])), 1)
    return [
        judged(
            "4.2",
            438,
            "pruning leaves #Par. as it is and lowers FLOPs",
            f"of {len(known)} rows on DeiT and Swin {sum(same)} print the unpruned #Par. and "
            f"{sum(fewer)} fewer FLOPs; NViT prints {nvit[PAR].min():g} to {nvit[PAR].max():g} M",
            [all(same), all(fewer), bool((nvit[PAR] == t.value(4, "DeiT-B", PAR)).all())],
            "VTP prints less than DeiT-B's #Par.; NViT is cut from DeiT-B and prints much less",
        ),
        number(
            "4.2",
            438,
            "X-Pruner takes on average 29.9 % of Swin's FLOPs away",
            "29.9",
            _mean_of(_less_percent),
            pairs(swin, FLOPS),
        ),
        number(
            "4.2",
            438,
            "X-Pruner takes on average 51.3 % of DeiT's FLOPs away",
            "51.3",
            _mean_of(_less_percent),
            pairs(deit, FLOPS),
        ),
        number(
            "4.2",
            438,
            "X-Pruner costs Swin 0.8 points of Top-1 on average",
            "-0.8",
            _mean_of(difference),
            pairs(swin, TOP1),
        ),
        number(
            "4.2",
            438,
            "X-Pruner costs DeiT 2.6 points of Top-1 on average",
            "-2.6",
            _mean_of(difference),
            pairs(deit, TOP1),
        ),
        judged(
            "4.2",
            440,
            "the pruned models with Top-1 of 83.5 or more are made from LV-ViT",
            ", ".join(accurate),
            [network(name).startswith("LV-ViT") for name in accurate],
        ),
        Claim(
            "4.2",
            440,
            "LV-ViT, unpruned, is more accurate and faster than Swin and DeiT",
            "",
            "cannot be checked",
            "no table prints the unpruned LV-ViT",
        ),
        judged(
            "4.2",
            440,
            "PS and DPS show it, too: better and faster on LV-ViT than on DeiT at S/S and M/B",
            f"Top-1 higher in {sum(better)} of {len(lv)}, FLOPs lower in {sum(faster)}",
            [*better, *faster],
            "on the S models LV-ViT takes about twice DeiT's FLOPs",
        ),
        best(t, 470, "DynamicViT-LV-S/07 is the best trade-off of Table 3", (NAMED["P"],)),
        numbers(
            "4.2",
            470,
            "DynamicViT-LV-S/07 reaches 83.0 at an EER of 28.9",
            [("83.0", t.cell(3, chosen, TOP1)), ("28.9", Cell(follows, 0))],
            "Table 3 prints 28.9, which does not follow from its #Par. and FLOPs: see the audit",
        ),
        judged(
            "4.2",
            470,
            "its EER is low against all the other methods'",
            f"{len(lower)} of {len(third) - 1} others are lower: {', '.join(lower)}",
            [len(lower) == 0, len(lower) < (len(third) - 1) / 2],
        ),
        extreme(
            "4.2",
            470,
            "X-Pruner-DeiT-Ti's EER is very low, the least of Table 3",
            third,
            EER,
            tiny,
            "min",
        ),
    ]


def section_4_3(t: Tables) -> list[Claim]:
    """Knowledge distillation, Table 4."""
    fourth = t.frame[4]

    def pairs(name, sizes):
        return [
            cell
            for size in sizes
            for cell in (t.cell(4, f"{name}-DeiT-{size}", TOP1), t.cell(4, f"DeiT-{size}", TOP1))
        ]

    rows = [
        (name, size)
        for name, sizes in (("Manifold", ("Ti", "S")), ("DearKD", ("Ti", "S", "B")))
        for size in sizes
    ]
    constant = [
        t.value(4, f"{name}-DeiT-{size}", column) == t.value(4, f"DeiT-{size}", column)
        for name, size in rows
        for column in (PAR, FLOPS)
    ]
    tiny = "TinyViT-21M"
    rivals = ("DearKD-DeiT-S", "DynamicViT-LV-S/05", "DynamicViT-LV-S/07")
    return [
        number(
            "4.3",
            476,
            "Manifold distillation adds 1.5 points to DeiT on average",
            "1.5",
            _mean_of(difference),
            pairs("Manifold", ("Ti", "S")),
        ),
        number(
            "4.3",
            476,
            "DearKD adds 1.7 points to DeiT on average",
            "1.7",
            _mean_of(difference),
            pairs("DearKD", ("Ti", "S", "B")),
        ),
        judged(
            "4.3",
            476,
            "both leave #Par. and FLOPs as they are",
            f"{sum(constant)} of {len(constant)} printed values are DeiT's",
            constant,
        ),
        extreme(
            "4.3",
            508,
            "Mini-DeiT-Ti's EER is very low, the least of Table 4",
            fourth,
            EER,
            "Mini-DeiT-Ti",
            "min",
        ),
        best(t, 508, "TinyViT-21M is the most efficient model of Table 4", (NAMED["KD"],)),
        numbers(
            "4.3",
            508,
            "TinyViT-21M reaches 83.1 at an EER of 24.3",
            [("83.1", t.cell(4, tiny, TOP1)), ("24.3", t.cell(4, tiny, EER))],
        ),
        judged(
            "4.3",
            508,
            "DearKD-DeiT-S, DynamicViT-LV-S/05 and /07 are neither more accurate nor cheaper",
            "; ".join(
                f"{each} {t.value(4, each, TOP1):g} at {t.value(4, each, EER):g}" for each in rivals
            ),
            [
                t.value(4, tiny, TOP1) > t.value(4, each, TOP1)
                and t.value(4, tiny, EER) < t.value(4, each, EER)
                for each in rivals
            ],
        ),
    ]


def section_4_4(t: Tables) -> list[Claim]:
    """Quantization, Tables 5 to 7."""
    low, six, eight = (4, 4), (6, 6), (8, 8)

    def apq(name, column=TOP1, bits=low):
        table = {"V": 5, "D": 6, "S": 7}[name[0]]
        return t.value(table, f"{APQ}-{name}", column, bits)

    def size_of(name):
        return apq(name, SIZE, low)

    quantized = {number: t.frame[number] for number in (5, 6, 7)}
    four = [
        row[TOP1]
        for frame in quantized.values()
        for row in frame.to_dict("records")
        if row["weight_bits"] == row["activation_bits"] == 4
    ]
    widths = sorted(
        {
            int(row[column])
            for frame in quantized.values()
            for row in frame.to_dict("records")
            for column in ("weight_bits", "activation_bits")
        }
    )
    by_size = _size_follows_weights(t)
    small, deep = ("ViT-T", "DeiT-Ti", "DeiT-S"), ("ViT-B", "DeiT-B", "Swin-S", "Swin-B")
    drops = {name: apq(name, TOP1, eight) - apq(name) for name in (*small, *deep)}
    smallest_deep, greatest_small = min(drops[n] for n in deep), max(drops[n] for n in small)
    order = max(drops[n] for n in deep) < min(drops[n] for n in small)
    gains = [
        t.value(number, row["model"].replace(NOISY, APQ), TOP1, bits) - row[TOP1]
        for number, frame in quantized.items()
        for row in frame.to_dict("records")
        if row["model"].startswith(NOISY)
        and (bits := (row["weight_bits"], row["activation_bits"]))
        and _has(t, number, row["model"].replace(NOISY, APQ), bits)
    ]
    gains = [gain for gain in gains if not np.isnan(gain)]
    behind = sum(gain > 0 for gain in gains)
    swin = t.cell(7, f"{NOISY}-Swin-B", TOP1, six)
    vit = t.cell(5, f"{NOISY}-ViT-B", TOP1, six)
    deit = t.cell(6, f"{NOISY}-DeiT-B", TOP1, six)
    chosen = [(5, f"{NOISY}-ViT-B"), (6, f"{NOISY}-DeiT-B"), (7, f"{NOISY}-Swin-B")]
    eers = [t.value(number, name, EER, six) for number, name in chosen]
    sizes = [t.value(number, name, SIZE, six) for number, name in chosen]
    families = len(quantized)
    networks = {network(name) for frame in quantized.values() for name in frame["model"]}
    best_widths = {
        name: max(t.value(number, f"{APQ}-{name}", TOP1, bits) for bits in (six, eight))
        for number, name in ((5, "ViT-T"), (6, "DeiT-Ti"))
    }
    return [
        judged(
            "4.4",
            512,
            "the strategies are compared on the same structures: ViT, DeiT and Swin",
            f"{families} families, {len(networks)} networks",
            [
                families == 3,
                all(network(name).split("-")[0] in ("ViT", "DeiT", "Swin") for name in networks),
            ],
        ),
        judged(
            "4.4",
            514,
            "32-bit data are compressed to 8, 6 and 4 bits",
            ", ".join(map(str, widths)),
            [widths == [4, 6, 8]],
        ),
        judged(
            "4.4",
            514,
            "#Par. stays and the size falls with the precision of the data",
            f"of {len(by_size)} rows whose W and A differ, {sum(by_size)} print the size that "
            "their weights take",
            [_size_falls(t), all(by_size)],
            "a file holds weights alone; the tables' estimated sizes (and Swin's, unmarked) take "
            "the mean of W and A: W8A4 as small as W6A6",
        ),
        judged(
            "4.4",
            552,
            "4 bits give a poor accuracy",
            f"Top-1 {min(four):g} to {max(four):g} in {len(four)} rows",
            [min(four) < 50, max(four) < 70],
            "the same paragraph calls 77.1 and 76.5 good",
        ),
        numbers(
            "4.4",
            552,
            "APQ-ViT at 4 bits reaches 17.6 on ViT-T and 47.9 on DeiT-Ti",
            [
                ("17.6", t.cell(5, f"{APQ}-ViT-T", TOP1, low)),
                ("47.9", t.cell(6, f"{APQ}-DeiT-Ti", TOP1, low)),
            ],
        ),
        judged(
            "4.4",
            552,
            "these are the smallest models of their tables",
            f"{size_of('ViT-T'):g} MB and {size_of('DeiT-Ti'):g} MB",
            [
                size_of("ViT-T") == quantized[5][SIZE].min(),
                size_of("DeiT-Ti") == quantized[6][SIZE].min(),
            ],
        ),
        judged(
            "4.4",
            552,
            "at 6 and 8 bits the same two reach up to 74.8 and 72.0",
            ", ".join(f"{name} {value:g}" for name, value in best_widths.items()),
            [best_widths["ViT-T"] == 74.8, best_widths["DeiT-Ti"] == 72.0],
        ),
        numbers(
            "4.4",
            552,
            "at 4 bits APQ-ViT keeps 77.1 on Swin-S and 76.5 on Swin-B",
            [
                ("77.1", t.cell(7, f"{APQ}-Swin-S", TOP1, low)),
                ("76.5", t.cell(7, f"{APQ}-Swin-B", TOP1, low)),
            ],
        ),
        judged(
            "4.4",
            552,
            "4 bits cost small models much and deep ones little",
            "points lost from W8A8 to W4A4: "
            + ", ".join(f"{name} {drop:.1f}" for name, drop in drops.items()),
            [smallest_deep < greatest_small, order],
            "ViT-B is no small model and loses as much as the small ones (its W8A8 is an inferred "
            "cell); within Swin the smaller loses less",
        ),
        best(
            t,
            593,
            "NoisyQuant on PTQ4ViT is the best trade-off of all quantizers",
            (NAMED["Q, ViT"], NAMED["Q, DeiT"], NAMED["Q, Swin"]),
            f"APQ-ViT is more accurate in {behind} of the {len(gains)} pairs that can be compared",
        ),
        judged(
            "4.4",
            593,
            "APQ-ViT performs quite similarly",
            f"APQ-ViT minus NoisyQuant, points: {', '.join(f'{gain:+.1f}' for gain in gains)}",
            [max(map(abs, gains)) <= 1],
        ),
        *(_above_80(t, number, name, six) for number, name in chosen),
        best(
            t,
            593,
            "NoisyQuant-PTQ4ViT-Swin-B at 6 bits is the most efficient of all quantized models",
            (NAMED["Q"],),
        ),
        numbers(
            "4.4",
            593,
            "it reaches 84.7 at 66.0 MB",
            [("84.7", swin), ("66.0", t.cell(7, f"{NOISY}-Swin-B", SIZE, six))],
        ),
        number(
            "4.4",
            593,
            "the ViT-B variant is 2.3 points below",
            "-2.3",
            difference,
            [vit, swin],
            "on an inferred cell of Table 5",
        ),
        number(
            "4.4", 593, "the DeiT-B variant is 4.0 points below", "-4.0", difference, [deit, swin]
        ),
        judged(
            "4.4",
            593,
            "at almost equal EERs and sizes",
            f"EER {', '.join(f'{each:g}' for each in eers)}; "
            f"MB {', '.join(f'{each:g}' for each in sizes)}",
            [max(eers) - min(eers) < 0.5, max(sizes) / min(sizes) < 1.05],
        ),
    ]


def _has(t: Tables, number: int, model: str, bits) -> bool:
    frame = t.frame[number]
    fits = (frame["model"] == model) & (frame["weight_bits"] == bits[0])
    return bool((fits & (frame["activation_bits"] == bits[1])).any())


def _size_follows_weights(t: Tables) -> list[bool]:
    """For each row with W ≠ A, whether it has the size of its network at W bits everywhere.

    The size at W bits is that of the same network in a row with W = A.
    """
    found = []
    for frame in (t.frame[5], t.frame[6], t.frame[7]):
        rows = frame.to_dict("records")
        plain = {
            (network(row["model"]), row["weight_bits"]): row[SIZE]
            for row in rows
            if row["weight_bits"] == row["activation_bits"]
        }
        found += [
            row[SIZE] == plain[network(row["model"]), row["weight_bits"]]
            for row in rows
            if row["weight_bits"] != row["activation_bits"]
        ]
    return found


def _size_falls(t: Tables) -> bool:
    """Whether fewer bits are a smaller size for every network, in the rows with W = A."""
    for frame in (t.frame[5], t.frame[6], t.frame[7]):
        plain = frame[frame["weight_bits"] == frame["activation_bits"]]
        for _, rows in plain.groupby(plain["model"].map(network)):
            sizes = rows.groupby("weight_bits")[SIZE].agg(["min", "max"])
            if not (sizes["max"].to_numpy()[:-1] < sizes["min"].to_numpy()[1:]).all():
                return False
    return True


def _above_80(t: Tables, number: int, model: str, bits) -> Claim:
    """Of the rows above 80 of one table: whether the named one has the least EER and, at that, the
    highest Top-1."""
    frame = t.frame[number]
    above = frame[frame[TOP1] > 80]
    mine = above[
        (above["model"] == model)
        & (above["weight_bits"] == bits[0])
        & (above["activation_bits"] == bits[1])
    ].iloc[0]
    cheaper = above[above[EER] < mine[EER]]
    equal = above[above[EER] == mine[EER]]
    names = [
        f"{row['model']} W{row['weight_bits']:g}A{row['activation_bits']:g} "
        f"({row[TOP1]:g} at {row[EER]:g})"
        for row in cheaper.to_dict("records")
    ]
    return judged(
        "4.4",
        593,
        f"with Top-1 above 80, {model} at 6 bits is the best trade-off of Table {number}",
        f"{mine[TOP1]:g} at {mine[EER]:g}; cheaper and above 80: {'; '.join(names) or 'none'}",
        [cheaper.empty, mine[TOP1] == equal[TOP1].max()],
    )
