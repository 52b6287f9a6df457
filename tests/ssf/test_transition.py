"""Transitions and trends: sources, sums and counters against sums written out, in any order of rows and processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import edge_streams as streams
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recbole_signed.ssf.transition as transition
from recbole_signed.counts import DAY
from recbole_signed.live import LIKE
from recbole_signed.live.events import DISLIKE, FORGET_USER, UNLIKE
from recbole_signed.live.learners import make_learner
from recbole_signed.sequences import Sequences
from recbole_signed.ssf import TransitionSums
from recbole_signed.ssf.transition import LIKES, likes_each, sources_now

ROOT = Path(__file__).parents[2]
N_USERS, N_ITEMS, K = 5, 9, 3
SCALES = (2.0, 7.0)
VECTORS = np.random.default_rng(0).normal(size=(N_ITEMS, K)).astype(np.float32)
Event = tuple[int, int, bool, int]

_event = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.booleans(), st.integers(0, 9))
events = st.lists(_event, max_size=60, unique_by=lambda each: each[:2])
"""User, item, whether it is a like, and time; many times are the same."""


MOST_LIKES = transition.MOST_LIKES


@settings(max_examples=100, deadline=None)
@given(st.lists(_event, max_size=60), st.sampled_from([1, 1000, 0.5, 10**18]))
def test_events_are_in_the_order_of_users_moments_and_items(rows: list[Event], unit: float) -> None:
    """By one number where user and time fit into it, else by both."""
    user, item, like, when = (np.array(each) for each in zip(*rows, strict=True)) if rows else [np.zeros(0, int)] * 4
    found = Sequences.from_edges(user, item, like.astype(bool), when * unit, N_USERS)
    order = np.lexsort((item, when, user))
    assert found.item.tolist() == item[order].tolist()
    assert found.like.tolist() == like[order].tolist()
    assert found.owner.tolist() == user[order].tolist()


def test_a_source_unlike_all_that_were_learned_from_leads_nowhere() -> None:
    """What rounding leaves of its product would be taken for a score, over whose mean square it is put."""
    vectors = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0].astype(np.float32)
    rows = [(0, 0, True, 0), (0, 1, True, 1), (0, 2, True, 2), (1, 3, True, 0), (1, 4, True, 0)]
    of_both = sequences(rows, 3)
    operator = torch.from_numpy(TransitionSums.from_sequences(of_both, vectors, SCALES).solve(0.03))
    assert np.abs(sources_now(of_both, vectors, SCALES) @ operator.numpy())[1].max() > 0
    moved = transition.sources_moved(of_both, vectors, SCALES, operator)
    assert moved[0].norm() > 0.1
    assert not moved[1:].any()


@pytest.fixture(scope="module", autouse=True)
def _four_likes_of_each() -> Iterator[None]:
    """Few users would give all their likes here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transition, "MOST_LIKES", LIKES)
        yield


def sequences(rows: list[Event], n_users: int = N_USERS) -> Sequences:
    columns = [np.array([row[n] for row in rows], dtype=kind) for n, kind in enumerate((int, int, bool, int))]
    return Sequences.from_edges(*columns, n_users)


def source(past: list[Event]) -> np.ndarray:
    """Return the source of one user after events, from the formula."""
    found = np.zeros((2, len(SCALES), K))
    for _, item, like, time in past:
        later = sum(other[3] > time for other in past)
        for n, scale in enumerate(SCALES):
            found[0 if like else 1, n] += np.exp(-later / scale) * VECTORS[item]
    return found.ravel()


def sums(rows: list[Event]) -> tuple[np.ndarray, np.ndarray]:
    """Return both sums from the formula."""
    width = 2 * len(SCALES) * K
    gram, cross = np.zeros((width, width)), np.zeros((width, K))
    for user, item, like, time in rows:
        own = [row for row in rows if row[0] == user]
        past = [row for row in own if row[3] < time]
        if like and past and sum(row[2] and row[3] > time for row in own) < LIKES:
            z = source(past)
            gram += np.outer(z, z)
            cross += np.outer(z, VECTORS[item])
    return gram, cross


