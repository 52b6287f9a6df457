"""A model over a state directory: events change its recommendations at once, and survive any crash."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError
from recbole_signed.ids_and_times import quoted
from recbole_signed.live.event_fields import ASKING, UNDO
from recbole_signed.live.events import ANNOUNCED, Event, EventBatch, Limits, id_of
from recbole_signed.live.learners.asked import Asked, ItemValues, unknown_values
from recbole_signed.live.learners.base import Learner, learner_from
from recbole_signed.live.learners.ranking import best_items, with_parameters
from recbole_signed.live.renewal import Forgetting, RenewableModel, UpdateResult, numbers_of
from recbole_signed.live.store.erasure import Pending
from recbole_signed.live.store.results import EventResult, ParsedRows
from recbole_signed.live.store.settings import StateSettings
from recbole_signed.live.store.state import OnlineState
from recbole_signed.plugin.ranges import RANGES, check_range

EdgeColumns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class OnlineRecommender(RenewableModel):
    """The state directory and the model that follows it, opened by :meth:`open`; calls may come from several threads.

    * :meth:`update` makes events durable and takes them in (T0 and T1);
    * :meth:`refresh` brings the item side up to date (T2);
    * :meth:`refit` learns from scratch in the background and is swapped in whole (T3); updates and refreshes go on
      meanwhile, and what they brought is in the new version too;
    * :meth:`recommend` ranks for a user by its own id;
    * :meth:`snapshot` saves a version, from which, and from the events after it, the next start goes on.

    After an exception that left the model behind the log, the next call first reads both again from the disk. After
    :meth:`close`, and in a process forked from the one that opened it, every call is refused.
    """

    @classmethod
    def open(cls, directory: str | Path, *, keep: int = 3, settings: StateSettings | None = None) -> OnlineRecommender:
        """Start from a state directory alone: the newest version, the settings stored in it, and the events since.

        Args:
            directory: of the state; an :class:`~recbole_signed.live.OnlineTrainer` began it.
            keep: number of versions that a new one leaves, beside the pinned.
            settings: limits of the state; the default ones if None.

        Raises:
            UsageError: there is no state, or it holds no version that is whole.
        """
        made = object.__new__(OnlineRecommender)
        state = OnlineState.open(directory, create=False, keep=keep, settings=settings)
        try:
            made._prepare(state.directory, "")
            snapshot = state.recover()
            if snapshot is None:
                raise UsageError(
                    f"{state.directory} holds no version that is whole; start it once with the data set and snapshot()."
                )
            made.model_name = snapshot.model
            made._go_on(state, learner_from(snapshot.meta.get("learner", {})), snapshot)
        except BaseException:
            state.close()
            raise
        return made

    @classmethod
    def begin(
        cls,
        directory: str | Path,
        learner: Learner,
        users: Sequence[str] = (),
        items: Sequence[str] = (),
        edges: EdgeColumns | None = None,
        *,
        keep: int = 3,
        unit_known: bool = False,
        settings: StateSettings | None = None,
    ) -> OnlineRecommender:
        """Begin a new state directory with edges, fit a learner to them, and save the first version.

        Args:
            directory: of the state, empty or not there yet.
            learner: what to follow the events with.
            users, items: tokens of the ids 1, 2, ...
            edges: users, items, kinds and times in milliseconds, ``[E]`` each; see `OnlineState.bulk_load`.
            keep: number of versions that a new one leaves, beside the pinned.
            unit_known: times that have the size of seconds are milliseconds nevertheless, as those of `base_of` are.
            settings: limits of the state; the default ones if None.

        Raises:
            UsageError: the state is not empty, the edges do not fit, or the disk is full.
        """
        made = object.__new__(OnlineRecommender)
        state = OnlineState.open(directory, keep=keep, settings=settings)
        try:
            made._prepare(state.directory, learner.name)
            made._begin(state, learner, users, items, edges, unit_known=unit_known)
        except BaseException:
            state.close()
            raise
        return made

    def _begin(
        self,
        state: OnlineState,
        learner: Learner,
        users: Sequence[str],
        items: Sequence[str],
        edges: EdgeColumns | None,
        *,
        unit_known: bool,
    ) -> None:
        none = np.zeros(0, dtype=np.int64)
        columns = edges if edges is not None else (none, none, none, none)
        state.bulk_load(users, items, *columns, unit_known=unit_known)
        learner.fit(state.edges.export(), state.edges.n_users, state.edges.n_items)
        learner.attach(state.edges)
        self.state, self.learner, self._fitted_seq = state, learner, state.applied_seq
        self.snapshot()

    def _prepare(self, directory: Path, model_name: str) -> None:
        super()._prepare(directory, model_name)
        self._forgetting = Forgetting(self, self._forget_in_backup)

    # ---- learning

    @property
    def _limits(self) -> Limits | None:
        return None if self.state is None else self.state.settings.event_limits

    def update(
        self, events: EventBatch | Iterable[Event], source: str | None = None, position: str | None = None
    ) -> UpdateResult:
        """Make events durable and take them in; recommendations follow them from then on.

        Args:
            events: in order.
            source: name of the stream that they come from.
            position: up to which it is read then, kept in the log with the events.

        Raises:
            UsageError: an event is not valid, or the disk is full; then none of them was taken.
        """
        started = time.perf_counter()
        batch = events if isinstance(events, EventBatch) else EventBatch.from_events(events, self._limits)
        if batch is not events:
            for place, reason in self._unfit(batch).items():
                raise UsageError(f"Event {place} of the batch is not valid: {reason}.")
        with self._between_updates() as state:
            try:
                appended = state.append(batch, source, position)  # rankings do not wait for the disk
            except BaseException:
                with self._lock:
                    self._behind = state.applied_seq != state.last_seq
                raise
            with self.reading() as (state, learner):
                self._behind = True  # until state and learner have it
                update = state.take_in(appended)
                if update.n_new:
                    learner.update(state.edges, update.changes)
                    if len(batch.announces):
                        learner.announce(state.announced(batch))
                self._behind = False
                self._forgetting.after_update(update)
        return UpdateResult(update, time.perf_counter() - started)

    def ingest(
        self,
        rows: Iterable[Event | Mapping[str, Any]],
        limits: Limits | None = None,
        *,
        times: Mapping[int, int] | None = None,
        before: Callable[[EventBatch], None] | None = None,
        source: str | None = None,
        position: str | None = None,
    ) -> list[EventResult]:
        """Take in those rows that are valid events, and tell of each what became of it.

        Args:
            rows: events, or mappings with their fields.
            limits: of ids and time stamps; those of the state by default.
            times: of rows that have none, by their places; they are taken though they lie ahead of the clock.
            before: called with the valid events before they are taken in; some of them may be duplicates.
            source: name of the stream that they come from.
            position: up to which it is read then.

        Raises:
            UsageError: the disk is full; then none of them was taken.
        """
        parsed = ParsedRows.from_rows(rows, limits or self._limits, times)
        parsed = parsed.without(self._unfit(parsed.batch))
        if before is not None:
            before(parsed.batch)
        update = self.update(parsed.batch, source, position).update
        assert update.status is not None
        return parsed.results(update.status, update.logged.first_seq)

    def position(self, source: str) -> str | None:
        """Return up to where a stream was read when its last events became durable; None where that is not known."""
        with self.reading() as (state, _):
            return state.log.position(source)

    def _unfit(self, batch: EventBatch) -> dict[int, str]:
        """Return which announcements of a batch the model can't read, and which ask for what nobody knows, and why."""
        unfit: dict[int, str] = {}
        for kind, side in ANNOUNCED.items() if len(batch.announces) else ():
            rows = np.flatnonzero(batch.type == kind).tolist()
            with self.reading() as (_, learner):
                reasons = learner.unfit(side, [json.loads(batch.features[row]) for row in rows])
            unfit |= {rows[place]: reason for place, reason in reasons.items()}
        if (batch.type >= min(ASKING)).any():
            with self.reading() as (state, learner):
                unfit |= unknown_values(ItemValues(state, learner), batch)
                for row in np.flatnonzero(batch.type == UNDO).tolist():
                    event = json.loads(batch.features[row]).get("event")
                    if event is not None and (reason := _not_undone(state, batch, row, event)):
                        unfit[row] = reason
        return dict(sorted(unfit.items()))

    # ---- what is shown

    def withdraw(self, items: str | int | Iterable[str | int]) -> None:
        """Keep an item, or several, from being recommended until :meth:`put_back`; see `OnlineState.withdraw`."""
        with self._between_updates() as state:
            state.withdraw(items)

    def put_back(self, items: str | int | Iterable[str | int]) -> None:
        """Let withdrawn items be recommended again."""
        with self._between_updates() as state:
            state.withdraw(items, back=True)

    @contextlib.contextmanager
    def _between_updates(self) -> Iterator[OnlineState]:
        """Hold back other updates, and not the model, while something is written to the disk."""
        self._check_process()
        with self._updating:
            yield self.current()

    # ---- forgetting

    def forget(self, user: str | int, timestamp: int | None = None) -> Pending:
        """Erase a user from all files but what its edges left in factors, which the next :meth:`refit` removes.

        ``update`` with an event ``forget_user`` does the same, with the files in the background.

        Args:
            user: its id as events have it.
            timestamp: of the forgetting, in milliseconds; now if None, or later than an earlier forgetting.

        Raises:
            UsageError: ``user`` is not an id, it came back after a forgetting that is not older than ``timestamp``, or
                the disk is full; then nothing was forgotten.
        """
        token = id_of(user)
        before = self.current().log.graves.time_of(token)
        stamp = self.time_to_forget(token) if timestamp is None else timestamp
        # one that follows an earlier forgetting may lie ahead of a clock that was set back since
        limits = self._limits if timestamp is not None else Limits(future_tolerance=None)
        self.update(EventBatch.from_events([Event("", token, "", "forget_user", stamp)], limits))
        with self.reading() as (state, _):
            if stamp <= before and token in state.users:
                raise UsageError(
                    f"{token!r} came back after it was forgotten at {before}, and a forgetting at {stamp} counts as "
                    "one that was delayed on its way; give a later timestamp, or none."
                )
        return self.erase()

    def time_to_forget(self, user: str | int) -> int:
        """Return when a user can be forgotten, in milliseconds: now, or after what a clock that was ahead has taken."""
        with self.reading() as (state, _):
            return max(state.settings.now(), *self.times_to_follow([id_of(user)], [""]))

    def times_to_follow(self, users: Sequence[str], items: Sequence[str]) -> list[int]:
        """Return the times, in milliseconds, just after the newest of each user and item, and after forgettings."""
        with self.reading() as (state, _):
            times = state.edges.times(state.users.ids(users), state.items.ids(items)).tolist()
            graves = state.log.graves
            late = map(graves.time_of, users) if len(graves) else times
            asked = map(state.log.wishes.newest, state.users.ids(users).tolist())
            return [max(stamps) + 1 for stamps in zip(times, late, asked, strict=True)]

    @property
    def pending_erasure(self) -> Pending:
        """What is left of users who were forgotten."""
        return self._forgetting.pending()

    def erase(self) -> Pending:
        """Do what is left of erasures, and return what still is; it is tried again at updates and at opening."""
        return self._forgetting.now()

    def _forget_in_backup(self, path: Path, users: dict[int, bytes], timestamp: int) -> None:
        """Erase users from a backup and from the factors in it; UsageError where something of them is left."""
        with contextlib.closing(OnlineRecommender.open(path)) as backup:
            with backup.reading() as (state, _):
                known = state.users
                shared = [user for user, tag in users.items() if user < len(known) and known.tag(user) == tag]
                tokens = [token for token in known.tokens(shared) if token is not None]
                # one who came back there after an earlier forgetting is forgotten by a later one alone
                stamps = [max(timestamp, state.log.graves.time_of(token) + 1) for token in tokens]
            gone = [Event("", token, "", "forget_user", at) for token, at in zip(tokens, stamps, strict=True)]
            if gone:
                backup.update(EventBatch.from_events(gone, Limits(future_tolerance=None)))
            if backup.pending_erasure:
                backup.refit().result()
                left = backup.erase()
                if left:
                    raise UsageError(f"the backup {path} still holds forgotten users: {left}.")

    # ---- ranking

    def recommend(
        self,
        user: str | int,
        k: int = 20,
        *,
        exclude: str | int | Iterable[str | int] = (),
        include_only: str | int | Iterable[str | int] | None = None,
        dislike_strength: float | None = None,
    ) -> list[tuple[str, float]]:
        """Return the ``k`` best items for a user, with their scores, best first; none that the user has an edge to.

        Items that are withdrawn, and those that newcomers alone have touched, are not shown.

        Args:
            user: its id as events have it; one that is not known gets what a user without edges gets.
            k: how many; fewer where the catalogue has no more.
            exclude: an item, or several, that are left out.
            include_only: items to choose from; all if None. Those that are not known are passed over.
            dislike_strength: from 0 to 1, of the personal verdict and of what the user asked for less or more of; that
                of the model, and .7, if None.

        Raises:
            UsageError: ``user`` or an item is not an id, ``k`` is not a whole number of 1 or more, or the strength is
                out of its range.
        """
        token = id_of(user)
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise UsageError(f"k is the number of items to recommend, a whole number of 1 or more, but is {k!r}.")
        changed = {} if dislike_strength is None else {"dislike_strength": dislike_strength}
        if dislike_strength is not None:
            check_range("dislike_strength", dislike_strength, RANGES["dislike_strength"])
        with self.reading() as (state, learner):
            learner = with_parameters(learner, changed)
            number = state.users.id_of(token)
            out, only = numbers_of(state, exclude), None if include_only is None else numbers_of(state, include_only)
            hidden = np.union1d(state.hidden_items(), out)
            items, values = best_items(
                learner,
                state.edges,
                number,
                int(k),
                state.items.keys,
                user_keys=state.users.keys,
                exclude=hidden,
                include_only=only,
                asked=Asked.from_state(state, learner, number),
            )
            tokens = state.items.tokens(items.tolist())
        return [(token, value) for token, value in zip(tokens, values.tolist(), strict=True) if token is not None]


def _not_undone(state: OnlineState, batch: EventBatch, row: int, event: str) -> str | None:
    """Return why the undo in a row of a batch does not fit the event that it names; None where it does."""
    user, before = batch.user_id[row], batch.event_id[:row]
    kind: int | None
    if event in before:
        place = before.index(event)
        own, kind = batch.user_id[place] == user, int(batch.type[place])
    else:
        whose, kind = state.log.user_and_type(event) or (-1, None)
        own = whose == int(state.users.ids([user])[0])
    if not own:
        return f"there is no event with the id {quoted(event)} to take back"
    if kind is None or (kind in ASKING and kind != UNDO):  # the type of an old event is not known any more
        return None
    return f"the event {quoted(event)} asked for nothing; a like or dislike is taken back by unlike or undislike"
