"""Settings, files and values that a command refuses: each ends in one sentence, without a traceback."""

import errno
import json
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from command_line import check_command_refused, outcome

import recbole_signed as rs
from recbole_signed.cli import app as cli
from recbole_signed.errors import TRACEBACK, outside_cause

RUN = ("run", "-m", "SGCN", "-d", "toy-signed")
BRIEF = ("epochs=1", "--no-save")


@pytest.fixture
def said(toy: str, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that is refused, beside the planted set, and return its sentence."""

    def run(*words: str, status: int = 2) -> str:
        ended, _, err = outcome(capfd, *words)
        assert (ended, "Traceback" in err) == (status, False), err
        last = err.splitlines()[-1] if err else ""
        assert status != 2 or last.startswith("recbole-signed: "), err
        return last

    return run


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "-1"], "seed is -1"),
        (["embedding_size=0"], "embedding_size is 0"),
        (["nproc=2"], "nproc is 2"),
        (["resume=nothing.pth"], "there is no file nothing.pth"),
        (["resume=cut.pth"], "cut.pth can't be read as a checkpoint"),
        (["-c", "noise.yaml"], "noise.yaml is not valid yaml"),
        (["-c", "empty.yaml", "user_inter_num_interval=[1000,inf)"], "check the filtering settings"),
        (["checkpoint_dir=empty.yaml"], "empty.yaml"),
        (["--per-user", "folder"], "folder"),
    ],
    ids=lambda each: each if isinstance(each, str) else None,
)
def test_runs_that_are_refused(words: list[str], sentence: str, said: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04" + bytes(50))
    (tmp_path / "noise.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert sentence in said(*RUN, *words, "epochs=1")
    left = {path.name for path in tmp_path.iterdir()} - {*before, "log", "log_tensorboard", "runs"}
    assert not left


def test_a_checkpoint_of_another_size_and_words_that_are_no_text(said: Callable[..., str]) -> None:
    said(*RUN, "epochs=1", "embedding_size=8", "checkpoint_dir=saved", status=0)
    (file,) = Path("saved").glob("*.pth")
    assert "other sizes" in said(*RUN, "epochs=2", f"resume={file}", "embedding_size=16")
    assert "is not text in UTF-8" in said("stats", "caf\udce9", "--json")
    assert len(said("stats", "x" * 100_000)) < 2000


@pytest.mark.parametrize(("model", "module"), [("NCL", "faiss"), ("XGBoost", "xgboost")])
def test_missing_libraries(model: str, module: str, said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert f"'{module}'" in said("run", "-m", model, "-d", "toy-signed", *BRIEF)


def test_a_full_disk_leaves_no_half_checkpoint(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: Any, path: Any, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(torch, "save", full)
    assert "No space left on device" in said(*RUN, "epochs=1", "checkpoint_dir=saved")
    assert not list(Path("saved").glob("*"))


def test_no_loss_is_refused(said: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    monkeypatch.setattr(registry, "registered", dict(registry.registered))
    rs.register_model("HalfModel", "half_a_model")
    assert "HalfModel has no loss()" in said("run", "-m", "HalfModel", "-d", "toy-signed")


@pytest.mark.parametrize("model", ["FM", "LR", "DSSM"])
def test_models_of_values_say_what_they_need(model: str, said: Callable[..., str]) -> None:
    assert "Traceback" not in said("run", "-m", model, "-d", "toy-signed", *BRIEF)


def test_evaluation_on_samples_and_users_who_have_all_items(
    said: Callable[..., str], capfd: Any, write_inter: Callable[..., Path]
) -> None:
    assert "dislike" in outcome(capfd, *RUN, *BRIEF, "eval_args.mode=uni100")[2]
    rows = [(user, item) for user in range(8) for item in range(30 if user else 29)]
    write_inter("whole", ["user_id:token", "item_id:token"], rows)
    assert "interacted with all items" in said("run", "-m", "BPR", "-d", "whole", "data_path=dataset", "--no-save")


@pytest.mark.parametrize(
    ("models", "datasets", "more", "sentence"),
    [
        ("[Pop]", "{a: {dataset: 0.5}}", "", "a: 'dataset' must be a name, but is 0.5"),
        ("[Pop]", "{a: {dataset: ../b}}", "", "'../b' is not the name of a data set"),
        ("[Pop]", "{toy-signed: {data_path: [1]}}", "", "data_path is [1]"),
        ("[Pop]", "{toy-signed: {eval_args: {order: 2020-01-01}}}", "", "toy-signed: 'eval_args"),
        ("{Pop: {model: [Pop]}}", "[toy-signed]", "", "Pop: 'model' must be a valid string"),
        ("{Pop: {start: 3}}", "[toy-signed]", "", "Pop: 'start' must be a mapping of the keys"),
        ("{Pop: {tuned: ..}}", "[toy-signed]", "", "Pop: 'tuned' is '..'"),
        ("{Pop: {tuned: {name: a/b, data: c}}}", "[toy-signed]", "", "Pop: 'tuned' is"),
        ("{Pop: {per_dataset: {toy-signed: {start: 1}}}}", "[toy-signed]", "", "'per_dataset.toy-signed.start' must"),
        ("[SSF]", "[toy-signed]", "common: {eval_args: 3, topk: 5}", "the column 'recall@10' is not evaluated"),
        ("[Pop]", "[toy-signed]", "common: {metrics: {a: 1}}", "Pop: 'metrics' must be"),
        ("[Pop]", "[toy-signed]", "common: {topk: [x]}", "Pop: 'topk' must be"),
        ("[Pop]", "[toy-signed]", "common: {1: 2}", "must be a valid string, but is 1"),
        ("[Pop]", "[toy-signed]", "columns: ['recall@\u00b2']", "the column 'recall@\u00b2' must read like"),
        ("[Pop]", "[toy-signed]", 'extends: "\\0"', "has a character that no text in UTF-8 or file name holds"),
    ],
)
def test_a_table_with_a_value_of_another_type(
    said: Callable[..., str], models: str, datasets: str, more: str, sentence: str
) -> None:
    Path("table.yaml").write_text(f"models: {models}\ndatasets: {datasets}\n{more}\n", encoding="utf-8")
    assert sentence in said("compare", "table.yaml")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("dataset", "../toy-signed", "is not the name of a data set"),
        ("dataset", "5", "'dataset' must be a valid string"),
        ("windows", "-5", "windows is -5"),
        ("windows", "9999999999", "windows is 9999999999"),
        ("windows", "'\u00b2d'", "windows is '\u00b2d'"),
        ("windows", "[1]", "windows is [1]"),
        ("max_windows", "0", "'max_windows' must be a whole number above 0"),
        ("freshness", "['\u00b2s']", "'freshness' holds '\u00b2s'"),
        ("seed", "-1", "'seed' must be a whole number"),
        ("models", "{SSF: {settings: {a: {18: 1, null: 2}}}}", "the model 'SSF': 'settings.a"),
        ("models", "{SSF: {settings: {a: 2020-01-01}}}", "the model 'SSF': 'settings.a"),
        ("models", "{SSF: {settings: {rank: null}, arms: [online]}}", "rank is None; it must be a whole number"),
        ("models", "{SSF: {settings: {rank: 4.5}, arms: [online]}}", "rank is 4.5; it must be a whole number"),
        ("models", "{BPR: {settings: {refresh_steps: x}, arms: [online]}}", "BPR can't follow a stream with"),
        ("models", "{EASE: {settings: {reg_weight: [1]}, arms: [online]}}", "'reg_weight' is [1]; it must be a number"),
    ],
)
def test_a_stream_with_a_value_of_another_type(said: Callable[..., str], key: str, value: str, sentence: str) -> None:
    content = {"title": "t", "dataset": "toy-signed", "cut": "0.5", "windows": "10", "models": "[Pop]", key: value}
    Path("stream.yaml").write_text("".join(f"{name}: {each}\n" for name, each in content.items()), encoding="utf-8")
    assert sentence in said("replay", "stream.yaml")


REFUSED = {
    "fit": "No such command 'fit'; '",
    "rum": "rum",
    "state list": " state --help' lists them.",
    "run -m BPRR -d toy-signed": "there is no model named 'BPRR'; did you mean 'BPR'?",
    "run -m OwnModel -d toy-signed": "no model named 'OwnModel'; 'recbole-signed models' lists",
    "run -m BPR -d toy-signd": "there is no data set 'toy-signd'",
    "run -m BPR -d toy-signed metrics=[Recal]": "did you mean 'Recall'?",
    "run -m BPR -d toy-signed learnin_rate=1": "did you mean 'learning_rate'?",
    "run -m BPR -d toy-signed --sede 3": "run has no option '--sede'; did you mean '--seed'?",
    "run -m BPR -d toy-signed --epochs 3": "training is given as epochs=3.",
    "run -m BPR -d toy-signed --epochs": "training is given as epochs=VALUE.",
    "run -m BPR -d toy-signed epochs": "expected key=value, got 'epochs'",
    "run -m BPR -d toy-signed -c tab.yaml": "tab.yaml is not valid yaml: line 2 has a tab",
    "run -m BPR -d toy-signed -c no.yaml": "can't read no.yaml",
    "run -m BPR -d toy-signed data_path=no/where": "data_path is 'no/where', but there is no such",
    "run -m BPR -d toy-signed --seed x": "--seed",
    "run -m BPR": "--dataset",
    "run -m Pop -d toy-signed --per-user . epochs=1 --no-save": "Is a directory",
    "stats nothing": "there is no data set 'nothing' in dataset or atomic_files",
    "stats nothing --data-path .": "there is no data set 'nothing' in . ('recbole-signed convert'",
    "stats toy-singed": "did you mean 'toy-signed'?",
    "stats ../toy-signed": "is not the name of a data set",
    "data accept ../atomic_files/toy-signed": "there is no data set",
    "convert": "convert needs a source",
    "convert csw": "did you mean 'csv'?",
    "convert cvs --list": "did you mean 'csv'",
    "convert toy seed": "expected option=value or --option value, got 'seed'",
    "convert toy seed=1 seed=2": "'seed' is given twice",
    "convert csv like=a --like b": "'like' is given twice",
    "convert csv --input rated.csv --like": "got '--like'",
    "convert csv --input rated.csv --like --time": "got '--like'",
    "convert csv ratings.csv like=a": "got 'ratings.csv'; the file is given as --input ratings.csv.",
    "convert csv input=ratings.csv": "convert takes no input=; give --input PATH.",
    "convert csv output=out": "convert takes no output=; give --output FOLDER.",
    "convert csv name=mine": "convert takes no name=; give --name NAME.",
    "convert csv overwrite=true": "convert takes no overwrite=; give --overwrite.",
    "convert csv source=csv": "convert takes no source=; give the source as the first word.",
    "compare no.yaml": "can't read no.yaml",
    "compare t.yaml --format html": "--format is 'html'",
    "tune -m SSF -d toy-signed --name ..": "--name is '..'",
    "tune -m EASE": "say what to tune: a model (-m) on a data set (-d), or a table (--table).",
    "tune -m Pop -d toy-signed": "there is no yaml/tune/Pop.yaml",
    "tune --table t.yaml epochs=3": "KEY=VALUE cannot be combined with --table",
    "tune --table t.yaml --start epochs=3": "--start cannot be combined with --table",
    "synth -e 300 --name ../x": "--name is '../x'",
    "synth -e 300 --name .": "--name is '.'",
    "synth -e 10k --name a:b": "can't be the name of a data set",
    "synth -p movielens": "no profile 'movielens'",
    "synth -e many": "--edges is 'many'; write it like 250k, 10M",
    "synth -e 9k": "9,000 edges were asked for",
    "synth -e 10k --format csv": "--format is 'csv'",
    "experiment report a --state nothing": "nothing holds no online state",
    "experiment power --rate 0.5 --effect nan --impressions 1": "power needs a rate in (0, 1)",
    "experiment power --rate 0.5 --effect 1e-320 --impressions 1": "no number of users is enough",
    "experiment power --rate 0.5 --effect 0.1 --impressions inf": "power needs a rate in (0, 1)",
    "experiment power --rate 0.5 --effect 0.1 --impressions 9 --users-per-day nan": "--users-per-day is nan",
    "simulate ftp://x": "is not an address",
    "simulate http://127.0.0.1:1": "does not answer",
    "simulate http://127.0.0.1:1 --seed -1": "--seed",
    "simulate http://127.0.0.1:9 --key k\u12ea": "the API key",
    "simulate http://127.0.0.1:9 --key 'a\nb'": "the API key",
    "api-key boss --keys keys": "no role 'boss'",
    "serve": "needs --state",
    "serve --demo --init SSF": "--demo brings its own",
    "serve --demo --names title": "leave out --init, --dataset and --names",
    "serve --state x --init SSF": "go together",
    "serve --state x rank=3": "given with --init",
    "serve --state x --names title": "--names goes with --init; PUT /v1/items/ID names",
    "serve --state x --init SSF data_path=y": "serve takes no data_path=; give --dataset, the name",
    "serve --state x --init SSF -d y model=z": "serve takes no model=; give --init MODEL",
    "serve --state x --init SSF -i y -d z": "two kinds of data for --init",
    "serve --state x --init SSF -i y": "There is no input y",
    "serve --state x --init SSF -i y items=z": "serve takes no items=; give --items FILE",
    "serve --state x --items y": "--items goes with --input",
    "serve --state x --init SSF -d z --model y": "--model takes a fitted one",
    "serve --state x --model y": "there is no file y",
    "serve --state nowhere": "holds no online state",
    "serve --state nowhere --host 0.0.0.0": "without API keys",
    "serve --state x --writer http://y": "give --follow too",
}
"""Words that a command refuses, and what it says of them."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the planted set and a wrong file; no command that is refused changes it."""
    folder = tmp_path_factory.mktemp("place")
    rs.convert("toy", None, folder / "atomic_files")
    (folder / "tab.yaml").write_text("sign_rule:\n\tlike: 'rating >= 4'\n")
    return folder


@pytest.mark.parametrize(("words", "sentence"), REFUSED.items())
def test_words_that_are_refused(
    words: str, sentence: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    status, out, err = outcome(capfd, *shlex.split(words))
    last = err.splitlines()[-1]
    assert (status, out, last.startswith("recbole-signed: "), "Traceback" in err) == (2, "", True, False)
    assert sentence in last
    if not words.startswith("serve"):  # which has no result to print
        status, out, err = outcome(capfd, *shlex.split(words), "--json")
        assert (status, json.loads(out)["error"]) == (2, err.splitlines()[-1].removeprefix("recbole-signed: "))
        assert sentence in json.loads(out)["error"]
    assert {each.name for each in place.iterdir()} <= {"atomic_files", "tab.yaml", "log", "log_tensorboard", "runs"}


def test_a_wrong_separator_is_named(said: Callable[..., str], tmp_path: Path) -> None:
    hint = "that looks like several columns: read the file with the separator ';'."
    file = tmp_path / "a.csv"
    file.write_text("user;item;rating\na;x;5\n", encoding="utf-8")
    words = ("convert", "csv", "-i", str(file), "separator=comma", "like=rating >= 4")
    assert hint in said(*words)
    assert hint in said(*words, "user=user", "item=item")
    file.write_text("user;item;rating;a,b,c,d\na;x;5;1,2,3,4\n", encoding="utf-8")
    assert hint in said("convert", "csv", "-i", str(file), "like=rating >= 4")
    folder = Path("dataset") / "semicolons"
    folder.mkdir(parents=True)
    (folder / "semicolons.inter").write_text("user_id:token;item_id:token;sign:float\na;x;1\n", encoding="utf-8")
    expected = (
        r"must name columns as 'name:type', with '\t' between them (field_separator), but has 'user_id:token;item_id"
    )
    assert expected in said("run", "-m", "SSF", "-d", "semicolons")


def test_arguments_of_other_types_are_named(tmp_path: Path) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: rs.convert("toy", None, None), "output is of type NoneType; give a path"),
        (lambda: rs.convert("csv", 5, tmp_path), "input is of type int; give a path"),
        (lambda: rs.convert(["toy"], None, tmp_path), "the source is of type list; give a name"),
        (lambda: rs.convert("toy", None, tmp_path, overwrite="no"), "overwrite is 'no'; give True or False."),
        (lambda: rs.replay(5), "file is of type int; give a path"),
        (lambda: rs.run("SSF", "toy-signed", 5), "config_files is 5; give a list of yaml files"),
        (lambda: rs.run("SSF", "toy-signed", overrides=["rank=8"]), "overrides is ['rank=8']; give a mapping"),
        (lambda: rs.run(dict, "toy-signed"), "the class dict is not a RecBole model"),
        (lambda: rs.fit("SSF", "no/folder"), "/no/folder; give the name or folder of a data set."),
        (lambda: rs.fit("SSF", ""), "holds no .inter file"),
    ]
    for call, sentence in calls:
        with pytest.raises(rs.UsageError, match=re.escape(sentence)):
            call()


