"""A writer, replicas of it and the state opened again give the same lists, whatever was called before."""

import itertools
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_recommender import N_ITEMS, N_USERS, NOW, Clock, begin
from state_hashes import tokens_hash, wish_rows

from recbole_signed.live import Event, OnlineRecommender
from recbole_signed.live.learners.asked import Asked
from recbole_signed.live.learners.ranking import best_items
from recbole_signed.live.replica import OnlineReplica
from recbole_signed.live.store.settings import StateSettings

DAY = 86_400
MODELS: dict[str, dict[str, Any]] = {
    "SSF": {},
    "SSFL": {"rank": 6, "learned_rank": 4},
    "SSFT": {"rank": 6, "cutoff": 3},
    "SignediALS": {"embedding_size": 6},
    "SignedEASE": {},
    "DecayPop": {},
    "BPR": {"embedding_size": 8, "epochs": 1, "refresh_steps": 2},
}
VERDICTS = ("like", "dislike", "view", "unlike", "undislike", "hide")
GENRES = ("Horror", "Comedy")
USERS = [f"u{n}" for n in (1, 2, 3, 4, N_USERS + 1, N_USERS + 2, 999)]
"""Some of the data set, some of the stream, and one who is not known."""


class Walk:
    """A recommender, what may happen to it, and what it tells."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.clock, self.rng, self.numbers = folder, Clock(), np.random.default_rng(3), itertools.count(1)
        self.settings, self.taken = StateSettings(clock=self.clock), list[Event]()
        begin(folder, model, **MODELS[model]).close()
        self.writer = OnlineRecommender.open(folder, settings=self.settings)
        self.writer.update([Event("", "", f"i{n}", "item", NOW, features={"genre": GENRES[n % 2]}) for n in range(9)])

    def event(self) -> Event:
        number, user = next(self.numbers), f"u{self.rng.integers(1, N_USERS + 3)}"
        item, genre = f"i{self.rng.integers(1, N_ITEMS + 6)}", {"genre": GENRES[self.rng.integers(2)]}
        kind = str(self.rng.choice(["item", "user", "less", "more", "undo", *["forget_user"] * 2, *VERDICTS * 4]))
        who = ("" if kind == "item" else user), (item if kind in (*VERDICTS, "item") else "")
        features = None if kind in (*VERDICTS, "forget_user") else genre
        duration = DAY / 2 if kind == "dislike" and self.rng.random() < 0.2 else None
        self.taken.append(Event(f"e{number}", *who, kind, NOW + number, features=features, duration=duration))
        return self.taken[-1]

    def opened_again(self) -> None:
        self.writer.snapshot()
        before = told(self.writer)
        self.writer.close()
        self.writer = OnlineRecommender.open(self.folder, settings=self.settings)
        check_same(told(self.writer), before)

    def compacted(self) -> None:
        for _ in range(3):  # so that no version reaches back behind the base
            self.writer.snapshot()
        self.writer.compact()

    def back(self) -> None:
        self.writer.erase()  # which may throw versions away
        self.writer.activate(self.writer.versions.names()[0])

    def happens(self, name: str) -> None:
        item = f"i{self.rng.integers(1, N_ITEMS + 6)}"
        calls: dict[str, Callable[[], Any]] = {
            "refresh": self.writer.refresh,
            "refit": lambda: self.writer.refit().result(60),
            "compact": self.compacted,
            "withdraw": lambda: self.writer.withdraw(item),
            "put back": lambda: self.writer.put_back(self.writer.state.withdrawn or item),  # type: ignore[union-attr]
            "opened again": self.opened_again,
            "activate": self.back,
            "a day": lambda: setattr(self.clock, "now", self.clock.now + DAY + 61),
        }
        calls[name]()
        if name in ("refresh", "refit"):
            self.writer.snapshot()


def told(source: OnlineRecommender | OnlineReplica) -> tuple[Any, ...]:
    """Return what it says of itself, of items, ids and wishes, and lists with their scores."""
    with source.reading() as (state, learner):
        lists = []
        for user in USERS:
            number, keys = state.users.id_of(user), state.items.keys
            more = {"exclude": state.hidden_items(), "asked": Asked.from_state(state, learner, number)}
            items, scores = best_items(learner, state.edges, number, 8, keys, user_keys=state.users.keys, **more)
            lists.append((state.items.tokens(items.tolist()), scores.tolist()))
        hidden = sorted(state.items.tokens(state.hidden_items().tolist()))
        ids = tokens_hash(state.users), tokens_hash(state.items)
        return source.version, learner.parameters(), state.applied_seq, hidden, ids, wish_rows(state.log), lists


def check_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert one[:-1] == other[:-1]
    for (items, scores), (others, theirs) in zip(one[-1], other[-1], strict=True):
        assert items == others
        np.testing.assert_allclose(scores, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", list(MODELS))
def test_after_whatever_has_happened_all_tell_the_same(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recbole_signed.live.replica.FAR", 12)  # further behind it starts again from a version
    walk = Walk(tmp_path / "state", model)
    with closing(OnlineReplica(walk.folder, settings=walk.settings)) as replica:
        for turn in range(40):
            walk.writer.update([walk.event() for _ in range(int(walk.rng.integers(1, 6)))])
            names = ["refresh", "refit", "compact", "withdraw", "put back", "opened again", "activate", "a day"]
            if turn % 2:
                walk.happens(names[turn // 2 % len(names)])
            if turn % 8 == 3:
                before = told(walk.writer)
                walk.writer.update([*walk.taken, *walk.taken[::-1]])
                check_same(told(walk.writer), before)
            if walk.rng.random() < 0.3:
                replica.follow()
                check_same(told(replica), told(walk.writer))
            if turn % 8 == 5:
                with closing(OnlineReplica(walk.folder, settings=walk.settings)) as late:
                    check_same(told(late), told(walk.writer))
        walk.opened_again()
    walk.writer.close()
