"""What a state directory keeps, for how long, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from recbole_signed.errors import UsageError, ending
from recbole_signed.ids_and_times import MAX_ID
from recbole_signed.live.events import Limits

DAY = 86_400


@dataclass(frozen=True)
class StateSettings:
    """Limits of a state directory; UsageError where one makes no sense."""

    grace: int = 7 * DAY
    """Seconds for which late events of a forgotten user are refused, see :mod:`~recbole_signed.live.store.seen`."""
    keep_seen: int = 10_000_000
    """Events whose ids are remembered to tell duplicates, about 60 bytes each; compaction drops those of older ones."""
    max_batch: int = 1_000_000  # events of one batch
    max_id_length: int = MAX_ID  # characters of an id that a program hands over; sources have limits of their own
    dead_letter_bytes: int = 16_000_000
    """Size of the file of rejected rows, the oldest of which then go; 0: none is kept."""
    newcomer_age: int = DAY  # seconds; see `recbole_signed.live.store.hidden_items`. 0: everybody is trusted at once
    newcomer_size: int = 3  # likes and dislikes; see `newcomer_age`
    clock: Callable[[], float] = time.time  # seconds since 1970

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "clock" and (not isinstance(value, int) or value < (field.name.startswith("max_"))):
                raise UsageError(f"'{field.name}' of a state is {value!r}, but must be a whole number of 0 or more.")

    @classmethod
    def from_config(cls, given: Mapping[str, Any] | None) -> StateSettings:
        """Make settings of a mapping, such as ``online_limits`` of a configuration."""
        known = [field.name for field in fields(cls) if field.name != "clock"]
        for key in given or {}:
            if key not in known:
                raise UsageError(f"'online_limits' has an unknown key '{key}'{ending(str(key), known)}")
        return cls(**(given or {}))

    @property
    def event_limits(self) -> Limits:
        """What the rows of a program are held against."""
        return Limits(max_id_length=self.max_id_length)

    def now(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self.clock() * 1000)
