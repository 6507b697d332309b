"""What notebook 06 computes: crossings, ratios and MACs by hand, and what it says of nothing."""

import math

import pandas as pd
import pytest
from matplotlib.figure import Figure

from vitstudy import files, formulas, methods, profiles
from vitstudy.attention import scaling
from vitstudy.report import nystrom, nystrom_figures
from vitstudy.study import Cell


def timings(**milliseconds):
    rows = [
        {"attention": name.replace("_", "-"), "tokens": tokens, "milliseconds": value, "mib": value}
        for name, values in milliseconds.items()
        for tokens, value in zip((64, 256, 1024), values, strict=True)
        if value is not None
    ]
    return pd.DataFrame(rows)


def test_a_crossing_lies_where_the_straight_lines_of_the_logarithms_meet():
    # 2 against 1 at 64 and 8 against 16 at 256: halfway between them in logarithms, at 128
    frame = timings(nystrom_m24=(2, 8, 8), explicit=(1, 16, 64))
    assert nystrom.crossing(frame, "nystrom-m24", "explicit", "milliseconds") == pytest.approx(128)
    frame = timings(nystrom_m24=(2, 8, 128), explicit=(1, 16, 64))  # slower again at the end
    assert math.isnan(nystrom.crossing(frame, "nystrom-m24", "explicit", "milliseconds"))
    frame = timings(nystrom_m24=(2, 2, 2), explicit=(3, 3, 3))
    assert nystrom.crossing(frame, "nystrom-m24", "explicit", "milliseconds") == 64
    frame = timings(nystrom_m64=(None, 16, 16), explicit=(1, 4, 64))  # none at 64 tokens
    assert nystrom.crossing(frame, "nystrom-m64", "explicit", "milliseconds") == pytest.approx(512)


def test_the_ratio_is_how_many_times_longer_the_other_takes():
    frame = timings(nystrom_m24=(2, 8, 8), explicit=(1, 16, 64))
    assert nystrom.ratio(frame, "nystrom-m24", "explicit", 1024) == 8
    assert nystrom.ratio(frame, "nystrom-m24", "explicit", 64) == 0.5


def test_macs_at_the_papers_shape_by_hand():
    found = nystrom.macs(profiles.get("paper").architecture).set_index("landmarks")
    softmax = 2 * 197**2 * 768
    at_64 = 4 * 197 * 64 * 768 + 2 * 64**2 * 768 + 24 * 12 * 64**3
    assert found.at[64, "attention, M"] == at_64 / 1e6
    assert found.at[64, "over softmax's"] == at_64 / softmax
    assert found.at["softmax", "network"] == 1
    whole = formulas.vit_macs(profiles.get("paper").architecture, 10, 3)
    assert found.at[64, "network"] == whole / (whole + 12 * (at_64 - softmax))
    speeds = nystrom.published_speeds().set_index("landmarks")
    assert speeds.at[24, "published, Table 1"] == 4.67 / 4.48
    assert speeds.at[64, "published, Table 2"] == 4.46 / 4.34


def test_segments_are_counted_of_the_landmarks_themselves():
    assert nystrom.segments(7, 3) == [2, 2, 3]
    assert nystrom.segments(7, 3, own=1) == [1, 3, 3]


def test_a_profile_without_rows_says_what_makes_them_and_draws_what_there_is(home):
    assert "python -m vitstudy run 'smoke/*/nystrom-*'" in nystrom.missing("smoke")
    assert "python -m vitstudy speed smoke" in nystrom.missing("smoke")
    assert nystrom.analyses("smoke") == {}
    for frame in (
        nystrom.ranks({}),
        nystrom.errors({}),
        nystrom.accuracies("smoke"),
        nystrom.layer_errors("smoke"),
        nystrom.timings("smoke"),
        nystrom.crossings(nystrom.timings("smoke")),
    ):
        assert frame.empty
    (line,) = nystrom.conclusions("smoke")
    assert "By MACs alone" in line and "1.028, 1.020 and 0.960" in line


def test_accuracies_are_changes_against_vanilla_beside_the_published_ones(add):
    add("smoke", "digits", "vanilla", accuracy=0.9)
    row = methods.get("nystrom-m24")
    for dataset in ("digits", "digit-pairs"):
        add("smoke", dataset, row.key, accuracy=0.875, macs=1_500_000, options=row.options)
    found = nystrom.accuracies("smoke").set_index("key")
    assert list(found.index) == ["vanilla", "nystrom-m24"]
    here = found.loc["nystrom-m24"]
    assert here["change"] == pytest.approx(-2.5)
    assert here["published change"] == pytest.approx(65.91 - 98.94)
    assert here["MACs, share of vanilla's"] == 1.5
    assert here["landmarks"] == 24 and bool(here["trained"])
    assert "nystrom-m32" in nystrom.missing("smoke")
    assert "nystrom-m24," not in nystrom.missing("smoke")


def test_the_whole_study_gives_every_figure_and_sentence(smoke_home, monkeypatch):
    monkeypatch.setenv("VITSTUDY_HOME", str(smoke_home))
    found = nystrom.analyses("smoke")
    assert list(found) == ["Digits", "Digit pairs"]
    first = found["Digits"]
    errors = nystrom.errors(found)
    accuracies = nystrom.accuracies("smoke")
    rows = scaling.LANDMARKS
    frame = timings(explicit=(1, 16, 64), fused=(1, 8, 32), nystrom_m24=(2, 4, 8))
    drawn = [
        nystrom_figures.spectra(found),
        nystrom_figures.matrices(nystrom.matrices(first, 24), 24),
        nystrom_figures.errors(errors, [1, 2]),
        nystrom_figures.residuals(found, 6),
        nystrom_figures.accuracy(accuracies),
        nystrom_figures.scaling(frame, [65]),
    ]
    assert all(isinstance(figure, Figure) for figure in drawn)
    spectra, matrices, errors_, *_ = drawn
    assert [axes.get_title() for axes in spectra.axes] == ["Digits", "Digit pairs"]
    titles = [axes.get_title() for axes in matrices.axes]
    assert "24 landmarks" in titles and sum("difference" in title for title in titles) == 2
    assert len(errors_.axes) == 4 and all(len(axes.lines) == 4 for axes in errors_.axes)
    # the layer that is shown is approximated as the analysis says: one head of many
    (layer, *_) = nystrom.matrices(first, len(first["shown_q"][0]))
    assert layer["error"] < 1e-6
    assert set(accuracies["key"]) >= {"vanilla", "continued", *(f"nystrom-m{m}" for m in rows)}
    told = "\n".join(nystrom.conclusions("smoke"))
    for words in ("Low rank: ", "m = 24: error ", "Digits, points against vanilla: m = 24: "):
        assert words in told
    tuned = nystrom.convergence(found, 6)
    assert (tuned["at the start"] >= tuned["after 6"]).all()
    path = Cell("smoke", "digits", "nystrom-m24", 0).analysis_path
    assert path.is_file() and files.results("smoke") in path.parents
