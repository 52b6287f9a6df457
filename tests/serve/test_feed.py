"""Services that follow one stream become the same, also after one of them was away."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from redis_server import redis_server
from small_recommender import NOW, begin

from recbole_signed.online import OnlineRecommender
from recbole_signed.serve import Engine, ServeSettings, make_app


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture
def service(tmp_path: Path, url: str) -> Iterator[Callable[[str], TestClient]]:
    begin(tmp_path / "origin").close()
    opened: list[Any] = []

    def make(name: str) -> TestClient:
        if not (tmp_path / name).exists():
            shutil.copytree(tmp_path / "origin", tmp_path / name)
        trainer = OnlineRecommender.open(tmp_path / name)
        settings = ServeSettings.model_validate({"source": f"{url}?stream=events&group={name}"})
        engine = Engine(trainer, settings, folder=tmp_path / name)
        opened.append((engine, trainer))
        client = TestClient(make_app(engine))
        client.stop = lambda: (engine.close(), trainer.close(), opened.remove((engine, trainer)))  # type: ignore[attr-defined]
        return client

    yield make
    for engine, trainer in opened:
        engine.close()
        trainer.close()


def lists(client: TestClient, seq: int) -> list[list[tuple[str, float]]]:
    """The lists of all users once ``seq`` is reflected."""
    deadline = time.monotonic() + 60
    while client.get("/readyz").json()["seq"] < seq and time.monotonic() < deadline:
        time.sleep(0.02)
    found = []
    for user in range(1, 41):
        answer = client.get(f"/v1/users/u{user}/recommendations?k=10").json()
        assert answer["seq"] == seq
        found.append([(each["item"], each["score"]) for each in answer["items"]])
    return found


def test_two_services_follow_one_stream(service: Callable[[str], TestClient], url: str) -> None:
    import redis

    stream = redis.Redis.from_url(url)

    def add(first: int, last: int) -> None:
        for n in range(first, last):
            kind = "dislike" if n % 3 else "like"
            fields = {"user_id": f"u{n % 40 + 1}", "item_id": f"i{n * 7 % 30 + 1}", "type": kind}
            stream.xadd("events", {"event_id": f"e{n}", "timestamp": NOW + n, **fields})

    one, two = service("one"), service("two")
    before = one.get("/v1/users/u1/recommendations?k=10").json()["items"]
    add(0, 200)
    stream.xadd("events", {"user_id": "u1", "type": "adore"})  # no event; it holds nobody up
    same = lists(one, 200)
    assert same == lists(two, 200)
    assert same[0] != [(each["item"], each["score"]) for each in before]
    two.stop()  # type: ignore[attr-defined]
    add(200, 260)
    again = lists(one, 260)
    assert lists(service("two"), 260) == again
    refused = one.post("/v1/events", json={"events": [{"user_id": "u1", "item_id": "i1", "type": "like"}]})
    assert (refused.status_code, "from the stream" in refused.json()["detail"]) == (409, True)
    assert one.get("/readyz").json()["ready"]
