"""The user review's list of tracebacks, and its silent wrongs on the command line: each ends in one sentence."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError

RUN = ("run", "-m", "SGCN", "-d", "toy-signed")
BRIEF = ("epochs=1", "--no-save")


@pytest.fixture
def said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that is refused, and return its sentence."""
    convert("toy", None, tmp_path / "atomic_files")

    def run(*words: str, status: int = 2) -> str:
        with pytest.raises(SystemExit) as exit_:
            cli.main(list(words))
        err = capfd.readouterr().err
        assert exit_.value.code == status, err
        assert "Traceback" not in err
        last = err.splitlines()[-1] if err else ""
        assert status != 2 or last.startswith("recbole-signed: "), err
        return last

    return run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "-1"], "seed is -1"),
        (["--seed", "99999999999999"], "seed is 99999999999999"),
        (["training_budget=abc"], "training_budget is 'abc'"),
        (["weight_decay=-1"], "weight_decay is -1"),
        (["worker=-1"], "worker is -1"),
        (["epochs=2.7"], "epochs is 2.7"),
        (["metrics=[]"], "metrics is empty"),
        (["embedding_size=0"], "embedding_size is 0"),
        (["nproc=2"], "nproc is 2"),
        (["resume=nothing.pth"], "there is no file nothing.pth"),
        (["resume=cut.pth"], "cut.pth can't be read as a checkpoint"),
        (["-c", "noise.yaml"], "noise.yaml is not valid yaml"),
        (["-c", "empty.yaml", "user_inter_num_interval=[1000,inf)"], "check the filtering settings"),
        (["checkpoint_dir=empty.yaml"], "empty.yaml"),
        (["--per-user", "folder"], "folder"),
        (["eval_args.split={RS: [.5, .5, -.1]}"], "the ratios of the split RS are"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_runs_that_are_refused(words: list[str], sentence: str, said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04" + bytes(50))
    (tmp_path / "noise.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert sentence in said(*RUN, *words, *(() if "epochs" in sentence else ("epochs=1",)))
    left = {path.name for path in tmp_path.iterdir()} - {*before, "log", "log_tensorboard", "runs"}
    assert not left


def test_a_checkpoint_of_another_size_is_refused(said: Callable[..., str]) -> None:
    said(*RUN, "epochs=1", "embedding_size=8", "checkpoint_dir=saved", status=0)
    (file,) = Path("saved").glob("*.pth")
    assert "other sizes" in said(*RUN, "epochs=2", f"resume={file}", "embedding_size=16")


@pytest.mark.parametrize(("model", "module"), [("NCL", "faiss"), ("XGBoost", "xgboost")])
def test_a_model_without_its_library_names_it(
    model: str, module: str, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"'{module}'" in said("run", "-m", model, "-d", "toy-signed", *BRIEF)


def test_a_full_disk_leaves_no_half_checkpoint(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: Any, path: Any, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(torch, "save", full)
    assert "No space left on device" in said(*RUN, "epochs=1", "checkpoint_dir=saved")
    assert not list(Path("saved").glob("*"))


def test_explain_refuses_what_is_no_id(prepare_model: Callable[..., Any]) -> None:
    model, *_ = prepare_model("SSF", auto=False, rank=4)
    model.fit()
    for user, item in ((1.5, 2), ("196", "50"), (1, None), (True, 1)):
        with pytest.raises(UsageError, match="ids are whole numbers"):
            model.explain(user, item)
    model.explain(1, 2)


def test_a_model_that_is_not_there_is_refused(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed import register_model
    from recbole_signed.plugin import registry

    monkeypatch.setattr(registry._registry, "models", dict(registry._registry.models))
    register_model("NowhereModel", "module_that_does_not_exist")
    assert "module_that_does_not_exist" in said("run", "-m", "NowhereModel", "-d", "toy-signed")


def test_a_model_without_a_loss_is_refused(
    said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from recbole_signed import register_model
    from recbole_signed.plugin import registry

    (tmp_path / "half_a_model.py").write_text(
        "import torch\n"
        "from recbole_signed.model import SignedRecommender\n"
        "class HalfModel(SignedRecommender):\n"
        "    def __init__(self, config, dataset):\n"
        "        super().__init__(config, dataset)\n"
        "        self.weight = torch.nn.Parameter(torch.zeros(1))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry._registry, "models", dict(registry._registry.models))
    register_model("HalfModel", "half_a_model")
    assert "HalfModel has no loss()" in said("run", "-m", "HalfModel", "-d", "toy-signed")


@pytest.mark.parametrize(
    "words", [("http://127.0.0.1:9", "--key", "k\u12ea"), ("http://127.0.0.1:9", "--key", "a\nb"), ("http://a:99999",)]
)
def test_addresses_and_keys_that_no_request_can_have(words: tuple[str, ...], said: Callable[..., str]) -> None:
    assert "is not an address" in (sentence := said("simulate", *words)) or "the API key" in sentence


@pytest.mark.parametrize("model", ["FM", "LR", "DSSM"])
def test_models_of_values_say_what_they_need(model: str, said: Callable[..., str]) -> None:
    """User review 11."""
    assert "Traceback" not in said("run", "-m", model, "-d", "toy-signed", *BRIEF)


def test_evaluation_on_samples_says_what_it_leaves_out(said: Callable[..., str], capfd: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main([*RUN, *BRIEF, "eval_args.mode=uni100"])
    assert "dislike" in capfd.readouterr().err


def test_an_interval_needs_no_quotes() -> None:
    """User review 12."""
    from recbole_signed.experiments.runs import parse_assignments

    assert parse_assignments(["user_inter_num_interval=[5,inf)"]) == {"user_inter_num_interval": "[5,inf)"}
    assert parse_assignments(["item_inter_num_interval=[5,100]"]) == {"item_inter_num_interval": "[5,100]"}


def test_users_who_have_all_items_are_named(said: Callable[..., str], write_inter: Callable[..., Path]) -> None:
    rows = [(user, item) for user in range(8) for item in range(30 if user else 29)]
    write_inter("whole", ["user_id:token", "item_id:token"], rows)
    assert "interacted with all items" in said("run", "-m", "BPR", "-d", "whole", "data_path=dataset", "--no-save")
