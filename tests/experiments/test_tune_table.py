"""Tuning what a table wants tuned, with workers that are scripts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted import scripted_trials

from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.lab.tuning import Plan, task, tune_table
from recbole_signed.lab.tuning.result import Tuning
from recbole_signed.lab.tuning.search import tune
from recbole_signed.runs import TableSpec
from recbole_signed.runs.tuned import read_tuned

TRIAL = "def trial(values): row(values.get('reg_weight', 0.0))"
TABLE: dict[str, Any] = {
    "datasets": {"toy-signed": {"training_budget": 9}, "late": {"dataset": "toy-signed", "tuned": "by-time"}},
    "common": {"tuned": True, "valid_metric": "NDCG@10", "state": "ERROR"},
    "models": {
        "Pop": {},
        "SSF": {"tuned": False},
        "EASE": {"start": {"reg_weight": 777.0}},
        "again": {"model": "EASE"},
        "BPR": {"embedding_size": 8, "per_dataset": {"late": {"start": {"learning_rate": 0.05}}}},
    },
    "seeds": [1, 2],
}


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    convert("toy", None, tmp_path / "atomic_files")
    spaces = {
        "EASE": "reg_weight: {log_uniform: [1, 1000]}",
        "BPR": "learning_rate: [0.001, 0.01, 0.05]",
        "SSF": "rank: [4]",
    }
    for model, space in spaces.items():
        file = Path("yaml/tune") / f"{model}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(space, encoding="utf-8")
    monkeypatch.setattr(task, "answer", partial(scripted_trials, TRIAL))
    path = tmp_path / "table.yaml"
    path.write_text(yaml.safe_dump(TABLE, sort_keys=False), encoding="utf-8")
    return path


def done(*given: Any, **plan: Any) -> dict[str, Tuning]:
    return {str(each.file): each for each in tune_table(str(given[0]), Plan(**{"trials": 3, **plan}), *given[1:])}


def test_what_a_table_wants_tuned_is_tuned_once_where_it_looks_for_it(table: Path) -> None:
    found = done(table, budget=2.0)
    assert list(found) == [
        f"yaml/model/{name}/{model}.yaml" for name in ("toy-signed", "by-time") for model in ("EASE", "BPR")
    ]
    assert all(len(each.trials) == 3 for each in found.values())
    requests = [each for each in TableSpec.read(table).requests() if each.model == "EASE"]
    assert {each.settings["reg_weight"] for each in requests} == {777.0}  # the best of three: the second trial
    assert not any("start" in each.settings or "tuned" in each.settings for each in requests)
    assert done(table, budget=2.0)["yaml/model/by-time/EASE.yaml"].n_new == 0


def test_the_search_begins_where_the_table_says_and_its_other_keys_are_fixed(table: Path) -> None:
    found = done(table)
    assert [each.values for each in found["yaml/model/toy-signed/EASE.yaml"].trials[:2]] == [{}, {"reg_weight": 777.0}]
    early, late = (found[f"yaml/model/{name}/BPR.yaml"] for name in ("toy-signed", "by-time"))
    assert late.trials[1].values == {"learning_rate": 0.05}
    assert early.start == {}
    assert early.values["embedding_size"] == 8
    how = read_tuned(early.file).how
    assert how["training_budget"] == 9
    assert "--start" not in how["command"]
    assert "--start learning_rate=0.05" in read_tuned(late.file).how["command"]
    assert done(table, budget=2.0)["yaml/model/toy-signed/BPR.yaml"].facts.fixed["training_budget"] == 2.0


def test_of_two_rows_with_one_file_the_one_that_is_not_tuned_is_named(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    content["models"]["wide"] = {"model": "BPR", "embedding_size": 16}
    content["models"]["own"] = {"model": "BPR", "embedding_size": 32, "tuned": "own"}
    table.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    found = done(table, ["BPR", "wide", "own"], ["toy-signed"])
    assert list(found) == ["yaml/model/toy-signed/BPR.yaml", "yaml/model/own/BPR.yaml"]
    assert [each.values["embedding_size"] for each in found.values()] == [8, 32]
    told = "'wide' on toy-signed is not tuned: it takes what is chosen for 'BPR' on toy-signed, as both are BPR"
    assert [told in each.getMessage() for each in caplog.records if "not tuned" in each.getMessage()] == [True]
    assert "'tuned: NAME' gives it one of its own" in caplog.text


def test_models_and_data_sets_may_be_chosen(table: Path) -> None:
    assert list(done(table, ["BPR"], ["late"], 5)) == ["yaml/model/by-time/BPR.yaml"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((["Pop", "SSF"],), "wants none of these models tuned: write 'tuned: true'"),
        (([], ["early"]), "has no data set 'early'; it has toy-signed, late."),
        ((["BPF"],), "the table has no model 'BPF'; it has Pop, SSF, EASE, again, BPR; did you mean 'BPR'?"),
    ],
)
def test_a_wrong_wish_is_one_sentence(given: tuple[Any, ...], said: str, table: Path) -> None:
    with pytest.raises(UsageError) as error:
        done(table, *given)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ({"reg_weight": 0.5}, "the search can't start where it never goes: yaml/tune/EASE.yaml does not have"),
        ({"rank": 3}, "the search can't start with 'rank', which yaml/tune/EASE.yaml does not vary"),
    ],
)
def test_a_start_outside_the_space_is_refused(start: dict[str, Any], said: str, table: Path) -> None:
    with pytest.raises(UsageError) as error:
        tune("EASE", "toy-signed", overrides={"valid_metric": "NDCG@10", "state": "ERROR"}, plan=Plan(2), start=start)
    assert said in str(error.value)


def test_a_start_that_a_setting_overrides_is_refused(table: Path) -> None:
    Path("yaml/tune/EASE.yaml").write_text("reg_weight: [1.0, 2.0]\nlearner: [adam, sgd]\n", encoding="utf-8")
    settings = {"valid_metric": "NDCG@10", "state": "ERROR", "reg_weight": 2.0}
    with pytest.raises(UsageError, match=r"can't start with reg_weight=1\.0: reg_weight is set to 2\.0"):
        tune("EASE", "toy-signed", (), settings, None, Plan(2), {"reg_weight": 1.0, "learner": "sgd"})
    tuning = tune("EASE", "toy-signed", (), settings, None, Plan(2), {"learner": "sgd"})
    assert [each.values for each in tuning.trials] == [{}, {"learner": "sgd"}]
