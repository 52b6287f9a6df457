"""Which stream of events an address means."""

from __future__ import annotations

from typing import Any

from recbole_signed.errors import UsageError
from recbole_signed.live.sources.kafka_source import KafkaSource
from recbole_signed.live.sources.redis_source import RedisSource
from recbole_signed.live.sources.source import EventSource

STREAMS: dict[str, type[RedisSource | KafkaSource]] = {
    "redis": RedisSource,
    "rediss": RedisSource,
    "kafka": KafkaSource,
}
"""The streams that an address can mean, by its scheme."""


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
    return STREAMS[scheme].of_address(address, **options)
