"""The site: the committed evidence first, this run apart, and what is missing."""

import subprocess

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


def test_first_page_shows_the_evidence_then_the_run_apart_with_its_caveat(built):
    pages = built()
    front = pages["generated/front.md"]
    found, run = front.split("## The digits run on this machine")
    assert "(`cifar-cpu`) has" in found and "(`cifar`) has" in found
    assert "generated/figures/figures/overview.svg" in pages
    assert '<table class="dataframe marked">' in found
    assert found.count("<tr>") == 14
    assert "/results/cifar-cpu\n/results/cifar\n" in found
    assert "never evidence" in run
    assert "/results/smoke\n/notebooks/00_baselines\n" in run and "\n/run\n" in run
    assert "warning" not in front


def test_every_row_by_row_line_of_the_readme_is_on_the_first_page(built):
    front = built()["generated/front.md"]
    lines = [each for each in readme.made_part(readme.path().read_text()).splitlines()]
    names = [line.split("**")[1] for line in lines if line.startswith("- **")]
    assert len(names) > 5
    assert all(f"- **{name}**" in front for name in names)


def test_page_of_evidence_has_the_committed_tables_with_their_records_claims_and_figures(built):
    page = built()["results/cifar-cpu.md"]
    written = (files.REPOSITORY / "results/cifar-cpu/tables/table1.md").read_text(encoding="utf-8")
    rows = [line for line in written.splitlines() if line.startswith("| ") and "---" not in line]
    table1 = page.split("## Table 2")[0]
    assert table1.count("<tr>") == len(rows)
    assert "records/cifar10/vanilla/seed0.json" in table1
    assert "The papers' claims" in page
    assert page.count("![") == len(list((files.REPOSITORY / "figures/cifar-cpu").glob("*.svg")))


def test_links_lead_from_the_page_to_the_files_as_they_lie(monkeypatch):
    monkeypatch.setattr(files, "REPOSITORY", files.root())
    link = site._linked("[87.39](../records/a.json)", "results/cifar-cpu/tables/")
    assert link == '<a href="../../results/cifar-cpu/records/a.json">87.39</a>'
    assert site._linked("see [x](results/b.csv)", "") == 'see <a href="../results/b.csv">x</a>'
    assert site._linked("[y](https://example.org)", "") == "[y](https://example.org)"


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
    assert "CIFAR results" not in front and "/results/smoke" in front


def test_cells_of_a_table_keep_their_bars_code_and_bold():
    html = site._html_table([r"| a\|b | n |", "| --- | ---: |", "| `x` **y** <z> | 1 |"], "")
    assert '<th class="text">a|b</th><th>n</th>' in html
    assert '<td class="text"><code>x</code> <b>y</b> &lt;z&gt;</td><td>1</td>' in html
