"""A topic of a cluster that speaks Kafka's protocol, read by the client that reads real ones."""

import itertools
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from bare_state import ready, take_from
from kafka_brokers import Brokers
from refusals import check_refused

from recbole_signed.errors import MissingExtraError, UsageError
from recbole_signed.live.sources import KafkaSource, open_source
from recbole_signed.live.store import back_up
from recbole_signed.live.store.backup import restore
from recbole_signed.live.store.state import OnlineState


@pytest.fixture(scope="module")
def brokers() -> Iterator[Brokers]:
    brokers = Brokers()
    yield brokers
    brokers.close()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("[", "-").replace("]", "")[:200]


def row(n: int, **fields: Any) -> dict[str, Any]:
    return {"user_id": f"u{n}", "item_id": "i", "type": "like", "timestamp": 1_700_000_000_000 + n, **fields}


def users(source: KafkaSource, n: int, at_once: int = 100) -> list[str]:
    """The users of the next ``n`` events."""
    found: list[str] = []
    deadline = time.monotonic() + 30
    while len(found) < n and time.monotonic() < deadline:
        found += source.poll(at_once).batch.user_id
    return found


def read(state: OnlineState, source: KafkaSource, n: int, at_once: int = 100) -> list[tuple[int, int, int]]:
    """Updates until ``n`` rows were read."""
    updates: list[tuple[int, int, int]] = []
    deadline = time.monotonic() + 30
    while sum(map(sum, updates)) < n and time.monotonic() < deadline:
        before, update = len(list(state.dead_letters)), take_from(state, source, at_once)
        counts = update.n_new, update.n_duplicate, len(list(state.dead_letters)) - before
        if any(counts):
            updates.append(counts)
    return updates


def test_messages_of_all_partitions_become_events(tmp_path: Path, brokers: Brokers, topic: str) -> None:
    for partition in range(4):
        brokers.send(topic, *(row(10 * partition + n) for n in range(3)), partition=partition)
    stamped = {"event_id": "mine", "user_id": "ж", "item_id": "i", "type": "dislike"}
    brokers.send(
        topic,
        {"type": "adore"},
        b"\xff\xfe",
        b"[1]",
        None,
        stamped,
        b'{"type": 1, "type": 2}',
        timestamp=1_600_000_000_000,
    )
    with ready(tmp_path) as state, closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
        counts = read(state, source, 18)
        assert [sum(each) for each in zip(*counts, strict=True)] == [13, 0, 5]
        assert state.log.known("mine")
        assert state.log.known(f"{topic}/3/2")
        reasons = [letter["reason"] for letter in state.dead_letters]
        assert sum("no JSON in UTF-8" in each for each in reasons) == 2
        assert "the message has a key twice" in reasons
        assert state.edges.of_user(state.users.id_of("ж")).timestamp.tolist() == [1_600_000_000_000]
        assert take_from(state, source, 100).n_new == 0


def test_each_partition_is_read_in_order(brokers: Brokers, topic: str) -> None:
    for n in range(20):
        brokers.send(topic, row(n), partition=n % 2)
    with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
        found = [int(user[1:]) for user in users(source, 20, at_once=3)]
    assert sorted(found) == list(range(20))
    for partition in (0, 1):
        mine = [n for n in found if n % 2 == partition]
        assert mine == sorted(mine)


def test_a_state_goes_on_where_its_log_ends_whatever_group_reads(tmp_path: Path, brokers: Brokers, topic: str) -> None:
    def of_group(group: str) -> closing[KafkaSource]:
        return closing(KafkaSource(brokers.address, topic, group, block=0.2))

    brokers.send(topic, *(row(n) for n in range(6)))
    with ready(tmp_path / "state") as state, of_group("one") as source:
        read(state, source, 6)
    with ready(tmp_path / "state") as state:
        back_up(tmp_path / "state", tmp_path / "backup")
        brokers.send(topic, *(row(n) for n in range(6, 9)))
        with of_group("two") as source:
            assert [n_new for n_new, *_ in read(state, source, 3)] == [3]
            assert len(source.poll(100).batch) == 0
    # the group of Kafka is past these three, and the log of the backup is not
    restore(tmp_path / "backup", tmp_path / "restored")
    with ready(tmp_path / "restored") as state, of_group("two") as source:
        assert state.last_seq == 6
        assert sum(n_new for n_new, *_ in read(state, source, 3)) == 3
        assert state.last_seq == 9


