"""Services that follow one stream become the same, also after one of them was away."""

import contextlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from kafka_brokers import Brokers
from redis_server import redis_server
from service_calls import serving
from small_recommender import NOW, begin
from waiting import until

from recbole_signed.errors import UsageError
from recbole_signed.live import EventBatch, OnlineRecommender
from recbole_signed.live.events import parse_rows
from recbole_signed.live.serve import writer
from recbole_signed.live.serve.app import make_app
from recbole_signed.live.serve.engine import Engine
from recbole_signed.live.serve.writer import Feed
from recbole_signed.live.sources import EventSource
from recbole_signed.live.sources.source import Polled


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


class Stream:
    """A stream of events; ``address`` is that of a group, and ``rewind`` puts one to the start."""

    def __init__(
        self, address: str, add: Callable[[dict[str, Any]], None], rewind: Callable[[str], None] = lambda _: None
    ) -> None:
        self.address, self.add, self.rewind = address, add, rewind


@pytest.fixture(params=["redis", "kafka"])
def stream(request: pytest.FixtureRequest) -> Iterator[Stream]:
    if request.param == "kafka":
        brokers, turn = Brokers(), itertools.count()
        brokers.send("events", b"{}")  # a topic comes to be with its first message
        address = f"kafka://{brokers.address}/events?group="
        yield Stream(address, lambda row: brokers.send("events", row, partition=next(turn) % 4))
        brokers.close()
        return
    import redis

    url = request.getfixturevalue("url")
    client = redis.Redis.from_url(url)
    client.flushall()
    yield Stream(
        f"{url}?stream=events&group=",
        lambda row: client.xadd("events", row),
        lambda group: client.xgroup_setid("events", group, 0),
    )


@pytest.fixture
def service(tmp_path: Path, stream: Stream) -> Iterator[Callable[[str], TestClient]]:
    begin(tmp_path / "origin").close()
    with contextlib.ExitStack() as running:

        def make(name: str) -> TestClient:
            if not (tmp_path / name).exists():
                shutil.copytree(tmp_path / "origin", tmp_path / name)
            own, opened = running.enter_context(contextlib.ExitStack()), OnlineRecommender.open(tmp_path / name)
            client = own.enter_context(serving(opened, tmp_path / name, source=f"{stream.address}{name}"))
            client.stop = own.close  # type: ignore[attr-defined]
            return client

        yield make


def lists(client: TestClient, seq: int) -> list[list[tuple[str, float]]]:
    """The lists of all users once ``seq`` is reflected."""
    until(lambda: client.get("/readyz").json()["seq"] >= seq, 60)
    found = []
    for user in range(1, 41):
        answer = client.get(f"/v1/users/u{user}/recommendations?k=10").json()
        assert answer["seq"] == seq
        found.append([(each["item"], each["score"]) for each in answer["items"]])
    return found


def test_a_misspelt_field_of_a_stream_is_told_others_pass(service: Callable[[str], TestClient], stream: Stream) -> None:
    one = service("one")
    row = {"user_id": "u1", "item_id": "i1", "type": "dislike"}
    stream.add({**row, "timestmap": NOW, "session": "a"})
    stream.add({**row, "eventid": "e1", "timestamp": NOW})
    stream.add({**row, "timestamp": NOW, "session": "a"})
    lists(one, 1)
    letters, wanted = one.engine.recommender.state.dead_letters, ("eventid", "timestmap")  # type: ignore[attr-defined]

    def told() -> list[str]:
        return sorted(each["reason"] for each in letters if any(name in each["raw"] for name in wanted))

    until(lambda: len(told()) >= 2, 60)
    assert told() == [
        "there is no field 'eventid'; did you mean 'event_id'?",
        "there is no field 'timestmap'; did you mean 'timestamp'?",
    ]


def add(stream: Stream, first: int, last: int) -> None:
    for n in range(first, last):
        kind = "dislike" if n % 3 else "like"
        fields = {"user_id": f"u{n % 40 + 1}", "item_id": f"i{n * 7 % 30 + 1}", "type": kind}
        stream.add({"event_id": f"e{n}", "timestamp": NOW + n, **fields})


