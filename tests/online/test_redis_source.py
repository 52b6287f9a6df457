"""A consumer group against a real server, which the tests start and stop."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bare_state import ready, take_from
from redis_server import redis_server
from refusals import check_refused

from recbole_signed.errors import MissingExtraError
from recbole_signed.live.sources import RedisSource, open_source


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture
def client(url: str) -> Any:
    import redis

    client = redis.Redis.from_url(url)
    client.flushall()
    return client


def add(client: Any, n: int, first: int = 0) -> None:
    for i in range(first, first + n):
        client.xadd("events", {"user_id": f"u{i}", "item_id": "i", "type": "like", "timestamp": str(i)})


def pending(client: Any) -> int:
    return int(client.xpending("events", "recbole-signed")["pending"])


def test_entries_are_acknowledged_once_they_are_durable(tmp_path: Path, url: str, client: Any) -> None:
    add(client, 5)
    client.xadd("events", {"user_id": "u", "type": "adore", "odd\xff": b"\xff\xfe"})
    client.xadd("events", {"event_id": "mine", "user_id": "ж", "item_id": "i", "type": "dislike", "timestamp": "9"})
    with ready(tmp_path) as state:
        source = RedisSource(url, "events", block=1)
        update = take_from(state, source, 100)
        assert (update.n_new, len(list(state.dead_letters))) == (6, 1)
        assert pending(client) == 0
        assert state.log.known("mine")
        assert next(iter(state.dead_letters))["raw"]["user_id"] == "u"
        assert take_from(state, source, 100).n_new == 0
        add(client, 2, 5)
        update = take_from(state, source, 100)
        assert update.n_new == 2
        source.close()


def test_what_was_not_acknowledged_comes_again_and_is_no_second_event(tmp_path: Path, url: str, client: Any) -> None:
    add(client, 10)
    with ready(tmp_path) as state:
        source = RedisSource(url, "events", block=1)
        first = source.poll(4)
        state.ingest(first.batch)  # durable, and the process dies before it says so
        source.poll(3)  # given, and the process dies before it is durable
        source.close()
        assert pending(client) == 7
    with ready(tmp_path) as state:
        source, updates = RedisSource(url, "events", block=1), []
        while (update := take_from(state, source, 4)) is not None and (update.n_new or update.n_duplicate):
            updates.append((update.n_new, update.n_duplicate))
        assert updates == [(0, 4), (3, 0), (3, 0)]
        assert pending(client) == 0
        assert state.last_seq == 10


def test_entries_that_a_broken_connection_took_come(url: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import redis

    source = RedisSource(url, "events", block=1)
    source.poll(2)  # nothing is pending
    add(client, 5)
    read = source._redis.xreadgroup

    def broken(*args: Any, **kwargs: Any) -> None:
        read(*args, **{**kwargs, "count": 2})
        raise redis.ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(source._redis, "xreadgroup", broken)
        check_refused("reset by peer", source.poll, 2)
    found = []
    for _ in range(3):
        polled = source.poll(2)
        source.commit(polled.position)
        found += polled.batch.user_id
    assert found == [f"u{i}" for i in range(5)]
    assert pending(client) == 0


def test_entries_of_a_consumer_who_went_silent_are_taken_over(url: str, client: Any) -> None:
    add(client, 5)
    RedisSource(url, "events", consumer="gone", block=1).poll(3)
    assert len(RedisSource(url, "events", consumer="here", block=1, idle=60_000).poll(100).batch) == 2
    time.sleep(0.05)
    eager = RedisSource(url, "events", consumer="eager", block=1, idle=20)
    taken = eager.poll(100)
    assert sorted(taken.batch.user_id) == [f"u{i}" for i in range(5)]
    eager.commit(taken.position)
    assert pending(client) == 0


def test_an_entry_that_was_trimmed_is_a_dead_letter_and_is_acknowledged(url: str, client: Any) -> None:
    add(client, 3)
    RedisSource(url, "events", block=1).poll(3)
    client.xtrim("events", maxlen=1, approximate=False)
    source = RedisSource(url, "events", block=1)
    polled = source.poll(3)
    assert len(polled.batch) == 1
    assert len(polled.rejected) == 2
    source.commit(polled.position)
    assert pending(client) == 0


def test_how_far_the_stream_is_ahead(url: str, client: Any) -> None:
    add(client, 5)
    source = RedisSource(url, "events", block=1)
    if int(client.info("server")["redis_version"].split(".")[0]) < 7:
        pytest.skip("Redis tells of the lag from 7 on")
    assert source.behind() == 5
    source.poll(2)
    assert source.behind() == 3
    client.delete("events")
    check_refused("'events' can't be read", source.behind)


def test_entries_trimmed_while_nobody_read_are_told(url: str, client: Any, caplog: pytest.LogCaptureFixture) -> None:
    if int(client.info("server")["redis_version"].split(".")[0]) < 7:
        pytest.skip("Redis counts what a group has read from 7 on")
    add(client, 10)
    source = RedisSource(url, "events", block=1)
    assert len(source.poll(100).batch) == 10
    source.commit("")
    client.xtrim("events", maxlen=4, approximate=False)  # what was read may go
    RedisSource(url, "events", block=1)
    assert not caplog.records
    add(client, 20, 10)
    client.xtrim("events", maxlen=5, approximate=False)
    source = RedisSource(url, "events", block=1)
    assert "15 entries of the Redis stream 'events' were trimmed before the group 'recbole-signed' read" in caplog.text
    assert source.poll(100).batch.user_id == [f"u{n}" for n in range(25, 30)]
    caplog.clear()
    RedisSource(url, "events", block=1)
    RedisSource(url, "events", "new", block=1)  # its state may be a copy that has them
    assert not caplog.records


def test_addresses_and_rights(url: str, client: Any) -> None:
    add(client, 1)
    client.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-xinfo"])
    assert len(RedisSource(url.replace("redis://", "redis://reader:secret@"), "events", block=1).poll(1).batch) == 1
    assert open_source(f"{url}?stream=events&group=g&consumer=c", block=1).name == "redis:events:g"
    assert client.xinfo_groups("events")[0]["name"] == b"g"
    check_refused("names no stream or something unknown", open_source, url)
    check_refused("names no stream or something unknown", open_source, f"{url}?stream=events&grup=g")


def test_what_can_not_be_read_and_groups_that_went(url: str, client: Any) -> None:
    client.set("events", "a text")
    check_refused(r"can't be read.*WRONGTYPE", RedisSource, url, "events")
    client.delete("events")
    source = RedisSource(url, "events", block=1)
    client.delete("events")
    check_refused(r"can't be read.*what was not acknowledged comes again", source.poll, 1)
    check_refused("can't be read", RedisSource, "redis://127.0.0.1:1/0", "events")
    check_refused("is not an address", RedisSource, "http://127.0.0.1", "events")
    source = RedisSource(url, "events", block=10)
    client.delete("events")  # as a server without persistence that ended and runs again
    check_refused("NOGROUP", source.poll, 10)
    client.xadd("events", {"event_id": "e", "user_id": "u", "item_id": "i", "type": "like", "timestamp": "1"})
    assert len(source.poll(10).batch) == 1


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"recbole-signed\[redis\]"):
        RedisSource("redis://127.0.0.1", "events")


def test_malformed_replies_of_redis_end_in_one_sentence() -> None:
    """As of a server that is none, or of one that answers for another command."""

    class Client:
        def __init__(self, reply: Any) -> None:
            self.reply = reply

        def xreadgroup(self, *_: Any, **__: Any) -> Any:
            return self.reply

        xautoclaim = xreadgroup

    for reply in (7, "text", [b"x"], [[b"s", 5]], [[b"s", [(b"1-1", 5)]]], [[b"s", [(None, {})]]], {b"s": 3}):
        source = object.__new__(RedisSource)
        vars(source).update(
            {
                "_errors": OSError, "_stream": "s", "_group": "g", "_consumer": "c", "_block": 1, "_idle": 1,
                "_limits": None, "_own": ">", "_others": None, "_given": [], "_redis": Client(reply),
            }
        )  # fmt: skip
        check_refused("The Redis stream 's' can't be read", source.poll, 10)
