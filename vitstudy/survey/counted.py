"""The surveyed models that timm can build, without weights: counted, and timed where asked.

What was counted is kept in `results/survey/counted.csv`, with the versions that counted it, and
committed: whoever reads it needs neither timm nor the seconds. Timings go to
`results/survey/speed.json`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vitstudy import files
from vitstudy.errors import UserError, unknown
from vitstudy.survey import tables
from vitstudy.survey.audit import COST, network, row_metrics
from vitstudy.survey.eer import VIT_B16, eer, quantities

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

REFERENCE = "vit_base_patch16_224"
SAME, STARTS_FROM = "same network", "starts from"


@dataclass(frozen=True)
class Buildable:
    """A network of timm's and the models of Tables 2 to 7 that are that network, or begin as it."""

    timm: str
    models: tuple[str, ...]
    relation: str = SAME


def _deit(size: str) -> tuple[str, ...]:
    names = {"Ti": ("Manifold", "DearKD"), "S": ("Manifold", "DearKD"), "B": ("DearKD",)}
    return (f"DeiT-{size}", *(f"{name}-DeiT-{size}" for name in names[size]))


BUILDABLE = (
    Buildable(REFERENCE, ("ViT-B",)),
    Buildable("vit_tiny_patch16_224", ("ViT-T",)),
    Buildable("vit_small_patch16_224", ("ViT-S",)),
    Buildable("vit_large_patch16_224", ("ViT-L",)),
    Buildable("deit_tiny_patch16_224", ("CivT-Ti", "X-Pruner-DeiT-Ti"), STARTS_FROM),
    Buildable(
        "deit_small_patch16_224",
        ("CivT-S", "PS-DeiT-S", "DPS-DeiT-S", "X-Pruner-DeiT-S", "Mini-DeiT-S"),
        STARTS_FROM,
    ),
    Buildable(
        "deit_base_patch16_224",
        (
            *("VTP-DeiT-B (τ=0.2)", "VTP-DeiT-B (τ=0.4)", "PS-DeiT-B", "DPS-DeiT-B"),
            *("X-Pruner-DeiT-B", "Mini-DeiT-B", "Castling-DeiT-B", "NViT-B"),
        ),
        STARTS_FROM,
    ),
    Buildable("deit_tiny_distilled_patch16_224", _deit("Ti")),
    Buildable("deit_small_distilled_patch16_224", _deit("S")),
    Buildable("deit_base_distilled_patch16_224", _deit("B")),
    Buildable("swin_tiny_patch4_window7_224", ("Swin-T", "Manifold-Swin-T")),
    Buildable("swin_small_patch4_window7_224", ("Swin-S",)),
    Buildable("swin_base_patch4_window7_224", ("Swin-B",)),
    Buildable("pvt_v2_b2_li", ("PVTv2-B2-LiSRA",)),
    Buildable("poolformer_s12", ("PoolFormer-S12",)),
    Buildable("poolformer_s24", ("PoolFormer-S24",)),
    Buildable("poolformer_s36", ("PoolFormer-S36",)),
    Buildable("poolformer_m36", ("PoolFormer-M36",)),
    Buildable("poolformer_m48", ("PoolFormer-M48",)),
    Buildable("mvitv2_tiny", ("MViTv2-T",)),
    Buildable("mvitv2_small", ("MViTv2-S",)),
    Buildable("mvitv2_base", ("MViTv2-B",)),
    Buildable("mvitv2_large", ("MViTv2-L",)),
    # SimA takes XCiT's softmax and norms away, and nothing that has parameters.
    Buildable("xcit_tiny_12_p8_224", ("XCit-T12/8 (SimA)",)),
    Buildable("xcit_tiny_12_p16_224", ("XCit-T12/16 (SimA)",)),
    Buildable("xcit_small_12_p16_224", (), STARTS_FROM),
    Buildable("levit_128", ("Castling-LeViT-128",), STARTS_FROM),
    Buildable("levit_192", ("Castling-LeViT-192",), STARTS_FROM),
    Buildable("levit_256", ("Castling-LeViT-256",), STARTS_FROM),
    Buildable("levit_384", ("Castling-LeViT-384",), STARTS_FROM),
    Buildable("efficientvit_b1", ("EfficientViT-B1",)),
    Buildable("efficientvit_b3", ("EfficientViT-B3",)),
    Buildable("efficientvit_l1", ("EfficientViT-L1",)),
    Buildable("tiny_vit_5m_224", ("TinyViT-5M",)),
    Buildable("tiny_vit_11m_224", ("TinyViT-11M",)),
    Buildable("tiny_vit_21m_224", ("TinyViT-21M",)),
)
"""Not among them, since timm does not have them: PVT (the first), SOFT, Ortho, Flowformer, Hydra,
LV-ViT, NViT's and Mini-Swin's networks, EcoFormer."""
QUANTIZED = {
    "ViT-T": "vit_tiny_patch16_224",
    "ViT-S": "vit_small_patch16_224",
    "ViT-B": REFERENCE,
    "ViT-L": "vit_large_patch16_224",
    "DeiT-Ti": "deit_tiny_patch16_224",
    "DeiT-S": "deit_small_patch16_224",
    "DeiT-B": "deit_base_patch16_224",
    "Swin-T": "swin_tiny_patch4_window7_224",
    "Swin-S": "swin_small_patch4_window7_224",
    "Swin-B": "swin_base_patch4_window7_224",
}
"""What Tables 5 to 7 quantize; DeiT without its distillation token."""
IMAGE_SIZE, NUM_CLASSES = 224, 1_000
"""At which the survey compares all of them."""
COLUMNS = [
    *("timm", "models", "relation", "image_size", "parameters_M", "parameters_without_head_M"),
    *("macs_G", "file_bytes", "size_MB", "size_MiB", "timm_version", "torch_version"),
]


