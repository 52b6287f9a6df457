"""Events of a signed stream: what one is, and which rows are fit to be one.

* ids are those of :mod:`recbole_signed.ids_and_times`, but neither ``.`` nor ``..``, which no route can hold.
* time stamps are whole milliseconds since 1970 (or ISO 8601 with a zone); other units are refused by their size.
* a verdict replaces the other; ``undislike`` does not bring an ended like back.
* unknown fields are passed over in a stream unless misspelt (:func:`parse_rows`), and refused where rows are answered.
* without an ``event_id`` a row gets one made of its content, so that the same row read twice is one event.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

import numpy as np

from recbole_signed.errors import UsageError, nearest
from recbole_signed.ids_and_times import MAX_ID, UNIT_NAMES, fits, iso_time, listed, quoted, unit_of
from recbole_signed.live.event_fields import (
    ASIDE,
    ASKING,
    HIDE,
    LESS,
    MORE,
    OF_SOME,
    UNDO,
    InvalidRowError,
    asked_in,
    features_text,
    id_in,
    refuse_of_others,
)

ABSENT = 0
LIKE, DISLIKE, SKIP, VIEW, UNLIKE, UNDISLIKE, FORGET_USER, ITEM, USER = range(1, 10)
TYPES: dict[str, int] = {
    "like": LIKE,
    "dislike": DISLIKE,
    "skip": SKIP,
    "view": VIEW,
    "unlike": UNLIKE,
    "undislike": UNDISLIKE,
    "forget_user": FORGET_USER,
    "item": ITEM,
    "user": USER,
    "less": LESS,
    "more": MORE,
    "undo": UNDO,
    "hide": HIDE,
}
NO_ITEM = frozenset((FORGET_USER, USER, LESS, MORE, UNDO))
ANNOUNCED = {ITEM: "item", USER: "user"}  # what events of a type announce
NAMES = {code: name for name, code in TYPES.items()} | {ASIDE: "dislike"}
KNOWN_FIELDS = ("event_id", "user_id", "item_id", "type", "timestamp", "value", "features")
_FIELDS = tuple(dict.fromkeys((*KNOWN_FIELDS, *OF_SOME)))
_KNOWN = frozenset(_FIELDS)
_LONGEST_MISSPELT = 16  # characters of a name that can be a misspelt field
AnnouncedFeatures = Mapping[str, Mapping[Any, Any]]  # features by side, `item` or `user`, and by id or number
_SIGNS = np.array([0, 1, -1, 0, 0], dtype=np.int8)
_DOTS = frozenset((".", ".."))
_LATEST = 2**62  # leaves room for sums; beyond any clock


def sign_of(kind: np.ndarray) -> np.ndarray:
    """Sign of each kind of edge, int8: like +1, dislike -1, skip and view 0."""
    return _SIGNS[kind]


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        event_id: no other event has it; an event that comes again is a duplicate.
        user_id, item_id: ids as text; "" where the type names no user, or no item.
        type: ``like``, ``dislike``, ``skip``, ``view``, ``hide``, ``unlike``, ``undislike``, ``less``, ``more``,
            ``undo``, ``forget_user``, ``item`` or ``user``.
        timestamp: milliseconds since 1970, UTC.
        value: a number that is kept with the event and not learned from.
        features: of the item or user that an event of the type ``item`` or ``user`` announces; or what less, more, or
            neither any more, is asked for.
        about: of a dislike: the feature that it is about; None for the item.
        duration: seconds for which a dislike, ``hide``, ``less`` or ``more`` acts; None: until it is taken back.
        event: of an ``undo`` without features: the id of what is taken back.
    """

    event_id: str
    user_id: str
    item_id: str
    type: str
    timestamp: int
    value: float | None = None
    features: Mapping[str, Any] | None = None
    about: str | None = None
    duration: float | None = None
    event: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """A row that is not an event: why, where its source had it, and the row as it came."""

    reason: str
    position: str
    raw: Any


@dataclass(frozen=True)
class Limits:
    """What a row is held against; times in milliseconds, ``future_tolerance`` None switches that check off."""

    future_tolerance: int | None = 300_000
    now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    max_id_length: int = MAX_ID

    def latest(self) -> int:
        """Give the latest time stamp that is accepted now."""
        return _LATEST if self.future_tolerance is None else self.now() + self.future_tolerance


