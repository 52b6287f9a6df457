"""A replica gives the writer's lists for the same seq, whatever events come and whichever versions are saved."""

import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import check_refused
from small_recommender import NOW, Opens, begin, event
from state_hashes import tokens_hash
from waiting import until

from recbole_signed.errors import UsageError
from recbole_signed.live import Event, OnlineRecommender
from recbole_signed.live.learners.ranking import best_items
from recbole_signed.live.replica import BUSY, Follower, OnlineReplica
from recbole_signed.live.store.backup import restore
from recbole_signed.live.store.settings import StateSettings


def lists(source: OnlineRecommender | OnlineReplica, users: list[str]) -> list[list[tuple[str | None, float]]]:
    found = []
    with source.reading() as (state, learner):
        for user in users:
            items, values = best_items(learner, state.edges, state.users.id_of(user), 8, state.items.keys)
            found.append(list(zip(state.items.tokens(items.tolist()), values.tolist(), strict=True)))
    return found


def test_an_open_replica_does_not_keep_forgotten_users(writer: OnlineRecommender, replica: OnlineReplica) -> None:
    writer.update([Event("a", "u3", "", "user", NOW, features={"town": "Oslo"})])
    replica.follow()
    number, told = replica.users.id_of("u3"), replica.announcements
    assert told.by_id(replica.users, replica.items)["user"] == {number: {"town": "Oslo"}}
    started = time.perf_counter()
    writer.update([Event("f", "u3", "", "forget_user", NOW + 1)])
    writer.update([event(2, "u4", "i4", "like")])
    assert time.perf_counter() - started < 5
    replica.follow()
    assert (replica.users.id_of("u3"), len(told)) == (0, 0)


def test_a_version_from_before_a_forgetting_is_taken_without_what_was_forgotten(tmp_path: Path) -> None:
    settings = StateSettings(newcomer_age=0)
    writer = begin(tmp_path / "state", "SSFT", state=settings)
    replica = OnlineReplica(tmp_path / "state", settings=settings)
    writer.update([event(n, f"u{n % 40 + 1}", f"i{n * 7 % 30 + 1}", "like") for n in range(100)])
    start = writer.learner.weights  # type: ignore[attr-defined]
    writer.refresh()
    assert not np.array_equal(writer.learner.weights, start)  # type: ignore[attr-defined]
    writer.snapshot()
    with writer.maintaining():  # no version without the user can be saved
        writer.update([Event("", "u3", "", "forget_user", NOW + 1000)])
        replica.follow()
        assert (replica.version, replica.applied_seq) == (writer.version, 101)
        with replica.reading() as (_, learner):
            assert np.array_equal(learner.weights, start)  # type: ignore[attr-defined]
        for mine, theirs in zip(lists(replica, ["u5", "u6"]), lists(writer, ["u5", "u6"]), strict=True):
            assert [item for item, _ in mine] == [item for item, _ in theirs]
    replica.close()
    writer.close()


def compact(writer: OnlineRecommender) -> None:
    writer.update([event(3, "u2", "i2", "dislike")])
    for _ in range(3):  # so that no version reaches back behind the base
        writer.snapshot()
    writer.compact()
    writer.update([event(4, "u3", "i3", "dislike")])


MEANWHILE: dict[str, tuple[str, Callable[[OnlineRecommender], Any], int]] = {
    "a user is erased": ("read", lambda writer: writer.update([event(3, "leaves", "", "forget_user")]), 3),
    "the log is compacted": ("catch_up", compact, 4),
    "ids come": ("catch_up", lambda writer: writer.update([event(n, f"new{n}", f"new{n}", "like") for n in (3, 4)]), 4),
}


