"""What became of each event of a batch, what a batch did to a state, and what a version is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from recbole_signed.live import Event, EventBatch
from recbole_signed.live.events import Limits, parse_rows
from recbole_signed.live.store.edge_views import Changes, LogBatch
from recbole_signed.live.store.edges import FrozenEdges

NEW, DUPLICATE, LATE = range(3)
LATE_REASON = "it is not later than the forgetting of its user"


@dataclass(frozen=True)
class EventResult:
    """What became of one event."""

    status: str  # `accepted`, `duplicate` or `refused`
    event_id: str | None  # the one it was given, or that was made of its content; None where it is not an event
    seq: int | None = None  # its place in the log, of an accepted one
    reason: str | None = None  # why it was refused


@dataclass(frozen=True)
class ParsedRows:
    """Rows of any origin: those that are events, where they stood, and why the others are none."""

    batch: EventBatch
    places: list[int]
    reasons: dict[int, str]

    @classmethod
    def from_rows(
        cls,
        rows: Iterable[Event | Mapping[str, Any]],
        limits: Limits | None = None,
        times: Mapping[int, int] | None = None,
    ) -> ParsedRows:
        """Parse rows; one that is not an event, or has a field that no event has, does not spoil the others."""
        listed = [vars(row) if isinstance(row, Event) else row for row in rows]
        batch, dead = parse_rows(listed, map(str, range(len(listed))), limits, times=times, only_known=True)
        reasons = {int(letter.position): letter.reason for letter in dead}
        return cls(batch, [place for place in range(len(listed)) if place not in reasons], reasons)

    def without(self, refused: Mapping[int, str]) -> ParsedRows:
        """Return them without some of the events, by their places in the batch, with the reasons."""
        if not refused:
            return self
        stay = [row for row in range(len(self.places)) if row not in refused]
        reasons = self.reasons | {self.places[row]: reason for row, reason in refused.items()}
        return ParsedRows(self.batch.take(np.array(stay, dtype=np.int64)), [self.places[row] for row in stay], reasons)

    def results(self, status: np.ndarray, first_seq: int) -> list[EventResult]:
        """Return a result for each row, from what became of the events."""
        n = len(self.places) + len(self.reasons)
        results = [EventResult("refused", None, reason=self.reasons.get(place)) for place in range(n)]
        seq = first_seq
        for place, event_id, code in zip(self.places, self.batch.event_id, status.tolist(), strict=True):
            if code == NEW:
                results[place] = EventResult("accepted", event_id, seq)
                seq += 1
            elif code == DUPLICATE:
                results[place] = EventResult("duplicate", event_id)
            else:
                results[place] = EventResult("refused", event_id, reason=LATE_REASON)
        return results


@dataclass(frozen=True)
class Update:
    """What a batch did."""

    n_new: int
    n_duplicate: int
    logged: LogBatch
    changes: Changes
    n_refused: int = 0  # late events of forgotten users, see `Graves`
    status: np.ndarray | None = None  # int8 of each event: NEW, DUPLICATE or LATE; None on replay


@dataclass(frozen=True)
class Appended:
    """A batch that is in the log and not in the edges yet."""

    logged: LogBatch
    status: np.ndarray  # see `Update.status`


@dataclass(frozen=True)
class Captured:
    """What a version says of itself, and its edges at that moment."""

    about: dict[str, Any]
    edges: FrozenEdges
