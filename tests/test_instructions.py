import pytest

from vitstudy import files, instructions, measure
from vitstudy.errors import UserError


def test_the_sets_are_those_whose_flags_the_processor_has(monkeypatch):
    for flags, names in (
        ([], ["default"]),
        (["avx2"], ["default", "avx2"]),
        (["avx2", "avx512f", "avx512_vnni"], ["default", "avx2", "avx512"]),
    ):
        monkeypatch.setattr(measure, "instruction_sets", lambda flags=flags: flags)
        assert instructions.available() == names
    monkeypatch.setattr(measure, "instruction_sets", lambda: ["avx2"])
    assert instructions.chosen(["avx512", "avx2"]) == (["avx2"], ["avx512"])
    with pytest.raises(UserError, match="this processor has none of avx512"):
        instructions.chosen(["avx512"])


def test_every_set_sets_the_same_variables():
    assert len({tuple(variables) for variables in instructions.SETS.values()}) == 1
    assert list(instructions.SETS) == list(instructions.NEEDS)


def test_a_child_computes_with_the_set_that_it_is_held_to_in_a_home_of_its_own(home, tmp_path):
    code = (
        "import torch; from vitstudy import files; "
        "files.write(files.root() / 'held', torch.backends.cpu.get_cpu_capability())"
    )
    assert instructions.call(code, "default", tmp_path) == ""
    assert (tmp_path / "held").read_text(encoding="utf-8") == "DEFAULT"


def test_a_child_that_fails_says_why(tmp_path):
    assert instructions.call("raise ValueError('too hot')", "default", tmp_path) == (
        "ValueError: too hot"
    )


def test_decoded_data_are_shared_and_outlive_the_home(home, tmp_path):
    files.write(files.artifacts("data") / "digits" / "meta.json", "{}")
    instructions.share_data(tmp_path)
    instructions.share_data(tmp_path)
    assert (tmp_path / "artifacts/data/digits/meta.json").exists()


def test_the_processor_is_named_without_what_torch_uses_of_it(monkeypatch):
    monkeypatch.setattr(measure, "cpu", lambda: "Xeon(R) (Gold) (2 cores, AVX512)")
    assert instructions.processor() == "Xeon(R) (Gold)"
