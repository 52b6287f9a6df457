"""What events say beyond user, item, type and time: features that are announced, and what is asked for.

* ``less`` and ``more`` name values by ``features``; ``undo`` takes back by values, or by the ``event`` with an id.
* ``dislike`` with ``about``, a feature, is ``less`` of the values of the item, and hides it; no model learns of it.
* ``hide``: the user has seen the item already; it is in none of its lists, and tells nothing of taste.
* each may have a ``duration`` in seconds, after which it is as if it had never been.
* the newest counts; a dislike of this kind, and a hide, ends with a later verdict or ``undislike`` of its item.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from recbole_signed.files import parse_json
from recbole_signed.ids_and_times import MAX_ID, id_text, quoted

LESS, MORE, UNDO, ASIDE, HIDE = range(10, 15)  # types that ask for something; ASIDE: a dislike `about`, or for a time
ASKING = {LESS: -1, MORE: 1, UNDO: 0, ASIDE: -1, HIDE: -1}  # what each of them asks for
OF_ITEMS = {ASIDE: "", HIDE: "hidden"}  # those that are about an item, and what stands for the value of a feature
OF_SOME = {
    "about": ((ASIDE,), "about is a field of the type dislike alone"),
    "duration": ((*OF_ITEMS, LESS, MORE), "duration is a field of the types dislike, hide, less and more alone"),
    "event": ((UNDO,), "event is a field of the type undo alone"),
    "features": ((LESS, MORE, UNDO), "features are announced by the types item and user alone"),
}
"""Fields that types have which announce nothing, and why others are refused; in a stream nobody reads theirs."""
MAX_FEATURES = 65_536  # characters of the features of one item or user, as JSON
MOST_VALUES = 100  # values that an event asks for


class InvalidRowError(ValueError):
    """Why a row is not an event."""


def plain(value: Any) -> str:
    """Return a value of a feature as a word of a list, with ``-`` in the place of blanks."""
    return "-".join(str(value).split())


def pairs_of(features: Mapping[str, Any], of_words: Collection[str] = ()) -> set[tuple[str, str]]:
    """Return column and value of all features; in the columns ``of_words`` each word of a text is a value."""
    pairs = set()
    for name, given in features.items():
        words = given.split() if isinstance(given, str) and name in of_words else [given]
        for value in given if isinstance(given, (list, tuple)) else words:
            if value is not None and plain(value):
                pairs.add((name, plain(value)))
    return pairs


def asked_in(row: Mapping[str, Any], kind: int, dislike: int) -> tuple[int, str]:
    """Return the type of a row, and as JSON what it asks for; InvalidRowError where that does not exist."""
    if kind != dislike and kind not in ASKING:
        return kind, ""
    asked: dict[str, Any] = {}
    if kind == UNDO and not is_nothing(event := row.get("event")):
        if not is_nothing(row.get("features")):
            raise InvalidRowError("an undo names features or an event, not both")
        asked["event"] = id_in("event", event, expected="; expected the event_id of what is taken back")
    elif kind in (LESS, MORE, UNDO):
        asked["features"] = _named(row.get("features"))
    elif kind == dislike and not is_nothing(about := row.get("about")) and about != "item":
        asked["about"] = id_in("about", about, expected="; expected 'item' or the name of a feature")
    if kind != UNDO and not is_nothing(row.get("duration")):
        asked["duration"] = _duration(row["duration"])
    if kind == dislike and not asked:
        return kind, ""
    return (ASIDE if kind == dislike else kind), json.dumps(asked, sort_keys=True)


def refuse_of_others(row: Mapping[str, Any], kind: int) -> None:
    """Refuse the fields that a type which announces nothing does not have."""
    for name, (kinds, reason) in OF_SOME.items():
        given = row.get(name)
        if kind not in kinds and not is_nothing(given) and (name, given) != ("about", "item"):
            raise InvalidRowError(reason)


def is_nothing(given: Any) -> bool:
    """Return whether a field is not given: also by the NaN of a table, and by an empty text of a CSV file."""
    if isinstance(given, float):
        return math.isnan(given)
    return given is None or (isinstance(given, (str, Mapping)) and not given)


def id_in(field: str, given: Any, longest: int = MAX_ID, expected: str = "") -> str:
    """Return the id in a field of a row; InvalidRowError, which ends with what was expected, where it is none."""
    try:
        return id_text(given, longest)
    except ValueError as error:
        raise InvalidRowError(f"{field} {error}{expected}") from None


def _duration(given: Any) -> float:
    try:
        seconds = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds < 1e12:
        raise InvalidRowError(f"duration is {quoted(given)}; expected a number of seconds above 0 and below 1e12")
    return seconds


def _named(given: Any) -> dict[str, list[str]]:
    """Return the values by column that an event asks for less or more of."""
    columns = json.loads(features_text(given))
    features = {name: value for name, value in columns.items() if value is not None}  # of a table: not given
    named: dict[str, list[str]] = {name: [] for name in features}
    for name, value in sorted(pairs_of(features)):
        named[name].append(value)
    if not all(named.values()) or not 0 < sum(map(len, named.values())) <= MOST_VALUES:
        raise InvalidRowError(
            f"features is {quoted(given)}; expected columns with values, {MOST_VALUES} at most, such as "
            '{"genre": "Horror"}'
        )
    return named


def features_text(given: Any) -> str:
    """Return the features of an item or a user as JSON, ``{}`` for none."""
    if isinstance(given, str):
        try:
            given = parse_json(given)
        except ValueError:
            raise InvalidRowError(f"features {quoted(given)} is not JSON") from None
    given = {} if given is None else given
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InvalidRowError(f"features is {quoted(given)}; expected columns with their values")
    for name, value in given.items():
        several = value if isinstance(value, (list, tuple)) else [value]
        if not all(part is None or isinstance(part, (str, int, float)) for part in several):
            raise InvalidRowError(f"the feature {quoted(name)} is {quoted(value)}; expected text, numbers, or a list")
    try:
        text = json.dumps(given, allow_nan=False, sort_keys=True)
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRowError("features holds a lone surrogate, which is not a character") from None
    except (ValueError, TypeError):
        raise InvalidRowError("features holds a number that is not finite") from None
    if len(text) > MAX_FEATURES:
        raise InvalidRowError(f"features has {len(text)} characters as JSON; at most {MAX_FEATURES} are taken")
    return text
