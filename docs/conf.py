"""How Sphinx builds the site; `python -m vitstudy site PROFILE` calls it."""

import json
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.ext.autodoc.mock import MockFinder

import vitstudy
from vitstudy import files

sys.modules.setdefault("rfc3987_syntax", None)  # as notebooks.skip_iri_grammars: seconds less

project = "vitstudy"
author = "The vitstudy authors"
copyright = "2026, the vitstudy authors"
release = vitstudy.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.linkcode"]
exclude_patterns = ["_build", "generated"]

nb_execution_mode = "off"  # the notebooks come executed
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
# Widgets need a kernel; a figure that needs none stands beside each.
# The parts that a run makes are included below a page's own title, so they begin at its level.
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

# The pages of the code need no more than the package's own source: what takes seconds to import
# stands there by name, and is never imported here.
STAND_INS = [
    *("torch", "torchvision", "timm", "accelerate", "torchao", "onnx", "onnxruntime"),
    *("onnxscript", "sklearn", "safetensors", "seaborn"),
]
sys.meta_path.insert(0, MockFinder(STAND_INS))
autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
add_module_names = False
default_role = "code"

html_theme = "pydata_sphinx_theme"
html_title = "vitstudy"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["datatables.js"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": {"notebooks/*": ["page-toc"], "results/*": [], "*": []},
    "navbar_center": [],
    "show_toc_level": 2,
}
html_sidebars = {"**": ["globaltoc.html"]}


def _math(self, node, display):
    # MathML needs no network, unlike the usual renderers' scripts, and every browser has it.
    self.body.append(convert(node.astext(), display="block" if display else "inline"))
    raise nodes.SkipNode


def _write_datatables(app):
    """DataTables from the installed itables, in a form that a page opened from a disk may load.

    A browser imports no module from a file; it does from a string.
    """
    import itables

    html = Path(itables.__file__).parent / "html"
    static = Path(app.srcdir) / "_static"
    bundle = json.dumps((html / "dt_bundle.js").read_text(encoding="utf-8"))
    (static / "datatables.css").write_text(
        (html / "dt_bundle.css").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (static / "datatables.js").write_text(
        f"const bundle = {bundle};\n"
        """
const options = {paging: false, searching: false, info: false, order: [], autoWidth: false};
document.addEventListener("DOMContentLoaded", async () => {
  const tables = document.querySelectorAll("table.dataframe, .bd-article table.table");
  if (!tables.length) return;
  const url = URL.createObjectURL(new Blob([bundle], {type: "application/javascript"}));
  const {ITable} = await import(url);
  URL.revokeObjectURL(url);
  tables.forEach((table) => new ITable(table, options));
});
""",
        encoding="utf-8",
    )


def linkcode_resolve(domain, info):
    """The source of a member as it lies in the repository, from a page below `api`."""
    member = getattr(sys.modules[info["module"]], info["fullname"].split(".")[0], None)
    module = getattr(member, "__module__", None) or info["module"]
    place = files.SOURCE.joinpath(*module.split(".")[1:])
    place = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return os.path.relpath(place, files.root() / "site" / "api").replace(os.sep, "/")


def _escape(app, what, name, obj, options, lines):
    """Docstrings are plain text with code in backticks; the rest of reStructuredText is no markup.

    A list keeps its bullets.
    """
    for at, line in enumerate(lines):
        parts = line.split("`")
        parts[::2] = [re.sub(r"([\\*_|])", r"\\\1", part) for part in parts[::2]]
        lines[at] = "`".join(parts)


def setup(app):
    app.connect("autodoc-process-docstring", _escape)
    app.add_html_math_renderer(
        "mathml",
        (lambda self, node: _math(self, node, False), None),
        (lambda self, node: _math(self, node, True), None),
    )
    app.connect("builder-inited", _write_datatables)
    app.add_css_file("datatables.css")
