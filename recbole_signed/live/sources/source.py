"""Where events come from: the interface of a source, and which stream an address means."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from recbole_signed.errors import UsageError
from recbole_signed.files import RepeatedKeyError
from recbole_signed.live import EventBatch
from recbole_signed.live.events import DeadLetter

STREAMS = {
    "redis": "recbole_signed.live.sources.redis_source:RedisSource",
    "rediss": "recbole_signed.live.sources.redis_source:RedisSource",
    "kafka": "recbole_signed.live.sources.kafka_source:KafkaSource",
}
"""The streams that an address can mean, by its scheme."""


@dataclass(frozen=True)
class Polled:
    """What a source gave: events, rows that were none, and its own ``position`` now; None if it can't be put back."""

    batch: EventBatch
    rejected: list[DeadLetter]
    position: str | None


class EventSource(Protocol):
    """A stream of events that gives an event at least once: again, where it was not told that it is durable.

    ``name`` is the key under which the log keeps the position; two sources of one state have two names. A source that
    holds nothing open, or has nobody to tell, inherits the methods that do nothing.
    """

    name: str

    def seek(self, position: str | None) -> None:
        """Go on after a position that `poll` gave; None is the start. Called once, before the first `poll`."""
        return

    def poll(self, max_events: int) -> Polled:
        """Give up to ``max_events`` rows; an empty batch where there is none now."""

    def commit(self, position: str | None) -> None:
        """Take note that all up to a position that `poll` gave is durable."""
        return

    def behind(self) -> int | None:
        """Return how many events of the stream were not given yet; None where that is not known."""
        return None

    def close(self) -> None:
        """Let go of files and connections."""
        return


def unreadable(what: str, raw: bytes, position: str, error: ValueError) -> DeadLetter:
    """Return what `parse_json` has refused as a dead letter; the text of the error, which may quote it, is left out."""
    why = "has a key twice" if isinstance(error, RepeatedKeyError) else "is no JSON in UTF-8"
    return DeadLetter(f"the {what} {why}", position, raw.decode(errors="backslashreplace").rstrip())


def open_source(address: str, **options: Any) -> EventSource:
    """Open the stream that an address means.

    ``redis://host:port/db?stream=S&group=G`` is a Redis stream, ``kafka://host:port/TOPIC?group=G`` a Kafka topic.

    Raises:
        UsageError: no such kind of stream, or no such stream.
    """
    scheme, means, _ = address.partition("://")
    if not means or scheme not in STREAMS:
        raise UsageError(
            f"'{address}' is no stream of events; give redis://... or kafka://..., and the rows of a file to "
            "OnlineRecommender.ingest."
        )
    module, _, name = STREAMS[scheme].partition(":")
    source: EventSource = getattr(import_module(module), name).of_address(address, **options)
    return source