def path() -> Path:
    return files.results("survey") / "counted.csv"


def speed_path() -> Path:
    return files.results("survey") / "speed.json"


def _found(wanted: Path) -> Path | None:
    """`wanted`, or the committed file of that name where the study computes elsewhere."""
    committed = files.REPOSITORY / "results" / "survey" / wanted.name
    return next((each for each in (wanted, committed) if each.exists()), None)


def is_missing() -> bool:
    """Whether nothing was counted yet, here or in the repository."""
    return _found(path()) is None


def read() -> pd.DataFrame:
    """What was counted, `COLUMNS`; raises UserError where nothing was, or the file is damaged."""
    file = _found(path())
    if file is None:
        raise UserError(f"{path()} is absent; make it with 'python -m vitstudy survey --count'")
    frame = pd.read_csv(file, keep_default_na=False)
    for column in COLUMNS:
        if column not in frame:
            raise UserError(f"{file} has no column {column!r}; valid: {', '.join(COLUMNS)}")
    return frame[COLUMNS]


def read_speed() -> dict | None:
    """The interleaved timing of the models and its machine; None where there is none."""
    file = _found(speed_path())
    return files.read_json(file) if file else None


# -- counting -------------------------------------------------------------------------------------


def build(name: str, device: str = "meta") -> nn.Module:
    """timm's network `name` with a head for 1,000 classes and without trained weights."""
    import timm
    import torch

    with torch.device(device):
        return timm.create_model(name, pretrained=False, num_classes=NUM_CLASSES).eval()


def file_bytes(tensors: dict[str, torch.Tensor]) -> int:
    """How long the safetensors file of `tensors` is, without writing it: its header and its data.

    8 bytes of length, a JSON header padded to a multiple of 8, the tensors, wider types first.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, place = {}, 0
    for name in order:
        tensor = tensors[name]
        length = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _TYPES[str(tensor.dtype)],
            "shape": list(tensor.shape),
            "data_offsets": [place, place + length],
        }
        place += length
    text = len(json.dumps(header, separators=(",", ":")).encode())
    return 8 + math.ceil(text / 8) * 8 + place


_TYPES = {"torch.float32": "F32", "torch.int64": "I64", "torch.bool": "BOOL", "torch.int32": "I32"}


def count(buildable: Buildable) -> dict:
    """Parameters, MACs at 224 × 224 and the file's bytes of one network."""
    import timm
    import torch

    from vitstudy import measure

    model = build(buildable.timm)
    parameters = measure.count_parameters(model)
    macs = measure.count_macs(model, IMAGE_SIZE, 3)
    length = file_bytes(model.state_dict())
    model.reset_classifier(0)
    bare = measure.count_parameters(model)
    return {
        "timm": buildable.timm,
        "models": "; ".join(buildable.models),
        "relation": buildable.relation,
        "image_size": IMAGE_SIZE,
        "parameters_M": round(parameters / 1e6, 4),
        "parameters_without_head_M": round(bare / 1e6, 4),
        "macs_G": round(macs / 1e9, 4),
        "file_bytes": length,
        "size_MB": round(length / 1e6, 3),
        "size_MiB": round(length / measure.MIB, 3),
        "timm_version": timm.__version__,
        "torch_version": torch.__version__.partition("+")[0],
    }


