"""Data sets: fixed splits, one hash, a cache that heals, and one line for each thing wrong."""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import command, invoke, one_line
from PIL import Image
from processes import load_data, running, said

from vitstudy import cifar, data, files, splits
from vitstudy.errors import UserError

# -- the digits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "sizes", "channels"),
    [("digits", (1_149, 128, 160, 360), 1), ("digit-pairs", (8_000, 200, 400, 2_000), 1)],
)
def test_digits_have_fixed_splits_of_bytes(in_smoke, name, sizes, channels):
    found = data.load(name)
    for split, size in zip(data.SPLITS, sizes, strict=True):
        part = getattr(found, split)
        assert part.images.shape == (size, channels, 32, 32)
        assert part.images.dtype == torch.uint8 and part.labels.dtype == torch.int64
        assert len(part) == len(part.labels) == len(part.sources) == size
        assert part.labels.min() == 0 and part.labels.max() == found.spec.num_classes - 1


def test_a_data_set_made_twice_from_nothing_has_the_same_hash(smoke_home, home):
    for name in ("digits", "digit-pairs"):
        known = json.loads((smoke_home / "artifacts" / "data" / name / "meta.json").read_text())
        assert data.dataset_hash(name) == data.load(name).hash == known["hash"]


def test_no_digit_is_a_source_of_two_splits_in_either_set(in_smoke):
    digits, pairs = data.load("digits"), data.load("digit-pairs")
    for split in data.SPLITS:
        own = set(getattr(digits, split).sources.flatten().tolist())
        shown = set(getattr(pairs, split).sources.flatten().tolist())
        assert shown <= own
        for other in data.SPLITS:
            if other != split:
                assert not own & set(getattr(digits, other).sources.flatten().tolist())


