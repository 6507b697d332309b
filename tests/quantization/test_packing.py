"""Packing: every width, against Python's own big integers, into files and back."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vitstudy import packing
from vitstudy.packing import load, pack, pack_tensors, save, unpack, unpack_tensors

few = settings(max_examples=60, deadline=None)


def test_four_bits_by_hand():
    assert pack(torch.tensor([1, 2, 15, 0, 7]), 4).tolist() == [0x21, 0x0F, 0x07]


def test_three_bits_by_hand():
    # 001 010 111 from the right: 0b1_1101_0001 and no more
    assert pack(torch.tensor([1, 2, 7]), 3).tolist() == [0b11010001, 0b1]


def test_twelve_bits_by_hand():
    assert pack(torch.tensor([0xABC, 0x123]), 12).tolist() == [0xBC, 0x3A, 0x12]


@given(st.integers(1, 16), st.data())
@few
def test_pack_equals_the_big_integer_and_comes_back(bits, data):
    codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    packed = pack(torch.tensor(codes, dtype=torch.int64), bits)
    stream = sum(code << (bits * k) for k, code in enumerate(codes))
    assert bytes(packed.tolist()) == stream.to_bytes(-(-len(codes) * bits // 8), "little")
    assert unpack(packed, bits, (len(codes),)).tolist() == codes


@given(st.lists(st.integers(1, 16), max_size=20), st.integers(1, 9), st.randoms())
@few
def test_widths_a_group_come_back(widths, size, random):
    codes = [[random.randrange(2**b) for _ in range(size)] for b in widths]
    codes, bits = torch.tensor(codes).view(-1, size).long(), torch.tensor(widths).long()
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed, bits, codes.shape).long(), codes)
    assert packed.numel() == sum(-(-size * widths.count(b) * b // 8) for b in set(widths))


@pytest.mark.parametrize("bits", range(1, 17))
def test_chunks_join_without_a_seam(bits, monkeypatch):
    codes = torch.randint(0, 2**bits, (1003,))
    whole = pack(codes, bits)
    monkeypatch.setattr(packing, "CHUNK", 64)
    assert torch.equal(pack(codes, bits), whole)
    assert torch.equal(unpack(whole, bits, (17, 59)).view(-1).long(), codes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_any_integer_type_packs_alike(dtype):
    codes = torch.tensor([3, 0, 7, 5], dtype=dtype)
    assert torch.equal(pack(codes, 3), pack(codes.long(), 3))


def test_signed_and_grouped_tensors_survive_the_file(tmp_path):
    bits = torch.tensor([2, 15, 3, 2])
    tensors = {
        "signed": torch.randint(-8, 8, (5, 7)),
        "grouped": torch.stack([torch.randint(0, 2**b, (8,)) for b in bits.tolist()]),
        "alike": torch.randint(0, 8, (3, 2)),
        "float": torch.randn(3),
        "empty": torch.zeros(0, dtype=torch.int64),
        "scalar": torch.tensor(3),
    }
    widths = {
        "signed": (4, -8),
        "grouped": (bits, 0),
        "alike": (torch.tensor([3, 3, 3]), 0),
        "empty": (5, 0),
        "scalar": (2, 0),
    }
    save(tmp_path / "packed.safetensors", tensors, widths)
    loaded = load(tmp_path / "packed.safetensors")
    assert torch.equal(loaded.pop("grouped.bits").long(), bits)
    assert loaded.pop("alike.bits").tolist() == [3, 3, 3]
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].shape == tensor.shape and (loaded[name] == tensor).all()
    assert load_file(tmp_path / "packed.safetensors")["signed"].numel() == -(-35 // 2)


# Bad input


@pytest.mark.parametrize("bits", [0, 17, -1, 4.0, True])
def test_width_out_of_range_is_refused(bits):
    with pytest.raises(ValueError, match="1 to 16"):
        pack(torch.tensor([0]), bits)


@pytest.mark.parametrize("code", [-1, 16])
def test_code_that_does_not_fit_is_refused(code):
    with pytest.raises(ValueError, match=r"0\.\.15"):
        pack(torch.tensor([0, code]), 4)


def test_groups_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="groups, size"):
        pack(torch.zeros(3, 8, dtype=torch.int32), torch.tensor([2, 3]))
    with pytest.raises(ValueError, match="1 to 16"):
        pack(torch.zeros(2, 8, dtype=torch.int32), torch.tensor([2, 30]))


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: torch.cat([d, d[:1]])])
def test_short_or_long_data_is_refused(change):
    packed = pack(torch.arange(16), 4)
    with pytest.raises(ValueError, match="expected"):
        unpack(change(packed), 4, (16,))
    bits = torch.tensor([4, 5])
    packed = pack(torch.arange(16).view(2, 8), bits)
    with pytest.raises(ValueError, match="expected"):
        unpack(change(packed), bits, (2, 8))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"shape": [4]},
        {"shape": [4], "bits": 4},
        {"shape": [5], "bits": 4, "lowest": 0},
        {"shape": "x", "bits": 4, "lowest": 0},
        {"shape": [4], "bits": 99, "lowest": 0},
        {"shape": [4], "bits": "4", "lowest": 0},
        {"shape": [2, 2], "lowest": 0, "lowest_bits": 2, "bits_of_bits": 2},
        {"shape": [-4], "bits": 4, "lowest": 0},
        None,
    ],
)
def test_header_that_does_not_fit_is_refused_by_name(entry):
    packed, _ = pack_tensors({"w": torch.arange(4)}, {"w": (4, 0)})
    with pytest.raises(ValueError, match=r"^w: "):
        unpack_tensors(packed, {"w": entry})


def test_damaged_file_gives_one_line(tmp_path):
    path = tmp_path / "packed.safetensors"
    save(path, {"w": torch.arange(4)}, {"w": (4, 0)})
    content = path.read_bytes()
    for damaged in (content[:-1], content[:20], b"", b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no whole packed file") as error:
            load(path)
        assert "\n" not in str(error.value)
    for header in (
        {},
        {"format": "other"},
        {"format": packing.FORMAT},
        {"format": packing.FORMAT, "layout": "{"},
        {"format": packing.FORMAT, "layout": json.dumps({"absent": {"shape": [1], "bits": 4}})},
    ):
        save_file({"w": torch.zeros(2, dtype=torch.uint8)}, path, header)
        with pytest.raises(ValueError, match="no whole packed file") as error:
            load(path)
        assert "\n" not in str(error.value)
