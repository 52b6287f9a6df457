"""Metrics that a user registers, and values per user."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from math import log2
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command_line import outcome
from prepared import new_trainer
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict, smaller_metrics
from refusals import check_refused

import recbole_signed
from recbole_signed.convert import convert
from recbole_signed.errors import UsageError
from recbole_signed.evaluation import group_metrics, metrics, sign_aware_metrics
from recbole_signed.evaluation.metrics import PooledNDCG
from recbole_signed.lab.significance import significance
from recbole_signed.plugin import registry
from recbole_signed.runs import TableSpec
from recbole_signed.runs.metric_columns import metric_column

METRIC = """
import numpy as np
import recbole_signed
from recbole_signed.evaluation import metrics

@recbole_signed.register_metric
class FirstDislikes(metrics.SignedTopkMetric):
    smaller = True

    def metric_info(self, held):
        return (np.cumsum(held.dislike, axis=1) > 0).astype(np.float64)
"""
TABLE = """
datasets: [toy-signed]
models: [Pop, EASE]
columns: [firstdislikes@5]
common: {metrics: [NDCG, FirstDislikes], topk: [5], valid_metric: FirstDislikes@5, state: ERROR}
"""
SCRIPT = """
import json
import recbole_signed as rs
import own
from recbole_signed.lab.tuning import Plan

