"""Sphinx configuration of the documentation site: ``python -m sphinx -W docs build/docs``."""

from __future__ import annotations

import sys
from pathlib import Path

import recbole_signed

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS / "report")]

project = "recbole-signed"
author = "The recbole-signed authors"
project_copyright = f"2026, {author}"
version = release = recbole_signed.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "generated_pages",
    "mathml",
]
exclude_patterns = ["report/**", "_ext/**"]
source_suffix = {".md": "markdown"}
default_role = "py:obj"
smartquotes_action = "qe"  # options keep their two dashes
html_theme = "furo"
html_title = f"recbole-signed {version}"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
