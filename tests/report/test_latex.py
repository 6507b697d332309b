import re

import pandas as pd

from vitstudy.report import latex, tables


def table(notes=("", "b; c", "c")):
    columns = [
        ("", "Model", pd.Series(["a_1", "50 % & more", "x"])),
        ("Accuracy, %", "published", pd.Series(["98.94", "", "-"])),
        ("Accuracy, %", "measured", pd.Series(["97.1 ± 0.2", "", "-1.67*"])),
    ]
    return latex.table(columns, pd.Series(notes), "Caption", "tab:x")


def test_special_characters_are_escaped():
    assert latex.escape("50 % & a_b #1 ± {x} <") == r"50 \% \& a\_b \#1 $\pm$ \{x\} $<$"
    assert latex.escape("\\") == r"\textbackslash{}"


def test_every_line_has_as_many_cells_as_the_table_has_columns():
    text = table()
    (columns,) = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 5  # groups, names, three rows
    for line in body:
        cells = len(re.findall(r"(?<!\\)&", line)) + 1
        cells += sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert cells == len(columns) == 4
    assert r"\multicolumn{2}{c}{Accuracy, \%}" in text and r"\cmidrule(lr){2-3}" in text


def test_a_note_is_written_once_and_named_by_its_letter():
    text = table()
    assert text.count(r"\textsuperscript{a}~b.") == text.count(r"\textsuperscript{b}~c.") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")][2:]
    assert [row.rpartition("&")[2].strip(" \\") for row in rows] == ["", "a, b", "b"]


def test_minus_signs_are_set_as_such_and_dashes_are_not():
    assert r"$-$1.67*" in table()
    assert re.search(r"& - &", table())


def test_letters_go_on_after_z():
    notes = pd.Series(["; ".join(f"note {number}" for number in range(28))])
    text = latex.table([("", "Model", pd.Series(["x"]))], notes, "c", "l")
    assert r"\textsuperscript{z}~note 25." in text and r"\textsuperscript{ab}~note 27." in text


def test_braces_and_environments_of_a_whole_table_are_closed(add, home):
    add("digits", "digits", "vanilla", accuracy=0.9875)
    tables.write("digits")
    text = (home / "results/digits/tables/table1.tex").read_text()
    plain = text.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")
    for name in ("table*", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 2
    assert "98.94 & 98.75" in text
    assert r"Nyströmformer(m=64)" in text
