"""What timm's networks cost: counted by formula and by the counter, and timed in tiny form."""

import pytest
import torch
from safetensors.torch import save
from torch import nn

from vitstudy import files, formulas
from vitstudy.errors import UserError
from vitstudy.profiles import Architecture
from vitstudy.survey import counted

SHAPES = {
    "vit_base_patch16_224": (768, 12),
    "vit_large_patch16_224": (1024, 24),
    "deit_tiny_patch16_224": (192, 12),
    "deit_small_patch16_224": (384, 12),
}


@pytest.mark.parametrize("name", SHAPES)
def test_committed_counts_are_what_the_formula_gives(counts, name):
    width, depth = SHAPES[name]
    given = Architecture(
        width=width, depth=depth, heads=3, mlp_ratio=4, image_size=224, patch_size=16
    )
    row = counts.set_index("timm").loc[name]
    assert row["parameters_M"] == round(formulas.vit_parameters(given, 1000, 3) / 1e6, 4)
    assert row["macs_G"] == round(formulas.vit_macs(given, 1000, 3) / 1e9, 4)


def test_every_network_is_counted_and_every_count_is_of_one(counts):
    assert list(counts["timm"]) == [each.timm for each in counted.BUILDABLE]
    assert (counts["image_size"] == 224).all()
    assert (counts["parameters_M"] > counts["parameters_without_head_M"]).all()


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "tiny_vit_5m_224"])
def test_a_network_counted_now_is_the_committed_one(counts, name):
    wanted = next(each for each in counted.BUILDABLE if each.timm == name)
    now, then = counted.count(wanted), counts.set_index("timm").loc[name]
    for column in ("parameters_M", "parameters_without_head_M", "macs_G", "file_bytes", "models"):
        assert now[column] == then[column], column


def test_the_reference_is_330_mebibytes_and_346_megabytes(counts):
    row = counts.set_index("timm").loc[counted.REFERENCE]
    assert round(row["size_MiB"]) == 330 and round(row["size_MB"]) == 346


@pytest.mark.parametrize(
    "module",
    [
        nn.Linear(3, 5),
        nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7)),
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(12))),
    ],
)
def test_the_length_of_a_file_is_known_without_writing_it(module):
    tensors = module.state_dict()
    assert counted.file_bytes(tensors) == len(save(tensors))


def test_a_print_that_is_another_network_is_named(counts):
    beside = counted.beside(counts).set_index("model")
    row = beside.loc["XCit-T12/16 (SimA)"]
    assert row["fits"] == "xcit_small_12_p16_224"
    assert row["#Par."] == "-74.2 %"
    assert set(beside["fits"]) == {"", "xcit_small_12_p16_224"}
    assert (
        beside.loc["PVTv2-B2-LiSRA", "#Par."] == beside.loc["PVTv2-B2-LiSRA", "FLOPs"] == "agrees"
    )


def test_a_file_holds_the_weights_bits_and_the_survey_prints_the_mean(counts):
    frame = counted.quantized_sizes(counts)
    mixed = frame[frame["weight_bits"] != frame["activation_bits"]]
    assert len(mixed) == 16
    off = (mixed["size_printed"] / mixed["by_weights"] - 1).abs()
    near = (mixed["size_printed"] / mixed["by_mean"] - 1).abs()
    assert off.min() > 0.2 and near.max() < 0.15


def test_nothing_counted_says_which_command_counts(monkeypatch):
    monkeypatch.setattr(files, "REPOSITORY", files.root())
    assert counted.is_missing()
    with pytest.raises(UserError, match="python -m vitstudy survey --count"):
        counted.read()


def test_a_damaged_count_is_one_line(home):
    files.write(counted.path(), "timm,models\na,b\n")
    with pytest.raises(UserError, match=r"counted\.csv has no column 'relation'"):
        counted.read()


@pytest.fixture
def tiny(monkeypatch):
    """The timing with small networks at 32 × 32 and no time to speak of."""

    class Small(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.layer = nn.Linear(3 * 32 * 32, width)

        def forward(self, images):
            return self.layer(images.flatten(1))

    monkeypatch.setattr(counted, "build", lambda name, device: Small(8 if "tiny" in name else 64))
    monkeypatch.setattr("vitstudy.speed.SECONDS_A_TURN", 0.001)


def test_models_are_timed_in_one_run_with_the_reference(home, tiny, counts):
    found = counted.time(("deit_tiny_patch16_224",), rounds=2, batch=2, image_size=32)
    assert files.read_json(counted.speed_path()) == found == counted.read_speed()
    assert set(found["models"]) == {counted.REFERENCE, "deit_tiny_patch16_224"}
    assert found["models"][counted.REFERENCE]["ratio_to_vit_b16"] == 1
    assert found["threads"] == torch.get_num_threads() and found["rounds"] == 2
    frame = counted.with_latency(counts, found).set_index("timm")
    row = frame.loc[counted.REFERENCE]
    # All three ratios of the reference are its own but for the print's rounding.
    assert row["eer_latency"] == pytest.approx((2 * row["eer"] + 100) / 3)


def test_a_network_that_is_not_surveyed_is_not_timed(home):
    with pytest.raises(UserError, match="unknown surveyed network 'resnet50'; valid: vit_base"):
        counted.time(("resnet50",))
    assert not counted.speed_path().exists()
