"""Calls that overlap, fail or come too late: opening, closing, forking, recovering, and files that go away."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bare_state import ready
from refusals import check_refused
from small_recommender import NOW, Opens, begin, event
from state_hashes import state_hash
from waiting import held_calls

from recbole_signed import files
from recbole_signed.errors import UsageError
from recbole_signed.live import Event, EventBatch, OnlineRecommender
from recbole_signed.live.store.state import OnlineState


def ranking(recommender: OnlineRecommender, users: tuple[str, ...] = ("u1", "u2", "nobody")) -> list[Any]:
    return [recommender.recommend(user, 30) for user in users]


def test_close_waits_for_an_update_and_later_calls_are_refused(recommender: OnlineRecommender, tmp_path: Path) -> None:
    acknowledged = []

    def write() -> str:
        for n in range(100_000):
            try:
                recommender.update([event(n, f"u{n % 40}", f"i{n % 30}", "like")])
            except UsageError as error:
                return str(error)
            acknowledged.append(n)
        return "never closed"

    with ThreadPoolExecutor(4) as pool:
        writer, reader = pool.submit(write), pool.submit(lambda: [recommender.recommend("u1") for _ in range(20)])
        while len(acknowledged) < 20:
            time.sleep(0.001)
        recommender.close()
        assert "was closed; open it again" in writer.result()
        assert reader.exception() is None or "was closed" in str(reader.exception())
    for call in (recommender.refresh, recommender.refit, recommender.snapshot, lambda: recommender.recommend("u1")):
        with pytest.raises(UsageError, match="was closed"):
            call()
    recommender.close()
    with OnlineState.open(tmp_path / "state") as state:
        assert state.last_seq == len(acknowledged)


def test_close_waits_for_a_refit(opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = opens()
    started, go_on = held_calls(monkeypatch, type(recommender.learner), "fit")
    future = recommender.refit()
    assert started.wait(30)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(recommender.close)
        go_on.set()
        closing.result(30)
    assert isinstance(future.exception(), UsageError)  # it was not swapped into a state that is closed
    opens()


def test_ids_are_typed_alike_everywhere_and_k_is_checked(recommender: OnlineRecommender) -> None:
    best = recommender.recommend(777777, 1)[0][0]
    recommender.update([event(1, 777777, best, "dislike")])  # type: ignore[arg-type]
    for user in (777777, "777777", np.int64(777777)):
        assert best not in dict(recommender.recommend(user, 30))
    recommender.update([event(2, "Zoe\u0308", best, "dislike")])
    assert best not in dict(recommender.recommend("Zo\u00eb", 30))
    for user in (None, 1.5, "", True, b"u1"):
        check_refused("user_id", recommender.recommend, user)  # type: ignore[arg-type]
    for k in (0, -1, 2.5, "3", True):
        check_refused("k is the number of items", recommender.recommend, "u1", k)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", ["refit", "refresh"])
def test_a_refresh_and_a_refit_that_overlap_keep_what_both_brought(
    recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    slow = "refresh" if first == "refit" else "fit"
    started, go_on = held_calls(monkeypatch, type(recommender.learner), slow)
    with ThreadPoolExecutor(1) as pool:
        outer = pool.submit(recommender.refresh) if slow == "refresh" else recommender.refit()
        assert started.wait(30)
        named = ["new", "new", *(f"i{n % 4 + 1}" for n in range(3, 40))]
        recommender.update([event(n, f"u{n}", item, "like") for n, item in enumerate(named, 1)])
        if slow == "refresh":
            recommender.wanted = recommender.learner.__class__.from_settings({"rank": 4, "cutoff": 2})
            recommender.refit().result(30)
        else:
            recommender.refresh()
        go_on.set()
        outer.result(30)
    assert recommender.version.endswith("@39")
    if slow == "refresh":
        assert recommender.parameters["in_force"]["rank"] == 4  # the refit is still in force
    # and the item side knows the edges that came while the slow one was under way
    np.testing.assert_allclose(
        recommender.learner.state()[0]["fitted_degree"],
        recommender.state.edges.item_likes
        + abs(recommender.learner.settings.dislike_weight) * recommender.state.edges.item_dislikes,
        rtol=1e-6,
    )


def test_an_activation_outlasts_a_refresh_under_way_and_leaves_the_strength_as_it_is(
    recommender: OnlineRecommender,
) -> None:
    first, computed = str(recommender.versions.current()), list[Any]()
    recommender.learner.dislike_strength = 0.5  # since that version was saved

    def compute(learner: Any, method: str, *edges: Any) -> Any:
        computed.append(learner)
        if len(computed) == 1:
            recommender.activate(first)
        return learner, getattr(learner, method)(*edges)

    recommender.compute = compute
    recommender.refresh()
    assert len(computed) == 2  # the second time from the version that was put in force
    assert recommender.learner is computed[1]
    assert recommender.learner.dislike_strength == 0.5


def test_a_version_that_can_not_be_in_force_is_not_the_one_of_the_next_start(opens: Opens) -> None:
    recommender = opens()
    first, expected = recommender.versions.current(), recommender.recommend("u1")
    other = recommender.state.snapshot({}, {"learner": {}}, model="Another")
    empty = recommender.state.snapshot({}, {}, model="SSF")
    recommender.activate(str(first))
    for name, message in ((other, "is of Another, not of SSF"), (empty, "does not hold what SSF needs")):
        check_refused(message, recommender.activate, name)
    recommender = opens()
    assert recommender.versions.current() == first
    assert recommender.recommend("u1") == expected


@pytest.mark.parametrize("where", ["log:committed", "state:appended", "learner", "edges"])
def test_after_an_exception_the_next_call_recovers(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    plain = begin(tmp_path / "plain")
    for each in (plain, recommender):
        each.learner.dislike_strength = 0.9  # since the version was saved
    events = [event(n, f"user{n}", f"i{n % 7 + 1}", "like") for n in range(20)]
    events.append(event(30, "u1", "", "forget_user"))

    class BrokenError(Exception):
        pass

    def fail(step: str = "", *_: Any, **__: Any) -> None:
        if where in ("learner", "edges", step):
            raise BrokenError

    with monkeypatch.context() as patch:
        if where == "learner":
            patch.setattr(type(recommender.learner), "update", lambda *_: fail())
        elif where == "edges":
            patch.setattr("recbole_signed.live.store.edges.EdgeState._count", lambda *_: fail())
        else:
            patch.setattr(files, "reached", fail)
        with pytest.raises(BrokenError):
            recommender.update(events)
    again = recommender.update(events)  # the sender tries again
    assert (again.update.n_new, again.update.n_duplicate) == (0, len(events))
    assert recommender.learner.dislike_strength == 0.9
    plain.update(events)
    for mine, theirs in zip(ranking(recommender), ranking(plain), strict=True):
        assert mine == theirs
    recommender.update([event(50, "user3", "brand new", "like")])
    plain.update([event(50, "user3", "brand new", "like")])
    assert state_hash(recommender.state) == state_hash(plain.state)
    plain.close()


def test_a_state_without_a_model_refuses_until_it_is_recovered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(step: str) -> None:
        if step == "log:committed":
            raise KeyboardInterrupt

    batch = EventBatch.from_events([event(1, "a", "x", "like"), event(2, "b", "y", "like")])
    with ready(tmp_path) as state:
        with monkeypatch.context() as patch:
            patch.setattr(files, "reached", fail)
            with pytest.raises(KeyboardInterrupt):
                state.ingest(batch)
        for call in (lambda: state.ingest(batch), lambda: state.snapshot({}, {}, model="m"), state.compact):
            with pytest.raises(UsageError, match=r"recover|replay"):
                call()
        state.recover()
        assert sum(update.n_new for update in state.replay()) == 2
        assert state.ingest(batch).n_duplicate == 2
        assert state.users.tokens([1, 2]) == ["a", "b"]


def test_a_forked_process_is_refused_and_does_no_harm(recommender: OnlineRecommender, opens: Opens) -> None:
    read, write = os.pipe()
    child = os.fork()
    if not child:  # the child
        said = []
        for call in (
            lambda: recommender.update([event(1, "u1", "i1", "like")]),
            lambda: recommender.recommend("u1"),
            recommender.snapshot,
        ):
            try:
                call()
                said.append("done")
            except UsageError as error:
                said.append("refused" if "forked from" in str(error) else str(error))
        recommender.close()
        os.write(write, " ".join(said).encode())
        time.sleep(2)  # it outlives the parent's use of the state
        os._exit(0)
    assert os.read(read, 1000).decode() == "refused refused refused"
    assert recommender.update([event(2, "u1", "i2", "like")]).update.n_new == 1
    opens()  # the child does not hold the lock
    os.waitpid(child, 0)


@pytest.mark.parametrize("what", ["deleted", "moved", "replaced", "log deleted"])
def test_nothing_is_acknowledged_once_the_files_are_gone(
    recommender: OnlineRecommender, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "state"
    recommender.update([event(1, "u1", "i1", "like")])
    other = None
    if what == "deleted":
        shutil.rmtree(folder)
    elif what == "log deleted":
        (folder / "log.sqlite").unlink()
    else:
        folder.rename(tmp_path / "elsewhere")
        if what == "replaced":
            other = begin(folder)
            before = sorted(each.name for each in (folder / "versions").iterdir())
    for call in (lambda: recommender.update([event(2, "u1", "i2", "like")]), recommender.snapshot):
        with pytest.raises(UsageError, match="was deleted, moved or replaced while the state was open"):
            call()
    assert recommender.recommend("u1", 5)
    if what == "moved":
        (tmp_path / "elsewhere").rename(folder)
        assert recommender.update([event(2, "u1", "i2", "like")]).update.n_new == 1
    recommender.close()
    if other is not None:
        assert sorted(each.name for each in (folder / "versions").iterdir()) == before
        other.close()
        OnlineRecommender.open(tmp_path / "elsewhere").close()


def test_what_is_committed_to_a_file_that_goes_away_meanwhile_is_not_acknowledged(
    recommender: OnlineRecommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(step: str) -> None:
        if step == "log:before commit":
            shutil.rmtree(tmp_path / "state")

    monkeypatch.setattr(files, "reached", delete)
    check_refused("was deleted, moved or replaced", recommender.update, [event(2, "u1", "i2", "like")])


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_versions_without_a_log_are_refused(tmp_path: Path, how: str) -> None:
    begin(tmp_path / "state").close()
    for each in (tmp_path / "state").glob("log.sqlite*"):
        each.unlink()
    if how == "empty":
        (tmp_path / "state" / "log.sqlite").touch()
    for _ in range(2):
        check_refused(r"log.sqlite is missing or empty, but .* was made from one", OnlineState.open, tmp_path / "state")


def test_a_bad_event_does_not_spoil_its_batch_and_each_is_told_its_fate(recommender: OnlineRecommender) -> None:
    rows: list[Any] = [
        {"event_id": "a", "user_id": 5, "item_id": "i1", "type": "like", "timestamp": NOW + 1},
        {"event_id": "b", "user_id": "u2", "item_id": "i1", "type": "adore", "timestamp": NOW + 1},
        Event("a", "5", "i1", "like", NOW + 1),
        "nonsense",
        {"event_id": "c", "user_id": "u3", "item_id": "", "type": "like", "timestamp": NOW + 1},
        {"event_id": "d", "user_id": "gone", "type": "forget_user", "timestamp": NOW + 9},
        {"event_id": "e", "user_id": "gone", "item_id": "i1", "type": "like", "timestamp": NOW + 1},
        {"user_id": "u4", "item_id": "i9", "type": "dislike", "timestamp": NOW + 2},
        {"event_id": "s", "user_id": "u4", "item_id": "i9", "type": "like", "timestamp": NOW // 1000},
    ]
    found = recommender.ingest(rows)
    assert [each.status for each in found] == [
        "accepted", "refused", "duplicate", "refused", "refused", "accepted", "refused", "accepted", "refused",
    ]  # fmt: skip
    assert [each.seq for each in found if each.seq] == [1, 2, 3]
    assert found[0].event_id == "a"
    assert str(found[7].event_id).startswith("content:")
    for place, words in (
        (1, "not a type of event"),
        (3, "not an object"),
        (4, "item_id is empty"),
        (6, "forgetting"),
        (8, "seconds"),
    ):
        assert words in str(found[place].reason)
    assert recommender.ingest([]) == []
    assert recommender.state.last_seq == 3
