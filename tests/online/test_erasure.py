"""A user who is forgotten is in no byte of the state."""

import contextlib
import hashlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import JsonLines, ready, take_from
from faults import no_room, no_room_at
from small_recommender import NOW, Clock, Opens, begin, content, event
from waiting import until

from recbole_signed.errors import UsageError
from recbole_signed.live import LIKE, Event, EventBatch, OnlineRecommender
from recbole_signed.live.computing import compute_here
from recbole_signed.live.events import DISLIKE, USER, content_id
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import OnlineState
from recbole_signed.live.store.versions import Versions, read_manifest, read_tensors

WHO = "mária.berger@example.org"
OTHER = "somebody-else@example.org"
TOLD = {"town": "Wanne-Eickel"}
TIMES = [NOW + 77_000_001 + 13 * n for n in range(8)]


def events() -> list[Event]:
    """Give events of the user: some with ids made of its own, some with ids made of their content."""
    kinds = ["like", "dislike"]
    own = [Event(f"{WHO}/{n}" if n % 2 else "", WHO, f"i{n + 1}", kinds[n % 2], TIMES[n]) for n in range(6)]
    own.append(Event("", WHO, "", "user", TIMES[5], features=TOLD))
    return [*own, Event("", OTHER, "i9", "like", TIMES[6]), Event("other/1", OTHER, "i3", "like", TIMES[7])]


def event_ids() -> list[str]:
    given = [f"{WHO}/{n}" for n in range(6)]
    made = [content_id(WHO, f"i{n + 1}", (LIKE, DISLIKE)[n % 2], TIMES[n], float("nan")) for n in range(6)]
    made.append(content_id(WHO + json.dumps(TOLD), "", USER, TIMES[5], float("nan")))
    return given + made + [content_id(WHO, "", 7, stamp, float("nan")) for stamp in (TIMES[7], TIMES[7] + 1)]


def keys_of(folder: Path) -> list[bytes]:
    """Give every key and salt that lies in the log, for whoever wants to confirm a guess."""
    connection = sqlite3.connect(f"{(folder / 'log.sqlite').as_uri()}?mode=ro", uri=True)
    try:
        found = [row[0] for row in connection.execute("SELECT value FROM meta WHERE key = 'key'")]
        found += [row[0] for row in connection.execute("SELECT key FROM grave_keys")]
        for table in ("users", "items"):
            found += [row[0] for row in connection.execute(f"SELECT salt FROM {table} WHERE salt IS NOT NULL")]
        return found
    finally:
        connection.close()


def confirmed(folder: Path) -> list[str]:
    """Return which guesses the bytes of a directory confirm: ids, event ids, digests of both, edges."""
    everything, found = content(folder), []
    guesses = [WHO, WHO.upper(), TOLD["town"], *event_ids()]
    keys = keys_of(folder)
    for guess in guesses:
        data = guess.encode()
        digests = [hashlib.new(name, data).digest() for name in ("md5", "sha1", "sha256", "blake2b")]
        for size in (8, 16, 20, 32, 64):
            digests += [hashlib.blake2b(data, digest_size=size).digest()]
            digests += [hashlib.blake2b(data, key=key, digest_size=size).digest() for key in keys]
            digests += [hashlib.blake2b(key + data, digest_size=size).digest() for key in keys]
        for each in (data, json.dumps(guess)[1:-1].encode(), guess.encode("utf-16-le"), *digests):
            if each in everything or (each != data and each.hex().encode() in everything):
                found.append(f"{guess}: {each[:20]!r}")
    for stamp in TIMES[:6]:
        spellings = (stamp.to_bytes(8, "little"), stamp.to_bytes(6, "big"), str(stamp).encode())
        found += [f"time {stamp}" for each in spellings if each in everything]
    for name in [*folder.glob("base-*"), *(folder / "versions").glob("v*")]:
        edges = read_tensors(name, read_manifest(name), "edges")
        user = np.repeat(np.arange(len(edges["indptr"]) - 1), np.diff(edges["indptr"]))
        times = set(edges["explicit_time"].tolist())
        found += [f"edge in {name.name}" for stamp in TIMES[:6] if stamp in times]
        found += [f"rows in {name.name}" for row in (41,) if (user == row).any()]
    return found


@pytest.fixture
def recommender(opens: Opens) -> OnlineRecommender:
    """One whose clock stands still, soon before the events of the user."""
    return opens(clock=Clock())


