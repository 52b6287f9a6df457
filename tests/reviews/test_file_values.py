"""Values of any type in yaml files, and crafted files beside data, models and states: each ends in one sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_recommender import begin
from test_damage import CRAFTED

from recbole_signed.cli import app as cli
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.experiments.replay import StreamSpec
from recbole_signed.experiments.runs import parse_assignments, read_yaml
from recbole_signed.experiments.tables import TableSpec
from recbole_signed.files import replace_text
from recbole_signed.online.learners import make_learner


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that is refused, and return its sentence."""
    convert("toy", None, tmp_path / "atomic_files")

    def run(*words: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            cli.main(list(words))
        err = capfd.readouterr().err
        assert exit_.value.code == 2, err
        assert "Traceback" not in err
        return err.splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ("models", "datasets", "more", "sentence"),
    [
        ("[Pop]", "{a: {dataset: 0.5}}", "", "a: 'dataset' must be a name, but is 0.5"),
        ("[Pop]", "{toy-signed: {pool: [1]}}", "", "toy-signed: 'pool' must be a name"),
        ("[Pop]", "{a: {dataset: ../b}}", "", "'../b' is not the name of a data set"),
        ("[Pop]", "{toy-signed: {data_path: [1]}}", "", "data_path is [1]"),
        ("[Pop]", "{toy-signed: {eval_args: {order: 2020-01-01}}}", "", "toy-signed: 'eval_args"),
        ("{Pop: {model: [Pop]}}", "[toy-signed]", "", "Pop: 'model' must be a valid string"),
        ("{Pop: {start: 3}}", "[toy-signed]", "", "Pop: 'start' must be a mapping of the keys"),
        ("{Pop: {tuned: 5}}", "[toy-signed]", "", "Pop: 'tuned' is 5"),
        ("{Pop: {tuned: ..}}", "[toy-signed]", "", "Pop: 'tuned' is '..'"),
        ("{Pop: {tuned: {name: a/b, data: c}}}", "[toy-signed]", "", "Pop: 'tuned' is"),
        ("{Pop: {seeds: [1, x]}}", "[toy-signed]", "", "Pop: 'seeds' must be different whole numbers"),
        ("{Pop: {per_dataset: {toy-signed: true}}}", "[toy-signed]", "", "Pop: 'per_dataset' must be a mapping"),
        ("{Pop: {per_dataset: {toy-signed: {start: 1}}}}", "[toy-signed]", "", "'per_dataset.toy-signed.start' must"),
        ("[SSF]", "[toy-signed]", "common: {eval_args: 3, topk: 5}", "the column 'recall@10' is not evaluated"),
        ("[Pop]", "[toy-signed]", "common: {metrics: {a: 1}}", "Pop: 'metrics' must be"),
        ("[Pop]", "[toy-signed]", "common: {topk: [x]}", "Pop: 'topk' must be"),
        ("[Pop]", "[toy-signed]", "common: {1: 2}", "must be a valid string, but is 1"),
        ("[Pop]", "[toy-signed]", "columns: ['recall@\u00b2']", "the column 'recall@\u00b2' must read like"),
        ("[Pop]", "[toy-signed]", 'extends: "\\0"', "has a character that no text in UTF-8 or file name holds"),
        ("[Pop]", "[toy-signed]", "extends: [a]", "can't read"),
    ],
)
def test_a_table_with_a_value_of_another_type(
    refused: Callable[..., str], models: str, datasets: str, more: str, sentence: str
) -> None:
    Path("table.yaml").write_text(f"models: {models}\ndatasets: {datasets}\n{more}\n", encoding="utf-8")
    assert sentence in refused("compare", "table.yaml")


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
def test_a_stream_with_a_value_of_another_type(
    refused: Callable[..., str], key: str, value: str, sentence: str
) -> None:
    content = {"title": "t", "dataset": "toy-signed", "cut": "0.5", "windows": "10", "models": "[Pop]", key: value}
    Path("stream.yaml").write_text("".join(f"{name}: {each}\n" for name, each in content.items()), encoding="utf-8")
    assert sentence in refused("replay", "stream.yaml")


ALIASES = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        'a: "\\0"', 'a: "\\ud800"', '"\\0": 1', "a: 99999999999999999999", "a: &a [*a]", "a: !!int x", "a: !!bool x",
        "a: !!set [a]", "a: !!timestamp x", "a: !!map 3", "a: 0b_", f"a: {'9' * 5000}", "a: 2020-13-41", ALIASES,
    ],
)  # fmt: skip
def test_yaml_that_holds_no_values(tmp_path: Path, text: str) -> None:
    """What PyYAML fails on with other errors than its own, and a text that grows a billion times when it is read."""
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid yaml"):
        read_yaml(tmp_path / "file.yaml")
    with pytest.raises(UsageError, match="is not valid yaml"):
        parse_assignments([f"key={{{text}}}" if "\n" not in text else f"key={text}"])


