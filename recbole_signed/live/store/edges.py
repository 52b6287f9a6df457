"""The current signed edges: what each user's pairs are seen as, kept under a stream of events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from recbole_signed.arrays import begins, grown
from recbole_signed.counts import PairCounts, RecentCounts
from recbole_signed.files import DamagedError
from recbole_signed.live import LIKE
from recbole_signed.live.events import ABSENT, DISLIKE, FORGET_USER, SKIP, UNDISLIKE
from recbole_signed.live.store.adjacency import KEY, Adjacency, Frozen
from recbole_signed.live.store.edge_views import (
    Changes,
    EdgeArrays,
    Keys,
    LogBatch,
    Rows,
    other_side,
    owners,
    pieces,
    turned,
)
from recbole_signed.live.store.nearest_items import NearestItems
from recbole_signed.live.store.registers import COLUMNS, NEVER, PairEvents, Registers
from recbole_signed.live.store.vocabulary import Vocabulary
from recbole_signed.sequences import Sequences

BY_USER, BY_ITEM = [KEY, *COLUMNS], [KEY, "kind"]  # columns of rows by user, and by item
# a batch of more pairs than these many, and than this share of all, is applied faster by making all rows again
_FEW = 1000
_MANY = 0.1


class EdgeState:
    """Edges by user and by item, with room to grow about 51 bytes a pair; a change copies two rows at most."""

    def __init__(self, n_users: int = 1, n_items: int = 1) -> None:
        self._by_user = Adjacency(COLUMNS)
        self._by_item = Adjacency({"kind": np.int8})
        self._user_counts = np.zeros((3, 1), dtype=np.int64)  # likes, dislikes, neutral
        self._item_counts = np.zeros((3, 1), dtype=np.int64)
        self._recent: dict[tuple[float, bool, float], RecentCounts] = {}
        self._nearest: NearestItems | None = None
        self._pairs: PairCounts | None = None
        self.vocabularies: tuple[Vocabulary, Vocabulary] | None = None  # of users and items, if these have names
        self.grow(n_users, n_items)

    # ---- reading

    @property
    def n_users(self) -> int:
        """Number of user ids, padding included."""
        return len(self._by_user)

    @property
    def n_items(self) -> int:
        """Number of item ids, padding included."""
        return len(self._by_item)

    def __len__(self) -> int:
        return self._by_item.n_entries

    @property
    def user_likes(self) -> np.ndarray:
        """Number of likes of each user, int64 ``[n_users]``; so for the three below."""
        return _read_only(self._user_counts[0, : self.n_users])

    @property
    def user_dislikes(self) -> np.ndarray:
        """Number of dislikes of each user."""
        return _read_only(self._user_counts[1, : self.n_users])

    @property
    def item_likes(self) -> np.ndarray:
        """Number of likes of each item."""
        return _read_only(self._item_counts[0, : self.n_items])

    @property
    def item_dislikes(self) -> np.ndarray:
        """Number of dislikes of each item."""
        return _read_only(self._item_counts[1, : self.n_items])

    @property
    def of_all(self) -> EdgeState:
        """The edges of all users, where a request lays something over those of one."""
        return self

    @property
    def keys(self) -> Keys | None:
        """Those of users and of items; None for their numbers."""
        if self.vocabularies is None:
            return None
        users, items = self.vocabularies
        return users.keys, items.keys

    @property
    def item_keys(self) -> np.ndarray | None:
        """Those of items alone, which an event needs: new users are not hashed for it."""
        return None if self.vocabularies is None else self.vocabularies[1].keys

    def user_has_edges(self, user: int) -> bool:
        """Return whether a user has a visible edge; one that is not known has none."""
        return 0 < user < self.n_users and bool(self._user_counts[:, user].any())

    def have_edges(self, items: np.ndarray) -> np.ndarray:
        """Return which items have a visible edge, bool ``[len(items)]``."""
        return np.asarray(self._item_counts[:, items].any(axis=0))

    def _registers(self, places: np.ndarray | slice) -> Registers:
        return Registers(*(self._by_user.columns[name][places] for name in COLUMNS))

    def of_user(self, user: int) -> Rows:
        """Visible edges of a user, with their times."""
        return self.of_users(np.array([user]), times=True)

    def of_item(self, item: int) -> Rows:
        """Visible edges of an item; ``ids`` are users."""
        return self.of_items(np.array([item]))

    def times(self, users: np.ndarray, items: np.ndarray, *, verdicts: bool = False) -> np.ndarray:
        """Newest time of each pair int64 ``[n]``, with ``verdicts`` of those alone; `NEVER` where nothing is known."""
        known = np.flatnonzero((users > 0) & (users < self.n_users))
        places = self._by_user.find(users[known], items[known])
        known, places = known[places >= 0], places[places >= 0]
        newest = np.full(len(users), NEVER, dtype=np.int64)
        newest[known] = self._registers(places).newest(verdicts=verdicts)
        return newest

    def of_users(self, users: np.ndarray, *, times: bool = False) -> Rows:
        """Visible edges of some users, with their times if asked for."""
        indptr, places = self._by_user.places(users)
        kind, time = self._registers(places).seen()
        rows = Rows(indptr, self._by_user.columns[KEY][places], kind, time if times else None)
        return rows.where(kind != ABSENT)

    def liked_by(self, users: np.ndarray) -> np.ndarray:
        """Return the items that some users like, one user's after the other's; 0 for each of their other pairs."""
        _, places = self._by_user.places(users)
        columns = self._by_user.columns
        liked = (columns["explicit"][places] == LIKE) & (columns["unlike_time"][places] == NEVER)
        return columns[KEY][places] * liked

    def recent(self, half_life: float, *, likes: bool = False, since: float = -np.inf) -> RecentCounts:
        """Verdicts (or likes) on each item since ``since``, halved in ``half_life`` days; they follow each change."""
        key = half_life, likes, since
        if key not in self._recent:
            _, item, like, time = self.export().verdicts
            rows = like | (not likes)
            self._recent[key] = RecentCounts.from_events(item[rows], time[rows], half_life, self.n_items, since)
        return self._recent[key]

    def pairs(self) -> PairCounts:
        """Return how often items follow each other, counted when first asked for, and following each change."""
        if self._pairs is None:
            self._pairs = PairCounts.from_sequences(self.export().sequences(self.n_users), self.n_items)
        return self._pairs

    def nearest(self, items: np.ndarray, keys: np.ndarray | None, most: int) -> tuple[np.ndarray, ...]:
        """Return what is nearest to items by all users' likes (:meth:`NearestItems.find`); rows follow each change."""
        if self._nearest is None:
            self._nearest = NearestItems()
        return self._nearest.find(self, items, keys, most)

    def of_items(self, items: np.ndarray) -> Rows:
        """Visible edges of some items; ``ids`` are users."""
        indptr, places = self._by_item.places(items)
        return Rows(indptr, self._by_item.columns[KEY][places], self._by_item.columns["kind"][places])

    def likers(self, items: np.ndarray) -> Rows:
        """Users that like some items; as :meth:`of_items`."""
        rows = self.of_items(items)
        return rows.where(rows.kind == LIKE)

    def export(self) -> EdgeArrays:
        """Copy all visible edges."""
        return _visible(*self._by_user.gather(BY_USER), self.keys)

    # ---- writing

    def grow(self, n_users: int, n_items: int) -> None:
        """Make room for ids below ``n_users`` and ``n_items``."""
        self._by_user.grow(n_users)
        self._by_item.grow(n_items)
        self._user_counts, self._item_counts = (
            grown(counts, n, axis=1) for counts, n in ((self._user_counts, n_users), (self._item_counts, n_items))
        )
        for recent in self._recent.values():
            recent.grow(self.n_items)
        if self._pairs is not None:
            self._pairs.grow(self.n_items)

    def apply(self, batch: LogBatch) -> Changes:
        """Apply later rows of the log, from which those of users that the batch forgets were left out."""
        self.grow(batch.n_users, batch.n_items)
        users = np.unique(batch.user)
        self._by_user.keep(users)
        with self._paired(users):
            return self._apply(batch)

    def _apply(self, batch: LogBatch) -> Changes:
        forgets = batch.type == FORGET_USER
        forgotten = np.unique(batch.user[forgets & (batch.user > 0)]).astype(np.int32)
        parts = [self._forget(int(user)) for user in forgotten]
        rows = batch.type <= UNDISLIKE  # the others are of no pair
        if rows.any():
            events = PairEvents.from_columns(
                batch.user[rows], batch.item[rows], batch.type[rows], batch.timestamp[rows]
            )
            many = len(events.user) > max(_FEW, _MANY * self._by_user.n_entries)
            was, now = self._rebuild(events) if many else self._change(events)
            (old, old_time), (new, new_time) = was.seen(), now.seen()
            parts.append((events.user, events.item, old, new, old_time, new_time))
        if not parts:
            none = np.zeros(0, dtype=np.int32)
            return Changes(none, none, none.astype(np.int8), none.astype(np.int8), forgotten)
        columns = tuple(map(np.concatenate, zip(*parts, strict=True)))
        if len(parts) > 1:
            order = np.lexsort((columns[1], columns[0]))
            columns = tuple(column[order] for column in columns)
        self._note(*columns)
        user, item, old, new = columns[:4]
        return Changes(user, item, old, new, forgotten)

    def erase(self, users: Iterable[int]) -> None:
        """Erase users, as a ``forget_user`` does."""
        gone = np.array(list(users), dtype=np.int64)
        self._by_user.keep(gone)
        with self._paired(gone):
            if parts := [self._forget(user) for user in gone.tolist()]:
                self._note(*map(np.concatenate, zip(*parts, strict=True)))

    @contextlib.contextmanager
    def _paired(self, users: np.ndarray) -> Iterator[None]:
        """Let the counts of pairs follow what happens to some users meanwhile."""
        if self._pairs is None or len(users) > _FEW:
            self._pairs = None
            yield
            return
        counts, before = self._pairs, self._sequences(users)
        yield
        counts.replace(before, self._sequences(users))

    def _sequences(self, users: np.ndarray) -> Sequences:
        return self.of_users(users, times=True).verdicts.sequences(self.item_keys)

    def _change(self, events: PairEvents) -> tuple[Registers, Registers]:
        """Change the rows that events touch; give the registers before and after."""
        places = self._by_user.find(events.user, events.item)
        there = places >= 0
        registers = Registers.none(len(places))
        stored = self._registers(slice(None))
        registers.put(there, stored.take(places[there]))
        after = registers.after(events)
        stored.put(places[there], after.take(there))
        if not there.all():
            self._by_user.insert(events.user[~there], events.item[~there], after.take(~there).columns())
        self._change_items(events.user, events.item, registers.kind(), after.kind())
        return registers, after

    def _change_items(self, user: np.ndarray, item: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
        moved = np.flatnonzero(old != new)
        if len(moved) > 1:
            moved = moved[np.lexsort((user[moved], item[moved]))]
        user, item, old, new = user[moved], item[moved], old[moved], new[moved]
        self._by_item.keep(np.unique(item))
        gone, come = new == ABSENT, old == ABSENT
        stay = ~gone & ~come
        if stay.any():
            self._by_item.columns["kind"][self._by_item.find(item[stay], user[stay])] = new[stay]
        if gone.any():
            self._by_item.delete(item[gone], user[gone])
        if come.any():
            self._by_item.insert(item[come], user[come], {"kind": new[come]})

    def _rebuild(self, events: PairEvents) -> tuple[Registers, Registers]:
        """Make all rows again, with the events in them; give the registers before and after of their pairs."""
        user, item, registers = self._all()
        known, touched = _key(user, item), _key(events.user, events.item)
        key = np.sort(np.concatenate([known, touched]), kind="stable")  # two sorted runs, merged in one pass
        key = key[begins(key)]
        merged = Registers.none(len(key))
        merged.put(np.searchsorted(key, known), registers)
        places = np.searchsorted(key, touched)
        before = merged.take(places)
        after = before.after(events)
        merged.put(places, after)
        self._load((key >> 32).astype(np.int32), (key & 0xFFFFFFFF).astype(np.int32), merged)
        return before, after

    def _forget(self, user: int) -> tuple[np.ndarray, ...]:
        row = self.of_user(user)
        users = np.full(len(row.ids), user, dtype=np.int32)
        if len(row.ids):
            self._by_item.keep(row.ids)
            self._by_item.delete(row.ids, users)
        self._by_user.clear(user)
        assert row.timestamp is not None
        gone = np.full(len(row.ids), ABSENT, dtype=np.int8)
        return users, row.ids, row.kind, gone, row.timestamp, np.full(len(row.ids), NEVER, dtype=np.int64)

    def _note(self, *columns: np.ndarray) -> None:
        """Take changes of pairs into all counters."""
        user, item, old, new, old_time, new_time = columns
        self._count(user, item, old, new)
        if self._nearest is not None:
            self._nearest.follow(self, user, item, old, new)
        for (_, likes, _), recent in self._recent.items():
            for kinds, times, step in ((old, old_time, -1.0), (new, new_time, 1.0)):
                rows = (kinds == LIKE) | ((kinds == DISLIKE) & (not likes))
                recent.add(item[rows], times[rows], step)
        self._recent = {key: recent for key, recent in self._recent.items() if not recent.worn}

    def _count(self, user: np.ndarray, item: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
        moved = np.flatnonzero(old != new)
        for counts, ids in ((self._user_counts, user[moved]), (self._item_counts, item[moved])):
            for kinds, step in ((old[moved], -1), (new[moved], 1)):
                seen = kinds != ABSENT
                np.add.at(counts, (np.minimum(kinds[seen], SKIP) - 1, ids[seen]), step)

    # ---- all of it

    def _all(self) -> tuple[np.ndarray, np.ndarray, Registers]:
        indptr, columns = self._by_user.gather(BY_USER)
        return owners(indptr), columns[0], Registers(*columns[1:])

    def _load(self, user: np.ndarray, item: np.ndarray, registers: Registers) -> np.ndarray:
        """Take sorted pairs in the place of all that was there but counts; return what each is seen as, int8."""
        self._by_user.load(_indptr(user, self.n_users), {KEY: item, **registers.columns()})
        kind = registers.kind()
        seen = kind != ABSENT
        by_item, users, kinds = other_side(_indptr(user[seen], self.n_users), item[seen], kind[seen], self.n_items)
        self._by_item.load(by_item, {KEY: users, "kind": kinds})
        return kind

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Give all that is remembered as arrays that `from_tensors` takes."""
        return _tensors(*self._by_user.gather(BY_USER))

    def freeze(self, *, by_item: bool = False) -> FrozenEdges:
        """Remember all edges, to be copied while changes go on; ``by_item`` without times and what is not visible."""
        return FrozenEdges(self, self._by_item if by_item else self._by_user, by_item=by_item)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray], n_items: int) -> EdgeState:
        """Make the state again that `to_tensors` gave."""
        indptr = tensors["indptr"]
        state = cls(len(indptr) - 1, n_items)
        kept = {name: tensors[name] for name in ("explicit", "neutral", "explicit_time", "neutral_time")}
        for name in ("unlike_time", "undislike_time"):
            kept[name] = np.full(len(tensors["item"]), NEVER, dtype=np.int64)
            kept[name][tensors["retracted"]] = tensors[name]
        user = np.repeat(np.arange(state.n_users, dtype=np.int32), np.diff(indptr))
        kind = state._load(user, tensors["item"], Registers(**kept))
        for first, last in pieces(indptr):
            part = slice(int(indptr[first]), int(indptr[last]))
            state._count(user[part], tensors["item"][part], np.zeros(part.stop - part.start, np.int8), kind[part])
        return state

    @classmethod
    def of_version(cls, name: str, tensors: Mapping[str, np.ndarray], n_items: int) -> EdgeState:
        """Make the state of a version whose files are what was written, by whomever."""
        try:
            return cls.from_tensors(tensors, n_items)
        except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise DamagedError(f"{name} is damaged: its edges are not edges ({error}).") from error


class FrozenEdges:
    """All edges at one moment; made by :meth:`EdgeState.freeze`, and copied once, by one of its methods."""

    def __init__(self, edges: EdgeState, rows: Adjacency, *, by_item: bool) -> None:
        self._edges, self._frozen, self._n_users, self._by_item = edges, Frozen(rows), edges.n_users, by_item

    def tensors(self, lock: contextlib.AbstractContextManager[object]) -> dict[str, np.ndarray]:
        """Give what `EdgeState.to_tensors` gave then, of edges by user; ``lock`` is what changes hold."""
        return _tensors(*self._frozen.copied(BY_USER, lock))

    def arrays(self, lock: contextlib.AbstractContextManager[object]) -> EdgeArrays:
        """Give what `EdgeState.export` gave then, with ``by_item`` without times; ``lock`` is what changes hold."""
        keys = self._edges.keys  # which stay; those of later ids come after them
        if not self._by_item:
            return _visible(*self._frozen.copied(BY_USER, lock), keys)
        indptr, (user, kind) = self._frozen.copied(BY_ITEM, lock)
        return turned(indptr, user, kind, self._n_users, keys)


def _visible(indptr: np.ndarray, columns: list[np.ndarray], keys: Keys | None) -> EdgeArrays:
    kind, time = Registers(*columns[1:]).seen()
    edges = EdgeArrays(owners(indptr), columns[0], kind, time, keys)
    seen = kind != ABSENT
    return edges if seen.all() else edges.where(seen)


def _tensors(indptr: np.ndarray, columns: list[np.ndarray]) -> dict[str, np.ndarray]:
    registers = Registers(*columns[1:])
    taken = np.flatnonzero((registers.unlike_time != NEVER) | (registers.undislike_time != NEVER))
    return {
        "indptr": indptr,
        "item": columns[0],
        "explicit": registers.explicit,
        "neutral": registers.neutral,
        "explicit_time": registers.explicit_time,
        "neutral_time": registers.neutral_time,
        "retracted": taken,  # rare, so only the pairs that were are kept
        "unlike_time": registers.unlike_time[taken],
        "undislike_time": registers.undislike_time[taken],
    }


def _key(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    return (user.astype(np.int64) << 32) | item.astype(np.int64)


def _indptr(sorted_ids: np.ndarray, n: int) -> np.ndarray:
    return np.searchsorted(sorted_ids, np.arange(n + 1, dtype=sorted_ids.dtype))


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
