from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pandas as pd
from commands import invoke, one_line

from vitstudy import files, instructions, measure, portability, study
from vitstudy.study import Cell


def test_a_record_of_the_same_logits_has_no_flips_and_float16s_rounding_for_a_difference():
    logits = np.random.RandomState(0).randn(50, 10).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-p, axis=1)[:, :5]
    kept = {
        "classes": order.astype(np.uint8),
        "probabilities": np.take_along_axis(p, order, 1).astype(np.float16),
    }
    found = portability.against_predictions(logits, kept)
    assert found["flips"] == 0 and float(found["largest_difference"]) < 2.5e-4
    logits[3] = -logits[3]
    found = portability.against_predictions(logits, kept)
    assert found["flips"] == 1 and float(found["largest_difference"]) > 0.01


def test_older_sets_are_held_against_the_newest_and_the_newest_against_the_record(
    home, tmp_path, monkeypatch
):
    cell = Cell("smoke", "digits", "vanilla", 0)
    newest = np.eye(3, dtype=np.float32)
    older = newest.copy()
    older[0] = [1.0, 1.5, 0.0]
    for name, logits in (("default", older), ("avx2", newest)):
        path = portability._logits(cell, name, tmp_path)
        path.parent.mkdir(parents=True)
        np.save(path, logits)
    record = SimpleNamespace(cpu="another CPU (8 cores, AVX512)", gpu=None)
    monkeypatch.setattr(study, "recorded", lambda cell: record)
    content = {"labels": np.zeros(3), "classes": np.array([[0], [1], [0]])}
    cell.predictions_path.parent.mkdir(parents=True)
    np.savez(cell.predictions_path, **content, probabilities=np.full((3, 1), 0.5))
    artifact, kept = portability._rows(cell, ["default", "avx2"], tmp_path)
    assert (artifact["largest_difference"], artifact["flips"], artifact["images"]) == ("1.5", 1, 3)
    assert (artifact["instructions"], artifact["against"]) == ("default", "avx2")
    assert kept["against"] == "another CPU (8 cores, AVX512)" and kept["flips"] == 1
    assert set(artifact) == set(kept) == set(portability.COLUMNS)
    record.cpu = measure.cpu()  # made here: no other machine to compare with
    assert len(portability._rows(cell, ["default", "avx2"], tmp_path)) == 1


def test_the_table_compares_every_artifact_of_the_study(with_cells, monkeypatch):
    compared = ("vanilla", "dynamic", "lsq-w4", "rounded-w4")
    smoke = with_cells(*compared)
    monkeypatch.setattr(measure, "instruction_sets", lambda: ["avx2"])

    def here(code, name, home):
        monkeypatch.setenv("VITSTUDY_HOME", str(home))
        portability.evaluate("smoke", name)
        monkeypatch.setenv("VITSTUDY_HOME", str(smoke))
        return ""

    monkeypatch.setattr(instructions, "call", here)
    # One at a time, since this process has one environment.
    monkeypatch.setattr(portability, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(portability, "METHODS", compared)
    own = Cell("smoke", "digits", "rounded-w4", 0)
    kept = study.read(own).artifact_sha256
    own.artifact_path.unlink()  # made again, since that takes no training
    trained = Cell("smoke", "digits", "lsq-w4", 0)
    trained.artifact_path.unlink()
    done = invoke("portability", "smoke")
    assert done.code == 0, done.err
    assert not own.artifact_path.exists() and study.read(own).artifact_sha256 == kept
    frame = pd.read_csv(portability.path("smoke"))
    assert list(frame) == portability.COLUMNS
    rows = set(zip(frame["dataset"], frame["method"], strict=True))
    everything = {(name, key) for name in ("digits", "digit-pairs") for key in compared}
    assert rows == everything - {("digits", "lsq-w4")}
    assert (frame["largest_difference"] == 0).all() and (frame["flips"] == 0).all()
    assert set(frame["against"]) == {"avx2"}


def test_without_an_artifact_there_is_one_line_that_says_what_to_run(home):
    line = one_line(invoke("portability", "smoke"))
    assert 'python -m vitstudy run "smoke/*/vanilla"' in line
    assert not files.results("smoke").exists()
    assert "unknown profile 'nope'" in one_line(invoke("portability", "nope"))