def test_what_was_not_durable_comes_again(tmp_path: Path, brokers: Brokers, topic: str) -> None:
    brokers.send(topic, *(row(n) for n in range(10)))
    with ready(tmp_path) as state:
        with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
            read(state, source, 4, at_once=4)
            users(source, 3, at_once=3)  # given, and the process dies before it is durable
        with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
            known = state.last_seq
            assert 4 <= known <= 7
            assert sum(n_new for n_new, *_ in read(state, source, 10 - known)) == 10 - known
            assert state.last_seq == 10


def test_a_state_without_a_position_begins_at_the_offsets_of_its_group(brokers: Brokers, topic: str) -> None:
    brokers.send(topic, *(row(n) for n in range(5)))
    with closing(KafkaSource(brokers.address, topic, "g", block=0.2)) as source:
        assert users(source, 2, at_once=1) == ["u0", "u1"]
        source.commit('{"0": 2}')
        assert users(source, 3) == ["u2", "u3", "u4"]
    with closing(KafkaSource(brokers.address, topic, "g", block=0.2)) as source:
        assert users(source, 3) == ["u2", "u3", "u4"]
    with closing(KafkaSource(brokers.address, topic, "other", block=0.2)) as source:
        assert users(source, 5) == [f"u{n}" for n in range(5)]


def test_a_partition_that_the_log_does_not_know_is_read_from_its_start(brokers: Brokers, topic: str) -> None:
    for partition in range(2):
        brokers.send(topic, *(row(10 * partition + n) for n in range(3)), partition=partition)
    with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
        read = [source._part(0, 3), source._part(1, 2)]  # the log of a restored backup is behind this
        source._consumer.commit(offsets=read, asynchronous=False)
        source.seek('{"0": 1}')
        assert sorted(users(source, 5)) == ["u1", "u10", "u11", "u12", "u2"]


def test_how_far_the_topic_is_ahead(brokers: Brokers, topic: str) -> None:
    for partition in range(3):
        brokers.send(topic, *(row(n) for n in range(4)), partition=partition)
    with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
        assert source.behind() == 0  # nothing was fetched
        deadline, left = time.monotonic() + 30, 12 - len(users(source, 5, at_once=1))
        while source.behind() != left and time.monotonic() < deadline:
            left -= len(source.poll(1).batch)  # which lets the client take in what the brokers told
        assert 0 <= left == source.behind()
        users(source, left)
        assert source.behind() == 0


def test_a_message_is_given_at_once_and_not_when_the_wait_is_over(brokers: Brokers, topic: str) -> None:
    brokers.send(topic, row(0))
    with closing(KafkaSource(brokers.address, topic, block=20.0)) as source:
        started = time.monotonic()
        assert len(source.poll(100).batch) == 1
        assert time.monotonic() - started < 10


def test_a_message_before_an_error_of_the_client_comes_again(brokers: Brokers, topic: str) -> None:
    class Failing:
        """The client, the first batch of which can't be taken."""

        def __init__(self, consumer: Any) -> None:
            self._consumer, self.errors = consumer, [RuntimeError("no memory for the batch")]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._consumer, name)

        def consume(self, *args: Any, **options: Any) -> Any:
            if self.errors:
                raise self.errors.pop()
            return self._consumer.consume(*args, **options)

    brokers.send(topic, *(row(n) for n in range(5)))
    with closing(KafkaSource(brokers.address, topic, block=5.0)) as source:
        source._consumer = Failing(source._consumer)
        with pytest.raises(RuntimeError, match="no memory"):
            users(source, 5)
        assert users(source, 5) == [f"u{n}" for n in range(5)]