@pytest.mark.parametrize("what", list(MEANWHILE))
def test_it_follows_though_something_happens_while_the_log_is_read(
    writer: OnlineRecommender, replica: OnlineReplica, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before rows are read, or after the vocabularies were."""
    step, happens, seq = MEANWHILE[what]
    writer.update([event(1, "leaves", "i1", "like"), event(2, "stays", "i1", "like")])
    own = getattr(replica.log, step)

    def reading(*words: int) -> Any:
        monkeypatch.undo()
        found = own() if step == "catch_up" else None
        happens(writer)
        return found if step == "catch_up" else own(*words)

    monkeypatch.setattr(replica.log, step, reading)
    replica.follow()
    assert replica.edges.n_users <= len(replica.users), "of all that was applied the ids are known"
    assert replica.edges.n_items <= len(replica.items)
    assert replica.follow() == seq
    assert writer.state is not None
    for mine, theirs in ((replica.users, writer.state.users), (replica.items, writer.state.items)):
        assert tokens_hash(mine) == tokens_hash(theirs)
    assert lists(replica, ["u1", "u2", "u3", "stays", "new3"]) == lists(writer, ["u1", "u2", "u3", "stays", "new3"])


def test_a_replica_takes_the_limits_of_its_writer(opens: Opens, tmp_path: Path) -> None:
    writer = opens(newcomer_age=0)
    writer.update([event(1, "fake", "invented", "like")])
    for given, hidden in ((StateSettings(newcomer_age=0), []), (None, ["invented"])):
        replica = OnlineReplica(tmp_path / "state", settings=given)
        assert replica.items.tokens(replica.hidden_items().tolist()) == hidden
        replica.close()
    assert not len(writer.state.hidden_items())  # type: ignore[union-attr]


def test_a_replica_reads_what_is_withdrawn_after_changes(writer: OnlineRecommender, replica: OnlineReplica) -> None:
    table, empty = replica.log.withdrawn, replica.log.withdrawn.tokens
    replica.follow()
    assert table.tokens is empty, "it looks every few milliseconds"
    for change, left in ((writer.withdraw, {"i3"}), (writer.put_back, set())):
        change("i3")
        replica.follow()
        assert table.tokens == left


def test_a_state_that_another_one_has_replaced_is_not_followed(opens: Opens, tmp_path: Path) -> None:
    place, backup, aside = (tmp_path / name for name in ("state", "backup", "aside"))
    writer = opens()
    writer.back_up(backup)
    writer.update([event(1, "came after the backup", "i1", "like")])
    writer.snapshot()
    replica = OnlineReplica(place)
    writer.close()
    place.rename(aside)
    check_refused("moved or replaced while it was followed; put the directory back, or start", replica.follow)
    restore(backup, place)
    restored = opens()
    restored.update([event(2, "somebody else", "i2", "like")])
    restored.snapshot()
    check_refused("replaced while it was followed", replica.follow)
    assert replica.users.id_of("came after the backup")
    restored.close()
    shutil.rmtree(place)
    aside.rename(place)
    assert replica.follow() == 1
    replica.close()


def test_a_version_is_not_taken_before_the_events_that_it_reflects(
    writer: OnlineRecommender, replica: OnlineReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, users = replica.version, ["u1", "u2", "new"]
    writer.update([event(1, "new", "i1", "like"), event(2, "new", "unseen", "like")])
    writer.refit().result()
    writer.snapshot()
    with monkeypatch.context() as slow:  # the log was read a moment before these events came
        slow.setattr(replica.log, "commits", lambda seq: iter(()))
        assert (replica.follow(), replica.version) == (0, before)
        assert len(lists(replica, ["u1"])[0]) == 8
    assert (replica.follow(), replica.version) == (2, writer.version)
    assert writer.version != before
    assert lists(replica, users) == lists(writer, users)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell of changes")
def test_a_follower_looks_seldom_while_nothing_changes(
    writer: OnlineRecommender, replica: OnlineReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looked 200 times a second, which took 6 % of a core; a look that waits for ``idle`` would come too late."""
    looks, follow = [0], replica.follow

    def counted() -> int:
        looks[0] += 1
        return follow()

    monkeypatch.setattr(replica, "follow", counted)
    follower = Follower(replica, idle=60.0)
    for number in range(1, 4):
        time.sleep(BUSY + 0.5)
        before = looks[0]
        time.sleep(0.5)
        assert looks[0] == before
        writer.update([event(number, f"n{number}", "i2", "like")])
        until(lambda: replica.applied_seq >= number, 1.0)  # noqa: B023
    time.sleep(BUSY + 0.5)
    writer.withdraw(["i1"])
    until(lambda: "i1" in replica.withdrawn, 1.0)
    follower.close()


def test_a_follower_says_since_when_it_knows_all(tmp_path: Path) -> None:
    """Events that come while it looks at the log may be missing."""
    entered, released = threading.Semaphore(0), threading.Semaphore(0)
    broken = threading.Event()

    (tmp_path / "versions").mkdir()

    class Gate:
        directory = tmp_path

        def follow(self) -> int:
            entered.release()
            released.acquire()
            if broken.is_set():
                raise UsageError("the log is gone.")
            return 0

    def next_look() -> None:
        assert entered.acquire(timeout=20)

    follower = Follower(Gate())  # type: ignore[arg-type]
    next_look()
    within = time.monotonic()
    time.sleep(0.005)
    released.release()
    next_look()  # so the first one has ended
    assert (follower.looked <= within, follower.failure) == (True, None)
    broken.set()
    released.release()
    next_look()
    assert (follower.looked <= within, follower.failure) == (True, "the log is gone.")
    broken.clear()
    released.release()
    next_look()
    assert (follower.looked <= within, follower.failure) == (False, None)
    released.release(100)
    follower.close()


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    check_refused("holds no online state", OnlineReplica, tmp_path)


def test_it_follows_in_a_thread_and_survives_compaction(writer: OnlineRecommender, replica: OnlineReplica) -> None:
    writer.update([event(1, "u1", "i1", "dislike")])
    writer.snapshot()
    writer.compact()  # beyond what the replica has read
    follower = Follower(replica)
    for number in range(2, 30):
        writer.update([event(number, f"n{number}", "i2", "like")])
    until(lambda: replica.applied_seq >= 29)
    follower.close()
    assert replica.applied_seq == 29
    assert follower.failure is None
    assert replica.users.id_of("n29") == writer.state.users.id_of("n29")  # type: ignore[union-attr]