def make(wanted: tuple[Buildable, ...] = BUILDABLE) -> pd.DataFrame:
    """Count every network and write `counted.csv`."""
    rows = []
    for each in wanted:
        log.info("counting %s", each.timm)
        rows.append(count(each))
    files.write_csv(path(), COLUMNS, rows)
    return pd.DataFrame(rows)


# -- beside what is printed -----------------------------------------------------------------------


def _close(text: str, value: float) -> bool:
    """Whether `value` rounds to what is printed."""
    return abs(float(text) - value) <= tables.half_unit(text) + 1e-9


def _words(text: str, value: float) -> str:
    if not text:
        return "not printed"
    return "agrees" if _close(text, value) else f"{100 * (value / float(text) - 1):+.1f} %"


def beside(counted: pd.DataFrame, folder: Path = tables.DATA) -> pd.DataFrame:
    """Printed and counted #Par., FLOPs and EER of the models of Tables 2 to 4 that timm has.

    Only where the network is the same. `#Par.` and `FLOPs` say `agrees`, where the count rounds to
    the print, or how far it is off. `eer_counted` averages both, in percent. Where one is off by
    more than a tenth, `fits` is the network of its family that has the printed counts, if any has.
    """
    same = counted[counted["relation"] == SAME]
    by_model = {
        model: row for row in same.to_dict("records") for model in row["models"].split("; ")
    }
    rows = []
    for number in (2, 3, 4):
        for row in tables.printed(number, folder).to_dict("records"):
            found = by_model.get(row["model"])
            if found is None:
                continue
            metrics = row_metrics(row, COST)
            own = quantities(parameters=found["parameters_M"], flops=found["macs_G"])
            rows.append(
                {
                    "table": number,
                    "model": row["model"],
                    "timm": found["timm"],
                    "parameters_printed": row["parameters_M"],
                    "parameters_counted": found["parameters_M"],
                    "#Par.": _words(row["parameters_M"], found["parameters_M"]),
                    "flops_printed": row["flops_G"],
                    "macs_counted": found["macs_G"],
                    "FLOPs": _words(row["flops_G"], found["macs_G"]),
                    "size_MB": found["size_MB"],
                    "eer_printed": row["eer_percent"],
                    "eer_recomputed": eer(metrics) if metrics else math.nan,
                    "eer_counted": eer(own),
                    "fits": _fits(row, found, counted) if _far(row, found) else "",
                }
            )
    return pd.DataFrame(rows)


def _far(row: dict, found: dict) -> bool:
    pairs = ((row["parameters_M"], "parameters_M"), (row["flops_G"], "macs_G"))
    return any(text and abs(found[name] / float(text) - 1) > 0.1 for text, name in pairs)


def _fits(row: dict, found: dict, counted: pd.DataFrame) -> str:
    """The network of the same family whose counts round to what `row` prints, or nothing."""
    family = found["timm"].partition("_")[0]
    if not (row["parameters_M"] and row["flops_G"]):
        return ""
    for other in counted[counted["timm"].str.startswith(f"{family}_")].to_dict("records"):
        if _close(row["parameters_M"], other["parameters_M"]) and _close(
            row["flops_G"], other["macs_G"]
        ):
            return other["timm"]
    return ""


