"""What ``upstream`` writes: one file in RecBole's conventions, and lines in the right places of a checkout."""

import ast
import importlib
import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import printed
from refusals import check_refused
from stock_recbole import REPOSITORY

from recbole_signed.errors import MissingExtraError
from recbole_signed.lab.upstream import upstream
from recbole_signed.lab.upstream.bundle import LIBRARIES, Bundler, ExportRecipe, check_python38, formatted, recipe_of
from recbole_signed.lab.upstream.export import GUIDE, LIST, TESTS, put
from recbole_signed.lab.upstream.modules import SourceModule
from recbole_signed.lab.upstream.pages import GENERAL, Citation, Description, model_list_row, model_list_text
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import facts_of

MODELS = [name for name in sorted(registry.models()) if not recipe_of(name).refusal]


@pytest.mark.parametrize("model", MODELS)
def test_the_model_file_is_self_contained_python_38(model: str, exported: Callable[[str], Path]) -> None:
    text = exported(model).read_text(encoding="utf-8")
    tree, roots = ast.parse(text, feature_version=(3, 8)), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            roots.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Import):
            roots |= {each.name.partition(".")[0] for each in node.names}
    assert roots - set(sys.stdlib_module_names) <= LIBRARIES
    assert "recbole_signed" not in text
    assert "UsageError" not in text
    assert "this package" not in text  # that is RecBole now
    base = "SequentialRecommender" if model == "SignedSASRec" else "GeneralRecommender"
    assert f"from recbole.model.abstract_recommender import {base}" in text
    check_python38(text, "again")
    assert formatted(text) == text
    hints = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns is not None]
    assert hints == []


@pytest.mark.parametrize("model", [name for name in MODELS if not facts_of(name).source.startswith("this package")])
def test_every_paper_is_cited_with_its_authors_and_venue(model: str) -> None:
    module = SourceModule(registry.models()[model].module)
    citations = Description.from_module(module, model, ()).citations
    assert citations
    assert all(each.year or "arxiv" in each.link for each in citations)
    assert not any("code" in each.venue.lower() or "github" in each.link for each in citations)


def test_the_head_is_recboles(exported: Callable[[str], Path]) -> None:
    head = exported("LSGRec").read_text(encoding="utf-8").splitlines()[:11]
    assert head[0] == "# -*- coding: utf-8 -*-"
    assert re.fullmatch(r"# @Time   : 20\d\d/\d+/\d+", head[1])
    assert head[2:5] == ["# @Author : A. Author", "# @Email  : a.author@example.org", ""]
    assert head[5:9] == ['r"""', "LSGRec", "#" * 48, "Reference:"]
    assert head[9].startswith(
        "    Yuting Liu, Yizhou Dang, Yuliang Liang, Qiang Liu, Guibing Guo, Jianzhe Zhao, Xingwei"
    )


@pytest.mark.parametrize(
    ("models", "kind", "other"),
    [(["GFCF", "LSGRec"], "general", "sequential"), (["SignedSASRec"], "sequential", "general")],
)
def test_lines_go_where_they_belong(
    models: list[str], kind: str, other: str, exported: Callable[[str], Path], checkout: Path
) -> None:
    def read(path: str) -> str:
        return (checkout / path).read_text(encoding="utf-8")

    for model in models:
        assert exported(model) == checkout / f"recbole/model/{kind}_recommender/{model.lower()}.py"
        upstream(model, str(checkout), author="A. Author", email="a.author@example.org", overwrite=True)  # again
    guide, tests = read(GUIDE), ast.parse(read("tests/model/test_model_auto.py"))
    methods = {
        each.name: [part.name for part in each.body if isinstance(part, ast.FunctionDef)]
        for each in tests.body
        if isinstance(each, ast.ClassDef)
    }
    listed = json.loads(read(LIST))["data"]
    for model in models:
        lower = model.lower()
        for each, times in ((kind, 1), (other, 0)):
            package = f"recbole.model.{each}_recommender"
            line = f"from {package}.{lower} import {model}\n"
            assert read(f"recbole/model/{each}_recommender/__init__.py").count(line) == times
            assert guide.count(f"   model/{each}/{lower}\n") == times
            assert read(f"docs/source/recbole/{package}.rst").count(f"   {package}.{lower}\n") == times
            assert methods[f"Test{each.title()}Recommender"].count(f"test_{lower}") == times
        (place,) = (place for place, row in enumerate(listed) if row["model"] == model)
        row = listed[place]
        assert row["category"] == f"{kind.title()} Recommendation"
        assert listed[place - 1]["model_link"].startswith(f"/docs/user_guide/model/{kind}/")
        assert set(row) == {
            *("category", "cate_link", "year", "pub", "model", "model_link", "paper", "paper_link", "authors"),
            *("ref_code", "repository", "repo_link"),
        }
    counted = re.search(r"We implement (\d+)", guide)
    assert counted is not None
    assert int(counted[1]) - 94 == len(re.findall("   model/(?:general|sequential)/(?!pop|sasrec)", guide))
    published = {
        "LSGRec": ("2024", "arXiv'24", "https://arxiv.org/abs/2403.08246"),
        "SignedSASRec": ("2018", "ICDM'18", ""),
    }
    assert (row["year"], row["pub"], row["paper_link"]) == published[model]