@dataclass(frozen=True)
class EventBatch:
    """Valid events in the order of their source, as columns of one length n.

    ``type`` int8 (codes of `TYPES`), ``timestamp`` int64, ``value`` float64 with NaN for none; ``features`` as JSON,
    empty for none, and of types that ask for something all that they ask for.
    """

    event_id: list[str]
    user_id: list[str]
    item_id: list[str]
    type: np.ndarray
    timestamp: np.ndarray
    value: np.ndarray
    features: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.features:
            object.__setattr__(self, "features", [""] * len(self.event_id))

    @classmethod
    def empty(cls) -> EventBatch:
        """Give a batch of no events."""
        return cls.of_rows([])

    @classmethod
    def from_events(cls, events: Iterable[Event], limits: Limits | None = None) -> EventBatch:
        """Make a batch of events that a program has at hand.

        Raises:
            UsageError: one of them is not valid, or no `Event`; none is taken.
        """
        if not isinstance(events, Iterable):
            raise UsageError(f"the events are given as {type(events).__name__}; give a list of Events.")
        rows = []
        for event in events:
            if not isinstance(event, Event):
                got = type(event).__name__
                raise UsageError(f"Event {len(rows)} of the batch is of the type {got}; give a list of Events.")
            rows.append(vars(event))
        batch, dead = parse_rows(rows, [str(i) for i in range(len(rows))], limits, only_known=True)
        if dead:
            end = "" if dead[0].reason.endswith("?") else "."
            raise UsageError(f"Event {dead[0].position} of the batch is not valid: {dead[0].reason}{end}")
        return batch

    @classmethod
    def of_rows(cls, rows: Sequence[tuple[str, str, str, int, int, float]]) -> EventBatch:
        """Make a batch of valid rows (event id, user, item, type code, time stamp, value)."""
        event, user, item, kind, stamp, value = zip(*rows, strict=True) if rows else [()] * 6
        return cls(
            list(event),
            list(user),
            list(item),
            np.array(kind, dtype=np.int8),
            np.array(stamp, dtype=np.int64),
            np.array(value, dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.event_id)

    def __getitem__(self, rows: slice) -> EventBatch:
        return EventBatch(*(column[rows] for column in vars(self).values()))

    def take(self, rows: np.ndarray) -> EventBatch:
        """Return some of the events."""
        event, user, item = ([ids[i] for i in rows.tolist()] for ids in (self.event_id, self.user_id, self.item_id))
        features = [self.features[i] for i in rows.tolist()]
        return EventBatch(event, user, item, self.type[rows], self.timestamp[rows], self.value[rows], features)

    @property
    def announces(self) -> np.ndarray:
        """Rows that announce an item or a user, int64."""
        return np.flatnonzero((self.type == ITEM) | (self.type == USER))

    def announced(self) -> dict[str, dict[str, str]]:
        """Give the last features of each announced item and user, as JSON by side and id, if not forgotten later."""
        features: dict[str, dict[str, str]] = {side: {} for side in ANNOUNCED.values()}
        for i in np.flatnonzero(np.isin(self.type, [*ANNOUNCED, FORGET_USER])).tolist():
            kind = int(self.type[i])
            if kind == FORGET_USER:
                features["user"].pop(self.user_id[i], None)
            else:
                features[ANNOUNCED[kind]][self.item_id[i] if kind == ITEM else self.user_id[i]] = self.features[i]
        return features

    def events(self) -> Iterator[Event]:
        """Give the events one by one."""
        columns = (self.type.tolist(), self.timestamp.tolist(), self.value.tolist(), self.features)
        for event, user, item, kind, stamp, value, features in zip(
            self.event_id, self.user_id, self.item_id, *columns, strict=True
        ):
            content = json.loads(features) if features else None
            more = content if content is not None and kind in ASKING else {"features": content}
            yield Event(event, user, item, NAMES[kind], stamp, None if math.isnan(value) else value, **more)


def parse_rows(
    rows: Iterable[Mapping[str, Any]],
    positions: Iterable[str],
    limits: Limits | None = None,
    *,
    instead: Iterable[Mapping[str, Any]] | None = None,
    times: Mapping[int, int] | None = None,
    only_known: bool = False,
) -> tuple[EventBatch, list[DeadLetter]]:
    """Turn rows of any origin into a batch, and those that are no events, or misspelt, into dead letters."""
    limits = limits or Limits()
    latest = limits.latest()
    good: list[tuple[str, str, str, int, int, float]] = []
    features: list[str] = []
    dead: list[DeadLetter] = []
    known = itertools.repeat(None) if instead is None else instead
    given = times or {}
    for place, ((row, position), more) in enumerate(zip(zip(rows, positions, strict=True), known, strict=False)):
        try:
            _refuse_fields(row, only_known=only_known)
            stamp = given.get(place)
            whole = {**more, **row} if more else row if stamp is None else {**row, "timestamp": stamp}
            parsed, text = _parse(whole, latest if stamp is None else _LATEST, limits.max_id_length)
            if only_known and parsed[3] not in ANNOUNCED:
                refuse_of_others(row, parsed[3])
            features.append(text)
            good.append(parsed)
        except InvalidRowError as error:
            dead.append(DeadLetter(str(error), position, row))
    batch = EventBatch.of_rows(good)
    return replace(batch, features=features), dead


def _refuse_fields(row: Any, *, only_known: bool) -> None:
    if not isinstance(row, Mapping):
        raise InvalidRowError("the row is not an object with the fields user_id, item_id, type and timestamp")
    for name in row if not row.keys() <= _KNOWN else ():
        if name in _KNOWN:
            continue
        meant = _field_meant(name) if isinstance(name, str) and len(name) <= _LONGEST_MISSPELT else None
        if only_known or (meant is not None and meant not in row):
            hint = f"; did you mean '{meant}'?" if meant else f"; the fields are {', '.join(_FIELDS)}"
            raise InvalidRowError(f"there is no field {quoted(name)}{hint}")


@lru_cache(4096)
def _field_meant(name: str) -> str | None:
    """Return the field of an event that a name is a misspelling of; None where it is none of one."""
    plain = re.sub("[^a-z0-9]", "", name.lower())  # eventId, event-id
    same = [known for known in KNOWN_FIELDS if plain == known.replace("_", "")]
    return next(iter(same or difflib.get_close_matches(name.lower(), KNOWN_FIELDS, n=1, cutoff=0.85)), None)


def _parse(row: Mapping[str, Any], latest: int, longest: int) -> tuple[tuple[str, str, str, int, int, float], str]:
    name = row.get("type")
    kind = TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        expected = f"; the types are {', '.join(TYPES)}{nearest(name, TYPES) if isinstance(name, str) else ''}"
        got = "type is missing" if name is None else f"{quoted(name)} is not a type of event"
        raise InvalidRowError(f"{got}{expected}")
    user = "" if kind == ITEM else id_in("user_id", row.get("user_id"), MAX_ID if kind == FORGET_USER else longest)
    item = "" if kind in NO_ITEM else id_in("item_id", row.get("item_id"), longest)
    if kind != FORGET_USER and (dots := _DOTS & {user, item}):
        raise InvalidRowError(f"'{min(dots)}' is not taken as an id: clients leave it out of the address of a route")
    stamp = _timestamp(row.get("timestamp"), latest)
    value = _value(row.get("value"))
    event = row.get("event_id")
    kind, text = (kind, features_text(row.get("features"))) if kind in ANNOUNCED else asked_in(row, kind, DISLIKE)
    if event is None or event == "":
        event = content_id(user + text, item, kind, stamp, value)
    return (id_in("event_id", event, longest), user, item, kind, stamp, value), text


def content_id(user: str, item: str, kind: int, timestamp: int, value: float) -> str:
    """Give the id of an event whose source has none: equal for equal content, so that reading twice adds nothing."""
    content = repr((user, item, kind, timestamp, value)).encode()
    return "content:" + hashlib.blake2b(content, digest_size=16).hexdigest()


def id_of(value: Any, field: str = "user_id") -> str:
    """Return an id as events have it: whole numbers as text, text in normal form C."""
    try:
        return id_in(field, value)
    except InvalidRowError as error:
        raise UsageError(f"{error}; an id is text that is not empty, or a whole number.") from error


def ids_of(given: Any, what: str) -> list[str]:
    """Return one id or several as events have them."""
    return [id_of(value, f"{what}_id") for value in listed(given, what)]


def refuse_other_units(times: np.ndarray) -> None:
    """Refuse times of edges ``[E]`` that are not milliseconds since 1970, by their size."""
    wrong = ~fits(times, "ms")
    if wrong.any():
        stamp = int(times[wrong][0])
        raise UsageError(
            f"The time stamp {stamp} of an edge looks like {UNIT_NAMES[unit_of(stamp)]}; edges have milliseconds."
        )


def time_of(row: Mapping[str, Any]) -> int | None:
    """Return the time stamp of a row, in milliseconds; None where it has none that is accepted."""
    try:
        return _timestamp(row.get("timestamp"), Limits().latest())
    except InvalidRowError:
        return None


def _timestamp(value: Any, latest: int) -> int:
    if isinstance(value, str):
        value = _read(value, int, float, _iso)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, Integral) or isinstance(value, bool):
        got = "is missing" if value is None else f"is {quoted(value)}"
        raise InvalidRowError(
            f"timestamp {got}; expected whole milliseconds since 1970, or ISO 8601 with a time zone, such as "
            "2026-04-09T22:10:48Z"
        )
    value = int(value)
    if value < 0:
        raise InvalidRowError(f"timestamp {value} lies before 1970")
    if not fits(value, "ms") and unit_of(value) == "s":
        raise InvalidRowError(f"timestamp {value} looks like seconds; events have milliseconds, so multiply it by 1000")
    if value > latest:
        raise InvalidRowError(f"timestamp {quoted(value)} is in the future, later than {latest} is not accepted")
    if not fits(value, "ms"):
        raise InvalidRowError(f"timestamp {value} looks like {UNIT_NAMES[unit_of(value)]}; events have milliseconds")
    return value


def _value(value: Any) -> float:
    if value is None or value == "":
        return math.nan
    number = _read(value, float) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, Real):
        raise InvalidRowError(f"value is {quoted(value)}, which is not a number")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise InvalidRowError("value is infinite")
    return number


def _iso(text: str) -> int:
    """Return a time of ISO 8601 as milliseconds; ValueError for one without a time zone."""
    parsed = iso_time(text)
    if parsed.tzinfo is None:
        raise ValueError(text)
    return round(parsed.timestamp() * 1000)


def _read(text: str, *ways: Callable[[str], float]) -> float | str:
    """Return what the first way makes of a text that can read it; the text where none can."""
    for way in ways:
        with contextlib.suppress(ValueError):
            return way(text)
    return text
