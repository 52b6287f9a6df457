"""What ``upstream`` writes: one file in RecBole's conventions, and lines in the right places of a checkout."""

import ast
import importlib
import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from refusals import check_refused
from stock_recbole import REPOSITORY

from recbole_signed.cli.app import main
from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.lab.upstream import python38, upstream
from recbole_signed.lab.upstream.bundle import Bundler
from recbole_signed.lab.upstream.checkout import GENERAL, GUIDE, LIST, add, insert
from recbole_signed.lab.upstream.follow import LIBRARIES, ExportRecipe, recipe_of
from recbole_signed.lab.upstream.modules import SourceModule
from recbole_signed.lab.upstream.pages import Citation, Description, model_list_row, model_list_text
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
    python38.check(text, "again")
    assert python38.formatted(text) == text
    hints = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.returns is not None]
    assert hints == []


@pytest.mark.parametrize("model", [name for name in MODELS if not facts_of(name).source.startswith("this package")])
def test_every_paper_is_cited_with_its_authors_and_venue(model: str) -> None:
    module = SourceModule.read(registry.models()[model].module)
    citations = Description.of(module, model, ()).citations
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


def test_lines_go_where_they_belong(exported: Callable[[str], Path], checkout: Path) -> None:
    for model in ("GFCF", "LSGRec"):
        exported(model)
        upstream(model, checkout, author="A. Author", email="a.author@example.org", overwrite=True)  # a second time

    def read(path: str) -> str:
        return (checkout / path).read_text(encoding="utf-8")

    for model in ("GFCF", "LSGRec"):
        lower = model.lower()
        line = f"from recbole.model.general_recommender.{lower} import {model}\n"
        assert read("recbole/model/general_recommender/__init__.py").count(line) == 1
        guide = read("docs/source/user_guide/model_intro.rst")
        assert guide.count(f"   model/general/{lower}\n") == 1
        assert guide.index(f"model/general/{lower}") < guide.index("model/context/lr")
        api = read("docs/source/recbole/recbole.model.general_recommender.rst")
        assert api.count(f"   recbole.model.general_recommender.{lower}\n") == 1
        rows = json.loads(read("asset/model_list.json"))["data"]
        assert [row["model"] for row in rows].count(model) == 1
        assert [row["model"] for row in rows].index(model) < [row["model"] for row in rows].index("LR")
        tests = ast.parse(read("tests/model/test_model_auto.py"))
        first = next(node for node in tests.body if isinstance(node, ast.ClassDef))
        assert [node.name for node in first.body if isinstance(node, ast.FunctionDef)].count(f"test_{lower}") == 1
    counted = re.search(r"We implement (\d+)", guide)
    assert counted is not None
    assert int(counted[1]) - 94 == len(re.findall("   model/(?:general|sequential)/(?!pop|sasrec)", guide))
    row = next(row for row in rows if row["model"] == "LSGRec")
    assert (row["year"], row["pub"], row["paper_link"]) == ("2024", "arXiv'24", "https://arxiv.org/abs/2403.08246")
    assert set(row) == {
        *("category", "cate_link", "year", "pub", "model", "model_link", "paper", "paper_link", "authors", "ref_code"),
        *("repository", "repo_link"),
    }


def test_a_line_that_begins_another_one_is_put_in_too(tmp_path: Path) -> None:
    """As SSF, where SSFL is there already."""
    texts = {
        GUIDE: "   model/general/{}\n",
        GENERAL.api: "   recbole.model.general_recommender.{}\n",
        GENERAL.init: "from recbole.model.general_recommender.{0} import {0}\n",
    }
    for path, text in texts.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(REPOSITORY.get(path, ""), encoding="utf-8")
        for model in ("ssfl", "ssf", "ssfl", "ssf"):
            assert insert(tmp_path, path, text.format(model), GENERAL)
        written = (tmp_path / path).read_text(encoding="utf-8")
        for model in ("ssfl", "ssf"):
            assert written.splitlines().count(text.format(model).rstrip()) == 1, path
    assert "We implement 96 " in (tmp_path / GUIDE).read_text(encoding="utf-8")


