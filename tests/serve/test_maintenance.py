"""Maintenance runs what is due, and a failure is told and tried again."""

import contextlib
import logging
import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_calls import check_problem, items, send
from waiting import held_calls, until

from recbole_signed.live import Event, OnlineRecommender
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.experiments import Experiments
from recbole_signed.live.serve.keys import ApiKeys, make_key
from recbole_signed.live.serve.maintenance import Maintenance
from recbole_signed.live.serve.settings import ServeSettings
from recbole_signed.live.store.backup import restore

NEVER = dict.fromkeys(("refresh", "refit", "snapshot", "compact", "backup"), 0)


def by_schedule(engine: Any, **seconds: float) -> Maintenance:
    """Return maintenance that has not begun, with the default seconds for tasks that are not named."""
    return Maintenance(engine, ServeSettings.model_validate({"schedule": seconds}).schedule)


def test_tasks_run_by_their_schedule(client: TestClient, engine: Any) -> None:
    maintenance = by_schedule(engine, refresh=0.05, refit=0.2, snapshot=0.05, compact=0)
    maintenance.start()
    send(client, "1", "2", "like")
    until(lambda: set(maintenance.rounds()) == {"refresh", "refit", "snapshot"})
    maintenance.stop()
    rounds = maintenance.rounds()
    assert all(each["error"] is None for each in rounds.values())
    assert engine.version != "SSF@0"
    done = int(engine.telemetry.total(engine.telemetry.maintenance, result="done"))
    assert done == 3  # one event, one round of each
    assert 'maintenance_total{result="done",task="refit"}' in engine.telemetry.text().decode()