@pytest.mark.parametrize("skip", [False, True])
def test_lost_messages_are_told_of(brokers: Brokers, topic: str, skip: bool, caplog: pytest.LogCaptureFixture) -> None:
    brokers.send(topic, *(row(n) for n in range(3)))
    with closing(KafkaSource(brokers.address, topic, block=1.0, skip_lost=skip)) as source:
        source.seek('{"0": 70}')
        gone = "message 70 of partition 0 of .* is gone: it holds 0 to 2"
        if skip:
            assert users(source, 3) == ["u0", "u1", "u2"]
            assert re.search(f"{gone}; going on with the oldest", caplog.text)
            return
        for _ in range(2):  # also when it is tried again
            check_refused(f"{gone}; .* write lost=skip", users, source, 1)


def test_brokers_that_went_away_are_an_error_until_they_are_back(topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.sources.kafka_source._PATIENCE", 1.0)
    brokers = Brokers()
    brokers.send(topic, row(0))
    with closing(KafkaSource(brokers.address, topic, block=0.1)) as source:
        assert users(source, 1) == ["u0"]
        brokers.close()
        deadline = time.monotonic() + 30
        while source._down is None and time.monotonic() < deadline:
            source.poll(10)
        for _ in range(2):
            check_refused(f"topic '{topic}' can't be read", source.poll, 10)
        monkeypatch.setattr(source, "_partitions", lambda: [0])  # as if they answered again
        assert len(source.poll(10).batch) == 0


def test_after_an_error_brokers_are_asked_once(brokers: Brokers, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    brokers.send(topic, row(0))
    with closing(KafkaSource(brokers.address, topic, block=0.1)) as source:
        assert users(source, 1) == ["u0"]
        asked = itertools.count()
        monkeypatch.setattr(source, "_partitions", lambda: [next(asked) * 0])
        source._note("one of the brokers left")
        source.poll(10)
        source.poll(10)
        assert next(asked) == 1


def test_added_partitions_are_read_in_full(brokers: Brokers, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    brokers.send(topic, row(0), partition=0)
    with closing(KafkaSource(brokers.address, topic, block=0.2)) as source:
        with monkeypatch.context() as patch:
            patch.setattr(source, "_partitions", lambda: [0])
            assert users(source, 1) == ["u0"]
            brokers.send(topic, row(1), partition=1)
            brokers.send(topic, row(2), partition=0)
            assert users(source, 1) == ["u2"]
        added = [source._part(1, 1)]  # which another state with the same group has read
        source._consumer.commit(offsets=added, asynchronous=False)
        source._look_at = 0.0
        assert users(source, 1) == ["u1"]


def test_addresses(brokers: Brokers, topic: str, tmp_path: Path) -> None:
    brokers.send(topic, row(0))
    settings = tmp_path / "kafka.properties"
    settings.write_text("# of the client\nclient.id = ratings\n\nfetch.wait.max.ms=10\n")
    source = open_source(f"kafka://{brokers.address}/{topic}?group=g&settings={settings}&lost=skip")
    assert source.name == f"kafka:{topic}"
    source.close()
    for wrong in (f"{topic}/more", "", f"{topic}?grope=g", f"{topic}?lost=maybe"):
        check_refused("names no topic or something unknown", open_source, f"kafka://{brokers.address}/{wrong}")
    with pytest.raises(UsageError, match="names no topic or something unknown") as caught:
        open_source(f"kafka://me:secret@{brokers.address}/{topic}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("group.id=mine", "other than bootstrap.servers, group.id"),
        ("client.id", "write name=value"),
        ("colour=red", 'No such configuration property: "colour"'),
        (None, "can't read the settings of Kafka"),
    ],
)
def test_settings_that_are_none(brokers: Brokers, topic: str, tmp_path: Path, text: str | None, said: str) -> None:
    settings = tmp_path / "settings"
    if text is not None:
        settings.write_text(text)
    check_refused(said, KafkaSource, brokers.address, topic, settings=settings)


def test_what_can_not_be_read_is_one_sentence(brokers: Brokers, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recbole_signed.live.sources.kafka_source._PATIENCE", 1.0)
    check_refused(f"topic '{topic}' can't be read .*; see that the brokers run", KafkaSource, "127.0.0.1:1", topic)
    brokers.send(topic, row(0))
    with closing(KafkaSource(brokers.address, topic)) as source, pytest.raises(UsageError, match="no offsets"):
        source.seek("byte 7")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtraError, match="A Kafka topic needs an optional dependency"):
        KafkaSource("127.0.0.1:1", "events")
