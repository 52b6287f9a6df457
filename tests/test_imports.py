"""No two modules import each other, none names a higher one, not in a string either; what is quick imports little."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest
import tomllib

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


def named(path: Path, modules: set[str]) -> Iterator[str]:
    """Yield the modules of this package that strings name: ``module:name`` or ``module``, alone or after ``-m``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and re.fullmatch(rf"{ROOT.name}(\.\w+)+(:\w+)?", str(node.value)):
            module, colon, _ = str(node.value).partition(":")
            yield module if colon or module in modules else module.rpartition(".")[0]
        elif isinstance(node, (ast.List, ast.Tuple)):
            words = [each.value if isinstance(each, ast.Constant) else None for each in node.elts]
            if ("-m", ROOT.name) in pairwise(words):
                yield f"{ROOT.name}.__main__"


def upward(root: Path, layers: list[str]) -> set[tuple[str, str]]:
    """Return which modules name a module of a higher layer in a string."""
    rank = {each.strip(): number for number, layer in enumerate(layers) for each in layer.split("|")}
    rank[f"{root.name}.__main__"] = 0

    def of(module: str) -> int | None:
        parts = module.split(".")
        prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
        return next((rank[prefix] for prefix in prefixes if prefix in rank), None)

    files = {".".join(path.relative_to(root.parent).with_suffix("").parts): path for path in root.rglob("*.py")}
    pairs = ((module, name) for module, path in files.items() for name in named(path, set(files)))
    ranks = ((pair, of(pair[0]), of(pair[1])) for pair in pairs)
    return {pair for pair, low, high in ranks if low is not None and high is not None and high < low}


KNOWN = {
    ("recbole_signed.live.serve.start", "recbole_signed.__main__"),
    ("recbole_signed.model.abstract_recommender", "recbole_signed.trainer.signed_trainer"),
    ("recbole_signed.model.signedsasrec", "recbole_signed.trainer.signed_trainer"),
}
"""A service starts its replicas by the command line, and a model's trainer, which its class names."""


def test_no_string_names_a_module_of_a_higher_layer(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT.parent / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(each for each in project["tool"]["importlinter"]["contracts"] if each["type"] == "layers")["layers"]
    assert upward(ROOT, layers) == KNOWN
    package = tmp_path / ROOT.name / "graph"
    package.mkdir(parents=True)
    text = (
        'A = "recbole_signed.ssf.ssf:SSF"\nB = ["python", "-m", "recbole_signed", "run"]\nC = "recbole_signed.errors"\n'
    )
    (package / "edges.py").write_text(text, encoding="utf-8")
    names = {"recbole_signed.ssf.ssf", "recbole_signed.__main__"}
    assert upward(package.parent, layers) == {("recbole_signed.graph.edges", each) for each in names}


WINGS = {"live": {"live", "api"}, "lab": {"lab"}, "api": {"live", "api"}}
"""What the wings, and the interface that stands on one of them, may import beside the core."""


def test_the_core_knows_neither_wing_and_the_wings_do_not_know_each_other() -> None:
    graph = graph_of(ROOT)
    for name in graph:
        path = ROOT.parent / name.replace(".", "/")
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        graph[name] |= {each for each in named(file, set(graph)) if each != f"{ROOT.name}.__main__"}
    above = {*WINGS, "cli"}
    rooms = {name: name.split(".")[1] for name in graph if name.count(".") and name != f"{ROOT.name}.__main__"}
    crossing = {
        (name, other)
        for name, room in rooms.items()
        for other in graph[name]
        if room != "cli" and rooms.get(other) in above - WINGS.get(room, set())
    }
    assert crossing == set()


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import recbole_signed.cli.app", {"torch", "recbole", "polars", "pandas", "optuna"}),
        (
            "import recbole_signed.compat.repairs",
            {"torch", "recbole", "numpy", "scipy", "pandas", "ray", "hyperopt", "torch_geometric"},
        ),
        (
            "from recbole_signed.atomic import read_rows; from pathlib import Path; "
            f"read_rows(Path({str(ROOT.parent / 'atomic_files' / 'toy-signed')!r}))",
            {"torch", "recbole"},
        ),
        ("from recbole_signed.lab.synth import generate, write", {"torch", "pandas", "scipy.stats"}),
        ("from recbole_signed.lab.stats import analyse, statistics_table", {"torch", "scipy.stats"}),
    ],
)
def test_what_is_quick_imports_no_more_than_it_needs(code: str, heavy: set[str]) -> None:
    code = f"import sys; {code}; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_names_of_test_files_differ() -> None:
    """pytest imports a test file by its name alone: two files of one name fail in a run of both."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert [name for name in names if names.count(name) > 1] == []