def test_pairs_are_equally_many_of_each_class_and_none_is_there_twice(in_smoke):
    pairs = data.load("digit-pairs")
    for split, size in zip(data.SPLITS, pairs.spec.sizes, strict=True):
        part = getattr(pairs, split)
        assert part.labels.bincount(minlength=100).tolist() == [size // 100] * 100
        assert len(np.unique(part.sources, axis=0)) == size


def test_a_pair_shows_the_digits_that_its_sources_and_its_label_name(in_smoke):
    digits, pairs = data.load("digits"), data.load("digit-pairs")
    labels, images = {}, {}
    for split in data.SPLITS:
        part = getattr(digits, split)
        for source, label, image in zip(part.sources[:, 0], part.labels, part.images, strict=True):
            labels[int(source)], images[int(source)] = int(label), image
    for split in data.SPLITS:
        part = getattr(pairs, split)
        left, right = (np.array([labels[s] for s in part.sources[:, side]]) for side in (0, 1))
        assert np.array_equal(part.labels.numpy(), 10 * left + right)
    for index in (0, 1, 999, 1_999):
        shown = pairs.test.images[index].float()
        for half, source in zip(shown.chunk(2, dim=2), pairs.test.sources[index], strict=True):
            whole = images[int(source)].float()
            whole = torch.nn.functional.interpolate(whole[None], (32, 16), mode="area")[0]
            assert (half - whole).abs().mean() < 10


def test_limit_takes_the_first_images_and_has_a_hash_of_its_own(in_smoke):
    whole, few = data.load("digits"), data.load("digits", (5, 4, 3, 2))
    assert [len(getattr(few, split)) for split in data.SPLITS] == [5, 4, 3, 2]
    assert torch.equal(few.test.images, whole.test.images[:2])
    assert len({whole.hash, few.hash, data.load("digits", (5, 4, 3, 1)).hash}) == 3


def test_normalised_training_images_have_mean_0_and_deviation_1(in_smoke):
    for name in ("digits", "digit-pairs"):
        found = data.load(name)
        images = found.normalise(found.train.images)
        assert images.dtype == torch.float32 and images.shape[1:] == (1, 32, 32)
        assert images.mean() == pytest.approx(0, abs=0.03)
        assert images.std() == pytest.approx(1, abs=0.03)


def test_normalise_by_hand_and_at_another_size():
    found = data.Dataset(data.spec("cifar10"), "", *[None] * 4)
    images = torch.full((2, 3, 32, 32), 255, dtype=torch.uint8)
    expected = torch.tensor(
        [(1 - m) / s for m, s in zip(found.spec.mean, found.spec.std, strict=True)]
    )
    assert torch.allclose(found.normalise(images)[0, :, 5, 7], expected, atol=1e-5)
    larger = found.normalise(images, 64)
    assert larger.shape == (2, 3, 64, 64)
    assert torch.allclose(larger[1, :, 40, 3], expected, atol=1e-4)


def test_an_unknown_data_set_is_refused_and_the_valid_ones_are_named():
    with pytest.raises(UserError, match="'cifar'; valid: digits, digit-pairs, cifar10, cifar100"):
        data.load("cifar")


# -- the cache ------------------------------------------------------------------------------------


def test_images_are_memory_mapped_and_writing_to_them_leaves_the_file(in_smoke):
    arrays, digest = data._cached(data.spec("digits"))
    assert all(isinstance(array, np.memmap) for array in arrays.values())
    data.load("digits").train.images.fill_(0)
    assert data._cached(data.spec("digits"))[1] == digest
    assert data.load("digits").train.images.any()


@pytest.mark.parametrize("how", ["truncated", "altered", "absent", "unreadable meta"])
def test_a_damaged_cache_is_made_again(with_data, how):
    folder = with_data / "artifacts" / "data" / "digits"
    known = {file.name: file.read_bytes() for file in folder.iterdir()}
    digest = data.load("digits").hash
    file = folder / "test.images.npy"
    if how == "truncated":
        file.write_bytes(known[file.name][:1_000])
    elif how == "altered":
        file.write_bytes(known[file.name][:-1] + b"\x07")
    elif how == "absent":
        file.unlink()
    else:
        (folder / "meta.json").write_text("{")
    assert data.load("digits").hash == digest
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == known
    assert sorted(os.listdir(folder.parent)) == ["digit-pairs", "digits"]


def test_two_processes_that_make_the_cache_at_once_both_end_well(home, smoke_home):
    with running(home, load_data, "digits") as one, running(home, load_data, "digits") as two:
        one.join()
        two.join()
    known = json.loads((smoke_home / "artifacts/data/digits/meta.json").read_text())["hash"]
    assert (one.exitcode, two.exitcode) == (0, 0), said(home)
    assert said(home).split() == [known, "360"] * 2
    assert os.listdir(home / "artifacts" / "data") == ["digits"]


def test_a_disk_that_is_full_while_decoding_gives_one_line_and_leaves_nothing(home, monkeypatch):
    def full(path, mode="r"):
        return open("/dev/full", mode)

    monkeypatch.setattr(data, "open", full, raising=False)
    assert "no space left on the disk" in one_line(invoke("run", "smoke/digits/vanilla"))
    assert os.listdir(home / "artifacts" / "data") == []
    assert not (home / "results").exists()


# -- CIFAR's files --------------------------------------------------------------------------------

TRAIN, TEST = 34, 10


def encode(image: np.ndarray, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, form, lossless=True)
    return content.getvalue()


def write_parquet(path, encoded: list, labels, column: str = "label", image_type=None) -> None:
    image_type = image_type or pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": each, "path": None} for each in encoded], image_type)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"img": images, column: pa.array(labels)}), path)


def some_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    return draws.integers(0, 256, (count, 32, 32, 3), np.uint8), draws.integers(0, 10, count)


@pytest.fixture
def tiny(monkeypatch, home):
    """CIFAR-10's specification with a few images, and the folder its files belong into."""
    small = dataclasses.replace(data.SPECS["cifar10"], sizes=(20, 8, 6, 10), content="")
    monkeypatch.setitem(data.SPECS, "cifar10", small)
    monkeypatch.setenv("VITSTUDY_DATA", str(home / "here"))
    folder = home / "here" / "cifar10"
    lay(folder)
    return folder


def lay(folder, order_seed: int | None = None, form: str = "PNG", parts: int = 2) -> None:
    """Write the tiny set into `folder`: rows in an order, in so many training files."""
    shutil.rmtree(folder, ignore_errors=True)
    for group, count, seed in (("train", TRAIN, 1), ("test", TEST, 2)):
        images, labels = some_images(count, seed)
        order = np.arange(count)
        if order_seed is not None:
            np.random.default_rng(order_seed).shuffle(order)
        files_of = np.array_split(order, parts if group == "train" else 1)
        for number, rows in enumerate(files_of):
            write_parquet(
                folder / f"{group}-{number:05}-of-{len(files_of):05}.parquet",
                [encode(images[row], form) for row in rows],
                labels[rows].tolist(),
            )


def test_parquet_gives_the_images_of_each_group_with_their_labels(tiny):
    found = data.load("cifar10")
    images, labels = some_images(TEST, 2)
    known = {
        image.transpose(2, 0, 1).tobytes(): label
        for image, label in zip(images, labels, strict=True)
    }
    assert len(found.test) == TEST
    for image, label in zip(found.test.images, found.test.labels, strict=True):
        assert known[image.numpy().tobytes()] == label
    training = torch.cat([getattr(found, split).images for split in data.SPLITS[:3]])
    assert len({image.numpy().tobytes() for image in training}) == TRAIN
    assert len({int(s) for split in data.SPLITS for s in getattr(found, split).sources[:, 0]}) == 44


@pytest.mark.parametrize(
    "other", [{"order_seed": 5}, {"form": "WEBP"}, {"parts": 1}, {"order_seed": 6, "parts": 4}]
)
def test_splits_and_hash_do_not_depend_on_the_order_format_or_number_of_files(tiny, other):
    first = data.load("cifar10")
    images = {split: getattr(first, split).images.clone() for split in data.SPLITS}
    lay(tiny, **other)
    second = data.load("cifar10")
    assert second.hash == first.hash
    for split in data.SPLITS:
        assert torch.equal(getattr(second, split).images, images[split])


@pytest.mark.parametrize(
    "place",
    [
        "plain_text/{group}-{number:05}-of-00002.parquet",
        "cifar10/{group}-{number:05}-of-00002.parquet",
        "{group}/{number:04}.parquet",
        "plain_text/{group}/{number:04}.parquet",
    ],
)
@pytest.mark.parametrize("column", ["img", "image"])
def test_the_layouts_in_which_the_hub_serves_or_converts_the_set_are_read(tiny, place, column):
    known = data.dataset_hash("cifar10")
    for file in sorted(tiny.glob("*.parquet")):
        group, number, *_ = file.name.split("-")
        moved = tiny / place.format(group=group, number=int(number))
        moved.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(file)
        pq.write_table(table.rename_columns([column, "label"]), moved)
        file.unlink()
    assert data.dataset_hash("cifar10") == known


def test_the_cache_follows_a_source_that_changes(tiny):
    before = data.dataset_hash("cifar10")
    images, labels = some_images(TEST, 3)
    write_parquet(
        tiny / "test-00000-of-00001.parquet", [encode(each) for each in images], labels.tolist()
    )
    assert data.dataset_hash("cifar10") != before
    lay(tiny)
    assert data.dataset_hash("cifar10") == before


def test_a_relative_folder_counts_from_the_root_wherever_the_caller_is(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("VITSTUDY_DATA", "here")
    monkeypatch.chdir(tmp_path)
    assert len(data.load("cifar10").test) == TEST


def test_torchvisions_files_give_the_same_set_as_parquet(tiny, monkeypatch):
    expected = data.dataset_hash("cifar10")
    shutil.rmtree(tiny)

    class Torchvision:
        def __init__(self, root, train, download):
            self.data, labels = some_images(*((TRAIN, 1) if train else (TEST, 2)))
            self.targets = labels.tolist()

    monkeypatch.setattr(cifar, "_torchvision_class", lambda spec: Torchvision)
    assert data.load("cifar10").hash == expected


# What can be wrong with them. Each leaves nothing in the cache.


def refused(home) -> str:
    line = one_line(invoke("run", "cifar-cpu/cifar10/vanilla"))
    assert not (home / "artifacts" / "data" / "cifar10").exists()
    assert not (home / "results").exists()
    return line


def test_a_folder_that_does_not_exist_is_named(home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_DATA", "no/such/folder")
    line = refused(home)
    assert "VITSTUDY_DATA=no/such/folder is no folder" in line
    assert str(home / "no/such/folder") in line
    assert "cifar10/*.parquet" in line


def bad_file(tiny, images=None, labels=None, **options):
    """A training file with something else than it should have; two good rows first."""
    good, known = some_images(TRAIN, 1)
    encoded = [encode(good[0]), encode(good[1]), *([] if images is None else images)]
    labels = known[:2].tolist() + ([0] * (len(encoded) - 2) if labels is None else labels)
    write_parquet(tiny / "train-00000-of-00002.parquet", encoded, labels, **options)


def test_a_missing_label_column_is_named_with_those_that_are_there(tiny, home):
    bad_file(tiny, column="fine_label")
    line = refused(home)
    assert "train-00000-of-00002.parquet lacks the column 'label'; it has img, fine_label" in line


def test_a_missing_image_column_is_named(tiny, home):
    pq.write_table(pa.table({"label": [1, 2]}), tiny / "train-00000-of-00002.parquet")
    assert "lacks the column 'img'; it has label" in refused(home)


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.99])
def test_a_truncated_file_is_named(tiny, home, keep):
    file = tiny / "train-00001-of-00002.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    line = refused(home)
    assert str(file) in line and "truncated or altered" in line and "fetch it again" in line


def test_an_altered_file_is_found_by_the_checksums_beside_it(tiny, home):
    sums = [f"{files.sha256(file)}  {file.name}" for file in sorted(tiny.glob("*.parquet"))]
    (tiny / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    good = data.dataset_hash("cifar10")
    shutil.rmtree(home / "artifacts" / "data")
    bad_file(tiny)
    line = refused(home)
    assert "train-00000-of-00002.parquet is truncated or altered" in line
    assert "SHA256SUMS" in line
    (tiny / "train-00000-of-00002.parquet").unlink()
    assert "is missing, though SHA256SUMS beside it lists it" in refused(home)
    lay(tiny)
    assert data.dataset_hash("cifar10") == good


def test_an_altered_image_is_found_by_the_published_sets_content(tiny, home, monkeypatch):
    content = hashlib.sha256()
    for count, seed in ((TRAIN, 1), (TEST, 2)):
        images, labels = some_images(count, seed)
        for part in splits.canonical_order(images.transpose(0, 3, 1, 2), labels.astype(np.int64)):
            content.update(part)
    known = dataclasses.replace(data.SPECS["cifar10"], content=content.hexdigest())
    monkeypatch.setitem(data.SPECS, "cifar10", known)
    data.dataset_hash("cifar10")
    shutil.rmtree(home / "artifacts" / "data")
    images, labels = some_images(TEST, 2)
    images[4, 5, 6, 0] ^= 1
    write_parquet(
        tiny / "test-00000-of-00001.parquet", [encode(each) for each in images], labels.tolist()
    )
    assert "are not those of the published set: a file was altered" in refused(home)


@pytest.mark.parametrize("label", [10, -1, 2**40])
def test_a_label_out_of_range_is_found_and_the_range_is_told(tiny, home, label):
    bad_file(tiny, [encode(some_images(1, 9)[0][0])], [label])
    line = refused(home)
    assert "labels out of range in 'label'" in line and "0 to 9" in line


def test_labels_that_are_no_whole_numbers_are_refused(tiny, home):
    good, _ = some_images(2, 1)
    encoded = [encode(each) for each in good]
    for labels in ([1, None], [1.5, 2.0]):
        write_parquet(tiny / "train-00000-of-00002.parquet", encoded, labels)
        assert "labels out of range" in refused(home)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((28, 28, 3), np.uint8), "28x28 RGB"),
        (np.zeros((32, 33, 3), np.uint8), "33x32 RGB"),
        (np.zeros((32, 32), np.uint8), "32x32 L"),
        (np.zeros((32, 32, 4), np.uint8), "32x32 RGBA"),
    ],
)
def test_an_image_of_another_size_or_not_rgb_is_found_with_its_row(tiny, home, image, told):
    bad_file(tiny, [encode(image)])
    line = refused(home)
    assert f"row 2: an image of {told}, where 32x32 RGB is expected" in line