LINE = "from recbole.model.general_recommender.{0} import {0}\n"


def lines_of(folder: Path, path: str, ends: str = "\n") -> list[str]:
    return (folder / path).read_bytes().decode().split(ends)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout with one model."""
    for path, text in {**REPOSITORY, GENERAL.init: LINE.format("bpr")}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("inside", [True, False])
def test_a_line_that_begins_another_one_is_put_in_too(small: Path, inside: bool) -> None:
    """As SSF, where SSFL is there already; in a folder that is no checkout, apart."""
    if not inside:
        (small / GENERAL.init).unlink()
    texts = {GUIDE: "   model/general/{}\n", GENERAL.api: f"   {GENERAL.package}.{{}}\n", GENERAL.init: LINE}
    for path, text in texts.items():
        for model in ("ssfl", "ssf", "ssfl", "ssf"):
            place = put(small, path, text.format(model), GENERAL)
        assert place == (path if inside else f"insert/{path}")
        for model in ("ssfl", "ssf"):
            assert lines_of(small, place).count(text.format(model).rstrip()) == 1, path
    assert f"We implement {96 if inside else 94} recommendation models." in lines_of(small, GUIDE)


@pytest.mark.parametrize(
    ("inside", "known"), [(True, ["Pop", "SSFL", "SSF", "LR", "SASRec"]), (False, ["SSFL", "SSF"])]
)
def test_a_row_takes_the_place_of_that_of_another_author(small: Path, inside: bool, known: list[str]) -> None:
    if not inside:
        (small / LIST).unlink()
    for model, author in (("SSFL", "A. Author"), ("SSF", "A. Author"), ("SSF", "A. Author"), ("SSF", "B. Author")):
        what = Description(model, "A title", [], "A method.")
        place = put(small, LIST, model_list_text(model_list_row(what, author, 2026)) + "\n", GENERAL)
    text = (small / place).read_text(encoding="utf-8")
    rows = json.loads(text)["data"] if inside else json.loads(f"[{text.rstrip().rstrip(',')}]")
    assert [each["model"] for each in rows] == known
    assert [each["authors"] for each in rows if "authors" in each] == ["A. Author", "B. Author"]


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (TESTS, "import unittest\n", "has no class TestGeneralRecommender"),
        (GENERAL.api, "Title\n", "of the checkout has no line like"),
        (LIST, '{"data": []}', "has no general recommender of RecBole to put the new row after"),
    ],
)
def test_a_checkout_of_another_form_is_refused(small: Path, path: str, text: str, said: str) -> None:
    (small / path).write_text(text, encoding="utf-8")
    check_refused(said, put, small, path, '{"model_link": "/docs/user_guide/model/general/ssf.html"},\n', GENERAL)
    assert (small / path).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("ends", ["\r\n", "\n"])
def test_the_ends_of_lines_stay(small: Path, ends: str) -> None:
    (small / GENERAL.init).write_bytes(f"{LINE.format('bpr').rstrip()}{ends}".encode())
    put(small, GENERAL.init, LINE.format("ssf"), GENERAL)
    assert lines_of(small, GENERAL.init, ends) == [*(LINE.format(each).rstrip() for each in ("bpr", "ssf")), ""]


def test_the_page_of_a_sequential_model_asks_for_times_and_hides_nothing(
    exported: Callable[[str], Path], checkout: Path
) -> None:
    exported("SignedSASRec")
    page = (checkout / "docs/source/user_guide/model/sequential/signedsasrec.rst").read_text(encoding="utf-8")
    assert "dislike: [dislike_user_id, dislike_item_id, dislike_timestamp]" in page
    defaults = (checkout / "recbole/properties/model/SignedSASRec.yaml").read_text(encoding="utf-8")
    assert "hide_dislikes" not in page + defaults


def test_the_page_and_the_yaml_name_the_same_keys(exported: Callable[[str], Path], checkout: Path) -> None:
    exported("LSGRec")
    defaults = yaml.safe_load((checkout / "recbole/properties/model/LSGRec.yaml").read_text(encoding="utf-8"))
    page = (checkout / "docs/source/user_guide/model/general/lsgrec.rst").read_text(encoding="utf-8")
    assert re.findall(r"^- ``(\w+) \(", page, re.MULTILINE) == list(defaults)
    assert "lr_milestones" not in defaults  # RecBole's trainer does not read it
    assert defaults["hide_dislikes"] is True
    assert page.startswith("LSGRec\n======")
    assert "`[paper] <https://arxiv.org/abs/2403.08246>`_" in page
    assert "run_recbole(model='LSGRec', dataset='ml-100k')" in page


def test_a_folder_gets_whole_files_and_lines_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("turbocf", "--to", tmp_path / "out", "--author", "A", "--email", "a@b.c", "--json")
    written = json.loads(printed(capsys, "upstream", *words))
    assert written["model"] == "TurboCF"
    assert not written["into_checkout"]
    assert all((tmp_path / "out" / path).is_file() for path in written["files"])
    name = "CONTRIBUTION-TurboCF.md"
    note = (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert [path for path in written["files"] if path != name and f"`{path}`" not in note] == []
    assert "def test_turbocf(self):" in (tmp_path / "out/insert/tests/model/test_model_auto.py").read_text()
    check_refused("exists; overwrite=True replaces it", upstream, "TurboCF", tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "words"),
    [("LightGCN", "is RecBole's own model already"), ("GFCG", "there is no model named 'GFCG'; did you mean 'GFCF'?")],
)
def test_other_models_are_refused(model: str, words: str, tmp_path: Path) -> None:
    check_refused(re.escape(words), upstream, model, tmp_path)


def test_a_model_may_be_named_as_tables_print_it(tmp_path: Path) -> None:
    written = upstream("SSF-L", tmp_path)
    assert written.model == "SSFL"
    assert {Path(each).name for each in written.files} >= {"ssfl.py", "SSFL.yaml"}


def test_what_the_trainer_of_ssf_needs_stays_behind() -> None:
    bundler = Bundler(registry.models()["SSF"].module, "SSF", recipe_of("SSF"))
    text = "\n".join(code for _, code in bundler.sections())
    assert "def tune" not in text
    assert "self.auto" not in text
    assert "def fold_in" in text
    model = text[text.index("\nclass SSF(") :]
    assert "    def fit(self)" in model
    assert "def spend" not in model
    assert "to_pyg" not in text  # a method that nothing of it uses
    assert "class UnseenItems" not in text  # nothing is sampled


def test_a_recbole_with_the_model_does_not_stop_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "model/general_recommender"
    place.mkdir(parents=True)
    for name in ("ssf", "mine"):
        (place / f"{name}.py").touch()
    monkeypatch.setattr(registry, "recbole_folder", lambda: tmp_path)
    registry.register_own_models()
    assert registry.models()["SSF"].module == "recbole_signed.ssf.ssf"
    check_refused("RecBole has a model of the name 'Mine'", registry.register_model, "Mine", "somewhere.mine")


@pytest.mark.parametrize("missing", ["black", "vermin", "libcst"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = "recbole_signed.lab.upstream.modules"
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, modules, raising=False)
    uses = {
        "black": lambda: formatted("x = 1\n"),
        "vermin": lambda: check_python38("x = 1\n", "x.py"),
        "libcst": lambda: importlib.import_module(modules),
    }
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[upstream\]"):
        uses[missing]()


# ---- the bundler on small packages ----

NUMBERS = itertools.count()
MODEL = """from recbole_signed.model.abstract_recommender import SignedRecommender
{imports}


