"""No two modules import each other, by whatever way: in a function, for types alone, or through a package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import recbole_signed

ROOT = Path(recbole_signed.__file__).parent


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of each import of this package in a file; relative ones, as in stubs, resolved."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            package = list(path.relative_to(ROOT.parent).parent.parts)
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.partition(".")[0] == ROOT.name:
                yield from ((module, each.name) for each in node.names)


def graph_of(root: Path) -> dict[str, set[str]]:
    """Return which modules each module imports; a name that a package hands on is that of the module it is from."""
    files = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in files.items()}
    handed_on = {
        (".".join(path.relative_to(root.parent).parent.parts), name): module
        for path in root.rglob("__init__.pyi")
        for module, name in imports(path)
    }

    def source(module: str, name: str) -> str:
        while (module, name) in handed_on and handed_on[module, name] != module:
            module = handed_on[module, name]
        return f"{module}.{name}" if f"{module}.{name}" in modules else module

    return {name: {source(*each) for each in imports(path)} - {name} for name, path in modules.items()}


def test_no_modules_import_each_other() -> None:
    graph = graph_of(ROOT)
    assert {"recbole_signed.ssf.filter", "recbole_signed.data.dataset"} <= {*graph, *set().union(*graph.values())}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
