"""Whether an image's logits depend on the images beside it is what each method says of itself."""

import pytest
import torch

from vitstudy import data, methods, models, profiles, study

SMOKE = profiles.get("smoke")
CELLS = [cell for cell in study.cells("smoke") if cell.dataset == "digits"]


@pytest.mark.parametrize("cell", CELLS, ids=lambda each: each.method)
def test_logits_depend_on_the_images_beside_as_the_method_says(smoke_home, monkeypatch, cell):
    monkeypatch.setenv("VITSTUDY_HOME", str(smoke_home))
    given = data.load(cell.dataset, SMOKE.limit)
    images = given.normalise(given.test.images[:12], SMOKE.architecture.image_size)
    model = models.load(cell.artifact_path)
    with torch.inference_mode():
        together = model(images)
        alone = torch.cat([model(image[None]) for image in images])
    difference = (together - alone).abs().max()
    record = study.read(cell)
    if methods.get(cell.method).batch_dependent:
        assert difference > 1e-3
        assert 0 <= record.accuracy_alone <= 1
        assert 0 <= record.flips_alone <= record.test_images
    else:
        assert difference < 1e-4
        assert record.accuracy_alone is None
    assert record.evaluation_batch == profiles.EVALUATION_BATCH