def wait_for_the_background(recommender: OnlineRecommender) -> None:
    """Wait until the erasure is over that the event of a forgetting begins by itself."""
    recommender._forgetting._pool.submit(int).result(60)


@pytest.mark.parametrize("model", ["SSF", "SignedEASE", "SignediALS", "BPR"])
def test_nothing_in_the_directory_confirms_a_forgotten_user(tmp_path: Path, opens: Opens, model: str) -> None:
    folder, clock = tmp_path / "state", Clock()
    settings = {"embedding_size": 8, "epochs": 1, "refresh_steps": 2} if model == "BPR" else {}
    begin(folder, model, **settings).close()
    recommender = opens(clock=clock)
    recommender.update(events())
    recommender.refresh()
    pinned, state = recommender.snapshot(), recommender.state
    state.versions.pin(pinned)
    state.compact()
    recommender.update([event(500, "u1", "i1", "like")])
    (tmp_path / "bad.jsonl").write_text(
        "".join(
            json.dumps({"user_id": who, "item_id": "i1", "type": "adore", "timestamp": 1}) + "\n"
            for who in (WHO, OTHER)
        )
    )
    take_from(state, JsonLines(tmp_path / "bad.jsonl"))
    assert confirmed(folder)
    assert OTHER.encode() in content(folder)
    recommender.update([Event("", WHO, "", "forget_user", TIMES[7] + 1)])
    assert WHO not in state.users
    left = recommender.erase()
    assert (left.rows, left.factors, left.reasons) == (0, 1, ())
    recommender.refit().result(60)
    assert not recommender.erase()
    late = recommender.update(events()).update
    assert (late.n_refused, late.n_duplicate, late.n_new) == (7, 2, 0)
    assert recommender.recommend(WHO, 5) == recommender.recommend("nobody", 5)
    recommender.close()
    assert {each for each in confirmed(folder) if "edge" in each or "rows" in each or "time" in each} == set()
    clock.now += 9 * 86_400  # the grace is over
    recommender = opens()
    assert confirmed(folder) == []
    assert Versions(folder / "versions").is_pinned(pinned)
    recommender.close()
    assert confirmed(folder) == []
    assert OTHER.encode() in content(folder)


def test_a_refit_ends_by_itself_what_was_left_of_an_erasure(recommender: OnlineRecommender) -> None:
    recommender.update(events())
    recommender.refit().result(60)
    recommender.snapshot()
    assert recommender.forget(WHO, TIMES[7]).factors == 1
    wait_for_the_background(recommender)
    recommender.refit().result(60)
    until(lambda: not recommender.pending_erasure, 30)


def test_no_version_keeps_factors_that_know_a_forgotten_user(recommender: OnlineRecommender) -> None:
    """Nor does one that was saved without the rows of the user, and is pinned."""
    recommender.update(events())
    recommender.refit().result(60)
    assert recommender.forget(WHO, TIMES[7]).factors == 1
    wait_for_the_background(recommender)
    state = recommender.state
    pinned = state.versions.current()
    assert pinned is not None
    assert state.versions.load(pinned).meta["scratch_seq"] < state.last_seq == state.versions.load(pinned).applied_seq
    state.versions.pin(pinned)
    recommender.refit().result(60)
    wait_for_the_background(recommender)
    assert not recommender.erase()
    assert pinned in state.versions.names()
    assert all(state.versions.load(name).meta["scratch_seq"] == state.last_seq for name in state.versions.names())


@pytest.mark.parametrize("what", ["refresh", "refit"])
def test_a_user_who_is_forgotten_while_a_model_learns_is_not_in_what_it_learned(what: str, tmp_path: Path) -> None:
    made = begin(tmp_path / "state", "BPR", embedding_size=8, epochs=1, refresh_steps=2)
    number = int(made.state.users.ids(["u7"])[0])

    def compute(learner: Any, method: str, *given: Any) -> Any:
        found = compute_here(learner, method, *given)
        made.forget("u7")
        return found

    made.compute = compute  # type: ignore[method-assign, assignment]
    made.refresh() if what == "refresh" else made.refit().result()
    made.compute = compute_here  # type: ignore[method-assign, assignment]
    learner: Any = made.learner
    assert not np.any(learner.known >> 32 == number), "what it has learned from"
    saved = made.state.versions.load(made.snapshot()).tensors
    assert not np.any(saved["known"] >> 32 == number)
    tables = [name for name in saved if name.startswith(("value/", "first/")) and "user" in name]
    assert tables
    assert not any(np.any(saved[name][number]) for name in tables)
    assert np.array_equal(saved["users/base"][number], saved["users/nobody"])
    made.close()


