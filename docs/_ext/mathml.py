"""Renders mathematics as MathML, which browsers show without a script and without a network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

SIZED_DELIMITER = re.compile(r"\\[bB]igg?[lrm]?(?![A-Za-z])")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer ``mathml``."""
    app.add_html_math_renderer("mathml", inline_renderers=(_inline, None), block_renderers=(_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def to_mathml(tex: str, *, block: bool = False) -> str:
    """Convert TeX; MathML sizes delimiters itself, so the size commands, which docutils does not know, are dropped."""
    return str(tex2mathml(SIZED_DELIMITER.sub("", tex), as_block=block))


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(to_mathml(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{to_mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode
