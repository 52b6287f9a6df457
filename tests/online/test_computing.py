"""Rankings wait neither for the disk nor for a fit; a fit in another process leads where one in this process does."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_recommender import begin, event

from recbole_signed.live import OnlineRecommender
from recbole_signed.live.computing import compute_apart, compute_here
from recbole_signed.live.store.edges import FrozenEdges
from recbole_signed.live.store.event_log import EventLog


def held_commits(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Let a commit wait, once it is written; return the events of that and of its end."""
    append, written, go_on = EventLog.append, threading.Event(), threading.Event()

    def slow(self: EventLog, *args: Any) -> Any:
        result = append(self, *args)
        written.set()
        assert go_on.wait(60)
        return result

    monkeypatch.setattr(EventLog, "append", slow)
    return written, go_on


def test_a_ranking_does_not_wait_for_the_disk(recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch) -> None:
    before = recommender.recommend("u1", 5)
    written, go_on = held_commits(monkeypatch)
    thread = threading.Thread(target=recommender.update, args=([event(1, "u1", before[0][0], "dislike")],))
    thread.start()
    assert written.wait(60)
    assert recommender.recommend("u1", 5) == before
    assert recommender.recommend("nobody", 5)
    go_on.set()
    thread.join(60)
    assert before[0][0] not in dict(recommender.recommend("u1", 50))


def test_rankings_do_not_wait_for_snapshots(recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch) -> None:
    written, go_on = held_commits(monkeypatch)
    update = threading.Thread(target=recommender.update, args=([event(1, "u1", "i1", "dislike")],))
    update.start()
    assert written.wait(60)
    snapshot = threading.Thread(target=recommender.snapshot)
    snapshot.start()
    snapshot.join(0.2)  # it gets as far as it can
    found: list[Any] = []
    ranking = threading.Thread(target=lambda: found.append(recommender.recommend("u2", 5)))
    ranking.start()
    ranking.join(20)
    assert found
    go_on.set()
    for each in (update, snapshot, ranking):
        each.join(60)
    assert recommender.versions.describe()[-1].applied_seq == 1


@pytest.mark.parametrize("method", ["refresh", "refit"])
def test_a_ranking_does_not_wait_until_edges_are_copied(
    method: str, recommender: OnlineRecommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, copying, go_on = FrozenEdges.arrays, threading.Event(), threading.Event()

    def slow(self: FrozenEdges, *args: Any) -> Any:
        copying.set()
        assert go_on.wait(60)
        return arrays(self, *args)

    monkeypatch.setattr(FrozenEdges, "arrays", slow)
    renewed = threading.Thread(target=getattr(recommender, method))
    renewed.start()
    assert copying.wait(60)
    recommender.update([event(1, "u1", "i1", "dislike")])
    assert recommender.recommend("u1", 5)
    go_on.set()
    renewed.join(60)


def test_a_process_of_its_own_computes_the_same(tmp_path: Path) -> None:
    results = []
    for name, compute in (("here", compute_here), ("apart", compute_apart)):
        recommender = begin(tmp_path / name)
        recommender.compute = compute
        recommender.update([event(n, f"u{n}", f"i{n}", "like") for n in range(10)])
        started = time.perf_counter()
        recommender.refresh()
        recommender.update([event(100 + n, f"u{n}", f"i{n + 5}", "dislike") for n in range(10)])
        recommender.refit().result()
        results.append([recommender.recommend(f"u{n}", 10) for n in range(20)])
        assert time.perf_counter() - started < 120
        assert recommender.version.endswith("@20")
        recommender.close()
    for here, apart in zip(*results, strict=True):
        assert [item for item, _ in here] == [item for item, _ in apart]
        np.testing.assert_allclose([score for _, score in here], [score for _, score in apart], rtol=1e-5)


def test_what_fails_in_the_process_is_raised_here(recommender: OnlineRecommender) -> None:
    with recommender.reading() as (state, learner):
        edges = state.edges.export()
        with pytest.raises(AttributeError, match="no_such_method"):
            compute_apart(learner, "no_such_method", edges, state.edges.n_users, state.edges.n_items)


def test_a_refit_learns_what_a_refresh_brought_meanwhile(recommender: OnlineRecommender) -> None:
    done: list[tuple[str, int]] = []

    def compute(learner: Any, method: str, edges: Any, *sizes: int) -> Any:
        done.append((method, len(edges.item)))
        if method == "fit":
            recommender.update([event(1, "u1", "new", "like"), event(2, "u2", "new", "like")])
            recommender.refresh()
        return compute_here(learner, method, edges, *sizes)

    recommender.compute = compute
    recommender.refit().result(60)
    (_, before), *refreshes = done
    assert refreshes == [("refresh", before + 2)] * 2
    assert recommender.version.endswith("@2")


def test_a_refresh_is_done_again_on_what_a_refit_brought_meanwhile(recommender: OnlineRecommender) -> None:
    done: list[str] = []

    def compute(learner: Any, method: str, edges: Any, *sizes: int) -> Any:
        done.append(method)
        if len(done) == 1:
            recommender.update([event(1, "u1", "new", "like")])
            recommender.refit().result(60)
        return compute_here(learner, method, edges, *sizes)

    recommender.compute = compute
    recommender.refresh()
    assert done == ["refresh", "fit", "refresh"]
    assert recommender.version.endswith("@1")