FAILING = ("run", "-m", "SGCN", "hidden=3", "-c", "a.yaml")


@pytest.mark.parametrize(
    ("error", "words", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a.pth"),
            ("convert",),
            "the file system refuses runs/a",
        ),
        (PermissionError(errno.EACCES, "Permission denied", b"runs"), ("stats",), "refuses runs: Permission denied."),
        (OSError(errno.ENOSPC, "No space left on device"), ("stats",), "refuses to write: No space left on device"),
        (OSError("No space left on device (os error 28)"), ("convert",), "refuses to write: No space left on device"),
        (
            pl.exceptions.ComputeError("underlying IO error: No space left on device (os error 28)"),
            ("recommend",),
            "refuses to write: No space left on device; make room.",
        ),
        (MemoryError("Unable to allocate 8 TiB"), ("synth",), "not enough memory (Unable to allocate 8 TiB)"),
        (RuntimeError("[enforce fail] can't allocate memory: you tried 8 TB"), ("models",), "not enough memory"),
        (ModuleNotFoundError("No module named 'faiss'", name="faiss"), ("run",), "needs the Python module 'faiss'"),
        (KeyError("nproc"), FAILING, "KeyError ('nproc') under the settings hidden=3 of a.yaml; correct them"),
        (ImportError("please install wandb"), ("run", "log_wandb=True"), "ImportError (please install wandb) under"),
        # faults of this package
        (ZeroDivisionError(), ("models",), None),
        (KeyError("nproc"), ("run", "-m", "SGCN"), None),
        (OSError("no number"), ("stats",), None),
        (RuntimeError("No space left on device (os error 28)"), ("stats",), None),
        (ModuleNotFoundError("No module", name="recbole_signed.nowhere"), ("run",), None),
    ],
)
def test_causes_outside(error: Exception, words: tuple[str, ...], said: str | None) -> None:
    sentence = outside_cause(error, words)
    assert (sentence is None) is (said is None)
    assert said is None or said in str(sentence)


def test_the_traceback_can_be_had(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise MemoryError

    monkeypatch.setattr("recbole_signed.cli.app.list_models", broken)
    check_command_refused("not enough memory", capsys, "models")
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(MemoryError):
        cli.main(["models"])
