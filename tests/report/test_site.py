"""The site: the committed evidence first, this run apart, and what is missing."""

import shutil
import subprocess
import sys

import pytest

from vitstudy import files, graph, job, notebooks, study
from vitstudy.report import readme, site


@pytest.fixture
def built(home, monkeypatch):
    """Build the site of `smoke` without Sphinx: the pages' sources, by name."""
    for name in notebooks.names():
        files.write(graph.executed("smoke", name), "{}")
    monkeypatch.setattr(notebooks, "shown", lambda profile: notebooks.names())

    def build() -> dict[str, str]:
        pages = {}

        def sphinx(command, **_):
            source, output = (files.Path(each) for each in command[-2:])
            for path in source.rglob("*"):
                if path.suffix in (".md", ".ipynb", ".svg"):
                    pages[path.relative_to(source).as_posix()] = path.read_text(encoding="utf-8")
            files.write(output / "index.html", "")
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(subprocess, "run", sphinx)
        assert site.build("smoke").exists()
        return pages

    return build


def test_first_page_is_the_readme_then_the_run_apart_with_its_caveat(built):
    pages = built()
    front = pages["generated/front.md"]
    found, run = front.split("## The digits run on this machine")
    verbs = [line for line in found.splitlines() if line.startswith("- **")]
    assert len(verbs) == 6
    assert all(line in readme.path().read_text(encoding="utf-8") for line in verbs)
    assert "generated/figures/figures/overview.svg" in pages
    assert "/generated/figures/figures/overview.svg)" in found
    assert '<a href="../' in found and "](results/" not in found
    assert "vitstudy.compress(" in found and "## Read on" not in front
    assert "/findings\n/results/cifar-cpu\n/results/cifar\n" in found
    assert "never evidence" in run
    assert "/results/smoke\n/notebooks/00_baselines\n" in run and "\n/run\n" in run
    assert "/guide\n" in run and "/reproducing\n" in run and "/own_model\n" in run
    assert "warning" not in front


def test_page_of_evidence_has_the_committed_tables_with_their_records_claims_and_figures(built):
    page = built()["results/cifar-cpu.md"]
    written = (files.REPOSITORY / "results/cifar-cpu/tables/table1.md").read_text(encoding="utf-8")
    rows = [line for line in written.splitlines() if line.startswith("| ")]
    table1 = page.split("## Table 2")[0]
    assert sum(line.startswith("| ") for line in table1.splitlines()) == len(rows)
    assert "records/cifar10/vanilla/seed0.json" in table1
    assert table1.count("not measured: no GPU") == 2  # once beneath each of its tables
    assert "The papers' claims" in page
    assert page.count("![") == len(list((files.REPOSITORY / "figures/cifar-cpu").glob("*.svg")))


def test_links_lead_from_the_page_to_the_files_as_they_lie(monkeypatch):
    monkeypatch.setattr(files, "REPOSITORY", files.root())
    link = site._linked("[87.39](../records/a.json)", "results/cifar-cpu/tables", "results/x")
    assert link == '<a href="../../results/cifar-cpu/records/a.json">87.39</a>'
    assert site._linked("[x](b.csv)", "", "index") == '<a href="../b.csv">x</a>'
    for kept in ("[y](https://example.org)", "[z](#part)", "![p](figures/p.svg)"):
        assert site._linked(kept, "", "index") == kept


def test_links_between_the_pages_of_docs_stay_within_the_site():
    assert site._linked("[x](docs/findings.md)", "", "index") == "[x](/findings.md)"
    assert site._linked("[x](guide.md)", "docs", "findings") == "[x](/guide.md)"


def test_failed_notebook_is_left_out_and_the_pages_say_what_failed_and_why(built, add):
    cell = study.cells("smoke")[0]
    add("smoke", cell.dataset, cell.method, status="failed", error="loss is `nan`")
    files.write(job.folder("smoke") / "notebook-03_qat", "cell 5: ValueError: b\n")
    graph.executed("smoke", "03_qat").unlink()
    pages = built()
    for page in (pages["generated/front.md"], pages["generated/run.md"]):
        assert "- **notebook 03_qat**: ``cell 5: ValueError: b``" in page
        assert f"- **{cell}**: ``loss is 'nan'``" in page
    assert "notebooks/03_qat.ipynb" not in pages
    assert "/notebooks/03_qat" not in pages["generated/front.md"]


def test_where_no_evidence_is_committed_the_run_is_all_that_is_shown(built, home, monkeypatch):
    monkeypatch.setattr(site, "evidence", list)
    front = built()["generated/front.md"]
    assert "\n/results/cifar" not in front and "\n/results/smoke\n" in front


def code(source, *tags):
    return {"cell_type": "code", "source": [source], "metadata": {"tags": list(tags)}}


def test_cells_that_set_up_or_check_are_folded_and_those_that_teach_are_not():
    cells = [
        code("setting = notebook.begin(profile)"),
        code("# NBVAL_CHECK_OUTPUT\nprint(1)"),
        code("show(1)", "fold"),
        code("codes = round(x / step)"),
        {"cell_type": "markdown", "source": "notebook.begin(", "metadata": {}},
    ]
    shown = site.folded({"cells": cells})["cells"]
    hidden = ["hide-input" in cell["metadata"]["tags"] for cell in shown]
    assert hidden == [True, True, True, False, False]


def test_parameters_are_folded_and_the_default_ones_left_out_where_a_run_gave_others():
    default = code('profile = "digits"', "parameters")
    (alone,) = site.folded({"cells": [default]})["cells"]
    assert alone["metadata"]["tags"] == ["parameters", "hide-input"]
    given = code('profile = "smoke"', "injected-parameters")
    first, second = site.folded({"cells": [code("profile = 0", "parameters"), given]})["cells"]
    assert "remove-cell" in first["metadata"]["tags"]
    assert "hide-input" in second["metadata"]["tags"]


def test_every_module_of_a_paper_has_a_place_on_a_page_of_the_code(built):
    pages = {name: text for name, text in built().items() if name.startswith("api/")}
    assert len(pages) == len(site.FAMILIES) + len(site.MODULES)
    together = "\n".join(pages.values())
    for family in site.FAMILIES:
        for path in (files.SOURCE / family).glob("[!_]*.py"):
            directive = f".. automodule:: vitstudy.{family}.{path.stem}\n"
            assert together.count(directive) == 1


def test_a_page_of_the_code_shows_shapes_and_leads_to_the_source(tmp_path):
    source = tmp_path / "docs"
    shutil.copytree(files.REPOSITORY / "docs" / "_static", source / "_static")
    shutil.copy(files.REPOSITORY / "docs" / "conf.py", source)
    page = site._api_page("attention", ["vitstudy.attention.hydra"])
    files.write(source / "index.md", f"{page}\n```{{toctree}}\nx\n```\n")
    files.write(source / "x.md", "# x\n")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    html = (tmp_path / "s" / "index.html").read_text(encoding="utf-8")
    assert "hydra_attention" in html and "(…, n, D)" in html and "Bolya" in html
    assert "vitstudy/attention/hydra.py" in html