def test_two_services_follow_one_stream(service: Callable[[str], TestClient], stream: Stream) -> None:
    one, two = service("one"), service("two")
    before = one.get("/v1/users/u1/recommendations?k=10").json()["items"]
    add(stream, 0, 200)
    stream.add({"user_id": "u1", "type": "adore"})  # no event; it holds nobody up
    same = lists(one, 200)
    assert same == lists(two, 200)
    assert same[0] != [(each["item"], each["score"]) for each in before]
    two.stop()  # type: ignore[attr-defined]
    add(stream, 200, 260)
    again = lists(one, 260)
    assert lists(service("two"), 260) == again
    refused = one.post("/v1/events", json={"events": [{"user_id": "u1", "item_id": "i1", "type": "like"}]})
    assert (refused.status_code, "from the stream" in refused.json()["detail"]) == (409, True)
    assert one.get("/readyz").json()["ready"]
    until(lambda: "recbole_signed_stream_behind_events 0.0" in one.get("/metrics").text, 30)


def test_a_state_of_yesterday_catches_up(service: Callable[[str], TestClient], stream: Stream, tmp_path: Path) -> None:
    one = service("one")
    add(stream, 0, 50)
    lists(one, 50)
    one.stop()  # type: ignore[attr-defined]
    shutil.copytree(tmp_path / "one", tmp_path / "yesterday")
    one = service("one")
    add(stream, 50, 80)
    today = lists(one, 80)
    one.stop()  # type: ignore[attr-defined]
    shutil.rmtree(tmp_path / "one")
    (tmp_path / "yesterday").rename(tmp_path / "one")
    stream.rewind("one")
    assert lists(service("one"), 80) == today


class Rows(EventSource):
    """A stream that gives some rows once; before that, an error as long as it has one."""

    name = "rows"

    def __init__(self, rows: list[dict[str, Any]], error: Exception | None = None) -> None:
        self._rows, self.error = rows, error
        self.committed, self._ended = threading.Event(), threading.Event()

    def poll(self, max_events: int) -> Polled:
        if self.error is not None:
            raise self.error
        if not self._rows:
            self._ended.wait(0.01)
            return Polled(EventBatch.empty(), [], None)
        rows, self._rows = self._rows, []
        return Polled(*parse_rows(rows, map(str, range(len(rows)))), "end")

    def commit(self, position: str | None) -> None:
        if position is not None:
            self.committed.set()

    def close(self) -> None:
        self._ended.set()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with serving(begin(tmp_path / "state"), tmp_path / "state") as client:
        yield client.engine  # type: ignore[attr-defined]


def test_rows_that_are_no_events_are_counted_as_refused(engine: Engine) -> None:
    rows = [
        {"user_id": "u1", "type": "adore"},
        {"user_id": "u2", "item_id": "i2", "type": "like", "timestamp": NOW},
        {},
    ]
    source = Rows(rows)
    feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    feed.close()
    counted = engine.telemetry.events
    assert engine.telemetry.total(counted, result="refused") == 2
    assert engine.telemetry.total(counted, result="accepted") == 1
    letters = list(engine.recommender.state.dead_letters)
    assert [(each["source"], each["position"], each["raw"]) for each in letters] == [
        ("rows", "0", rows[0]),
        ("rows", "2", {}),
    ]


def test_rows_that_are_no_events_alone_are_read_once(engine: Engine) -> None:
    source = Rows([{"user_id": "u1", "type": "adore"}])
    feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    feed.close()
    assert engine.writer.position("rows") == "end"
    assert engine.seq == 0


def test_rows_that_are_no_events_are_kept_after_a_full_disk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.0)
    write, refused = engine.recommender.state.dead_letters.write, []

    def full(source: str, letters: Any) -> None:
        if not refused:
            refused.append(letters)
            raise UsageError("the disk is full")
        write(source, letters)

    monkeypatch.setattr(engine.recommender.state.dead_letters, "write", full)
    source = Rows([{"user_id": "u1", "type": "adore"}])
    engine.feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    assert [each["raw"] for each in engine.recommender.state.dead_letters] == [{"user_id": "u1", "type": "adore"}]


def test_a_stream_that_tells_no_lead_is_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.0)
    source = Rows([{"user_id": "u1", "item_id": "i1", "type": "like", "timestamp": NOW}])
    asked = threading.Event()

    def behind() -> int:
        asked.set()
        raise UsageError("no permission for this command")

    monkeypatch.setattr(source, "behind", behind)
    engine.feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    assert asked.wait(60)
    assert engine.reasons_not_ready() == []
    assert engine.feed.behind is None