@pytest.mark.parametrize(
    "content", [b"", b"no image", None, encode(np.zeros((32, 32, 3), "u1"))[:60]]
)
def test_an_image_that_cannot_be_decoded_is_found_with_its_row(tiny, home, content):
    bad_file(tiny, [content])
    assert "row 2: the image cannot be decoded" in refused(home)


def test_images_that_are_no_encoded_bytes_are_refused(tiny, home):
    table = pa.table({"img": pa.array([b"x", b"y"]), "label": [1, 2]})
    pq.write_table(table, tiny / "train-00000-of-00002.parquet")
    assert "train-00000-of-00002.parquet cannot be read" in refused(home)


def test_a_wrong_number_of_images_is_told(tiny, home):
    (tiny / "train-00001-of-00002.parquet").unlink()
    line = refused(home)
    assert "17 training images where 34 are expected" in line and str(tiny) in line
    (tiny / "test-00000-of-00001.parquet").unlink()
    assert "holds no test-*.parquet and no test/*.parquet file" in refused(home)


def test_torchvisions_files_that_are_incomplete_are_refused(tiny, home):
    shutil.rmtree(tiny)
    batches = home / "here" / "cifar-10-batches-py"
    batches.mkdir()
    (batches / "data_batch_1").write_bytes(b"half a fi")
    line = refused(home)
    assert "incomplete or altered" in line and "remove them and run again" in line


