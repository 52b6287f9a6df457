"""What the package knows of a model comes from its class: a model from outside is right in all places."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recbole.utils import ModelType, get_model

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.files import sha256
from recbole_signed.lab.upstream import upstream
from recbole_signed.live.learners import make_learner
from recbole_signed.live.learners.ssf.stream_choice import chosen_settings
from recbole_signed.plugin import registry
from recbole_signed.plugin.facts import (
    LIKES_CLOSED,
    LIKES_TRAINED,
    OURS,
    REFERENCE,
    SIGNED_CLOSED,
    STOCK,
    ModelFacts,
    class_names,
    default_file,
    display_name,
    facts_of,
    family,
    lineage,
    list_models,
)
from recbole_signed.runs import TableSpec
from recbole_signed.runs.spec import default_settings

BASE = '''
"""Tiny
################################################
A tiny model. Source: nowhere.
"""
import torch

from recbole_signed.model import TrainingFreeRecommender


class TinyBase(TrainingFreeRecommender):
    """Every item has its number as score."""

    family = "tiny family"
    source = "a paper"
    uses_dislikes = True
    learner = "outside.live:TinyLearner"
    stream_chooser = "outside.live:choose"
    export_recipe = {
        "methods": ("left_behind",),
        "attributes": ("not_upstream",),
        "note": "Something is " "left out.",
    }

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.not_upstream = 1
        self.register_buffer("kept", torch.zeros(1))

    def left_behind(self):
        return self.not_upstream

    def fit(self):
        self.kept = torch.ones(1)

    def score(self, users):
        return torch.arange(self.n_items).expand(len(users), -1) * self.kept
'''
MODEL = '''
"""Tiny
################################################
A tiny model. Source: nowhere.
"""
from outside.base import TinyBase


class Tiny(TinyBase):
    """Every item has its number as score."""
'''
LIVE = """
class TinyLearner:
    dislike_strength = 0.1

    def __init__(self, size=3):
        self.size = size


def choose(edges, n_users, n_items, given):
    return {"n_users": n_users, **given}
"""
TABLE = """
title: Tiny
datasets:
  toy-signed: {eval_args: {order: TO, split: {RS: [6, 2, 2]}}}