asked = {"metrics": ["NDCG", "FirstDislikes"], "topk": [5], "valid_metric": "FirstDislikes@5", "state": "ERROR"}
done = rs.compare("t.yaml")
tuning = rs.tune("EASE", "toy-signed", overrides={**asked, "metric_decimal_place": 4}, seed=2020, plan=Plan(2))
print(json.dumps({
    "run": rs.run("Pop", "toy-signed", overrides=asked, seed=2020, save=False).test,
    "reasons": [row.reason for row in done.rows],
    "table": done.frame().set_index("model")["test.firstdislikes@5"].to_dict(),
    "header": [(column.header, column.smaller) for column in done.table.columns[:1]],
    "new": rs.compare("t.yaml").n_new,
    "trials": [trial.state for trial in tuning.trials],
}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    convert("toy", None, tmp_path / "atomic_files")
    for name, text in {"own.py": METRIC, "t.yaml": TABLE, "script.py": SCRIPT}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def result(*words: str) -> str:
    paths = {"PYTHONPATH": str(Path(recbole_signed.__file__).parents[1])}
    done = subprocess.run([sys.executable, *words], env={**os.environ, **paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_metric_of_ones_own_is_in_runs_tables_and_searches(folder: Path) -> None:
    found = json.loads(result("script.py"))
    assert found["reasons"] == [None, None]
    assert found["table"]["Pop"] == found["run"]["firstdislikes@5"] < found["table"]["EASE"]
    assert found["header"] == [["FirstDislikes@5", True]]
    assert (found["new"], found["trials"]) == (0, ["complete", "complete"])
    Path("own.py").write_text(f"{METRIC}\n# another version\n", encoding="utf-8")
    rows = json.loads(result("-m", "recbole_signed", "compare", "t.yaml", "--import", "own.py", "--json"))
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert len(Path("t.jsonl").read_text(encoding="utf-8").splitlines()) == 4, "rows of other code are no answer"


@pytest.fixture
def registered() -> Iterator[str]:
    """Register a metric that is defined in the script."""
    kind = type("OfTheScript", (metrics.DislikeHit,), {"__module__": "__main__"})
    assert recbole_signed.register_metric(kind) is recbole_signed.register_metric(kind)
    yield kind.__name__
    del registry.own_metrics[kind.__name__], metrics_dict[kind.__name__.lower()]


def test_what_a_process_would_not_know_is_refused_before_it_starts(folder: Path, registered: str) -> None:
    assert metric_column("ofthescript@5").header == "OfTheScript@5"
    plain = TABLE.replace("columns: [firstdislikes@5]", "columns: [ndcg@5]")
    for text, said in (
        (
            plain.replace("FirstDislikes", registered),
            "Pop on toy-signed: the metric OfTheScript is defined in the script",
        ),
        (plain.replace(", FirstDislikes]", "]").replace("FirstDislikes", "Recal"), "'Recal'; did you mean 'Recall'"),
        (
            plain.replace("FirstDislikes", "Own"),
            r"Pop on toy-signed: there is no metric named 'Own'; .*--import FILE.py",
        ),
        (TABLE, r"Pop on toy-signed: there is no metric named 'FirstDislikes'; did you mean"),
    ):
        (folder / "t.yaml").write_text(text, encoding="utf-8")
        for finished in (False, True):  # in a table of rows that are there it would have no direction
            check_refused(said, recbole_signed.compare, "t.yaml", finished=finished)
        check_refused(said, significance, "t.yaml")
    assert not Path("runs").exists(), "no log of a run"


@pytest.mark.parametrize(
    ("column", "remedy"),
    [
        ("train_cpu", r"the column 'train_cpu' is a cost of a run; name it under 'costs'\."),
        ("recal@5", "the column 'recal@5' is not evaluated for Pop: there is no metric named 'recal'; did you"),
        ("mrr@5", "the column 'mrr@5' is not evaluated for Pop: add mrr to 'metrics'"),
    ],
)
def test_the_remedy_for_a_column_works(folder: Path, column: str, remedy: str) -> None:
    (folder / "t.yaml").write_text(TABLE.replace("firstdislikes@5", column), encoding="utf-8")
    with pytest.raises(UsageError, match=remedy):
        list(TableSpec.read(folder / "t.yaml").requests())


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.py", None, "none.py is not a Python file that can be imported"),
        ("bad.py", "import nowhere", r"bad.py can't be imported \(ModuleNotFoundError: No module named 'nowhere'\)"),
        ("json.py", "", "json.py has the name of another module"),
        ("wrong.py", "import recbole_signed\nrecbole_signed.register_metric(int)", "<class 'int'> is not a class of a"),
    ],
)
def test_a_file_that_can_not_be_imported_is_refused(
    name: str, text: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    if text is not None:
        Path(name).write_text(text, encoding="utf-8")
    status, _, err = outcome(capsys, "models", "--import", name)
    assert status == 2
    assert re.search(said, err)


def test_the_names_that_are_known_without_torch_are_those_of_the_metrics() -> None:
    ours = (
        metrics.METRICS, sign_aware_metrics.SIGN_AWARE_METRICS, group_metrics.GROUP_METRICS,
        group_metrics.COLD_METRICS, metrics.POOLED_METRICS,
    )  # fmt: skip
    assert sorted(registry.OWN_METRICS) == sorted(name for kind in ours for name in kind)
    registry.check_metrics(metrics_dict)


def test_a_metric_of_another_shape_is_refused() -> None:
    class OfUsers(metrics.SignedTopkMetric):
        def metric_info(self, held: metrics.HeldOut) -> np.ndarray:
            return held.like.sum(axis=1)

    found = DataStruct()
    found.set(metrics.VERDICTS, torch.tensor([[1, 0, 1, 1], [0, 2, 1, 1]]))
    metric = OfUsers({"topk": [2], "metric_decimal_place": 4})
    check_refused(
        r"metric_info of OfUsers returns an array of the shape \(2,\); it must be \(2, 2\)", metric.per_user, found
    )


def test_a_ratio_of_means_by_a_name_of_its_own() -> None:
    hits, n_likes = [[1, 0, 1], [0, 0, 0], [0, 1, 0]], [5, 1, 2]
    found = DataStruct()
    found.set("rec.topk", torch.tensor([[*row, n] for row, n in zip(hits, n_likes, strict=True)]))
    values = PooledNDCG({"topk": [1, 3], "metric_decimal_place": 6}).calculate_metric(found)
    discount = [1 / log2(rank + 1) for rank in (1, 2, 3)]
    gained = discount[0] + discount[2] + discount[1]
    possible = sum(sum(discount[: min(3, n)]) for n in n_likes)
    assert values == {
        "pooledndcg@1": pytest.approx(1 / 3, abs=1e-6),
        "pooledndcg@3": pytest.approx(gained / possible, abs=1e-6),
    }
    assert metrics_dict["pooledndcg"] is PooledNDCG
    assert "pooledndcg" not in smaller_metrics
    kind: type[AbstractMetric] = type("NDCG", (metrics.DislikeHit,), {"__module__": "elsewhere"})
    check_refused(r"there is a metric NDCG in recbole.evaluator.metrics already", recbole_signed.register_metric, kind)


METRICS = ["Recall", "NDCG", "MRR", "MAP", "Hit", "Precision", "GAUC", "AveragePopularity", "ItemCoverage"]
SIGNED = ["DislikeRecall", "DislikeHit", "DislikeNDCG", "DislikeShare", "DeltaRecall", "DeltaNDCG", "SignAUC"]
NOT_PER_USER = {"gauc", "itemcoverage"}


def evaluated(tmp_path: Path, settings: dict[str, Any], model: str = "Pop") -> SimpleNamespace:
    """Fit a model on the planted set and evaluate it twice with a record and once more without."""
    from recbole.data import data_preparation

    from recbole_signed.evaluation.collector import recorded
    from recbole_signed.runs.runner import configured_data

    convert("toy", None, tmp_path / "atomic_files")
    common = {"state": "ERROR", "metric_decimal_place": 12, "topk": [3, 10], "eval_batch_size": 500, "epochs": 1}
    config, data = configured_data(model, "toy-signed", (), {**common, **settings})
    parts = train, _, test = data_preparation(config, data)
    trainer = new_trainer(config, parts)
    trainer.fit(train, saved=False)
    before = dict(vars(trainer.eval_collector)), dict(vars(trainer.evaluator))
    with recorded(trainer) as seen:
        trainer.evaluate(test, load_best_model=False)  # of several, the last one counts
        result = trainer.evaluate(test, load_best_model=False)
    after = dict(vars(trainer.eval_collector)), dict(vars(trainer.evaluator))
    assert [set(each) for each in before] == [set(each) for each in after], "nothing stays on the trainer"
    values, users = seen.values(), seen.users()
    again = trainer.evaluate(test, load_best_model=False)
    assert again.keys() == result.keys(), "taking the values leaves the metrics as they are"
    assert np.array_equal(seen.users(), users), "a later evaluation is not recorded"
    return SimpleNamespace(
        result=dict(result), values=values, users=users, test=test, model=trainer.model, config=config
    )


def means(found: SimpleNamespace) -> dict[str, float]:
    return {key: float(np.nanmean(value)) for key, value in found.values.items()}


def test_their_means_are_the_results_of_signed_data(tmp_path: Path) -> None:
    found = evaluated(tmp_path, {"metrics": [*METRICS, *SIGNED], "valid_metric": "NDCG@10"}, "EASE")
    expected = {key: value for key, value in found.result.items() if key.partition("@")[0] not in NOT_PER_USER}
    assert len(expected) == 2 * (len(METRICS) - 2 + len(SIGNED) - 1) + 1
    assert means(found) == pytest.approx(expected, abs=1e-9)
    assert len(found.users) > 20
    assert all(len(value) == len(found.users) for value in found.values.values())


@pytest.mark.parametrize("extra", [{}, {"SIGN_FIELD": None}], ids=["signed", "unsigned"])
def test_they_belong_to_their_users(tmp_path: Path, extra: dict[str, Any]) -> None:
    settings = {"metrics": ["Recall"], "valid_metric": "Recall@10", "eval_batch_size": 400, **extra}
    found = evaluated(tmp_path, settings, "EASE")
    recalls: dict[int, float] = {}
    batches = 0
    for interaction, history, like_u, like_i in found.test:
        batches += 1
        users = interaction["user_id"].tolist()
        scores = found.model.full_sort_predict(interaction).view(len(users), -1).clone()
        scores[:, 0] = -torch.inf
        if history is not None:
            scores[history] = -torch.inf
        top = scores.topk(3, dim=1).indices.tolist()
        for row, user in enumerate(users):
            likes = like_i[like_u == row].tolist()
            recalls[user] = len(set(likes) & set(top[row])) / len(likes)
    assert batches > 1
    assert len(set(recalls.values())) > 1
    assert dict(zip(found.users.tolist(), found.values["recall@3"], strict=True)) == pytest.approx(recalls)


def test_sampled_candidates_have_one_row_per_user_too(tmp_path: Path) -> None:
    settings = {"SIGN_FIELD": None, "eval_args": {"mode": "uni5"}, "metrics": ["Recall", "NDCG"], "topk": [3, 10]}
    found = evaluated(tmp_path, {**settings, "valid_metric": "NDCG@3"})
    assert means(found) == pytest.approx(found.result, abs=1e-9)
    held_out = found.test._dataset.inter_feat["user_id"].numpy()
    assert np.array_equal(np.sort(found.users), np.unique(held_out))


def test_rows_that_are_no_users_have_no_values(tmp_path: Path) -> None:
    from recbole_signed.evaluation.collector import Recorded

    assert evaluated(tmp_path, {"metrics": ["Recall"], "valid_metric": "Recall@3"}).values
    asked = {"recall": SimpleNamespace()}
    assert Recorded("user_id", asked, [torch.tensor([1, 2, 1])], struct=object()).values() == {}
    assert Recorded("user_id", asked).values() == {}, "nothing was evaluated"
