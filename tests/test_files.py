"""A file is written whole or not at all."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitstudy import files


def test_write_makes_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    files.write(path, "räksmörgås")
    assert path.read_bytes() == "räksmörgås".encode()
    assert os.listdir(path.parent) == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_write_that_fails_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, step, full)
    with pytest.raises(OSError, match="No space"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_write_interrupted_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write(path, b"old")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    for name in ("seed0.json", ".seed0.json.12.partial", ".seed1.json.12.partial", ".seed0.json"):
        (tmp_path / name).touch()
    files.forget_partial(tmp_path / "seed0.json")
    assert sorted(os.listdir(tmp_path)) == [".seed0.json", ".seed1.json.12.partial", "seed0.json"]


def test_write_renames_only_after_the_content_is_on_the_disk(tmp_path, monkeypatch):
    called = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            files.os, name, lambda *a, n=name, o=original: (called.append(n), o(*a))[1]
        )
    files.write(tmp_path / "file", b"x")
    assert called == ["fsync", "replace"]


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
json_values = (
    plain | st.text() | st.lists(plain, max_size=3) | st.dictionaries(st.text("ab"), plain)
)


@given(st.dictionaries(st.text("abcdef"), json_values, max_size=4))
def test_json_comes_back_as_it_was_written(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "value.json"
    files.write_json(path, value)
    assert files.read_json(path) == value


def test_json_is_never_written_with_what_json_does_not_have(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "value.json", {"accuracy": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1, 2]", b"\xff\xfe\x00", b'"text"'])
def test_damaged_json_reads_as_none(tmp_path, content):
    path = tmp_path / "value.json"
    path.write_bytes(content)
    assert files.read_json(path) is None
    assert files.read_json(tmp_path / "absent.json") is None


def test_csv_has_the_columns_in_order_and_none_as_empty(tmp_path):
    path = tmp_path / "table.csv"
    files.write_csv(path, ["b", "a"], [{"a": 1, "b": None}, {"a": "x,y", "b": 2}])
    assert path.read_text() == 'b,a\n,1\n2,"x,y"\n'


def test_sha256_is_that_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert files.sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_everything_lies_below_the_home_that_the_environment_names(home, monkeypatch):
    assert files.results("p") == home / "results" / "p"
    assert files.artifacts("p") == home / "artifacts" / "p"
    assert files.figures("p") == home / "figures" / "p"
    monkeypatch.delenv("VITSTUDY_HOME")
    assert files.root() == files.REPOSITORY == Path(files.__file__).parents[1]


def test_written_json_ends_with_a_newline_and_keeps_letters(tmp_path):
    files.write_json(tmp_path / "value.json", {"name": "Nyströmformer"})
    text = (tmp_path / "value.json").read_text()
    assert text.endswith("}\n")
    assert "Nyströmformer" in text
    assert json.loads(text) == {"name": "Nyströmformer"}