def test_a_pinned_version_is_as_if_the_user_had_never_been(tmp_path: Path) -> None:
    folders = tmp_path / "with", tmp_path / "without"
    tensors = []
    for folder, who in zip(folders, (True, False), strict=True):
        recommender = begin(folder, state=StateSettings(clock=Clock()))
        if who:
            recommender.update(events()[:6])
        recommender.refit().result(60)
        name = recommender.snapshot()
        recommender.state.versions.pin(name)
        if who:
            recommender.forget(WHO, TIMES[7])
            recommender.refit().result(60)
            assert not recommender.erase()
        tensors.append((recommender.state.versions.load(name).tensors, recommender.learner.state()[0]))
        recommender.close()
    for mine, theirs in zip(*tensors, strict=True):
        for key in theirs:
            np.testing.assert_allclose(np.abs(mine[key]), np.abs(theirs[key]), atol=1e-5)


def test_a_user_who_comes_back_is_another_one_and_late_events_are_refused(opens: Opens) -> None:
    """Until the grace ends, over restarts."""
    clock = Clock()
    recommender = opens(clock=clock)
    recommender.update(events())
    before = recommender.state.users.id_of(WHO)
    recommender.forget(WHO, TIMES[7])
    assert recommender.update([Event("x", WHO, "i20", "like", TIMES[7] + 5)]).update.n_new == 1
    assert recommender.state.users.id_of(WHO) > before
    late = recommender.update([Event("y", WHO, "i21", "like", TIMES[7] - 5)]).update
    assert (late.n_new, late.n_refused) == (0, 1)
    mixed = [
        Event("a", "mixed", "i1", "like", NOW + 1),
        Event("b", "mixed", "", "forget_user", NOW + 5),
        Event("c", "mixed", "i2", "like", NOW + 4),
        Event("d", "mixed", "i3", "like", NOW + 6),
        Event("e", "mixed", "", "forget_user", NOW + 5),
    ]
    found = recommender.update(mixed).update
    assert (found.n_new, found.n_duplicate, found.n_refused) == (3, 1, 1)
    assert found.status.tolist() == [0, 0, 2, 0, 1]
    late_one = [Event("z", WHO, "i21", "like", TIMES[7] - 5)]
    assert opens().update(late_one).update.n_refused == 1
    clock.now += 9 * 86_400
    assert opens().update(late_one).update.n_new == 1


def test_a_user_who_came_back_by_a_clock_that_is_ahead_is_forgotten(recommender: OnlineRecommender) -> None:
    """The time stamps of both the forgetting and the return lie ahead of the clock of this machine."""
    ahead = recommender.state.settings.now() + 200_000
    recommender.update([Event("a", "leaves", "i1", "like", ahead - 1), Event("b", "leaves", "", "forget_user", ahead)])
    recommender.update([Event("c", "leaves", "i1", "like", ahead + 1)])
    with pytest.raises(UsageError, match=rf"'leaves' came back after it was forgotten at {ahead}, .*later timestamp"):
        recommender.forget("leaves", ahead - 5)
    recommender.forget("leaves")
    assert "leaves" not in recommender.state.users


def test_without_a_grace_no_grave_is_dug(tmp_path: Path, opens: Opens) -> None:
    recommender = opens(clock=Clock(), grace=0)
    recommender.update(events())
    recommender.forget(WHO, TIMES[7])
    recommender.refit().result(60)
    assert not recommender.erase()
    recommender.close()
    assert confirmed(tmp_path / "state") == []


@pytest.mark.parametrize(("at", "told"), [("base", "No space left"), ("write-ahead file", "-wal can't be emptied")])
def test_an_erasure_of_files_that_fails_is_pending_and_retried(
    opens: Opens, monkeypatch: pytest.MonkeyPatch, at: str, told: str
) -> None:
    recommender = opens(clock=Clock())
    recommender.update(events())
    recommender.snapshot()
    with monkeypatch.context() as patch:
        if at == "base":
            patch.setattr("recbole_signed.live.store.compaction.write_folder", no_room)
        else:
            patch.setattr("recbole_signed.files.reached", no_room_at("wal:emptied"))
        left = recommender.forget(WHO, TIMES[7])
        assert left.rows == 1
        assert told in left.reasons[0]
        recommender.update([event(600, "u1", "i1", "like")])  # the state works
        assert recommender.recommend("u1", 3)
        recommender.snapshot()
        assert recommender.pending_erasure.rows == 1
        opens()  # a failed retry does not keep it closed
    recommender = opens()  # tried again at opening, in the background
    until(lambda: not recommender.pending_erasure.rows, 10)