def close(found: TransitionSums, wanted: tuple[np.ndarray, np.ndarray]) -> None:
    for each, other in zip((found.gram, found.cross), wanted, strict=True):
        np.testing.assert_allclose(each, other, atol=1e-4)


@settings(max_examples=60)
@given(events, st.randoms())
def test_sources_and_sums_are_the_formula_in_any_order_of_rows(rows: list[Event], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for each in (rows, shuffled):
        found = sources_now(sequences(each), VECTORS, SCALES)
        wanted = [source([row for row in rows if row[0] == user]) for user in range(N_USERS)]
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        close(TransitionSums.from_sequences(sequences(each), VECTORS, SCALES), sums(rows))


@settings(max_examples=60)
@given(events, events)
def test_events_that_come_and_users_who_go_leave_what_a_full_count_gives(old: list[Event], new: list[Event]) -> None:
    """Of each pair the last verdict counts; the first user is erased in the end."""
    counted = TransitionSums.from_sequences(sequences(old), VECTORS, SCALES)
    pairs = {row[:2]: row for row in old}
    for row in new:
        before = [each for each in pairs.values() if each[0] == row[0]]
        pairs[row[:2]] = row
        after = [each for each in pairs.values() if each[0] == row[0]]
        counted.add(sequences(before), VECTORS, SCALES, -1.0)
        counted.add(sequences(after), VECTORS, SCALES)
    close(counted, sums(list(pairs.values())))
    counted.add(sequences([row for row in pairs.values() if row[0] == 0]), VECTORS, SCALES, -1.0)
    close(counted, sums([row for row in pairs.values() if row[0] != 0]))


def test_many_events_in_pieces_and_some_users_alone() -> None:
    rng = np.random.default_rng(1)
    n = 400
    user, item, like = rng.integers(0, 40, n), rng.integers(0, N_ITEMS, n), rng.random(n) < 0.6
    whole = Sequences.from_edges(user, item, like, rng.integers(0, 50, n), 40)
    pieces = whole.pieces(100)
    assert len(pieces) > 2
    np.testing.assert_array_equal(np.concatenate(pieces), np.arange(40))
    counted = TransitionSums(np.zeros((12, 12)), np.zeros((12, K)), LIKES)
    for users in pieces:
        counted.add(whole.of_users(users), VECTORS, SCALES)
    wanted = TransitionSums.from_sequences(whole, VECTORS, SCALES)
    close(counted, (wanted.gram, wanted.cross))
    some = np.array([7, 3, 3, 39])
    all_sources = sources_now(whole, VECTORS, SCALES)
    np.testing.assert_allclose(sources_now(whole.of_users(some), VECTORS, SCALES), all_sources[some], atol=1e-5)


def test_the_operator_is_the_ridge_regression() -> None:
    rng = np.random.default_rng(2)
    z, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))
    found = TransitionSums(z.T @ z, z.T @ y, LIKES).solve(0.1)
    regular = 0.1 * np.square(z).sum() / 6
    np.testing.assert_allclose(found, np.linalg.solve(z.T @ z + regular * np.eye(6), z.T @ y), rtol=1e-4)
    assert found.flags.c_contiguous  # as a saved version is read: a restart gives the same scores to the bit
    assert not TransitionSums(np.zeros((6, 6)), np.zeros((6, 3)), LIKES).solve(0.1).any()


def test_where_users_are_few_more_likes_of_each_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition, "MOST_LIKES", 64)
    assert [likes_each(n, 1000) for n in (0, 100, 1000, 10**6)] == [64, 64, 8, 4]
    rows = [(0, item, True, item) for item in range(N_ITEMS)]
    most = TransitionSums.from_sequences(sequences(rows), VECTORS, SCALES)
    assert most.n_likes == 64
    monkeypatch.setattr(transition, "ROWS", 0)
    least = TransitionSums.from_sequences(sequences(rows), VECTORS, SCALES)
    assert np.trace(most.gram) > np.trace(least.gram) > 0


