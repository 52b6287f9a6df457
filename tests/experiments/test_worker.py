import contextlib
import copy
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recbole_signed.graph import eigenvectors
from recbole_signed.lab.tuning.task import Task, answer
from recbole_signed.runs import run, runner

SETTINGS = {"state": "ERROR", "valid_metric": "NDCG@10", "metric_decimal_place": 6}
GRADIENT = {**SETTINGS, "epochs": 4, "eval_step": 1, "embedding_size": 8}


def served(task: Task, trials: list[dict[str, Any]], going: Iterable[bool] = ()) -> list[dict[str, Any]]:
    """Return what a worker says to these trials; the answers to its scores come from ``going``."""
    said: list[dict[str, Any]] = []
    rest, answers = iter(trials), iter(going)

    def receive() -> dict[str, Any]:
        if said and "score" in said[-1]:
            return {"go": next(answers)}
        for values in rest:
            return {"values": values}
        raise EOFError

    connection: Any = SimpleNamespace(recv=receive, send=lambda document: said.append(copy.deepcopy(document)))
    with contextlib.suppress(EOFError):
        answer(connection, task)
    return said


def test_a_trial_is_a_run_without_its_test_part(toy: str) -> None:
    task = Task("EASE", toy, settings=SETTINGS, seed=5)
    ready, one, other, again = served(task, [{"reg_weight": 3.0}, {"reg_weight": 300.0}, {"reg_weight": 3.0}])
    assert ready == {"ready": True}
    rows = [each["row"] for each in (one, other, again)]
    assert [row.test for row in rows] == [{}, {}, {}]
    assert rows[0].valid == rows[2].valid != rows[1].valid
    for row, weight in zip(rows, (3.0, 300.0), strict=False):
        whole = run("EASE", toy, overrides={**SETTINGS, "reg_weight": weight}, seed=5, save=False)
        assert row.valid == whole.valid
        assert row.config_hash == whole.config_hash
        assert row.data_sha256 == whole.data_sha256
    assert not list(Path("runs").glob("*.pth"))


@pytest.mark.parametrize(("budget", "decompositions"), [({}, 1), ({"training_budget": 100.0}, 3)])
def test_what_does_not_enter_the_matrix_is_tuned_on_one_decomposition(
    toy: str, budget: dict[str, float], decompositions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def counted(matrix: Any, k: int) -> Any:
        found.append(k)
        return decompose(matrix, k)

    decompose = eigenvectors._gram_eigenvectors
    monkeypatch.setattr(eigenvectors, "_gram_eigenvectors", counted)
    task = Task("GFCF", toy, settings={**SETTINGS, "eval_step": 1, "rank": 4, **budget}, seed=5)
    said = served(task, [{"alpha": each} for each in (0.1, 1.0, 10.0)], going=[True] * 3)
    rows = [each["row"] for each in said if "row" in each]
    assert len(found) == decompositions
    overrides = {**SETTINGS, "eval_step": 1, "rank": 4, "alpha": 10.0}
    assert rows[2].valid == run("GFCF", toy, overrides=overrides, seed=5, save=False).valid


def test_gradients_are_the_same_as_in_a_run_of_its_own(toy: str) -> None:
    said = served(Task("BPR", toy, settings=GRADIENT, seed=5), [{}, {"learning_rate": 0.01}], going=[True] * 8)
    first, second = (each["row"] for each in said if "row" in each)
    assert first.valid == run("BPR", toy, overrides=GRADIENT, seed=5, save=False).valid
    faster = run("BPR", toy, overrides={**GRADIENT, "learning_rate": 0.01}, seed=5, save=False)
    assert second.valid == faster.valid
    scores = [each["score"] for each in said if "score" in each][:4]
    assert [epoch for epoch, _ in scores] == [1, 2, 3, 4]
    assert max(score for _, score in scores) == first.valid["ndcg@10"]
    steps, seconds = ([each[key] for each in said if "score" in each][:4] for key in ("steps", "cpu_seconds"))
    assert steps == [steps[0] * number for number in range(1, 5)]
    assert 0 < seconds[0] < seconds[-1]


def test_trials_end_where_they_are_told_and_say_why_they_fail(toy: str) -> None:
    said = served(Task("BPR", toy, settings=GRADIENT), [{}, {}], going=[True, False, True, True, True, True])
    assert [next(iter(each)) for each in said] == ["ready", *["score"] * 2, "pruned", *["score"] * 4, "row"]
    assert not list(Path("runs").glob("*.pth"))
    said = served(Task("EASE", toy, settings=SETTINGS), [{"reg_weight": "much"}, {"reg_weight": 3.0}])
    assert said[1]["failed"].startswith("UsageError: 'reg_weight' is 'much'; it must be a number")
    assert said[2]["row"].valid


def test_files_are_read_once_and_again_where_the_data_is_another(toy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, create = [], runner.create_dataset
    monkeypatch.setattr(runner, "create_dataset", lambda config: read.append(config) or create(config))
    trials = [{"reg_weight": 3.0}, {"reg_weight": 30.0}, {"neutral_weight": 0.5}, {"neutral_weight": 0.5}]
    said = served(Task("SignedEASE", toy, settings=SETTINGS), trials)
    assert len(read) == 2
    assert said[1]["row"].valid != said[2]["row"].valid
    assert said[3]["row"].valid == said[4]["row"].valid