class Tiny(SignedRecommender):
    '''A model.'''

    def score(self, users):
        return {body}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a package with a module ``tiny`` and others; return the text that the bundler makes of its model."""
    name = f"bundled{next(NUMBERS)}"  # a name is imported once in a process
    monkeypatch.syspath_prepend(str(tmp_path))

    def bundle(imports: str, body: str, **modules: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for module, code in {"tiny": MODEL.format(imports=imports.replace("PACK", name), body=body), **modules}.items():
            (folder / f"{module}.py").write_text(code.replace("PACK", name), encoding="utf-8")
        made = Bundler(f"{name}.tiny", "Tiny", ExportRecipe())
        text = formatted("\n\n".join([*made.imports(), *(section for _, section in made.sections())]))
        check_python38(text, "tiny.py")
        return text

    return bundle


STEPS = """SIZE = {size}


def _step(x: int) -> int:
    return x + SIZE


def {name}(x: int) -> int:
    SIZE_ = [_step for _step in [x]]  # local
    return _step(x) + SIZE_[0]
"""
HALF = "def _half(x: float) -> float:\n    return x / 2\n\n\n"
WORDS = 'WORD = "{name}"\n\n\ndef {name}(x: int) -> str:\n    return f"{{WORD}} {{x:>{{len(WORD)}}}}"\n'
HELPERS = [
    (STEPS.format(size=1, name="one"), STEPS.format(size=10, name="two"), 1, (3, 12)),
    (
        f"from math import floor\n\n\n{HALF}SIZE = _half(6.0)\n\n\ndef one(x):\n    return floor(x) + SIZE\n",
        f"{HALF}def floor(x):\n    return _half(x)\n\n\ndef two(x):\n    return floor(x)\n",
        2.5,
        (5.0, 1.25),
    ),
    (WORDS.format(name="one"), WORDS.format(name="two"), 1, ("one   1", "two   1")),
]


@pytest.mark.parametrize(("one", "two", "given", "found"), HELPERS, ids=["names", "same twice, an import", "f-strings"])
def test_helpers_of_one_name_are_told_apart(
    one: str, two: str, given: float, found: tuple[Any, Any], package: Callable[..., str]
) -> None:
    """And one that two modules define alike is there once, before it is used."""
    imports, body = "from PACK.one import one\nfrom PACK.two import two", "one(users) + two(users)"
    text = package(imports, body, one=one, two=two)
    scope: dict[str, Any] = {"__name__": "bundled"}
    exec(compile(text, "bundled", "exec", dont_inherit=True), scope)
    assert (scope["one"](given), scope["two"](given)) == found
    assert text.count("def _half(") == ("_half" in one)


def test_what_python_38_lacks_is_replaced(package: Callable[..., str]) -> None:
    text = package(
        "from itertools import pairwise\nfrom functools import cache\nfrom PACK.one import total",
        "total(list(pairwise(users)))",
        one=(
            "from functools import cache\n\nIds = list[int]  # a hint\n\n\n"
            "@cache\ndef _one() -> int:\n    return 1\n\n\n"
            "def total(values: Ids) -> int | None:\n    x: int = 0\n"
            "    for a, b in zip(values, values, strict=True):  # type: ignore[misc]\n"
            "        x += a is b\n"
            "    return x + _one()\n"
        ),
    )
    assert "strict" not in text
    assert "def pairwise(values):" in text
    assert "lru_cache(maxsize=None)" in text
    assert "Ids" not in text
    assert "type: ignore" not in text


@pytest.mark.parametrize(
    ("imports", "body", "words"),
    [
        ("import pandas as pd", "pd.Series(users)", "tiny.py:2 imports pandas, which RecBole does not need"),
        ("from PACK import one", "one.f(users)", "tiny.py:2 imports the module 'one' as a whole"),
        ("from PACK.one import lazy", "lazy(users)", "one.py:2 imports polars inside a function"),
        ("", "users.removeprefix('a')", "'return users.removeprefix(\"a\")', is not Python 3.8"),
        ("", "{**users} | {1: 2}", "is not Python 3.8, which RecBole needs: dict union"),
        ("", "isinstance(users, int | str)", "a union of types at run time needs 3.10"),
        ("", "list[int](users)", "builtin generic type annotation (list[..]) needs 3.9"),
    ],
)
def test_what_cannot_be_sent_names_its_line(imports: str, body: str, words: str, package: Callable[..., str]) -> None:
    lazy = "def lazy(x):\n    import polars\n    return polars.Series(x)\n"
    check_refused(re.escape(words), package, imports, body, one=lazy)


def test_one_name_for_two_imports_and_a_class_that_is_not_there_are_refused(package: Callable[..., str]) -> None:
    imports = "from math import floor\nfrom PACK.one import one"
    helper = "from numpy import floor\n\n\ndef one(x):\n    return floor(x)\n"
    check_refused("and another module uses that name", package, imports, "one(floor(users))", one=helper)
    check_refused("does not define the class GFCG", Bundler, "recbole_signed.model.gfcf", "GFCG", ExportRecipe())


@pytest.mark.parametrize(
    ("text", "venue", "short", "link"),
    [
        ('A B et al. "A Title." in WWW 2019.', "WWW 2019", "WWW'19", ""),
        ('A B, C D. "Title?" 2024. https://arxiv.org/abs/1', "2024", "arXiv'24", "https://arxiv.org/abs/1"),
        (
            'A. "T." ACM TORS 3(2), 2025. https://d.org/1',
            "ACM TORS 3(2), 2025",
            "ACM TORS 3(2), 2025",
            "https://d.org/1",
        ),
    ],
)
def test_citations_are_read(text: str, venue: str, short: str, link: str) -> None:
    found = Citation.parse(text)
    assert found is not None
    assert (found.venue, found.short_venue, found.link) == (venue, short, link)