def test_lines_and_authors_of_files_stay(tmp_path: Path) -> None:
    (tmp_path / LIST).parent.mkdir()
    (tmp_path / LIST).write_text(REPOSITORY[LIST], encoding="utf-8")
    bundled = SourceModule.read("recbole_signed.ssf.ssf")
    for author in ("A. Author", "B. Author"):
        row = model_list_row(Description.of(bundled, "SSF", ()), author, 2026)
        assert insert(tmp_path, LIST, model_list_text(row) + "\n", GENERAL)
    rows = json.loads((tmp_path / LIST).read_text(encoding="utf-8"))["data"]
    assert [each["model"] for each in rows] == ["Pop", "SSF", "LR", "SASRec"]
    assert rows[1]["authors"] == "B. Author"
    path = tmp_path / GENERAL.init
    path.parent.mkdir(parents=True)
    line = "from recbole.model.general_recommender.{0} import {0}"
    for ends in ("\r\n", "\n"):
        path.write_bytes(f"{line.format('bpr')}{ends}".encode())
        assert insert(tmp_path, GENERAL.init, line.format("ssf"), GENERAL)
        assert path.read_bytes() == f"{line.format('bpr')}{ends}{line.format('ssf')}{ends}".encode()


def test_lines_of_a_sequential_model_go_to_those_of_its_kind(exported: Callable[[str], Path], checkout: Path) -> None:
    assert exported("SignedSASRec") == checkout / "recbole/model/sequential_recommender/signedsasrec.py"
    upstream("SignedSASRec", str(checkout), author="A. Author", overwrite=True)  # a second time

    def read(path: str) -> str:
        return (checkout / path).read_text(encoding="utf-8")

    for kind, times in (("general", 0), ("sequential", 1)):
        package = f"recbole.model.{kind}_recommender"
        line = f"from {package}.signedsasrec import SignedSASRec\n"
        assert read(f"recbole/model/{kind}_recommender/__init__.py").count(line) == times
        assert read("docs/source/user_guide/model_intro.rst").count(f"   model/{kind}/signedsasrec\n") == times
        assert read(f"docs/source/recbole/{package}.rst").count(f"   {package}.signedsasrec\n") == times
    row = json.loads(read("asset/model_list.json"))["data"][-1]
    assert (row["category"], row["model"], row["pub"]) == ("Sequential Recommendation", "SignedSASRec", "ICDM'18")
    tests = ast.parse(read("tests/model/test_model_auto.py"))
    methods = {
        node.name: [each.name for each in node.body if isinstance(each, ast.FunctionDef)]
        for node in tests.body
        if isinstance(node, ast.ClassDef)
    }
    assert methods["TestSequentialRecommender"] == ["test_sasrec", "test_signedsasrec"]
    page = read("docs/source/user_guide/model/sequential/signedsasrec.rst")
    assert "dislike: [dislike_user_id, dislike_item_id, dislike_timestamp]" in page
    assert "hide_dislikes" not in page + read("recbole/properties/model/SignedSASRec.yaml")


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
    with pytest.raises(SystemExit) as done:
        main(["upstream", "turbocf", "--to", str(tmp_path / "out"), "--author", "A", "--email", "a@b.c", "--json"])
    assert done.value.code == 0
    written = json.loads(capsys.readouterr().out)
    assert written["model"] == "TurboCF"
    assert not written["into_checkout"]
    assert all((tmp_path / "out" / path).is_file() for path in written["files"])
    name = "CONTRIBUTION-TurboCF.md"
    note = (tmp_path / "out" / name).read_text(encoding="utf-8")
    assert [path for path in written["files"] if path != name and f"`{path}`" not in note] == []
    assert "def test_turbocf(self):" in (tmp_path / "out/insert/tests/model/test_model_auto.py").read_text()
    check_refused("exists; overwrite=True replaces it", upstream, "TurboCF", tmp_path / "out")


