import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vitstudy.report import baseline, figures, published, style, tables

RANDOM = np.random.RandomState(0)
LABELS = RANDOM.randint(0, 10, 200)
GUESSES = np.where(RANDOM.rand(200) < 0.8, LABELS, RANDOM.randint(0, 10, 200))
PAIRS = [f"{number:02d}" for number in range(100)]


def labelled(figure: Figure) -> bool:
    """Whether something says what is drawn along both sides of the figure."""
    axes = [each for each in figure.axes if each.axison and each.get_visible()]
    named = {side for each in axes for side in "xy" if getattr(each, f"get_{side}label")()}
    return named == {"x", "y"}


def errors() -> pd.DataFrame:
    rows = [
        (tensor, bits, scheme, granularity, 6.02 * bits - 8)
        for tensor in ("w", "a")
        for bits in (2, 4, 8)
        for scheme in ("symmetric", "asymmetric")
        for granularity in ("per tensor", "per channel")
    ]
    return pd.DataFrame(rows, columns=["tensor", "bits", "scheme", "granularity", "sqnr"])


def drawn(name: str) -> Figure:
    values = RANDOM.randn(500)
    steps = np.linspace(-1, 1, 50)
    return {
        "classes": lambda: figures.per_class([0.9, None] * 5, list("0123456789"), False, "t"),
        "pairs": lambda: figures.per_class([0.9, None] * 50, PAIRS, True, "t"),
        "many": lambda: figures.per_class([0.9, None] * 50, list(map(str, range(100))), False, "t"),
        "confusion": lambda: figures.confusion(LABELS, GUESSES, list("0123456789"), "t"),
        "confused pairs": lambda: figures.confusion(LABELS * 10, GUESSES * 10 + 1, PAIRS, "t"),
        "confused many": lambda: figures.confusion(
            LABELS, GUESSES, list(map(str, range(100))), "t"
        ),
        "reliability": lambda: figures.reliability(RANDOM.rand(200), LABELS == GUESSES, "t"),
        "staircase": lambda: figures.staircase(steps, {"a": steps.round(), "b": steps}, (0, 1), ""),
        "bits": lambda: figures.error_against_bits(errors(), [{"w": "weights"}, {"a": "inputs"}]),
        "clipping": lambda: figures.clipping(values, {"min/max": (-3, 3), "MSE": (-2, 2)}, "t"),
        "levels": lambda: figures.levels(values, {"a": steps[::9], "b": steps[::5]}, "t"),
        "channels": lambda: figures.channel_ranges(-RANDOM.rand(8), RANDOM.rand(8), "t"),
    }[name]()


DATA = ("classes", "pairs", "many", "confusion", "confused pairs", "confused many", "reliability")
QUANTIZATION = ("staircase", "bits", "clipping", "levels", "channels")


@pytest.mark.parametrize("name", [*DATA, *QUANTIZATION])
def test_a_figure_names_what_it_draws(name):
    assert labelled(drawn(name))


def test_images_are_shown_under_their_classes():
    images = RANDOM.randint(0, 255, (30, 3, 8, 8)).astype(np.uint8)
    names = baseline.class_names("cifar10")
    figure = figures.samples(images, np.arange(30) % 10, names)
    assert [axes.get_title() for axes in figure.axes] == names


@pytest.mark.parametrize("measured", [False, True])
def test_tables_are_drawn_with_and_without_measurements(add, home, measured):
    if measured:
        add("digits", "digits", "vanilla")
        add("digits", "digits", "dynamic", accuracy=0.88, size_mib=0.05)
    table, limits = tables.table("digits", 1), tables.intervals("digits", 1)
    figure = figures.accuracy(table, limits, "Digits", "CIFAR-10")
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert rows == list(table["model"])
    filled = [
        line
        for line in figures.tradeoff(tables.ratios("digits", 1)).axes[0].lines
        if line.get_markerfacecolor() != "none" and not np.isnan(line.get_ydata()).any()
    ]
    assert len(filled) == (2 if measured else 0)


def test_the_published_speeds_are_drawn_as_printed():
    figure = figures.published_speeds(published.same_shape())
    shown = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {"0.050", "0.093", "0.096", "0.149"} <= shown


def test_no_two_rows_of_the_papers_look_alike(home):
    looks = figures._looks(tables.table("digits", 1)["method"])
    assert len(set(looks)) == len(looks) == 13


def test_a_figure_drawn_twice_has_the_same_bytes_and_its_text_is_text(home):
    def made(name):
        return style.save(
            figures.reliability(np.array([0.5, 0.9]), np.array([True, False]), "of a title"),
            "digits",
            name,
        )

    first, second = made("first"), made("second")
    assert first == home / "figures/digits/first.png"
    assert first.read_bytes() == second.read_bytes()
    svg = first.with_suffix(".svg").read_bytes()
    assert svg == second.with_suffix(".svg").read_bytes()
    assert b"<dc:date>" not in svg
    assert b"of a title" in svg and b"<text" in svg


def test_the_look_is_the_same_whatever_the_session_has_set(monkeypatch):
    def drawn_now() -> bytes:
        figure = figures.channel_ranges(np.array([-1.0, -2.0]), np.array([1.0, 3.0]), "t")
        return style.render(figure, "svg")

    before = drawn_now()
    monkeypatch.setitem(matplotlib.rcParams, "axes.labelsize", 30)
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    assert drawn_now() == before