@pytest.mark.parametrize("half_life", [1.0, 300.0])
def test_decaypop_ranks_by_likes_that_decay_offline_and_live(
    prepare_model: Callable[..., Any], half_life: float
) -> None:
    model, _, (train, *_) = prepare_model("DecayPop", half_life=half_life)
    model.fit()
    time, item = train.dataset.times("inter_feat"), train.dataset.inter_feat["item_id"].numpy()
    wanted = np.bincount(item, weights=np.exp2((time - time.max()) / 86400 / half_life), minlength=model.n_items)
    found = model.score(torch.tensor([1, 2])).numpy()
    np.testing.assert_allclose(found[0] / found[0].sum(), wanted / wanted.sum(), rtol=1e-5)
    np.testing.assert_array_equal(found[0], found[1])

    stream = streams.small_stream()
    life = half_life * 1e-6
    learner = streams.fitted(make_learner("DecayPop", {"half_life": life}), stream)
    moves = [[(3, 9, LIKE), (4, 9, DISLIKE), (5, 8, LIKE)], [(5, 8, UNLIKE)], [(6, 0, FORGET_USER)]]
    streams.follow(learner, stream, moves)
    _, item, like, time = stream.edges.export().verdicts
    weight = np.exp2((time[like] - time[like].max()) / DAY / life)
    wanted = np.bincount(item[like], weights=weight, minlength=stream.sizes[1])
    scores = learner.scores(stream.edges, np.array([2]))[0].numpy()
    np.testing.assert_allclose(scores / scores.sum(), wanted / wanted.sum(), rtol=1e-4)
    again = make_learner("DecayPop", learner.parameters())
    again.fit(stream.edges.export(), *stream.sizes)
    np.testing.assert_allclose(again.likes, learner.likes, rtol=1e-4)


@pytest.mark.parametrize(("name", "chosen"), [("DecayPop", {"half_life": 2.0}), ("SSFT", {"rank": 12})])
def test_half_lives_are_days_whatever_the_unit_of_the_file(
    prepare_model: Callable[..., Any], signed_rows: list, name: str, chosen: dict[str, Any]
) -> None:
    found = []
    for unit in (1, 1000, 1000):  # seconds, milliseconds, microseconds
        signed_rows[:] = [(*row, time * unit) for *row, time in signed_rows]
        model, *_ = prepare_model(name, **chosen)
        model.fit()
        found.append(model.score(torch.tensor([1])))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


SCRIPT = """
import sys
import numpy as np
import torch.distributed as dist
from recbole_signed.sequences import Sequences
from recbole_signed.ssf import TransitionSums

dist.init_process_group("gloo")
columns = np.load(sys.argv[1])
own = columns["user"] % dist.get_world_size() == dist.get_rank()
rows = [columns[name][own] for name in ("user", "item", "like", "time")]
sums = TransitionSums.from_sequences(Sequences.from_edges(*rows, 40), columns["vectors"], (2.0, 7.0))
np.savez(f"{sys.argv[2]}-{dist.get_rank()}.npz", gram=sums.gram, cross=sums.cross)
dist.destroy_process_group()
"""


def test_two_processes_count_the_sums_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transition, "MOST_LIKES", MOST_LIKES)
    rng = np.random.default_rng(3)
    user, item, like = rng.integers(0, 40, 500), rng.integers(0, N_ITEMS, 500), rng.random(500) < 0.6
    time = rng.integers(0, 60, 500)
    np.savez(tmp_path / "events.npz", user=user, item=item, like=like, time=time, vectors=VECTORS)
    script = tmp_path / "count.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launcher, str(script), str(tmp_path / "events.npz"), str(tmp_path / "sums")], check=True, cwd=ROOT)
    wanted = TransitionSums.from_sequences(Sequences.from_edges(user, item, like, time, 40), VECTORS, SCALES)
    for rank in (0, 1):
        found = np.load(tmp_path / f"sums-{rank}.npz")
        np.testing.assert_allclose(found["gram"], wanted.gram, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found["cross"], wanted.cross, rtol=1e-5, atol=1e-4)