def test_yaml_with_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("a: &a {b: 1}\nc: {<<: *a, d: 18446744073709551615}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "file.yaml") == {"a": {"b": 1}, "c": {"b": 1, "d": 2**64 - 1}}


def test_words_that_are_no_text_are_refused(refused: Callable[..., str]) -> None:
    assert "is not text in UTF-8" in refused("stats", "caf\udce9", "--json")
    assert len(refused("stats", "x" * 100_000)) < 2000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("experiment power --rate 0.5 --effect nan --impressions 1", "power needs a rate in (0, 1)"),
        ("experiment power --rate 0.5 --effect 1e-320 --impressions 1", "no number of users is enough"),
        ("experiment power --rate 0.5 --effect 0.1 --impressions inf", "power needs a rate in (0, 1)"),
        (
            "experiment power --rate 0.5 --effect 0.1 --impressions 9 --users-per-day nan --json",
            "--users-per-day is nan",
        ),
        ("synth -e 300 --name ../x", "--name is '../x'"),
        ("synth -e 300 --name .", "--name is '.'"),
        ("stats ../toy-signed", "is not the name of a data set"),
        ("data accept ../atomic_files/toy-signed", "there is no data set"),
        ("tune -m SSF -d toy-signed --name ..", "--name is '..'"),
        ("run -m Pop -d toy-signed --per-user . epochs=1 --no-save", "Is a directory"),
    ],
)
def test_words_out_of_range(refused: Callable[..., str], words: str, sentence: str) -> None:
    assert sentence in refused(*words.split())


def test_a_file_of_bytes_and_a_folder_in_the_place_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(bytes(range(256)))
    replace_text(tmp_path / "text", "new")
    assert (tmp_path / "text").read_text() == "new"
    for path in (tmp_path, Path(".")):
        with pytest.raises(IsADirectoryError):
            replace_text(path, "new")


@pytest.mark.parametrize("what", list(CRAFTED))
def test_crafted_versions_are_listed(tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    begin(tmp_path / "state").close()
    CRAFTED[what](tmp_path / "state" / "versions" / "v000001")
    with pytest.raises(SystemExit) as exit_:
        cli.main(["state", "versions", "list", str(tmp_path / "state"), "--json"])
    assert exit_.value.code == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "v000001"


def test_r17_a_saved_model_does_not_expand_without_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_signed.api import load
    from recbole_signed.convert import raw_files

    monkeypatch.setattr(raw_files, "MAX_EXPANDED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb.rs", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("recbole-signed.json", '{"format": 1}')
        archive.writestr("data/a/a.inter", bytes(40 << 20))
    with pytest.raises(UsageError, match="more than 200 times its size"):
        load(tmp_path / "bomb.rs")


@pytest.mark.parametrize("head", ["[]", "{}", "3", '{"format": [1]}', "nonsense"])
def test_a_saved_model_with_another_head(tmp_path: Path, head: str) -> None:
    from recbole_signed.api import load

    with zipfile.ZipFile(tmp_path / "model.rs", "w") as archive:
        archive.writestr("recbole-signed.json", head)
    with pytest.raises(UsageError, match=r"model\.rs"):
        load(tmp_path / "model.rs")


@pytest.mark.parametrize("value", [None, "x", float("nan"), 4.5, float("inf"), [4]])
def test_a_parameter_that_is_no_whole_number(value: Any) -> None:
    with pytest.raises(UsageError, match=r"rank is .*; it must be a whole number"):
        make_learner("SSF", {"rank": value})


def test_specifications_read_what_they_should(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "models: {Pop: {seeds: 3, per_dataset: {a: ~, b: {tuned: {data: c}}}}}\n"
        "datasets: {a: {pool: p}, b: {tuned: {name: d}}}\ncommon: {tuned: false, start: {x: 1}}\n"
    )
    assert TableSpec.read(tmp_path / "t.yaml").pools() == {"p": ["a"], "b": ["b"]}
    (tmp_path / "s.yaml").write_text("title: t\ndataset: d\ncut: 0.5\nwindows: 6h\nmodels: [Pop]\nmax_windows: 3\n")
    assert StreamSpec.read(tmp_path / "s.yaml").windows == "6h"