def test_an_erasure_that_fails_unexpectedly_in_the_background_is_told_and_retried(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recommender.update(events())

    def short_of_memory(*_: Any, **__: Any) -> None:
        raise MemoryError("no room for the edges")

    with monkeypatch.context() as patch:
        patch.setattr(OnlineState, "save", short_of_memory)  # of the version without the user
        recommender.update([event(599, WHO, "", "forget_user")])
        until(lambda: "An erasure is pending: no room for the edges" in caplog.text)
    time.sleep(2.1)  # until it is due
    recommender.update([event(600, "u1", "i1", "like")])
    until(lambda: not recommender.pending_erasure.rows)


def test_a_base_newer_than_an_erasure_forgets_the_next_user(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.live.renewal.RETRY", 1e9)
    recommender.update(events())
    with monkeypatch.context() as patch:
        patch.setattr("recbole_signed.live.store.compaction.write_folder", no_room)
        assert recommender.forget(WHO, TIMES[7]).rows == 1
        wait_for_the_background(recommender)
    state = recommender.state
    other = state.users.id_of(OTHER)
    recommender.snapshot()
    assert state.compact() > 0
    assert len(state.base.load().of_user(other).ids)
    assert recommender.forget(OTHER, TIMES[7]).rows == 0
    assert not len(state.base.load().of_user(other).ids)


@pytest.mark.parametrize("by", ["erase", "the next update"])
def test_an_erasure_waits_for_whoever_reads_the_log_and_no_update_does(
    recommender: OnlineRecommender, tmp_path: Path, by: str
) -> None:
    """Until then the write-ahead file holds what was erased."""
    folder = tmp_path / "state"
    recommender.update([event(1, WHO, "i1", "like")])
    with contextlib.closing(sqlite3.connect(folder / "log.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM events").fetchone()
        left = recommender.forget(WHO)
        assert left.rows == 1
        assert "-wal can't be emptied" in left.reasons[0]
        started = time.perf_counter()
        for n in range(2, 12):
            recommender.update([event(n, "u2", f"i{n}", "like")])
            recommender.recommend("u2")
        assert time.perf_counter() - started < 3  # it was five seconds for each
        assert recommender.pending_erasure.rows == 1
        assert WHO.encode() in content(folder)
        reader.execute("COMMIT")
        if by == "erase":
            assert recommender.erase().rows == 0
        else:
            recommender.update([event(20, "u2", "i20", "like")])
            assert not recommender.state.log.erasure_pending
        assert WHO.encode() not in content(folder)


def test_only_letters_of_the_user_are_blanked(tmp_path: Path) -> None:
    rows = [{"user_id": who, "item_id": "i1", "type": "adore", "timestamp": 1} for who in ("b", "bob", "club", "b/2")]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "long-enough-nameX9\n")
    with ready(tmp_path / "state") as state:
        take_from(state, JsonLines(tmp_path / "bad.jsonl"))
        state.ingest(EventBatch.from_events([Event("", "b", "", "forget_user", 5)]))
        left = [letter["raw"]["user_id"] for letter in state.dead_letters if isinstance(letter["raw"], dict)]
        assert left == ["bob", "club"]
        state.ingest(EventBatch.from_events([Event("", "long-enough-name", "", "forget_user", 5)]))
        assert b"long-enough-name" not in content(tmp_path)[len((tmp_path / "bad.jsonl").read_bytes()) :]


def test_a_stream_that_is_read_again_brings_no_letter_of_the_user_back(tmp_path: Path) -> None:
    rows = [
        {"user_id": WHO, "item_id": "i1", "type": "adore", "timestamp": NOW},
        {"user_id": WHO, "item_id": "i1", "type": "like", "timestamp": NOW},
        {"user_id": WHO, "type": "forget_user", "timestamp": NOW + 1},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with ready(tmp_path / "state") as state:
        for _ in range(2):
            polled = JsonLines(tmp_path / "events.jsonl").poll(100)
            state.dead_letters.write("events", polled.rejected)
            state.ingest(polled.batch)
            assert WHO not in state.users
            left = content(tmp_path / "state")
            assert not any(each in left for each in (WHO.encode(), json.dumps(WHO)[1:-1].encode()))
            assert len(list(state.dead_letters)) > 0