common: {metrics: [Recall], topk: [5], valid_metric: Recall@5}
models: {Tiny: , BPR: }
seeds: [1, 2]
columns: [recall@5]
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Register a model from a package of its own, with every attribute."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name, text in {"__init__": "", "base": BASE, "tiny": MODEL, "live": LIVE}.items():
        (folder / f"{name}.py").write_text(text.lstrip("\n"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.register_model("Tiny", "outside.tiny")
    yield "Tiny"
    del registry.registered["Tiny"]
    _forget("outside")


def _forget(package: str) -> None:
    """Let a package be imported again."""
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        del sys.modules[name]


def test_a_model_from_outside_is_right_in_all_places(tiny: str, tmp_path: Path) -> None:
    # tables and the list of models
    convert("toy", None, tmp_path / "atomic_files")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "tiny.yaml").write_text(TABLE, encoding="utf-8")
    seeds = [(each.model, each.seed) for each in TableSpec.read(tmp_path / "tables" / "tiny.yaml").requests()]
    assert seeds == [(tiny, 1), ("BPR", 1), ("BPR", 2)], "it draws nothing, and neither does the split"
    (info,) = (each for each in list_models() if each.name == tiny)
    assert (info.origin, info.family, info.source, info.uses_dislikes) == ("outside", "tiny family", "a paper", True)
    # the report
    assert family(tiny) == SIGNED_CLOSED
    # the live learners
    learner: Any = make_learner(tiny, {"size": 7, "dislike_strength": 0.3})
    assert (type(learner).__module__, learner.size, learner.dislike_strength) == ("outside.live", 7, 0.3)
    with pytest.raises(UsageError, match="Tiny has no parameter 'sizes'"):
        make_learner(tiny, {"sizes": 7})
    no_edges: Any = None
    assert chosen_settings(tiny, no_edges, 5, 6, {"size": 2}) == {"n_users": 5, "size": 2}
    # the export
    upstream(tiny, tmp_path / "export", author="A. Author", email="a.author@example.org")
    text = (tmp_path / "export/recbole/model/general_recommender/tiny.py").read_text(encoding="utf-8")
    assert "def fit" in text
    for absent in ("left_behind", "not_upstream", "export_recipe", "stream_chooser", "seedless", "TinyLearner"):
        assert absent not in text
    assert "Something is left out." in (tmp_path / f"export/CONTRIBUTION-{tiny}.md").read_text(encoding="utf-8")


def test_the_facts_are_those_of_the_classes() -> None:
    for name, entry in registry.models().items():
        model, facts = registry.load_object(f"{entry.module}:{name}"), facts_of(name)
        assert {each: getattr(model, each) for each in vars(facts)} == vars(facts)
        for what in (facts.learner, facts.stream_chooser):
            assert what is None or callable(registry.load_object(what))


def test_stock_models_have_theirs_in_one_table() -> None:
    assert (family("Pop"), family("EASE"), family("BPR"), family("SSFL")) == (
        REFERENCE,
        LIKES_CLOSED,
        LIKES_TRAINED,
        OURS,
    )
    assert set(STOCK) - {"AsymKNN"} <= {name for name, _ in registry.stock_models()}  # RecBole 1.2.0 lacks it
    assert facts_of("NeuMF") == facts_of("no such model") == ModelFacts()


def test_the_display_name_of_a_class_is_not_that_of_one_that_extends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [display_name(model) for model in ("SSFL", "SSFT", "SSF", "EASE")] == ["SSF-L", "SSF-T", "SSF", "EASE"]
    (tmp_path / "wider.py").write_text("from recbole_signed.ssf.ssfl import SSFL\n\nclass Wider(SSFL):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.registered, "Wider", registry.ModelEntry("Wider", "wider"))
    assert display_name("Wider") == "Wider"
    assert facts_of("Wider").family == facts_of("SSFL").family


def test_a_model_is_found_by_the_name_that_is_printed() -> None:
    printed = {display_name(model): model for model in registry.models() if display_name(model) != model}
    assert printed == {"SSF-L": "SSFL", "SSF-T": "SSFT"}
    for name, model in printed.items():
        assert class_names(name, name.lower(), model, "EASE") == [model, model, model, "EASE"]
    with pytest.raises(UsageError, match="no model named 'ssfl'; did you mean 'SSFL'"):  # class names are exact
        class_names("ssfl")


def test_a_model_that_cant_be_imported_has_the_defaults(tiny: str, tmp_path: Path) -> None:
    """Lists go on without it; a run of it says why."""
    (tmp_path / "outside" / "tiny.py").write_text("import no_such_module\n", encoding="utf-8")
    assert facts_of(tiny) == ModelFacts()
    assert default_file(tiny) is None


def test_the_facts_and_defaults_of_a_class_are_those_of_its_base(tiny: str) -> None:
    """And a table's runs are of the defaults that they use."""
    origin = registry.foreign_source(tiny)
    assert origin is not None
    origin.write_text("from recbole_signed.ssf import SSF as Tiny\n\n\nclass Tiny(Tiny):\n    pass\n", encoding="utf-8")
    assert facts_of(tiny) == facts_of("SSF")
    defaults = default_settings(tiny, Path("none.yaml"))
    assert defaults["model"] == default_settings("SSF", Path("none.yaml"))["model"]
    assert default_file(tiny) == registry.properties_of(registry.load_object("outside.tiny:Tiny"))
    assert list(lineage(tiny))[:3] == ["Tiny", "SSF", "TrainingFreeRecommender"]


def test_the_code_of_a_model_from_outside_is_that_of_its_base_classes_too(tiny: str, tmp_path: Path) -> None:
    def code() -> Any:
        return default_settings(tiny, Path("none.yaml"))["code"]

    before = code()
    for name, changes in {"live": False, "base": True, "tiny": True}.items():
        path = tmp_path / "outside" / f"{name}.py"
        path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        assert (code() != before) is changes
        before = code()
    path.write_text("from recbole_signed.ssf import SSF\n\n\nclass Tiny(SSF):\n    pass\n", encoding="utf-8")
    _forget("outside")
    assert code() == sha256(path), "as it was before base classes counted"
    assert "code" not in default_settings("SSF", Path("none.yaml"))


def test_the_code_of_a_model_from_outside_is_that_of_its_helpers_too(tiny: str, tmp_path: Path) -> None:
    """A table took rows that a changed helper module of the author's had made."""
    own, beside = tmp_path / "outside", tmp_path / "beside.py"
    (own / "deep").mkdir()
    for path, text in {
        own / "deep" / "__init__.py": "from ..live import choose\n",
        own / "deep" / "loss.py": "import beside\nimport json\n",
        own / "unused.py": "",
        beside: "def helper():\n    from outside import base\n",
        own / "tiny.py": "from .deep import loss\nfrom recbole_signed.ssf import SSF\n\n\nclass Tiny(SSF):\n    pass\n",
    }.items():
        path.write_text(text, encoding="utf-8")

    def code() -> Any:
        return default_settings(tiny, Path("none.yaml"))["code"]

    _forget("outside")
    known = code()
    for path in (own / "unused.py", own / "live.py", own / "deep" / "loss.py", beside, own / "base.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
        assert (code() == known) is (path.name == "unused.py"), path
        known = code()


def test_a_model_that_extends_one_of_this_package_is_exported_with_its_defaults(tiny: str, tmp_path: Path) -> None:
    origin = registry.foreign_source(tiny)
    assert origin is not None
    text = (
        '"""Tiny."""\n\nfrom recbole_signed.model.edlae import EDLAE\n\n\nclass Tiny(EDLAE):\n    """Another name."""\n'
    )
    origin.write_text(text, encoding="utf-8")
    upstream(tiny, tmp_path / "export", author="A. Author", email="a.author@example.org")
    yaml = (tmp_path / "export/recbole/properties/model/Tiny.yaml").read_text(encoding="utf-8")
    assert "reg_weight: 200.0" in yaml


def test_recboles_models_without_gradients_are_known() -> None:
    """What their scores are, and so how like rates enter them, depends on it."""
    general = [name for name, kind in registry.stock_models() if kind == "general"]
    fitted = {name for name in general if get_model(name).type == ModelType.TRADITIONAL} | {"NCEPLRec"}
    assert fitted == {name for name in general if not facts_of(name).trained_by_gradients}