def test_a_failure_keeps_the_service(client: TestClient, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(engine.recommender, "refresh", broken)
    maintenance = by_schedule(engine, refresh=86_400)
    assert maintenance.run("refresh").error == "no memory"
    assert 'maintenance_failed{task="refresh"} 1.0' in engine.telemetry.text().decode()
    assert client.get("/v1/users/1/recommendations").status_code == 200
    send(client, "1", "2", "like")
    for task, least, most in (("refresh", 0, 600), ("refit", 86_000, 86_400)):  # what failed does not wait for a day
        maintenance._round(task, asked=False)
        assert least < maintenance._due[task] - time.monotonic() <= most


def test_backups_by_schedule_hold_experiments_and_tags(serve: Callable[..., TestClient], tmp_path: Path) -> None:
    client = serve(backup=str(tmp_path / "copy"))
    engine = client.engine  # type: ignore[attr-defined]
    send(client, "1", "2", "dislike")
    maintenance = by_schedule(engine, backup=0.05)
    for _ in range(2):  # the second takes the place of the first
        assert maintenance.run("backup").error is None
    copy = OnlineRecommender.open(tmp_path / "copy")
    assert [item for item, _ in copy.recommend("1", 5)] == items(client, "1", k=5)
    copy.close()
    assert "backup" not in by_schedule(serve().engine)._tasks  # type: ignore[attr-defined]
    state = tmp_path / "state"
    client = serve(experiments=Experiments.read(state / "experiments.yaml"))
    body = {"variants": {"a": {"share": 0.5}, "b": {"share": 0.5}}, "salt": "kept"}
    client.put("/v1/experiments/test", json=body).raise_for_status()
    client.put("/v1/items/1", json={"tags": ["film"]}).raise_for_status()
    client.get("/v1/users/1/recommendations").raise_for_status()
    client.engine.recommender.back_up(tmp_path / "copy")  # type: ignore[attr-defined]
    restore(tmp_path / "copy", tmp_path / "again")
    assert Experiments.read(tmp_path / "again" / "experiments.yaml")["test"].salt == "kept"
    assert Catalogue(tmp_path / "again" / "catalogue.sqlite")["1"] == ("film",)
    assert not (tmp_path / "again" / "traffic.sqlite").exists()


def test_a_backup_needs_no_event(serve: Callable[..., TestClient], tmp_path: Path) -> None:
    engine = serve(backup=str(tmp_path / "copy")).engine  # type: ignore[attr-defined]
    (item,) = (item for item, _ in engine.recommender.recommend("1", 1))

    def copied(wanted: Callable[[], bool], **seconds: float) -> Maintenance:
        maintenance = by_schedule(engine, **seconds)
        maintenance.start()
        until(wanted)
        maintenance.stop()
        assert wanted()
        return maintenance

    first = copied((tmp_path / "copy" / "BACKUP").exists)  # daily, and none is there
    assert set(first.rounds()) == {"backup"}
    later = by_schedule(engine)  # after a restart
    assert 86_000 < later._due["backup"] - time.monotonic() <= 86_400
    engine.put_item(item, True, [])

    def withdrawn() -> bool:
        address = f"file:{tmp_path / 'copy' / 'log.sqlite'}?mode=ro"
        with (
            contextlib.suppress(sqlite3.Error),  # while a new copy takes the place of the old one
            contextlib.closing(sqlite3.connect(address, uri=True)) as log,
        ):
            return log.execute("SELECT token FROM withdrawn").fetchall() == [(item,)]
        return False

    copied(withdrawn, backup=0.05)


def test_what_comes_while_a_task_runs_is_work_for_its_next_round(client: TestClient, engine: Any) -> None:
    seen: list[int] = []

    def task() -> None:
        seen.append(engine.seq)
        if len(seen) == 1:
            send(client, "1", "2", "like")

    send(client, "1", "2", "like")
    maintenance = by_schedule(engine, **{**NEVER, "snapshot": 0.02})
    maintenance._done_at["snapshot"] = 0
    maintenance._tasks["snapshot"] = task
    for _ in range(3):
        maintenance._round("snapshot", asked=False)
    assert seen == [1, 2]


def test_failed_rounds_are_tried_again(client: TestClient, engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, tries = engine.recommender.snapshot, [MemoryError(), OSError("disk full")]

    def broken() -> str:
        if tries:
            raise tries.pop()
        return snapshot()

    monkeypatch.setattr(engine.recommender, "snapshot", broken)
    maintenance = by_schedule(engine, **{**NEVER, "snapshot": 0.02})
    send(client, "1", "2", "like")
    maintenance.start()
    total, counter = engine.telemetry.total, engine.telemetry.maintenance
    until(lambda: total(counter, result="done"), 20)
    maintenance.stop()
    assert (total(counter, result="failed"), total(counter, result="done")) == (2, 1)
    assert maintenance.rounds()["snapshot"]["error"] is None


def test_refits_delay_no_end(engine: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("recbole_signed.live.computing.LARGE", 0)
    caplog.set_level(logging.INFO)
    maintenance = by_schedule(engine)
    before = engine.recommender.scratch_time
    maintenance.start()
    maintenance.ask_for_refit()
    until(lambda: any(each.name == "fit" for each in multiprocessing.active_children()))
    maintenance.stop()  # while the new process imports what it needs
    assert "The refit was left, because the service ends." in caplog.messages
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert engine.recommender.scratch_time == before
    assert not multiprocessing.active_children()


def test_a_refit_is_asked_for(engine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    began, go_on = held_calls(monkeypatch, engine.recommender, "refit")
    keys = tmp_path / "keys"
    write, admin = (make_key(keys, role) for role in ("write", "admin"))
    maintenance = by_schedule(engine, **NEVER)
    client = TestClient(make_app(engine, ApiKeys(keys), maintenance))
    assert client.post("/v1/refit", headers={"X-API-Key": write}).status_code == 403
    client.headers["X-API-Key"] = admin
    assert client.post("/v1/refit").status_code == 503  # maintenance has not begun
    maintenance.start()
    send(client, "1", "2", "like")
    began_at = time.time()
    assert client.delete("/v1/users/1").status_code == 200
    until(lambda: client.get("/v1/status").json()["pending_erasure"]["rows"] == 0)
    left = client.get("/v1/status").json()["pending_erasure"]
    assert (left["factors"], left["reasons"]) == (1, [])
    assert began_at - 1 < left["since"] / 1000 < time.time() + 1
    waits = engine.gauges()["pending_erasure_seconds"][1]
    assert waits is not None
    assert 0 <= waits < time.time() - began_at + 1
    before = client.get("/v1/models").json()
    assert client.get("/v1/status").json()["refit"] == {"state": "idle", "since": None}
    answer = client.post("/v1/refit")
    assert answer.status_code == 202
    assert answer.json()["state"] in ("waiting", "running")
    assert abs(answer.json()["since"] - time.time()) < 20
    assert began.wait(20)
    assert client.get("/v1/status").json()["refit"]["state"] == "running"
    check_problem(client.post("/v1/refit"), 409, "a refit runs")
    go_on.set()
    until(lambda: client.get("/v1/status").json()["refit"]["state"] == "idle")
    assert client.get("/v1/status").json()["maintenance"]["refit"]["error"] is None
    assert client.get("/v1/models").json()["model"] != before["model"]
    until(lambda: client.get("/v1/status").json()["pending_erasure"]["factors"] == 0)
    maintenance.stop()
    assert client.post("/v1/refit").status_code == 503


def test_a_refit_that_waits_is_asked_for_once(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = held_calls(monkeypatch, engine.recommender, "compact")
    maintenance = by_schedule(engine, **{**NEVER, "compact": 0.01})
    engine.recommender.update([Event("e", "1", "2", "like", 1_700_000_000_000)])
    maintenance.start()
    assert began.wait(20)
    first = maintenance.ask_for_refit()
    assert first.state == "waiting"
    assert maintenance.ask_for_refit() == first
    go_on.set()
    until(lambda: maintenance.refitting.state == "idle")
    maintenance.stop()
    assert engine.telemetry.total(engine.telemetry.maintenance, task="refit", result="done") == 1


def test_a_refit_is_due_by_the_age_of_the_model_over_a_restart(engine: Any) -> None:
    engine.recommender.update([Event("e", "1", "2", "like", 1_700_000_000_000)])
    engine.recommender.scratch_time -= 80_000
    engine.recommender.snapshot()
    directory = engine.recommender.directory
    engine.recommender.close()
    engine.recommender = OnlineRecommender.open(directory)
    later = by_schedule(engine)
    assert 6_000 < later._due["refit"] - time.monotonic() <= 6_400
    assert later._has_work("refit")  # the event came before this start, and after the fit
    engine.recommender.refit().result()
    again = by_schedule(engine)
    assert 86_000 < again._due["refit"] - time.monotonic() <= 86_400
    assert not again._has_work("refit")
    engine.recommender.close()


def test_what_was_learned_from_the_forgotten_goes_without_a_new_event(engine: Any) -> None:
    engine.recommender.forget("1")
    assert engine.recommender.pending_erasure.factors == 1
    maintenance = by_schedule(engine, **{**NEVER, "refit": 0.02})  # after a restart
    maintenance.start()
    until(lambda: not engine.recommender.pending_erasure)
    maintenance.stop()
