"""Numbers as text: formats, empty cells, headings and Markdown."""

import math

import pandas as pd

from vitstudy.report import readable


def test_values_are_written_by_a_format_or_a_function_and_absent_ones_are_empty():
    assert readable.written([1.234, math.nan, None], "{:.1f}") == ["1.2", "", ""]
    assert readable.written([1.0, None], lambda value: f"<{value}>", "-") == ["<1.0>", "-"]


def test_columns_stand_under_their_headings_in_order():
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, math.nan]}, index=[7, 3])
    shown = readable.table(frame, {"B, %": ("b", "{:+.2f}"), "A": "a"})
    assert list(shown) == ["B, %", "A"]
    assert shown["B, %"].tolist() == ["+0.50", ""] and shown["A"].tolist() == [1, 2]
    assert len(readable.table(frame[:0], {"A": "a", "B": ("b", "{}")})) == 0


def test_a_markdown_table_sets_words_left_and_keeps_its_cells():
    lines = readable.markdown(["Model", "KL(a | b)"], [("x|y", 2)], words=("Model",))
    assert lines == ["| Model | KL(a \\| b) |", "| --- | ---: |", "| x\\|y | 2 |"]


def test_an_interval_has_its_signs():
    assert readable.interval(-1.5, -2.25, 0.125) == "-1.50 (-2.25 to +0.12)"


def test_a_note_of_several_rows_is_a_letter_whose_meaning_is_told_once():
    shown, letters = readable.lettered(["x; y", "y", "", "z"], least=2)
    assert shown == ["a; x", "a", "", "z"] and letters == {"a": "y"}
    shown, letters = readable.lettered(["x; y", "y"])
    assert shown == ["a, b", "b"] and letters == {"a": "x", "b": "y"}


def test_notes_stand_beneath_a_short_table_and_in_a_long_one_only_those_that_rows_share():
    short = pd.DataFrame({"Model": ["m"], "Note": ["x; y"]})
    frame, notes = readable.notes_below(short)
    assert frame["Note"].tolist() == ["a, b"] and notes == "Notes: a: x; b: y."
    assert short["Note"].tolist() == ["x; y"]
    rows = readable.SHORT + 1
    frame, notes = readable.notes_below(pd.DataFrame({"Note": ["own", *["shared"] * (rows - 1)]}))
    assert frame["Note"].tolist() == ["own", *["a"] * (rows - 1)] and notes == "Notes: a: shared."
    frame, notes = readable.notes_below(pd.DataFrame({"A": [1]}))
    assert list(frame) == ["A"] and notes == ""
