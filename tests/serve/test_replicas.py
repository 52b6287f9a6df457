"""What a replica hands on to the writer, and how it tells that it lags."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fastapi import Request, Response
from fastapi.testclient import TestClient
from refusals import check_refused
from service_calls import answering, serving
from small_recommender import NOW, begin
from starlette.types import Message, Receive, Scope, Send
from waiting import held_calls, until

from recbole_signed.ids_and_times import order_of_hashes
from recbole_signed.live import Event
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.catalogue import Catalogue
from recbole_signed.live.serve.problems import ProblemError
from recbole_signed.live.serve.replicas import HANDED_ON, Forwarder

DELETE = {"type": "http", "method": "DELETE", "path": "/", "raw_path": b"/", "query_string": b"", "headers": []}


class Writer:
    """Notes the targets of requests, as they come, and from whom; none is answered while ``go_on`` is not set."""

    def __init__(self) -> None:
        self.address = ""
        self.targets: list[str] = []
        self.callers: list[str | None] = []
        self.go_on = threading.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        self.targets.append(
            f"{scope['raw_path'].decode()}{'?' * bool(request.url.query)}{scope['query_string'].decode()}"
        )
        self.callers.append(request.headers.get("X-Forwarded-For"))
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)
        await Response()(scope, receive, send)


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    with answering(made) as made.address:
        yield made


@pytest.mark.parametrize(
    "target",
    [
        "/v1/users/a%2520b",
        "/v1/users/a%20b",
        "/v1/users/jos%C3%A9",
        "/v1/users/a%25b",
        "/v1/users/alice%3Fwork",
        "/v1/users/u/verdicts/a%2526b?sign=dislike&note=a%26b%2520c",
    ],
)
def test_a_request_is_handed_on_to_the_target_that_it_came_with(writer: Writer, target: str) -> None:
    forwarder = Forwarder(writer.address)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await forwarder.send(Request(scope, receive))
        await response(scope, receive, send)

    caller = TestClient(app, client=("192.0.2.7", 50_000))
    assert caller.delete(target, headers={"X-Forwarded-For": "198.51.100.1"}).status_code == 200
    assert writer.targets == [target]
    assert writer.callers == ["192.0.2.7"]  # as the replica knows it: the header is for its proxy


def test_a_client_that_goes_away_within_its_body_is_no_error_of_the_replica(writer: Writer) -> None:
    forwarder = Forwarder(writer.address)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ProblemError) as refused:
        asyncio.run(forwarder.send(Request(DELETE, receive)))
    assert refused.value.status_code == 400
    assert writer.targets == []


def test_requests_that_wait_for_a_slow_writer_are_bounded(writer: Writer) -> None:
    writer.go_on.clear()
    forwarder = Forwarder(writer.address, wait=0.5)

    async def one() -> int:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        try:
            return (await forwarder.send(Request(DELETE, receive))).status_code
        except ProblemError as refused:
            return refused.status_code

    async def ask() -> list[int]:
        asked = [asyncio.create_task(one()) for _ in range(HANDED_ON + 5)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.2)
        writer.go_on.set()
        return await asyncio.gather(*asked)

    assert sorted(asyncio.run(ask())) == [*[200] * HANDED_ON, *[503] * 5]
    assert len(writer.targets) == HANDED_ON


def test_what_the_writer_answers_is_counted_by_the_writer_alone(tmp_path: Path, writer: Writer) -> None:
    def counted(address: str) -> dict[tuple[str, str], float]:
        TestClient(make_app(engine, writer=address)).delete("/v1/users/u1")
        samples = [each for family in engine.telemetry.requests.collect() for each in family.samples]
        named = [each for each in samples if each.name.endswith("_count")]
        return {(each.labels["route"], each.labels["status"]): each.value for each in named}

    begin(tmp_path / "state").close()
    with serving(OnlineReplica(tmp_path / "state"), tmp_path / "state") as client:
        engine = client.engine  # type: ignore[attr-defined]
        assert counted(writer.address) == {}
        assert writer.targets == ["/v1/users/u1"]
        assert counted("http://127.0.0.1:9") == {("other", "503"): 1}  # nobody answers there


def test_a_replica_whose_looks_do_not_end_tells_its_lag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "state").close()
    replica = OnlineReplica(tmp_path / "state")
    stalled, go_on = held_calls(monkeypatch, replica, "follow")
    with serving(replica, limits={"lag": 1e-6}) as client:
        engine = client.engine  # type: ignore[attr-defined]
        try:
            assert stalled.wait(60)
            started = time.monotonic()
            assert time.monotonic() - started <= engine.lag
            assert any("behind the log" in reason for reason in engine.reasons_not_ready())
        finally:
            go_on.set()
        until(lambda: engine.follower.looked >= started, 60)
        assert engine.lag < time.monotonic() - started


def test_a_replica_follows_the_catalogue_for_any_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "state").close()
    monkeypatch.setattr("recbole_signed.live.serve.answers.SECOND", 0.0)
    reads = serving(OnlineReplica(tmp_path / "state"), tmp_path / "state")
    with reads as client, closing(Catalogue(tmp_path / "state" / "catalogue.sqlite")) as written:
        engine = client.engine  # type: ignore[attr-defined]
        item = engine.popular(1).items[0][0]
        written.put(item, ["new"])
        assert (engine.item(item).withdrawn, engine.item(item).tags) == (False, ["new"])
        written.put(item, ["newer"])
        assert [name for name, _ in engine.session([], 3, tags=["newer"]).items] == [item]
        written.put_names({item: "Heat"})
        assert engine.item(item).name == "Heat"


def test_a_replica_measures_less_than_its_writer_and_ranks_equal_trends_alike(tmp_path: Path) -> None:
    """Each item is liked at the same moments, by users in another order."""
    recommender = begin(tmp_path / "state")
    names, n = [f"new{i}" for i in range(9)], 30
    for at in range(n):
        events = [
            Event(f"{name}-{at}", f"u{(at * 7 + 11 * i) % n + 1}", name, "like", NOW + at * 100_003)
            for i, name in enumerate(names)
        ]
        recommender.update(events)
    recommender.snapshot()
    with serving(recommender) as one, serving(OnlineReplica(tmp_path / "state")) as other:
        writer, follower = one.engine, other.engine  # type: ignore[attr-defined]
        lists = [[item for item, _ in each.popular(9, "trending").items] for each in (writer, follower)]
        wanted = [names[place] for place in order_of_hashes(names)]
        assert lists == [wanted, wanted]
        assert writer.gauges().keys() - follower.gauges().keys() == {
            "unknown_item_share", "dislikes_per_impression", "alert_unknown_items", "alert_dislike_rate",
            "pending_erasures", "pending_erasure_seconds",
        }  # fmt: skip


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "redis://a", "http://", "http://a:99999", "http://a b"])
def test_what_is_no_address_of_a_writer_is_refused(address: str) -> None:
    check_refused("is not an address", Forwarder, address)


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/v1/experiments/x/report", True),
        ("GET", "/v1/items/report", False),
        ("GET", "/api/recommend/report", False),
        ("POST", "/v1/recommendations", False),
        ("DELETE", "/v1/users/report", True),
    ],
)
def test_what_a_replica_hands_on(method: str, path: str, wanted: bool) -> None:
    assert Forwarder(None).wants({"method": method, "path": path}) is wanted
