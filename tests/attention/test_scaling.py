"""Attention timed against tokens: what is measured, how often, and that memory is counted."""

import json

import pytest
import torch
from commands import invoke

from vitstudy import measure, methods, profiles, speed
from vitstudy.attention import scaling


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(scaling, "SECONDS_A_TURN", 1e-4)
    monkeypatch.setattr(scaling, "TESTS", {"lengths": (24, 64, 128), "tokens": 128})


def test_the_attentions_agree_where_they_should_and_need_fewer_landmarks_than_tokens():
    q, k, v = torch.randn(3, 1, 2, 40, 8, generator=torch.Generator().manual_seed(0))
    timed = scaling.attentions(40)
    assert list(timed) == ["explicit", "fused", "nystrom-m24", "nystrom-m32", "hydra"]
    torch.testing.assert_close(timed["explicit"](q, k, v), timed["fused"](q, k, v))
    assert not torch.allclose(timed["nystrom-m24"](q, k, v), timed["fused"](q, k, v), atol=1e-3)
    assert list(scaling.attentions(24)) == ["explicit", "fused", "hydra"]


def test_memory_is_the_most_that_was_held_at_once_inputs_left_out():
    x = torch.ones(250_000)

    def call():
        first = x + 1  # 1 MB
        second = first + 1  # 2 MB at once
        del first
        return second + 1  # 2 MB again

    assert scaling.peak_bytes(call) == pytest.approx(2e6, rel=0.01)
    n, heads = 256, 2
    q, k, v = torch.randn(3, 1, heads, n, 16)
    matrix = heads * n * n * 4
    with torch.inference_mode():
        assert scaling.peak_bytes(lambda: scaling.explicit_attention(q, k, v)) >= 2 * matrix
        fused = scaling.peak_bytes(lambda: scaling.attentions(n)["fused"](q, k, v))
    assert fused < matrix / 2


def test_a_profile_is_timed_once_a_machine_and_anew_on_another(home, short, monkeypatch):
    first = scaling.run("smoke")
    assert json.loads(scaling.path("smoke").read_text())["runs"] == first == scaling.read("smoke")
    run = first[0]
    architecture = profiles.get("smoke").architecture
    assert (run["device"], run["cpu"], run["heads"]) == ("cpu", measure.cpu(), architecture.heads)
    assert run["head_dim"] * run["heads"] == architecture.width
    at = {(row["attention"], row["tokens"]): row for row in run["rows"]}
    assert {name for name, _ in at} == {
        "explicit",
        "fused",
        *(f"nystrom-m{m}" for m in scaling.LANDMARKS),
        *(method.key for method in methods.SURVEYED if "attention" in method.options),
    }
    assert ("nystrom-m24", 24) not in at and ("nystrom-m24", 64) in at
    assert [at["explicit", n]["batch"] for n in (24, 64, 128)] == [5, 2, 1]
    for row in run["rows"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["milliseconds"] <= high and row["mib"] > 0
        assert row["times_fused"] == 1 or row["attention"] != "fused"
    before = scaling.path("smoke").stat().st_mtime_ns
    assert scaling.run("smoke") == first
    assert scaling.path("smoke").stat().st_mtime_ns == before
    monkeypatch.setattr(measure, "cpu", lambda: "another one (8 cores, AVX512)")
    second = scaling.run("smoke")
    assert [run["device"] for run in second] == speed.devices()
    assert second[0]["cpu"].startswith("another") and second[0]["fingerprint"] != run["fingerprint"]


def test_an_attention_that_is_new_is_timed_beside_the_fused_kernel_and_no_other_again(
    home, short, monkeypatch
):
    first = scaling.run("smoke")[0]
    codes = scaling._codes()
    monkeypatch.setattr(scaling, "_codes", lambda: {**codes, "hydra": "changed"})
    asked = []
    at = scaling._at
    monkeypatch.setattr(
        scaling, "_at", lambda n, setting, keys: asked.append(keys) or at(n, setting, keys)
    )
    (second,) = scaling.run("smoke")
    assert asked == [["hydra"]] * 3
    assert second["codes"]["hydra"] == "changed" and second["fingerprint"] == first["fingerprint"]
    names = [(row["tokens"], row["attention"]) for row in first["rows"]]
    assert [(row["tokens"], row["attention"]) for row in second["rows"]] == names
    others = [row for row in first["rows"] if row["attention"] != "hydra"]
    assert [row for row in second["rows"] if row["attention"] != "hydra"] == others
    assert scaling.run("smoke") == [second]


def test_the_speed_command_times_attention_too_and_says_nothing_else(home, short):
    done = invoke("speed", "smoke")
    assert done.code == 0
    assert "nothing of smoke is here to be timed" in done.err
    assert "attention of 24 to 128 tokens on cpu" in done.err
    assert scaling.read("smoke")


def test_a_damaged_file_reads_as_nothing_and_is_made_again(home, short):
    assert scaling.read("smoke") == []
    scaling.path("smoke").parent.mkdir(parents=True)
    scaling.path("smoke").write_text('{"runs": [')
    assert scaling.read("smoke") == []
    assert scaling.run("smoke") == scaling.read("smoke") != []
