"""Maintenance runs what is due, and a failure is told and tried again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from recbole_signed.serve import Maintenance, ServeSettings


def test_tasks_run_by_their_schedule(serve: Callable[..., TestClient]) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]
    schedule = ServeSettings.model_validate(
        {"schedule": {"refresh": 0.05, "refit": 0.2, "snapshot": 0.05, "compact": 0}}
    ).schedule
    maintenance = Maintenance(engine, schedule)
    maintenance.start()
    client.post("/v1/events", json={"events": [{"user_id": "1", "item_id": "2", "type": "like"}]})
    deadline = time.monotonic() + 20
    while set(maintenance.rounds()) != {"refresh", "refit", "snapshot"} and time.monotonic() < deadline:
        time.sleep(0.02)
    maintenance.stop()
    rounds = maintenance.rounds()
    assert set(rounds) == {"refresh", "refit", "snapshot"}
    assert all(each["error"] is None for each in rounds.values())
    assert engine.version != "SSF@0"
    done = int(engine.telemetry.total(engine.telemetry.maintenance, result="done"))
    assert done == 3  # one event, one round of each
    assert 'maintenance_total{result="done",task="refit"}' in engine.telemetry.text().decode()


def test_a_failure_keeps_the_service(serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    client = serve()
    engine = client.engine  # type: ignore[attr-defined]

    def broken() -> None:
        raise RuntimeError("no memory")

    monkeypatch.setattr(engine.trainer, "refresh", broken)
    maintenance = Maintenance(engine, ServeSettings().schedule)
    assert maintenance.run("refresh").error == "no memory"
    assert 'maintenance_failed{task="refresh"} 1.0' in engine.telemetry.text().decode()
    assert client.get("/v1/users/1/recommendations").status_code == 200
