"""What a model costs: counted twice, and at the papers' own scale from files."""

import pytest
import torch

from vitstudy import data, formulas, measure, models, profiles
from vitstudy.profiles import Architecture
from vitstudy.quantization import dynamic

DEIT_TINY = Architecture(
    width=192, depth=12, heads=3, mlp_ratio=4, image_size=224, patch_size=16
)  # fmt: skip
PAPER = profiles.get("paper").architecture


def counted(architecture, classes, channels):
    model = models.build(architecture, classes, channels).eval()
    return (
        measure.count_parameters(model),
        measure.count_macs(model, architecture.image_size, channels),
    )


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_formula_and_counter_agree_on_every_profile(name):
    profile = profiles.get(name)
    spec = data.spec(profile.datasets[1])
    given = profile.architecture, spec.num_classes, spec.channels
    assert counted(*given) == (formulas.vit_parameters(*given), formulas.vit_macs(*given))


def test_the_papers_model_has_the_published_parameters_and_macs():
    given = PAPER, 10, 3
    assert formulas.vit_parameters(*given) == 85_806_346
    assert 17.5e9 < formulas.vit_macs(*given) < 17.6e9
    # timm's documentation gives 5.7 M and 1.3 G with 1,000 classes.
    assert formulas.vit_parameters(DEIT_TINY, 1000, 3) == 5_717_416
    assert formulas.vit_macs(DEIT_TINY, 1000, 3) == pytest.approx(1.26e9, rel=0.01)
    assert counted(DEIT_TINY, 10, 3) == (
        formulas.vit_parameters(DEIT_TINY, 10, 3),
        formulas.vit_macs(DEIT_TINY, 10, 3),
    )


def test_attentions_own_products_are_counted():
    architecture = profiles.get("smoke").architecture
    tokens, width = 65, architecture.width
    linear = sum(
        module.weight.numel() * (1 if name == "head" else tokens)
        for name, module in models.build(architecture, 10, 1).named_modules()
        if isinstance(module, torch.nn.Linear)
    )
    stem = formulas.stem(architecture, 1)[1]
    attention = architecture.depth * 2 * tokens * tokens * width
    assert counted(architecture, 10, 1)[1] == linear + stem + attention


def test_a_quantized_model_has_the_parameters_and_macs_of_the_dense_one():
    architecture = profiles.get("smoke").architecture
    dense = models.build(architecture, 10, 1).eval()
    quantized = dynamic.quantize(dense)
    assert measure.count_parameters(quantized) == measure.count_parameters(dense)
    assert measure.count_macs(quantized, 32, 1) == measure.count_macs(dense, 32, 1)


def test_counting_leaves_the_model_in_its_mode_and_without_gradients():
    model = models.build(profiles.get("smoke").architecture, 10, 1).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure.count_macs(model, 32, 1)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_files_of_the_papers_models_have_the_papers_sizes(tmp_path):
    path = tmp_path / "model.safetensors"

    def mebibytes(model, packer="vitstudy.models"):
        models.save(model, path, packer)
        return path.stat().st_size / measure.MIB

    vanilla = models.build(PAPER, 10, 3).eval()
    assert mebibytes(vanilla) == pytest.approx(327, abs=1)
    quantized = dynamic.quantize(vanilla)
    del vanilla
    assert mebibytes(quantized, "vitstudy.quantization.dynamic") == pytest.approx(84, abs=1)
    reloaded = models.load(path)
    image = torch.randn(1, 3, 224, 224)
    assert torch.equal(reloaded(image), quantized(image))
    assert measure.count_parameters(reloaded) == 85_806_346
    assert 17.5e9 < measure.count_macs(reloaded, 224, 3) < 17.6e9
    assert mebibytes(models.build(DEIT_TINY, 10, 3)) == pytest.approx(21, abs=1)
    path.unlink()


def test_the_machine_is_named():
    assert "cores" in measure.cpu()
    assert measure.instruction_sets() == sorted(set(measure.instruction_sets()))


def powercap(folder, **microjoules):
    for position, (name, spent) in enumerate(microjoules.items()):
        place = folder / f"intel-rapl:{position}"
        part = folder / f"intel-rapl:{position}:0"  # lies beside it, as in sysfs
        for each, told in ((place, name), (part, f"{name}_core")):
            each.mkdir(parents=True, exist_ok=True)
            (each / "name").write_text(f"{told}\n")
            (each / "energy_uj").write_text(f"{spent}\n")
            (each / "max_energy_range_uj").write_text("1000000000\n")


def test_energy_is_what_the_processors_counters_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "POWERCAP", tmp_path)
    powercap(tmp_path, package_0=2_000_000, package_1=999_000_000)
    before = measure.energy_counters()
    powercap(tmp_path, package_0=5_500_000, package_1=4_000_000)  # the second one started again
    after = measure.energy_counters()
    assert measure.energy_between(before, after) == {"package_0": 3.5, "package_1": 5.0}


def test_a_machine_without_a_counter_has_no_energy(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "POWERCAP", tmp_path / "absent")
    assert measure.energy_counters() == {}
    assert measure.energy_between({}, {}) is None
    assert measure.energy_between({"package-0": (1.0, 9.0)}, {}) is None


def test_a_counter_that_may_not_be_read_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "POWERCAP", tmp_path)
    powercap(tmp_path, package_0=1, package_1=2)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert set(measure.energy_counters()) == {"package_1"}