def test_no_data_and_no_network_names_the_three_ways_and_the_profile_that_needs_none(
    home, monkeypatch
):
    import torchvision.datasets.utils as downloads

    def offline(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(downloads.urllib.request, "urlopen", offline)
    line = refused(home)
    for part in (
        "no cifar10 here",
        "no network",
        "$VITSTUDY_DATA/cifar10/",
        "torchvision's files into $VITSTUDY_DATA",
        "run with a network",
        "the profile 'digits' needs no data",
    ):
        assert part in line


def test_bad_data_ends_the_real_command_with_one_line(home):
    done = command(
        home, "run", "cifar-cpu/cifar10/vanilla", env={"VITSTUDY_DATA": "nowhere"}, cwd="/"
    )
    assert "VITSTUDY_DATA=nowhere is no folder" in one_line(done)
    assert not re.search("Traceback|Warning", done.err)


def test_asking_for_a_cached_hash_does_not_load_torch(in_smoke):
    code = (
        "import sys; from vitstudy import data; data.dataset_hash('digits');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_killed_process_left_beside_the_cache_is_no_hindrance(with_data):
    """As a kill leaves it between the second rename and the cleaning up."""
    folder = with_data / "artifacts" / "data" / "digits"
    shutil.copytree(folder, folder.with_name(".digits.old"))
    (folder / "meta.json").write_text("{}")  # as after an update of digits.py
    assert len(data.load("digits").test) == 360
    assert data._cache_meta(data.spec("digits"))


def test_labels_that_are_text_are_refused(tiny, home):
    good, _ = some_images(2, 1)
    write_parquet(tiny / "train-00000-of-00002.parquet", [encode(i) for i in good], ["cat", "dog"])
    assert "labels out of range" in refused(home)


def test_blank_lines_in_the_checksums_are_nothing(tiny):
    sums = [f"{files.sha256(file)}  {file.name}" for file in sorted(tiny.glob("*.parquet"))]
    (tiny / "SHA256SUMS").write_text("\n".join([*sums, "", ""]))
    assert len(data.load("cifar10").test) == TEST