def test_a_stream_announces_features(engine: Engine) -> None:
    kept = {"item_id": "i1", "type": "item", "features": {"genre": "jazz"}, "timestamp": NOW}
    engine.writer.submit([kept]).result()
    rows = [
        {**kept, "timestamp": NOW + 1, "features": {"genre": ["jazz", "live"], "year": 1999}},
        {"user_id": "u1", "type": "user", "features": {"country": "NO"}, "timestamp": NOW},
        {"user_id": "u2", "item_id": "i2", "type": "like", "timestamp": NOW},
    ]
    source = Rows(rows)
    engine.feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    with engine.recommender.reading() as (state, _):
        assert state.announced() == {
            "item": {state.items.id_of("i1"): {"genre": ["jazz", "live"], "year": 1999}},
            "user": {state.users.id_of("u1"): {"country": "NO"}},
        }


@pytest.mark.parametrize("where", ["source", "writer"])
def test_any_error_is_told_and_the_stream_goes_on(engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr(writer, "PAUSE", 0.01)
    rows = [{"user_id": "u1", "item_id": "i1", "type": "like", "timestamp": NOW}]
    source = Rows(rows, RuntimeError("broken") if where == "source" else None)
    with monkeypatch.context() as patch:
        if where == "writer":
            patch.setattr(engine.recommender, "ingest", lambda *_, **__: 1 / 0)
        client = TestClient(make_app(engine))
        engine.feed = Feed(source, engine.writer)
        until(lambda: engine.feed.failure is not None, 60)
        answer = client.get("/readyz")
        wanted = {"source": "broken", "writer": "division by zero"}[where]
        assert (answer.status_code, f"the stream can't be read: {wanted}" in answer.json()["reasons"]) == (503, True)
    source.error = None
    assert source.committed.wait(60)  # nothing was lost
    assert engine.seq == 1
    until(lambda: engine.feed.failure is None)
    assert client.get("/readyz").json()["ready"]


def test_rows_that_are_refused_are_told_now_and_then(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.writer.submit([{"user_id": "u1", "type": "forget_user", "timestamp": NOW}]).result()
    late = {"user_id": "u1", "item_id": "i1", "type": "like"}
    source = Rows([{**late, "timestamp": NOW - 1}, {**late, "timestamp": NOW - 2}, {"type": "play"}, {"type": "stop"}])
    engine.feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    warnings = [each.getMessage() for each in caplog.records if " of rows " in each.getMessage()]
    assert len(warnings) == 2, "of each kind one a minute"
    assert "an event of rows is refused: it is not later than the forgetting of its user" in caplog.text
    assert "an entry of rows is no event: 'play' is not a type of event" in caplog.text
    assert engine.telemetry.total(engine.telemetry.events, result="refused") == 4


def test_events_that_the_state_refuses_are_kept_with_the_reason_but_those_of_forgotten_users(engine: Engine) -> None:
    rows = [
        {"event_id": "e1", "user_id": "u2", "type": "undo", "event": "unknown", "timestamp": NOW},
        {"event_id": "e2", "user_id": "u3", "type": "less", "features": {"genre": "none"}, "timestamp": NOW},
        {"event_id": "e3", "user_id": "u1", "type": "less", "features": {"genre": "none"}, "timestamp": NOW},
        {"event_id": "e4", "user_id": "u1", "type": "forget_user", "timestamp": NOW},
        {"event_id": "e5", "user_id": "u1", "item_id": "i1", "type": "like", "timestamp": NOW},
        {"event_id": "e6", "user_id": "u4", "item_id": "i1", "type": "like", "timestamp": NOW},
    ]
    source = Rows(rows)
    engine.feed = Feed(source, engine.writer)
    assert source.committed.wait(60)
    state = engine.recommender.state
    assert state is not None
    letters = list(state.dead_letters)
    assert [each["position"] for each in letters] == ["e1", "e2"]
    assert letters[1]["raw"] == {
        "event_id": "e2", "user_id": "u3", "type": "less", "timestamp": NOW, "features": {"genre": ["none"]},
    }  # fmt: skip
    assert "genre" in letters[1]["reason"]
    assert engine.telemetry.total(engine.telemetry.events, result="refused") == 4
    assert {each["source"] for each in letters} == {"rows"}