def quantized_sizes(counted: pd.DataFrame, folder: Path = tables.DATA) -> pd.DataFrame:
    """Printed sizes of Tables 5 to 7, 10^6 bytes, beside parameters × bits / 8 of timm's network.

    One row for each network and pair of widths. `by_weights` takes the bits of the weights, which
    are all that a file holds; `by_mean` the mean with the activations'.
    """
    by_timm = counted.set_index("timm")["parameters_M"]
    rows = []
    for number in (5, 6, 7):
        for row in tables.load(number, folder).to_dict("records"):
            name = network(row["model"])
            parameters = by_timm.get(QUANTIZED.get(name), math.nan)
            weights, activations = row["weight_bits"], row["activation_bits"]
            rows.append(
                {
                    "table": number,
                    "network": name,
                    "weight_bits": int(weights),
                    "activation_bits": int(activations),
                    "estimated": row["estimated"],
                    "size_printed": row["size_MB"],
                    "by_weights": parameters * weights / 8,
                    "by_mean": parameters * (weights + activations) / 16,
                }
            )
    return pd.DataFrame(rows).drop_duplicates().reset_index(drop=True)


def with_latency(counted: pd.DataFrame, speed: dict) -> pd.DataFrame:
    """Counted models with measured latency: `timm, models, images_per_second, latency_ms, eer,
    eer_latency`, the last with latency as a third metric.

    Latency is the median at batch 1, ms; its reference is ViT-B/16's of the same run.
    """
    timed = speed["models"]
    reference = dict(VIT_B16)
    reference |= quantities(latency=timed[REFERENCE]["latency_ms_p50"])
    rows = []
    for row in counted.to_dict("records"):
        if row["timm"] not in timed:
            continue
        costs = {"parameters": row["parameters_M"], "flops": row["macs_G"]}
        latency = timed[row["timm"]]["latency_ms_p50"]
        rows.append(
            {
                "timm": row["timm"],
                "models": row["models"],
                "images_per_second": timed[row["timm"]]["images_per_second"],
                "latency_ms": latency,
                "eer": eer(quantities(**costs)),
                "eer_latency": eer(quantities(**costs, latency=latency), reference),
            }
        )
    return pd.DataFrame(rows)


# -- timing ---------------------------------------------------------------------------------------


def time(
    names: tuple[str, ...] = (), rounds: int = 3, batch: int = 4, image_size: int = 224
) -> dict:
    """Time the networks in turn in this process and write `speed.json`; ViT-B/16 is always among.

    Every model is in memory at once, some 6 GB for all. Nothing else should run meanwhile; the
    load that was there before is written down, and told where it is high. Raises UserError for a
    name that is not among `BUILDABLE`.
    """
    import torch

    from vitstudy import measure, speed, study

    known = [each.timm for each in BUILDABLE]
    for name in names:
        if name not in known:
            raise unknown("surveyed network", name, known)
    chosen = dict.fromkeys([REFERENCE, *(names or known)])
    load = os.getloadavg()[0]
    if load > 0.5:
        log.warning("the load was %.1f before: these speeds are not to be trusted", load)
    image = torch.zeros(batch, 3, image_size, image_size)
    pairs = {}
    for name in chosen:
        log.info("building %s", name)
        pairs[name] = (build(name, "cpu"), image)
    log.info("timing %d models in turn, %d rounds", len(pairs), rounds)
    turns = speed.interleave(pairs, rounds)
    base = turns[REFERENCE]["images_per_second"]
    found = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": study.commit(),
        "cpu": measure.cpu(),
        "instruction_sets": measure.instruction_sets(),
        "threads": torch.get_num_threads(),
        "load_before": round(load, 2),
        "torch": torch.__version__,
        "batch": batch,
        "image_size": image_size,
        "rounds": rounds,
        "models": {name: _summary(each, base) for name, each in turns.items()},
    }
    files.write_json(speed_path(), found)
    return found


def _summary(turns: dict, base: np.ndarray) -> dict:
    rates, singles = turns["images_per_second"], turns["single_seconds"]
    return {
        "images_per_second": round(float(np.median(rates)), 3),
        "ratio_to_vit_b16": round(float(np.median(rates / base)), 4),
        "latency_ms_p50": round(1_000 * statistics.median(singles), 3),
    }