def test_the_lines_of_several_models_stand_in_one_folder(tmp_path: Path) -> None:
    """Those of the second model took the place of those of the first."""

    def row(model: str, author: str) -> str:
        return model_list_text({"model": model, "authors": author, "model_link": f"/docs/{model}.html"}) + "\n"

    for model, author in (("SSF", "A"), ("SSFL", "A"), ("SSF", "A"), ("SSF", "B")):
        add(tmp_path, GENERAL.init, f"from ssf import {model}\n")
        add(tmp_path, f"insert/{LIST}", row(model, author))
    assert (tmp_path / GENERAL.init).read_text() == "from ssf import SSF\nfrom ssf import SSFL\n"
    text = (tmp_path / "insert" / LIST).read_text()
    rows = json.loads(f"[{text.rstrip().rstrip(',')}]")
    assert [(each["model"], each["authors"]) for each in rows] == [("SSF", "B"), ("SSFL", "A")]


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
    text = "\n".join(code for _, code in bundler.bundle().sections)
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


@pytest.mark.parametrize("missing", ["black", "vermin"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[upstream\]"):
        python38.formatted("x = 1\n") if missing == "black" else python38.check("x = 1\n", "x.py")


def test_libcst_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libcst", None)
    monkeypatch.delitem(sys.modules, "recbole_signed.lab.upstream.modules", raising=False)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[upstream\]"):
        importlib.import_module("recbole_signed.lab.upstream.modules")


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
        made = Bundler(f"{name}.tiny", "Tiny", ExportRecipe()).bundle()
        code = "\n\n".join(["\n".join(made.imports), *(section for _, section in made.sections)])
        text = python38.formatted(python38.without_marks(code))
        python38.check(text, "tiny.py")
        return text

    return bundle


def test_two_helpers_of_one_name_are_told_apart(package: Callable[..., str]) -> None:
    helper = "SIZE = {size}\n\n\ndef _step(x: int) -> int:\n    return x + SIZE\n\n\ndef {name}(x: int) -> int:\n"
    helper += "    SIZE_ = [_step for _step in [x]]  # local\n    return _step(x) + SIZE_[0]\n"
    text = package(
        "from PACK.one import one\nfrom PACK.two import two",
        "one(users) + two(users)",
        one=helper.format(size=1, name="one"),
        two=helper.format(size=10, name="two"),
    )
    scope: dict[str, object] = {"__name__": "bundled"}
    exec(compile(text, "bundled", "exec", dont_inherit=True), scope)
    assert scope["one"](1) == 3  # type: ignore[operator]
    assert scope["two"](1) == 12  # type: ignore[operator]


def test_a_helper_that_two_modules_define_is_there_once_and_before_use(package: Callable[..., str]) -> None:
    """And one that is called as something that another module imports keeps apart from it."""
    helper = "def _half(x: float) -> float:\n    return x / 2\n\n\n"
    text = package(
        "from PACK.one import one\nfrom PACK.two import two",
        "one(users) + two(users)",
        one=f"from math import floor\n\n\n{helper}SIZE = _half(6.0)\n\n\ndef one(x):\n    return floor(x) + SIZE\n",
        two=f"{helper}def floor(x):\n    return _half(x)\n\n\ndef two(x):\n    return floor(x)\n",
    )
    scope: dict[str, object] = {"__name__": "bundled"}
    exec(compile(text, "bundled", "exec", dont_inherit=True), scope)
    assert text.count("def _half(") == 1
    assert (scope["one"](2.5), scope["two"](2.5)) == (5.0, 1.25)  # type: ignore[operator]


def test_names_in_f_strings_are_told_apart_too(package: Callable[..., str]) -> None:
    helper = 'WORD = "{word}"\n\n\ndef {word}(x: int) -> str:\n    return f"{{WORD}} {{x:>{{len(WORD)}}}}"\n'
    text = package(
        "from PACK.one import one\nfrom PACK.three import three",
        "one(users) + three(users)",
        one=helper.format(word="one"),
        three=helper.format(word="three"),
    )
    scope: dict[str, object] = {"__name__": "bundled"}
    exec(compile(text, "bundled", "exec", dont_inherit=True), scope)
    assert (scope["one"](1), scope["three"](1)) == ("one   1", "three     1")  # type: ignore[operator]


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
        ("", "list[int](users)", "list[...] at run time needs 3.9"),
    ],
)
def test_what_cannot_be_sent_names_its_line(imports: str, body: str, words: str, package: Callable[..., str]) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        package(imports, body, one="def lazy(x):\n    import polars\n    return polars.Series(x)\n")


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
